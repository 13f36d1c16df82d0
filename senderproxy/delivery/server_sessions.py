"""Sessions of all accounts at one server, and its limit of connections.

Guarantees: if a server refuses a further connection while idle sessions to it are open, the coldest of them is closed
and the connection is tried again. Its limit is observed, so that later sessions make room before they are opened. An
account waits for a bounded time while every session at the server is busy, and is not paused for it. With other
instances over one database the limit is about the sessions of all; while the database does not answer, about those of
this instance.
Not here: the sessions of one account (delivery.pool), the growth of the limit (delivery.observed_limits), the sessions
of all instances (delivery.shared_connections).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, Protocol

from senderproxy import log_events
from senderproxy.clock import Clock
from senderproxy.delivery.causes import Cause, Stage
from senderproxy.delivery.observed_limits import ObservedLimit
from senderproxy.delivery.open_failures import FailureKind, OpenFailed
from senderproxy.delivery.pool import Pool, PooledSession
from senderproxy.delivery.session import Session
from senderproxy.log import event
from senderproxy.mail.reply import reply
from senderproxy.relay.ports import SpoolError
from senderproxy.routing.provider import Provider

if TYPE_CHECKING:
    from senderproxy.delivery.server_limits import ServerLimits

_log: Final = logging.getLogger("senderproxy.delivery")

_TRIES: Final = 3  # connections for one session; each further one follows the end of another session
IDLE_TIMEOUT: Final = 30.0  # seconds for a busy session of another account to become idle

_Open = Callable[[], Awaitable[Session | OpenFailed]]


class SharedAdmission(Protocol):
    """The consent of all instances to one more session of an account. Its calls raise SpoolError or TimeoutError while
    the database does not answer."""

    async def wait(self) -> OpenFailed | None:
        """Return when the session is counted; a failure if there is no room for it in time."""
        ...

    async def refused(self) -> int:
        """The server refused the session, so that the next one waits until another one has ended.

        Return the number of sessions there, in all instances.
        """
        ...


def hosts_of(provider: Provider) -> frozenset[str]:
    """The hosts of a provider, which have one limit together."""
    return frozenset(smarthost.host for smarthost in provider.smarthosts)


class ServerSessions:
    """The sessions at all servers. `pools` returns the pools of all accounts."""

    def __init__(self, pools: Callable[[], Iterable[Pool]], clock: Clock) -> None:
        self._pools = pools
        self._clock = clock
        self._limits: dict[frozenset[str], ObservedLimit] = {}  # of this instance, by the hosts of a provider
        self.common: ServerLimits | None = None  # limits in all instances; None: there is no other one
        self._opening: dict[frozenset[str], int] = {}
        self._waiting: set[asyncio.Event] = set()  # of accounts that wait for a session of another one to be closed

    async def open(
        self, pool: Pool, provider: Provider, open_: _Open, admission: SharedAdmission | None = None
    ) -> Session | OpenFailed:
        """Open a session for this pool. Closes the coldest idle sessions of the server if it takes no more.

        `admission`: None without other instances.
        """
        hosts = hosts_of(provider)
        if (refused := await self._admit(pool, provider, admission)) is not None:
            return refused
        self._opening[hosts] = self._opening.get(hosts, 0) + 1
        try:
            result = await open_()
            for _ in range(_TRIES - 1):
                if (
                    isinstance(result, Session)
                    or not _is_about_connections(result)
                    or not await self._record_limit(provider, result, admission)
                ):
                    break
                if (refused := await self._admit(pool, provider, admission)) is not None:
                    return result if pool.busy else refused
                result = await open_()
            return result
        finally:
            self._opening[hosts] -= 1
            if not self._opening[hosts]:
                del self._opening[hosts]

    async def _admit(self, pool: Pool, provider: Provider, admission: SharedAdmission | None) -> OpenFailed | None:
        """Return when there is room for a session, or why there is none."""
        if admission is not None:
            with suppress(SpoolError, TimeoutError):
                return await admission.wait()
        hosts = hosts_of(provider)
        if self._is_full(hosts) and not await self._make_room(pool, hosts):
            return no_room(provider)
        return None

    def _is_full(self, hosts: frozenset[str]) -> bool:
        observed = self._limits.get(hosts)
        limit = None if self.common is None else self.common.limit(hosts)
        if observed is not None:
            limit = observed.narrow(limit, self._clock.monotonic())
        return limit is not None and self.count(hosts) + self._opening.get(hosts, 0) >= limit

    async def _record_limit(self, provider: Provider, result: OpenFailed, admission: SharedAdmission | None) -> bool:
        """Record that the server takes no more sessions than are open; False if none is."""
        hosts, of_all = hosts_of(provider), None
        if admission is not None:
            with suppress(SpoolError, TimeoutError):
                of_all = await admission.refused()
        count = self.count(hosts) if of_all is None else of_all
        if not count:
            return False
        if of_all is None or self.common is None:  # nobody knows what other instances have
            self._limits.setdefault(hosts, ObservedLimit()).record(count, self._clock.monotonic())
        else:
            self.common.record(hosts, count)
        fields = {"provider": provider.name, "connections": count, "reply": result.upstream_reply}
        event(_log, log_events.SERVER_LIMIT_OBSERVED, fault=None, **fields)
        return True

    # --- for all instances ---

    def count(self, hosts: frozenset[str]) -> int:
        """The number of open sessions of this instance at these hosts."""
        return sum(len(pool.sessions_at(hosts)) for pool in self._pools())

    @contextmanager
    def watch(self, changed: asyncio.Event) -> Iterator[None]:
        """Set the event whenever a session of this instance becomes idle, or was closed."""
        self._waiting.add(changed)
        try:
            self.look_at_pools()
            yield
        finally:
            self._waiting.remove(changed)
            if not self._waiting:
                for each in self._pools():
                    each.on_idle = None

    def look_at_pools(self) -> None:
        """Watch the pools that were added meanwhile, too."""
        for each in self._pools():
            each.on_idle = self._wake

    async def close_coldest(self, hosts: frozenset[str]) -> bool:
        """Close the coldest idle session at these hosts; False if there is none."""
        if (found := self._coldest(hosts)) is None:
            return False
        pool, pooled = found
        await pool.close_idle(pooled)
        return True

    def give_up_one(self, hosts: frozenset[str]) -> None:
        """Close a session at these hosts for another instance: the coldest idle one, or one after its message."""
        if (found := self._coldest(hosts)) is not None:
            found[0].give_up_one()
            return
        busy = [
            (pool, pooled)
            for pool in self._pools()
            if not pool.gives_up_one  # it was asked before, and its message takes long
            for pooled in pool.sessions_at(hosts)
        ]
        if busy:
            min(busy, key=lambda each: each[1].idle_since)[0].give_up_one()

    # --- parts ---

    async def _make_room(self, pool: Pool, hosts: frozenset[str]) -> bool:
        """Close the coldest idle session at these hosts; False if there is none in time.

        A pool with busy sessions of its own does not wait: its messages will use those.
        """
        if await self.close_coldest(hosts):
            return True
        if pool.busy:
            return False
        changed = asyncio.Event()
        with self.watch(changed):
            try:
                async with asyncio.timeout(IDLE_TIMEOUT):
                    while True:
                        self.look_at_pools()
                        await changed.wait()
                        changed.clear()
                        if await self.close_coldest(hosts) or not self.count(hosts):
                            return True
            except TimeoutError:
                return False

    def _wake(self) -> None:
        for changed in self._waiting:
            changed.set()

    def _coldest(self, hosts: frozenset[str]) -> tuple[Pool, PooledSession] | None:
        idle = [
            (pool, pooled)
            for pool in self._pools()
            if not pool.waiting  # an idle session will be used at once
            for pooled in pool.sessions_at(hosts)
            if not pooled.busy
        ]
        return min(idle, key=lambda each: each[1].idle_since, default=None)


def _is_about_connections(result: OpenFailed) -> bool:
    """True if the server refused the connection, not the login."""
    return result.cause is Cause.CONNECTIONS or (result.cause is Cause.CLOSING and result.stage is Stage.GREETING)


def no_room(provider: Provider) -> OpenFailed:
    """The failure for a message while all sessions at the provider's servers are busy."""
    text = f"{provider.name} takes no more connections, and all open ones are busy; try again later"
    return OpenFailed(FailureKind.LOCAL, reply(451, "4.3.2", text), cause=Cause.CONNECTIONS)
