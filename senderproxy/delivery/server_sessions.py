"""Sessions of all accounts at one server, and its limit of connections.

Guarantees: if a server refuses a further connection while idle sessions to it are open, the coldest of them is closed
and the connection is tried again. Its limit is observed, so that later sessions make room before they are opened. An
account waits for a bounded time while every session at the server is busy, and is not paused for it.
Not here: the sessions of one account (delivery.pool), the growth of the limit (delivery.observed_limits).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from senderproxy import log_events
from senderproxy.clock import Clock
from senderproxy.delivery.causes import Cause, Stage
from senderproxy.delivery.observed_limits import ObservedLimit
from senderproxy.delivery.open_failures import FailureKind, OpenFailed
from senderproxy.delivery.pool import Pool
from senderproxy.delivery.session import Session
from senderproxy.log import event
from senderproxy.mail.reply import reply
from senderproxy.routing.provider import Provider

_log: Final = logging.getLogger("senderproxy.delivery")

_TRIES: Final = 3  # connections for one session; each further one follows the end of another session
_IDLE_TIMEOUT: Final = 30.0  # seconds for a busy session of another account to become idle

_Open = Callable[[], Awaitable[Session | OpenFailed]]


class ServerSessions:
    """The sessions at all servers. `pools` returns the pools of all accounts."""

    def __init__(self, pools: Callable[[], Iterable[Pool]], clock: Clock) -> None:
        self._pools = pools
        self._clock = clock
        self._limits: dict[frozenset[str], ObservedLimit] = {}  # by the hosts of a provider
        self._opening: dict[frozenset[str], int] = {}
        self._waiting: set[asyncio.Event] = set()  # of accounts that wait for a session of another one to be closed

    async def open(self, pool: Pool, provider: Provider, open_: _Open) -> Session | OpenFailed:
        """Open a session for this pool. Closes the coldest idle sessions of the server if it takes no more."""
        hosts = frozenset(smarthost.host for smarthost in provider.smarthosts)
        if self._is_full(hosts) and not await self._make_room(pool, hosts):
            return _no_room(provider)
        self._opening[hosts] = self._opening.get(hosts, 0) + 1
        try:
            result = await open_()
            for _ in range(_TRIES - 1):
                if (
                    isinstance(result, Session)
                    or not _is_about_connections(result)
                    or not (count := self._count(hosts))
                ):
                    break
                self._record_limit(provider, hosts, count, result)
                if not await self._make_room(pool, hosts):
                    return result if pool.busy else _no_room(provider)
                result = await open_()
            return result
        finally:
            self._opening[hosts] -= 1
            if not self._opening[hosts]:
                del self._opening[hosts]

    def _is_full(self, hosts: frozenset[str]) -> bool:
        observed = self._limits.get(hosts)
        if observed is None:
            return False
        limit = observed.narrow(None, self._clock.monotonic())
        return limit is not None and self._count(hosts) + self._opening.get(hosts, 0) >= limit

    def _record_limit(self, provider: Provider, hosts: frozenset[str], count: int, result: OpenFailed) -> None:
        self._limits.setdefault(hosts, ObservedLimit()).record(count, self._clock.monotonic())
        fields = {"provider": provider.name, "connections": count, "reply": result.upstream_reply}
        event(_log, log_events.SERVER_LIMIT_OBSERVED, fault=None, **fields)

    def _count(self, hosts: frozenset[str]) -> int:
        return sum(len(pool.sessions_at(hosts)) for pool in self._pools())

    async def _make_room(self, pool: Pool, hosts: frozenset[str]) -> bool:
        """Close the coldest idle session at these hosts; False if there is none in time.

        A pool with busy sessions of its own does not wait: its messages will use those.
        """
        if await self._close_coldest(hosts):
            return True
        if pool.busy:
            return False
        changed = asyncio.Event()
        self._waiting.add(changed)
        try:
            async with asyncio.timeout(_IDLE_TIMEOUT):
                while True:
                    for each in self._pools():
                        each.on_idle = self._wake
                    await changed.wait()
                    changed.clear()
                    if await self._close_coldest(hosts) or not self._count(hosts):
                        return True
        except TimeoutError:
            return False
        finally:
            self._waiting.remove(changed)
            if not self._waiting:
                for each in self._pools():
                    each.on_idle = None

    def _wake(self) -> None:
        for changed in self._waiting:
            changed.set()

    async def _close_coldest(self, hosts: frozenset[str]) -> bool:
        idle = [
            (pool, pooled)
            for pool in self._pools()
            if not pool.waiting  # an idle session will be used at once
            for pooled in pool.sessions_at(hosts)
            if not pooled.busy
        ]
        if not idle:
            return False
        pool, pooled = min(idle, key=lambda each: each[1].idle_since)
        await pool.close_idle(pooled)
        return True


def _is_about_connections(result: OpenFailed) -> bool:
    """True if the server refused the connection, not the login."""
    return result.cause is Cause.CONNECTIONS or (result.cause is Cause.CLOSING and result.stage is Stage.GREETING)


def _no_room(provider: Provider) -> OpenFailed:
    text = f"{provider.name} takes no more connections, and all open ones are busy; try again later"
    return OpenFailed(FailureKind.LOCAL, reply(451, "4.3.2", text), cause=Cause.CONNECTIONS)
