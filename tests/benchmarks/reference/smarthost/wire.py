"""The octets of one connection: TLS over memory buffers, and the distance.

Guarantees: with a round-trip time R, the TCP connection costs the client R, and each answer arrives R after its command
was sent; so k consecutive exchanges cost k times R, including a TLS handshake. Bandwidth is not limited.
Not here: the commands and replies (dialogue).

TLS uses memory buffers of our own because asyncio's offer no place to delay the handshake.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from typing import Protocol

READ = 256 * 1024
# Octets of one connection in a loop iteration; asyncio reads four times as much, which would delay small messages.
TURN = 64 * 1024
EARLY = 0.0005  # seconds; epoll rounds up to whole milliseconds, and half of that is subtracted


class WireProtocol(Protocol):
    """The protocol above the octets; its methods are called as the client sends."""

    def begin(self) -> None:
        """The connection is open, after its TLS handshake if TLS is implicit."""

    def receive(self, data: bytes) -> None:
        """The client sent octets."""

    def end(self) -> None:
        """The connection is closed."""

    def secured(self, *, resumed: bool) -> None:
        """A TLS handshake is done."""


class Distance:
    """Delay of the output by one round-trip time: one queue and one timer for all connections."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._queue: deque[tuple[float, Callable[[], None]]] = deque()

    def after(self, act: Callable[[], None]) -> None:
        """Call it one round trip later, in order."""
        if not self._queue:
            self._loop.call_later(self.seconds - EARLY, self._due)
        self._queue.append((self._loop.time() + self.seconds - EARLY, act))

    def _due(self) -> None:
        now = self._loop.time()
        while self._queue and self._queue[0][0] <= now:
            self._queue.popleft()[1]()
        if self._queue:
            self._loop.call_at(self._queue[0][0], self._due)


class Wire(asyncio.Protocol):
    """The server's end of a connection."""

    transport: asyncio.Transport

    def __init__(
        self,
        protocol: Callable[["Wire"], WireProtocol],
        context: ssl.SSLContext,
        distance: Distance,
        *,
        implicit_tls: bool,
    ) -> None:
        self._protocol = protocol(self)
        self._context = context
        self._distance = distance
        self._implicit_tls = implicit_tls
        self._tls: ssl.SSLObject | None = None
        self._shaken = False
        self._begun = False
        self._early: list[bytes] = []  # input before the delayed start of the connection
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, one round trip after the client's kernel asked."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.max_size = TURN  # type: ignore[attr-defined]  # of asyncio's selector transport
        if self._distance.seconds:
            self._distance.after(self._begin)
        else:
            self._begin()

    def connection_lost(self, _error: Exception | None) -> None:
        """Report the end of the connection."""
        self._protocol.end()

    def data_received(self, data: bytes) -> None:
        """Decrypt the input and pass it on."""
        if not self._begun:
            self._early.append(data)
            return
        if self._tls is None:
            self._protocol.receive(data)
            return
        self._incoming.write(data)
        try:
            self._decrypt()
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLError:
            self.transport.abort()

    def send(self, data: bytes) -> None:
        """Send."""
        if self._tls is None:
            self._put(data)
        else:
            self._tls.write(data)
            self._flush()

    def secure(self) -> None:
        """Start TLS; plain text received after STARTTLS is discarded (RFC 3207)."""
        self._tls = self._context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    def close(self) -> None:
        """Close the connection after the pending output."""
        if self._distance.seconds:
            self._distance.after(self.transport.close)
        else:
            self.transport.close()

    def _begin(self) -> None:
        self._begun = True
        if self._implicit_tls:
            self.secure()
        else:
            self._protocol.begin()
        for data in self._early:
            self.data_received(data)
        self._early.clear()

    def _decrypt(self) -> None:
        assert self._tls is not None
        if not self._shaken:
            self._tls.do_handshake()
            self._shaken = True
            self._flush()
            self._protocol.secured(resumed=bool(self._tls.session_reused))
            if self._implicit_tls:
                self._protocol.begin()
        while True:
            clear = self._tls.read(READ)
            if not clear:  # the client's close_notify
                self.transport.close()
                return
            self._protocol.receive(clear)

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self._put(data)

    def _put(self, data: bytes) -> None:
        if self._distance.seconds:
            self._distance.after(lambda: self.transport.write(data))
        else:
            self.transport.write(data)
