"""Age buckets of the queue, as qshape(1) of Postfix counts them. PURE.

Guarantees: each age falls into exactly one bucket; a limit belongs to the bucket below it.
Not here: the counts of an account (relay.ports.Totals), their table (cli.queue).
"""

from bisect import bisect_left
from datetime import timedelta
from typing import Final

# Each limit doubles the one before it: the shape of a queue shows in few columns, from one retry to half a day.
AGE_LIMITS: Final = tuple(timedelta(minutes=minutes) for minutes in (5, 10, 20, 40, 80, 160, 320, 640))
AGE_BUCKETS: Final = len(AGE_LIMITS) + 1  # the last bucket has no limit


def age_bucket(age: timedelta) -> int:
    """The index of the bucket for a message that was received so long ago; 0 also for a time in the future."""
    return bisect_left(AGE_LIMITS, age)
