"""Acceptance of complete messages: pass-through to the upstream server, or the spool.

Guarantees: 250 is the reply only if the upstream accepted the message for every recipient, or if the recipients it
deferred are in the spool and those it refused are reported; if all are accepted, pass-through writes nothing to disk
before the reply. A refusal that is known before the upstream is asked is returned at once. A client that disconnects
never interrupts an upstream transaction after the final dot.
Not here: reception (listener), one attempt (relay.attempt), the meaning of outcomes (relay.recipient_updates), attempts
of queued messages (relay.runner).
RFC 5321 sections 4.1.1.4, 4.2.5 and 6.1.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Final

from senderproxy import log_events
from senderproxy.aio import wait_done
from senderproxy.clock import Clock
from senderproxy.log import event
from senderproxy.log_events import LogEvent
from senderproxy.mail.address import ForwardPath
from senderproxy.mail.reply import Reply, reply
from senderproxy.mail.submission import Submission
from senderproxy.recent_counts import RecentCounts
from senderproxy.relay import recipient_updates, tracking_events
from senderproxy.relay.answer_log import log_answer, observe_answer
from senderproxy.relay.attempt import MessageRelay
from senderproxy.relay.copy_jobs import CopyJobs
from senderproxy.relay.decide import Decision
from senderproxy.relay.decision_thread import TooManyDecisions, has_large_header
from senderproxy.relay.dsn_queueing import ReportBuilder, ReportedMessage
from senderproxy.relay.expensive_decisions import ExpensiveDecisions
from senderproxy.relay.loop_guard import LimitedPair, LoopGuard, OverLimit, is_automatic_response, is_report_or_journal
from senderproxy.relay.ports import (
    NO_ACCOUNT,
    Arrival,
    Dispatcher,
    IntakeObserver,
    Outcomes,
    Spool,
    SpoolError,
    SpoolFull,
)
from senderproxy.relay.recipient_updates import OnDeferral
from senderproxy.relay.repeated_refusals import RepeatedRefusals
from senderproxy.relay.ways import lanes_of
from senderproxy.rewriting.plan import Discard
from senderproxy.routing.route import Refusal
from senderproxy.tracking.record import Event, EventKind, RecipientState, RecipientStatus

_log = logging.getLogger("senderproxy.relay")

_TOO_MANY_DECISIONS: Final = reply(
    451, "4.3.2", "Too many messages with large header sections at the same time; try again later"
)


class Mode(Enum):
    """Relay mode of a listener."""

    PASS_THROUGH = "pass-through"
    QUEUE = "queue"


@dataclass(frozen=True, slots=True)
class Handling:
    """Relay settings of a listener."""

    mode: Mode = Mode.PASS_THROUGH
    on_deferral: OnDeferral = OnDeferral.DEFER
    timeout: float = 240.0  # seconds; a pass-through attempt that takes longer goes on with the message queued

    @property
    def queues_deferrals(self) -> bool:
        """True if a deferred message is queued here, not left to the client."""
        return self.mode is Mode.QUEUE or self.on_deferral is OnDeferral.QUEUE


class RelayIntake:
    """relay.ports.Intake. `handling`, by listener name, `spool` and `observer` may be replaced at any time."""

    def __init__(
        self,
        relay: MessageRelay,
        spool: Spool,
        dispatcher: Dispatcher,
        report_builder: ReportBuilder,
        clock: Clock,
        handling: Mapping[str, Handling],
    ) -> None:
        self.handling = handling
        self.spool = spool
        self._relay = relay
        self._dispatcher = dispatcher
        self._reports = report_builder
        self._clock = clock
        self.loop_guard = LoopGuard()
        self.observer: IntakeObserver | None = None
        self.copies = CopyJobs(lambda: self.spool, clock)
        self._refusals = RepeatedRefusals(clock)
        self._expensive = ExpensiveDecisions()

    async def accept(self, submission: Submission) -> Reply:
        """Decide, then pass the message through or queue it; the reply to the client's final dot."""
        started = self._clock.monotonic()
        handling = self.handling[submission.listener]
        if has_large_header(submission):
            try:
                decision = await self._relay.decide_large(submission)
            except TooManyDecisions:
                return self._defer_undecided(submission, started)
        else:
            if self._expensive:
                await self._expensive.wait(submission.client.host)
            decision = self._decide_now(submission)
        limit = self._check_loop(submission, decision)
        if limit is not None and isinstance(decision, Decision):
            if limit.wait is None or not handling.queues_deferrals:
                decision = Refusal(limit.reply, limit.hint).explained
            else:
                return await self._queue_over_limit(submission, decision, limit, started)
        if isinstance(decision, Decision):
            if handling.mode is Mode.QUEUE:
                answer, kind = await self._queue(submission, decision), log_events.MESSAGE_QUEUED
            else:
                answer, kind = await self._pass_through(submission, decision, handling)
        elif isinstance(decision, Refusal) and decision.reply.is_transient and handling.queues_deferrals:
            answer, kind = await self._queue(submission, decision), log_events.MESSAGE_QUEUED
        else:
            answer, kind = decision.reply, log_events.MESSAGE_DISCARDED
            if self._refusals.is_repeated(submission, answer):
                observe_answer(self.observer, submission, decision, answer, kind, self._clock.monotonic() - started)
                return answer
            self.spool.note(_refused(submission, decision, self._clock.now()))
        if answer.is_transient and isinstance(decision, Decision):
            self._uncount(submission, decision)
        log_answer(self.observer, submission, decision, answer, kind, self._clock.monotonic() - started)
        return answer

    def decide_at_once(self, submission: Submission) -> Decision | Refusal | Discard | None:
        """The decision of `accept`; None if it has to wait."""
        return None if self._expensive or has_large_header(submission) else self._decide_now(submission)

    def delivered(
        self, submission: Submission, decision: Decision, handling: Handling, outcomes: Outcomes, seconds: float
    ) -> Reply:
        """The end of `accept` after an attempt of so many seconds that every recipient's server accepted."""
        attempted = self._attempted(decision, outcomes, seconds)
        answer = recipient_updates.client_reply(outcomes, submission.id, handling.on_deferral)
        assert answer is not None
        self.spool.note(_history(submission, decision, recipient_updates.pass_through_states(outcomes), attempted))
        log_answer(self.observer, submission, decision, answer, log_events.MESSAGE_DELIVERED, seconds)
        return answer

    async def queue_decided(self, submission: Submission, decision: Decision, started: float) -> Reply:
        """The end of `accept` in queue mode, for a message that is no automatic one."""
        answer = await self._queue(submission, decision)
        seconds = self._clock.monotonic() - started
        log_answer(self.observer, submission, decision, answer, log_events.MESSAGE_QUEUED, seconds)
        return answer

    async def continue_attempt(
        self, submission: Submission, decision: Decision, handling: Handling, started: float
    ) -> Reply:
        """The end of `accept` with an attempt in progress: the courier goes on with it."""
        answer, kind = await self._pass_through(submission, decision, handling, started)
        log_answer(self.observer, submission, decision, answer, kind, self._clock.monotonic() - started)
        return answer

    def _decide_now(self, submission: Submission) -> Decision | Refusal | Discard:
        began = self._clock.monotonic()
        decision = self._relay.decide(submission)
        self._expensive.decided(submission.client.host, self._clock.monotonic() - began)
        return decision

    @property
    def refusals(self) -> RecentCounts:
        """The refusals of the last hour, by client, reverse-path and reply."""
        return self._refusals.last_hour

    def forget_old(self) -> None:
        """Free the memory of automatic responses that no longer count."""
        self.loop_guard.expire(self._clock.monotonic())

    def _uncount(self, submission: Submission, decision: Decision) -> None:
        """Undo the loop guard's count: the client will submit the message again."""
        if is_automatic_response(submission.envelope.reverse_path, submission.message.header):
            self.loop_guard.uncount(decision.route.author, submission.envelope.recipients)

    def _defer_undecided(self, submission: Submission, started: float) -> Reply:
        """The 451 to a message without a decision; it is not queued: the decision would only wait elsewhere."""
        refusal = Refusal(_TOO_MANY_DECISIONS)
        answer, kind, seconds = refusal.reply, log_events.MESSAGE_DEFERRED, self._clock.monotonic() - started
        if not self._refusals.is_repeated(submission, answer):
            self.spool.note(_refused(submission, refusal, self._clock.now()))
            log_answer(self.observer, submission, refusal, answer, kind, seconds)
        else:
            observe_answer(self.observer, submission, refusal, answer, kind, seconds)
        return answer

    def _check_loop(self, submission: Submission, decision: Decision | Refusal | Discard) -> OverLimit | None:
        """The loop guard's limit, if this is an automatic response above it."""
        path, header = submission.envelope.reverse_path, submission.message.header
        if not isinstance(decision, Decision) or not is_automatic_response(path, header):
            return None
        per_hour = self._relay.rules.senders.automatic_per_hour
        author, recipients = decision.route.author, submission.envelope.recipients
        can_wait = is_report_or_journal(header)
        return self.loop_guard.check(author, recipients, per_hour, self._clock.monotonic(), can_wait=can_wait)

    def limited_pairs(self) -> list[LimitedPair]:
        """The authors and recipients with automatic messages above the limit in the last hour."""
        return self.loop_guard.limited(self._clock.monotonic())

    async def _queue_over_limit(
        self, submission: Submission, decision: Decision, limit: OverLimit, started: float
    ) -> Reply:
        """Queue a report or journal above the limit, due when it may be sent."""
        per_hour = self._relay.rules.senders.automatic_per_hour
        author, recipients = decision.route.author, submission.envelope.recipients
        wait = self.loop_guard.reserve(author, recipients, per_hour, self._clock.monotonic())
        answer = await self._queue(submission, decision, limit.reply, wait)
        if answer.is_transient:
            self._uncount(submission, decision)
        seconds = self._clock.monotonic() - started
        log_answer(self.observer, submission, decision, answer, log_events.REPORT_DELAYED, seconds)
        return answer

    # ---- queue ----

    async def _queue(
        self, submission: Submission, decision: Decision | Refusal, reason: Reply | None = None, wait: float = 0.0
    ) -> Reply:
        """Store and sync the message, then 250; its first attempt starts at once if its account has a free slot.

        `wait`: seconds until its first attempt, `reason`: the reason for it.
        """
        account = decision.route.account.id if isinstance(decision, Decision) else NO_ACCOUNT
        arrival = self._arrival(submission, decision, "queue")
        if reason is not None:
            delay = timedelta(seconds=wait)
            states = {path: replace(state, due_in=delay, reply=reason) for path, state in arrival.states.items()}
            arrival = replace(arrival, states=states)
        reserved = reason is None and self._dispatcher.message_incoming(NO_ACCOUNT if arrival.lanes else account)
        try:
            claims = await self.spool.accept(arrival, leased=reserved)
        except BaseException as error:
            if reserved:
                self._dispatcher.release_slot(account)
            if isinstance(error, SpoolError):
                return _not_queued(submission, error)
            raise
        if reserved:
            self._dispatcher.start_reserved(claims[0])
        else:
            self._dispatcher.message_queued(arrival)
        return reply(250, "2.0.0", f"Queued for delivery (senderproxy {submission.id})")

    def _arrival(self, submission: Submission, decision: Decision | Refusal, mode: str) -> Arrival:
        """The message with all recipients waiting and due now."""
        known = decision if isinstance(decision, Decision) else None
        events = [tracking_events.accepted(submission, known, mode)]
        if known is not None:
            recipients = submission.envelope.recipients
            events += tracking_events.changed_by(known, recipients, submission.received_at)
        return Arrival(
            submission,
            known.route.account.id if known else NO_ACCOUNT,
            str(known.route.author) if known else str(submission.envelope.reverse_path),
            recipient_updates.initial_states(submission.envelope.recipients),
            events,
            self._relay.cached(known) if known else None,
            {} if known is None or known.ways is None else lanes_of(known.ways),
        )

    # ---- pass-through ----

    async def _pass_through(
        self, submission: Submission, decision: Decision, handling: Handling, started: float | None = None
    ) -> tuple[Reply, LogEvent]:
        """One attempt while the client waits. The reply, and the event to log if it is positive.

        `started`: the time of its start, if it was begun before.
        """
        now = self._clock.monotonic()
        started = now if started is None else started
        attempt = asyncio.create_task(self._relay.deliver(submission, decision))
        try:
            await wait_done(attempt, max(0.0, started + handling.timeout - now))
        except asyncio.CancelledError:
            attempt.cancel()  # after the final dot this has no effect: the outcomes follow
        else:
            if not attempt.done() and await self._queue_during_attempt(submission, decision, attempt):
                who = decision.route.provider.name if decision.ways is None else "a server"
                text = f"Queued: {who} has not replied yet (senderproxy {submission.id})"
                return reply(250, "2.0.0", text), log_events.MESSAGE_KEPT_DURING_ATTEMPT
        outcomes = await attempt
        return await self._conclude(submission, decision, handling, outcomes, self._clock.monotonic() - started)

    async def _queue_during_attempt(
        self, submission: Submission, decision: Decision, attempt: "asyncio.Task[Outcomes]"
    ) -> bool:
        """Store the message, leased by its attempt in progress; False if it cannot be stored."""
        try:
            [claim] = await self.spool.accept(self._arrival(submission, decision, "patience"), leased=True)
        except SpoolError as error:
            event(_log, log_events.MESSAGE_NOT_QUEUED, id=submission.id, why=error.message)
            return False
        # The attempt reads the body as received, which the listener closes after the reply; the claim has a copy.
        body = submission.message.body
        body.retain()
        attempt.add_done_callback(lambda _: body.close())
        self._dispatcher.adopt_attempt(claim, decision, attempt)
        return True

    async def _conclude(
        self, submission: Submission, decision: Decision, handling: Handling, outcomes: Outcomes, seconds: float
    ) -> tuple[Reply, LogEvent]:
        attempted = self._attempted(decision, outcomes, seconds)
        answer = recipient_updates.client_reply(outcomes, submission.id, handling.on_deferral)
        if answer is None:
            return await self._queue_after_attempt(submission, decision, outcomes, attempted)
        states = recipient_updates.pass_through_states(outcomes)
        if decision.is_copied and (copy := self.copies.new(submission, decision, outcomes)) is not None:
            await self.copies.record(_history(submission, decision, states, attempted), copy)
        else:
            self.spool.note(_history(submission, decision, states, attempted))
        return answer, log_events.MESSAGE_DELIVERED  # replaced if the reply is negative

    async def _queue_after_attempt(
        self, submission: Submission, decision: Decision, outcomes: Outcomes, attempted: list[Event]
    ) -> tuple[Reply, LogEvent]:
        """Store the message with the outcomes: deferred recipients wait, refused ones are reported."""
        arrival = self._arrival(submission, decision, "pass-through")
        updates = recipient_updates.update_recipients(
            arrival.states,
            outcomes,
            self._dispatcher.policy,
            chance=self._clock.chance(),
            over=False,
        )
        original = submission
        if submission.message.body.disk is not None:
            original = await self._reports.in_memory(submission, has_outcomes=True)
        message = ReportedMessage(original, arrival.account, decision.report_to)
        reported = self._reports.report_attempt(message, updates)
        copy = self.copies.new(submission, decision, outcomes)
        whole = Arrival(
            submission,
            arrival.account,
            arrival.author,
            reported.states,
            (*arrival.events, *attempted, *reported.events, *((copy.event,) if copy else ())),
            lanes=arrival.lanes,
            jobs=copy.jobs if copy else (),
        )
        try:
            await self.spool.accept(whole, *reported.reports)
        except SpoolError as error:
            event(_log, log_events.MESSAGE_NOT_QUEUED, id=submission.id, why=error.message)
            answer = recipient_updates.not_queued_reply(outcomes)
            if copy is not None:
                attempted.append(self.copies.lose(arrival, error))
            self.spool.note(_history(submission, decision, recipient_updates.pass_through_states(outcomes), attempted))
            return answer, log_events.MESSAGE_DEFERRED  # replaced by `message_refused` if the reply is permanent
        for each in (whole, *reported.reports):
            self._dispatcher.message_queued(each)
        if copy is not None:
            self.copies.stored(submission, copy)
        answer = recipient_updates.queued_reply(outcomes, submission.id, is_reported=bool(reported.reports))
        return answer, log_events.MESSAGE_TAKEN_OVER

    # ---- history and log ----

    def _attempted(self, decision: Decision, outcomes: Outcomes, seconds: float) -> list[Event]:
        account = decision.route.account.id
        return tracking_events.attempted(outcomes, len(outcomes), account, self._clock.now(), seconds)


