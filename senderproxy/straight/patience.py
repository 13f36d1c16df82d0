"""Time limits of all messages on the straight path, with one timer.

Guarantees: `on_over` of a message is called once its limit is over, unless it was removed before. Adding a message
starts a timer only if no limit ends sooner, which is the case for the first of many.
Not here: what happens then (straight.message).
"""

import asyncio
from typing import Final, Protocol

_NEVER: Final = float("inf")


class Patient(Protocol):
    """A message with a limit."""

    def on_over(self) -> None:
        """Its time is over."""
        ...


class PatienceSweeper:
    """The limits, on the clock of the event loop."""

    def __init__(self) -> None:
        self._due: dict[Patient, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, message: Patient, seconds: float) -> None:
        """Limit a message to so many seconds from now."""
        loop = asyncio.get_running_loop()
        self._due[message] = due = loop.time() + seconds
        if self._timer is None or due < self._timer.when():
            self._set_timer(loop, due)

    def remove(self, message: Patient) -> None:
        """End the limit of a message; without effect for one that has none."""
        self._due.pop(message, None)

    def _set_timer(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(due, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        for message in [message for message, due in self._due.items() if due <= now]:
            if self._due.pop(message, None) is not None:
                message.on_over()
        if (earliest := min(self._due.values(), default=_NEVER)) != _NEVER and self._timer is None:
            self._set_timer(loop, earliest)
