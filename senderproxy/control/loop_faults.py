"""End of the process when its event loop cannot go on: missing memory, an error of its own, a hanging stop.

A callback that fails for lack of memory may have been about to resume a task, which then waits for ever, and so does
the stop. After the end, systemd starts the service again, and nothing acknowledged is lost: it is on the disk.
Not here: threads that end by an error (control.thread_faults).
"""

import asyncio
import logging
import os
from typing import Any, Final, NoReturn

from senderproxy import log_events
from senderproxy.log import event, exit_now

_log = logging.getLogger("senderproxy.control")
_NAMES: Final = 5  # tasks in the line of the log


def end_without_memory(loop: asyncio.AbstractEventLoop) -> None:
    """From now on, a callback of the loop that gets no memory is logged and ends the process with os.EX_SOFTWARE."""
    loop.set_exception_handler(_handle)


def end_after(loop: asyncio.AbstractEventLoop, seconds: float) -> None:
    """End the process with os.EX_SOFTWARE if the loop still runs after so many seconds, and log what it waits for."""
    loop.call_later(seconds, _end_stop, loop)


def end_without_loop(fault: BaseException) -> NoReturn:
    """End the process with os.EX_SOFTWARE after an error that left the loop, and log it.

    The loop lost the callbacks of that pass, so what waits for them cannot be stopped in order.
    """
    try:
        event(_log, log_events.LOOP_FAILED, fault=fault)
    finally:
        exit_now(os.EX_SOFTWARE)


def _handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    fault = context.get("exception")
    if "handle" not in context or not isinstance(fault, MemoryError):  # other errors concern one connection or task
        loop.default_exception_handler(context)
        return
    try:
        event(_log, log_events.CALLBACK_WITHOUT_MEMORY, fault=fault)
    finally:  # there may be no memory for the log either
        exit_now(os.EX_SOFTWARE)


def _end_stop(loop: asyncio.AbstractEventLoop) -> None:
    try:
        names = sorted(str(getattr(task.get_coro(), "__qualname__", "")) for task in asyncio.all_tasks(loop))
        event(_log, log_events.STOP_HANGS, tasks=", ".join(names[:_NAMES]))
    finally:
        exit_now(os.EX_SOFTWARE)
