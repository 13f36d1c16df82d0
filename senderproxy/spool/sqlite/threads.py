"""Worker threads for calls that may block.

Guarantees: the event loop never waits for such a call; its result returns to the loop. The threads do not delay the
exit of the process.
"""

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ParamSpec, TypeAlias, TypeVar, cast

from senderproxy.relay.ports import SpoolError
from senderproxy.translation import _

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Task: TypeAlias = tuple[Callable[[], Any], asyncio.AbstractEventLoop, "asyncio.Future[Any]"]


class WorkerThreads:
    """A fixed number of threads with one queue, started when they are first needed."""

    def __init__(self, name: str, count: int = 1) -> None:
        self._name = name
        self._count = count
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._stopped = False

    def do(self, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> "asyncio.Future[_T]":
        """Call it on a thread. If the future is cancelled, the call is made all the same, and its result dropped.

        Raises SpoolError after `stop`.
        """
        if self._stopped:
            raise SpoolError(_("The spool is closed."))
        if len(self._threads) < self._count:
            thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._threads.append(thread)
            thread.start()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._tasks.put((lambda: call(*args, **kwargs), loop, future))
        return cast("asyncio.Future[_T]", future)

    def stop(self) -> None:
        """Take no more calls; those in the queue are made."""
        self._stopped = True
        for _thread in self._threads:
            self._tasks.put(None)

    def join(self) -> None:
        """Wait for the threads to end, after `stop`. Not on the event loop's thread."""
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            call, loop, future = task
            result, error = None, None
            try:
                result = call()
            except BaseException as caught:  # noqa: BLE001  raised by the future
                error = caught
            with suppress(RuntimeError):  # the loop is closed: no result is awaited
                loop.call_soon_threadsafe(_resolve, future, result, error)
            del call, task, result, error, future


def _resolve(future: "asyncio.Future[Any]", result: object, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
