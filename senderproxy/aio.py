"""Helpers for the event loop: a fair share of it for large messages, and waiting for a task without cancelling it.

FairShare: however many large messages come in and go out at once, one pass of the loop handles a few pieces of all of
them together, and everything else runs in between. First come, first served.
wait_done: raises nothing that the task raises, and leaves it running when the waiter gives up or is cancelled. It does
for one task what `asyncio.wait` does, at a third of the cost.
Not here: which messages count as large, and the work on a piece (listener.relay_smtp, delivery.session).
"""

import asyncio
from collections import deque
from typing import Any, Final
from weakref import WeakKeyDictionary

PIECE: Final = 64 * 1024  # octets; what is handled of one message at a time
BUDGET: Final = 4 * PIECE  # of all of them between two looks at what else there is to do: about a millisecond's work


class FairShare:
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


_FAIR_SHARES: "Final[WeakKeyDictionary[asyncio.AbstractEventLoop, FairShare]]" = WeakKeyDictionary()


def fair_share() -> FairShare:
    """The queue that all share who run on this loop: receiving and sending take the same time."""
    return _FAIR_SHARES.setdefault(asyncio.get_running_loop(), FairShare())


async def wait_done(task: "asyncio.Future[Any]", seconds: float | None = None) -> None:
    """Return when the task is done, however it ended, or when so many seconds are over."""
    if task.done():
        return
    loop = asyncio.get_running_loop()
    woken: asyncio.Future[None] = loop.create_future()

    def wake(_: object = None) -> None:
        if not woken.done():
            woken.set_result(None)

    task.add_done_callback(wake)
    timer = None if seconds is None else loop.call_later(seconds, wake)
    try:
        await woken
    finally:
        task.remove_done_callback(wake)
        if timer is not None:
            timer.cancel()
