"""Large mail takes turns, so that small mail never waits long for it.

Promises: however many large messages come in and go out at once, only a few pieces of all of them together are worked
on in one turn of the event loop, and everything else has its turn in between. First come, first served: each message
advances as the others do.
Leaves to others: what counts as large, and what is done with a piece (listener.relay_smtp, delivery.session).
"""

import asyncio
from collections import deque
from typing import Final
from weakref import WeakKeyDictionary

PIECE: Final = 64 * 1024  # octets; what is handled of one message at a time
BUDGET: Final = 4 * PIECE  # of all of them between two looks at what else there is to do: about a millisecond's work


class Turns:
    """The queue in which large messages stand for their next piece."""

    def __init__(self) -> None:
        self._left = BUDGET
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()
        self._renewing = False

    async def take(self, octets: int) -> None:
        """Return when it is our turn to work on so many octets; at once, where nobody waits and the budget lasts."""
        loop = asyncio.get_running_loop()
        if not self._renewing:
            self._renewing = True
            loop.call_soon(self._renew)
        if self._left > 0 and not self._waiting:
            self._left -= octets
            return
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append((turn, octets))
        await turn

    def _renew(self) -> None:
        """A turn of the loop is over: those who came first have the next one."""
        self._renewing = self._left < BUDGET
        self._left = BUDGET
        while self._waiting and self._left > 0:
            turn, octets = self._waiting.popleft()
            if not turn.done():  # done: cancelled
                self._left -= octets
                turn.set_result(None)
        if self._renewing:
            asyncio.get_running_loop().call_soon(self._renew)


_TURNS: "Final[WeakKeyDictionary[asyncio.AbstractEventLoop, Turns]]" = WeakKeyDictionary()


def turns() -> Turns:
    """The queue that all share who run on this loop: receiving and sending take the same time."""
    return _TURNS.setdefault(asyncio.get_running_loop(), Turns())
