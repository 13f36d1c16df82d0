"""A spool in its own folder, opened and closed by a test as by a process."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from pathlib import Path

from senderproxy.clock import Clock
from senderproxy.relay.ports import Claim
from senderproxy.spool.sqlite.limits import SpoolLimits
from senderproxy.spool.sqlite.store import SqliteSpool, Tuning
from senderproxy.spool.sqlite.writer import WriteJob
from senderproxy.tracking.record import MessageRecord, Query
from tests.fakes.claims import next_claim
from tests.fakes.still_clock import StillClock

HISTORY = timedelta(days=30)


@asynccontextmanager
async def opened(
    folder: Path,
    clock: Clock | None = None,
    *,
    min_free: int = 0,
    reserve: int = 0,
    history_size: int = 2**30,
    keep_subjects: bool = False,
    tuning: Tuning | None = None,
) -> AsyncIterator[SqliteSpool]:
    limits = SpoolLimits(HISTORY, history_size, min_free, reserve, keep_subjects=keep_subjects)
    spool = SqliteSpool.open(folder, clock or StillClock(), limits, tuning=tuning)
    try:
        yield spool
    finally:
        await spool.close()


async def claimed(spool: SqliteSpool, account: str = "anna") -> Claim:
    claim = await next_claim(spool, account)
    assert claim is not None
    return claim


async def written(spool: SqliteSpool) -> None:
    """Return when what was noted before is in the database."""
    while spool._history._unwritten:  # each transaction takes a part of it
        await spool._writer.submit(WriteJob(run=lambda _: None))
    await spool._writer.submit(WriteJob(run=lambda _: None))  # the last part may be in the transaction before


async def records(spool: SqliteSpool, query: Query | None = None) -> list[MessageRecord]:
    return list(await spool.find(query or Query(), limit=10_000))


async def ids(spool: SqliteSpool) -> list[str]:
    return [record.id for record in await records(spool)]


def sql(folder: Path, statement: str, *values: object) -> list[tuple[object, ...]]:
    """Read or damage the database of a closed spool."""
    with closing(sqlite3.connect(folder / "spool.db")) as connection:
        found = connection.execute(statement, values).fetchall()
        connection.commit()
        return found


def files(folder: Path) -> set[str]:
    return {entry.name for entry in (folder / "content").iterdir()}
