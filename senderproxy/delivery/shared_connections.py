"""Connections of accounts, counted in all instances that share a database.

Guarantees: while the database answers, all instances together have no more sessions of an account than its limit. An
instance without a session gets one of those that others have idle, or end next; it waits for a bounded time. While the
database does not answer, each instance counts its own sessions: a provider that has too many refuses one, which is
observed (delivery.observed_limits).
Not here: the sessions (delivery.pool), the sums of all instances (spool.postgresql.connection_slots).
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from senderproxy.delivery.open_failures import FailureKind, OpenFailed
from senderproxy.delivery.pool import Pool
from senderproxy.delivery.session import Session
from senderproxy.mail.reply import reply
from senderproxy.relay.ports import SpoolError
from senderproxy.relay.shared_ports import ConnectionSlots

_WAIT: Final = 20.0  # seconds for a session of another instance to end
_LOOK_AGAIN: Final = 2.0  # seconds after which the database is asked again, if no instance has answered
_REPORT: Final = 1.0  # seconds from the end of a session to its report
_REPORT_AGAIN: Final = 10.0  # seconds after a report that failed
_ASKED: Final = 30.0  # seconds after a request of another instance in which the end of a session is told at once
_DATABASE: Final = 3.0  # seconds for the database, while a message waits

_Open = Callable[[], Awaitable[Session | OpenFailed]]


class AccountConnections:
    """The sessions of one account at this instance, as the others count them."""

    def __init__(self, account: str, pool: Pool, shared: "SharedConnections") -> None:
        self._account = account
        self._pool = pool
        self._shared = shared
        self._turn = asyncio.Lock()
        self.freed = asyncio.Event()
        self._asked_until = 0.0  # seconds of the loop
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        pool.on_closed = self._closed

    async def open(self, limit: int, open_: _Open) -> Session | OpenFailed:
        """Open a session as soon as the limit of all instances allows it."""
        if not await self._take(limit):
            return _no_connection(self._account, limit)
        result = await open_()
        if isinstance(result, OpenFailed):
            self._report_in(_REPORT)
        return result

    def is_of(self, pool: Pool) -> bool:
        """True if they are in this pool."""
        return self._pool is pool

    def wanted(self) -> None:
        """Another instance has no session of the account."""
        self._asked_until = asyncio.get_running_loop().time() + _ASKED
        self._pool.give_up_one()

    def report(self) -> None:
        """Report the sessions soon."""
        self._report_in(0.0)

    async def _take(self, limit: int) -> bool:
        loop = asyncio.get_running_loop()
        end = loop.time() + _WAIT
        while True:
            self.freed.clear()
            is_urgent = not (self._pool.busy or self._pool.idle)
            try:
                async with asyncio.timeout(_DATABASE), self._turn:
                    if await self._shared.store.take(self._account, self._pool.open_count, limit, is_urgent=is_urgent):
                        return True
            except (SpoolError, TimeoutError):
                return True
            if not is_urgent or loop.time() >= end:
                return False
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_AGAIN):
                    await self.freed.wait()

    def _closed(self) -> None:
        self._report_in(0.0 if asyncio.get_running_loop().time() < self._asked_until else _REPORT)

    def _report_in(self, seconds: float) -> None:
        if self._timer is not None and seconds:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._report_now)

    def _report_now(self) -> None:
        self._timer = None
        task = asyncio.get_running_loop().create_task(self._report())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _report(self) -> None:
        is_answer = asyncio.get_running_loop().time() < self._asked_until
        try:
            async with self._turn:
                await self._shared.store.report(self._account, self._pool.open_count, is_answer=is_answer)
        except SpoolError:
            self._report_in(_REPORT_AGAIN)


class SharedConnections:
    """The sessions of all accounts at this instance."""

    def __init__(self, store: ConnectionSlots) -> None:
        self.store = store
        self._accounts: dict[str, AccountConnections] = {}
        store.on_notice(self._wanted, self._freed, self._renewed)

    def of(self, account: str, pool: Pool) -> AccountConnections:
        """The sessions of this account, which are in this pool."""
        found = self._accounts.get(account)
        if found is None or not found.is_of(pool):
            found = self._accounts[account] = AccountConnections(account, pool, self)
        return found

    def forget(self, account: str) -> None:
        """The account was removed, and has no session."""
        self._accounts.pop(account, None)

    def _wanted(self, account: str) -> None:
        if (found := self._accounts.get(account)) is not None:
            found.wanted()

    def _freed(self, account: str) -> None:
        if (found := self._accounts.get(account)) is not None:
            found.freed.set()

    def _renewed(self) -> None:
        for found in self._accounts.values():
            found.report()


def _no_connection(account: str, limit: int) -> OpenFailed:
    text = (
        f"Account {account} has its {limit} connections in other instances, and all of them are busy; try again later"
    )
    return OpenFailed(FailureKind.LOCAL, reply(451, "4.3.2", text))
