"""Number of messages that an account or server can take at once, and the block of a queue that cannot send.

Guarantees: an account that delivery will not use is blocked for as long as delivery says, unless its fallback can send;
one that fails for another reason is blocked for the waits of the retry policy, and so is a server without a login. A
queue that waits for both goes on when the first of them can send.
Not here: the state of an account (delivery.account_health, delivery.quota), the dispatch of its queue (relay.dispatch),
the use of the fallback (relay.attempt).
"""

import math
from collections.abc import Collection

from senderproxy.clock import Clock
from senderproxy.relay.attempt import REPORT_SERVER, MessageRelay
from senderproxy.relay.dispatch import LaneQueue
from senderproxy.relay.ports import NO_ACCOUNT, Accounts, Availability, Courier, Outcomes
from senderproxy.retry import RetryPolicy, wait_after
from senderproxy.routing.account import Account
from senderproxy.routing.fallback import fallback_of
from senderproxy.tracking.record import ACCOUNT_LANE


class AccountAvailability:
    """Current limits of the accounts."""

    def __init__(self, accounts: Accounts, relay: MessageRelay, courier: Courier, clock: Clock) -> None:
        self._accounts = accounts
        self._relay = relay
        self._courier = courier
        self._clock = clock
        self._waiting: dict[str, set[str]] = {}  # accounts whose queue is blocked, by their fallback

    def connections(self, queue: LaneQueue) -> int | None:
        """The number of messages at once; None: no such account; 0: it cannot send, and its queue is now blocked."""
        if queue.lane.kind != ACCOUNT_LANE:
            availability = self._courier.hop_availability(queue.lane)
            if availability.reason is None:
                return availability.connections
            queue.block(availability.reason, self._clock.monotonic() + _seconds(availability))
            return 0
        if queue.account in (NO_ACCOUNT, REPORT_SERVER):
            return None
        account = self._accounts.directory().by_id(queue.account)
        provider = self._relay.rules.providers.get(account.provider) if account else None
        if account is None or provider is None:
            return None
        availability = self._courier.availability(account, provider)
        if availability.reason is None:
            return availability.connections
        seconds = _seconds(availability)
        if account.fallback is not None and (other := self._of_fallback(account)) is not None:
            if other.reason is None:
                return other.connections
            seconds = min(seconds, _seconds(other))
            self._waiting.setdefault(account.fallback, set()).add(account.id)
        queue.block(availability.reason, self._clock.monotonic() + seconds)
        return 0

    def forget_waiting(self, account: str) -> Collection[str]:
        """The accounts with a queue that waits for this one, their fallback; each is returned once."""
        return self._waiting.pop(account, ()) if self._waiting else ()

    def record_outcomes(self, queue: LaneQueue, outcomes: Outcomes, policy: RetryPolicy) -> None:
        """Block the queue for a while if the attempt failed because of the account or the server."""
        monotonic = self._clock.monotonic()
        reply = queue.record_outcomes(outcomes, monotonic)
        if reply is None or self.connections(queue) == 0:
            return
        wait = wait_after(policy, queue.failures, self._clock.chance())
        queue.block(reply, monotonic + wait.total_seconds())

    def _of_fallback(self, account: Account) -> Availability | None:
        """The availability of the account's fallback; None without one."""
        fallback = fallback_of(account, self._accounts.directory(), self._relay.rules.providers)
        return None if fallback is None else self._courier.availability(fallback.account, fallback.provider)


def _seconds(availability: Availability) -> float:
    return math.inf if availability.retry_after is None else availability.retry_after
