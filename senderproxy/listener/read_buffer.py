"""Buffer for a client's input between the socket and the conversation.

Guarantees: bounded: reading from the socket pauses while too much is buffered. `more` is woken by new input, by the end
of the input or by `interrupt`, and by nothing else; `until_done` by the end of the work or by `interrupt`.
Not here: the meaning of the input.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol

from senderproxy.aio import PIECE_OCTETS

HIGH: Final = PIECE_OCTETS // 2  # octets; above, reading pauses: with asyncio's last read, 256 KiB, a bound on memory
_LOW: Final = PIECE_OCTETS // 4  # octets; at or below, it resumes: half of the above, so that it changes seldom


class ClientGone(Exception):
    """The client closed its side, or the connection is lost: no input follows."""


class InputWaiter(Protocol):
    """What waits for input: the future of a coroutine, or an object with these methods of one."""

    def done(self) -> bool:
        """True if it waits no more."""
        ...

    def set_result(self, result: None, /) -> None:
        """There is input, or its end."""
        ...

    def set_exception(self, exception: BaseException, /) -> None:
        """End the wait."""
        ...


class ReadBuffer:
    """The buffer, filled by the event loop and read by one coroutine, or by callbacks."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.octets = bytearray()  # the buffer; read and changed here alone, looked at elsewhere
        self._transport: asyncio.Transport | None = None
        self._waiter: InputWaiter | None = None  # for input
        self._work_waiter: asyncio.Future[None] | None = None  # for other work, while no input is read
        self.has_ended = False  # no further input comes
        self._paused = False
        # Called in place of waking a `more` that waits, after each input and at its end; True: it need not be woken.
        self.on_input: Callable[[], bool] | None = None

    def attach(self, transport: asyncio.Transport | None) -> None:
        """Set the transport whose reading is paused; None while a handshake reads, and after the connection."""
        self._transport = transport
        self._paused = False

    @property
    def size(self) -> int:
        """Octets in the buffer."""
        return len(self.octets)

    def feed(self, data: bytes) -> None:
        """Add input."""
        self.octets += data
        if len(self.octets) > HIGH and not self._paused and self._transport is not None:
            self._transport.pause_reading()
            self._paused = True
        self._wake()

    def end(self) -> None:
        """Mark the end of the input."""
        self.has_ended = True
        self._wake()

    def interrupt(self, reason: Exception) -> None:
        """Raise this exception in a waiting `more` or `until_done`; without effect where none waits."""
        waiter: InputWaiter | None = self._waiter or self._work_waiter
        if waiter is not None and not waiter.done():
            waiter.set_exception(reason)

    def wait_with(self, waiter: InputWaiter | None) -> None:
        """Let this wait for input until it is done. None: nothing waits."""
        self._waiter = waiter

    async def more(self) -> None:
        """Wait for new input. Raises ClientGone at its end, or the exception given to `interrupt`."""
        if self.has_ended:
            raise ClientGone
        self._waiter = waiter = self._loop.create_future()
        try:
            await waiter
        finally:
            self._waiter = None
            del waiter  # with its exception it would refer to this call, and that to the connection

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
        end = self.octets.find(b"\n")
        if end < 0:
            return None
        line = bytes(self.octets[: end + 1])
        del self.octets[: end + 1]
        if self._paused:
            self._resume()
        return line

    def drop(self, count: int) -> None:
        """Remove so many octets at the front."""
        del self.octets[:count]
        self._resume()

    def check(self) -> None:
        """Look at the input again, as if some had come."""
        self._wake()

    def starts_with(self, octets: bytes) -> bool:
        """True if the buffer begins with these octets."""
        return self.octets.startswith(octets)

    def take(self) -> bytes:
        """Remove and return all octets."""
        taken = bytes(self.octets)
        self.octets.clear()
        self._resume()
        return taken

    def put_back(self, rest: bytes) -> None:
        """Put octets that were taken in excess at the front."""
        self.octets[:0] = rest

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done() or (self.on_input is not None and self.on_input()):
            return
        if not waiter.done():
            waiter.set_result(None)

    def _resume(self) -> None:
        if self._paused and len(self.octets) <= _LOW and self._transport is not None:
            self._transport.resume_reading()
            self._paused = False
