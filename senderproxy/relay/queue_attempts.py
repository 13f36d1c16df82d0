"""One attempt of a queued message, and the update of the spool that follows from it.

Guarantees: an internal error costs the message its attempt and stops no other message; after three in a row the message
is held for the operator. A message in progress is in the crash journal.
Not here: routing, rewriting and delivery (relay.attempt), the meaning of outcomes (relay.recipient_updates), when an
attempt starts (relay.runner), the commit (relay.settling).
RFC 5321 section 4.5.4.1.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from senderproxy import log_events
from senderproxy.clock import Clock
from senderproxy.log import event
from senderproxy.mail.address import ForwardPath
from senderproxy.mail.outcome import Deferred, Delivered, Failed, Outcome
from senderproxy.mail.reply import Reply, reply
from senderproxy.relay import recipient_updates, tracking_events
from senderproxy.relay.attempt import MessageRelay
from senderproxy.relay.decide import Decision
from senderproxy.relay.decision_thread import has_large_header
from senderproxy.relay.dsn_queueing import ReportBuilder, ReportedMessage
from senderproxy.relay.ports import (
    NO_ACCOUNT,
    Claim,
    CrashJournal,
    NewJob,
    Outcomes,
    Spool,
    SpoolError,
    SpoolUpdate,
)
from senderproxy.relay.sent_copies import has_copy, new_copy
from senderproxy.relay.ways import NoWay, RoutedOutcomes
from senderproxy.retry import RetryPolicy, is_over, wait_after
from senderproxy.rewriting.plan import Discard
from senderproxy.routing.route import Refusal
from senderproxy.tracking.record import ACCOUNT_LANE, Event, EventKind, Lane, RecipientState, RecipientStatus
from senderproxy.translation import N_

_log = logging.getLogger("senderproxy.relay")

_WORST_FIRST: Final = (Failed, Deferred, Delivered)
FAULTS_LIMIT: Final = 3  # internal errors in a row on one message after which it is held


class QueueAttempts:
    """Attempts of queued messages. `policy` may be replaced at any time."""

    def __init__(
        self,
        relay: MessageRelay,
        reports: ReportBuilder,
        clock: Clock,
        policy: RetryPolicy,
        journal: CrashJournal,
        spool: Callable[[], Spool],
        record_outcomes: Callable[[Lane, Outcomes], None],
    ) -> None:
        """`spool` returns the one in use; `record_outcomes` is called with a lane and its outcomes in each attempt."""
        self.policy = policy
        self._relay = relay
        self._reports = reports
        self._clock = clock
        self._journal = journal
        self._spool = spool
        self._record_outcomes = record_outcomes

    async def attempt(
        self, claim: Claim, decision: Decision | None = None, running: "asyncio.Task[Outcomes] | None" = None
    ) -> SpoolUpdate:
        """Attempt the message; raises nothing but CancelledError.

        `running`: the attempt, if it is already in progress, and `decision` the decision for it.
        """
        submission, recipients = claim.submission, tuple(claim.due)
        moves: Mapping[ForwardPath, Lane] = {}
        self._journal.attempt_started(submission.id)
        try:
            started = self._clock.monotonic()
            if running is not None:
                outcomes = await _joined(running)
            elif self._relay.is_for_report_server(submission):
                outcomes = await self._relay.deliver_report(submission, recipients)
            else:
                decided = self._relay.valid_decision(claim.decision) or (
                    await self._relay.decide_large(submission, queued=True)
                    if has_large_header(submission)
                    else self._relay.decide(submission)
                )
                if isinstance(decided, Discard):
                    return self._discarded(claim, decided)
                if isinstance(decided, Refusal):
                    # It was accepted, so the configuration has changed since. It may change back: a deferral.
                    outcomes = dict.fromkeys(recipients, Deferred(decided.reply))
                else:
                    decision = decided
                    if decision.ways is not None or not _is_of_account(claim):
                        moves = lane_moves(claim, decision)
                        recipients = tuple(path for path in recipients if path not in moves)
                    if not recipients:
                        return self._moved(claim, decision, moves)
                    maybe_taken = partial(self._maybe_taken, claim) if _is_repeated(claim) else None
                    if decision.is_copied and await self._has_copy(claim):  # before the attempt, whose end is final
                        decision = replace(decision, is_copied=False)
                    outcomes = await self._relay.deliver(submission, decision, recipients, maybe_taken)
            if submission.message.body.disk is not None and not _all_delivered(outcomes):
                claim = await self._with_body(claim, has_outcomes=True)
            return self._conclude(claim, decision, outcomes, started, moves)
        except Exception as fault:  # noqa: BLE001  an error in one message must not stop the others
            event(_log, log_events.QUEUE_ATTEMPT_ERROR, fault=fault, id=submission.id)
            return self.after_internal_error(claim, type(fault).__name__)
        finally:
            self._journal.attempt_ended(submission.id)

    async def _maybe_taken(self, claim: Claim) -> Container[ForwardPath]:
        """The recipients with a possibly successful attempt in the past; all if the history cannot be read."""
        try:
            events = await self._spool().events(claim.submission.id)
        except SpoolError:
            return claim.due
        unknown = [each for each in events if each.kind is EventKind.ATTEMPTED and each.facts.get("maybe_taken")]
        named = {text for each in unknown for text in each.recipients}
        return [path for path in claim.due if str(path) in named or not all(each.recipients for each in unknown)]

    async def _has_copy(self, claim: Claim) -> bool:
        """True if an attempt before this one has made the job of the copy. A second job would find the copy."""
        if not _is_repeated(claim) and len(claim.due) == len(claim.submission.envelope.recipients):
            return False
        try:
            return has_copy(await self._spool().events(claim.submission.id))
        except SpoolError:
            return False

    def _conclude(
        self,
        claim: Claim,
        decision: Decision | None,
        outcomes: Outcomes,
        started: float,
        moves: Mapping[ForwardPath, Lane],
    ) -> SpoolUpdate:
        """The update after an attempt, with its reports. `started` is monotonic; `moves`: recipients left out."""
        submission = claim.submission
        now = self._clock.now()
        seconds = self._clock.monotonic() - started
        account = decision.route.account.id if decision else claim.account
        self._record(claim, decision, outcomes)
        age = self._spool().age(claim)
        updates = recipient_updates.update_recipients(
            claim.due,
            outcomes,
            self.policy,
            chance=self._clock.chance(),
            over=age is not None and is_over(self.policy, age),
        )
        report_to = decision.report_to if decision else self._relay.report_recipient(submission)
        reported = self._reports.report_attempt(ReportedMessage(submission, account, report_to), updates)
        events = [
            *(
                tracking_events.changed_by(decision, tuple(outcomes), now)
                if decision and claim.account == NO_ACCOUNT
                else ()
            ),
            *tracking_events.attempted(outcomes, len(submission.envelope.recipients), account, now, seconds),
            *reported.events,
        ]
        jobs: Sequence[NewJob] = ()
        if decision is not None and decision.is_copied and (copy := new_copy(submission, decision, outcomes, now)):
            events.append(copy.event)
            jobs = copy.jobs
        _log_attempt(submission.id, account, outcomes, seconds)
        if decision is not None and (decision.ways is not None or not _is_of_account(claim)):
            moves = {**moves, **_lanes_of_waiting(claim, decision, reported.states)}
            moved = account if claim.account == NO_ACCOUNT else None
        else:
            moved = account if account != claim.account else None
        return SpoolUpdate(reported.states, events, reported.reports, moved, lanes=moves, jobs=jobs)

    def _record(self, claim: Claim, decision: Decision | None, outcomes: Outcomes) -> None:
        """Record the outcomes for each of the recipients' new lanes."""
        if decision is None or (decision.ways is None and _is_of_account(claim)):
            account = claim.account if decision is None else decision.route.account.id
            lane = claim.lane if decision is None and claim.lane is not None else Lane.of_account(account)
            self._record_outcomes(lane, outcomes)
            return
        by_lane: dict[Lane, dict[ForwardPath, Outcome]] = {}
        for path, outcome in outcomes.items():
            by_lane.setdefault(_lane_for(decision, path), {})[path] = outcome
        for lane, part in by_lane.items():
            self._record_outcomes(lane, part)

    def _moved(self, claim: Claim, decision: Decision, moves: Mapping[ForwardPath, Lane]) -> SpoolUpdate:
        """The update of recipients that have another way since the configuration changed: they are due there."""
        now = self._clock.now()
        if claim.account == NO_ACCOUNT:
            events = tracking_events.changed_by(decision, tuple(moves), now)
            return SpoolUpdate({}, events, account=decision.route.account.id, lanes=moves)
        facts = {"what": "way", "old": str(claim.lane), "reason": N_("the routes or accounts have changed")}
        events = [Event(now, EventKind.CHANGED, (str(path),), {**facts, "new": str(to)}) for path, to in moves.items()]
        return SpoolUpdate({}, events, lanes=moves)

    def _discarded(self, claim: Claim, discarding: Discard) -> SpoolUpdate:
        state = RecipientState(RecipientStatus.DISCARDED, None, 0, discarding.reply)
        discarded = Event(self._clock.now(), EventKind.DISCARDED, (), {"reply": str(discarding.reply)})
        return SpoolUpdate(dict.fromkeys(claim.due, state), [discarded])

    async def _with_body(self, claim: Claim, *, has_outcomes: bool = False) -> Claim:
        """The claim with the body for a report in memory."""
        submission = await self._reports.in_memory(claim.submission, has_outcomes=has_outcomes)
        return replace(claim, submission=submission)

    # ---- without an attempt ----

    def after_internal_error(self, claim: Claim, what: str) -> SpoolUpdate:
        """The update after an internal error: retried later; held after the third in a row."""
        faults, now = claim.faults + 1, self._clock.now()
        why = f"{what}, {faults} times in a row; the log has the details"
        events = [Event(now, EventKind.FAULT, (), {"why": what})]
        if faults >= FAULTS_LIMIT:
            held = {
                path: replace(state, status=RecipientStatus.HELD, due_in=None, why=why)
                for path, state in claim.due.items()
            }
            return SpoolUpdate(held, [*events, Event(now, EventKind.HELD, (), {"why": why})], faults=faults)
        wait = wait_after(self.policy, faults, self._clock.chance())
        answer = reply(451, "4.3.0", "Internal error of senderproxy; see its log")
        waiting = {path: replace(state, due_in=wait, reply=answer) for path, state in claim.due.items()}
        return SpoolUpdate(waiting, events, faults=faults)

    async def after_delay(self, claim: Claim) -> SpoolUpdate:
        """The update that reports a delay to the author."""
        claim = await self._with_body(claim)
        reported = self._reports.report_delay(self._reports.message_of(claim), claim.due, self.policy)
        return SpoolUpdate(reported.states, reported.events, reported.reports, faults=claim.faults)

    async def after_expiry(self, claim: Claim, blocked_by: Reply | None) -> SpoolUpdate:
        """The update of a message that has expired while its account could not send."""
        claim = await self._with_body(claim)
        answer = blocked_by or reply(451, "4.4.7", "The account could not send")
        outcomes = dict.fromkeys(claim.due, Deferred(answer, of_account=True))
        updates = recipient_updates.update_recipients(
            claim.due, outcomes, self.policy, chance=self._clock.chance(), over=True
        )
        reported = self._reports.report_attempt(self._reports.message_of(claim), updates)
        return SpoolUpdate(reported.states, reported.events, reported.reports)


