"""What a client sent and nobody has taken yet.

Guarantees: bounded (reading from the socket pauses while too much lies here); a waiter is woken by new input, by the
end of the input, or by whoever interrupts it, and by nothing else.
Not here: what the input means.
"""

import asyncio
from typing import Final

from senderproxy.aio import PIECE_OCTETS

_HIGH: Final = PIECE_OCTETS // 2  # octets; beyond this the socket is not read
_LOW: Final = PIECE_OCTETS // 4


class ClientGone(Exception):
    """The client closed its side, or the connection is lost; there is no further input."""


class ReadBuffer:
    """The buffer between the socket and the one coroutine that reads it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._ended = False
        self._paused = False

    def attach(self, transport: asyncio.Transport | None) -> None:
        """From now on the input comes from this transport; None while a handshake has it."""
        self._transport = transport
        self._paused = False

    @property
    def size(self) -> int:
        """Octets that wait here."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """New input."""
        self._buffer += data
        if len(self._buffer) > _HIGH and not self._paused and self._transport is not None:
            self._transport.pause_reading()
            self._paused = True
        self._wake()

    def end(self) -> None:
        """No input will follow."""
        self._ended = True
        self._wake()

    def interrupt(self, reason: Exception) -> None:
        """Let the one who waits meet this exception; nothing happens where nobody waits."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(reason)

    async def more(self) -> None:
        """Wait for new input. Raises Gone at its end, or what `interrupt` was given."""
        if self._ended:
            raise ClientGone
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def line(self) -> bytes | None:
        """The next line with its line feed, or None while there is no whole one."""
        end = self._buffer.find(b"\n")
        if end < 0:
            return None
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        self._resume()
        return line

    def take(self) -> bytes:
        """Everything that is here."""
        taken = bytes(self._buffer)
        self._buffer.clear()
        self._resume()
        return taken

    def put_back(self, rest: bytes) -> None:
        """What was taken too much comes first again."""
        self._buffer[:0] = rest

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _resume(self) -> None:
        if self._paused and len(self._buffer) <= _LOW and self._transport is not None:
            self._transport.resume_reading()
            self._paused = False
