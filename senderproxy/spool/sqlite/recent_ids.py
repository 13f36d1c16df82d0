"""Ids of the messages of late, to refuse one that comes again.

Unique indexes hold the ids of the general tables and of new messages. Packs of history have none: there a bitmap in
memory says which ids are new, and the packs are searched for the others, of which nearly all are chance.
Guarantees: an id of the last 65,536 messages is found; memory is bounded.
Not here: the packs (spool.sqlite.history_packs).
"""

import mmap
import sqlite3
from collections.abc import Sequence
from typing import Final

from senderproxy.spool.sqlite import history_packs

_BITS: Final = 2**22  # of one bitmap, half a megabyte; pages that nothing was written to take no memory
_IDS: Final = 2**16  # of one bitmap: one search in a hundred is by chance
_PACKS: Final = 2048  # read at the opening


class RecentIds:
    """Two bitmaps of ids: the older one is emptied when the younger one has its number of ids."""

    def __init__(self) -> None:
        self._now, self._before = _new_bitmap(), _new_bitmap()
        self._count = 0

    def read(self, connection: sqlite3.Connection) -> None:
        """Add the ids of the newest packs."""
        for checksum in history_packs.newest_ids(connection, _PACKS):
            self._add(checksum)

    def add(self, connection: sqlite3.Connection, ids: Sequence[str]) -> None:
        """Add the ids of new messages. Raises sqlite3.IntegrityError if a message of the history has one of them.

        An id whose message is not committed may stay: it costs a search.
        """
        if len(set(ids)) < len(ids):
            raise sqlite3.IntegrityError("two messages have the same id")
        for ident in ids:
            checksum = int.from_bytes(history_packs.checksum(ident), "big")
            octet, bit = checksum % _BITS >> 3, 1 << (checksum & 7)
            known = (self._now[octet] | self._before[octet]) & bit
            if known and history_packs.find_id(connection, ident) is not None:
                raise sqlite3.IntegrityError(f"the history has a message {ident}")
            self._add(checksum)

    def _add(self, checksum: int) -> None:
        if self._count == _IDS:
            self._now, self._before, self._count = self._before, self._now, 0
            self._now.madvise(mmap.MADV_DONTNEED)  # empty it: returns its pages, and takes no memory that may be short
        self._now[checksum % _BITS >> 3] |= 1 << (checksum & 7)
        self._count += 1


def _new_bitmap() -> mmap.mmap:
    return mmap.mmap(-1, _BITS // 8, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
