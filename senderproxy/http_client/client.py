"""HttpClient: requests from the event loop, each on a thread.

Guarantees: a request ends within its time, whatever the server, the name server or the disk does; the event loop never
waits, and neither does a stop. An error has words for the operator, without the secret parts of the URL.
Not here: repetition of a request, the meaning of an answer (the callers).
"""

import os
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from senderproxy.aio import forget_traceback, wait_done
from senderproxy.clock import Clock
from senderproxy.http_client.errors import HttpError
from senderproxy.http_client.message import Answer, Request
from senderproxy.http_client.proxy import proxy_for
from senderproxy.late_import import ProgramReplaced, late_import
from senderproxy.translation import _
from senderproxy.worker_threads import WorkerThreads, WorkerThreadsError

if TYPE_CHECKING:
    from senderproxy.http_client.exchange import Exchange

BODY_LIMIT: Final = 64 * 1024  # octets of an answer; one of a token or a webhook has a few thousand
REQUEST_SECONDS: Final = 20.0  # for a whole request; a server that needs longer has a fault
_REQUESTS: Final = 4  # at once; a hanging one occupies a thread
_WAITING: Final = 32  # requests that wait for a thread; a few each minute are usual
_ABANDONED: Final = 8  # look-ups given up whose threads have not returned; then the next one keeps its place


@lru_cache(maxsize=1)
def load() -> "tuple[type[Exchange], Callable[[Exception, Exchange, float], HttpError]]":
    """Load what makes a request, and what explains its failure, unless they are. Blocks. Raises ProgramReplaced."""
    with late_import():
        from senderproxy.http_client.exchange import Exchange
        from senderproxy.http_client.failures import explain
    return Exchange, explain


class HttpClient:
    """The threads for requests, started when they are first needed."""

    def __init__(self, clock: Clock, environment: Mapping[str, str] = os.environ) -> None:
        """`environment` names the proxy (http_client.proxy)."""
        self._clock = clock
        self._environment = environment
        self._threads = WorkerThreads("http", _REQUESTS, _WAITING, replacements=_ABANDONED)

    async def send(self, request: Request, *, ca_file: str | None = None, seconds: float = REQUEST_SECONDS) -> Answer:
        """Send a request once; returns the answer, whatever its status. Raises HttpError.

        `ca_file`: PEM file with authorities beside the system's; `seconds`: for everything.
        If the caller is cancelled, the request may still be sent, and its answer is dropped.
        """
        make_exchange, explain = await self._loaded()
        exchange = make_exchange(
            request,
            proxy_for(request.url, self._environment),
            ca_file,
            self._clock.monotonic() + seconds,
            BODY_LIMIT,
            self._clock.monotonic,
        )
        try:
            running = self._threads.do(exchange.run)
        except WorkerThreadsError:
            raise HttpError(_("Too many requests wait for an answer.")) from None
        try:
            await wait_done(running, seconds)
            if not running.done():
                self._threads.abandon(running)
                raise explain(TimeoutError(), exchange, seconds)
            if (fault := running.exception()) is None:
                return running.result()
        finally:
            running.cancel()
        if not isinstance(fault, Exception):
            raise fault
        forget_traceback(fault)
        raise explain(fault, exchange, seconds) from None

    async def _loaded(self) -> "tuple[type[Exchange], Callable[[Exception, Exchange, float], HttpError]]":
        """The result of `load`; the first time on a thread."""
        if load.cache_info().currsize:
            return load()
        try:
            return await self._threads.do(load)
        except WorkerThreadsError:
            raise HttpError(_("Too many requests wait for an answer.")) from None
        except ProgramReplaced as error:
            raise HttpError(error.message) from error

    def close(self) -> None:
        """Send no more requests. One that hangs is left to its thread, which does not delay the exit."""
        self._threads.stop()
