"""Free space on the disk of the spool.

Guarantees: a new message leaves `min_free` octets free, a history twice as many, or is refused before anything of it is
written. While the reserve file is released, both leave its size free too: the space is for results of deliveries.
Not here: a disk that is full nevertheless (spool.sqlite.writer).
"""

import os
from collections.abc import Callable
from typing import Final

from senderproxy.relay.ports import SpoolFull
from senderproxy.spool.sqlite.reserve import DiskReserve
from senderproxy.translation import _

_INTERVAL: Final = 0.25  # seconds between queries of the disk; in between, what was reserved is subtracted
_HISTORY_SHARE: Final = 2  # times min_free; histories never take the space that new messages need


class FreeSpace:
    """Free space above the limit. Used from several threads: the result is an estimate."""

    def __init__(self, folder_fd: int, min_free: int, reserve: DiskReserve, monotonic: Callable[[], float]) -> None:
        """`min_free`: octets that must stay free; may be replaced at any time."""
        self.min_free = min_free
        self.reserve = reserve
        self._folder_fd = folder_fd
        self._monotonic = monotonic
        self._asked_at = float("-inf")  # monotonic seconds
        self._free = 0  # octets
        self.is_short = False  # a message was refused since the last call of `shortage`

    def claim(self, octets: int) -> None:
        """Raises SpoolFull if so many octets more would leave too little, OSError if the disk cannot be queried.

        The reserve file is taken again as soon as there is space for it and for the message.
        """
        if not self._has(octets, self.min_free):
            self.is_short = True
            raise too_little_space(self._free, self.min_free + self.reserve.missing)
        if not self.reserve.is_adjusted:
            self.adjust_reserve()
        self._free -= octets

    def adjust_reserve(self) -> None:
        """Allocate the reserve file, if there is space for it above the limit. Blocks. Raises OSError."""
        if not self.reserve.is_adjusted and self._query() >= self.min_free + self.reserve.missing:
            self.reserve.adjust()
            self._asked_at = float("-inf")

    def claim_for_history(self, octets: int) -> bool:
        """False if a history of so many octets would leave too little. Raises OSError."""
        if not self._has(octets, _HISTORY_SHARE * self.min_free):
            return False
        self._free -= octets
        return True

    def shortage(self) -> int:
        """Octets that are missing on the disk for new messages; 0 if there is space. Raises OSError."""
        self._asked_at = float("-inf")
        self.is_short = False
        self.adjust_reserve()
        return max(0, self.min_free + self.reserve.missing - self._query())

    def _has(self, octets: int, min_free: int) -> bool:
        """True if the disk has so many octets above what must stay free; asked anew before the answer is no."""
        needed = octets + min_free + self.reserve.missing
        if self._query() >= needed:
            return True
        self._asked_at = float("-inf")
        return self._query() >= needed

    def _query(self) -> int:
        now = self._monotonic()
        if now - self._asked_at > _INTERVAL:
            status = os.fstatvfs(self._folder_fd)
            self._free = status.f_bavail * status.f_frsize
            self._asked_at = now
        return self._free


def too_little_space(free: int, min_free: int) -> SpoolFull:
    """The error for a disk with so many free octets of which so many must stay free."""
    return SpoolFull(
        _("Too little space on the disk of the spool: {free} MiB are free, and {min_free} MiB must stay free.").format(
            free=free >> 20, min_free=min_free >> 20
        ),
        hint=_("Free some space, or change min_free in section [spool]."),
    )
