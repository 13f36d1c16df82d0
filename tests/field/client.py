"""SMTP client of the cases: sends exactly the octets of a case, and reads replies as a device would see them.

Guarantees: no reply is waited for longer than its time. Content is dot-stuffed at CRLF only, as RFC 5321 4.5.2 has it.
Not here: retries, TLS verification.
"""

import asyncio
import re
import smtplib
import ssl
import warnings
from collections.abc import Sequence
from typing import Final

from tests.peers.mail_client import MailClient

LOOPBACK: Final = "127.0.0.1"
_REPLY_SECONDS: Final = 90.0
_COMPLETE: Final = re.compile(rb"(?:^|\n)\d\d\d(?: [^\n]*)?\r\n\Z")


class Connection:
    """One connection to the listener."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def to(cls, port: int) -> "Connection":
        return cls(*await asyncio.open_connection(LOOPBACK, port))

    def send(self, octets: bytes) -> None:
        self._writer.write(octets)

    async def reply(self, seconds: float = _REPLY_SECONDS) -> str:
        """The next reply, whole; with `<EOF>` or `<silence>` at its end if no more came in that time."""
        got = b""
        try:
            async with asyncio.timeout(seconds):
                while not _COMPLETE.search(got):
                    octets = await self._reader.read(65536)
                    if not octets:
                        return got.decode("utf-8", "replace") + "<EOF>"
                    got += octets
        except TimeoutError:
            return got.decode("utf-8", "replace") + "<silence>"
        except OSError:
            return got.decode("utf-8", "replace") + "<EOF>"
        return got.decode("utf-8", "replace")

    async def command(self, line: str) -> str:
        self.send(line.encode("utf-8") + b"\r\n")
        return await self.reply()

    async def close(self) -> None:
        self._writer.transport.abort()


async def submit(port: int, reverse_path: str, recipients: Sequence[str], content: bytes) -> str:
    """Submit one message. Returns the reply that decided: to the content, or the first refusal of everything."""
    connection = await Connection.to(port)
    try:
        await connection.reply()
        await connection.command("EHLO mail.firma.example")
        reply = await connection.command(f"MAIL FROM:<{reverse_path}>")
        if not reply.startswith("250"):
            return reply
        replies = [await connection.command(f"RCPT TO:<{recipient}>") for recipient in recipients]
        if not any(reply.startswith("250") for reply in replies):
            return replies[-1]
        reply = await connection.command("DATA")
        if reply.startswith("354"):
            connection.send(stuffed(content) + b".\r\n")
            reply = await connection.reply()
        return reply
    finally:
        await connection.close()


def stuffed(content: bytes) -> bytes:
    """The content with a dot before each line that begins with one, and CRLF at its end."""
    if content.startswith(b"."):
        content = b"." + content
    content = content.replace(b"\r\n.", b"\r\n..")
    return content if content.endswith(b"\r\n") else content + b"\r\n"


async def converse(port: int, pieces: Sequence[str], seconds: float) -> list[str]:
    """Send the pieces one after the other, each after the reply to the one before. Returns all replies."""
    connection = await Connection.to(port)
    try:
        replies = [await connection.reply(seconds)]
        for piece in pieces:
            connection.send(bytes.fromhex(piece[4:]) if piece.startswith("hex:") else piece.encode("latin-1"))
            replies.append(await connection.reply(seconds))
        return replies
    finally:
        await connection.close()


def start_tls(port: int, version: str, ciphers: str) -> str:
    """Negotiate STARTTLS with one version of TLS. Returns `secured VERSION`, or the error."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    context.set_ciphers(ciphers)
    try:
        with MailClient(LOOPBACK, port, timeout=_REPLY_SECONDS) as client:
            client.starttls(context=context)
            sock = client.sock
            return f"secured {sock.version() if isinstance(sock, ssl.SSLSocket) else None}"
    except (OSError, smtplib.SMTPException) as error:
        return repr(error)
