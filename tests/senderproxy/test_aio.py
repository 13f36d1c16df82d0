"""FairShare and wait_done, measured in passes of the event loop and not in seconds."""

import asyncio
import gc
import weakref
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from senderproxy.aio import (
    BUDGET_OCTETS,
    PIECE_OCTETS,
    FairShare,
    call_in_loop,
    fair_share,
    forget_traceback,
    wait_done,
)
from senderproxy.daemon_thread import DaemonThread

STREAMS = 50
ROUNDS = 8
AT_MOST = 2 * BUDGET_OCTETS // PIECE_OCTETS  # the end of one budget and the start of the next, in one pass


@dataclass
class Count:
    """Passes of the loop so far."""

    now: int = 0


@asynccontextmanager
async def counted() -> AsyncIterator[Count]:
    loop, count, going = asyncio.get_running_loop(), Count(), True

    def tick() -> None:
        count.now += 1
        if going:
            loop.call_soon(tick)

    tick()
    yield count
    going = False


async def test_one_pass_of_the_loop_handles_a_few_pieces_of_fifty_large_messages() -> None:
    share, handled = FairShare(), Counter[int]()

    async def stream() -> None:
        for _ in range(ROUNDS):
            await share.acquire(PIECE_OCTETS)
            handled[count.now] += 1

    async with counted() as count:
        await asyncio.gather(*(stream() for _ in range(STREAMS)))
    assert handled.total() == STREAMS * ROUNDS
    assert max(handled.values()) <= AT_MOST


async def test_all_large_messages_advance_together() -> None:
    share, advanced = FairShare(), [0] * STREAMS

    async def stream(number: int) -> None:
        for _ in range(ROUNDS):
            await share.acquire(PIECE_OCTETS)
            advanced[number] += 1
            assert (
                max(advanced) - min(advanced) <= BUDGET_OCTETS // PIECE_OCTETS + 1
            )  # the first one had a budget alone before

    await asyncio.gather(*map(stream, range(STREAMS)))


async def test_cancelled_waiters_do_not_delay_the_others() -> None:
    share = FairShare()

    async def stream() -> None:
        for _ in range(ROUNDS):
            await share.acquire(PIECE_OCTETS)

    cancelled_ones = [asyncio.ensure_future(stream()) for _ in range(STREAMS)]
    staying = [asyncio.ensure_future(stream()) for _ in range(3)]
    await asyncio.sleep(0)  # all of them wait in the share
    for task in cancelled_ones:
        task.cancel()
    await asyncio.gather(*staying)
    assert all(task.cancelled() for task in await _ended(cancelled_ones))


async def test_a_single_large_message_does_not_wait() -> None:
    share = FairShare()
    async with counted() as count:
        before = count.now
        for _ in range(100):
            await share.acquire(PIECE_OCTETS)
        assert count.now - before <= 100


async def test_without_large_messages_no_callback_is_scheduled() -> None:
    share, loop = FairShare(), asyncio.get_running_loop()
    await share.acquire(PIECE_OCTETS)
    for _ in range(3):
        await asyncio.sleep(0)
    assert not loop._ready  # type: ignore[attr-defined]


async def test_receiving_and_sending_share_one_budget() -> None:
    assert fair_share() is fair_share()


async def _ended(tasks: "list[asyncio.Task[None]]") -> "list[asyncio.Task[None]]":
    await asyncio.wait(tasks)
    return tasks


async def test_wait_done_returns_when_the_task_is_done_and_does_not_raise_its_error() -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("error of the task")

    task = asyncio.create_task(fail())
    await wait_done(task)
    assert isinstance(task.exception(), ValueError)
    await wait_done(task)  # at once


async def test_wait_done_leaves_the_task_running_after_the_timeout() -> None:
    task = asyncio.create_task(asyncio.Event().wait())
    await wait_done(task, 0.001)
    assert not task.done()
    task.cancel()
    await wait_done(task)
    assert task.cancelled()


async def test_wait_done_leaves_the_task_running_when_the_caller_is_cancelled() -> None:
    released = asyncio.Event()
    task = asyncio.create_task(released.wait())
    waiter = asyncio.create_task(wait_done(task, 60))
    await asyncio.sleep(0)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert not task.done()
    released.set()
    assert await task


class Large:
    """Stands for a TLS object."""


def test_an_exception_without_its_traceback_frees_what_the_functions_held() -> None:
    gone: list[weakref.ref[Large]] = []

    def fail() -> None:
        large, held = Large(), list[Exception]()
        gone.append(weakref.ref(large))
        try:
            raise ValueError
        except ValueError as error:
            held.append(error)
            raise OSError from error

    gc.disable()
    try:
        for forgets in (False, True):
            try:
                fail()
            except OSError as error:
                if forgets:
                    forget_traceback(error)
        assert [reference() is None for reference in gone] == [False, True]
    finally:
        gc.enable()


class ShortOfMemory(asyncio.SelectorEventLoop):
    """A loop that has no memory for the first calls from threads. `takes`: it takes these calls all the same."""

    def __init__(self, *, takes: bool) -> None:
        super().__init__()
        self._takes = takes
        self.refused = 0

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.Handle:
        if self.refused == 3:
            return super().call_soon_threadsafe(callback, *args, context=context)
        self.refused += 1
        if self._takes:
            super().call_soon_threadsafe(callback, *args, context=context)
        raise MemoryError


@pytest.mark.parametrize("takes", [False, True])
def test_a_call_from_a_thread_is_made_once_when_there_is_memory_again(*, takes: bool) -> None:
    async def wait() -> list[int]:
        loop, found, over = asyncio.get_running_loop(), list[int](), asyncio.Event()
        threads = [DaemonThread(call_in_loop, "test", (loop, call, 1)) for call in (found.append, lambda _: over.set())]
        for thread in threads:
            thread.start()
            while thread.is_alive():
                await asyncio.sleep(0)
        await over.wait()
        return found

    loop = ShortOfMemory(takes=takes)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        assert runner.run(wait()) == [1]
    assert loop.refused == 3


def test_a_call_for_a_loop_that_is_closed_is_not_made() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    call_in_loop(loop, pytest.fail)
