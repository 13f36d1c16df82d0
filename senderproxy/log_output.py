"""Output of log lines to a descriptor: in their order, several with one write.

Guarantees: lines keep the order in which they were added, over all threads. A line added with `now` is written before
`add` returns, and all lines before it, if the descriptor accepts them. A descriptor that accepts nothing (a full pipe)
blocks no caller: lines wait in at most 1 MiB of memory, further ones are counted, and a line has their number later.
Not here: the form of a line (log_lines), the choice of events (log).
"""

import os
import select
import socket
import stat
import threading
import time
from collections.abc import Callable
from typing import Final

from senderproxy.daemon_thread import DaemonThread

_GATHER_SECONDS: Final = 0.008  # from the first line to the write; 10 ms with the thread's way to the processor
_WAITING_LIMIT: Final = 2**20  # characters of waiting lines; some 4,000 lines
_PIECE: Final = 4096  # octets; a pipe or terminal that poll(2) calls writable takes so many without a wait (PIPE_BUF)
_PATIENCE: Final = 0.1  # seconds that a caller waits for another thread's write
_NOTHING: Final = memoryview(b"")


class _Descriptor:
    """Writes that do not wait, to a pipe, terminal, socket or file."""

    def __init__(self, number: int) -> None:
        """Raises OSError if there is no such descriptor."""
        self._number = number
        kind = os.fstat(number).st_mode
        self._socket = socket.socket(fileno=os.dup(number)) if stat.S_ISSOCK(kind) else None
        self._is_file = stat.S_ISREG(kind)
        self._poll = self.new_poll()  # for `write`

    def new_poll(self) -> "select.poll":
        """An object to wait for room, for one thread: two threads cannot wait with the same one."""
        poll = select.poll()
        poll.register(self._number, select.POLLOUT)
        return poll

    def write(self, octets: memoryview) -> int:
        """Write some of the octets; 0: there is no room now. One thread at a time. Raises OSError."""
        try:
            if self._socket is not None:
                return self._socket.send(octets, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            if self._is_file:
                return os.write(self._number, octets)
            return os.write(self._number, octets[:_PIECE]) if self._poll.poll(0) else 0
        except BlockingIOError:
            return 0


class LogOutput:
    """Lines for one descriptor. `add` and `flush` may be called on every thread."""

    def __init__(self, descriptor: int, encoding: str, lost_line: Callable[[int], str]) -> None:
        """`lost_line` makes the line that says how many are lost. Raises OSError if there is no such descriptor."""
        self._descriptor = _Descriptor(descriptor)
        self._encoding = encoding
        self._lost_line = lost_line
        # Held for a few statements. A finalizer that logs may run between them: it must not wait for itself.
        self._lock = threading.RLock()
        self._lines: list[str] = []
        self._size = 0  # characters of `_lines`
        self._lost = 0  # lines, since the last report
        self._write_lock = threading.Lock()  # held during a write, and not while the descriptor accepts nothing
        self._rest = _NOTHING  # of the lines taken last
        self._rest_lines = 0
        self._sleeping = False  # the thread waits for `_wake`
        self._wake = threading.Lock()
        self._wake.acquire()
        self.gathers = False  # lines without `now` wait for the thread

    def start(self) -> None:
        """Start the thread. If the system has none, each caller writes its line."""
        self._sleeping = True
        try:
            DaemonThread(self._run, "log").start()
        except RuntimeError:
            self._sleeping = False

    def add(self, line: str, *, now: bool) -> None:
        """Add a line, without its line end. Raises no error of the descriptor."""
        with self._lock:
            if self._size > _WAITING_LIMIT:
                self._lost += 1
            else:
                self._lines.append(line)
                self._size += len(line)
            if self.gathers and not now:
                if self._sleeping:
                    self._wake_thread()
                return
        if self._write():
            with self._lock:
                self._wake_thread()

    def count_lost(self) -> None:
        """Count a line that could not be made."""
        with self._lock:
            self._lost += 1

    def flush(self, seconds: float) -> None:
        """Write all lines. Those for which the descriptor has no room within so many seconds are lost."""
        poll = self._descriptor.new_poll()
        while self._write(seconds):
            if not poll.poll(seconds * 1000):
                return

    # ---- the thread ----

    def _wake_thread(self) -> None:
        if self._sleeping:
            self._sleeping = False
            self._wake.release()

    def _run(self) -> None:
        poll = self._descriptor.new_poll()
        while True:
            self._wake.acquire()
            time.sleep(_GATHER_SECONDS)
            with self._lock:
                self._sleeping = True
            while self._write():
                poll.poll()

    # ---- writes ----

    def _write(self, patience: float = _PATIENCE) -> bool:
        """Write all lines. True: some are left, because the descriptor accepts nothing for now.

        Another thread that is in a write writes them too.
        """
        if not self._write_lock.acquire(timeout=patience):
            return False
        try:
            while self._rest or self._take():
                try:
                    written = self._descriptor.write(self._rest)
                except OSError:  # a full disk, a closed pipe: no reason to stop a message
                    self._drop_rest()
                    continue
                if not written:
                    return True
                self._rest = self._rest[written:]
        except MemoryError:
            self._drop_rest()
        finally:
            self._write_lock.release()
        return False

    def _take(self) -> bool:
        """Take all waiting lines. False: there are none."""
        with self._lock:
            if not self._lines:
                return False
            lines, self._lines, self._size = self._lines, [], 0
            lost, self._lost = self._lost, 0
        self._rest_lines = len(lines) + lost
        if lost:
            lines.append(self._lost_line(lost))
        lines.append("")
        self._rest = memoryview("\n".join(lines).encode(self._encoding, "backslashreplace"))
        return True

    def _drop_rest(self) -> None:
        """Give up the lines taken last."""
        with self._lock:
            self._lost += self._rest_lines
        self._rest, self._rest_lines = _NOTHING, 0
