"""Tracking events for the actions of the relay. PURE.

Guarantees: recipients with the same outcome share one event.
Not here: storage of events (spool), their display (tracking.timeline).
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from senderproxy.mail.address import ForwardPath
from senderproxy.mail.outcome import Deferred, Delivered, Failed, Outcome, Substitute
from senderproxy.mail.reply import Reply
from senderproxy.mail.submission import Submission
from senderproxy.relay.decide import Decision
from senderproxy.rewriting.edited_header import Change
from senderproxy.tracking.record import Event, EventKind

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
    return [
        Event(
            now,
            EventKind.CHANGED,
            (),
            {"what": change.what, "old": change.old, "new": change.new, "reason": change.reason},
        )
        for change in changes
    ]


def attempted(
    outcomes: Mapping[ForwardPath, Outcome], of: int, account: str, now: datetime, seconds: float
) -> list[Event]:
    """The outcomes of one attempt that took `seconds`. `of`: number of recipients of the message."""
    groups: dict[Outcome, list[str]] = {}
    for path, outcome in outcomes.items():
        groups.setdefault(outcome, []).append(str(path))
    return [
        Event(
            now,
            EventKind.ATTEMPTED,
            () if len(paths) == of else tuple(paths),
            {
                "account": account if outcome.by is None else outcome.by.account,
                "outcome": _KINDS[type(outcome)],
                "reply": str(outcome.reply),
                "seconds": f"{seconds:.3f}",
            }
            | ({"maybe_taken": "yes"} if isinstance(outcome, Deferred) and outcome.maybe_taken else {})
            | ({"footer": outcome.footer} if isinstance(outcome, Delivered) and outcome.footer else {})
            | (_in_place_of(account, outcome.by) if outcome.by is not None else {}),
        )
        for outcome, paths in groups.items()
    ]


def _in_place_of(account: str, by: Substitute) -> dict[str, str]:
    """The facts of an attempt by the fallback of this account."""
    return {"instead_of": account, "cause": by.cause.value, "why": str(by.reply)}


def refused(answer: Reply, now: datetime, hint: str = "") -> Event:
    """The message was refused; the client still has it. `hint`: the remedy, if the reply does not have it."""
    facts = {"reply": str(answer)}
    if hint and hint not in facts["reply"]:
        facts["hint"] = hint
    return Event(now, EventKind.REFUSED, (), facts)
