"""Detection of steps of the machine's clock. PURE.

Guarantees: a step of a minute or more is returned once, with its size, so that all due times can be moved by it. For
ten minutes after the start and after each step, ages are not trusted: no message expires in that time.
Not here: the move of the due times (spool.sqlite.spool_time).
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

_STEP: Final = 60.0  # seconds of difference to the monotonic clock; NTP slews smaller errors
_UNTRUSTED: Final = 600.0  # seconds after the start or a step without trust in ages: NTP may set the clock again


class ClockStep:
    """Difference between the wall clock and the monotonic clock."""

    def __init__(self) -> None:
        self._difference = timedelta()
        self._trusted_from = 0.0  # monotonic

    def start(self, now: datetime, monotonic: float) -> None:
        """Take the clocks as they are. `monotonic` is in seconds."""
        self._difference = timedelta(seconds=now.timestamp() - monotonic)
        self._trusted_from = monotonic + _UNTRUSTED

    def detect(self, now: datetime, monotonic: float) -> timedelta | None:
        """The step since the last call or since the start; None if there was none."""
        difference = timedelta(seconds=now.timestamp() - monotonic)
        step = difference - self._difference
        if abs(step.total_seconds()) < _STEP:
            return None
        self._difference = difference
        self._trusted_from = monotonic + _UNTRUSTED
        return step

    def ages_trusted(self, monotonic: float) -> bool:
        """True if the clock has been right for long enough to let messages expire."""
        return monotonic >= self._trusted_from


def step_while_stopped(waits: Iterable[timedelta], longest: timedelta) -> timedelta | None:
    """The step if the clock was set back while the service did not run; None if the waits are plausible.

    A wait is never longer than the longest one of the settings; if even the shortest is, the messages would wait for
    years.
    """
    shortest = min(waits, default=None)
    if shortest is None or shortest <= 2 * max(longest, timedelta(hours=1)):
        return None
    return -shortest
