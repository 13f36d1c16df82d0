"""Connections of accounts and at servers, counted in all instances that share a database.

Guarantees: while the database answers, all instances together open no session of an account above its limit, and none
at a server above a limit that they know. An instance without a session of the account, or at the server, gets one of
those that others have idle, or end next; it waits for a bounded time. While the database does not answer, each instance
counts its own sessions: a provider that has too many refuses one, which is observed (delivery.server_sessions).
Not here: the sessions (delivery.pool), the sums of all instances (spool.postgresql.connection_slots).
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from senderproxy.delivery.open_failures import FailureKind, OpenFailed
from senderproxy.delivery.pool import Pool
from senderproxy.delivery.server_limits import hosts_named, server_name
from senderproxy.delivery.server_sessions import IDLE_TIMEOUT, ServerSessions, SharedAdmission, hosts_of, no_room
from senderproxy.delivery.session import Session
from senderproxy.mail.reply import reply
from senderproxy.relay.ports import SpoolError
from senderproxy.relay.shared_ports import ConnectionSlots, ReachedLimit, SlotNotices, SlotReport, SlotRequest
from senderproxy.routing.provider import Provider

_WAIT: Final = 20.0  # seconds for a session of the account at another instance to end
_LOOK_AGAIN: Final = 2.0  # seconds after which the database is asked again, if no instance has answered
_REPORT: Final = 1.0  # seconds from the end of a session to its report
_REPORT_AGAIN: Final = 10.0  # seconds after a report that failed
_ASKED: Final = 30.0  # seconds after a request of another instance in which the end of a session is told at once
_DATABASE: Final = 3.0  # seconds for the database, while a message waits
_PRECEDENCE: Final = 0.5  # seconds in which the instance that asked for a session may take it

_Open = Callable[[], Awaitable[Session | OpenFailed]]


class AccountConnections:
    """The sessions of one account at this instance, as the others count them."""

    def __init__(self, account: str, pool: Pool, shared: "SharedConnections") -> None:
        self._account = account
        self._pool = pool
        self._shared = shared
        self.server = ""  # the name of the one where the last session was opened
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()  # a session has ended, or one of this instance is idle
        self._is_freed = False  # one has ended
        self._asked_until = 0.0  # seconds of the loop
        self._answered_at = -_PRECEDENCE  # seconds of the loop
        self._uncounted = 0  # 1 while a session that is to be opened waits
        self.is_opening = False  # there is room for it
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        pool.on_closed = self._closed

    async def open(self, limit: int, provider: Provider, open_: _Open) -> Session | OpenFailed:
        """Open a session as soon as the limits of all instances allow it."""
        admission = _SessionAdmission(self, limit, provider)
        try:
            result = await self._shared.servers.open(self._pool, provider, open_, admission)
        finally:
            self._uncounted, self.is_opening = 0, False
        if isinstance(result, OpenFailed):
            self._closed()
        return result

    def is_of(self, pool: Pool) -> bool:
        """True if they are in this pool."""
        return self._pool is pool

    def wanted(self) -> None:
        """Another instance has no session of the account."""
        self._asked_until = asyncio.get_running_loop().time() + _ASKED
        self._pool.give_up_one()

    def freed(self) -> None:
        """A session has ended that this account may wait for."""
        self._is_freed = True
        self._changed.set()

    @property
    def has_sessions(self) -> bool:
        """True if this instance has a session of the account."""
        return self._pool.open_count > self._uncounted

    def report(self) -> None:
        """Report the sessions soon."""
        self._report_in(0.0)

    async def report_ended(self) -> None:
        """Report the sessions now, if some have ended since the last report."""
        if self._timer is not None:
            self._timer.cancel()
            self._report_now()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def admit(self, limit: int, provider: Provider, reached: ReachedLimit | None) -> OpenFailed | None:
        """Count one more session; a failure if there is no room for it in time. Raises SpoolError or TimeoutError.

        `reached`: the limit that is known to forbid one now.
        """
        loop, hosts = asyncio.get_running_loop(), hosts_of(provider)
        begun, self.server, self._uncounted, self.is_opening = loop.time(), server_name(hosts), 1, False
        try:
            if reached is None and self._shared.turn(self.server).locked():
                reached = ReachedLimit.SERVER  # others wait already
            elif reached is None:
                self._is_freed = False
                reached = await self._take(limit, hosts)
            end = begun + _WAIT
            while reached is not None:  # one limit may be reached while it waits for the other
                if reached is ReachedLimit.ACCOUNT:
                    if self._pool.busy or self._pool.idle or loop.time() >= end:
                        return _no_connection(self._account, limit)
                    await self._wait_for_end()
                    reached = await self._take(limit, hosts)
                else:
                    end = begun + IDLE_TIMEOUT
                    reached = await self._take_at_full_server(limit, hosts, end)
                    if reached is ReachedLimit.SERVER:
                        return no_room(provider)
            return None
        finally:
            self._uncounted, self.is_opening = 0, True

    async def _take_at_full_server(self, limit: int, hosts: frozenset[str], end: float) -> ReachedLimit | None:
        """Take a session when one there has ended, if there is one in time. Accounts of this instance wait in a row.

        `end`: seconds of the loop.
        """
        turn, servers = self._shared.turn(self.server), self._shared.servers
        if self._pool.busy and not await servers.close_coldest(hosts):
            return ReachedLimit.SERVER  # its messages will use the busy ones
        try:
            async with asyncio.timeout_at(end):
                await turn.acquire()
        except TimeoutError:
            return ReachedLimit.SERVER
        self._shared.waiting[self.server] = self
        try:
            with servers.watch(self._changed):
                while asyncio.get_running_loop().time() < end:
                    if not await servers.close_coldest(hosts) and self._pool.busy:
                        break
                    await self._wait_for_end(hosts)
                    if (reached := await self._take(limit, hosts)) is not ReachedLimit.SERVER:
                        return reached
            return ReachedLimit.SERVER
        finally:
            del self._shared.waiting[self.server]
            turn.release()

    async def _wait_for_end(self, hosts: frozenset[str] = frozenset()) -> None:
        """Return when a session may have ended, here or elsewhere; after _LOOK_AGAIN in any case.

        An idle session at these hosts is closed: only then the database is asked again.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_AGAIN):
                while not self._is_freed:
                    if hosts:
                        self._shared.servers.look_at_pools()
                    await self._changed.wait()
                    self._changed.clear()
                    if not self._is_freed:
                        await self._shared.servers.close_coldest(hosts)
        self._is_freed = False

    async def refused(self, provider: Provider) -> int:
        """The server refused a session: the number of those there. Raises SpoolError or TimeoutError."""
        self._uncounted, self.is_opening, self._is_freed = 1, False, False
        async with asyncio.timeout(_DATABASE):
            await self._shared.report_ended(self.server)
            async with self._turn:
                report = SlotReport(self._account, self._pool.open_count - 1, self.server)
                return await self._shared.store.refused(report, is_first=self._is_first(hosts_of(provider)))

    async def _take(self, limit: int, hosts: frozenset[str]) -> ReachedLimit | None:
        servers, pool, server = self._shared.servers, self._pool, self.server
        server_limit = None if servers.common is None else servers.common.limit(hosts)
        async with asyncio.timeout(_DATABASE):
            if self._is_asked():
                await self.report_ended()
            if server_limit is not None:
                await self._shared.report_ended(server)
        await self._give_precedence()
        async with asyncio.timeout(_DATABASE), self._turn:
            return await self._shared.store.take(
                SlotRequest(
                    self._account,
                    pool.open_count,
                    limit,
                    is_urgent=not (pool.busy or pool.idle),
                    server=server,
                    server_limit=server_limit,
                    is_first=self._is_first(hosts),
                )
            )

    def _is_first(self, hosts: frozenset[str]) -> bool:
        """True if this instance has no session at these hosts."""
        return not self._shared.servers.count(hosts) and not self._shared.is_opening_at(self.server)

    def _closed(self) -> None:
        self._shared.freed_at(self.server)
        self._report_in(0.0 if self._is_asked() or self._shared.is_asked(self.server) else _REPORT)

    def _is_asked(self) -> bool:
        return asyncio.get_running_loop().time() < self._asked_until

    def _report_in(self, seconds: float) -> None:
        if self._timer is not None and seconds:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._report_now)
        self._shared.unreported.add(self)

    def _report_now(self) -> None:
        self._timer = None
        self._shared.unreported.discard(self)
        task = asyncio.get_running_loop().create_task(self._report())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _report(self) -> None:
        for_account, for_server = self._is_asked(), self._shared.is_asked(self.server)
        try:
            async with self._turn:
                open_now = self._pool.open_count - self._uncounted
                await self._shared.store.report(
                    SlotReport(self._account, open_now, self.server, for_account=for_account, for_server=for_server)
                )
        except SpoolError:
            self._report_in(_REPORT_AGAIN)
        else:
            if for_account:
                self._asked_until, self._answered_at = 0.0, asyncio.get_running_loop().time()
            if for_server:
                self._shared.answered(self.server)

    async def _give_precedence(self) -> None:
        """Wait while another instance may take the session that was closed for it."""
        answered_at = max(self._answered_at, self._shared.answered_at(self.server))
        if (left := answered_at + _PRECEDENCE - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(left)


class _SessionAdmission(SharedAdmission):
    """The consent of all instances to one session of an account."""

    def __init__(self, connections: AccountConnections, limit: int, provider: Provider) -> None:
        self._connections = connections
        self._limit = limit
        self._provider = provider
        self._reached: ReachedLimit | None = None

    async def wait(self) -> OpenFailed | None:
        """See SharedAdmission."""
        return await self._connections.admit(self._limit, self._provider, self._reached)

    async def refused(self) -> int:
        """See SharedAdmission."""
        self._reached = ReachedLimit.SERVER
        return await self._connections.refused(self._provider)


class SharedConnections:
    """The sessions of all accounts at this instance."""

    def __init__(self, store: ConnectionSlots, servers: ServerSessions) -> None:
        self.store = store
        self.servers = servers
        self.unreported: set[AccountConnections] = set()
        self._accounts: dict[str, AccountConnections] = {}
        self.waiting: dict[str, AccountConnections] = {}  # the ones with the turn, by server
        self._turns: dict[str, asyncio.Lock] = {}
        self._asked_until: dict[str, float] = {}  # seconds of the loop, by server
        self._answered_at: dict[str, float] = {}
        store.on_notice(SlotNotices(self._wanted, self._freed, self._wanted_at, self.freed_at, self._renewed))

    def of(self, account: str, pool: Pool) -> AccountConnections:
        """The sessions of this account, which are in this pool."""
        found = self._accounts.get(account)
        if found is None or not found.is_of(pool):
            found = self._accounts[account] = AccountConnections(account, pool, self)
        return found

    def forget(self, account: str) -> None:
        """The account was removed, and has no session."""
        self._accounts.pop(account, None)

    def turn(self, server: str) -> asyncio.Lock:
        """The lock of the one account that takes the next session there, while the server is full."""
        return self._turns.setdefault(server, asyncio.Lock())

    def freed_at(self, server: str) -> None:
        """A session there has ended, here or elsewhere."""
        if (found := self.waiting.get(server)) is not None:
            found.freed()

    def is_opening_at(self, server: str) -> bool:
        """True if a session of this instance is being opened there."""
        return any(found.is_opening and found.server == server for found in self._accounts.values())

    def is_asked(self, server: str) -> bool:
        """True while another instance waits for a session there."""
        return asyncio.get_running_loop().time() < self._asked_until.get(server, 0.0)

    def answered(self, server: str) -> None:
        """A session there was closed for another instance, which knows it now."""
        self._asked_until.pop(server, None)
        self._answered_at[server] = asyncio.get_running_loop().time()

    def answered_at(self, server: str) -> float:
        """The time of the last answer; seconds of the loop."""
        return self._answered_at.get(server, -_PRECEDENCE)

    async def report_ended(self, server: str) -> None:
        """Report the sessions there that have ended since the last report: they leave room."""
        for found in [found for found in self.unreported if found.server == server]:
            await found.report_ended()

    # ---- notices ----

    def _wanted(self, account: str) -> None:
        if (found := self._accounts.get(account)) is not None:
            found.wanted()

    def _freed(self, account: str) -> None:
        if (found := self._accounts.get(account)) is not None:
            found.freed()

    def _wanted_at(self, server: str) -> None:
        there = [found for found in self._accounts.values() if found.server == server]
        if any(found.has_sessions for found in there):
            self._asked_until[server] = asyncio.get_running_loop().time() + _ASKED
            self.servers.give_up_one(hosts_named(server))
        for found in there:
            if found in self.unreported:
                found.report()

    def _renewed(self) -> None:
        for found in self._accounts.values():
            found.report()


def _no_connection(account: str, limit: int) -> OpenFailed:
    text = (
        f"Account {account} has its {limit} connections in other instances, and all of them are busy; try again later"
    )
    return OpenFailed(FailureKind.LOCAL, reply(451, "4.3.2", text))
