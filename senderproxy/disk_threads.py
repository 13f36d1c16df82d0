"""Threads that wait for one disk in place of the event loop.

Guarantees: the event loop never waits for the disk; a call that hangs takes one thread, and nothing else waits for it.
While all threads hang, further calls are refused at once. The queue is bounded by its callers: each message has one
call at a time. The threads delay neither a stop nor the exit, and end when no directory and no body uses them.
Not here: the calls (listener.body, spool.sqlite.content), the reply to the client.
"""

import asyncio
import weakref
from collections.abc import Callable, Generator, Sequence
from itertools import islice
from typing import Any, Final, Generic, TypeVar

from senderproxy.aio import wait_done
from senderproxy.mail.message import Body
from senderproxy.worker_threads import QueueFull, WorkerThreads

_T = TypeVar("_T")

_COUNT: Final = 4  # threads for each disk: three messages go on beside one that hangs; more only wait for the same disk
_TIMEOUT: Final = 30.0  # seconds for one call; a sleeping disk takes 10 to start, and clients wait 180 for us to read
_HANG: Final = 10.0  # seconds in which no call returns while all threads are busy; a sleeping disk has started by then
_QUEUE: Final = 10_000  # calls; far above the number of connections and attempts, which bound them
READ_BLOCK: Final = 128 * 1024  # octets read from a file at a time; a call to a thread reads several of them
_AT_ONCE: Final = 8  # blocks of 64 KiB, read for one message by a call: that costs as much as the work on 100 KiB
_LEAST_AT_ONCE: Final = 2  # what one read gives
_OF_ALL: Final = 64  # blocks, read for all messages at once, unless there are more than 32 messages: bounds memory


class DiskTimeout(OSError):
    """The disk did not respond in time, or the system has no thread that could wait for it."""

    def __init__(self, why: str = "the disk does not respond") -> None:
        super().__init__(why)


class DiskThreads:
    """The threads of one disk, started when they are first needed."""

    def __init__(
        self, name: str, *, count: int = _COUNT, timeout_seconds: float = _TIMEOUT, hang_seconds: float = _HANG
    ) -> None:
        """`timeout_seconds`: time for a call, from its request; `hang_seconds`: time without a call that returns."""
        self.timeout_seconds = timeout_seconds
        self._hang_seconds = hang_seconds
        self._count = count
        self._threads = WorkerThreads(name, count, _QUEUE)
        self._readers = 0  # messages that are being read
        self._calls = 0  # that wait or are being made
        self._idle_or_returned = 0.0  # the loop's time when a thread was idle for the last time, or a call returned
        weakref.finalize(self, self._threads.stop).atexit = False

    @property
    def hangs(self) -> bool:
        """True while no thread responds."""
        if self._calls < self._count:
            return False
        return asyncio.get_running_loop().time() - self._idle_or_returned >= self._hang_seconds

    def do(self, call: Callable[[], _T]) -> "asyncio.Future[_T]":
        """Call it on a thread. The future must not be cancelled: wait for it with `aio.wait_done`.

        Raises DiskTimeout at once while all threads hang, or if none can be started.
        """
        if self.hangs:
            raise DiskTimeout
        return self.do_always(call)

    def do_always(self, call: Callable[[], _T]) -> "asyncio.Future[_T]":
        """As `do`, but also while all threads hang: for a call that ends the use of a file that a thread has opened."""
        try:
            future = self._threads.do(call)
        except QueueFull:
            raise DiskTimeout("the system has no thread for the disk") from None
        self._calls += 1
        if self._calls == self._count:
            self._idle_or_returned = asyncio.get_running_loop().time()
        future.add_done_callback(self._returned)
        return future

    async def read(self, body: Body) -> bytes:
        """All octets of a small body. Raises OSError: DiskTimeout if the disk does not respond."""
        reading = self.do(lambda: b"".join(body.blocks()))
        body.retain()
        reading.add_done_callback(lambda _: body.close())
        await wait_done(reading, self.timeout_seconds)
        if not reading.done():
            raise DiskTimeout
        return reading.result()

    def read_ahead(self, blocks: Generator[_T, None, None], body: Body) -> "ReadAhead[_T]":
        """A reader of the blocks, which are in some way those of `body`. To be closed."""
        return ReadAhead(self, blocks, body)

    def begin_reading(self) -> None:
        """Count a reader. For ReadAhead."""
        self._readers += 1

    def end_reading(self) -> None:
        """Count one less."""
        self._readers -= 1

    @property
    def blocks_at_once(self) -> int:
        """Blocks to be read by one call: fewer for each message if many are read."""
        return max(_LEAST_AT_ONCE, min(_AT_ONCE, _OF_ALL // max(1, self._readers)))

    def _returned(self, future: "asyncio.Future[Any]") -> None:
        self._calls -= 1
        self._idle_or_returned = asyncio.get_running_loop().time()
        future.exception()  # asyncio logs an exception that nothing asks for: that of a caller that waits no longer


class ReadAhead(Generic[_T]):
    """Reader of blocks on the threads of a disk, while the blocks before are used. Some of them are in memory."""

    def __init__(self, disk: DiskThreads, blocks: Generator[_T, None, None], body: Body) -> None:
        self._disk = disk
        self._blocks = blocks
        self._body = body
        self._reading: asyncio.Future[list[_T]] | None = None
        disk.begin_reading()
        body.retain()

    async def next(self) -> Sequence[_T]:
        """The next blocks; none at the end. Raises OSError: DiskTimeout if the disk does not respond."""
        if self._reading is None:
            self._start()
        reading = self._reading
        assert reading is not None
        await wait_done(reading, self._disk.timeout_seconds)
        if not reading.done():
            raise DiskTimeout
        self._reading = None
        blocks = reading.result()
        if blocks:
            self._start()
        return blocks

    def close(self) -> None:
        """End the reading and this use of the body, as soon as the call in progress returns. To be called once."""
        self._disk.end_reading()
        if self._reading is None:
            self._close_blocks()
        else:
            self._reading.add_done_callback(self._close_blocks)

    def _start(self) -> None:
        count = self._disk.blocks_at_once
        self._reading = self._disk.do(lambda: list(islice(self._blocks, count)))

    def _close_blocks(self, _: object = None) -> None:
        """Close the file that the blocks come from: a call to the disk."""
        try:
            closing = self._disk.do_always(self._blocks.close)
        except DiskTimeout:  # no thread was ever started, so no block was read
            self._blocks.close()
            self._body.close()
        else:
            closing.add_done_callback(lambda _: self._body.close())
