"""Statistics of the passes of the event loop that took too long. PURE.

Guarantees: the maximum and the count cover every pass that was recorded; a line of the log is due at most once a
minute, and the next one says how many blocks had none.
Not here: the measurement (service.loop_monitor).
"""

import math
from typing import Final

BLOCKED_SECONDS: Final = 0.1  # a longer pass of the loop is a block: clients notice the delay
_LINE_INTERVAL: Final = 60.0  # seconds between two lines of the log


class LoopLag:
    """The longest pass of the event loop, and the blocks, since the start."""

    def __init__(self) -> None:
        self.maximum = 0.0  # seconds; the longest pass
        self.blocks = 0  # passes longer than BLOCKED_SECONDS
        self._unlogged = 0  # blocks without a line since the last line
        self._line_due = -math.inf  # monotonic seconds

    def record(self, seconds: float) -> bool:
        """Record a pass of the loop; True if it is a block."""
        self.maximum = max(self.maximum, seconds)
        blocked = seconds > BLOCKED_SECONDS
        self.blocks += blocked
        return blocked

    def take_line(self, now: float) -> int | None:
        """Return the number of blocks without a line so far if a line is due at `now`; else count one, and None."""
        if now < self._line_due:
            self._unlogged += 1
            return None
        unlogged, self._unlogged = self._unlogged, 0
        self._line_due = now + _LINE_INTERVAL
        return unlogged
