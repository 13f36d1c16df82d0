"""An office beside a hostile element: the service as a process, ten polite clients, and a simulated provider.

Guarantees: each polite message has a number of its own and is submitted once, so lost and doubled messages are counted
exactly. An account at a hostile provider and an account behind a name server that hangs are there for the hostile
elements.
Not here: the hostile elements (tests.hostile.elements) and their process (tests.hostile.attackers).
"""

import asyncio
import os
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from senderproxy.control.client import ask
from senderproxy.control.protocol import Verb, new_request
from senderproxy.simulator.rules import SimulatedMailbox
from senderproxy.simulator.server import Simulator
from senderproxy.simulator.settings import SimulatorSettings
from tests.hostile.attackers import attackers
from tests.hostile.elements import EVIL, MALLORY, SECRET, UNKNOWN_HOST
from tests.hostile.faulty_calls import HOST, FaultyCalls
from tests.hostile.smtp_connection import GENEROUS, SmtpConnection, Times
from tests.peers.probe import Figures, ProbedService
from tests.peers.process import LOOPBACK, reserved_ports
from tests.peers.senderproxy import VaultAccount

PEOPLE: Final = tuple(f"p{number}@firma.example" for number in range(10))
_ARRIVES: Final = 120.0  # seconds until the last message is with the provider
_ID: Final = re.compile(rb"<(\d+)\.polite@firma\.example>")
_ACCEPTED: Final = MappingProxyType({"pass-through": (250,), "queue": (250,)})


