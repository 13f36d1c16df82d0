"""Timer of the delivery loop: one for the queues of all accounts.

Guarantees: it fires at the earliest of the times that were set since it fired last.
Not here: those times (relay.dispatch), the dispatch of the queues (relay.runner).
"""

import asyncio
import math
from collections.abc import Callable
from typing import Final

_SLACK: Final = 0.001  # seconds that the timer is late, so that the message is due when it fires


class QueueTimer:
    """A timer that can be set to an earlier time."""

    def __init__(self, fire: Callable[[], None]) -> None:
        self._fire = fire
        self._handle: asyncio.TimerHandle | None = None

    def set(self, seconds: float) -> None:
        """Fire in so many seconds, unless it fires earlier."""
        if math.isinf(seconds):
            return
        loop = asyncio.get_running_loop()
        at = loop.time() + seconds + _SLACK
        if self._handle is not None:
            if self._handle.when() <= at:
                return
            self._handle.cancel()
        self._handle = loop.call_at(at, self._fire)

    def cancel(self) -> None:
        """Do not fire, or note that it has fired."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
