"""A database of a private server, and spools in it."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Final

from senderproxy.clock import Clock
from senderproxy.spool.postgresql.connections import DatabaseConnection
from senderproxy.spool.postgresql.migrations import migrate
from senderproxy.spool.postgresql.server_time import ServerTime
from senderproxy.spool.postgresql.store import PostgresqlSpool
from senderproxy.spool.postgresql.target import DatabaseTarget
from senderproxy.spool.sqlite import rows
from senderproxy.spool.sqlite.limits import SpoolLimits
from senderproxy.tracking.record import Lane
from tests.peers.postgresql import OWNER, SERVICE, PostgresqlServer, running_postgresql

_NAME: Final = "spool"
_EMPTY: Final = """
SET search_path = senderproxy;
DELETE FROM lease; DELETE FROM job_lease; DELETE FROM hourly_use; DELETE FROM hourly_portion; DELETE FROM connection_slot; DELETE FROM oauth_grant; DELETE FROM instance; DELETE FROM message; DELETE FROM recipient;
DELETE FROM event; DELETE FROM content; DELETE FROM content_part; DELETE FROM subject; DELETE FROM subject_word;
DELETE FROM job; DELETE FROM learned; DELETE FROM history; DELETE FROM history_recipient; DELETE FROM history_word;
UPDATE clock SET stepped = 0;
"""


class Databases:
    """One database with the tables of the spool, empty for each test."""

    def __init__(self, server: PostgresqlServer) -> None:
        self.server = server
        server.sql(f"CREATE DATABASE {_NAME} OWNER {OWNER}")
        asyncio.run(migrate(self.target(OWNER), SERVICE))

    def target(self, user: str = SERVICE) -> DatabaseTarget:
        return DatabaseTarget(str(self.server.socket_folder), self.server.port, user, _NAME)

    def sql(self, text: str) -> str:
        """Execute statements in the database as the superuser; their output."""
        return self.server.sql(text, _NAME)

    def new(self) -> DatabaseTarget:
        """The emptied database, for the role of the service."""
        self.server.sql(_EMPTY, _NAME)
        return self.target()


@contextmanager
def running_databases(*settings: str) -> Iterator[Databases]:
    with running_postgresql(*settings) as server:
        yield Databases(server)


class BeatingSpool(PostgresqlSpool):
    """A spool whose server has the test's clock, with a heartbeat before each question about due times."""

    async def due(self, lane: Lane | None = None) -> Mapping[Lane, timedelta]:
        await self.instance.look()
        return await super().due(lane)

    async def due_jobs(self, kind: str) -> Mapping[Lane, timedelta]:
        await self.instance.look()
        return await super().due_jobs(kind)


def time_of(clock: Clock) -> ServerTime:
    """The server's time, read from the test's clock."""

    async def read(_connection: DatabaseConnection) -> int:
        return rows.to_ms(clock.now())

    return ServerTime(clock, read)


async def joined(target: DatabaseTarget, clock: Clock) -> PostgresqlSpool:
    spool = await BeatingSpool.open(target, clock, SpoolLimits(timedelta(days=30)), time_of(clock))
    look = spool.instance._look

    async def look_beside_the_clock() -> None:
        await look()
        # The test may have moved its clock meanwhile: measured from its begin, the leases would have ended already.
        spool.instance._renewed_at = clock.monotonic()

    spool.instance._look = look_beside_the_clock  # type: ignore[method-assign]
    return spool


@asynccontextmanager
async def opened(target: DatabaseTarget, clock: Clock) -> AsyncIterator[PostgresqlSpool]:
    spool = await joined(target, clock)
    try:
        yield spool
    finally:
        await spool.close()
