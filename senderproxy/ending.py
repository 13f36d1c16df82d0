"""Waiting for a task that is not ours to end: who gives up waiting, or is cancelled, leaves it running.

Promises: nothing that the task raises is raised here. What `asyncio.wait` does for one task, at a third of its cost:
each message is waited for twice.
"""

import asyncio
from typing import Any


async def ended(task: "asyncio.Future[Any]", seconds: float | None = None) -> None:
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
