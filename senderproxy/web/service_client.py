"""The service, as the page asks it: one socket for each role, a few threads, one status a second for all browsers.

Guarantees: a request of a role goes to the socket of that role. All browsers together cause at most one poll of the
status a second; the charts are asked for once a minute. Memory is bounded: one answer for each language.
Not here: the protocol (control.protocol), the errors (control.client).
"""

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from senderproxy.clock import Clock
from senderproxy.control.client import ask, ask_status
from senderproxy.control.protocol import ROLES, Answer, Role, Verb, new_request
from senderproxy.errors import SenderproxyError
from senderproxy.translation import _, current_language
from senderproxy.worker_threads import WorkerThreads, WorkerThreadsError

POLL: Final = 1.0  # seconds between two questions for the status
_COUNTS: Final = 60.0  # seconds that the counts of the charts are kept
_THREADS: Final = 4  # requests at once
_WAITING: Final = 100  # requests that wait for a thread
_TIMEOUT: Final = 15.0  # seconds for an answer; that of a slow disk takes longer, and is an error
_CHANGE_TIMEOUT: Final = 120.0  # seconds for two hundred commits under load
_T = TypeVar("_T")


class ServiceClient:
    """Requests to the running service. Their errors are those of control.client."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._threads = WorkerThreads("page", _THREADS, _WAITING)
        self._lock = asyncio.Lock()
        self._polled = -POLL
        self._statuses: dict[str, tuple[float, Answer]] = {}  # by language
        self._counts: tuple[float, Answer] | None = None

    async def ask(self, verb: Verb, **fields: object) -> Answer:
        """The answer to a request, on the socket of the verb's role."""
        role = ROLES[verb]
        seconds = _TIMEOUT if role is Role.READ else _CHANGE_TIMEOUT
        request = new_request(verb, **fields)
        return await self.on_thread(lambda: ask(self._folder / role.value, request, seconds=seconds))

    async def status(self) -> Answer:
        """The status in the language in force, at most a second old, or two with readers of several languages."""
        code = current_language()
        async with self._lock:
            now = self._clock.monotonic()
            if (known := self._statuses.get(code)) is not None and now - known[0] < POLL:
                return known[1]
            if (wait := self._polled + POLL - now) > 0:
                await asyncio.sleep(wait)
            self._polled = self._clock.monotonic()
            answer = await self.on_thread(partial(ask_status, self._folder / Role.READ.value, seconds=_TIMEOUT))
            self._statuses[code] = self._clock.monotonic(), answer
            return answer

    async def counts(self) -> list[list[Any]]:
        """The recipients of the last month by hour and status, at most a minute old."""
        async with self._lock:
            now = self._clock.monotonic()
            if self._counts is None or now - self._counts[0] >= _COUNTS:
                self._counts = now, await self.ask(Verb.COUNTS)
            counts: list[list[Any]] = self._counts[1]["counts"]
            return counts

    async def on_thread(self, call: Callable[[], _T]) -> _T:
        """The result of a call that waits, in the language in force."""
        context = copy_context()
        try:
            return await self._threads.do(lambda: context.run(call))
        except WorkerThreadsError as error:
            raise SenderproxyError(_("Too many requests wait for the service. Try again.")) from error

    def forget(self) -> None:
        """Ask again for the status after a change."""
        self._statuses.clear()

    def close(self) -> None:
        """End the threads."""
        self._threads.stop()
