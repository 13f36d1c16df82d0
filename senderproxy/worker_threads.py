"""Worker threads for calls that may block: disk, name servers, key derivation.

Guarantees: the event loop never waits for such a call; its result returns to the loop. The queue is bounded: when it is
full, the caller gets an error at once. The threads delay neither a stop nor the exit of the process, also while a call
hangs; a bounded number of hanging threads can be replaced. Each kind of work has threads of its own, so that one kind
never waits for another; the default executor of asyncio, which all would share and which a stop waits for, is not used.
Not here: the calls, and the reply to a client whose call found no place.
"""

import asyncio
import os
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, ParamSpec, TypeAlias, TypeVar, cast

from senderproxy.aio import call_in_loop
from senderproxy.daemon_thread import DaemonThread

QUEUE_LIMIT: Final = 1000  # calls that wait for a thread; about 1 KB each, and more than the clients of an office cause

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Task: TypeAlias = tuple[Callable[[], Any], asyncio.AbstractEventLoop, "asyncio.Future[Any]"]


class WorkerThreadsError(Exception):
    """A call was not accepted, and is not made."""


class QueueFull(WorkerThreadsError):
    """As many calls as the limit allows wait already, or the system has no thread for the first one."""


class Stopped(WorkerThreadsError):
    """The threads were stopped."""


class WorkerThreads:
    """A fixed number of threads with one queue, started when they are first needed."""

    def __init__(
        self, name: str, count: int = 1, queue_limit: int = QUEUE_LIMIT, *, replacements: int = 0, niceness: int = 0
    ) -> None:
        """`count`: calls at once; `queue_limit`: calls that wait for a thread.

        `replacements`: threads in place of those whose call was given up (`abandon`). `niceness`: of the threads; they
        have a lower priority than the event loop if it is above 0.
        """
        self._name = name
        self._count = count
        self._limit = count + queue_limit
        self._replacements = replacements
        self._niceness = niceness
        self._abandoned: set[asyncio.Future[Any]] = set()  # their calls have not returned
        self._running = 0  # threads
        self._unfinished = 0  # calls that wait or are being made; changed on the event loop's thread only
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._threads: list[DaemonThread] = []
        self._stopped = False

    def do(self, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> "asyncio.Future[_T]":
        """Call it on a thread. If the future is cancelled, the call is made all the same, and its result dropped.

        Raises QueueFull, or Stopped after `stop`.
        """
        if self._stopped:
            raise Stopped(self._name)
        if self._unfinished >= self._limit:
            raise QueueFull(self._name)
        if self._running < self._count + len(self._abandoned):
            self._start_thread()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._unfinished += 1
        self._tasks.put((lambda: call(*args, **kwargs), loop, future))
        return cast("asyncio.Future[_T]", future)

    def _start_thread(self) -> None:
        thread = DaemonThread(self._work, self._name)
        try:
            thread.start()
        except RuntimeError:  # the system has no thread left; the ones that run make the call
            if not self._running:
                raise QueueFull(self._name) from None
        else:
            self._running += 1
            self._threads = [*filter(DaemonThread.is_alive, self._threads), thread]

    @property
    def abandoned(self) -> int:
        """The number of calls that were given up and have not returned; each holds a thread."""
        return len(self._abandoned)

    def abandon(self, call: "asyncio.Future[Any]") -> bool:
        """Give up a call that hangs: its future is cancelled, and another thread may take the place of its thread.

        False if that many are given up already; the call goes on then. If it returns after all, the thread ends.
        """
        if call.done() or len(self._abandoned) >= self._replacements:
            return False
        self._abandoned.add(call)
        self._unfinished -= 1
        call.cancel()
        if self._unfinished > self._running - len(self._abandoned) and not self._stopped:
            self._start_thread()  # for calls that wait
        return True

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
        self._lower_priority()
        while (task := self._tasks.get()) is not None:
            call, loop, future = task
            result, error = None, None
            try:
                result = call()
            except BaseException as caught:  # noqa: BLE001  raised by the future
                error = caught
            call_in_loop(loop, self._finish, future, result, error)
            del call, task, result, error, future

    def _lower_priority(self) -> None:
        """Linux has a priority for each thread. Where it may not be lowered, the thread works with the usual one."""
        thread = threading.get_native_id()
        with suppress(OSError):
            if self._niceness > os.getpriority(os.PRIO_PROCESS, thread):
                os.setpriority(os.PRIO_PROCESS, thread, self._niceness)

    def _finish(self, future: "asyncio.Future[Any]", result: object, error: BaseException | None) -> None:
        if future in self._abandoned:
            self._abandoned.discard(future)
            self._running -= 1
            self._tasks.put(None)  # ends a thread
            return
        self._unfinished -= 1
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
