"""Large mail takes turns: counted in turns of the event loop, not in seconds."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from senderproxy.aio import BUDGET, PIECE, FairShare, fair_share, wait_done

STREAMS = 50
ROUNDS = 8
AT_MOST = 2 * BUDGET // PIECE  # what the end of one budget and the start of the next may put together


@dataclass
class Count:
    """Turns of the loop so far."""

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


async def test_of_fifty_large_messages_a_few_pieces_are_handled_between_two_looks_at_small_mail() -> None:
    queue, handled = FairShare(), Counter[int]()

    async def stream() -> None:
        for _ in range(ROUNDS):
            await queue.take(PIECE)
            handled[count.now] += 1

    async with counted() as count:
        await asyncio.gather(*(stream() for _ in range(STREAMS)))
    assert handled.total() == STREAMS * ROUNDS
    assert max(handled.values()) <= AT_MOST


async def test_all_large_messages_advance_together() -> None:
    queue, advanced = FairShare(), [0] * STREAMS

    async def stream(number: int) -> None:
        for _ in range(ROUNDS):
            await queue.take(PIECE)
            advanced[number] += 1
            assert max(advanced) - min(advanced) <= BUDGET // PIECE + 1  # who was there alone had a budget before

    await asyncio.gather(*map(stream, range(STREAMS)))


async def test_who_has_gone_away_holds_nobody_up() -> None:
    queue = FairShare()

    async def stream() -> None:
        for _ in range(ROUNDS):
            await queue.take(PIECE)

    gone = [asyncio.ensure_future(stream()) for _ in range(STREAMS)]
    staying = [asyncio.ensure_future(stream()) for _ in range(3)]
    await asyncio.sleep(0)  # all of them stand in the queue
    for task in gone:
        task.cancel()
    await asyncio.gather(*staying)
    assert all(task.cancelled() for task in await _ended(gone))


async def test_a_message_alone_waits_for_nobody() -> None:
    queue = FairShare()
    async with counted() as count:
        before = count.now
        for _ in range(100):
            await queue.take(PIECE)
        assert count.now - before <= 100


async def test_when_nothing_is_large_nothing_is_scheduled() -> None:
    queue, loop = FairShare(), asyncio.get_running_loop()
    await queue.take(PIECE)
    for _ in range(3):
        await asyncio.sleep(0)
    assert not loop._ready  # type: ignore[attr-defined]


async def test_receiving_and_sending_share_one_queue() -> None:
    assert fair_share() is fair_share()


async def _ended(tasks: "list[asyncio.Task[None]]") -> "list[asyncio.Task[None]]":
    await asyncio.wait(tasks)
    return tasks


async def test_who_waits_goes_on_when_the_task_is_done_and_hears_nothing_of_its_fault() -> None:
    async def stumble() -> None:
        await asyncio.sleep(0)
        raise ValueError("its own affair")

    task = asyncio.create_task(stumble())
    await wait_done(task)
    assert isinstance(task.exception(), ValueError)
    await wait_done(task)  # at once


async def test_who_has_no_more_time_leaves_it_running() -> None:
    task = asyncio.create_task(asyncio.Event().wait())
    await wait_done(task, 0.001)
    assert not task.done()
    task.cancel()
    await wait_done(task)
    assert task.cancelled()


async def test_who_is_cancelled_leaves_it_running() -> None:
    goes_on = asyncio.Event()
    task = asyncio.create_task(goes_on.wait())
    waiter = asyncio.create_task(wait_done(task, 60))
    await asyncio.sleep(0)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert not task.done()
    goes_on.set()
    assert await task
