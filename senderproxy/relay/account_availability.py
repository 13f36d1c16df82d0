"""Number of messages that an account can send at once, and the block of a queue whose account cannot send.

Guarantees: an account that delivery will not use is blocked for as long as delivery says; one that fails for another
reason is blocked for the waits of the retry policy.
Not here: the state of an account (delivery.account_health, delivery.quota), the dispatch of its queue (relay.dispatch).
"""

import math

from senderproxy.clock import Clock
from senderproxy.relay.attempt import REPORT_SERVER, MessageRelay
from senderproxy.relay.dispatch import AccountQueue
from senderproxy.relay.ports import NO_ACCOUNT, Accounts, Courier, Outcomes
from senderproxy.retry import RetryPolicy, wait_after


class AccountAvailability:
    """Current limits of the accounts."""

    def __init__(self, accounts: Accounts, relay: MessageRelay, courier: Courier, clock: Clock) -> None:
        self._accounts = accounts
        self._relay = relay
        self._courier = courier
        self._clock = clock

    def connections(self, queue: AccountQueue) -> int | None:
        """The number of messages at once; None: no such account; 0: it cannot send, and its queue is now blocked."""
        if queue.account in (NO_ACCOUNT, REPORT_SERVER):
            return None
        account = self._accounts.directory().by_id(queue.account)
        provider = self._relay.rules.providers.get(account.provider) if account else None
        if account is None or provider is None:
            return None
        availability = self._courier.availability(account, provider)
        if availability.reason is not None:
            seconds = math.inf if availability.retry_after is None else availability.retry_after
            queue.block(availability.reason, self._clock.monotonic() + seconds)
            return 0
        return availability.connections

    def record_outcomes(self, queue: AccountQueue, outcomes: Outcomes, policy: RetryPolicy) -> None:
        """Block the queue for a while if the attempt failed because of the account."""
        monotonic = self._clock.monotonic()
        reply = queue.record_outcomes(outcomes, monotonic)
        if reply is None or self.connections(queue) == 0:
            return
        wait = wait_after(policy, queue.failures, self._clock.chance())
        queue.block(reply, monotonic + wait.total_seconds())
