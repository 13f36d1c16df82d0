"""Helpers for the event loop: FairShare, wait_done, calls from threads, and the release of memory after an exception.

FairShare limits the work on large messages; wait_done waits for a task without cancelling it.

Guarantees: however many large messages are received and sent at the same time, one pass of the event loop works on a
few pieces of all of them together, in the order of their requests; everything else runs in between. wait_done raises
nothing that the task raises, and leaves the task running after the timeout or when the caller is cancelled.
Not here: which messages are large, and the work on a piece (listener.data_phase, delivery.session).
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final
from weakref import WeakKeyDictionary

PIECE_OCTETS: Final = 64 * 1024  # octets of one message in one step; what one read of a socket returns at most
_MEMORY_WAIT: Final = 0.05  # seconds until memory is asked for again
BUDGET_OCTETS: Final = 4 * PIECE_OCTETS  # octets of all messages in one pass of the loop; about 1 ms of work


class FairShare:
    """A budget of octets for each pass of the event loop, with a queue of those who wait for the next one."""

    def __init__(self) -> None:
        self._left_octets = BUDGET_OCTETS
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()
        self._renewing = False

    async def acquire(self, octets: int) -> None:
        """Return when so many octets may be worked on: at once, if no one waits and the budget is not used up."""
        loop = asyncio.get_running_loop()
        if not self._renewing:
            self._renewing = True
            loop.call_soon(self._renew)
        if self._left_octets > 0 and not self._waiting:
            self._left_octets -= octets
            return
        granted: asyncio.Future[None] = loop.create_future()
        self._waiting.append((granted, octets))
        await granted

    def _renew(self) -> None:
        """Grant the budget of the next pass, first come, first served."""
        self._renewing = self._left_octets < BUDGET_OCTETS
        self._left_octets = BUDGET_OCTETS
        while self._waiting and self._left_octets > 0:
            granted, octets = self._waiting.popleft()
            if not granted.done():  # done: cancelled
                self._left_octets -= octets
                granted.set_result(None)
        if self._renewing:
            asyncio.get_running_loop().call_soon(self._renew)


_FAIR_SHARES: "Final[WeakKeyDictionary[asyncio.AbstractEventLoop, FairShare]]" = WeakKeyDictionary()


def fair_share() -> FairShare:
    """The one FairShare of the running loop: receiving and sending use the same budget."""
    return _FAIR_SHARES.setdefault(asyncio.get_running_loop(), FairShare())


def call_in_loop(loop: asyncio.AbstractEventLoop, call: Callable[..., object], *arguments: object) -> None:
    """Call a function on the event loop once, from another thread; nothing if the loop is closed.

    Returns when the loop has taken it, however long there is no memory: who waits for its effect would wait for ever.
    """
    is_done = False

    def run() -> None:
        nonlocal is_done
        if not is_done:  # the loop may have taken it although it failed
            is_done = True
            call(*arguments)

    with suppress(RuntimeError):
        while True:
            try:
                loop.call_soon_threadsafe(run)
            except MemoryError:
                time.sleep(_MEMORY_WAIT)
            else:
                return


def forget_traceback(fault: BaseException) -> None:
    """Remove the tracebacks of an exception that is handled, and of its causes.

    A future whose exception was raised is a variable of a function in the traceback: a reference cycle, which keeps the
    variables of all these functions, transports and TLS objects too, until a garbage collection.
    """
    waiting, seen = [fault], set[int]()
    while waiting:
        current = waiting.pop()
        if id(current) not in seen:
            seen.add(id(current))
            current.__traceback__ = None
            waiting += [cause for cause in (current.__cause__, current.__context__) if cause is not None]


async def wait_done(task: "asyncio.Future[Any]", timeout_seconds: float | None = None) -> None:
    """Return when the task is done, in whatever way, or after the timeout.

    The same as `asyncio.wait` for one task, at a third of the cost.
    """
    if task.done():
        return
    loop = asyncio.get_running_loop()
    woken: asyncio.Future[None] = loop.create_future()

    def wake(_: object = None) -> None:
        if not woken.done():
            woken.set_result(None)

    task.add_done_callback(wake)
    timer = None if timeout_seconds is None else loop.call_later(timeout_seconds, wake)
    try:
        await woken
    finally:
        task.remove_done_callback(wake)
        if timer is not None:
            timer.cancel()
