"""Events from what the relay did, for the message's story. PURE.

Guarantees: one event for all recipients to whom the same happened.
Not here: where events are kept (spool), how they are told (tracking.timeline).
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from senderproxy.mail.address import ForwardPath
from senderproxy.mail.outcome import Deferred, Delivered, Failed, Outcome
from senderproxy.mail.reply import Reply
from senderproxy.mail.submission import Submission
from senderproxy.relay.decide import Decision
from senderproxy.rewriting.draft import Change
from senderproxy.tracking.record import Event, EventKind

_KINDS: Final = {Delivered: "delivered", Deferred: "deferred", Failed: "failed"}


def accepted(submission: Submission, decision: Decision | None, mode: str) -> Event:
    """We are responsible from here on."""
    facts = {"client": str(submission.client), "listener": submission.listener, "mode": mode}
    facts["size"] = str(submission.message.size)
    if decision is not None:
        facts |= {"account": decision.route.account.id, "author": str(decision.route.author)}
    return Event(submission.received_at, EventKind.ACCEPTED, (), facts)


def changed(changes: Iterable[Change], now: datetime) -> list[Event]:
    """What left otherwise than it came."""
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
    """What one attempt came to, for some or all of the message's recipients, of whom there are so many."""
    alike: dict[Outcome, list[str]] = {}
    for path, outcome in outcomes.items():
        alike.setdefault(outcome, []).append(str(path))
    return [
        Event(
            now,
            EventKind.ATTEMPTED,
            () if len(paths) == of else tuple(paths),
            {
                "account": account,
                "outcome": _KINDS[type(outcome)],
                "reply": str(outcome.reply),
                "seconds": f"{seconds:.3f}",
            }
            | ({"maybe_taken": "yes"} if isinstance(outcome, Deferred) and outcome.maybe_taken else {}),
        )
        for outcome, paths in alike.items()
    ]


def refused(answer: Reply, now: datetime) -> Event:
    """The client has it still."""
    return Event(now, EventKind.REFUSED, (), {"reply": str(answer)})
