"""Counts of an hour: how often something happened, in all or for each of many keys. PURE.

Guarantees: memory is bounded, whatever is counted: of more keys than the limit, the one counted longest ago is dropped.
An hour is counted in parts of a minute, so what is older than 61 minutes never counts.
Not here: the clock; times are in seconds of a monotonic clock.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

_HOUR: Final = 3600.0  # seconds
_PART: Final = 60.0  # seconds that are counted together, so at most 61 counts are stored
KEYS_LIMIT: Final = 500  # keys; more than an operator reads, and below 1 MB
_DETAIL: Final = 500  # characters of a detail: a reply


@dataclass(slots=True)
class RecentCount:
    """The count of one key in the last hour."""

    detail: str = ""  # of the last time
    _parts: deque[tuple[float, int]] = field(default_factory=deque)  # the time of the first one in it, number

    def add(self, number: int, now: float) -> None:
        """Count so many."""
        if self._parts and now - self._parts[-1][0] < _PART:
            first, before = self._parts.pop()
            self._parts.append((first, before + number))
        else:
            self._parts.append((now, number))
        self._expire(now)

    def total(self, now: float) -> int:
        """The number in the last hour."""
        self._expire(now)
        return sum(number for _first, number in self._parts)

    def first_at(self, now: float) -> float:
        """The time of the first one in the last hour; `now` without one."""
        self._expire(now)
        return self._parts[0][0] if self._parts else now

    def _expire(self, now: float) -> None:
        while self._parts and now - self._parts[0][0] > _HOUR:
            self._parts.popleft()


class RecentCounts:
    """The counts of many keys in the last hour, each with a detail of the last time."""

    def __init__(self) -> None:
        self.changes = 0  # calls of `add` so far: a cheap sign of something new
        self._counts: dict[tuple[str, ...], RecentCount] = {}  # the one that was counted last is the last one

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, key: tuple[str, ...], detail: str, now: float, number: int = 1) -> None:
        """Count so many for the key."""
        self.changes += 1
        count = self._counts.pop(key, None) or RecentCount()
        if len(self._counts) >= KEYS_LIMIT:
            del self._counts[next(iter(self._counts))]
        self._counts[key] = count
        count.detail = detail[:_DETAIL]
        count.add(number, now)

    def entries(self, now: float) -> Iterator[tuple[tuple[str, ...], RecentCount]]:
        """The keys that were counted in the last hour, and their counts. Others are forgotten."""
        for key, count in list(self._counts.items()):
            if count.total(now):
                yield key, count
            else:
                del self._counts[key]