def _is_repeated(claim: Claim) -> bool:
    """True if a recipient was attempted before."""
    return any(state.tries for state in claim.due.values())


def lane_moves(claim: Claim, decision: Decision) -> Mapping[ForwardPath, Lane]:
    """The recipients that another lane has to attempt: a slow server delays the messages of its own lane only."""
    if claim.lane is None:  # leased with all its lanes: attempted at once
        return {}
    lanes = {path: _lane_for(decision, path) for path in claim.due}
    return {
        path: lane
        for path, lane in lanes.items()
        if lane != claim.lane and not (decision.way_of(path) is None and _is_of_account(claim))
    }


def _lanes_of_waiting(
    claim: Claim, decision: Decision, states: Mapping[ForwardPath, RecipientState]
) -> Mapping[ForwardPath, Lane]:
    """The lanes of attempted recipients that wait again, if they differ from the claim's."""
    waiting = (path for path, state in states.items() if state.status is RecipientStatus.WAITING)
    lanes = {path: _lane_for(decision, path) for path in waiting}
    return {path: lane for path, lane in lanes.items() if lane != claim.lane}


def _lane_for(decision: Decision, path: ForwardPath) -> Lane:
    way = decision.way_of(path)
    return Lane.of_account(decision.route.account.id) if way is None or isinstance(way, NoWay) else way.lane


