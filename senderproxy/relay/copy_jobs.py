"""CopyJobs: the jobs of copies for messages that pass through, stored before the reply to the client.

Guarantees: history, content and job of a message are one commit. If it fails, the copy is lost, with an event in the
history, and the mail is not: the provider has it, and the client hears so.
Not here: which messages get a copy (relay.sent_copies), jobs of queued messages (relay.queue_attempts).
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from senderproxy import log_events
from senderproxy.clock import Clock
from senderproxy.log import event
from senderproxy.mail.submission import Submission
from senderproxy.relay.decide import Decision
from senderproxy.relay.ports import Arrival, Outcomes, Spool, SpoolError
from senderproxy.relay.sent_copies import SPOOL_FAILED, NewCopy, OnCopy, ignore_copy, lost, new_copy
from senderproxy.tracking.record import Event

_log: Final = logging.getLogger("senderproxy.relay")


class CopyJobs:
    """The jobs of one intake. `spool` returns the one in use; `on_copy` is called for each job that is stored."""

    def __init__(self, spool: Callable[[], Spool], clock: Clock) -> None:
        self.on_copy: OnCopy = ignore_copy
        self._spool = spool
        self._clock = clock

    def new(self, submission: Submission, decision: Decision, outcomes: Outcomes) -> NewCopy | None:
        """The copy that the message gets after its attempt."""
        return new_copy(submission, decision, outcomes, self._clock.now()) if decision.is_copied else None

    async def record(self, recorded: Arrival, copy: NewCopy) -> None:
        """Store a message that passed through, with the job of its copy."""
        events = (*recorded.events, copy.event)
        if not copy.jobs:
            self._spool().note(replace(recorded, events=events))
            return
        try:
            await self._spool().accept(replace(recorded, events=events, jobs=copy.jobs))
        except SpoolError as error:
            self._spool().note(replace(recorded, events=(*recorded.events, self.lose(recorded, error))))
        else:
            self.stored(recorded.submission, copy)

    def stored(self, submission: Submission, copy: NewCopy) -> None:
        """The job was stored, with the message."""
        for job in copy.jobs:
            self.on_copy(job.lane, submission.id)

    def lose(self, recorded: Arrival, error: SpoolError) -> Event:
        """Log that there will be no copy; the event for the history."""
        account = recorded.account
        event(_log, log_events.SENT_COPY_LOST, id=recorded.submission.id, account=account, why=error.message)
        return lost(account, SPOOL_FAILED, self._clock.now())
