"""Limits of a spool in time and space, and in what it keeps. PURE.

Guarantees: none of them applies to a message that was acknowledged.
Not here: their enforcement (spool.sqlite.free_space, spool.sqlite.history, spool.sqlite.reserve).
"""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class SpoolLimits:
    """Sizes in octets. May be replaced while the spool is open; `longest_wait` counts at its opening."""

    history: timedelta  # from the end of a message to the deletion of its history
    history_size: int = 2**30  # of all histories; above it the oldest are deleted
    min_free: int = 0  # on the disk, below which no message is stored
    reserve: int = 0  # the file whose space only results of deliveries may use
    longest_wait: timedelta = timedelta(minutes=30)  # between two attempts of one message
    keep_subjects: bool = False  # of messages that arrive from now on
