"""Tracking events for the actions of the relay. PURE.

Guarantees: recipients with the same outcome share one event.
Not here: storage of events (spool), their display (tracking.timeline).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from senderproxy.mail.address import ForwardPath
from senderproxy.mail.outcome import Deferred, Delivered, Failed, Outcome, Substitute
from senderproxy.mail.reply import Reply
from senderproxy.mail.submission import Submission
from senderproxy.relay.decide import Decision
from senderproxy.relay.ways import NoWay, RoutedOutcomes
from senderproxy.rewriting.edited_header import Change
from senderproxy.rewriting.plan import RewritePlan
from senderproxy.tracking.record import Event, EventKind

_ACCOUNT: Final = "account "
_KINDS: Final = {Delivered: "delivered", Deferred: "deferred", Failed: "failed"}


def accepted(submission: Submission, decision: Decision | None, mode: str) -> Event:
    """Responsibility for the message was accepted. `decision`: None if no account is known for it yet."""
    facts = {"client": str(submission.client), "listener": submission.listener, "mode": mode}
    facts["size"] = str(submission.message.size)
    if decision is not None:
        facts |= {"account": decision.route.account.id, "author": str(decision.route.author)}
    return Event(submission.received_at, EventKind.ACCEPTED, (), facts)


def changed(changes: Iterable[Change], now: datetime) -> list[Event]:
    """One event for each change of the rewrite plan."""
    return [Event(now, EventKind.CHANGED, (), _facts(change)) for change in changes]


def _facts(change: Change) -> Mapping[str, str]:
    """No text of a subject: it is in the history where `spool.keep_subjects` stores it, and nowhere else."""
    if change.what.lower() == "subject" and change.new:
        return {"what": change.what, "reason": change.reason}
    old = "" if change.what.lower() == "subject" else change.old
    return {"what": change.what, "old": old, "new": change.new, "reason": change.reason}


def changed_by(decision: Decision, recipients: Sequence[ForwardPath], now: datetime) -> list[Event]:
    """The changes of a message to these recipients: one event for each change of each way."""
    if decision.ways is None:
        return changed(decision.plan.changes, now)
    groups: dict[int, tuple[RewritePlan, list[str]]] = {}
    for path in recipients:
        if (plan := _plan_of(decision, path)) is not None:
            groups.setdefault(id(plan), (plan, []))[1].append(str(path))
    return [
        replace(event, recipients=tuple(paths))
        for plan, paths in groups.values()
        for event in changed(plan.changes, now)
    ]


def _plan_of(decision: Decision, path: ForwardPath) -> RewritePlan | None:
    way = decision.way_of(path)
    if way is None:
        return decision.plan
    return None if isinstance(way, NoWay) else way.plan


def attempted(
    outcomes: Mapping[ForwardPath, Outcome], of: int, account: str, now: datetime, seconds: float
) -> list[Event]:
    """The outcomes of one attempt that took `seconds`. `of`: number of recipients of the message."""
    return [
        Event(
            now,
            EventKind.ATTEMPTED,
            () if len(paths) == of else tuple(paths),
            _sent_by(sent_by if outcome.by is None else f"{_ACCOUNT}{outcome.by.account}")
            | {
                "outcome": _KINDS[type(outcome)],
                "reply": str(outcome.reply),
                "seconds": f"{seconds:.3f}",
            }
            | ({"maybe_taken": "yes"} if isinstance(outcome, Deferred) and outcome.maybe_taken else {})
            | ({"footer": outcome.footer} if isinstance(outcome, Delivered) and outcome.footer else {})
            | (_in_place_of(account, outcome.by) if outcome.by is not None else {}),
        )
        for outcome, sent_by, paths in _by_outcome(outcomes, f"{_ACCOUNT}{account}")
    ]


def _by_outcome(outcomes: Mapping[ForwardPath, Outcome], account: str) -> Iterable[tuple[Outcome, str, list[str]]]:
    """Each different outcome with what it was sent by and its recipients."""
    sent_by = outcomes.sent_by if isinstance(outcomes, RoutedOutcomes) else {}
    if len(outcomes) == 1:
        ((path, outcome),) = outcomes.items()
        return [(outcome, sent_by.get(path, account), [str(path)])]
    groups: dict[tuple[Outcome, str], list[str]] = {}
    for path, outcome in outcomes.items():
        groups.setdefault((outcome, sent_by.get(path, account)), []).append(str(path))
    return [(outcome, by, paths) for (outcome, by), paths in groups.items()]


def _in_place_of(account: str, by: Substitute) -> dict[str, str]:
    """The facts of an attempt by the fallback of this account."""
    facts = {"instead_of": account, "cause": by.cause.value, "why": str(by.reply)}
    return facts | ({"sent_as": by.sent_as} if by.sent_as else {})


def _sent_by(way: str) -> dict[str, str]:
    if way.startswith(_ACCOUNT):
        return {"account": way.removeprefix(_ACCOUNT)}
    return {"way": way} if way else {}


def refused(answer: Reply, now: datetime, hint: str = "") -> Event:
    """The message was refused; the client still has it. `hint`: the remedy, if the reply does not have it."""
    facts = {"reply": str(answer)}
    if hint and hint not in facts["reply"]:
        facts["hint"] = hint
    return Event(now, EventKind.REFUSED, (), facts)
