"""FallbackDelivery: a message by its account, then by the fallback of that account.

Guarantees: a recipient to whom an earlier attempt may have been successful is left to the account. The outcomes of the
account stand where the fallback may not send, or cannot either.
Not here: the decision for the fallback (relay.fallback), one attempt (relay.attempt).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

from senderproxy import log_events
from senderproxy.clock import Clock
from senderproxy.log import event
from senderproxy.mail.address import ForwardPath
from senderproxy.mail.outcome import Deferred, Delivered
from senderproxy.mail.submission import Submission
from senderproxy.relay.decide import Decision
from senderproxy.relay.fallback import (
    Outages,
    Unfit,
    as_own_delay,
    has_copy,
    open_to_fallback,
    replacing_address,
    with_substitute,
)
from senderproxy.relay.ports import Outcomes

MaybeTaken: TypeAlias = Callable[[], Awaitable[Container[ForwardPath]]]
Deliver: TypeAlias = Callable[[Submission, Decision, Sequence[ForwardPath] | None], Awaitable[Outcomes]]
Decide: TypeAlias = Callable[[Submission, str], Awaitable[Decision | Unfit | None]]

_log: Final = logging.getLogger("senderproxy.relay")


class FallbackDelivery:
    """Attempts of accounts with a fallback. `deliver`: one attempt; `decide`: for the fallback of an account."""

    def __init__(self, deliver: Deliver, decide: Decide, clock: Clock) -> None:
        self._deliver = deliver
        self._decide = decide
        self._clock = clock
        self._outages = Outages()

    async def deliver(
        self,
        submission: Submission,
        decision: Decision,
        recipients: Sequence[ForwardPath] | None,
        maybe_taken: MaybeTaken | None,
    ) -> Outcomes:
        """Offer the message by its account, then, to the permitted recipients, by the fallback."""
        account = decision.route.account.id
        other: Decision | Unfit | None = None
        known = self._outages.current(account, self._clock.monotonic())
        if known is not None:
            other = await self._decide(submission, account)
        if known is None or other is None:
            outcomes = await self._deliver(submission, decision, recipients)
            self._outages.note(account, outcomes, self._clock.monotonic())
        else:
            outcomes = dict.fromkeys(decision.plan.envelope.recipients if recipients is None else recipients, known)
        waiting = open_to_fallback(outcomes)
        if waiting and known is None:
            other = await self._decide(submission, account)
        if not waiting or other is None:
            return outcomes
        barred = await maybe_taken() if maybe_taken is not None else ()
        may = [] if isinstance(other, Unfit) else [path for path in waiting if path not in barred]
        result = {**outcomes, **{path: as_own_delay(waiting[path]) for path in waiting if path not in may}}
        if len(may) < len(waiting):
            why = other.why if isinstance(other, Unfit) else "an earlier attempt may have been successful"
            event(_log, log_events.FALLBACK_UNFIT, id=submission.id, account=account, why=why)
        if may and isinstance(other, Decision):
            open_ = {path: waiting[path] for path in may}
            if other.is_copied is not decision.is_copied:  # into the mailbox of the account, not of its fallback
                other = replace(other, is_copied=decision.is_copied)
            result |= await self._deliver_instead(submission, decision, other, open_, outcomes)
        return result

    async def _deliver_instead(
        self,
        submission: Submission,
        decision: Decision,
        other: Decision,
        waiting: Mapping[ForwardPath, Deferred],
        outcomes: Outcomes,
    ) -> Outcomes:
        """Offer the message by the fallback; its outcomes. A cancellation has no effect if a recipient has a copy."""
        fallback, first = other.route.account.id, next(iter(waiting.values()))
        sent_as = replacing_address(submission.message.header, decision, other)
        try:
            tried = await self._deliver(submission, other, tuple(waiting))
        except asyncio.CancelledError:
            if any(map(has_copy, outcomes.values())):
                return waiting
            raise
        result = with_substitute(waiting, tried, fallback, sent_as)
        sent = sum(isinstance(outcome, Delivered) for outcome in result.values())
        if all(outcome is waiting[path] for path, outcome in result.items()):
            self._outages.forget(
                decision.route.account.id
            )  # the fallback cannot send either: no message is to wait for a memory
        assert first.unavailable is not None  # see open_to_fallback
        event(
            _log,
            log_events.FALLBACK_USED,
            fault=None,
            id=submission.id,
            account=decision.route.account.id,
            fallback=fallback,
            sent_as=sent_as or None,
            cause=first.unavailable.value,
            why=first.reply,
            delivered=sent,
            recipients=len(waiting),
            reply=next(iter(tried.values())).reply,
        )
        return result
