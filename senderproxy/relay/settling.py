"""Writing of attempts' results to the spool.

Guarantees: the result of an attempt is written before anything else is done with the message, however long the disk
takes. While a result cannot be written, no new attempt is started: after a restart, a message without a written result
is sent again.
Not here: what the result is (relay.queue_attempts), the commit (spool).
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Final

from senderproxy import log_events
from senderproxy.aio import wait_done
from senderproxy.clock import Clock
from senderproxy.log import event
from senderproxy.relay.clock_watch import ClockWatch
from senderproxy.relay.ports import Claim, Spool, SpoolError, SpoolUpdate
from senderproxy.relay.recipient_updates import earliest_due

_log = logging.getLogger("senderproxy.relay")

_RETRY: Final = 5.0  # seconds between two tries to write
_REMINDER: Final = 60.0  # seconds between two log lines while the spool cannot be written


class ResultWriter:
    """Writes results, and remembers those that the spool has not taken."""

    def __init__(
        self,
        spool: Callable[[], Spool],
        clock: Clock,
        clock_watch: ClockWatch,
        note_due: Callable[[str, datetime], None],
        resume: Callable[[], None],
    ) -> None:
        """`note_due` is called with an account and a new due time; `resume`, when all results are written."""
        self._spool = spool
        self._clock = clock
        self._clock_watch = clock_watch
        self._note_due = note_due
        self._resume = resume
        self._unwritten: set[str] = set()  # ids of messages
        self._reminded_at = 0.0  # monotonic

    @property
    def is_blocked(self) -> bool:
        """True while a result cannot be written: no attempt may be started."""
        return bool(self._unwritten)

    async def write(self, claim: Claim, update: SpoolUpdate) -> None:
        """Write the update and end the lease; retried until the spool takes it."""
        if shifting := self._clock_watch.check():
            await wait_done(shifting)
        try:
            await self._spool().settle(claim, update)
        except SpoolError as error:
            await self._retry(claim, update, error)
        due_at = earliest_due(update.states)
        if due_at is not None:
            self._note_due(update.account or claim.account, due_at)
        for report in update.reports:
            report_due_at = earliest_due(report.states)
            if report_due_at is not None:
                self._note_due(report.account, report_due_at)

    async def _retry(self, claim: Claim, update: SpoolUpdate, error: SpoolError) -> None:
        """Logged once for the message, and once a minute for all unwritten messages."""
        message_id = claim.submission.id
        event(_log, log_events.SPOOL_WRITE_FAILED, id=message_id, why=error.message, hint=error.hint)
        self._unwritten.add(message_id)
        try:
            while True:
                await asyncio.sleep(_RETRY)
                try:
                    await self._spool().settle(claim, update)
                    break
                except SpoolError as still:
                    self._remind(still)
        finally:
            self._unwritten.discard(message_id)
        event(_log, log_events.SPOOL_WRITE_RESUMED, id=message_id)
        if not self._unwritten:
            self._resume()

    def _remind(self, error: SpoolError) -> None:
        now = self._clock.monotonic()
        if now - self._reminded_at >= _REMINDER:
            self._reminded_at = now
            count = len(self._unwritten)
            event(_log, log_events.SPOOL_WRITE_FAILED, messages=count, why=error.message, hint=error.hint)
