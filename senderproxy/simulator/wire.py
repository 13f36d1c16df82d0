"""One connection's octets: lines in, blocks in, octets out, TLS put underneath when asked.

Guarantees: reading stops when nobody takes what has arrived (flat memory); a lost connection is `PeerGone`, whenever it
is noticed; what arrived before is still read first.
Not here: what the octets mean (simulator.dialogue).
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Final, cast

_ENOUGH: Final = 256 * 1024


class PeerGone(Exception):
    """The client is not there any more."""


class LineTooLong(Exception):
    """More octets than any command may have, and no line end yet."""


class Wire(asyncio.Protocol):
    """The simulator's side of one connection. Reading begins with `begin_reading` or `start_tls`."""

    def __init__(self, on_connection: Callable[["Wire"], None]) -> None:
        self._on_connection = on_connection
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._news = asyncio.Event()
        self._ended = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._reading = False
        self._ignoring = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        # Soon, not now: Python 3.11.2 starts to read after this call, paused or not.
        asyncio.get_running_loop().call_soon(self._transport.pause_reading)
        self._on_connection(self)

    def data_received(self, data: bytes) -> None:
        if self._ignoring:
            return
        self._buffer += data
        self._news.set()
        if len(self._buffer) > _ENOUGH and self._transport is not None and self._reading:
            self._reading = False
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        self._ended.set()
        self._news.set()
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio names it so
        self._ended.set()
        self._news.set()
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    @property
    def peer(self) -> str:
        """The client's address."""
        name = self._transport.get_extra_info("peername") if self._transport else None
        return str(name[0]) if name else "unknown"

    @property
    def tls_version(self) -> str | None:
        """The TLS version spoken, or None."""
        tls = self._transport.get_extra_info("ssl_object") if self._transport else None
        return tls.version() if tls else None

    @property
    def unread(self) -> int:
        """How many octets have arrived that nobody has asked for yet."""
        return len(self._buffer)

    def begin_reading(self) -> None:
        """Let octets in."""
        if not self._reading and self._transport is not None and not self._ended.is_set():
            self._reading = True
            self._transport.resume_reading()

    def stop_reading(self) -> None:
        """Let the octets pile up at the client's end."""
        if self._reading and self._transport is not None and not self._ended.is_set():
            self._reading = False
            self._transport.pause_reading()

    def ignore(self) -> None:
        """Read on, only to notice when the client hangs up; what it says is lost."""
        self._ignoring = True
        self.discard_unread()
        self.begin_reading()

    async def line(self, limit: int) -> bytes:
        """The next line with its line end, whatever that is: CRLF, or a bare LF for the dialogue to complain of."""
        looked = 0
        while True:
            end = self._buffer.find(b"\n", looked)
            if end >= 0:
                return self._take(end + 1)
            if len(self._buffer) > limit:
                raise LineTooLong
            looked = len(self._buffer)
            await self._wait_for_news()

    async def block(self) -> bytes:
        """Whatever has arrived, at least one octet."""
        while not self._buffer:
            await self._wait_for_news()
        return self._take(len(self._buffer))

    def put_back(self, octets: bytes) -> None:
        """What was read too far."""
        self._buffer[:0] = octets

    def discard_unread(self) -> None:
        """Forget what has arrived."""
        self._buffer.clear()

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        if len(self._buffer) <= _ENOUGH:
            self.begin_reading()
        return taken

    async def _wait_for_news(self) -> None:
        if self._ended.is_set():
            raise PeerGone
        self._news.clear()
        self.begin_reading()
        await self._news.wait()

    async def send(self, octets: bytes) -> None:
        """Write, and wait while the client reads too slowly."""
        if self._ended.is_set() or self._transport is None:
            raise PeerGone
        self._transport.write(octets)
        await self._writable.wait()

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """Put TLS underneath; `PeerGone` when the handshake fails."""
        if self._transport is None or self._ended.is_set():
            raise PeerGone
        self._reading = True
        loop = asyncio.get_running_loop()
        try:
            secured = await loop.start_tls(self._transport, self, context, server_side=True)
        except (OSError, asyncio.IncompleteReadError) as fault:  # ssl.SSLError is an OSError
            self._ended.set()
            raise PeerGone from fault
        if secured is None:
            raise PeerGone
        self._transport = secured

    async def gone(self) -> None:
        """Wait until the client hangs up."""
        await self._ended.wait()

    def close(self) -> None:
        """Send what is waiting, then close. Once: Python 3.11.2 cannot cut a TLS connection that was closed twice."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()

    def abort(self) -> None:
        """Cut the connection at once."""
        if self._transport is not None:
            self._transport.abort()
