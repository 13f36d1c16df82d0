"""SMTP client on a raw socket, with a check of the form of every reply."""

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Self

from senderproxy.clock import SystemClock
from senderproxy.config.model import ClientSettings, ListenerSettings
from senderproxy.listener.connections import ListenerTimeouts
from senderproxy.listener.login_throttle import LoginThrottle, ThrottleLimits
from senderproxy.listener.password_threads import PasswordThreads
from senderproxy.listener.server import Listener
from tests.fakes.open_ways import OpenWays
from tests.fakes.recording_intake import RecordingIntake

HOSTNAME = "relay.firma.example"
MESSAGE = b"From: anna@firma.example\r\nSubject: Hello\r\n\r\nHello Bert\r\n"
TIMEOUTS = ListenerTimeouts(idle=30, before_mail=30, block=30, linger=0.2)
NO_DELAY = ThrottleLimits(first_delay=0, longest_delay=0)

_LINE = re.compile(rb"([2-5][0-9]{2})([ -])([\x20-\x7e]*)\r\n")
_STATUS = re.compile(rb"[245]\.\d{1,3}\.\d{1,3} ")
# Texts of Python's exceptions and tracebacks.
_INTERNALS = re.compile(rb"Error:|Error\(|Exception|Traceback|object at 0x|\.py\b|NoneType")


class Answer:
    """One complete reply."""

    def __init__(self, lines: list[bytes]) -> None:
        self.lines = lines
        self.code = int(lines[0][:3])
        self.texts = [line[4:-2].decode("ascii") for line in lines]

    @property
    def status(self) -> str | None:
        found = re.match(r"[245]\.\d+\.\d+", self.texts[-1])
        return found[0] if found else None

    @property
    def text(self) -> str:
        return " ".join(self.texts)

    def __repr__(self) -> str:
        return f"Answer({self.code} {self.text})"


def lint(lines: list[bytes]) -> None:
    """Check a reply against RFC 5321 section 4.2 and RFC 2034."""
    codes = set()
    for index, line in enumerate(lines):
        assert len(line) <= 512, "a reply line is too long"
        found = _LINE.fullmatch(line)
        assert found, f"not a reply line: {line!r}"
        codes.add(found[1])
        assert (found[2] == b" ") == (index == len(lines) - 1), f"wrong separator after the code: {lines!r}"
        assert not _INTERNALS.search(line), f"internals in a reply: {line!r}"
    assert len(codes) == 1, f"the code changes: {lines!r}"
    code = codes.pop()
    texts = [line[4:] for line in lines]
    exempt = code in {b"334", b"354"} or texts[0].startswith(HOSTNAME.encode())
    for text in texts:
        status = _STATUS.match(text)
        assert exempt or status, f"no enhanced status: {lines!r}"
        assert not status or status[0][:1] == code[:1], f"another class: {lines!r}"


class SmtpClient:
    """One connection; every reply is checked with `lint`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def to(
        cls,
        listener: Listener,
        *,
        context: ssl.SSLContext | None = None,
        first: bytes = b"",
        host: str = "127.0.0.1",
    ) -> Self:
        """Connect from this host of the loopback network; `first` is sent before the listener can send its greeting."""
        sock = socket.create_connection(("127.0.0.1", listener.port), source_address=(host, 0))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if first:
            sock.sendall(first)
        reader, writer = await asyncio.open_connection(
            sock=sock, ssl=context, server_hostname=HOSTNAME if context else None, limit=1 << 22
        )
        return cls(reader, writer)

    @classmethod
    async def greeted(
        cls, listener: Listener, *, context: ssl.SSLContext | None = None, host: str = "127.0.0.1"
    ) -> Self:
        client = await cls.to(listener, context=context, host=host)
        assert (await client.answer()).code == 220
        assert (await client.ask(b"EHLO client.firma.example\r\n")).code == 250
        return client

    async def send(self, octets: bytes) -> None:
        self.writer.write(octets)
        await self.writer.drain()

    async def answer(self) -> Answer:
        lines: list[bytes] = []
        while True:
            line = await self.reader.readline()
            if not line:
                raise EOFError(f"the connection was closed after {lines!r}")
            lines.append(line)
            if line[3:4] != b"-":
                break
        lint(lines)
        return Answer(lines)

    async def answers(self, count: int) -> list[Answer]:
        return [await self.answer() for _ in range(count)]

    async def ask(self, command: bytes) -> Answer:
        await self.send(command)
        return await self.answer()

    async def mail(self, message: bytes = MESSAGE, *, author: bytes = b"anna@firma.example") -> Answer:
        """Send one message, command by command."""
        for command in (b"MAIL FROM:<" + author + b">\r\n", b"RCPT TO:<bert@kunde.example>\r\n"):
            answer = await self.ask(command)
            if answer.code != 250:
                return answer
        assert (await self.ask(b"DATA\r\n")).code == 354
        return await self.ask(message + b".\r\n")

    async def secure(self, context: ssl.SSLContext) -> None:
        """Send STARTTLS, do the handshake, send EHLO."""
        assert (await self.ask(b"STARTTLS\r\n")).code == 220
        await self.writer.start_tls(context, server_hostname=HOSTNAME)
        assert (await self.ask(b"EHLO client.firma.example\r\n")).code == 250

    async def rest(self) -> bytes:
        """All that follows until the end of the connection."""
        rest = b""
        with suppress(ConnectionError):
            while piece := await self.reader.read(1000):
                rest += piece
        return rest

    async def closed(self) -> bool:
        """Wait for the end of the connection; False where other input arrives first."""
        try:
            return await self.reader.read(1) == b""
        except ConnectionError:
            return True

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await self.writer.wait_closed()

    def reset(self) -> None:
        """Drop the connection as a crashed machine does."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.writer.transport.abort()


async def until(condition: Callable[[], bool]) -> None:
    """Poll until the condition holds; the test's own timeout limits the wait."""
    while not condition():
        await asyncio.sleep(0.005)


def settings(**changed: Any) -> ListenerSettings:
    return ListenerSettings(**({"address": "127.0.0.1:0"} | changed))


@asynccontextmanager
async def listening(
    intake: RecordingIntake,
    *clients: ClientSettings,
    timeouts: ListenerTimeouts = TIMEOUTS,
    throttle_limits: ThrottleLimits = NO_DELAY,
    passwords: PasswordThreads | None = None,
    grace: float = 0,
    **changed: Any,
) -> AsyncIterator[Listener]:
    """A listener on a free port, stopped at the end."""
    listener = Listener(
        settings(**changed),
        tuple(clients),
        HOSTNAME,
        intake,
        SystemClock(),
        timeouts=timeouts,
        throttle=LoginThrottle(throttle_limits),
        passwords=passwords,
        straight=OpenWays(),
    )
    await listener.start()
    try:
        yield listener
    finally:
        await listener.stop(grace)
