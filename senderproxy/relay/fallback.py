"""Decision about a message for the fallback account, in the place of an account that cannot send. PURE.

Guarantees: the message is one that the account itself may send, with the same reverse-path and From as it would send,
unless the account permits its fallback to replace them; then a restricted client must be permitted the fallback's
address. It is never discarded. The fallback's own fallback is not used.
Not here: the causes (mail.outcome.Unavailable), the attempts (relay.attempt), the choice of a fallback
(routing.fallback).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeAlias, assert_never

from senderproxy.mail import reasons
from senderproxy.mail.address import ForwardPath
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.outcome import Deferred, Delivered, Failed, Outcome, Substitute, Unavailable
from senderproxy.relay.decide import Decision, MessageFacts, Rules, decide
from senderproxy.rewriting.edited_header import Change
from senderproxy.rewriting.plan import apply_edits
from senderproxy.routing.directory import AccountDirectory, MatchTier
from senderproxy.routing.fallback import Fallback, fallback_of
from senderproxy.routing.provider import NullPolicy
from senderproxy.routing.route import Route

_Outcomes: TypeAlias = Mapping[ForwardPath, Outcome]


@dataclass(frozen=True, slots=True)
class Unfit:
    """The fallback may not send this message. `why`: a sentence without a period, in English."""

    why: str


def decide_fallback(
    facts: MessageFacts, directory: AccountDirectory, rules: Rules, account_id: str
) -> Decision | Unfit | None:
    """The decision for the fallback of this account, if it is the account of the message.

    None: there is no such fallback, or the message is not this account's any more.
    """
    first = decide(facts, directory, rules)
    if not isinstance(first, Decision) or first.route.account.id != account_id:
        return None
    fallback = fallback_of(first.route.account, directory, rules.providers)
    if fallback is None:
        return None
    second = decide(facts, directory, rules, lambda route: _by(fallback, route, facts))
    change = _sender_change(facts.header, first, second) if isinstance(second, Decision) else None
    if isinstance(second, Decision) and change is None:
        return second
    if not fallback.rewrites:
        what = change or reasons.SENDER
        return Unfit(reasons.NEEDS_CHANGE.format(provider=fallback.provider.name, what=what))
    if facts.client.senders is not None and not facts.client.may_use(fallback.account.address):
        return Unfit(reasons.MAY_NOT_SEND.format(client=facts.client, address=fallback.account.address))
    named = decide(facts, directory, rules, lambda route: replace(_by(fallback, route, facts), tier=MatchTier.NAMED))
    return named if isinstance(named, Decision) else Unfit(named.reply.reason)


def _by(fallback: Fallback, route: Route, facts: MessageFacts) -> Route:
    """The route by the fallback account; a report of ours is never discarded."""
    provider = fallback.provider
    if facts.carrier is not None:
        provider = replace(provider, null_policy=NullPolicy.REWRITE)
    return replace(route, account=fallback.account, provider=provider)


def _sender_change(header: HeaderSection, first: Decision, second: Decision) -> str | None:
    """The part of the sender that differs between two decisions about a message; None: none."""
    if first.plan.envelope.reverse_path != second.plan.envelope.reverse_path:
        return reasons.REVERSE_PATH
    sent = [apply_edits(decision.plan, header).values("From") for decision in (first, second)]
    return None if sent[0] == sent[1] else "From"


def replacing_address(header: HeaderSection, first: Decision, second: Decision) -> str:
    """The address of the fallback if it is the sender in place of the original one; empty: the sender is the same."""
    return str(second.route.account.address) if _sender_change(header, first, second) else ""


def sender_changes(decision: Decision) -> list[Change]:
    """The changes of a decision to the sender, for the operator."""
    return [change for change in decision.plan.changes if change.what in ("reverse-path", "From")]


# ---- accounts whose provider is unreachable ----

_RETRY: Final = 30.0  # seconds between two tries to reach the provider, as long as one may take


class Outages:
    """Accounts with a provider unreachable a moment ago: their fallback sends without a further try."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Deferred, float]] = {}  # by account, with the end on the monotonic clock

    def note(self, account: str, outcomes: _Outcomes, monotonic: float) -> None:
        """Note the outcomes of an attempt by the account itself."""
        for outcome in outcomes.values():
            if isinstance(outcome, Deferred) and outcome.unavailable is Unavailable.UNREACHABLE:
                self._known[account] = outcome, monotonic + _RETRY
                return

    def current(self, account: str, monotonic: float) -> Deferred | None:
        """The outcome of the last try, if the next one is not due yet."""
        outcome, until = self._known.get(account, (None, 0.0))
        if outcome is not None and monotonic >= until:
            self.forget(account)
            return None
        return outcome

    def forget(self, account: str) -> None:
        """Let the next message try the account itself."""
        self._known.pop(account, None)


# ---- outcomes ----


def open_to_fallback(outcomes: _Outcomes) -> dict[ForwardPath, Deferred]:
    """The recipients left to another account: this one cannot send now, and its upstream has no copy."""
    return {
        path: outcome
        for path, outcome in outcomes.items()
        if isinstance(outcome, Deferred) and outcome.unavailable is not None and not outcome.maybe_taken
    }


def has_copy(outcome: Outcome) -> bool:
    """True if the recipient has the message, or may have it: the outcome must not be lost."""
    return isinstance(outcome, Delivered) or (isinstance(outcome, Deferred) and outcome.maybe_taken)


def with_substitute(
    first: Mapping[ForwardPath, Deferred], second: _Outcomes, account: str, sent_as: str = ""
) -> dict[ForwardPath, Outcome]:
    """The outcomes after the fallback's attempt.

    That of the first account stays where the fallback cannot send either, or cannot send this message: it may wait.
    `sent_as`: the address that replaced the sender; empty: none did.
    """
    result: dict[ForwardPath, Outcome] = {}
    for path, outcome in second.items():
        before = first[path]
        assert before.unavailable is not None  # see open_to_fallback
        by = Substitute(account, before.unavailable, before.reply, sent_as)
        match outcome:
            case Delivered():
                result[path] = replace(outcome, by=by)
            case Deferred() if outcome.maybe_taken or not (outcome.of_account or outcome.unavailable):
                result[path] = replace(outcome, by=by)
            case Deferred():
                result[path] = before
            case Failed() if _is_about_fallback(outcome):
                result[path] = as_own_delay(before)
            case Failed():
                result[path] = replace(outcome, by=by)
            case _:
                assert_never(outcome)
    return result


def _is_about_fallback(failed: Failed) -> bool:
    """True if the account itself might send the message: its sender or its size was refused."""
    status = failed.reply.status
    return failed.refused_sender is not None or (status is not None and (status.subject, status.detail) == (3, 4))


def as_own_delay(outcome: Deferred) -> Deferred:
    """The outcome as one of this message alone: its queue goes on, through the fallback, and it waits by itself."""
    return replace(outcome, of_account=False)
