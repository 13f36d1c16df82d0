"""Server side of one connection: reads lines and blocks, writes octets, starts TLS.

Guarantees: reading pauses while received octets are not consumed, so memory use is constant. A lost connection raises
`PeerGone`, after the octets received before it were read.

Not here: the protocol (simulator.session).
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Final, cast

_BUFFER_LIMIT: Final = 256 * 1024  # octets received and not consumed; above it reading pauses


class PeerGone(Exception):
    """The client closed the connection."""


class LineTooLong(Exception):
    """No line end within the permitted number of octets."""


class ByteStream(asyncio.Protocol):
    """Server side of one connection. Reading begins with `begin_reading` or `start_tls`."""

    def __init__(self, on_connection: Callable[["ByteStream"], None]) -> None:
        self._on_connection = on_connection
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._changed = asyncio.Event()  # octets arrived, or the connection ended
        self._ended = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._reading = False
        self._discarding = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        # Not at once: Python 3.11.2 starts to read after this call even if reading is paused.
        asyncio.get_running_loop().call_soon(self._transport.pause_reading)
        self._on_connection(self)

    def data_received(self, data: bytes) -> None:
        if self._discarding:
            return
        self._buffer += data
        self._changed.set()
        if len(self._buffer) > _BUFFER_LIMIT and self._transport is not None and self._reading:
            self._reading = False
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        self._ended.set()
        self._changed.set()
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  the name is asyncio's
        self._ended.set()
        self._changed.set()
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
        """The TLS version in use, None without TLS."""
        tls = self._transport.get_extra_info("ssl_object") if self._transport else None
        return tls.version() if tls else None

    @property
    def unread(self) -> int:
        """Number of octets received and not consumed."""
        return len(self._buffer)

    def begin_reading(self) -> None:
        """Start or resume reading."""
        if not self._reading and self._transport is not None and not self._ended.is_set():
            self._reading = True
            self._transport.resume_reading()

    def stop_reading(self) -> None:
        """Pause reading, so that octets wait at the client."""
        if self._reading and self._transport is not None and not self._ended.is_set():
            self._reading = False
            self._transport.pause_reading()

    def discard_input(self) -> None:
        """Read and discard everything from now on, to notice when the client closes."""
        self._discarding = True
        self.discard_unread()
        self.begin_reading()

    async def line(self, limit: int) -> bytes:
        """Read the next line with its line end: CRLF, or a bare LF that the caller reports."""
        searched = 0
        while True:
            end = self._buffer.find(b"\n", searched)
            if end >= 0:
                return self._take(end + 1)
            if len(self._buffer) > limit:
                raise LineTooLong
            searched = len(self._buffer)
            await self._wait_for_change()

    async def block(self) -> bytes:
        """Read all octets that have arrived, at least one."""
        while not self._buffer:
            await self._wait_for_change()
        return self._take(len(self._buffer))

    def put_back(self, octets: bytes) -> None:
        """Return octets to the input, to be read again."""
        self._buffer[:0] = octets

    def discard_unread(self) -> None:
        """Discard all octets that have arrived."""
        self._buffer.clear()

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        if len(self._buffer) <= _BUFFER_LIMIT:
            self.begin_reading()
        return taken

    async def _wait_for_change(self) -> None:
        if self._ended.is_set():
            raise PeerGone
        self._changed.clear()
        self.begin_reading()
        await self._changed.wait()

    async def send(self, octets: bytes) -> None:
        """Write octets. Waits while the client reads too slowly."""
        if self._ended.is_set() or self._transport is None:
            raise PeerGone
        self._transport.write(octets)
        await self._writable.wait()

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """Start TLS. Raises `PeerGone` if the handshake fails."""
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
        """Wait until the client closes the connection."""
        await self._ended.wait()

    def close(self) -> None:
        """Send the pending octets, then close. Only once: Python 3.11.2 cannot abort TLS after a second close."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()

    def abort(self) -> None:
        """Abort the connection."""
        if self._transport is not None:
            self._transport.abort()
