"""A client that says exactly what it is told, and shows exactly what it hears."""

import asyncio
import base64
import contextlib
from typing import Self

from senderproxy.simulator.server import Simulator


def plain(login: str, password: str) -> str:
    """The initial response of AUTH PLAIN."""
    return base64.b64encode(f"\0{login}\0{password}".encode()).decode()


class Talk:
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
                ssl_handshake_timeout=5,  # Python 3.11.2 does not see that a peer left in the handshake
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()  # a farewell over TLS waits half a minute for a peer that fell silent
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    def send(self, octets: bytes) -> None:
        self.writer.write(octets)

    async def hear(self) -> list[str]:
        """One reply, line by line; empty where the connection ended instead."""
        lines: list[str] = []
        while True:
            line = (await self.reader.readline()).decode()
            if not line.endswith("\r\n"):
                return []
            lines.append(line[:-2])
            if line[3:4] != "-":
                return lines

    async def say(self, command: str) -> list[str]:
        self.send(command.encode() + b"\r\n")
        return await self.hear()

    async def secure(self) -> None:
        await self.writer.start_tls(self._simulator.client_context(), server_hostname="localhost")

    async def log_in(self, login: str, password: str) -> list[str]:
        """Banner, EHLO, AUTH PLAIN; the last one's reply."""
        await self.hear()
        await self.say("EHLO office.example")
        return await self.say(f"AUTH PLAIN {plain(login, password)}")

    async def post(self, reverse_path: str, recipients: list[str], content: bytes) -> list[str]:
        """One message, step by step; the reply that ended it."""
        reply = await self.say(f"MAIL FROM:<{reverse_path}>")
        for recipient in recipients:
            if reply[0].startswith("2"):
                reply = await self.say(f"RCPT TO:<{recipient}>")
        if reply[0].startswith("2"):
            reply = await self.say("DATA")
        if reply[0].startswith("3"):
            self.send(content + b".\r\n")
            reply = await self.hear()
        return reply
