"""Outcomes of one transaction, for each recipient. PURE.

Guarantees: after the final dot without a reply the outcome is unknown, and never a failure.
Not here: the transaction (delivery.session), the replies and their causes (delivery.classify).
"""

from dataclasses import replace

from senderproxy.delivery import classify
from senderproxy.delivery.session import Completed, Interrupted
from senderproxy.mail.address import ForwardPath
from senderproxy.mail.outcome import Deferred, Delivered, Outcome
from senderproxy.mail.reply import Reply
from senderproxy.relay.ports import Outcomes


def outcomes_of(result: Completed | Interrupted, recipients: tuple[ForwardPath, ...]) -> Outcomes:
    """Return the outcome for each recipient, in their order."""
    if isinstance(result, Completed):
        return result.outcomes
    if not result.dot_written:
        lost = Deferred(result.reply)
        if (paused_by := classify.limit_in(result.replies)) is None:
            return dict.fromkeys(recipients, lost)
        limited = replace(lost, unavailable=classify.unavailable_after(paused_by.cause))
        return {path: lost if path in result.rejected else limited for path in recipients}
    unknown = Deferred(classify.outcome_unknown(result.reply), maybe_taken=True)
    return {path: result.rejected.get(path, unknown) for path in recipients}


def may_be_accepted(outcome: Outcome) -> bool:
    """True if the upstream has the message for this recipient, or may have it."""
    return isinstance(outcome, Delivered) or (isinstance(outcome, Deferred) and outcome.maybe_taken)


def last_reply(result: Completed | Interrupted) -> Reply | None:
    """Return the last reply that decided; None if none was needed."""
    return result.reply if isinstance(result, Interrupted) else result.last_reply
