"""SMTP client that sends given octets and returns replies unchanged."""

import asyncio
import base64
import contextlib
from typing import Self

from senderproxy.simulator.server import Simulator


def plain(login: str, password: str) -> str:
    """The initial response of AUTH PLAIN."""
    return base64.b64encode(f"\0{login}\0{password}".encode()).decode()


class RawClient:
    """One connection."""

    def __init__(self, simulator: Simulator, *, starttls_port: bool = False) -> None:
        self._simulator = simulator
        self._starttls_port = starttls_port

    async def __aenter__(self) -> Self:
        if self._starttls_port:
            self.reader, self.writer = await asyncio.open_connection(
                self._simulator.host, self._simulator.port_starttls
            )
        else:
            self.reader, self.writer = await asyncio.open_connection(
                self._simulator.host,
                self._simulator.port_tls,
                ssl=self._simulator.client_context(),
                server_hostname="localhost",
                ssl_handshake_timeout=5,  # Python 3.11.2 does not notice a peer that closes during the handshake
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()  # closing TLS waits half a minute for a silent peer
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    def send(self, octets: bytes) -> None:
        self.writer.write(octets)

    async def read_reply(self) -> list[str]:
        """Return the lines of one reply, none if the connection ended."""
        lines: list[str] = []
        while True:
            line = (await self.reader.readline()).decode()
            if not line.endswith("\r\n"):
                return []
            lines.append(line[:-2])
            if line[3:4] != "-":
                return lines

    async def command(self, command: str) -> list[str]:
        self.send(command.encode() + b"\r\n")
        return await self.read_reply()

    async def start_tls(self) -> None:
        await self.writer.start_tls(self._simulator.client_context(), server_hostname="localhost")

    async def log_in(self, login: str, password: str) -> list[str]:
        """Send EHLO and AUTH PLAIN after the banner. Returns the reply to AUTH."""
        await self.read_reply()
        await self.command("EHLO office.example")
        return await self.command(f"AUTH PLAIN {plain(login, password)}")

    async def send_message(self, reverse_path: str, recipients: list[str], content: bytes) -> list[str]:
        """Send one message command by command. Returns the last reply."""
        reply = await self.command(f"MAIL FROM:<{reverse_path}>")
        for recipient in recipients:
            if reply[0].startswith("2"):
                reply = await self.command(f"RCPT TO:<{recipient}>")
        if reply[0].startswith("2"):
            reply = await self.command("DATA")
        if reply[0].startswith("3"):
            self.send(content + b".\r\n")
            reply = await self.read_reply()
        return reply
