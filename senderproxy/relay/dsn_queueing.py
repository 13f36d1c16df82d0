"""Delivery status notifications for the spool: reports on failed, expired, delayed and cancelled recipients.

Guarantees: a recipient never ends as failed or expired without a report, unless no report may be sent (null
reverse-path, a report of ours) or none can be sent (then the recipient is held, not dropped). Reports are sent through
the account of the message, or to the internal server if the settings name one.
Not here: which outcomes are reported, text and format (dsn); the commit that stores the reports (spool).
RFC 3464, RFC 5321 sections 4.5.5 and 6.1.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from senderproxy.clock import Clock
from senderproxy.dsn.compose import MemoryBody, Original, ReportContext, ReportedRecipient, compose_report
from senderproxy.dsn.report_policy import DueReports, NoReport, ReportKind, due_reports
from senderproxy.mail.address import NULL_PATH, Address, ForwardPath, ReversePath, parse_address
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.message import Message
from senderproxy.mail.submission import Client, Submission
from senderproxy.relay import recipient_updates, tracking_events
from senderproxy.relay.attempt import REPORT_SERVER, MessageRelay
from senderproxy.relay.ports import Accounts, Arrival, Claim
from senderproxy.relay.recipient_updates import RecipientUpdates
from senderproxy.retry import RetryPolicy
from senderproxy.routing.provider import SenderRule
from senderproxy.tracking.record import Event, EventKind, RecipientState, RecipientStatus

_DAEMON: Final = "mailer-daemon"  # the author of reports, as of other mail servers
NO_REPORT_ACCOUNT: Final = "the author cannot be notified: the account for the report no longer exists"


@dataclass(frozen=True, slots=True)
class ReportedMessage:
    """The message that a report is about, the account that sent it, and the report's recipient."""

    submission: Submission
    account: str
    report_to: ReversePath


@dataclass(frozen=True, slots=True)
class StatesWithReports:
    """New states of recipients, with the events and reports of the same commit."""

    states: Mapping[ForwardPath, RecipientState]
    events: Sequence[Event] = ()
    reports: Sequence[Arrival] = field(default=())


