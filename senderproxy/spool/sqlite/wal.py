"""Write-ahead log of the database: copied into the database beside the commits, so that it stays short.

A checkpoint copies the log into the database. Most of that happens on a connection and a thread of its own while
commits go on; the writer copies only what was committed meanwhile, after which the log starts again at its beginning.
On a slow disk that is much: then the thread copies again, until the rest is short.
Guarantees: a commit waits for a checkpoint only if the log has reached its limit; for the rest, a quarter of a second.
Not here: commits (spool.sqlite.writer).
"""

import logging
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from senderproxy import log_events
from senderproxy.daemon_thread import DaemonThread
from senderproxy.log import event

_BUSY_TIMEOUT: Final = 5000  # milliseconds; the default of Python's sqlite3
_REST_SECONDS: Final = 0.25  # in which the writer copies the rest, at the thread's speed
_REST_LEAST: Final = 16  # pages that the writer copies on a disk of any speed: a commit

_log = logging.getLogger("senderproxy.spool")


@dataclass(slots=True, eq=False)
class WriteAheadLog:
    """The estimated length of the log, and the thread that copies it."""

    connection: sqlite3.Connection  # of the thread
    pages: int  # length at which a checkpoint begins
    limit: int  # length, in pages, at which commits wait for the checkpoint
    monotonic: Callable[[], float]  # seconds
    length: int = 0  # pages since the last checkpoint began
    copying: int = 0  # pages that the last checkpoint began with
    rest: int = _REST_LEAST  # pages that the writer may copy
    _copied: Callable[[], None] | None = None
    _idle: threading.Event = field(default_factory=threading.Event)
    _wanted: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    _stopping: bool = False
    _thread: DaemonThread | None = None

    def start(self, copied: Callable[[], None]) -> None:
        """Start the thread; it calls `copied` after each checkpoint, for the writer to call `finish`."""
        self._copied = copied
        self._idle.set()
        self._thread = DaemonThread(self._work, "spool-wal")
        self._thread.start()

    def stop(self) -> None:
        """Wait for the thread and close its connection. Blocks."""
        self._stopping = True
        self._wanted.release()
        if self._thread is not None:
            self._thread.join()
        with suppress(sqlite3.Error):
            self.connection.close()

    def grown(self, pages: int) -> None:
        """Count the pages of a commit; on the writer's thread. Blocks at the limit until the checkpoint has ended."""
        self.length += pages
        if self.length >= self.limit:
            self._idle.wait()
        if self.length >= self.pages:
            self._begin()

    def _begin(self) -> None:
        if self._idle.is_set():
            self._idle.clear()
            self.copying, self.length = self.length, 0
            self._wanted.release()

    def finish(self, connection: sqlite3.Connection) -> None:
        """Copy the rest, if it is short, or let the thread do it, if it becomes shorter; on the writer's thread."""
        if self.length <= self.rest:
            _checkpoint(connection)
        elif self.length < self.copying:
            self._begin()

    def truncate(self, connection: sqlite3.Connection) -> None:
        """Copy the log and cut its file to nothing, unless another connection uses it; on the writer's thread.

        The copy also shortens the database by the pages that were returned.
        """
        if not self._idle.is_set():
            return
        connection.execute("PRAGMA busy_timeout = 0")  # a search in progress must not delay the next commit
        try:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT}")
        self.length = 0

    def _work(self) -> None:
        assert self._copied is not None
        while self._wanted.acquire() and not self._stopping:
            begun = self.monotonic()
            try:
                _checkpoint(self.connection)
            except sqlite3.Error as error:
                event(_log, log_events.WAL_CHECKPOINT_FAILED, why=error)
            seconds = max(self.monotonic() - begun, 1e-6)
            self.rest = min(max(int(self.copying * _REST_SECONDS / seconds), _REST_LEAST), self.pages)
            self._idle.set()
            self._copied()


def _checkpoint(connection: sqlite3.Connection) -> None:
    """Copy as much of the log as possible without waiting for another connection."""
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
