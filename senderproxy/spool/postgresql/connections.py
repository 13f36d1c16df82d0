"""Connections to the database, and transactions whose outcome is always known.

Guarantees: a COMMIT is never cancelled and has no time limit. If the connection breaks while one is under way, its
outcome is looked up before the caller gets an answer. A caller that is cancelled stops no transaction. A password is in
no log line, error or representation.
Not here: statements, the heartbeat (spool.postgresql.instance), the address and its checks (spool.postgresql.target).
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic, Protocol, TypeVar

import asyncpg

from senderproxy.errors import SenderproxyError
from senderproxy.relay.ports import SpoolError, SpoolFull, SpoolRejected
from senderproxy.spool.postgresql.error_words import hint_of, reason_of
from senderproxy.spool.postgresql.target import DatabaseTarget
from senderproxy.translation import _

_T = TypeVar("_T")

COUNT: Final = 8  # connections of one instance; more bring little: 3,589 accepts a second with 32, 2,158 with one
_CONNECT: Final = 10.0  # seconds until a connection is open, with TLS and login
_RECONNECT: Final = (0.1, 2.0)  # seconds between two tries to look an outcome up: the first, the longest
_PAUSE: Final = 1.0  # seconds after a failed connection without another one
_TRIES: Final = 3  # of a transaction that the server ended because of another one; nothing of it was written
_LOST: Final = (
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a query between the server's notice of an end and the end
    asyncpg.PostgresConnectionError,
    OSError,
    asyncio.IncompleteReadError,
)
# The server ends, or ended the connection: what was under way may have been done.
_ENDING: Final = ("57P01", "57P02", "57P03", "08")
# Of each connection. There is no statement_timeout: it would end a COMMIT too.
_SETTINGS: Final = {
    "application_name": "senderproxy",
    "search_path": "senderproxy",
    "timezone": "UTC",
    "client_min_messages": "warning",
    "lock_timeout": "30s",
    "idle_in_transaction_session_timeout": "60s",  # an instance that vanished holds no row longer
    "client_connection_check_interval": "10s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "25s",
    "synchronous_commit": "on",
    "jit": "off",
}


class DatabaseConnection(Protocol):
    """The methods of asyncpg.Connection in use."""

    async def execute(self, query: str, *args: object) -> str: ...
    async def executemany(self, command: str, args: Sequence[Sequence[object]]) -> None: ...
    async def fetch(self, query: str, *args: object) -> list[Any]: ...
    async def fetchrow(self, query: str, *args: object) -> Any: ...  # noqa: ANN401  a record or None
    async def fetchval(self, query: str, *args: object) -> Any: ...  # noqa: ANN401  a value
    async def add_listener(self, channel: str, callback: Callable[..., None]) -> None: ...
    async def close(self, *, timeout: float | None = None) -> None: ...
    def is_closed(self) -> bool: ...
    def terminate(self) -> None: ...
    def get_server_pid(self) -> int: ...


@dataclass(frozen=True, slots=True, eq=False)
class BackendSession:
    """One open connection, and its process on the server."""

    connection: DatabaseConnection
    pid: int
    started_at: datetime


@dataclass(frozen=True, slots=True)
class _LostCommit(Generic[_T]):
    """A transaction whose COMMIT was sent and not answered. `result` is valid if it was committed."""

    session: BackendSession
    error: Exception
    result: _T


async def connect(target: DatabaseTarget, **more: str) -> DatabaseConnection:
    """Open a connection. Raises SpoolError. `more`: settings of the session."""
    try:
        connection: DatabaseConnection = await asyncpg.connect(
            host=target.host,
            port=target.port,
            user=target.user,
            database=target.database,
            password=target.password,
            ssl=target.tls or False,
            timeout=_CONNECT,
            server_settings={**_SETTINGS, **more},
            target_session_attrs="primary",  # a standby may lack what the primary has committed
        )
    except asyncpg.TargetServerAttributeNotMatched as error:
        raise SpoolError(
            _("The database server is a standby: it has not been promoted."),
            hint=_("Promote it if the primary is lost, or name the primary in engine under [spool] (docs/cluster.md)."),
        ) from error
    except (asyncpg.PostgresError, *_LOST, TimeoutError, ValueError) as error:
        raise spool_error(_("The spool's database cannot be reached"), error) from error
    except SpoolError:
        raise
    except SenderproxyError as error:  # the password cannot be read
        raise SpoolError(error.message, hint=error.hint) from error
    return connection


class Connections:
    """The connections of one instance. Used from one event loop."""

    def __init__(self, target: DatabaseTarget) -> None:
        self._target = target
        self._idle: list[BackendSession] = []
        self._used: set[BackendSession] = set()
        self._places = asyncio.Semaphore(COUNT)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False
        self.on_commit: Callable[[float], None] | None = None
        self.commits = 0
        self.problem: SpoolError | None = None  # of the last transaction
        self._unreachable: SpoolError | None = None  # the last connection failed
        self._failed_at = 0.0  # the loop's seconds

    async def write(
        self,
        work: Callable[[DatabaseConnection], Awaitable[_T]],
        was_committed: Callable[[DatabaseConnection], Awaitable[bool]],
    ) -> _T:
        """The result of `work` when it is committed. It may be called several times; it keeps no state between them.

        `was_committed` asks for the outcome of a COMMIT whose answer was lost. Raises SpoolError if nothing was
        written. Goes on if the caller is cancelled.
        """
        return await self._shielded(self._write(work, was_committed))

    async def read(self, work: Callable[[DatabaseConnection], Awaitable[_T]]) -> _T:
        """The result of `work`, which writes nothing. Raises SpoolError."""

        async def nothing(_connection: DatabaseConnection) -> bool:
            return True

        return await self._shielded(self._write(work, nothing))

    def reached(self) -> None:
        """The database was reached on another connection: the next caller need not wait after a failure."""
        self._unreachable = None

    def abandon(self) -> None:
        """Close all connections without a word: the server does not answer. Outcomes are looked up on new ones."""
        for session in (*self._idle, *self._used):
            session.connection.terminate()
        self._idle.clear()

    async def close(self) -> None:
        """Finish all transactions and close the connections. What cannot be looked up any more raises SpoolError."""
        self._closed = True
        if self._tasks:
            await asyncio.wait(self._tasks)
        idle, self._idle = self._idle, []
        for session in idle:
            with suppress(asyncpg.PostgresError, *_LOST, TimeoutError):
                await session.connection.close(timeout=5)

    async def _shielded(self, work: Coroutine[Any, Any, _T]) -> _T:
        if self._closed:
            work.close()
            raise SpoolError(_("The spool is closed."))
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

    def _finished(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        task.exception()  # asyncio logs an exception that nothing asks for: that of a caller that waits no longer

    # ---- one transaction ----

    async def _write(
        self,
        work: Callable[[DatabaseConnection], Awaitable[_T]],
        was_committed: Callable[[DatabaseConnection], Awaitable[bool]],
    ) -> _T:
        try:
            result = await self._try(work)
            if isinstance(result, _LostCommit):  # its place is free: others need not wait for the database to return
                if not await self._look_up(result.session, was_committed):
                    raise spool_error(_("The spool's database cannot be written"), result.error) from result.error
                result = result.result
        except SpoolError as error:
            self.problem = error
            raise
        self.problem = None
        return result

    async def _try(self, work: Callable[[DatabaseConnection], Awaitable[_T]]) -> "_T | _LostCommit[_T]":
        """Again if the server ended the transaction because of another one: nothing of it was written."""
        for tries_left in reversed(range(_TRIES)):
            async with self._places:
                try:
                    return await self._transaction(work)
                except (asyncpg.SerializationError, asyncpg.DeadlockDetectedError) as error:
                    if not tries_left:
                        raise spool_error(_("The spool's database cannot be written"), error) from error
        raise AssertionError("the last try returns or raises")

    async def _transaction(self, work: Callable[[DatabaseConnection], Awaitable[_T]]) -> "_T | _LostCommit[_T]":
        session = await self._begin()
        self._used.add(session)
        connection = session.connection
        loop = asyncio.get_running_loop()
        try:
            try:
                result = await work(connection)
            except BaseException as error:
                await self._roll_back(session)
                if isinstance(error, asyncpg.SerializationError | asyncpg.DeadlockDetectedError):
                    raise
                if isinstance(error, (asyncpg.PostgresError, *_LOST)):
                    raise spool_error(_("The spool's database cannot be written"), error) from error
                raise
            begun = loop.time()
            try:
                await connection.execute("COMMIT")
            except (asyncpg.PostgresError, *_LOST) as error:
                if not connection.is_closed() and not _is_ending(error):
                    raise spool_error(_("The spool's database cannot be written"), error) from error
                connection.terminate()
                return _LostCommit(session, error, result)
        finally:
            self._used.discard(session)
            if not connection.is_closed():
                self._idle.append(session)
        self.commits += 1
        if self.on_commit is not None:
            self.on_commit(loop.time() - begun)
        return result

    async def _begin(self) -> BackendSession:
        """A session with an open transaction; an idle one may have been closed by the server meanwhile."""
        while self._idle:
            session = self._idle.pop()
            try:
                await session.connection.execute("BEGIN")
            except (asyncpg.PostgresError, *_LOST):
                session.connection.terminate()
            else:
                return session
        connection = await self._connect()
        try:
            started_at = await connection.fetchval(
                "SELECT backend_start FROM pg_catalog.pg_stat_activity WHERE pid = pg_catalog.pg_backend_pid()"
            )
            await connection.execute("BEGIN")
        except (asyncpg.PostgresError, *_LOST) as error:
            connection.terminate()
            raise spool_error(_("The spool's database cannot be reached"), error) from error
        return BackendSession(connection, connection.get_server_pid(), started_at)

    async def _connect(self) -> DatabaseConnection:
        """A new connection. For a second after a failure nobody waits for another one."""
        now = asyncio.get_running_loop().time()
        if self._unreachable is not None and now - self._failed_at < _PAUSE:
            raise SpoolError(self._unreachable.message, hint=self._unreachable.hint)
        try:
            connection = await connect(self._target)
        except SpoolError as error:
            self._unreachable, self._failed_at = error, asyncio.get_running_loop().time()
            raise
        self._unreachable = None
        return connection

    async def _roll_back(self, session: BackendSession) -> None:
        try:
            await session.connection.execute("ROLLBACK")
        except (asyncpg.PostgresError, *_LOST):
            session.connection.terminate()

    async def _look_up(
        self, session: BackendSession, was_committed: Callable[[DatabaseConnection], Awaitable[bool]]
    ) -> bool:
        """The outcome of a lost COMMIT, from a new connection, when its process on the server has ended."""
        wait, longest = _RECONNECT
        while True:
            with suppress(SpoolError, asyncpg.PostgresError, *_LOST):
                connection = await connect(self._target)
                try:
                    still_there = await connection.fetchval(
                        "SELECT 1 FROM pg_catalog.pg_stat_activity WHERE pid = $1 AND backend_start = $2",
                        session.pid,
                        session.started_at,
                    )
                    if still_there is None:
                        return await was_committed(connection)
                finally:
                    connection.terminate()
            if self._closed:
                raise SpoolError(_("The spool's database ended before it confirmed a change."))
            await asyncio.sleep(wait)
            wait = min(2 * wait, longest)


def _is_ending(error: BaseException) -> bool:
    return isinstance(error, asyncpg.PostgresError) and str(error.sqlstate).startswith(_ENDING)


def spool_error(what: str, error: BaseException) -> SpoolError:
    """An error of the database as a SpoolError. `what`: the failed operation, a sentence without its period."""
    message, hint = _("{what}: {reason}.").format(what=what, reason=reason_of(error)), hint_of(error)
    if isinstance(error, asyncpg.PostgresError):
        if error.sqlstate == "42P01":  # undefined_table: made by a newer version, or never
            return SpoolError(_("The database lacks tables of this version."), hint=hint)
        if error.sqlstate == "53100":
            return SpoolFull(message, hint=hint)
        if str(error.sqlstate).startswith(("22", "23", "54")):  # a value that it cannot store, a constraint, a limit
            return SpoolRejected(message)
    return SpoolError(message, hint=hint)
