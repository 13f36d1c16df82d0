"""Waits between delivery attempts, and the time to give up. PURE.

Guarantees: the waits double from the first to the longest. Each is spread by a quarter around its average, so that
messages that failed together are not tried together again. The time to give up counts from the reception, not from the
first attempt. RFC 5321 section 4.5.4.1.
Not here: the order and the number of attempts at the same time (relay.runner).
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

_DOUBLINGS: Final = 30  # at most; 2**30 of the shortest wait is above any longest wait, and no timedelta overflows


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The waits between attempts, and the ages of a message at which its author gets a report."""

    first: timedelta = timedelta(minutes=1)
    longest: timedelta = timedelta(minutes=30)
    give_up: timedelta = timedelta(days=2)
    report_delay: timedelta | None = timedelta(hours=4)  # None: no report about a delay


def wait_after(policy: RetryPolicy, attempts: int, chance: float) -> timedelta:
    """The wait after so many failed attempts (from 1). `chance`: a random number from 0 to 1, for the spread."""
    doubled: timedelta = policy.first * 2.0 ** min(max(attempts, 1) - 1, _DOUBLINGS)
    return min(doubled, policy.longest) * (0.75 + 0.5 * chance)


def is_over(policy: RetryPolicy, age: timedelta) -> bool:
    """True if a message of this age that fails now is given up."""
    return age >= policy.give_up
