"""Row with the sealed vault of all instances.

Guarantees: a write changes the row of the expected version or nothing, and its outcome is always known (connections).
One writer at a time; when the connection of one ends, the next one can write. If no answer comes, the connections are
given up, and the outcome is looked up on new ones.
Not here: the sealed bytes (vault), their use as a store (accounts.database_store).
"""

import asyncio
import secrets
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

import asyncpg

from senderproxy.relay.ports import SpoolError
from senderproxy.spool.postgresql.connections import Connections, DatabaseConnection, connect, spool_error
from senderproxy.spool.postgresql.target import DatabaseTarget
from senderproxy.translation import _

_T = TypeVar("_T")
_LOCK: Final = 0x5641554C54  # advisory lock of the writer
_SECONDS: Final = 20.0  # for one answer: 64 MiB pass in that time at 30 Mbit/s
_READ: Final = "SELECT version, substring(sealed FROM 1 FOR $1::integer) AS sealed FROM vault"
_VERSION: Final = "SELECT version FROM vault"
_INSERT: Final = "INSERT INTO vault (version, sealed) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING version"
_REPLACE: Final = "UPDATE vault SET version = $1, sealed = $2 WHERE version = $3 RETURNING version"
_WAS_WRITTEN: Final = "SELECT EXISTS (SELECT FROM vault WHERE version = $1)"
_TRY_LOCK: Final = "SELECT pg_catalog.pg_try_advisory_lock($1)"
_UNLOCK: Final = "SELECT pg_catalog.pg_advisory_unlock($1)"
_ERRORS: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a query on a connection that the server has just ended
    OSError,
    TimeoutError,
    asyncio.IncompleteReadError,
)


class VaultRow:
    """The row in one database. Used from one event loop."""

    def __init__(self, target: DatabaseTarget) -> None:
        self._target = target
        self._connections = Connections(target)

    async def read(self, limit: int) -> tuple[bytes, int] | None:
        """The bytes, at most `limit` + 1 of them, and their version; None without a row. Raises SpoolError."""

        async def work(connection: DatabaseConnection) -> Any:  # noqa: ANN401  a record or None
            return await connection.fetchrow(_READ, limit + 1)

        row = await self._answer(self._connections.read(work))
        return None if row is None else (row["sealed"], row["version"])

    async def version(self) -> int | None:
        """The version of now; None without a row. Raises SpoolError."""

        async def work(connection: DatabaseConnection) -> int | None:
            version: int | None = await connection.fetchval(_VERSION)
            return version

        return await self._answer(self._connections.read(work))

    async def insert(self, sealed: bytes) -> bool:
        """Add the row; False if there is one, which stays. Raises SpoolError."""
        return await self._write(_INSERT, sealed) is not None

    async def lock(self) -> "VaultRowWriter | None":
        """The only writer; None while another one has the lock. Raises SpoolError."""
        connection = await connect(self._target)
        try:
            async with asyncio.timeout(_SECONDS):
                has_lock = await connection.fetchval(_TRY_LOCK, _LOCK)
        except _ERRORS as error:
            connection.terminate()
            raise spool_error(_("The lock of the vault cannot be taken"), error) from error
        writer = VaultRowWriter(self, connection)
        if has_lock:
            return writer
        await writer.release()
        return None

    async def replace(self, sealed: bytes, expected: int) -> int | None:
        """See VaultRowWriter."""
        return await self._write(_REPLACE, sealed, expected)

    async def close(self) -> None:
        """Close the connections."""
        await self._connections.close()

    async def _write(self, query: str, sealed: bytes, *more: object) -> int | None:
        """The new version; None if no row was changed. Raises SpoolError: nothing was."""
        version = secrets.randbits(62)

        async def work(connection: DatabaseConnection) -> int | None:
            written: int | None = await connection.fetchval(query, version, sealed, *more)
            return written

        async def was_committed(connection: DatabaseConnection) -> bool:
            return bool(await connection.fetchval(_WAS_WRITTEN, version))

        return await self._answer(self._connections.write(work, was_committed))

    async def _answer(self, work: Coroutine[Any, Any, _T]) -> _T:
        """The result of `work`, also of one that needs new connections because the server was silent."""
        task = asyncio.create_task(work)
        await asyncio.wait([task], timeout=_SECONDS)
        if not task.done():
            self._connections.abandon()
        return await task


class VaultRowWriter:
    """The connection that has the lock."""

    def __init__(self, row: VaultRow, connection: DatabaseConnection) -> None:
        self._row = row
        self._connection = connection

    async def replace(self, sealed: bytes, expected: int) -> int | None:
        """Replace the bytes of this version; the new version, None if the row has another one. Raises SpoolError."""
        try:
            async with asyncio.timeout(_SECONDS):
                await self._connection.execute("SELECT 1")
        except _ERRORS as error:  # another writer may have the lock by now
            self._connection.terminate()
            raise SpoolError(
                _("The lock of the vault is lost: the connection to the database ended."), hint=_("Repeat the change.")
            ) from error
        return await self._row.replace(sealed, expected)

    async def release(self) -> None:
        """Release the lock and end the connection. Never raises: the server releases it when the connection ends."""
        with suppress(*_ERRORS):
            async with asyncio.timeout(_SECONDS):
                await self._connection.execute(_UNLOCK, _LOCK)
                await self._connection.close(timeout=_SECONDS)
        if not self._connection.is_closed():
            self._connection.terminate()
