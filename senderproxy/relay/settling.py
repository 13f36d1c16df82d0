"""Writing of attempts' results to the spool.

Guarantees: the result of an attempt is written before anything else is done with the message, however long the disk
takes. While a result cannot be written, no new attempt is started: after a restart, a message without a written result
is sent again. A result that the spool refuses for a reason of its own, not of the disk, stops no other message: after
three tries its message is held.
Not here: what the result is (relay.queue_attempts), the commit (spool).
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from senderproxy import log_events
from senderproxy.clock import Clock
from senderproxy.log import event
from senderproxy.relay.ports import Claim, Spool, SpoolError, SpoolRejected, SpoolUpdate
from senderproxy.relay.recipient_updates import shortest_wait
from senderproxy.relay.sent_copies import OnCopy, ignore_copy
from senderproxy.tracking.record import Event, EventKind, Lane, RecipientStatus

_log = logging.getLogger("senderproxy.relay")

_RETRY: Final = 5.0  # seconds between two tries to write
_REJECTIONS: Final = 3  # times in a row that the spool refuses one result until its message is held
_ABANDONED: Final = 3  # messages that cannot even be held, until no attempt is started any more
_RESULTS: Final = 5  # recipients in the reason of a held message
_REMINDER: Final = 60.0  # seconds between two log lines while the spool cannot be written


class ResultWriter:
    """Writes results, and remembers those that the spool has not taken."""

    def __init__(
        self,
        spool: Callable[[], Spool],
        clock: Clock,
        note_due: Callable[[Lane, float], None],
        resume: Callable[[], None],
    ) -> None:
        """Arguments are functions of the runner.

        `note_due`: called with a lane and the due time of its next message, in monotonic seconds; `resume`: called
        when all results are written.
        """
        self._spool = spool
        self._clock = clock
        self._note_due = note_due
        self._resume = resume
        self.on_copy: OnCopy = ignore_copy
        self._unwritten: set[str] = set()  # ids of messages
        self._abandoned = 0  # messages that stay leased
        self._reminded_at = 0.0  # monotonic

    @property
    def is_blocked(self) -> bool:
        """True while a result cannot be written: no attempt may be started."""
        return bool(self._unwritten)

    async def write(self, claim: Claim, update: SpoolUpdate) -> None:
        """Write the update and end the lease; retried until the spool takes it."""
        started: float | None = self._clock.monotonic()
        try:
            await self._spool().settle(claim, update)
        except Exception as error:  # noqa: BLE001  any error of one result must not stop the others
            started = await self._retry(claim, update, error)
        if started is None:
            return
        for job in update.jobs:
            self.on_copy(job.lane, claim.submission.id)
        wait = shortest_wait(update.states)
        if wait is not None:
            lane = Lane.of_account(update.account or claim.account)
            if update.account is None and claim.lane is not None:
                lane = claim.lane
            self._note_due(lane, started + wait)
        for lane in update.lanes.values():
            self._note_due(lane, started)
        for report in update.reports:
            report_wait = shortest_wait(report.states)
            if report_wait is not None:
                self._note_due(Lane.of_account(report.account), started + report_wait)

    async def _retry(self, claim: Claim, update: SpoolUpdate, error: Exception) -> float | None:
        """The start of the try that wrote the update, in monotonic seconds; None if it is given up.

        Logged once, and once a minute for all updates.
        """
        message_id = claim.submission.id
        event(_log, log_events.SPOOL_WRITE_FAILED, id=message_id, why=_words(error), hint=getattr(error, "hint", ""))
        self._unwritten.add(message_id)
        try:
            rejections = 0
            while True:
                rejections = rejections + 1 if _is_rejected(error) else 0
                if rejections >= _REJECTIONS and await self._hold(claim, update, error):
                    return None
                await asyncio.sleep(_RETRY)
                started = self._clock.monotonic()
                try:
                    await self._spool().settle(claim, update)
                    break
                except Exception as still:  # noqa: BLE001  as above
                    self._remind(still)
                    error = still
            event(_log, log_events.SPOOL_WRITE_RESUMED, id=message_id)
            return started
        finally:
            self._unwritten.discard(message_id)
            if not self._unwritten:
                self._resume()

    async def _hold(self, claim: Claim, update: SpoolUpdate, error: Exception) -> bool:
        """Hold a message with a refused result; True if it does not block the others any more.

        If that is refused too, the message stays leased until the service stops. Only a few may: if every result is
        refused, the spool as a whole is damaged, and nothing more may be sent.
        """
        message_id = claim.submission.id
        why = _why_held(update, error)
        states = {path: replace(s, status=RecipientStatus.HELD, due_in=None, why=why) for path, s in claim.due.items()}
        held = SpoolUpdate(states, [Event(self._clock.now(), EventKind.HELD, (), {"why": why})], faults=claim.faults)
        try:
            await self._spool().settle(claim, held)
        except Exception as refused:  # noqa: BLE001  as above
            if not _is_rejected(refused) or self._abandoned >= _ABANDONED:
                return False
            self._abandoned += 1
            event(_log, log_events.RESULT_ABANDONED, id=message_id, why=why)
            return True
        event(_log, log_events.RESULT_REFUSED, id=message_id, why=why)
        return True

    def _remind(self, error: Exception) -> None:
        now = self._clock.monotonic()
        if now - self._reminded_at >= _REMINDER:
            self._reminded_at = now
            count = len(self._unwritten)
            hint = getattr(error, "hint", "")
            event(_log, log_events.SPOOL_WRITE_FAILED, messages=count, why=_words(error), hint=hint)


def _is_rejected(error: Exception) -> bool:
    """True if this update alone is refused; False for trouble of the disk."""
    return isinstance(error, SpoolRejected) or not isinstance(error, SpoolError)


def _words(error: Exception) -> str:
    return error.message if isinstance(error, SpoolError) else f"{type(error).__name__}: {error}"


def _why_held(update: SpoolUpdate, error: Exception) -> str:
    """The reason for the operator: the error, and the result of the attempt, recorded nowhere else."""
    results = [f"{path} {state.status.value}" for path, state in update.states.items()]
    if len(results) > _RESULTS:
        results[_RESULTS:] = [f"and {len(results) - _RESULTS} more"]
    return f"the spool refuses the result of the last attempt ({_words(error)}): {', '.join(results) or 'no change'}"
