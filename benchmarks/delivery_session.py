"""Cost of a message to the upstream: aiosmtplib's sendmail against our session, fresh and warm.

    python benchmarks/delivery_session.py [--messages 600] [--rounds 5] [--large 25]

A sink in its own process (TLS, AUTH, minimal work) accepts the messages. All variants are measured in turn in every
round, so that a busy moment of the machine affects all of them. The result is the median of the rounds and the ratio to
sendmail of the same kind. CPU is that of this process, without the sink.
"""

import argparse
import asyncio
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiosmtplib
import trustme

from senderproxy.clock import SystemClock
from senderproxy.delivery.opening import SessionOpener
from senderproxy.delivery.resolver import Resolver
from senderproxy.delivery.session import Completed, Session, SessionTimeouts
from senderproxy.delivery.tls_contexts import TlsContexts
from senderproxy.mail.address import parse_address
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.message import Message
from senderproxy.routing.account import Credential
from senderproxy.routing.provider import Security, Smarthost

ANNA, SECRET = "anna@firma.example", "geheim-bench"
CARL = "carl@elsewhere.example"
HEADER = b"From: anna@firma.example\r\nTo: carl@elsewhere.example\r\nSubject: bench\r\n\r\n"
LINE = b"x" * 76 + b"\r\n"
BLOCK = LINE * 840  # 64 KiB


GO_ON = b"354 go on\r\n"


