"""Time of the spool: the machine's clock, with all due times moved when it is set.

Guarantees: after a step of the clock, every unfinished message keeps the time left to its next attempt, and its age. No
age is returned while it is uncertain.
Not here: detection of a step (spool.sqlite.clock_step), the statements (spool.sqlite.statements).
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from senderproxy import log_events
from senderproxy.aio import wait_done
from senderproxy.clock import Clock
from senderproxy.log import event
from senderproxy.relay.ports import SpoolError
from senderproxy.spool.sqlite import rows, statements
from senderproxy.spool.sqlite.clock_step import ClockStep
from senderproxy.spool.sqlite.leases import Leases
from senderproxy.spool.sqlite.writer import WriteJob, Writer

_log = logging.getLogger("senderproxy.spool")


class SpoolTime:
    """The clock of one spool. `on_step` is called when the due times have been moved."""

    def __init__(self, clock: Clock, writer: Writer, leases: Leases) -> None:
        self.on_step: Callable[[], None] = lambda: None
        self.last_step: tuple[timedelta, datetime] | None = None  # its size and time
        self._clock = clock
        self._writer = writer
        self._leases = leases
        self._step = ClockStep()
        self._step.start(clock.now(), clock.monotonic())
        self._moving: asyncio.Task[None] | None = None

    async def now(self) -> int:
        """Milliseconds since 1970, after a move of the due times if the clock was set.

        The caller must not wait before it submits its job: one that is submitted before the step is moved with it, one
        that is submitted afterwards is not.
        """
        while moving := self._check():
            await wait_done(moving)
        return rows.to_ms(self._clock.now())

    def _check(self) -> "asyncio.Task[None] | None":
        """Look for a step of the clock; the task that moves the due times, if one is running."""
        step = self._step.detect(self._clock.now(), self._clock.monotonic())
        if step is not None:
            self.last_step = step, self._clock.now()
            event(_log, log_events.CLOCK_STEPPED, seconds=step.total_seconds())
            by = rows.span_ms(step)
            job = WriteJob(run=lambda connection: statements.shift(connection, self._leases, by))
            self._moving = asyncio.create_task(self._finish(self._writer.submit(job)))
        elif self._moving is not None and self._moving.done():
            self._moving = None
        return self._moving

    async def _finish(self, moved: "asyncio.Future[None]") -> None:
        try:
            await moved
        except SpoolError as error:
            event(_log, log_events.CLOCK_SHIFT_FAILED, why=error.message)
        self.on_step()

    def age(self, received_at: int) -> timedelta | None:
        """The age of a message, from milliseconds since 1970; None while ages are uncertain."""
        self._check()
        if not self.ages_trusted():
            return None
        return timedelta(milliseconds=rows.to_ms(self._clock.now()) - received_at)

    def ages_trusted(self) -> bool:
        """True if the clock has been right for long enough to let messages expire."""
        return self._step.ages_trusted(self._clock.monotonic())
