"""Threads for what may block: each with its queue, none of them holding the process up when it ends.

Guarantees: the event loop never waits for the disk; the answer comes back to it.
"""

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ParamSpec, TypeAlias, TypeVar, cast

from senderproxy.relay.ports import SpoolError

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Task: TypeAlias = tuple[Callable[[], Any], asyncio.AbstractEventLoop, "asyncio.Future[Any]"]


class WorkerThreads:
    """So many threads, started when they are first needed."""

    def __init__(self, name: str, count: int = 1) -> None:
        self._name = name
        self._count = count
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._stopped = False

    def do(self, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> "asyncio.Future[_T]":
        """Have it done; a cancelled future is done all the same, and its result is for nobody.

        Raises SpoolError where they have been stopped.
        """
        if self._stopped:
            raise SpoolError("The spool is closed.")
        if len(self._threads) < self._count:
            thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._threads.append(thread)
            thread.start()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._tasks.put((lambda: call(*args, **kwargs), loop, future))
        return cast("asyncio.Future[_T]", future)

    def stop(self) -> None:
        """No more is taken; what was asked for is still done."""
        self._stopped = True
        for _ in self._threads:
            self._tasks.put(None)

    def join(self) -> None:
        """Wait for that; not on the event loop's thread."""
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            call, loop, future = task
            result, fault = None, None
            try:
                result = call()
            except BaseException as caught:  # noqa: BLE001  goes to whoever asked
                fault = caught
            with suppress(RuntimeError):  # the loop is closed, and nobody waits any more
                loop.call_soon_threadsafe(_resolve, future, result, fault)
            del call, task, result, fault, future


def _resolve(future: "asyncio.Future[Any]", result: object, fault: BaseException | None) -> None:
    if future.done():
        return
    if fault is None:
        future.set_result(result)
    else:
        future.set_exception(fault)
