"""Writes of body files on threads, with a limit on the time without progress.

Guarantees: a write that makes no progress is given up: its message is refused, and its file is removed as soon as the
disk responds. While all threads hang, further writes are refused at once. A body is not closed while a thread reads it,
and no caller waits for that.
Not here: the files (spool.sqlite.content), the rows of their messages (spool.sqlite.incoming), a commit that hangs
(spool.sqlite.stall).
"""

import asyncio
import logging
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from senderproxy import log_events
from senderproxy.aio import wait_done
from senderproxy.log import event
from senderproxy.mail.message import Body
from senderproxy.relay.ports import SpoolError, SpoolFull
from senderproxy.spool.sqlite.content import Content
from senderproxy.spool.sqlite.free_space import FreeSpace
from senderproxy.spool.sqlite.stall import LIMIT, not_responding
from senderproxy.spool.sqlite.threads import SpoolThreads

THREADS: Final = 4  # large bodies written or verified at once
_SLOWEST: Final = 2**20  # octets a second of a disk that works; syncing a file is one step, which takes its size
_LOOK: Final = 1.0  # seconds between two looks at a write

_log = logging.getLogger("senderproxy.spool")


@dataclass(slots=True, eq=False)
class _Write:
    """One write; its fields are set by one thread and read by the other."""

    name: str
    body: Body
    progress_at: float | None = None  # monotonic seconds; None: no thread has begun it
    given_up: bool = False


class ContentWriter:
    """The writes of one spool. Used from its event loop."""

    def __init__(
        self, threads: SpoolThreads, content: Content, free_space: FreeSpace, monotonic: Callable[[], float]
    ) -> None:
        self._threads = threads
        self._content = content
        self._free_space = free_space
        self._monotonic = monotonic
        self._progress_at = -math.inf  # of any write
        self._given_up = 0  # writes that have not returned
        self._is_stalled = False

    async def write(self, name: str, body: Body, checksum: int, *, use_reserve: bool) -> int:
        """Write one file; its checksum. `use_reserve`: also if the disk has little free space.

        Raises SpoolError; then no file is left, or it is removed when the disk responds.
        """
        if self._given_up >= THREADS:
            raise not_responding(self._monotonic() - self._progress_at)
        write, asked_at = _Write(name, body), self._monotonic()
        writing = self._threads.do(self._store, write, checksum, use_reserve)
        try:
            while not writing.done():
                await wait_done(writing, _LOOK)
                if not writing.done():
                    self._check(write, asked_at)
        finally:
            if not writing.done():
                self._give_up(write, writing)
        return writing.result()

    def remove(self, names: list[str]) -> None:
        """Remove body files, without waiting."""
        with suppress(SpoolError):  # closed: the next sweep removes them
            self._threads.do(self._content.remove, names)

    def _check(self, write: _Write, asked_at: float) -> None:
        """Raises SpoolStalled if the write, or all writes before it, made no progress for too long."""
        since = write.progress_at
        if since is None:
            since = max(asked_at, self._progress_at)
        seconds = self._monotonic() - since
        if seconds < LIMIT + write.body.size / _SLOWEST:
            return
        error = not_responding(seconds)
        if not self._is_stalled:
            self._is_stalled = True
            event(_log, log_events.SPOOL_STALLED, why=error.message, hint=error.hint)
        raise error

    def _give_up(self, write: _Write, writing: "asyncio.Future[int]") -> None:
        write.given_up = True
        write.body.retain()
        self._given_up += 1

        def returned(_: object) -> None:
            self._given_up -= 1
            write.body.close()
            if writing.exception() is None:  # given up after the thread had finished
                self.remove([write.name])
            if self._is_stalled and not self._given_up:
                self._is_stalled = False
                event(_log, log_events.SPOOL_STALL_ENDED)

        writing.add_done_callback(returned)

    # ---- on a thread ----

    def _store(self, write: _Write, checksum: int, use_reserve: bool) -> int:
        def is_given_up() -> bool:
            write.progress_at = self._progress_at = self._monotonic()
            return write.given_up

        if is_given_up():
            raise InterruptedError
        if not use_reserve:
            self._free_space.claim(write.body.size)
        try:
            checksum = self._content.store(write.name, write.body, checksum, is_given_up)
        except SpoolFull:
            if not use_reserve or not self._free_space.reserve.release():
                raise
            checksum = self._content.store(write.name, write.body, checksum, is_given_up)
        if write.given_up:
            self._content.remove([write.name])
            raise InterruptedError
        return checksum