class ReportBuilder:
    """Builds the reports that a change of recipients' states requires."""

    def __init__(self, relay: MessageRelay, accounts: Accounts, clock: Clock) -> None:
        self._relay = relay
        self._accounts = accounts
        self._clock = clock

    def message_of(self, claim: Claim) -> ReportedMessage:
        """The message of a claim that was not attempted."""
        return ReportedMessage(claim.submission, claim.account, self._relay.report_recipient(claim.submission))

    async def in_memory(self, submission: Submission, *, has_outcomes: bool = False) -> Submission:
        """The submission with its body in memory, if a report may return the body and the disk responds.

        Otherwise the same submission: its report returns the header section only. To be called before a report on a
        message whose body is on disk. `has_outcomes`: the caller must still write outcomes, so a cancellation ends the
        reading only.
        """
        message = submission.message
        body = message.body
        if body.disk is None or message.size > self._relay.rules.returned_size:
            return submission
        try:
            octets = await body.disk.read(body)
        except OSError:
            return submission
        except asyncio.CancelledError:
            if has_outcomes:
                return submission
            raise
        return replace(submission, message=Message(message.header, MemoryBody(octets)))

    def report_attempt(self, message: ReportedMessage, updates: RecipientUpdates) -> StatesWithReports:
        """The states after an attempt, with one report on the failed and one on the expired recipients."""
        kinds = dict.fromkeys(updates.failed, ReportKind.FAILED)
        kinds |= dict.fromkeys(updates.expired, ReportKind.EXPIRED)
        if not kinds:
            return StatesWithReports(updates.states)
        now = self._clock.now()
        events = [
            Event(now, EventKind.EXPIRED, (str(path),), {"reply": str(updates.states[path].reply)})
            for path in updates.expired
        ]
        reported = self._report(message, updates.states, kinds, now)
        return replace(reported, events=(*events, *reported.events))

    def report_delay(
        self, message: ReportedMessage, late: Mapping[ForwardPath, RecipientState], policy: RetryPolicy
    ) -> StatesWithReports:
        """A report on delayed recipients; they are marked as reported even if no report may be sent.

        There is none on a message whose last attempt is due: a report on its end follows.
        """
        states = {path: replace(state, delay_reported=True) for path, state in late.items()}
        now, until = self._clock.now(), message.submission.received_at + policy.give_up
        if now >= until:
            return StatesWithReports(states)
        kinds = dict.fromkeys(late, ReportKind.DELAYED)
        return self._report(message, states, kinds, now, until=until)

    async def report_cancellation(
        self, claim: Claim, cancelled: Mapping[ForwardPath, RecipientState]
    ) -> StatesWithReports:
        """A report on recipients that an operator has cancelled."""
        if claim.submission.message.body.disk is not None:
            claim = replace(claim, submission=await self.in_memory(claim.submission))
        kinds = dict.fromkeys(cancelled, ReportKind.CANCELLED)
        return self._report(self.message_of(claim), cancelled, kinds, self._clock.now())

    def _report(
        self,
        message: ReportedMessage,
        states: Mapping[ForwardPath, RecipientState],
        kinds: Mapping[ForwardPath, ReportKind],
        now: datetime,
        *,
        until: datetime | None = None,
    ) -> StatesWithReports:
        submission = message.submission
        due = due_reports(kinds, message.report_to, submission.message.header, report_on=submission.report_on)
        if isinstance(due, NoReport):
            unreported = Event(now, EventKind.UNREPORTED, tuple(map(str, kinds)), {"why": due.reason})
            return StatesWithReports(states, [unreported])
        carrier = self._carrier(message.account, due.to)
        if carrier is None:
            return self._held(states, kinds, now)
        events: list[Event] = []
        reports: list[Arrival] = []
        for kind, paths in due.reports.items():
            report = self._compose(message, due, kind, {path: states[path] for path in paths}, carrier, now, until)
            facts = {"report": report.submission.id, "kind": kind.value, "to": str(due.to)}
            events.append(Event(now, EventKind.REPORTED, tuple(map(str, paths)), facts))
            reports.append(report)
        return StatesWithReports(states, events, reports)

    def _carrier(self, account: str, to: Address) -> str | None:
        """The account that sends the report: the message's, or the one for bounces; None if neither exists.

        The one for bounces also if the report would come from the address to which it goes, as if written there.
        """
        rules, directory = self._relay.rules, self._accounts.directory()
        known = [name for name in (account, rules.senders.bounce_account) if name and directory.by_id(name) is not None]
        if known:
            return next((name for name in known if self._from(name).key != to.key), known[0])
        return account if rules.report_server is not None else None  # the internal server needs no account

    def _held(
        self, states: Mapping[ForwardPath, RecipientState], kinds: Mapping[ForwardPath, ReportKind], now: datetime
    ) -> StatesWithReports:
        why = NO_REPORT_ACCOUNT
        held = {
            path: replace(state, status=RecipientStatus.HELD, due_in=None, why=why) if path in kinds else state
            for path, state in states.items()
        }
        return StatesWithReports(held, [Event(now, EventKind.HELD, tuple(map(str, kinds)), {"why": why})])

    def _compose(
        self,
        message: ReportedMessage,
        due: DueReports,
        kind: ReportKind,
        states: Mapping[ForwardPath, RecipientState],
        carrier: str,
        now: datetime,
        until: datetime | None,
    ) -> Arrival:
        rules, submission = self._relay.rules, message.submission
        report_id = self._clock.new_id()
        from_ = self._from(carrier)
        context = ReportContext(
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
            context,
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
        return Arrival(
            report,
            REPORT_SERVER if rules.report_server is not None else carrier,
            str(from_),
            recipient_updates.initial_states(report.envelope.recipients),
            [tracking_events.accepted(report, None, "report")],
        )

    def _from(self, carrier: str) -> Address:
        """The author of a report: mailer-daemon, where the provider's rule permits it; else the account."""
        rules = self._relay.rules
        account = self._accounts.directory().by_id(carrier)
        if account is None:
            return parse_address(f"{_DAEMON}@{rules.hostname}")
        provider = rules.providers.get(account.provider)
        is_free = provider is not None and provider.from_rule is not SenderRule.ADDRESS
        if is_free or rules.report_server is not None:
            return Address(_DAEMON, account.address.domain)
        return account.address
