"""Reserve file: space on the disk that only results of deliveries may use.

Guarantees: while the file has its size, a full disk still has that much space for results, once the file is released.
This needs a file system that allocates space in advance: with copy-on-write, compression or a thin volume below it
there is no guarantee (docs/spool-states.md).
Not here: the decision to release it (spool.sqlite.writer), to take it again (spool.sqlite.free_space).
"""

import errno
import logging
import os
import threading
from contextlib import suppress
from typing import Final

from senderproxy import log_events
from senderproxy.log import event
from senderproxy.spool.sqlite.spool_folder import SpoolFolder

NAME: Final = "reserve"
_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_BLOCK: Final = 512  # octets; the unit of st_blocks
_PRIVATE: Final = 0o600  # mode: readable and writable for the service's user only
_UNSUPPORTED: Final = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})

_log = logging.getLogger("senderproxy.spool")


class DiskReserve:
    """The file, open. Used from several threads."""

    def __init__(self, folder: SpoolFolder, size: int) -> None:
        """`size`: octets, 0 without a reserve; may be replaced at any time. Raises OSError."""
        self.size = size
        self._folder = folder
        self._lock = threading.Lock()
        self._file: int | None = None
        self._held = 0
        if size or NAME in folder.names():
            self._open()

    def _open(self) -> int:
        """Open the file; one that was released, or has another size, is emptied. Raises OSError."""
        file = os.open(NAME, _FLAGS, _PRIVATE, dir_fd=self._folder.fd)
        try:
            self._folder.give_to_owner(file)
            status = os.fstat(file)
            if status.st_size == self.size <= status.st_blocks * _BLOCK:
                self._held = self.size
            else:
                os.ftruncate(file, 0)
        except BaseException:
            os.close(file)
            raise
        self._file = file
        return file

    @property
    def missing(self) -> int:
        """Octets that are to be allocated before the disk takes a new message."""
        return max(0, self.size - self._held)

    @property
    def is_adjusted(self) -> bool:
        """True if the file has its size."""
        return self._held == self.size

    def adjust(self) -> None:
        """Give the file its size; no change if the disk has too little space for it. Blocks."""
        with self._lock:
            if self._held > self.size:
                self._truncate(self.size)
            elif self._held < self.size:
                self._allocate()

    def _truncate(self, size: int) -> bool:
        if self._file is None:
            return False
        try:
            os.ftruncate(self._file, size)
        except OSError:
            return False
        self._held = size
        return True

    def _allocate(self) -> None:
        try:
            file = self._open() if self._file is None else self._file
            os.posix_fallocate(file, 0, self.size)
        except OSError as error:
            self._truncate(0)
            if error.errno in _UNSUPPORTED:
                self.size = 0
                event(_log, log_events.SPOOL_RESERVE_UNSUPPORTED, why=error.strerror)
        else:
            self._held = self.size
            event(_log, log_events.SPOOL_RESERVE_TAKEN, size=self.size)

    def release(self) -> bool:
        """Give the space to the disk; False if nothing is held."""
        with self._lock:
            released = self._held
            if not released or not self._truncate(0):
                return False
        event(
            _log,
            log_events.SPOOL_RESERVE_RELEASED,
            size=released,
            hint="Free some space on the disk of the spool (df shows how much is free).",
        )
        return True

    def close(self) -> None:
        """Close the file, which stays."""
        if self._file is not None:
            with suppress(OSError):
                os.close(self._file)
