"""Waiting for a task that goes on whatever becomes of who waits."""

import asyncio

import pytest

from senderproxy.ending import ended


async def test_who_waits_goes_on_when_the_task_is_done_and_hears_nothing_of_its_fault() -> None:
    async def stumble() -> None:
        await asyncio.sleep(0)
        raise ValueError("its own affair")

    task = asyncio.create_task(stumble())
    await ended(task)
    assert isinstance(task.exception(), ValueError)
    await ended(task)  # at once


async def test_who_has_no_more_time_leaves_it_running() -> None:
    task = asyncio.create_task(asyncio.Event().wait())
    await ended(task, 0.001)
    assert not task.done()
    task.cancel()
    await ended(task)
    assert task.cancelled()


async def test_who_is_cancelled_leaves_it_running() -> None:
    goes_on = asyncio.Event()
    task = asyncio.create_task(goes_on.wait())
    waiter = asyncio.create_task(ended(task, 60))
    await asyncio.sleep(0)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert not task.done()
    goes_on.set()
    assert await task
