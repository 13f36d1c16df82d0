"""This instance among those that share the spool: its row, its heartbeat, the leases of instances that died.

Guarantees: `on_lost` is called, and no lease is used any more, STOP_BEFORE seconds before the leases end that could not
be renewed. Leases of another instance are ended at once if its process on this machine has ended, or if its connection
was closed by its side and it did not return within RECONNECT seconds; else when its last heartbeat is FINAL_DOT seconds
past its end.
Not here: the leases of messages (spool.postgresql.claims), the time (spool.postgresql.server_time).
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import asyncpg

from senderproxy import log_events
from senderproxy.clock import Clock
from senderproxy.log import event
from senderproxy.relay.ports import SpoolError
from senderproxy.spool.postgresql.connections import Connections, DatabaseConnection, connect, spool_error
from senderproxy.spool.postgresql.durability import Durability, durability
from senderproxy.spool.postgresql.migrations import check_format, scripts
from senderproxy.spool.postgresql.process_identity import is_gone, own_process
from senderproxy.spool.postgresql.server_time import ServerTime
from senderproxy.spool.postgresql.target import DatabaseTarget
from senderproxy.translation import _

LEASE: Final = 30  # seconds from a heartbeat to the end of the leases
HEARTBEAT: Final = 5.0  # seconds between two heartbeats: five may fail
STOP_BEFORE: Final = 8.0  # seconds before the end: time to close the sessions with smarthosts
FINAL_DOT: Final = 600  # seconds; an attempt may wait so long for the reply to its final dot (RFC 5321 4.5.3.2.6)
RECONNECT: Final = 10  # seconds for an instance whose connection was closed to come back: two heartbeats
CHANNEL: Final = "senderproxy"  # of notices about messages
LIMITS_CHANNEL: Final = "senderproxy_limits"
CONNECTIONS_CHANNEL: Final = "senderproxy_connections"
LEARNED_CHANNEL: Final = "senderproxy_learned"
GRANTS_CHANNEL: Final = "senderproxy_grants"
_TRY_AGAIN: Final = 1.0  # seconds after a heartbeat that failed
_LOCK_CLASS: Final = 0x5350  # of the advisory locks of instances

_ADD: Final = (
    "INSERT INTO instance (name, process, format, draining, alive_until, postmaster) VALUES"
    f" ($1, $2, $3, $4, clock_timestamp() + interval '{LEASE} seconds', pg_postmaster_start_time()) RETURNING number"
)
_LOCK: Final = "SELECT pg_try_advisory_lock($1, $2)"
_RENEW: Final = (
    f"UPDATE instance SET alive_until = clock_timestamp() + interval '{LEASE} seconds', unlocked_since = NULL,"
    " postmaster = pg_postmaster_start_time(), draining = $2 WHERE number = $1 RETURNING number"
)
# An advisory lock with two keys is in pg_locks with both; another instance that holds it still has its connection.
_UNLOCKED: Final = (
    "NOT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND classid = $2 AND objid = instance.number"
    " AND objsubid = 2 AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
)
_NOTE_UNLOCKED: Final = (
    "UPDATE instance SET unlocked_since = clock_timestamp()"
    f" WHERE number <> $1 AND unlocked_since IS NULL AND {_UNLOCKED}"
)
_DEAD: Final = (
    f"SELECT number, name, alive_until + interval '{FINAL_DOT} seconds' < clock_timestamp() AS silent FROM instance"
    f" WHERE number <> $1 AND (alive_until + interval '{FINAL_DOT} seconds' < clock_timestamp()"
    f" OR (unlocked_since + interval '{RECONNECT} seconds' < clock_timestamp()"
    f" AND postmaster = pg_postmaster_start_time() AND {_UNLOCKED}) OR number = ANY($3::integer[]))"
    " FOR UPDATE SKIP LOCKED"
)
_OTHERS: Final = (
    "SELECT number, process, name, draining,"
    f" extract(epoch FROM clock_timestamp() - alive_until)::float8 + {LEASE} AS silent,"
    " (SELECT count(*) FROM lease WHERE lease.instance = instance.number) AS messages"
    " FROM instance WHERE number <> $1 ORDER BY name, number"
)
_END_LEASES: Final = "WITH ended AS (DELETE FROM lease WHERE instance = $1 RETURNING 1) SELECT count(*) FROM ended"
_END_JOB_LEASES: Final = "DELETE FROM job_lease WHERE instance = $1"
_END_PORTIONS: Final = "SELECT end_portions($1)"
_END_CONNECTIONS: Final = "DELETE FROM connection_slot WHERE instance = $1"
_REMOVE: Final = "DELETE FROM instance WHERE number = $1"

_ERRORS: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError, SpoolError)

_log = logging.getLogger("senderproxy.spool")


@dataclass(frozen=True, slots=True)
class OtherInstance:
    """Another instance as its row says."""

    name: str  # host and process
    silent: float  # seconds since its last heartbeat
    messages: int  # that it has leased
    is_draining: bool = False  # its proxy sends new clients elsewhere


class Instance:
    """The row of this process, and its heartbeat on a connection of its own. One attribute for each fact about it."""

    def __init__(self, target: DatabaseTarget, connections: Connections, time: ServerTime, clock: Clock) -> None:
        self.number = 0
        self.on_lost: Callable[[], None] = lambda: None
        self.on_notice: Callable[[str], None] = lambda _payload: None
        self.on_limits: Callable[[str], None] = lambda _payload: None
        self.on_connections: Callable[[str], None] = lambda _payload: None
        self.on_learned: Callable[[str], None] = lambda _payload: None
        self.on_grants: Callable[[str], None] = lambda _payload: None
        self.on_renumbered: Callable[[], None] = lambda: None  # another instance had taken over from this one
        self.on_return: Callable[[], None] = lambda: None  # leases of another instance have ended
        self.on_step: Callable[[int], None] = lambda _milliseconds: None  # what waits was moved
        self.on_regained: Callable[[], None] = lambda: None
        self.is_lost = False
        self.is_draining = False  # the others know it after the next heartbeat
        self.durability = Durability.SERVER
        self.name = f"{socket.gethostname()}/{os.getpid()}"
        self.others: Sequence[OtherInstance] = ()  # at the last heartbeat
        self._target = target
        self._connections = connections
        self._time = time
        self._clock = clock
        self._connection: DatabaseConnection | None = None
        self._renewed_at = 0.0  # monotonic seconds, from before the last renewal that succeeded
        self._beating: asyncio.Task[None] | None = None
        self._looking = asyncio.Lock()
        self._has_lock = False
        self._is_renumbered = False

    async def open(self) -> None:
        """Add the row and begin the heartbeats. Raises SpoolError."""
        connection = await connect(self._target)
        try:
            await check_format(connection)
            await self._time.start(connection)
            self._renewed_at = self._clock.monotonic()
            await self._join(connection)
            await self._listen(connection)
            self.durability = await durability(connection)
        except BaseException as error:
            connection.terminate()
            if isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError | OSError):
                raise spool_error(_("The spool's database cannot be used"), error) from error
            raise
        self._connection = connection
        with suppress(*_ERRORS):  # the next heartbeat does it too
            await self._take_over(connection)
        self._beating = asyncio.create_task(self._beat())

    async def close(self) -> None:
        """End the leases and remove the row."""
        if self._beating is not None:
            self._beating.cancel()
            with suppress(asyncio.CancelledError):
                await self._beating
        connection, self._connection = self._connection, None
        if connection is None:
            return
        with suppress(*_ERRORS):
            async with asyncio.timeout(STOP_BEFORE):
                if not self.is_lost:
                    await self._remove(connection, self.number)
                await connection.close()
        connection.terminate()

    def check(self) -> None:
        """Raises SpoolError if the leases have ended: nothing may be claimed or written."""
        if self.is_lost:
            raise SpoolError(
                _("The database did not answer in time: other instances may have taken over."),
                hint=_(
                    "Look at the database server and its synchronous standbys, and at the network to it:"
                    " senderproxy check"
                ),
            )

    async def look(self) -> None:
        """One heartbeat now, after one in progress. Raises one of many errors."""
        async with self._looking:
            await self._look()

    async def _look(self) -> None:
        begun = self._clock.monotonic()
        async with asyncio.timeout(STOP_BEFORE):
            connection = await self._reach()
            step = await self._time.measure(connection)
        if step and (moved := await self._time.move(connection, self.number, step)):  # all rows: without a time limit
            self.on_step(moved)
        async with asyncio.timeout(STOP_BEFORE):
            renewed = await connection.fetchval(_RENEW, self.number, self.is_draining)
            if renewed is None:  # another instance has taken over
                self._lose()
                await self._join(connection)
                self._is_renumbered = True
            self._renewed_at = begun
            self.durability = await durability(connection)
            if self.is_lost:
                self.is_lost = False
                event(_log, log_events.SPOOL_LEASES_REGAINED)
                self.on_regained()
                if self._is_renumbered:
                    self._is_renumbered = False
                    self.on_renumbered()
            await self._take_over(connection)

    async def _reach(self) -> DatabaseConnection:
        """The connection, with its lock."""
        connection = self._connection
        if connection is None or connection.is_closed():
            connection = self._connection = await connect(self._target)
            self._connections.reached()
            await self._listen(connection)
            self._has_lock = False
        if not self._has_lock:  # the server may have held it for a connection that was cut
            self._has_lock = await connection.fetchval(_LOCK, _LOCK_CLASS, self.number)
        return connection

    # ---- heartbeat ----

    async def _beat(self) -> None:
        wait = HEARTBEAT
        while True:
            await asyncio.sleep(wait)
            try:
                await self.look()
                wait, self._connections.problem = HEARTBEAT, None
            except _ERRORS as error:
                wait = _TRY_AGAIN
                if self._connection is not None:
                    self._connection.terminate()
                if isinstance(error, TimeoutError):
                    self._connections.abandon()  # a connection that is silent may stay so for a quarter of an hour
            if self._clock.monotonic() - self._renewed_at >= LEASE - STOP_BEFORE:
                self._lose()

    def _lose(self) -> None:
        if not self.is_lost:
            self.is_lost = True
            event(_log, log_events.SPOOL_LEASES_LOST, seconds=round(self._clock.monotonic() - self._renewed_at, 1))
            self.on_lost()

    async def _join(self, connection: DatabaseConnection) -> None:
        """Add a row. The lock tells the others that this connection, and so this process, is alive."""
        own = (self.name, own_process(), len(scripts()), self.is_draining)
        self.number = await connection.fetchval(_ADD, *own)
        self._has_lock = await connection.fetchval(_LOCK, _LOCK_CLASS, self.number)

    async def _listen(self, connection: DatabaseConnection) -> None:
        for channel in (CHANNEL, LIMITS_CHANNEL, CONNECTIONS_CHANNEL, LEARNED_CHANNEL, GRANTS_CHANNEL):
            await connection.add_listener(channel, self._notified)

    def _notified(self, _connection: object, _pid: int, channel: str, payload: str) -> None:
        if channel == LIMITS_CHANNEL:
            self.on_limits(payload)
        elif channel == CONNECTIONS_CHANNEL:
            self.on_connections(payload)
        elif channel == LEARNED_CHANNEL:
            self.on_learned(payload)
        elif channel == GRANTS_CHANNEL:
            self.on_grants(payload)
        else:
            self.on_notice(payload)

    # ---- other instances ----

    async def _take_over(self, connection: DatabaseConnection) -> None:
        await connection.execute(_NOTE_UNLOCKED, self.number, _LOCK_CLASS)
        others = await connection.fetch(_OTHERS, self.number)
        gone = [row["number"] for row in others if is_gone(row["process"])]
        await connection.execute("BEGIN")
        try:
            dead = await connection.fetch(_DEAD, self.number, _LOCK_CLASS, gone)
            counts = [await self._remove(connection, row["number"]) for row in dead]
            await connection.execute("COMMIT")
        except BaseException:
            with suppress(*_ERRORS):
                await connection.execute("ROLLBACK")
            raise
        for row, count in zip(dead, counts, strict=True):
            why = "process ended" if row["number"] in gone else "no heartbeat" if row["silent"] else "connection closed"
            event(_log, log_events.SPOOL_LEASES_TAKEN, instance=row["name"], messages=count, why=why)
        ended = {row["number"] for row in dead}
        self.others = [
            OtherInstance(row["name"], row["silent"], row["messages"], row["draining"])
            for row in others
            if row["number"] not in ended
        ]
        if dead:
            self.on_return()

    async def _remove(self, connection: DatabaseConnection, number: int) -> int:
        """Remove an instance; the number of messages that it had leased."""
        count: int = await connection.fetchval(_END_LEASES, number)
        await connection.execute(_END_JOB_LEASES, number)
        await connection.execute(_END_PORTIONS, number)
        await connection.execute(_END_CONNECTIONS, number)
        await connection.execute(_REMOVE, number)
        return count
