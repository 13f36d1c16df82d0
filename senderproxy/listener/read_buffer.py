"""Buffer for a client's input between the socket and the conversation.

Guarantees: bounded: reading from the socket pauses while too much is buffered. `more` is woken by new input, by the end
of the input or by `interrupt`, and by nothing else; `until_done` by the end of the work or by `interrupt`.
Not here: the meaning of the input.
"""

import asyncio
from typing import Any, Final

from senderproxy.aio import PIECE_OCTETS

_HIGH: Final = PIECE_OCTETS // 2  # octets; above, reading pauses: with asyncio's last read, 256 KiB, a bound on memory
_LOW: Final = PIECE_OCTETS // 4  # octets; at or below, it resumes: half of the above, so that it changes seldom


class ClientGone(Exception):
    """The client closed its side, or the connection is lost: no input follows."""


class ReadBuffer:
    """The buffer, filled by the event loop and read by one coroutine."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None  # for input
        self._work_waiter: asyncio.Future[None] | None = None  # for other work, while no input is read
        self._ended = False
        self._paused = False

    def attach(self, transport: asyncio.Transport | None) -> None:
        """Set the transport whose reading is paused; None while a handshake reads, and after the connection."""
        self._transport = transport
        self._paused = False

    @property
    def size(self) -> int:
        """Octets in the buffer."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Add input."""
        self._buffer += data
        if len(self._buffer) > _HIGH and not self._paused and self._transport is not None:
            self._transport.pause_reading()
            self._paused = True
        self._wake()

    def end(self) -> None:
        """Mark the end of the input."""
        self._ended = True
        self._wake()

    def interrupt(self, reason: Exception) -> None:
        """Raise this exception in a waiting `more` or `until_done`; without effect where none waits."""
        waiter = self._waiter or self._work_waiter
        if waiter is not None and not waiter.done():
            waiter.set_exception(reason)

    async def more(self) -> None:
        """Wait for new input. Raises ClientGone at its end, or the exception given to `interrupt`."""
        if self._ended:
            raise ClientGone
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    async def until_done(self, work: "asyncio.Future[Any]") -> None:
        """Wait for work while no input is read. Raises the exception given to `interrupt`; the work goes on."""
        self._work_waiter = waiter = self._loop.create_future()

        def wake(_: object) -> None:
            if not waiter.done():
                waiter.set_result(None)

        work.add_done_callback(wake)
        try:
            await waiter
        finally:
            self._work_waiter = None
            work.remove_done_callback(wake)

    def line(self) -> bytes | None:
        """The next line with its line feed; None while it is incomplete."""
        end = self._buffer.find(b"\n")
        if end < 0:
            return None
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        self._resume()
        return line

    def starts_with(self, octets: bytes) -> bool:
        """True if the buffer begins with these octets."""
        return self._buffer.startswith(octets)

    def take(self) -> bytes:
        """Remove and return all octets."""
        taken = bytes(self._buffer)
        self._buffer.clear()
        self._resume()
        return taken

    def put_back(self, rest: bytes) -> None:
        """Put octets that were taken in excess at the front."""
        self._buffer[:0] = rest

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _resume(self) -> None:
        if self._paused and len(self._buffer) <= _LOW and self._transport is not None:
            self._transport.resume_reading()
            self._paused = False
