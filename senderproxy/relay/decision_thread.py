"""Decisions about messages with a large header section, on a thread.

Guarantees: such a decision, which can take seconds, delays neither the event loop nor a stop; those that wait are
bounded, in all and for each client, and are made in the order of their arrival.
Not here: the decision (relay.decide), the reply to a message that finds no place (relay.intake).
"""

from collections import Counter
from collections.abc import Callable
from typing import Final, TypeVar

from senderproxy.mail.submission import Submission
from senderproxy.worker_threads import QueueFull, WorkerThreads

_T = TypeVar("_T")

# Octets. A client's header section has 1 to 4 KiB. The most expensive ones that are known (a list of empty groups) take
# 6 ms of computing for each KiB: below this size, half of the 100 ms for which the event loop may be blocked.
LARGE_HEADER: Final = 8 * 1024
_WAITING: Final = 31  # decisions; at 256 KiB for each header section they take 8 MiB
_OF_CLIENT: Final = 3  # decisions of one client that are made or wait: it delays the others by so many at most


class TooManyDecisions(Exception):
    """As many decisions as the limit allows wait already, in all or of this client."""


def has_large_header(submission: Submission) -> bool:
    """True if the decision about the message must not be made on the event loop."""
    return len(submission.message.header.raw) > LARGE_HEADER


class DecisionThread:
    """A thread that makes decisions one after the other: a second one would only compete for Python's lock.

    `waiting`: decisions that may wait; `of_client`: decisions of one client that may wait or be made.
    """

    def __init__(self, name: str, *, waiting: int = _WAITING, of_client: int = _OF_CLIENT) -> None:
        self._thread = WorkerThreads(name, 1, waiting)
        self._limit = of_client
        self._of_client: Counter[str] = Counter()

    async def run(self, client: str, decide: Callable[[], _T]) -> _T:
        """The result of the call, which must be pure. `client`: the name by which the limit is counted.

        Raises TooManyDecisions.
        """
        if self._of_client[client] >= self._limit:
            raise TooManyDecisions
        try:
            deciding = self._thread.do(decide)
        except QueueFull as full:
            raise TooManyDecisions from full
        self._of_client[client] += 1
        try:
            return await deciding
        finally:
            self._of_client -= Counter((client,))
