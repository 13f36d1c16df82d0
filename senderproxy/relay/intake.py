"""Intake: what becomes of a message that a listener has taken in whole.

Guarantees: 250 is said when the upstream took the message for every recipient, or when what it did not take is safe in
the spool and what it refused is reported; where all goes well, pass-through writes nothing to disk before the answer.
A refusal that can be known is told at once. The client's going away never tears an upstream transaction.
Not here: receiving (listener), one attempt (relay.attempt), what outcomes mean (relay.recipient_updates), what
waits (relay.runner).
RFC 5321 sections 4.1.1.4, 4.2.5 and 6.1.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from senderproxy import log_events
from senderproxy.aio import wait_done
from senderproxy.clock import Clock
from senderproxy.log import event
from senderproxy.log_events import LogEvent
from senderproxy.mail.address import ForwardPath
from senderproxy.mail.reply import Reply, reply
from senderproxy.mail.submission import Submission
from senderproxy.relay import recipient_updates, tracking_events
from senderproxy.relay.attempt import MessageRelay
from senderproxy.relay.decide import Decision
from senderproxy.relay.dsn_queueing import ReportBuilder, ReportedMessage
from senderproxy.relay.loop_guard import LoopGuard, is_automatic_response
from senderproxy.relay.ports import Arrival, Outcomes, Spool, SpoolError, SpoolFull
from senderproxy.relay.recipient_updates import OnDeferral
from senderproxy.relay.runner import NO_ACCOUNT, Runner
from senderproxy.rewriting.plan import Discarding
from senderproxy.routing.route import Refusal
from senderproxy.tracking.record import Event, EventKind, RecipientState, RecipientStatus

_log = logging.getLogger("senderproxy.relay")


class Mode(Enum):
    """How a listener relays."""

    PASS_THROUGH = "pass-through"
    QUEUE = "queue"


@dataclass(frozen=True, slots=True)
class Handling:
    """What a listener's settings say about relaying."""

    mode: Mode = Mode.PASS_THROUGH
    on_deferral: OnDeferral = OnDeferral.DEFER
    patience: float = 240.0  # seconds

    @property
    def keeps_what_must_wait(self) -> bool:
        """The client is not told to come again."""
        return self.mode is Mode.QUEUE or self.on_deferral is OnDeferral.QUEUE


