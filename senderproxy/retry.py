"""Retry schedule and expiry of queued messages. PURE.

Guarantees: the wait doubles from `first` up to `longest`, with a random spread of a quarter, so that messages that
failed together are not retried together. Expiry counts from the reception, not from the first attempt.
Not here: the queue and its timers (relay.runner).
RFC 5321 section 4.5.4.1.
"""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Retry intervals, expiry and delay report."""

    first: timedelta = timedelta(minutes=1)  # wait after the first failed attempt
    longest: timedelta = timedelta(minutes=30)  # upper limit of the wait
    give_up: timedelta = timedelta(days=2)  # age at which a message expires
    report_delay: timedelta | None = timedelta(hours=4)  # age at which a delay is reported; None: never


def wait_after(policy: RetryPolicy, tries: int, chance: float) -> timedelta:
    """The wait after so many failed attempts (from 1). `chance`: random, 0 to 1; spreads it from 75 to 125 percent."""
    doubled: timedelta = policy.first * 2.0 ** min(max(tries, 1) - 1, 30)
    return min(doubled, policy.longest) * (0.75 + 0.5 * chance)


def is_over(policy: RetryPolicy, age: timedelta) -> bool:
    """True if a message of this age expires when its attempt is deferred."""
    return age >= policy.give_up
