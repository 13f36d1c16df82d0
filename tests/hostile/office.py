"""An office beside a hostile element: the service as a process, ten polite clients, and a simulated provider.

Guarantees: each polite message has a number of its own and is submitted once, so lost and doubled messages are counted
exactly. A second simulated provider, an account at it and an account behind a name server that hangs are there for the
hostile elements.
"""

import asyncio
import re
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from senderproxy.control.client import ask
from senderproxy.control.protocol import Verb, new_request
from senderproxy.simulator.rules import SimulatedMailbox
from senderproxy.simulator.server import Simulator
from senderproxy.simulator.settings import SimulatorSettings
from tests.hostile.faulty_calls import HOST, FaultyCalls
from tests.peers.process import LOOPBACK, reserved_ports
from tests.peers.senderproxy import Senderproxy, VaultAccount

SECRET: Final = "geheim-hostile"
PEOPLE: Final = tuple(f"p{number}@firma.example" for number in range(10))
MALLORY: Final = "mallory@firma.example"  # an account of a hostile client at the good provider
EVIL: Final = "eve@evil.example"  # an account at the hostile provider
UNKNOWN_HOST: Final = "dora@dns.example"  # an account at a provider whose name is never resolved
GENEROUS: Final = 30.0  # seconds; a reply that comes later is a hang and not a busy machine
_ARRIVES: Final = 120.0  # seconds until the last message is with the provider
_ID: Final = re.compile(rb"<(\d+)\.polite@firma\.example>")
_ACCEPTED: Final = MappingProxyType({"pass-through": (250,), "queue": (250,)})


@dataclass
class Times:
    """Seconds until each reply to the polite clients."""

    seconds: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        ordered = sorted(self.seconds) or [0.0]
        return f"{len(ordered)} replies, median {ordered[len(ordered) // 2]:.3f} s, latest {ordered[-1]:.3f} s"


