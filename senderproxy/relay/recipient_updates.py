"""What the outcomes of one attempt mean: for the client who waits, and for what is kept in the spool. PURE.

Guarantees: 2xx only where every recipient was taken or is kept here; never a 4xx or 5xx where one was taken, unless
nothing can be kept: then the answer is a 5xx that says who was not reached, because the author must hear of it and
nothing may be sent twice.
RFC 5321 sections 4.2.5, 4.5.4.1 and 6.1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import assert_never

from senderproxy.mail.address import ForwardPath
from senderproxy.mail.outcome import Deferred, Delivered, Failed, Outcome
from senderproxy.mail.reply import EnhancedStatus, Reply, reply
from senderproxy.retry import RetryPolicy, wait_after
from senderproxy.tracking.record import RecipientState, RecipientStatus

_NAMED = 5  # recipients named in one reply; a reply is read in a queue viewer
_NAMED_OF_PARTS = 90  # where nothing else tells the author who was not reached; a reply may have a hundred lines


class OnDeferral(Enum):
    """What a client that waits is told where nobody could be reached for now."""

    DEFER = "defer"  # to come again
    QUEUE = "queue"  # that it is kept here


# ---- for the client ----


def answer(outcomes: Mapping[ForwardPath, Outcome], submission_id: str, on_deferral: OnDeferral) -> Reply | None:
    """The client's answer where nothing has to be kept; None where we take responsibility.

    All taken: 250 with the upstream's own words and our id. All refused, or all deferred: the upstream's code with the
    last line of its reply; naming the recipients where it said different things.
    """
    kinds = {type(outcome) for outcome in outcomes.values()}
    if kinds == {Delivered}:
        said = next(iter(outcomes.values())).reply
        return reply(250, "2.0.0", f"{said.text} (senderproxy {submission_id})")
    if kinds == {Failed} or (kinds == {Deferred} and on_deferral is OnDeferral.DEFER):
        return nobody_has_it(outcomes)
    return None


def kept(outcomes: Mapping[ForwardPath, Outcome], submission_id: str) -> Reply:
    """The answer where we have taken responsibility."""
    taken, waits, refused = (
        sum(isinstance(outcome, kind) for outcome in outcomes.values()) for kind in (Delivered, Deferred, Failed)
    )
    counts = [(taken, "taken"), (waits, "kept here and tried again"), (refused, "refused, the author is told")]
    words = ", ".join(f"{count} {what}" for count, what in counts if count)
    return reply(250, "2.0.0", f"Recipients: {words} (senderproxy {submission_id})")


def nothing_kept(outcomes: Mapping[ForwardPath, Outcome]) -> Reply:
    """The answer where responsibility ought to be taken, and the spool cannot be written."""
    if any(isinstance(outcome, Delivered) for outcome in outcomes.values()):
        return _partly(outcomes)
    return nobody_has_it(outcomes)


def nobody_has_it(outcomes: Mapping[ForwardPath, Outcome]) -> Reply:
    """Refused where one was refused for good, else deferred; names who stood in the way where not all are alike."""
    failed = {path: outcome for path, outcome in outcomes.items() if isinstance(outcome, Failed)}
    deferred = {path: outcome for path, outcome in outcomes.items() if isinstance(outcome, Deferred)}
    in_the_way = {path: outcome.reply for path, outcome in (failed or deferred).items()}
    first = next(iter(in_the_way.values())).with_default_status(0, 0)
    if len(in_the_way) == len(outcomes) and len(set(in_the_way.values())) == 1:
        explained = any(outcome.refused_sender for outcome in failed.values())
        return first if explained else replace(first, lines=(first.text,))
    return _broken_off(550 if failed else 451, first.status, in_the_way)


def _partly(outcomes: Mapping[ForwardPath, Outcome]) -> Reply:
    missed = {path: outcome.reply for path, outcome in outcomes.items() if not isinstance(outcome, Delivered)}
    taken = len(outcomes) - len(missed)
    return Reply(
        554,
        EnhancedStatus(5, 0, 0),
        (
            *_named(missed, _NAMED_OF_PARTS),
            f"The message was sent to {taken} of {len(outcomes)} recipients; send it again to the others only.",
        ),
    )


def _broken_off(code: int, status: EnhancedStatus | None, in_the_way: Mapping[ForwardPath, Reply]) -> Reply:
    advice = "send it again without them" if code >= 500 else "it can be tried again later"
    return Reply(code, status, (*_named(in_the_way), f"The message was sent to nobody; {advice}."))


def _named(in_the_way: Mapping[ForwardPath, Reply], most: int = _NAMED) -> list[str]:
    named = [f"{path}: {answer.code} {answer.text}" for path, answer in list(in_the_way.items())[:most]]
    if len(in_the_way) > most:
        named.append(f"and {len(in_the_way) - most} more recipients were not taken")
    return named


# ---- for the spool ----


@dataclass(frozen=True, slots=True)
class RecipientUpdates:
    """What becomes of each recipient, and of whom the author must hear."""

    states: Mapping[ForwardPath, RecipientState]
    failed: Sequence[ForwardPath] = ()
    expired: Sequence[ForwardPath] = ()


def judge(
    due: Mapping[ForwardPath, RecipientState],
    outcomes: Mapping[ForwardPath, Outcome],
    policy: RetryPolicy,
    *,
    now: datetime,
    chance: float,
    over: bool,
) -> RecipientUpdates:
    """The states after an attempt; `over`: it has been tried for long enough.

    Where the account could not send at all, the recipient keeps its turn.
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
                later = now + wait_after(policy, tries, chance)
                states[path] = replace(before, due_at=later, tries=tries, reply=said, remote=remote)
            case _:
                assert_never(outcome)
    return RecipientUpdates(states, failed, expired)


def waiting(recipients: Sequence[ForwardPath], now: datetime) -> Mapping[ForwardPath, RecipientState]:
    """All of them due at once."""
    return dict.fromkeys(recipients, RecipientState(RecipientStatus.WAITING, now))


def ended(outcomes: Mapping[ForwardPath, Outcome]) -> Mapping[ForwardPath, RecipientState]:
    """What is remembered of a message that passed through: what was not taken, the client has still."""
    fates = {Delivered: RecipientStatus.DELIVERED, Failed: RecipientStatus.FAILED, Deferred: RecipientStatus.DEFERRED}
    return {path: RecipientState(fates[type(outcome)], None, 1, outcome.reply) for path, outcome in outcomes.items()}
