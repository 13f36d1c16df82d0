"""One SMTP connection of a client of a test, and the times of its replies."""

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from tests.peers.process import LOOPBACK

GENEROUS: Final = 30.0  # seconds; a reply that comes later is a hang and not a busy machine


@dataclass
class Times:
    """Seconds until each reply to polite clients, with the command that was replied to."""

    cpu: Callable[[], float] = lambda: 0.0  # seconds of CPU time that the service's event loop has used
    replies: list[tuple[float, str]] = field(default_factory=list)
    most_cpu: float = 0.0  # seconds of it until one reply: the service worked, for this client or for others

    def __str__(self) -> str:
        ordered = sorted(self.replies) or [(0.0, "")]
        (median, _), (latest, command) = ordered[len(ordered) // 2], ordered[-1]
        return (
            f"{len(ordered)} replies, median {median:.3f} s, latest {latest:.3f} s ({command}),"
            f" at most {self.most_cpu:.2f} s of CPU time"
        )

    def start(self) -> Callable[[str], None]:
        """Start to wait for a reply; the returned function records it with its command."""
        started, used = time.monotonic(), self.cpu()

        def replied(command: str) -> None:
            self.replies.append((time.monotonic() - started, command))
            self.most_cpu = max(self.most_cpu, self.cpu() - used)

        return replied

    def clear(self) -> None:
        """Begin again."""
        self.replies.clear()
        self.most_cpu = 0.0


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
        replied = self._times.start()
        await self.send(octets)
        code = await self.reply()
        replied("message" if len(octets) > 100 else octets[:4].decode("latin-1").strip())
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
