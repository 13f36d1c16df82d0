"""Files in memory for large bodies while the disk for temporary files is full, with a limit on their size in all.

Guarantees: the files of one MemoryFiles together never have more octets than its limit. Used from several threads.
Not here: the decision that a body needs one (listener.body). memfd_create(2).
"""

import os
import threading
from typing import BinaryIO, Final

# Octets of all large messages in the meantime: five of 25 MB, a quarter of the unit's MemoryMax=.
_LIMIT: Final = 128 * 1024 * 1024


class MemoryFiles:
    """The count of their octets. Those that are reserved must be released when the file is closed."""

    def __init__(self, limit: int = _LIMIT) -> None:
        """`limit`: octets of all files."""
        self._limit = limit
        self._reserved = 0
        self._lock = threading.Lock()

    @property
    def reserved(self) -> int:
        """Octets in use."""
        return self._reserved

    def reserve(self, octets: int) -> bool:
        """Reserve octets for a file; False if the limit does not allow them."""
        with self._lock:
            if self._reserved + octets > self._limit:
                return False
            self._reserved += octets
        return True

    def release(self, octets: int) -> None:
        """Give back reserved octets."""
        with self._lock:
            self._reserved -= octets


def open_memory_file() -> BinaryIO:
    """An empty file in memory, which disappears when it is closed. Raises OSError."""
    return os.fdopen(os.memfd_create("message-body"), "r+b", buffering=0)
