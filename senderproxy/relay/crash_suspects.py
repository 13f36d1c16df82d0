"""Retry of the messages that were in progress when the previous process crashed.

Guarantees: the messages are attempted one by one, before all others, so that a message that crashes the process again
is the only one in progress then; it is held after the third time. A message whose attempt ends is cleared. The others
wait for ten seconds at most: an attempt that hangs because of its provider is not the cause.
Not here: the list of attempts in progress (ports.CrashJournal), the count of errors (relay.queue_attempts).
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Final

from senderproxy import log_events
from senderproxy.aio import wait_done
from senderproxy.clock import Clock
from senderproxy.log import event
from senderproxy.relay.account_availability import AccountAvailability
from senderproxy.relay.dispatch import LaneQueues
from senderproxy.relay.ports import Claim, CrashJournal, Spool, SpoolError, SpoolUpdate
from senderproxy.relay.queue_attempts import QueueAttempts
from senderproxy.relay.settling import ResultWriter
from senderproxy.tracking.record import Lane, RecipientStatus

_log = logging.getLogger("senderproxy.relay")

_CRASH: Final = "senderproxy itself crashed"
_TOTAL: Final = 10.0  # seconds for all suspects; other messages wait meanwhile
_EACH: Final = 2.0  # seconds until the next suspect is started


class CrashSuspects:
    """The suspects of one start; `is_active` until all have been tried, or the time is over."""

    def __init__(
        self,
        journal: CrashJournal,
        spool: Callable[[], Spool],
        clock: Clock,
        queues: LaneQueues,
        availability: AccountAvailability,
        attempts: QueueAttempts,
        results: ResultWriter,
        start_attempt: Callable[[Claim], "asyncio.Task[None]"],
        resume: Callable[[], None],
    ) -> None:
        """`start_attempt` starts the attempt of a leased message; `resume` is called when other messages may go."""
        self._journal = journal
        self._spool = spool
        self._clock = clock
        self._queues = queues
        self._availability = availability
        self._attempts = attempts
        self._results = results
        self._start_attempt = start_attempt
        self._resume = resume
        self._is_stopped = False
        self.is_active = False

    def retry(self) -> "Coroutine[object, object, None] | None":
        """The retry of the suspects in the journal, to be run as a task; None if there are none."""
        message_ids = self._journal.take_suspects()
        if not message_ids:
            return None
        self.is_active, self._is_stopped = True, False
        return self._retry(message_ids)

    def stop(self) -> None:
        """Start no more attempts."""
        self._is_stopped = True

    async def _retry(self, message_ids: Sequence[str]) -> None:
        """Count the crash for each message, then attempt them one by one, those with the fewest crashes first."""
        event(_log, log_events.CRASH_SUSPECTS_RETRIED, messages=len(message_ids))
        try:
            suspects: list[Claim] = []
            for message_id in message_ids:  # one by one, so that an error leaves no lease behind
                claim = await self._claim(message_id)
                if claim is not None:
                    await self._results.write(claim, self._attempts.after_internal_error(claim, _CRASH))
                    suspects.append(claim)
            end = self._clock.monotonic() + _TOTAL
            for suspect in sorted(suspects, key=lambda claim: claim.faults):
                if self._is_stopped or self._clock.monotonic() >= end:
                    break
                claim = await self._claim(suspect.submission.id)
                if claim is not None:
                    await wait_done(self._start_attempt(claim), _EACH)
        except SpoolError as error:
            event(_log, log_events.QUEUE_READ_FAILED, why=error.message, hint=error.hint)
        finally:
            self.is_active = False
            self._resume()

    async def _claim(self, message_id: str) -> Claim | None:
        """The message with its waiting recipients; None if none waits, they are in several lanes, or cannot be sent."""
        claim = await self._spool().claim_one(message_id)
        if claim is None:
            return None
        waiting = {path: state for path, state in claim.due.items() if state.status is RecipientStatus.WAITING}
        if waiting and claim.lane is not None and self._can_send(claim.lane):
            return replace(claim, due=waiting)
        await self._spool().settle(claim, SpoolUpdate({}, faults=claim.faults))
        return None

    def _can_send(self, lane: Lane) -> bool:
        return self._availability.connections(self._queues.get(lane)) != 0
