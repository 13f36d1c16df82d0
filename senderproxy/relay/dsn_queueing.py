"""Reporter: the author hears of what failed, was given up or is late.

Guarantees: a recipient is never failed or given up without a report, unless there is nobody to tell (a null
reverse-path, a report of ours) or no way to tell (then it is held, not dropped). Reports go through the account that
carried the message, or to the internal server where the settings name it.
Not here: which outcomes deserve a report, its words and its form (dsn); the commit it belongs to (spool).
RFC 3464, RFC 5321 sections 4.5.5 and 6.1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from senderproxy.clock import Clock
from senderproxy.dsn.compose import Letterhead, Original, ReportedRecipient, compose_report
from senderproxy.dsn.report_policy import Due, ReportKind, Unreported, reports_due
from senderproxy.mail.address import NULL_PATH, Address, ForwardPath, ReversePath, parse_address
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.submission import Client, Submission
from senderproxy.relay import recipient_updates, tracking_events
from senderproxy.relay.attempt import REPORT_SERVER, MessageRelay
from senderproxy.relay.ports import Accounts, Arrival
from senderproxy.relay.recipient_updates import RecipientUpdates
from senderproxy.retry import RetryPolicy
from senderproxy.tracking.record import Event, EventKind, RecipientState, RecipientStatus

NO_WAY: Final = "its author cannot be told: the account that would carry the report is gone"


@dataclass(frozen=True, slots=True)
class DsnRequest:
    """A message, the account it went through, and who is told what becomes of it."""

    submission: Submission
    account: str
    report_to: ReversePath


@dataclass(frozen=True, slots=True)
class Reported:
    """The states as they are written down, with the reports and events that belong to them."""

    states: Mapping[ForwardPath, RecipientState]
    events: Sequence[Event] = ()
    reports: Sequence[Arrival] = field(default=())


class Reporter:
    """Makes reports of verdicts."""

    def __init__(self, relay: MessageRelay, accounts: Accounts, clock: Clock) -> None:
        self._relay = relay
        self._accounts = accounts
        self._clock = clock

    def tell(self, case: DsnRequest, judgement: RecipientUpdates) -> Reported:
        """The judgement, with a report on what failed and one on what was given up."""
        happened = dict.fromkeys(judgement.failed, ReportKind.FAILED)
        happened |= dict.fromkeys(judgement.expired, ReportKind.EXPIRED)
        if not happened:
            return Reported(judgement.states)
        now = self._clock.now()
        events = [
            Event(now, EventKind.EXPIRED, (str(path),), {"reply": str(judgement.states[path].reply)})
            for path in judgement.expired
        ]
        told = self._tell(case, judgement.states, happened, now)
        return replace(told, events=(*events, *told.events))

    def tell_of_delay(
        self, case: DsnRequest, late: Mapping[ForwardPath, RecipientState], policy: RetryPolicy
    ) -> Reported:
        """A report on what is late; it is said once, whether or not there is anybody to hear it."""
        states = {path: replace(state, delay_reported=True) for path, state in late.items()}
        happened = dict.fromkeys(late, ReportKind.DELAYED)
        return self._tell(case, states, happened, self._clock.now(), until=case.submission.received_at + policy.give_up)

    def tell_of_cancelling(self, case: DsnRequest, cancelled: Mapping[ForwardPath, RecipientState]) -> Reported:
        """A report on what a person has taken from the queue."""
        return self._tell(case, cancelled, dict.fromkeys(cancelled, ReportKind.CANCELLED), self._clock.now())

    def _tell(
        self,
        case: DsnRequest,
        states: Mapping[ForwardPath, RecipientState],
        happened: Mapping[ForwardPath, ReportKind],
        now: datetime,
        *,
        until: datetime | None = None,
    ) -> Reported:
        submission = case.submission
        due = reports_due(happened, case.report_to, submission.message.header, report_on=submission.report_on)
        if isinstance(due, Unreported):
            return Reported(states, [Event(now, EventKind.UNREPORTED, tuple(map(str, happened)), {"why": due.why})])
        carrier = self._carrier(case.account)
        if carrier is None:
            return self._held(states, happened, now)
        events: list[Event] = []
        reports: list[Arrival] = []
        for kind, paths in due.reports.items():
            report = self._compose(case, due, kind, {path: states[path] for path in paths}, carrier, now, until)
            facts = {"report": report.submission.id, "kind": kind.value, "to": str(due.to)}
            events.append(Event(now, EventKind.REPORTED, tuple(map(str, paths)), facts))
            reports.append(report)
        return Reported(states, events, reports)

    def _carrier(self, account: str) -> str | None:
        """Whose account carries the report: the message's own, or the one named for bounces."""
        rules, directory = self._relay.rules, self._accounts.directory()
        for candidate in (account, rules.senders.bounce_account):
            if candidate and directory.by_id(candidate) is not None:
                return candidate
        return account if rules.report_server is not None else None  # then no account is needed

    def _held(
        self, states: Mapping[ForwardPath, RecipientState], happened: Mapping[ForwardPath, ReportKind], now: datetime
    ) -> Reported:
        held = {
            path: replace(state, status=RecipientStatus.HELD, due_at=None, why=NO_WAY) if path in happened else state
            for path, state in states.items()
        }
        return Reported(held, [Event(now, EventKind.HELD, tuple(map(str, happened)), {"why": NO_WAY})])

    def _compose(
        self,
        case: DsnRequest,
        due: Due,
        kind: ReportKind,
        states: Mapping[ForwardPath, RecipientState],
        carrier: str,
        now: datetime,
        until: datetime | None,
    ) -> Arrival:
        rules, submission = self._relay.rules, case.submission
        report_id = self._clock.new_id()
        from_ = self._from(carrier)
        letterhead = Letterhead(
            rules.hostname,
            from_,
            report_id,
            now,
            now.astimezone().tzinfo or UTC,
            returned_size=rules.returned_size,
            retry_until=until,
        )
        composed = compose_report(
            kind,
            due.to,
            [ReportedRecipient(path, state.reply, state.remote or None) for path, state in states.items()],
            Original(submission.id, submission.message, submission.received_at),
            letterhead,
        )
        report = Submission(
            report_id,
            "",
            Client("127.0.0.1", rules.hostname, "local"),
            Envelope(NULL_PATH, (due.to,), eight_bit=composed.eight_bit),
            composed.message,
            now,
            report_on=submission.id,
            carrier=carrier,
        )
        states_of_report = recipient_updates.waiting(report.envelope.recipients, now)
        waits_for = REPORT_SERVER if rules.report_server is not None else carrier
        return Arrival(
            report, waits_for, str(from_), states_of_report, [tracking_events.accepted(report, None, "report")]
        )

    def _from(self, carrier: str) -> Address:
        account = self._accounts.directory().by_id(carrier)
        return account.address if account else parse_address(f"mailer-daemon@{self._relay.rules.hostname}")