class SmtpConnection:
    """One connection of a client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, times: Times | None = None) -> None:
        self._reader = reader
        self._writer = writer
        self._times = times or Times()

    @classmethod
    async def to(cls, port: int, source: str = LOOPBACK, times: Times | None = None) -> "SmtpConnection":
        """Connect from an address of this machine; nothing is read."""
        reader, writer = await asyncio.open_connection(LOOPBACK, port, local_addr=(source, 0))
        return cls(reader, writer, times)

    async def reply(self) -> int:
        """The code of the next reply; 0 if the connection ends."""
        async with asyncio.timeout(GENEROUS):
            while line := await self._reader.readline():
                if line[3:4] != b"-":
                    return int(line[:3])
        return 0

    async def send(self, octets: bytes) -> None:
        self._writer.write(octets)
        await self._writer.drain()

    async def command(self, octets: bytes) -> int:
        """Send a command or a message, and return the code of the reply."""
        started = time.monotonic()
        await self.send(octets)
        code = await self.reply()
        self._times.seconds.append(time.monotonic() - started)
        return code

    async def start_tls(self, trust: ssl.SSLContext) -> None:
        """The TLS handshake, after a positive reply to STARTTLS."""
        await self._writer.start_tls(trust, server_hostname=LOOPBACK)

    async def message(self, reverse_path: str, recipient: str, content: bytes) -> int:
        """Submit a message. The content is complete and dot-stuffed; the code of the last reply is returned."""
        for command in (f"MAIL FROM:<{reverse_path}>", f"RCPT TO:<{recipient}>", "DATA"):
            code = await self.command(command.encode() + b"\r\n")
            if not 200 <= code < 400:
                return code
        return await self.command(content + b".\r\n")

    def close(self) -> None:
        """Close at once: what was not sent yet is discarded."""
        self._writer.transport.abort()


class HostileOffice:
    """The service, its polite clients and its providers."""

    def __init__(
        self, service: Senderproxy, ports: Mapping[str, int], good: Simulator, evil: Simulator, faults: FaultyCalls
    ) -> None:
        self.service = service
        self.ports = ports  # by mode
        self.good = good
        self.evil = evil
        self.faults = faults
        self.times = Times()
        self._acknowledged: set[int] = set()
        self._count = 0

    async def submit_politely(self, messages: int = 2, *, expected: Mapping[str, tuple[int, ...]] = _ACCEPTED) -> None:
        """Ten clients, half of them in each mode of `expected`, submit so many messages each over one connection.

        Raises AssertionError if a reply is another one than expected.
        """
        modes = list(expected)
        async with asyncio.TaskGroup() as group:
            for number, person in enumerate(PEOPLE):
                mode = modes[number % len(modes)]
                group.create_task(self._client(person, mode, messages, expected[mode]))

    async def _client(self, person: str, mode: str, messages: int, expected: tuple[int, ...]) -> None:
        started = time.monotonic()
        connection = await SmtpConnection.to(self.ports[mode], times=self.times)
        try:
            assert await connection.reply() == 220
            self.times.seconds.append(time.monotonic() - started)
            assert await connection.command(b"EHLO pc.firma.example\r\n") == 250
            for _ in range(messages):
                code = await self._submit(connection, person)
                assert code in expected, f"{mode}: {code}"
            assert await connection.command(b"QUIT\r\n") == 221
        finally:
            connection.close()

    async def submit_once(self, mode: str) -> int:
        """One message over one connection; the code of the last reply, 0 without one."""
        try:
            connection = await SmtpConnection.to(self.ports[mode])
            try:
                for command in (b"", b"EHLO pc.firma.example\r\n"):
                    code = await connection.command(command)
                    if code not in (220, 250):
                        return code
                return await self._submit(connection, PEOPLE[0])
            finally:
                connection.close()
        except OSError:
            return 0

    async def _submit(self, connection: SmtpConnection, person: str) -> int:
        self._count += 1
        number = self._count
        content = (
            f"From: {person}\r\nTo: bert@kunde.example\r\nDate: Tue, 24 Nov 2026 10:29:00 +0100\r\n"
            f"Message-ID: <{number}.polite@firma.example>\r\nSubject: Angebot {number}\r\n\r\nGuten Tag\r\n"
        )
        code = await connection.message(person, "bert@kunde.example", content.encode())
        if code == 250:
            self._acknowledged.add(number)
        return code

    # ---- evidence ----

    async def status(self) -> dict[str, Any]:
        return await asyncio.to_thread(ask, self.service.folder / "control", new_request(Verb.STATUS))

    async def check(self) -> None:
        """Every acknowledged message arrived at the provider once, and the service never stopped for long."""
        async with asyncio.timeout(_ARRIVES):
            while missing := self._acknowledged - set(self._arrived()):
                await asyncio.sleep(0.05)
        assert not missing
        doubled = {number: count for number, count in self._arrived().items() if count > 1}
        assert not doubled
        long = [
            line for line in self.blocks() if (found := re.search(r"seconds=([\d.]+)", line)) and float(found[1]) > 5
        ]
        assert not long, long

    async def wait_empty(self) -> None:
        """Wait until no message is queued."""
        async with asyncio.timeout(_ARRIVES):
            while (await self.status())["queue"].get("waiting") != 0:
                await asyncio.sleep(0.02)

    def _arrived(self) -> Counter[int]:
        found = (_ID.search(message.content) for message in self.good.received)
        return Counter(int(match[1]) for match in found if match)

    def resident_bytes(self) -> int:
        """Resident memory of the service."""
        fields = Path(f"/proc/{self.service.pid}/statm").read_text().split()
        return int(fields[1]) * 4096

    def blocks(self) -> list[str]:
        """The log lines of passes of the event loop above 0.1 seconds."""
        return [line for line in self.service.log().splitlines() if "event loop blocked" in line]

    async def report(self) -> str:
        """The figures of this office so far."""
        loop = (await self.status())["loop"]
        return (
            f"{len(self._acknowledged)} messages, {self.times}, longest pass of the loop"
            f" {loop['longest_pass_seconds']:.3f} s, {loop['blocks']} passes above 0.1 s,"
            f" {self.resident_bytes() / 2**20:.1f} MiB resident"
        )


@asynccontextmanager
async def hostile_office(folder: Path) -> AsyncIterator[HostileOffice]:
    """Everything, gone afterwards."""
    good_settings = SimulatorSettings(
        mailboxes={person: SimulatedMailbox(SECRET) for person in (*PEOPLE, MALLORY)}, raise_violations=False
    )
    evil_settings = SimulatorSettings(mailboxes={EVIL: SimulatedMailbox(SECRET)}, raise_violations=False)
    faults = FaultyCalls(folder)
    async with Simulator(good_settings) as good, Simulator(evil_settings) as evil:
        with reserved_ports(1) as [queue_port]:
            accounts = [
                *(VaultAccount(person, SECRET) for person in (*PEOPLE, MALLORY)),
                VaultAccount(EVIL, SECRET, provider="evil"),
                VaultAccount(UNKNOWN_HOST, SECRET, provider="unknown"),
            ]
            service = Senderproxy(
                accounts,
                _provider(good),
                service_settings="stop_seconds = 2",
                more_settings=_more(queue_port, evil, folder / "spool"),
            )
            spool = folder / "spool"
            spool.mkdir(mode=0o700)
            service.environment = faults.environment(spool)
            await asyncio.to_thread(service.__enter__)
            try:
                ports = {"pass-through": service.port, "queue": queue_port}
                yield HostileOffice(service, ports, good, evil, faults)
            finally:
                await asyncio.to_thread(service.__exit__, None, None, None)


def _provider(simulator: Simulator) -> str:
    return f"""
host = "{LOOPBACK}"
port = {simulator.port_tls}
security = "tls"
ca_file = "{simulator.ca_file}"
sender_rule = "address"
messages_per_hour = 0
recipients_per_hour = 0
"""


def _more(queue_port: int, evil: Simulator, spool: Path) -> str:
    return f"""
[providers.evil]
{_provider(evil)}

[providers.unknown]
host = "{HOST}"
port = 465
security = "tls"
sender_rule = "address"

[[listeners]]
name = "devices"
address = "{LOOPBACK}:{queue_port}"
mode = "queue"

[spool]
directory = "{spool}"
first_retry_seconds = 1
longest_retry_seconds = 2
min_free = "1 MB"
"""
