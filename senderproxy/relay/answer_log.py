"""Log line and observer's call for the reply to a message.

Guarantees: one line for each message; without a line, its fields are not made.
Not here: the history of a message (relay.tracking_events).
"""

import logging

from senderproxy import log_events
from senderproxy.log import event
from senderproxy.log_events import LogEvent
from senderproxy.mail.reply import Reply
from senderproxy.mail.submission import Submission
from senderproxy.relay.decide import Decision
from senderproxy.relay.ports import NO_ACCOUNT, IntakeObserver
from senderproxy.rewriting.plan import Discard
from senderproxy.routing.route import Refusal

_log = logging.getLogger("senderproxy.relay")


def log_answer(
    observer: IntakeObserver | None,
    submission: Submission,
    decision: Decision | Refusal | Discard,
    answer: Reply,
    kind: LogEvent,
    seconds: float,
) -> None:
    """One line for each message: client, account, number of recipients, and result. The observer is called.

    `kind`: the event of a positive reply.
    """
    kind = _event_of(answer, kind)
    observe_answer(observer, submission, decision, answer, kind, seconds)
    if not _log.isEnabledFor(kind.level):
        return
    event(_log, kind, fault=None, **_log_fields(submission, decision, answer, seconds))


def observe_answer(
    observer: IntakeObserver | None,
    submission: Submission,
    decision: Decision | Refusal | Discard,
    answer: Reply,
    kind: LogEvent,
    seconds: float,
) -> None:
    """Call the observer, if there is one."""
    if observer is not None:
        account = decision.route.account.id if isinstance(decision, Decision) else NO_ACCOUNT
        observer.answered(submission.listener, account, _event_of(answer, kind), seconds)


def _event_of(answer: Reply, kind: LogEvent) -> LogEvent:
    """The event of a negative reply in place of `kind`."""
    if answer.is_positive:
        return kind
    return log_events.MESSAGE_DEFERRED if answer.is_transient else log_events.MESSAGE_REFUSED


def _log_fields(
    submission: Submission, decision: Decision | Refusal | Discard, answer: Reply, seconds: float
) -> dict[str, object]:
    """The fields of the line about a message."""
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
            "chosen_by": f"{route.source.value}, {route.tier.description}",
        }
        if decision.ways is None:
            facts |= {_changed_field(change.what): change.new or "(removed)" for change in decision.plan.changes}
        else:
            facts["ways"] = "; ".join(dict.fromkeys(map(str, decision.ways.values())))
    elif isinstance(decision, Refusal) and decision.hint:
        facts["hint"] = decision.hint
    return facts


def _changed_field(what: str) -> str:
    """The log field for a changed header field or envelope address."""
    return f"changed_{what.lower().replace('-', '_')}"
