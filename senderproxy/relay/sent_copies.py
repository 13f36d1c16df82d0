"""Copies of sent messages in the Sent folder: which message gets one, and its job. PURE.

Guarantees: a message has at most one copy, in the mailbox of its author's account, whatever accounts and servers have
sent it; the copy has the form that left by that account, or else the first one. A message without a copy costs a test
of an attribute.
Not here: the form of a message (relay.sent_form), the work on a job and the mailbox (sent_copy).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

from senderproxy.mail.address import ForwardPath
from senderproxy.mail.outcome import Delivered, Outcome, SentForm
from senderproxy.mail.submission import Submission
from senderproxy.relay.decide import Decision
from senderproxy.relay.ports import NewJob
from senderproxy.relay.sent_form import write_form
from senderproxy.relay.ways import RoutedOutcomes
from senderproxy.tracking.record import SENT_COPY_JOBS, CopyState, Event, EventKind, Lane
from senderproxy.translation import N_, in_english, stored_text

TOO_LARGE: Final = N_("the header section is too large to be kept")
SPOOL_FAILED: Final = N_("the spool could not be written")


# Called with the lane of a job that has just been stored, and the id of its message.
OnCopy: TypeAlias = Callable[[Lane, str], None]


def ignore_copy(_lane: Lane, _message_id: str) -> None:
    """No one does these jobs."""


@dataclass(frozen=True, slots=True)
class NewCopy:
    """The copy of a message that has just been sent: its job, and the event about it. No job: it is lost."""

    jobs: Sequence[NewJob]
    event: Event


def is_sent(outcomes: Mapping[ForwardPath, Outcome]) -> bool:
    """True if a recipient has the message."""
    return any(isinstance(outcome, Delivered) for outcome in outcomes.values())


def new_copy(
    submission: Submission, decision: Decision, outcomes: Mapping[ForwardPath, Outcome], now: datetime
) -> NewCopy | None:
    """The copy that the message gets after this attempt; None if no recipient has it."""
    account = decision.route.account.id
    form = _form(outcomes, f"account {account}")
    if form is None:
        return None
    payload = write_form(form, submission.message.header.raw)
    if payload is None:
        return NewCopy((), lost(account, TOO_LARGE, now))
    job = NewJob(SENT_COPY_JOBS, Lane.of_account(account), payload, holds_content=True)
    return NewCopy((job,), copy_event(CopyState.WAITING, account, now))


def _form(outcomes: Mapping[ForwardPath, Outcome], own_way: str) -> SentForm | None:
    """The form that left by the author's account; else the first one."""
    forms = {path: outcome.sent for path, outcome in outcomes.items() if isinstance(outcome, Delivered)}
    if isinstance(outcomes, RoutedOutcomes):
        own = (form for path, form in forms.items() if outcomes.sent_by[path] == own_way and form is not None)
        if (found := next(own, None)) is not None:
            return found
    return next((form for form in forms.values() if form is not None), None)


def lost(account: str, why: str, now: datetime) -> Event:
    """The message left, and there will be no copy of it."""
    return copy_event(CopyState.LOST, account, now, why=why)


def copy_event(state: CopyState, account: str, now: datetime, *, why: str = "", **facts: str) -> Event:
    """An event about the copy of a message."""
    known = facts | {"why": in_english(why), "why_text": stored_text(why)}
    stated = {"state": state.value, "account": account, **{name: value for name, value in known.items() if value}}
    return Event(now, EventKind.COPY, (), stated)


def has_copy(events: Sequence[Event]) -> bool:
    """True if an attempt before has made the copy's job, or lost the copy."""
    return any(one.kind is EventKind.COPY for one in events)


def is_untried(events: Sequence[Event]) -> bool:
    """True if the copy has one job, and no attempt has failed. A crash in an attempt leaves no event."""
    return sum(one.kind is EventKind.COPY for one in events) == 1


def is_stored(events: Sequence[Event]) -> bool:
    """True if the copy is in the folder."""
    return any(one.kind is EventKind.COPY and one.facts.get("state") == CopyState.STORED.value for one in events)
