"""EventLimiter: log events that a client can cause at will, without a line for each.

Guarantees: of equal events, the first is logged at once; the others within the next minute are counted, and logged as
one line with their number when the minute is over. Memory is bounded. No timer runs while there is nothing to count.
Not here: the list of events (log_events), their output (log).
"""

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Final

from senderproxy.log import event
from senderproxy.log_events import LogEvent

_log = logging.getLogger("senderproxy.listener")

_PERIOD: Final = 60.0  # seconds in which equal events are counted: a flood is still seen to go on
_MAX_EVENTS: Final = 1_000  # different ones at once; with more, the oldest is logged before its minute is over


@dataclass(slots=True)
class _Counted:
    kind: LogEvent
    due: float  # in the event loop's time
    fields: dict[str, object] = field(default_factory=dict)
    repeated: int = 0


class EventLimiter:
    """Counter of equal events: those with the same key and the same fields. `period`: seconds in which they count."""

    def __init__(self, period: float = _PERIOD) -> None:
        self._period = period
        self._counted: dict[tuple[str, ...], _Counted] = {}  # the one that is due first is the first
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """The number of different events in memory."""
        return len(self._counted)

    def log(self, kind: LogEvent, **fields: object) -> None:
        """Log the event, or count it where an equal one was logged within the last minute."""
        key = (kind.key, *map(str, fields.values()))
        if (counted := self._counted.get(key)) is not None:
            counted.repeated += 1
            return
        if len(self._counted) >= _MAX_EVENTS:
            self._end(next(iter(self._counted)))
        loop = asyncio.get_running_loop()
        self._counted[key] = _Counted(kind, loop.time() + self._period, fields)
        if self._timer is None:
            self._timer = loop.call_later(self._period, self._end_due)
        event(_log, kind, fault=None, **fields)

    def flush(self) -> None:
        """Log all that was counted, and forget it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for key in list(self._counted):
            self._end(key)

    def _end_due(self) -> None:
        """End the minutes that are over, and wait for the next one."""
        self._timer = None
        loop = asyncio.get_running_loop()
        for key, counted in list(self._counted.items()):
            if counted.due > loop.time():
                self._timer = loop.call_at(counted.due, self._end_due)
                return
            self._end(key)

    def _end(self, key: tuple[str, ...]) -> None:
        counted = self._counted.pop(key)
        if counted.repeated:
            event(_log, counted.kind, fault=None, **counted.fields, repeated=counted.repeated)
