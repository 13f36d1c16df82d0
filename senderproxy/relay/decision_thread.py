"""Decisions about messages with a large header section, or with dense address lists, on a thread.

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

# Octets. A client's header section has 1 to 4 KiB. The most expensive ones that are known take 10 ms of computing for
# each KiB: lists of items of three octets. Those with less than one of _LIST_MARKS in eight octets take 5 ms.
LARGE_HEADER: Final = 8 * 1024
_LIST_MARKS: Final = b"@,;("  # of the items of address lists; a usual header section has one in fifty octets
_DENSE: Final = 8  # octets for each mark; a list of bare addresses has about ten
_SMALL: Final = 512  # octets; the most expensive ones take 5 ms
_WAITING: Final = 31  # decisions; at 256 KiB for each header section they take 8 MiB
_OF_CLIENT: Final = 3  # decisions of one client that are made or wait: it delays the others by so many at most


class TooManyDecisions(Exception):
    """As many decisions as the limit allows wait already, in all or of this client."""


def has_large_header(submission: Submission) -> bool:
    """True if the decision about the message must not be made on the event loop."""
    raw = submission.message.header.raw
    size = len(raw)
    if size <= _SMALL:
        return False
    return size > LARGE_HEADER or size < _DENSE * (size - len(raw.translate(None, _LIST_MARKS)))


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
