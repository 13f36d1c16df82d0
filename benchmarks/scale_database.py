"""A private PostgreSQL server for a measurement, with the tables of the spool."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from benchmarks.spool_accept import CLOCK
from senderproxy.spool.postgresql.migrations import migrate
from senderproxy.spool.postgresql.store import PostgresqlSpool
from senderproxy.spool.postgresql.target import DatabaseTarget
from senderproxy.spool.sqlite.limits import SpoolLimits
from tests.peers.postgresql import OWNER, SERVICE, PostgresqlServer, running_postgresql

LIMITS: Final = SpoolLimits(timedelta(days=30))
_NAME: Final = "mail"


@dataclass(frozen=True)
class Database:
    """The server, and the database for the role of the service."""

    server: PostgresqlServer
    target: DatabaseTarget

    def sql(self, text: str) -> str:
        """Execute statements as the superuser; their output."""
        return self.server.sql(text, _NAME)


@contextmanager
def running_database() -> Iterator[Database]:
    """A server that syncs each commit."""
    with running_postgresql("fsync=on", "shared_buffers=256MB", "max_wal_size=2GB") as server:
        server.sql(f"CREATE DATABASE {_NAME} OWNER {OWNER}")
        place = str(server.socket_folder), server.port
        asyncio.run(migrate(DatabaseTarget(*place, OWNER, _NAME), SERVICE))
        yield Database(server, DatabaseTarget(*place, SERVICE, _NAME))


async def opened(target: DatabaseTarget) -> PostgresqlSpool:
    """The spool of one more instance."""
    return await PostgresqlSpool.open(target, CLOCK, LIMITS)


def table(title: str, columns: tuple[str, ...], lines: list[tuple[str, ...]]) -> str:
    """Markdown."""
    head = [f"### {title}", "", f"| {' | '.join(columns)} |", f"| --- |{' ---: |' * (len(columns) - 1)}"]
    return "\n".join([*head, *(f"| {' | '.join(line)} |" for line in lines)])
