"""Hostile elements: each is in force from the start of its block to the end.

Guarantees: when the block is entered, the element has done its work at least once; it goes on until the block ends.
Not here: the process in which they run (tests.hostile.attackers), the polite clients (tests.hostile.office).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import count, cycle
from types import MappingProxyType
from typing import Final

from senderproxy.simulator.faults import (
    Delay,
    Fault,
    FaultAction,
    FaultStage,
    OctetByOctet,
    RawOctets,
    RepeatForever,
    Silence,
)
from senderproxy.simulator.server import Simulator
from senderproxy.wire.data_decoder import HEADER_LIMIT
from tests.hostile.faulty_calls import CallFault, FaultSwitches
from tests.hostile.smtp_connection import SmtpConnection
from tests.senderproxy.test_linear_time import UNITS

SECRET: Final = "geheim-hostile"
MALLORY: Final = "mallory@firma.example"  # an account of a hostile client at the good provider
EVIL: Final = "eve@evil.example"  # an account at the hostile provider
UNKNOWN_HOST: Final = "dora@dns.example"  # an account at a provider whose name is never resolved


@dataclass(frozen=True)
class Target:
    """The service as an attacker sees it."""

    ports: Mapping[str, int]  # of the listeners, by mode
    evil: Simulator  # the hostile provider
    faults: FaultSwitches
    metrics_port: int


Element = Callable[[Target], AbstractAsyncContextManager[None]]

_SOURCES: Final = tuple(f"127.0.0.{number}" for number in range(2, 12))  # of hostile clients
_BEGINS: Final = 120.0  # seconds until an element has done its work once
_AT_ONCE: Final = 20  # connections of each source of silent and slow clients


@asynccontextmanager
async def _in_force(*actions: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Repeat the actions at the same time until the end of the block. A connection that is refused is an answer too."""
    done = [asyncio.Event() for _ in actions]

    async def repeat(action: Callable[[], Awaitable[None]], once: asyncio.Event) -> None:
        while True:
            with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                await action()
            once.set()
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(repeat(action, once)) for action, once in zip(actions, done, strict=True)]
    try:
        async with asyncio.timeout(_BEGINS):
            for once in done:
                await once.wait()
        yield
    finally:
        failed = [task for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # the transports close in the next pass of the loop
        for task in failed:
            await task


# ---- messages ----


def _hostile_headers() -> Iterator[bytes]:
    """Header sections for which a pattern needs much time, and ones with thousands of fields."""
    author = f"From: {MALLORY}\r\n".encode()
    for unit in cycle(UNITS):
        # No bare CR or LF and no empty line: the header section ends at its limit and not before.
        clean = (
            unit.replace(b"\0", b" ").replace(b"\r\n ", b"\0").translate(None, b"\r\n").replace(b"\0", b"\r\n ")
            or b"\xe4"
        )
        for name in (b"To", b"Date", b"X-Note"):
            yield author + name + b": a" + clean * (60_000 // len(clean)) + b"\r\n"
        yield author + b"X-Note: \xe4" + clean * ((HEADER_LIMIT - 1000) // len(clean)) + b"\r\n"
        yield author + b"a: b\r\n" * 8000
        yield author + b"To: a@b.example\r\n" * 3000


@asynccontextmanager
async def hostile_messages(target: Target) -> AsyncIterator[None]:
    """Header sections with hostile contents."""
    headers = _hostile_headers()

    async def submit(mode: str) -> None:
        connection = await SmtpConnection.to(target.ports[mode], _SOURCES[0])
        try:
            await connection.reply()
            await connection.command(b"EHLO hostile\r\n")
            await connection.message(MALLORY, "bert@kunde.example", next(headers) + b"\r\nbody\r\n")
        finally:
            connection.close()

    async with _in_force(*(partial(submit, mode) for mode in target.ports)):
        yield


# ---- clients ----


@asynccontextmanager
async def silent_clients(target: Target) -> AsyncIterator[None]:
    """As many connections as the listeners allow, without a word."""

    async def connect(port: int, source: str) -> None:
        connections: list[SmtpConnection] = []
        try:
            for _ in range(_AT_ONCE):
                connections.append(await SmtpConnection.to(port, source))  # noqa: PERF401  closed if one fails
            await asyncio.sleep(2)
        finally:
            for connection in connections:
                connection.close()

    ports = target.ports.values()
    async with _in_force(*(partial(connect, port, source) for port in ports for source in _SOURCES)):
        yield


@asynccontextmanager
async def slow_clients(target: Target) -> AsyncIterator[None]:
    """One octet a second, in commands and in a message."""

    async def drip(port: int, source: str, before: bytes) -> None:
        connection = await SmtpConnection.to(port, source)
        try:
            await connection.send(before)
            for octet in b"EHLO x":
                await connection.send(bytes([octet]))
                await asyncio.sleep(1)
        finally:
            connection.close()

    in_data = b"EHLO x\r\nMAIL FROM:<%b>\r\nRCPT TO:<bert@kunde.example>\r\nDATA\r\nFrom: x\r\n\r\n" % MALLORY.encode()
    actions = [
        (port, source, before)
        for port in target.ports.values()
        for source in _SOURCES[:5]
        for before in (b"", b"E", b"EHLO x\r\nMAIL", in_data)
    ]
    async with _in_force(*(partial(drip, *action) for action in actions)):
        yield


@asynccontextmanager
async def greedy_clients(target: Target) -> AsyncIterator[None]:
    """Thousands of commands at once, whose replies are never read."""

    async def pipeline(port: int) -> None:
        connection = await SmtpConnection.to(port, _SOURCES[1])
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await connection.send(b"EHLO x\r\n" * 20_000)
            await asyncio.sleep(1)
        finally:
            connection.close()

    ports = [port for port in target.ports.values() for _ in range(3)]
    async with _in_force(*(partial(pipeline, port) for port in ports)):
        yield


@asynccontextmanager
async def flooding_clients(target: Target) -> AsyncIterator[None]:
    """Connections that are closed at once, endless RSET, and commands that are none."""

    async def connect(port: int) -> None:
        (await SmtpConnection.to(port, _SOURCES[2])).close()

    async def loop(port: int, command: bytes) -> None:
        connection = await SmtpConnection.to(port, _SOURCES[3])
        try:
            await connection.reply()
            for _ in range(50):
                if await connection.command(command) in (0, 421, 554):
                    return
        finally:
            connection.close()

    commands = (b"RSET\r\n", b"NONSENSE \xff\r\n", b"\x16\x03\x01\r\n", b"MAIL FROM:<\r\n")
    ports = target.ports.values()
    connecting = [partial(connect, port) for port in ports]
    looping = [partial(loop, port, command) for port in ports for command in commands]
    async with _in_force(*connecting, *looping):
        yield


@asynccontextmanager
async def metrics_clients(target: Target) -> AsyncIterator[None]:
    """Clients of the metrics that are silent, slow, or send other octets, beside scrapes without a pause."""

    async def send(request: bytes, seconds: float) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", target.metrics_port)
        try:
            writer.write(request)
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await reader.read()
        finally:
            writer.close()

    request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
    silent = [partial(send, b"", 5.0) for _ in range(_AT_ONCE)]
    partly = [partial(send, request[:-2], 5.0) for _ in range(_AT_ONCE)]
    wrong = [partial(send, octets * 1000, 5.0) for octets in (b"\0", b"\r\n", b"GET ", b"Host: x\r\n", b"\x16\x03\x01")]
    scrapes = [partial(send, request, 30.0) for _ in range(5)]
    async with _in_force(*silent, *partly, *wrong, *scrapes):
        yield


@asynccontextmanager
async def refused_senders(target: Target) -> AsyncIterator[None]:
    """Messages of authors without an account, each another one, with long addresses."""
    numbers = count()

    async def submit(port: int) -> None:
        connection = await SmtpConnection.to(port, _SOURCES[4])
        try:
            await connection.reply()
            await connection.command(b"EHLO hostile\r\n")
            for _ in range(20):
                author = f"n{next(numbers)}{'x' * 40}@{'y' * 50}.unknown.example"
                code = await connection.message(author, "bert@kunde.example", f"From: {author}\r\n\r\nx\r\n".encode())
                assert code != 250
                if await connection.command(b"RSET\r\n") != 250:
                    return
        finally:
            connection.close()

    async with _in_force(*(partial(submit, port) for port in target.ports.values() for _ in range(2))):
        yield


# ---- providers and name servers ----

_UPSTREAM_FAULTS: Final[tuple[tuple[FaultStage, FaultAction], ...]] = (
    (FaultStage.CONNECT, Silence()),
    (FaultStage.BANNER, RepeatForever(b"220-x\r\n")),
    (FaultStage.BANNER, RepeatForever(b"x" * 5000)),
    (FaultStage.EHLO, RepeatForever(b"250-AUTH\r\n")),
    (FaultStage.EHLO, RawOctets(b"\xff\0\r\n\n\r250" * 2000)),
    (FaultStage.AUTH, Delay(3)),
    (FaultStage.MAIL, RepeatForever(b"250 ok\r\n")),
    (FaultStage.RCPT, OctetByOctet(0.5)),
    (FaultStage.DATA, Silence()),
    (FaultStage.BODY, Silence()),
    (FaultStage.DOT, RepeatForever(b"250-" + b"x" * 1000 + b"\r\n")),
    (FaultStage.DOT, Silence()),
)


async def _submit_through(target: Target, author: str, mode: str) -> None:
    connection = await SmtpConnection.to(target.ports[mode], _SOURCES[5])
    try:
        await connection.reply()
        await connection.command(b"EHLO hostile\r\n")
        content = f"From: {author}\r\nDate: Tue, 24 Nov 2026 10:29:00 +0100\r\n\r\n".encode() + b"x\r\n"
        async with asyncio.timeout(2):
            await connection.message(author, "bert@kunde.example", content)
    finally:
        connection.close()


@asynccontextmanager
async def hostile_upstream(target: Target) -> AsyncIterator[None]:
    """A provider with another fault in each session, and clients that submit for it."""
    script = target.evil.script
    script.clear()
    first = target.evil.connections
    for session in range(1, 500):
        stage, action = _UPSTREAM_FAULTS[session % len(_UPSTREAM_FAULTS)]
        script.add(Fault(stage, action, session=first + session))
    modes = ["pass-through"] * 4 + ["queue"] * 4
    try:
        async with _in_force(*(partial(_submit_through, target, EVIL, mode) for mode in modes)):
            yield
    finally:
        script.clear()
        await target.evil.drop_sessions()


@asynccontextmanager
async def hanging_name_server(target: Target) -> AsyncIterator[None]:
    """Look-ups that do not return, and clients whose messages need them."""
    modes = ["pass-through"] * 8 + ["queue"] * 4
    with target.faults.in_force(CallFault.DNS):
        async with _in_force(*(partial(_submit_through, target, UNKNOWN_HOST, mode) for mode in modes)):
            yield


# ---- the disk ----


@asynccontextmanager
async def slow_disk(target: Target) -> AsyncIterator[None]:
    """Each write and sync of the spool takes 0.02 seconds."""
    with target.faults.in_force(CallFault.SLOW):
        yield


ELEMENTS: Final = MappingProxyType(
    {
        element.__name__: element
        for element in (
            # First those that need many replies to have done their work once, last those that take much CPU time.
            hostile_messages,
            refused_senders,
            hostile_upstream,
            hanging_name_server,
            silent_clients,
            slow_clients,
            slow_disk,
            greedy_clients,
            flooding_clients,
            metrics_clients,
        )
    }
)
