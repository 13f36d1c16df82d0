"""When to try again, and when to give up. PURE.

Guarantees: the waits double from the first to the longest and are never shorter than three quarters of what they are on
the average, so that what failed together does not come back together. Giving up counts from the reception, not from the
first try.
RFC 5321 section 4.5.4.1.
"""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How patient we are."""

    first: timedelta = timedelta(minutes=1)
    longest: timedelta = timedelta(minutes=30)
    give_up: timedelta = timedelta(days=2)
    report_delay: timedelta | None = timedelta(hours=4)  # None: the author hears nothing until it is over


def wait_after(policy: RetryPolicy, tries: int, chance: float) -> timedelta:
    """How long to wait after so many failed tries (from 1). `chance` is drawn from 0 to 1: a quarter less or more."""
    doubled: timedelta = policy.first * 2.0 ** min(max(tries, 1) - 1, 30)
    return min(doubled, policy.longest) * (0.75 + 0.5 * chance)


def is_over(policy: RetryPolicy, age: timedelta) -> bool:
    """True where a message of this age that fails now has been tried for long enough."""
    return age >= policy.give_up
