"""Move of all due times after a step of the wall clock.

Guarantees: after a step, every queued message keeps the time left to its next attempt, in memory and in the spool.
Not here: detection of the step, and when ages may be trusted (relay.clock_step).
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from datetime import timedelta

from senderproxy import log_events
from senderproxy.clock import Clock
from senderproxy.log import event
from senderproxy.relay.clock_step import ClockStep
from senderproxy.relay.dispatch import AccountQueues
from senderproxy.relay.ports import Spool, SpoolError

_log = logging.getLogger("senderproxy.relay")


class ClockWatch:
    """Checks the clock and moves due times; does nothing before `start` and after `stop`."""

    def __init__(
        self,
        clock: Clock,
        spool: Callable[[], Spool],
        queues: AccountQueues,
        spawn: Callable[[Coroutine[object, object, None]], "asyncio.Task[None]"],
        on_shifted: Callable[[], None],
    ) -> None:
        """`spawn` runs the move in the spool as a task; `on_shifted` is called when the due times are moved."""
        self._clock = clock
        self._spool = spool
        self._queues = queues
        self._spawn = spawn
        self._on_shifted = on_shifted
        self._step = ClockStep()
        self._shifting: asyncio.Task[None] | None = None
        self._is_stopped = True

    def start(self) -> None:
        """Take the clock as it is."""
        self._step.start(self._clock.now(), self._clock.monotonic())
        self._is_stopped = False

    def stop(self) -> None:
        """Move no more due times."""
        self._is_stopped = True

    def check(self) -> "asyncio.Task[None] | None":
        """See ports.Dispatcher.check_clock."""
        if not self._is_stopped:
            step = self._step.detect(self._clock.now(), self._clock.monotonic())
            if step is not None:
                self._queues.shift(step)
                self._shifting = self._spawn(self.shift(step))
        if self._shifting is not None and self._shifting.done():
            self._shifting = None
        return self._shifting

    async def shift(self, step: timedelta) -> None:
        """Move the due times in the spool."""
        event(_log, log_events.CLOCK_STEPPED, seconds=step.total_seconds())
        try:
            await self._spool().shift(step)
        except SpoolError as error:
            event(_log, log_events.CLOCK_SHIFT_FAILED, why=error.message)
        self._on_shifted()

    def ages_trusted(self) -> bool:
        """True if the clock has been right for long enough to let messages expire."""
        return self._step.ages_trusted(self._clock.monotonic())
