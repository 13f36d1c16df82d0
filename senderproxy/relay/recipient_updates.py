"""Consequences of an attempt's outcomes: the reply to the client, and the recipients' states in the spool. PURE.

Guarantees: 2xx only if every recipient was accepted upstream or is queued here; never 4xx or 5xx if one was accepted,
unless the spool cannot be written: then the reply is a 5xx that names the recipients not reached, because the author
must know and nothing may be sent twice.
Not here: reports to the author (relay.dsn_queueing), the commit (spool).
RFC 5321 sections 4.2.5, 4.5.4.1 and 6.1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import Enum
from typing import assert_never

from senderproxy.mail.address import ForwardPath
from senderproxy.mail.outcome import Deferred, Delivered, Failed, Outcome
from senderproxy.mail.reply import EnhancedStatus, Reply, reply
from senderproxy.retry import RetryPolicy, wait_after
from senderproxy.tracking.record import RecipientState, RecipientStatus
from senderproxy.value_class import value_class

_WAITING = RecipientState(RecipientStatus.WAITING)
_NAMED = 5  # recipients named in one reply, so that it can be read in a queue viewer
_NAMED_IF_PARTIAL = 90  # recipients named if nothing else reports them; a reply may have a hundred lines


class OnDeferral(Enum):
    """Reply to a waiting client if every recipient was deferred."""

    DEFER = "defer"  # the upstream's 4xx: the client retries
    QUEUE = "queue"  # 250: the message is queued here


# ---- for the client ----


def client_reply(outcomes: Mapping[ForwardPath, Outcome], submission_id: str, on_deferral: OnDeferral) -> Reply | None:
    """The reply to the client if nothing has to be queued; None if the message must be queued.

    All accepted: 250 with the upstream's text and our id. All refused, or all deferred: the upstream's code with the
    last line of its reply; the recipients are named if the replies differ.
    """
    kinds = {type(outcome) for outcome in outcomes.values()}
    if kinds == {Delivered}:
        upstream = next(iter(outcomes.values())).reply
        return reply(250, "2.0.0", f"{upstream.text} (senderproxy {submission_id})")
    if kinds == {Failed} or (kinds == {Deferred} and on_deferral is OnDeferral.DEFER):
        return undelivered_reply(outcomes)
    return None


def queued_reply(outcomes: Mapping[ForwardPath, Outcome], submission_id: str, *, is_reported: bool) -> Reply:
    """The 250 for a message that was queued after its first attempt, with the number of recipients of each outcome.

    `is_reported`: the refused ones are reported to the author, which automatic mail has not.
    """
    accepted, deferred, refused = (
        sum(isinstance(outcome, kind) for outcome in outcomes.values()) for kind in (Delivered, Deferred, Failed)
    )
    refusal = "refused and reported to the author" if is_reported else "refused"
    counts = [(accepted, "accepted"), (deferred, "queued for retry"), (refused, refusal)]
    text = ", ".join(f"{count} {what}" for count, what in counts if count)
    return reply(250, "2.0.0", f"Recipients: {text} (senderproxy {submission_id})")


def not_queued_reply(outcomes: Mapping[ForwardPath, Outcome]) -> Reply:
    """The reply if the message must be queued and the spool cannot be written."""
    if any(isinstance(outcome, Delivered) for outcome in outcomes.values()):
        return _partial_reply(outcomes)
    return undelivered_reply(outcomes)


def undelivered_reply(outcomes: Mapping[ForwardPath, Outcome]) -> Reply:
    """5xx if one recipient was refused, else 4xx; names the recipients if the replies differ. None was accepted."""
    failed = {path: outcome for path, outcome in outcomes.items() if isinstance(outcome, Failed)}
    deferred = {path: outcome for path, outcome in outcomes.items() if isinstance(outcome, Deferred)}
    replies = {path: outcome.reply for path, outcome in (failed or deferred).items()}
    first = next(iter(replies.values())).with_default_status(0, 0)
    if len(replies) == len(outcomes) and len(set(replies.values())) == 1:
        explained = any(outcome.refused_sender for outcome in failed.values())
        return first if explained else replace(first, lines=(first.reason,))
    advice = "send it again without them" if failed else "it can be tried again later"
    summary = f"The message was sent to no recipient; {advice}."
    return Reply(550 if failed else 451, first.status, (*_named(replies), summary))


def _partial_reply(outcomes: Mapping[ForwardPath, Outcome]) -> Reply:
    missed = {path: outcome.reply for path, outcome in outcomes.items() if not isinstance(outcome, Delivered)}
    accepted = len(outcomes) - len(missed)
    return Reply(
        554,
        EnhancedStatus(5, 0, 0),
        (
            *_named(missed, _NAMED_IF_PARTIAL),
            f"The message was sent to {accepted} of {len(outcomes)} recipients; send it again to the others only.",
        ),
    )


def _named(replies: Mapping[ForwardPath, Reply], most: int = _NAMED) -> list[str]:
    named = [f"{path}: {answer.code} {answer.reason}" for path, answer in list(replies.items())[:most]]
    if len(replies) > most:
        named.append(f"and {len(replies) - most} more recipients were not accepted")
    return named


# ---- for the spool ----


@value_class
class RecipientUpdates:
    """New states after an attempt, and the recipients that need a report to the author."""

    states: Mapping[ForwardPath, RecipientState]
    failed: Sequence[ForwardPath] = ()
    expired: Sequence[ForwardPath] = ()


def update_recipients(
    due: Mapping[ForwardPath, RecipientState],
    outcomes: Mapping[ForwardPath, Outcome],
    policy: RetryPolicy,
    *,
    chance: float,
    over: bool,
) -> RecipientUpdates:
    """The states after an attempt. `over`: the retry time is used up; `chance`: random, from 0 to 1.

    If the account could not send at all, the recipient keeps its due time and its number of tries.
    """
    states: dict[ForwardPath, RecipientState] = {}
    failed, expired = [], []
    for path, outcome in outcomes.items():
        before = due[path]
        tries, said, remote = before.tries + 1, outcome.reply, "" if isinstance(outcome, Delivered) else outcome.remote
        match outcome:
            case Delivered():
                states[path] = RecipientState(RecipientStatus.DELIVERED, None, tries, said)
            case Failed():
                states[path] = RecipientState(RecipientStatus.FAILED, None, tries, said, remote=remote)
                failed.append(path)
            case Deferred() if over:
                states[path] = RecipientState(RecipientStatus.EXPIRED, None, tries, said, remote=remote)
                expired.append(path)
            case Deferred() if outcome.of_account:
                states[path] = replace(before, reply=said, remote="")
            case Deferred():
                wait = wait_after(policy, tries, chance)
                if outcome.retry_after is not None:
                    wait = max(wait, outcome.retry_after * (1.0 + 0.1 * chance))
                states[path] = replace(before, due_in=wait, tries=tries, reply=said, remote=remote)
            case _:
                assert_never(outcome)
    return RecipientUpdates(states, failed, expired)


def initial_states(recipients: Sequence[ForwardPath]) -> Mapping[ForwardPath, RecipientState]:
    """All recipients waiting and due at once."""
    return dict.fromkeys(recipients, _WAITING)


def pass_through_states(outcomes: Mapping[ForwardPath, Outcome]) -> Mapping[ForwardPath, RecipientState]:
    """The final states of a message that was passed through: deferred ones are left to the client."""
    status = {Delivered: RecipientStatus.DELIVERED, Failed: RecipientStatus.FAILED, Deferred: RecipientStatus.DEFERRED}
    return {path: RecipientState(status[type(outcome)], None, 1, outcome.reply) for path, outcome in outcomes.items()}


def shortest_wait(states: Mapping[ForwardPath, RecipientState]) -> float | None:
    """Seconds until the next of the recipients may be due; None if none of them waits."""
    waits = [state.due_in for state in states.values() if state.status is RecipientStatus.WAITING]
    return min([0.0 if wait is None else wait.total_seconds() for wait in waits], default=None)