def _is_of_account(claim: Claim) -> bool:
    return claim.lane is None or claim.lane.kind == ACCOUNT_LANE


def _all_delivered(outcomes: Outcomes) -> bool:
    return all(isinstance(outcome, Delivered) for outcome in outcomes.values())


async def _joined(attempt: "asyncio.Task[Outcomes]") -> Outcomes:
    """The outcomes of an attempt in progress; if we are cancelled, those of its cancellation."""
    try:
        return await asyncio.shield(attempt)
    except asyncio.CancelledError:
        attempt.cancel()
        return await attempt


def _log_attempt(message_id: str, account: str, outcomes: Outcomes, seconds: float) -> None:
    """One line for each attempt, with the reply of the worst outcome."""
    counts: Counter[type[Outcome]] = Counter(map(type, outcomes.values()))
    worst_kind = next(kind for kind in _WORST_FIRST if counts[kind])
    worst = next(outcome.reply for outcome in outcomes.values() if type(outcome) is worst_kind)
    kind = log_events.QUEUE_ATTEMPT_DELIVERED
    if counts[Delivered] != len(outcomes):
        kind = log_events.QUEUE_ATTEMPT_PARTIAL if counts[Delivered] else log_events.QUEUE_ATTEMPT_FAILED
    event(
        _log,
        kind,
        fault=None,
        id=message_id,
        account=account,
        delivered=counts[Delivered] or None,
        deferred=counts[Deferred] or None,
        failed=counts[Failed] or None,
        ways="; ".join(dict.fromkeys(filter(None, outcomes.sent_by.values())))
        if isinstance(outcomes, RoutedOutcomes)
        else None,
        seconds=round(seconds, 3),
        reply=worst,
    )
