"""Free space on the disk of the spool.

Guarantees: a new message leaves `min_free` octets free, or is refused before anything of it is written.
Not here: a disk that is full nevertheless (spool.sqlite.writer).
"""

import os
from collections.abc import Callable
from typing import Final

from senderproxy.relay.ports import SpoolFull
from senderproxy.translation import _

_INTERVAL: Final = 0.25  # seconds between queries of the disk; in between, what was reserved is subtracted


class FreeSpace:
    """Free space above the limit. Used from several threads: the result is an estimate."""

    def __init__(self, folder_fd: int, min_free: int, monotonic: Callable[[], float]) -> None:
        """`min_free`: octets that must stay free."""
        self._folder_fd = folder_fd
        self._min_free = min_free
        self._monotonic = monotonic
        self._asked_at = float("-inf")  # monotonic seconds
        self._free = 0  # octets

    def reserve(self, octets: int) -> None:
        """Raises SpoolFull if so many octets more would leave too little, OSError if the disk cannot be queried."""
        now = self._monotonic()
        if now - self._asked_at > _INTERVAL:
            status = os.fstatvfs(self._folder_fd)
            self._free = status.f_bavail * status.f_frsize
            self._asked_at = now
        if self._free - octets < self._min_free:
            self._asked_at = float("-inf")
            raise SpoolFull(
                _(
                    "Too little space on the disk of the spool: {free} MiB are free, and {min_free} MiB must stay free."
                ).format(free=self._free >> 20, min_free=self._min_free >> 20),
                hint=_("Free some space, or change min_free in section [spool]."),
            )
        self._free -= octets