class RelayIntake:
    """relay.ports.Intake. `handling`, by the listeners' names, and `spool` may be replaced at any time."""

    def __init__(
        self,
        relay: MessageRelay,
        spool: Spool,
        runner: Runner,
        report_builder: ReportBuilder,
        clock: Clock,
        handling: Mapping[str, Handling],
    ) -> None:
        self.handling = handling
        self.spool = spool
        self._relay = relay
        self._runner = runner
        self._reports = report_builder
        self._clock = clock
        self._loop_guard = LoopGuard()

    async def accept(self, submission: Submission) -> Reply:
        """Route it, then pass it through or keep it; the reply is the client's answer to its final dot."""
        started = self._clock.monotonic()
        if stepping := self._runner.watch_clock():
            await wait_done(stepping)
        decision = self._decide(submission)
        handling = self.handling[submission.listener]
        if isinstance(decision, Decision):
            if handling.mode is Mode.QUEUE:
                answer, kind = await self._keep(submission, decision), log_events.MESSAGE_QUEUED
            else:
                answer, kind = await self._pass_through(submission, decision, handling)
        elif isinstance(decision, Refusal) and decision.reply.is_transient and handling.keeps_what_must_wait:
            answer, kind = await self._keep(submission, decision), log_events.MESSAGE_QUEUED
        else:
            answer, kind = decision.reply, log_events.MESSAGE_DISCARDED
            self._note_end(submission, decision)
        if answer.is_transient and isinstance(decision, Decision):
            self._forgive(submission, decision)
        self._report(submission, decision, answer, kind, self._clock.monotonic() - started)
        return answer

    def _forgive(self, submission: Submission, decision: Decision) -> None:
        """The client will come again with it, and that will not be one automatic message more."""
        if is_automatic_response(submission.envelope.reverse_path, submission.message.header):
            self._loop_guard.uncount(decision.route.author, submission.envelope.recipients)

    def _decide(self, submission: Submission) -> Decision | Refusal | Discarding:
        decision = self._relay.decide(submission)
        path, header = submission.envelope.reverse_path, submission.message.header
        if isinstance(decision, Decision) and is_automatic_response(path, header):
            limit = self._relay.rules.senders.automatic_per_hour
            author, recipients = decision.route.author, submission.envelope.recipients
            if refusal := self._loop_guard.check(author, recipients, limit, self._clock.monotonic()):
                return Refusal(refusal)
        return decision

    # ---- keep it ----

    async def _keep(self, submission: Submission, decision: Decision | Refusal) -> Reply:
        """Spooled and synced, then 250; it is on its way at once where its account has a place free."""
        account = decision.route.account.id if isinstance(decision, Decision) else NO_ACCOUNT
        arrival = self._arrival(submission, decision, "queue")
        self._runner.arriving()
        reserved = isinstance(decision, Decision) and self._runner.reserve(account)
        try:
            claims = await self.spool.accept(arrival, leased=reserved)
        except BaseException as error:
            if reserved:
                self._runner.free_place(account)
            if isinstance(error, SpoolError):
                return _not_kept(submission, error)
            raise
        if reserved:
            self._runner.carry(claims[0])
        else:
            self._runner.arrived(account, submission.received_at)
        return reply(250, "2.0.0", f"Kept here and delivered from here (senderproxy {submission.id})")

    def _arrival(self, submission: Submission, decision: Decision | Refusal, mode: str) -> Arrival:
        """All of it waits, and is due now."""
        known = decision if isinstance(decision, Decision) else None
        events = [tracking_events.accepted(submission, known, mode)]
        if known is not None:
            events += tracking_events.changed(known.plan.changes, submission.received_at)
        return Arrival(
            submission,
            known.route.account.id if known else NO_ACCOUNT,
            str(known.route.author) if known else str(submission.envelope.reverse_path),
            recipient_updates.initial_states(submission.envelope.recipients, submission.received_at),
            events,
            self._relay.cached(known) if known else None,
        )

    # ---- pass it through ----

    async def _pass_through(
        self, submission: Submission, decision: Decision, handling: Handling
    ) -> tuple[Reply, LogEvent]:
        """One attempt while the client waits. The answer, and in a word what became of it."""
        started = self._clock.monotonic()
        attempt = asyncio.create_task(self._relay.deliver(submission, decision))
        try:
            await wait_done(attempt, handling.patience)
        except asyncio.CancelledError:
            attempt.cancel()  # after the final dot it gives way to its outcomes
        else:
            if not attempt.done() and await self._has_taken_over(submission, decision, attempt):
                words = f"Kept here: {decision.route.provider.name} has not answered yet (senderproxy {submission.id})"
                return reply(250, "2.0.0", words), log_events.MESSAGE_KEPT_DURING_ATTEMPT
        outcomes = await attempt
        return await self._conclude(submission, decision, handling, outcomes, self._clock.monotonic() - started)

    async def _has_taken_over(
        self, submission: Submission, decision: Decision, attempt: "asyncio.Task[Outcomes]"
    ) -> bool:
        """The client's time is up: what is being attempted is kept, leased by the attempt that goes on."""
        try:
            [claim] = await self.spool.accept(self._arrival(submission, decision, "patience"), leased=True)
        except SpoolError as error:
            event(_log, log_events.MESSAGE_NOT_QUEUED, id=submission.id, why=error.message)
            return False
        self._runner.adopt(claim, decision, attempt)
        return True

    async def _conclude(
        self, submission: Submission, decision: Decision, handling: Handling, outcomes: Outcomes, seconds: float
    ) -> tuple[Reply, LogEvent]:
        account = decision.route.account.id
        events = tracking_events.changed(decision.plan.changes, submission.received_at)
        events += tracking_events.attempted(outcomes, len(outcomes), account, self._clock.now(), seconds)
        answer = recipient_updates.client_reply(outcomes, submission.id, handling.on_deferral)
        if answer is None:
            return await self._take_over(submission, decision, outcomes, events)
        self._note(submission, decision, recipient_updates.pass_through_states(outcomes), events)
        return answer, log_events.MESSAGE_DELIVERED  # where it is negative, the reply decides which event

    async def _take_over(
        self, submission: Submission, decision: Decision, outcomes: Outcomes, events: list[Event]
    ) -> tuple[Reply, LogEvent]:
        """What was taken is done, what was deferred is kept, what was refused is reported."""
        arrival = self._arrival(submission, decision, "pass-through")
        judgement = recipient_updates.update_recipients(
            arrival.states,
            outcomes,
            self._runner.policy,
            now=self._clock.now(),
            chance=self._clock.chance(),
            over=False,
        )
        case = ReportedMessage(submission, arrival.account, decision.report_to)
        told = self._reports.report_attempt(case, judgement)
        whole = Arrival(
            submission, arrival.account, arrival.author, judgement.states, (*arrival.events, *events, *told.events)
        )
        try:
            await self.spool.accept(whole, *told.reports)
        except SpoolError as error:
            event(_log, log_events.MESSAGE_NOT_QUEUED, id=submission.id, why=error.message)
            answer = recipient_updates.not_queued_reply(outcomes)
            self._note(submission, decision, recipient_updates.pass_through_states(outcomes), events)
            return answer, log_events.MESSAGE_DEFERRED  # where it is permanent, the reply decides which event
        for each in (whole, *told.reports):
            self._runner.noticed(each)
        return recipient_updates.queued_reply(outcomes, submission.id), log_events.MESSAGE_TAKEN_OVER

    # ---- what is remembered of it ----

    def _note(
        self,
        submission: Submission,
        decision: Decision,
        states: Mapping[ForwardPath, RecipientState],
        events: list[Event],
    ) -> None:
        route = decision.route
        self.spool.note(Arrival(submission, route.account.id, str(route.author), states, events))

    def _note_end(self, submission: Submission, decision: Refusal | Discarding) -> None:
        """It ends at the door."""
        now, path = self._clock.now(), str(submission.envelope.reverse_path)
        if isinstance(decision, Discarding):
            fate, what = RecipientStatus.DISCARDED, Event(now, EventKind.DISCARDED, (), {"reply": str(decision.reply)})
        else:
            fate = RecipientStatus.DEFERRED if decision.reply.is_transient else RecipientStatus.FAILED
            what = tracking_events.refused(decision.reply, now)
        states = dict.fromkeys(submission.envelope.recipients, RecipientState(fate, None, 0, decision.reply))
        self.spool.note(Arrival(submission, NO_ACCOUNT, path, states, [what]))

    def _report(
        self,
        submission: Submission,
        decision: Decision | Refusal | Discarding,
        answer: Reply,
        kind: LogEvent,
        seconds: float,
    ) -> None:
        """One line per message: who, as whom, to how many, and what came of it."""
        if not answer.is_positive:
            kind = log_events.MESSAGE_DEFERRED if answer.is_transient else log_events.MESSAGE_REFUSED
        if not _log.isEnabledFor(kind.level):
            return
        envelope = submission.envelope
        facts: dict[str, object] = {
            "id": submission.id,
            "client": submission.client,
            "reverse_path": f"<{envelope.reverse_path}>",
            "recipients": len(envelope.recipients),
            "size": submission.message.size,
            "seconds": round(seconds, 3),
            "reply": answer,
        }
        if isinstance(decision, Decision):
            route = decision.route
            facts |= {
                "author": route.author,
                "account": route.account.id,
                "chosen_by": f"{route.source.value}, {route.tier.words}",
            }
            facts |= {_fact_of(change.what): change.new or "(removed)" for change in decision.plan.changes}
        event(_log, kind, fault=None, **facts)


def _not_kept(submission: Submission, error: SpoolError) -> Reply:
    """Nothing was written: the client has the message still."""
    event(_log, log_events.MESSAGE_NOT_QUEUED, id=submission.id, why=error.message, hint=error.hint)
    if isinstance(error, SpoolFull):
        return reply(452, "4.3.1", f"{error.message} Nothing was taken; send it again later.")
    return reply(451, "4.3.0", f"{error.message} Nothing was taken; send it again later.")


def _fact_of(what: str) -> str:
    return f"changed_{what.lower().replace('-', '_')}"
