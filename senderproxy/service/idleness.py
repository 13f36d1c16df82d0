"""Time of the report that the service became idle. PURE.

Guarantees: one report after each time of activity, and none after single events such as a monitor's `status`.
Not here: the events (service.loop_monitor), the use of the report (control.interpreter).
"""

from collections.abc import Callable
from typing import Final

_ACTIVITY: Final = 20  # passes because of a socket between two quiet times; one message causes more, `status` five
_IDLE: Final = 30.0  # seconds since the last activity until the report: memory freed in a short pause is used again


class Idleness:
    """Counts the passes of an event loop between its quiet times."""

    def __init__(self, report: Callable[[], None], seconds: float = _IDLE) -> None:
        """`report` is called `seconds` after the end of each time of activity."""
        self._report = report
        self._seconds = seconds
        self._passes = 0  # because of a socket, until the last quiet time
        self._due: float | None = None  # monotonic seconds; None: no activity since the last report

    def quiet(self, passes: int, now: float) -> float | None:
        """A quiet time begins after so many passes. The seconds until the report is due; None: there is none."""
        if passes - self._passes >= _ACTIVITY:
            self._due = now + self._seconds
        self._passes = passes
        return None if self._due is None else max(0.0, self._due - now)

    def report(self) -> None:
        """Report, since the quiet time lasted so long."""
        self._due = None
        self._report()
