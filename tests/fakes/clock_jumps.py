"""A jump of a test's clock that no write of the spool takes part in."""

import sqlite3
from collections.abc import Callable

from senderproxy.spool.sqlite.store import SqliteSpool
from senderproxy.spool.sqlite.writer import WriteJob


async def between_writes(spool: SqliteSpool, jump: Callable[[], None]) -> None:
    """Let the clock jump between two writes: one in progress would take as long, as on a dead disk."""
    writer = spool._writer

    def do(_connection: sqlite3.Connection) -> None:
        writer.busy_since = None
        jump()

    await writer.submit(WriteJob(run=do, reads_only=True))