class Sink(asyncio.Protocol):
    """A server that accepts everything."""

    pipelining = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.rest = b""
        self.in_data = False
        transport.write(b"220 sink ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        if self.in_data:
            data = self.take(data)
        self.rest += data
        answers = []
        while (end := self.rest.find(b"\r\n")) >= 0:
            verb, self.rest = self.rest[:4].upper(), self.rest[end + 2 :]
            answers.append(self.answer(verb))
            if answers[-1] == GO_ON:
                self.rest = self.take(self.rest)
        if answers:
            self.transport.write(b"".join(answers))

    def answer(self, verb: bytes) -> bytes:
        if verb == b"EHLO":
            more = b"250-PIPELINING\r\n" if self.pipelining else b""
            return b"250-sink\r\n" + more + b"250-8BITMIME\r\n250-SIZE 200000000\r\n250 AUTH PLAIN\r\n"
        if verb == b"AUTH":
            return b"235 ok\r\n"
        if verb == b"DATA":
            self.in_data, self.tail = True, b"\r\n"
            return GO_ON
        return b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n"

    def take(self, data: bytes) -> bytes:
        """Return the input after the final dot, or nothing before it."""
        seen = self.tail + data
        end = seen.find(b"\r\n.\r\n")
        self.tail = seen[-4:]
        if end < 0:
            return b""
        self.in_data = False
        self.transport.write(b"250 taken\r\n")
        return seen[end + 5 :]


async def serve(certificate: str) -> None:
    """Serve both kinds of sink; their ports go to standard output."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    loop = asyncio.get_running_loop()
    ports = []
    for pipelining in (False, True):
        kind = type("Sink", (Sink,), {"pipelining": pipelining})
        server = await loop.create_server(kind, "127.0.0.1", 0, ssl=context)
        ports.append(str(server.sockets[0].getsockname()[1]))
    print(" ".join(ports), flush=True)
    await asyncio.Event().wait()


@dataclass(frozen=True)
class Body:
    blocks_: tuple[bytes, ...]

    @property
    def size(self) -> int:
        return sum(map(len, self.blocks_))

    @property
    def is_ascii(self) -> bool:
        return True

    @property
    def has_long_lines(self) -> bool:
        return False

    @property
    def disk(self) -> None:
        return None

    def blocks(self) -> Iterator[bytes]:
        return iter(self.blocks_)

    def retain(self) -> None:
        pass

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class Bench:
    ports: tuple[int, int]
    ca_file: str

    async def smtp(self) -> aiosmtplib.SMTP:
        return aiosmtplib.SMTP(
            hostname="127.0.0.1", port=self.ports[0], use_tls=True, tls_context=await _CONTEXTS.context(self.ca_file),
            local_hostname="bench.example", username=ANNA, password=SECRET,
        )  # fmt: skip

    async def session(self, *, pipelining: bool) -> Session:
        session = await SessionOpener(SessionTimeouts(), "bench.example", _RESOLVER, _CONTEXTS).open(
            Smarthost("127.0.0.1", self.ports[pipelining], Security.IMPLICIT_TLS, self.ca_file), ("PLAIN",),
            Credential(ANNA, SECRET, "v1"),
        )  # fmt: skip
        assert isinstance(session, Session), session
        return session


@dataclass(frozen=True)
class PreparedMessage:
    """The same message in the form of each variant."""

    message: Message
    octets: bytes


_CONTEXTS, _RESOLVER = TlsContexts(), Resolver(SystemClock())
ENVELOPE = Envelope(parse_address(ANNA), (parse_address(CARL),))
Way = Callable[[Bench, PreparedMessage, int], Awaitable[None]]


async def sendmail_fresh(bench: Bench, prepared: PreparedMessage, count: int) -> None:
    for _ in range(count):
        async with await bench.smtp() as smtp:
            await smtp.sendmail(ANNA, [CARL], prepared.octets)


async def sendmail_warm(bench: Bench, prepared: PreparedMessage, count: int) -> None:
    async with await bench.smtp() as smtp:
        for _ in range(count):
            await smtp.sendmail(ANNA, [CARL], prepared.octets)


async def session_fresh(bench: Bench, prepared: PreparedMessage, count: int) -> None:
    for _ in range(count):
        session = await bench.session(pipelining=False)
        assert isinstance(await session.transact(ENVELOPE, prepared.message, warm=False), Completed)
        await session.quit()


async def _warm(bench: Bench, prepared: PreparedMessage, count: int, *, pipelining: bool) -> None:
    session = await bench.session(pipelining=pipelining)
    for _ in range(count):
        assert isinstance(await session.transact(ENVELOPE, prepared.message, warm=False), Completed)
    await session.quit()


async def session_warm(bench: Bench, prepared: PreparedMessage, count: int) -> None:
    await _warm(bench, prepared, count, pipelining=False)


async def session_pipelined(bench: Bench, prepared: PreparedMessage, count: int) -> None:
    await _warm(bench, prepared, count, pipelining=True)


async def measure(way: Way, bench: Bench, message: Message, count: int) -> tuple[float, float]:
    """Wall and CPU seconds for each message."""
    prepared = PreparedMessage(message, b"".join(message.blocks()))
    wall, cpu = time.perf_counter(), time.process_time()
    await way(bench, prepared, count)
    return (time.perf_counter() - wall) / count, (time.process_time() - cpu) / count


async def compare(
    title: str, ways: dict[str, tuple[Way, str]], bench: Bench, message: Message, count: int, rounds: int
) -> None:
    """Measure each variant in turn, round after round; print the medians and their ratio to sendmail's."""
    for way, _ in ways.values():
        await measure(way, bench, message, max(1, count // 10))  # warm-up, not counted
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (way, _) in ways.items():
            taken[name].append(await measure(way, bench, message, count))
    wall = {name: statistics.median(each[0] for each in runs) for name, runs in taken.items()}
    cpu = {name: statistics.median(each[1] for each in runs) for name, runs in taken.items()}
    megabytes = message.size / 1_000_000
    print(f"\n{title}: {count} messages of {megabytes:.3g} MB, median of {rounds} rounds")
    print(f"{'':34} {'ms':>9} {'CPU ms':>9} {'MB/s':>8}   ratio (wall, CPU)")
    for name, (_, base) in ways.items():
        print(
            f"{name:34} {wall[name] * 1000:9.3f} {cpu[name] * 1000:9.3f} {megabytes / wall[name]:8.1f}"
            f"   {wall[base] / wall[name]:.1f}x, {cpu[base] / cpu[name]:.1f}x as cheap as {base}"
        )


async def run(bench: Bench, messages: int, rounds: int, large: int) -> None:
    small = Message(HeaderSection(HEADER), Body((LINE * 52,)))
    fresh: dict[str, tuple[Way, str]] = {"sendmail, fresh session": (sendmail_fresh, "sendmail, fresh session")}
    fresh["our session, fresh"] = (session_fresh, "sendmail, fresh session")
    warm: dict[str, tuple[Way, str]] = {"sendmail, warm session": (sendmail_warm, "sendmail, warm session")}
    warm["our session, warm, lock-step"] = (session_warm, "sendmail, warm session")
    warm["our session, warm, pipelined"] = (session_pipelined, "sendmail, warm session")
    await compare("A session for each message", fresh, bench, small, max(1, messages // 10), rounds)
    await compare("One session for all", warm, bench, small, messages, rounds)
    if large:
        body = Body((BLOCK,) * (large * 1_000_000 // len(BLOCK)))
        del warm["our session, warm, pipelined"]
        await compare("Large", warm, bench, Message(HeaderSection(HEADER), body), 2, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--large", type=int, default=25, help="size of a large message in MB; 0: none")
    parser.add_argument("--sink", metavar="CERTIFICATE", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.sink:
        asyncio.run(serve(arguments.sink))
        return
    with tempfile.TemporaryDirectory() as directory:
        authority = trustme.CA()
        ca_file, certificate = Path(directory, "ca.pem"), Path(directory, "sink.pem")
        authority.cert_pem.write_to_path(ca_file)
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
        with subprocess.Popen(
            [sys.executable, __file__, "--sink", certificate], stdout=subprocess.PIPE, text=True
        ) as sink:
            assert sink.stdout is not None
            try:
                lock_step, pipelined = map(int, sink.stdout.readline().split())
                bench = Bench((lock_step, pipelined), str(ca_file))
                asyncio.run(run(bench, arguments.messages, arguments.rounds, arguments.large))
            finally:
                sink.terminate()


if __name__ == "__main__":
    main()
