"""One client connection: submits one message after the other, each as soon as the last was answered.

Guarantees: MAIL, RCPT and DATA are pipelined if the server offers it, as Exchange and Postfix do, otherwise sent in
lock-step. A message is accepted only by a 2xx after its final dot.
Not here: the choice of messages (`next_message`), the statistics (Tally).
"""

import asyncio
import base64
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

BLOCK: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message to submit."""

    reverse_path: str
    recipients: list[str]
    header: bytes
    body: memoryview


NextMessage = Callable[[], Outgoing | None]


@dataclass(slots=True)
class Tally:
    """The results of a flow of messages."""

    seconds: list[float] = field(default_factory=list)
    first_at: float = 0.0
    last_at: float = 0.0
    refused: dict[str, int] = field(default_factory=dict)

    def refuse(self, reply: str) -> None:
        """Count a negative reply."""
        words = reply[:3] + " " + " ".join(word for word in reply[4:].split() if word.isalpha())[:60]
        self.refused[words] = self.refused.get(words, 0) + 1


class Client(asyncio.Protocol):
    """The connection; `greeted` and `done` are futures for its progress."""

    def __init__(self, next_message: NextMessage, tally: Tally, login: tuple[str, str] | None) -> None:
        loop = asyncio.get_running_loop()
        self.greeted: asyncio.Future[None] = loop.create_future()
        self.done: asyncio.Future[None] = loop.create_future()
        self._clock = loop.time
        self._next_message = next_message
        self._tally = tally
        self._login = login
        self._rest = b""
        self._reply: Callable[[str], None] = self._on_greeting
        self._pipelining = False
        self._message: Outgoing | None = None
        self._expected = 0
        self._refusal = ""
        self._sent_at = 0.0
        self._unsent: memoryview | None = None
        self._writable = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the greeting."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        """Count a message in progress as not accepted."""
        if not self.greeted.done():
            self.greeted.set_exception(ConnectionError(f"lost before EHLO was answered: {error}"))
        elif not self.done.done():
            if self._message is not None:
                self._tally.refuse("000 connection lost")
            self.done.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Act on each complete reply."""
        self._rest += data
        while (end := self._rest.find(b"\r\n")) >= 0:
            line, self._rest = self._rest[:end], self._rest[end + 2 :]
            if line[3:4] == b"-":
                self._pipelining = self._pipelining or line[4:].upper() == b"PIPELINING"
            else:
                self._reply(line.decode("ascii", "replace"))

    def start(self) -> None:
        """Send the next message, or QUIT."""
        self._message = message = self._next_message()
        if message is None:
            self._say(b"QUIT")
            self._reply = lambda _: self._transport.close()
            self.done.set_result(None)
            return
        self._sent_at = self._clock()
        self._tally.first_at = self._tally.first_at or self._sent_at
        self._refusal = ""
        recipients = (f"RCPT TO:<{path}>" for path in message.recipients)
        commands = [f"MAIL FROM:<{message.reverse_path}>", *recipients, "DATA"]
        self._expected = len(commands)
        self._lines = iter([command.encode() for command in commands])
        self._reply = self._on_command
        if self._pipelining:
            self._say(b"\r\n".join(self._lines))
        else:
            self._say(next(self._lines))

    def pause_writing(self) -> None:
        """The server reads slower than we write."""
        self._writable = False

    def resume_writing(self) -> None:
        """Continue the message."""
        self._writable = True
        self._pour()

    def _say(self, line: bytes) -> None:
        self._transport.write(line + b"\r\n")

    def _on_greeting(self, reply: str) -> None:
        if not reply.startswith("220"):
            self.greeted.set_exception(ConnectionError(reply))
            return
        self._say(b"EHLO desk.office.example")
        self._reply = self._on_ehlo

    def _on_ehlo(self, _: str) -> None:
        if self._login:
            self._say(b"AUTH PLAIN " + base64.b64encode("\0{}\0{}".format(*self._login).encode()))
            self._login = None
            return
        self.greeted.set_result(None)

    def _on_command(self, reply: str) -> None:
        self._expected -= 1
        if reply[0] not in "23":
            self._refusal = self._refusal or reply
        if self._expected:
            if not self._pipelining:
                self._say(next(self._lines))
            return
        if not reply.startswith("354"):
            self._answered(self._refusal or reply)
            return
        assert self._message is not None
        self._reply = self._answered
        self._unsent = self._message.body
        if len(self._unsent) <= BLOCK:
            self._transport.write(b"".join((self._message.header, self._unsent, b".\r\n")))
            self._unsent = None
        else:
            self._transport.write(self._message.header)
            self._pour()

    def _pour(self) -> None:
        while self._unsent is not None and self._writable:
            self._transport.write(self._unsent[:BLOCK])
            self._unsent = self._unsent[BLOCK:]
            if not self._unsent:
                self._unsent = None
                self._transport.write(b".\r\n")

    def _answered(self, reply: str) -> None:
        now = self._clock()
        self._tally.last_at = now
        if reply.startswith("2") and not self._refusal:
            self._tally.seconds.append(now - self._sent_at)
        else:
            self._tally.refuse(self._refusal or reply)
        self.start()


async def connect(
    port: int,
    next_message: NextMessage,
    tally: Tally,
    login: tuple[str, str] | None,
    ca_file: str | None,
) -> Client:
    """Open a connection, up to the answer to EHLO or to the login."""
    context = ssl.create_default_context(cafile=ca_file) if ca_file else None
    _, client = await asyncio.get_running_loop().create_connection(
        lambda: Client(next_message, tally, login),
        "localhost" if ca_file else "127.0.0.1",
        port,
        ssl=context,
    )
    await client.greeted
    return client
