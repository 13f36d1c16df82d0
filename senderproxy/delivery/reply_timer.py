"""Time limit for the next reply of one session.

Guarantees: one timer at most, however many replies there are: it is restarted only for an earlier deadline; a timer
that is early moves itself.
Not here: the replies and the end of the session (delivery.protocol).
"""

import asyncio
import math
from collections.abc import Callable
from typing import Final

NEVER: Final = math.inf


class ReplyTimer:
    """The limit; `on_timeout` is called with its seconds when it is over."""

    __slots__ = ("_loop", "_on_timeout", "_seconds", "_timer", "deadline")

    def __init__(self, loop: asyncio.AbstractEventLoop, on_timeout: Callable[[float], None]) -> None:
        self._loop = loop
        self._on_timeout = on_timeout
        self._seconds = 0.0
        self.deadline = NEVER  # on the loop's clock; NEVER: the limit does not run. The timer stays for the next one
        self._timer: asyncio.TimerHandle | None = None

    def start(self, seconds: float) -> None:
        """Start the limit anew, from now."""
        self._seconds, self.deadline = seconds, self._loop.time() + seconds
        if self._timer is None or self.deadline < self._timer.when():
            self._set_timer()

    def close(self) -> None:
        """End the limit and the timer for good, and forget the function: it refers to the session."""
        self.deadline = NEVER
        self._on_timeout = _ignore
        if self._timer is not None:
            self._timer.cancel()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self.deadline, self._check)

    def _check(self) -> None:
        self._timer = None
        if self.deadline <= self._loop.time():
            self._on_timeout(self._seconds)
        elif self.deadline != NEVER:
            self._set_timer()


def _ignore(_: float) -> None:
    """Nothing waits any more."""