def _history(
    submission: Submission,
    decision: Decision,
    states: Mapping[ForwardPath, RecipientState],
    attempted: Sequence[Event],
) -> Arrival:
    """A message whose states are final, with its history."""
    route = decision.route
    recipients = submission.envelope.recipients
    events = [*tracking_events.changed_by(decision, recipients, submission.received_at), *attempted]
    return Arrival(submission, route.account.id, str(route.author), states, events)


def _refused(submission: Submission, decision: Refusal | Discard, now: datetime) -> Arrival:
    """The history of a message that was refused or discarded without an attempt."""
    if isinstance(decision, Discard):
        status = RecipientStatus.DISCARDED
        ended = Event(now, EventKind.DISCARDED, (), {"reply": str(decision.reply)})
    else:
        status = RecipientStatus.DEFERRED if decision.reply.is_transient else RecipientStatus.FAILED
        ended = tracking_events.refused(decision.reply, now, decision.hint)
    states = dict.fromkeys(submission.envelope.recipients, RecipientState(status, None, 0, decision.reply))
    return Arrival(submission, NO_ACCOUNT, str(submission.envelope.reverse_path), states, [ended])


def _not_queued(submission: Submission, error: SpoolError) -> Reply:
    """The 4xx if the spool cannot be written; the client still has the message."""
    event(_log, log_events.MESSAGE_NOT_QUEUED, id=submission.id, why=error.message, hint=error.hint)
    if isinstance(error, SpoolFull):
        return reply(452, "4.3.1", f"{error.message} The message was not accepted; send it again later.")
    return reply(451, "4.3.0", f"{error.message} The message was not accepted; send it again later.")