class HostileOffice:
    """The service, its polite clients and its providers."""

    def __init__(
        self,
        service: ProbedService,
        ports: Mapping[str, int],
        good: Simulator,
        faults: FaultyCalls,
        in_force: Callable[[str, Mapping[str, int]], AbstractAsyncContextManager[None]],
        metrics_port: int,
    ) -> None:
        self.service = service
        self.ports = ports  # by mode
        self.good = good
        self.faults = faults
        self.times = {mode: Times(self._loop_cpu) for mode in ports}
        self._in_force = in_force
        self._metrics_port = metrics_port
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
        replied = self.times[mode].start()
        connection = await SmtpConnection.to(self.ports[mode], times=self.times[mode])
        try:
            assert await connection.reply() == 220
            replied("connection")
            assert await connection.command(b"EHLO pc.firma.example\r\n") == 250
            for _ in range(messages):
                code = await self._submit(connection, person)
                assert code in expected, f"{mode}: {code}"
            assert await connection.command(b"QUIT\r\n") == 221
        finally:
            connection.close()

    async def submit_once(self, mode: str, lines: int = 1) -> int:
        """One message with so many lines over one connection; the code of the last reply, 0 without one."""
        try:
            connection = await SmtpConnection.to(self.ports[mode])
            try:
                for command in (b"", b"EHLO pc.firma.example\r\n"):
                    code = await connection.command(command)
                    if code not in (220, 250):
                        return code
                return await self._submit(connection, PEOPLE[0], lines)
            finally:
                connection.close()
        except OSError:
            return 0

    async def _submit(self, connection: SmtpConnection, person: str, lines: int = 1) -> int:
        self._count += 1
        number = self._count
        content = (
            f"From: {person}\r\nTo: bert@kunde.example\r\nDate: Tue, 24 Nov 2026 10:29:00 +0100\r\n"
            f"Message-ID: <{number}.polite@firma.example>\r\nSubject: Angebot {number}\r\n\r\n"
        ) + "Guten Tag\r\n" * lines
        code = await connection.message(person, "bert@kunde.example", content.encode())
        if code == 250:
            self._acknowledged.add(number)
        return code

    def hostile(self, element: str) -> AbstractAsyncContextManager[None]:
        """One of elements.ELEMENTS, until the end of the block."""
        return self._in_force(element, {**self.ports, "metrics": self._metrics_port})

    @asynccontextmanager
    async def key_change(self) -> AsyncIterator[None]:
        """The vault is sealed under a new key, once before the block and again and again until its end."""
        over = False

        async def rekey() -> None:
            await asyncio.to_thread(self.service.command, "vault", "rekey")

        async def repeat() -> None:
            while not over:
                await rekey()

        await rekey()
        task = asyncio.create_task(repeat())
        try:
            yield
        finally:
            over = True
            await task

    # ---- evidence ----

    async def status(self) -> dict[str, Any]:
        return await asyncio.to_thread(ask, self.service.folder / "control", new_request(Verb.STATUS))

    async def check(self, *, may_double: bool = False) -> None:
        """Every acknowledged message arrived at the provider once, and the service never hung.

        `may_double`: failures may have prevented the record of a delivery, whose message is then sent again.
        """
        async with asyncio.timeout(_ARRIVES):
            while missing := self._acknowledged - set(self._arrived()):
                await asyncio.sleep(0.05)
        assert not missing
        doubled = {number: count for number, count in self._arrived().items() if count > 1}
        assert may_double or not doubled
        long = [  # without memory, the start of a thread takes five seconds before it fails
            line
            for line in self.blocks()
            if (found := re.search(r"seconds=([\d.]+)", line)) and float(found[1]) > GENEROUS
        ]
        assert not long, long

    async def wait_empty(self) -> None:
        """Wait until no message is queued."""
        async with asyncio.timeout(_ARRIVES):
            while (await self.status())["queue"].get("waiting") != 0:
                await asyncio.sleep(0.02)

    async def wait_for_disk(self) -> None:
        """Wait until a write that hung for long has ended: until then the queue takes nothing."""
        async with asyncio.timeout(_ARRIVES):
            while (queue := (await self.status())["queue"])["problem"] or queue["refusing"]:
                await asyncio.sleep(0.02)

    def _arrived(self) -> Counter[int]:
        found = (_ID.search(message.content) for message in self.good.received)
        return Counter(int(match[1]) for match in found if match)

    async def measure(self) -> Figures:
        """The figures of the service while no client is connected."""
        async with asyncio.timeout(_ARRIVES):
            while any(listener["connected"] for listener in (await self.status())["listeners"]):
                await asyncio.sleep(0.05)
        return await asyncio.to_thread(self.service.measure)

    def _loop_cpu(self) -> float:
        """Seconds of CPU time of the service's event loop, whose thread is the process's first. proc(5)."""
        pid = self.service.pid
        fields = Path(f"/proc/{pid}/task/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self) -> int:
        """Resident memory of the service."""
        fields = Path(f"/proc/{self.service.pid}/statm").read_text().split()
        return int(fields[1]) * 4096

    def blocks(self) -> list[str]:
        """The log lines of passes of the event loop above 0.1 seconds."""
        return [line for line in self.service.log().splitlines() if "event loop blocked" in line]

    async def report(self) -> str:
        """The figures since the last report; the longest pass is the one since the start."""
        loop = (await self.status())["loop"]
        times = "; ".join(f"{mode}: {times}" for mode, times in self.times.items())
        for each in self.times.values():
            each.clear()
        return (
            f"{len(self._acknowledged)} messages, {times}; longest pass of the loop"
            f" {loop['longest_pass_seconds']:.3f} s, {loop['blocks']} passes above 0.1 s,"
            f" {self.resident_bytes() / 2**20:.1f} MiB resident"
        )


@asynccontextmanager
async def hostile_office(folder: Path) -> AsyncIterator[HostileOffice]:
    """Everything, gone afterwards."""
    good_settings = SimulatorSettings(
        mailboxes={person: SimulatedMailbox(SECRET) for person in (*PEOPLE, MALLORY)}, raise_violations=False
    )
    faults = FaultyCalls(folder)
    async with Simulator(good_settings) as good, attackers(faults.folder) as them:
        with reserved_ports(2) as [queue_port, metrics_port]:
            accounts = [
                *(VaultAccount(person, SECRET) for person in (*PEOPLE, MALLORY)),
                VaultAccount(EVIL, SECRET, provider="evil"),
                VaultAccount(UNKNOWN_HOST, SECRET, provider="unknown"),
            ]
            service = ProbedService(
                accounts,
                _provider(good.port_tls, str(good.ca_file)),
                service_settings="stop_seconds = 2",
                more_settings=_more(
                    queue_port, metrics_port, _provider(them.provider_port, them.provider_ca), folder / "spool"
                ),
            )
            spool = folder / "spool"
            spool.mkdir(mode=0o700)
            service.environment = faults.environment(spool)
            await asyncio.to_thread(service.__enter__)
            try:
                ports = {"pass-through": service.port, "queue": queue_port}
                yield HostileOffice(service, ports, good, faults, them.in_force, metrics_port)
            finally:
                await asyncio.to_thread(service.__exit__, None, None, None)


def _provider(port: int, ca_file: str) -> str:
    return f"""
host = "{LOOPBACK}"
port = {port}
security = "tls"
ca_file = "{ca_file}"
sender_rule = "address"
messages_per_hour = 0
recipients_per_hour = 0
"""


def _more(queue_port: int, metrics_port: int, evil: str, spool: Path) -> str:
    return f"""
[providers.evil]
{evil}

[providers.unknown]
host = "{HOST}"
port = 465
security = "tls"
sender_rule = "address"

[[listeners]]
name = "devices"
address = "{LOOPBACK}:{queue_port}"
mode = "queue"

[metrics]
listen = "{LOOPBACK}:{metrics_port}"

[spool]
directory = "{spool}"
first_retry_seconds = 1
longest_retry_seconds = 2
min_free = "1 MB"
"""
