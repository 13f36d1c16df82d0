"""A long queue in PostgreSQL: the time to the first delivery, what each question reads, memory."""

import asyncio
import resource
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from benchmarks.scale_database import Database, opened, running_database, table
from benchmarks.spool_accept import arrival
from benchmarks.spool_written import delivered
from senderproxy.relay.ports import SpoolUpdate
from senderproxy.spool.postgresql.connections import DatabaseConnection, connect
from senderproxy.spool.postgresql.store import PostgresqlSpool
from senderproxy.tracking.record import Lane, Query

_LANES: Final = 10_000
_TIMES: Final = 5
_EXPIRY: Final = 5 * 86_400_000  # milliseconds; all messages are two hours old
_FILL: Final = """
SET search_path = senderproxy;
INSERT INTO message SELECT n, 'm' || n, t, 'l', '{{"host":"a","name":"b","protocol":"ESMTP"}}', '', 0,
  'anna@firma.example', 'a' || n % {lanes}, NULL, 4096, NULL, NULL, 0, 'firma.example anna', NULL, 0,
  1, 0, t + n, 1, NULL
  FROM generate_series({first}, {last}) AS n,
  (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint - 7200000 AS t) AS now;
INSERT INTO recipient SELECT n, 0, 'carl@elsewhere.example', 'elsewhere.example carl', 'waiting', t, 0, NULL, '', 0,
  NULL, 'account:a' || n % {lanes} FROM generate_series({first}, {last}) AS n,
  (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint - 7200000 AS t) AS now;
SELECT setval('message_number', {last});
"""
_READ: Final = (
    "SELECT coalesce(sum(seq_tup_read), 0)::bigint, coalesce(sum(idx_tup_fetch), 0)::bigint FROM pg_stat_user_tables"
    " WHERE schemaname = 'senderproxy'"
)


async def _rows_read(connection: DatabaseConnection) -> tuple[int, int]:
    """Rows that all connections have read by scans and by indexes, as far as they have reported them."""
    await connection.fetchval("SELECT pg_stat_force_next_flush()")
    await connection.fetchval("SELECT pg_stat_clear_snapshot()")
    scanned, fetched = await connection.fetchrow(_READ)
    return scanned, fetched


async def _plans(database: Database, now: int) -> list[tuple[str, ...]]:
    """Each call of the delivery, in a transaction that is rolled back: milliseconds, rows read."""
    connection = await connect(database.target)
    number = await connection.fetchval(
        "INSERT INTO instance (name, process, format, alive_until, postmaster)"
        " VALUES ('benchmark', '', 1, clock_timestamp() + interval '1 hour', pg_postmaster_start_time())"
        " RETURNING number"
    )
    calls: dict[str, tuple[str, *tuple[object, ...]]] = {
        "claim of ten messages of an account": ("SELECT * FROM lease_due('account:a77', $1, 10, $2)", now, number),
        "expired ones of an account, of which there are none": (
            "SELECT * FROM lease_expired('account:a77', $1, 10, $2)",
            now - _EXPIRY,
            number,
        ),
        "delays to report": ("SELECT * FROM lease_undelayed($1, 10, $2)", now, number),
        "one message by its id": ("SELECT * FROM lease_one('m77777', $1)", number),
        "due time of an account": ("SELECT * FROM due_times('account:a77')",),
        f"due times of all {_LANES:,} accounts": ("SELECT * FROM due_times(NULL)",),
    }
    lines: list[tuple[str, ...]] = []
    for name, (statement, *values) in calls.items():
        taken: list[float] = []
        before = await _rows_read(connection)
        for _ in range(_TIMES):
            await connection.execute("BEGIN")
            begun = time.perf_counter()
            await connection.fetch(statement, *values)
            taken.append(time.perf_counter() - begun)
            await connection.execute("ROLLBACK")
        after = await _rows_read(connection)
        scanned, fetched = ((there - here) // _TIMES for here, there in zip(before, after, strict=True))
        lines.append((name, f"{statistics.median(taken) * 1000:.1f}", f"{scanned:,}", f"{fetched:,}"))
    await connection.execute("DELETE FROM instance WHERE number = $1", number)
    await connection.close()
    return lines


async def _first_delivery(spool: PostgresqlSpool) -> None:
    lane = Lane.of_account("anna")
    assert lane in await spool.due()
    [claim] = await spool.claim(lane, 1)
    state, event = delivered()
    await spool.settle(claim, SpoolUpdate(dict.fromkeys(claim.due, state), events=(event,)))


async def _timed(what: Callable[[], Awaitable[object]]) -> float:
    begun = time.perf_counter()
    await what()
    return time.perf_counter() - begun


async def _measure(database: Database) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    spool = await opened(database.target)
    await spool.accept(replace(arrival(4096, 1), account="anna"))  # the only one with a content
    await spool.close()
    begun = time.perf_counter()
    spool = await opened(database.target)
    start = time.perf_counter() - begun
    first = await _timed(lambda: _first_delivery(spool))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    accept = await _timed(lambda: spool.accept(arrival(4096, 2)))
    totals = await _timed(spool.totals)
    found = await _timed(lambda: spool.find(Query(unfinished=True), limit=50))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    await spool.close()
    times: list[tuple[str, ...]] = [
        ("start of an instance, ms", f"{start * 1000:.0f}"),
        ("from there to the first delivery, of the last account, ms", f"{first * 1000:.0f}"),
        ("peak memory of the instance until then, MB", f"{memory:.0f}"),
        ("one accept, ms", f"{accept * 1000:.1f}"),
        ("totals of the queue (`status`), ms", f"{totals * 1000:.0f}"),
        ("the oldest fifty (`queue list`), ms", f"{found * 1000:.1f}"),
        ("peak memory of the instance after these, MB", f"{peak:.0f}"),
    ]
    now = int(time.time() * 1000)
    return times, await _plans(database, now)


def long_queue(waiting: int) -> str:
    """So many waiting messages without content, of ten thousand accounts."""
    with running_database() as database:
        step = 50_000
        for first in range(1, waiting + 1, step):
            database.sql(_FILL.format(lanes=_LANES, first=first, last=min(waiting, first + step - 1)))
        for name in ("message", "recipient"):
            database.sql(f"ANALYZE senderproxy.{name}")
        times, plans = asyncio.run(_measure(database))
        size = database.sql("SELECT pg_database_size('mail') / 1000000")
    head = f"{waiting:,} waiting messages of {_LANES:,} accounts, {size} MB in the database"
    columns = ("call", "ms", "rows read by scans", "rows fetched by indexes")
    return "\n\n".join((table(head, ("", "measured"), times), table("What each call reads there", columns, plans)))
