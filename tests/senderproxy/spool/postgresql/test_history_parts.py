"""The history in partitions: made ahead, dropped as a whole, searched by indexes, beside instances of older versions."""

from datetime import timedelta

import asyncpg
import pytest

from senderproxy.relay.ports import NewJob, SpoolUpdate
from senderproxy.spool.postgresql.connections import DatabaseConnection, connect
from senderproxy.spool.postgresql.search import find
from senderproxy.spool.postgresql.store import PostgresqlSpool
from senderproxy.spool.sqlite import rows
from senderproxy.spool.sqlite.limits import SpoolLimits
from senderproxy.tracking.record import Lane, Query, RecipientStatus
from tests.fakes.arrivals import DELIVERED, arrival
from tests.fakes.still_clock import StillClock
from tests.peers.postgresql import OWNER
from tests.ports.test_spool import ANNA, CARL
from tests.senderproxy.spool.postgresql.open_spool import Databases, opened

DAY = timedelta(days=1)
PARTS = "SELECT count(*) FROM senderproxy.history_part"
TABLES = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'senderproxy.{}'::regclass"
IN_OTHER = "SELECT count(*) FROM senderproxy.history_other"
IN_GENERAL = "SELECT count(*) FROM senderproxy.message"


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


def emptied(databases: Databases) -> None:
    """No partition but the ones of other times."""
    days = databases.sql("SELECT string_agg((begins / 86400000)::text, ' ') FROM senderproxy.history_part").split()
    for day in days:
        databases.sql("; ".join(f"DROP TABLE senderproxy.{table}_{day}" for table in ALL))
    databases.sql("DELETE FROM senderproxy.history_part")


ALL = ("history", "history_recipient", "history_word")


async def delivered(spool: PostgresqlSpool, ident: str) -> None:
    await spool.accept(arrival(ident))
    (claim,) = await spool.claim(ANNA, 1)
    await spool.settle(claim, SpoolUpdate({CARL: DELIVERED}))


async def found(spool: PostgresqlSpool) -> list[str]:
    return [record.id for record in await spool.find(Query(), limit=99)]


async def test_a_delivered_message_is_in_the_partition_of_its_day_and_nowhere_else(
    databases: Databases, clock: StillClock
) -> None:
    target = databases.new()
    emptied(databases)
    async with opened(target, clock) as spool:
        await delivered(spool, "a1")
        day = rows.to_ms(clock.now()) // 86_400_000
        assert databases.sql(f"SELECT id FROM senderproxy.history_{day}") == "a1"
        assert databases.sql(f"SELECT fate FROM senderproxy.history_recipient_{day}") == "delivered"
        assert databases.sql(IN_GENERAL) == "0"
        assert [one.kind.value for one in await spool.events("a1")] == ["accepted"]
        (record,) = await spool.find(Query(id="a1"), limit=9)
        assert record.recipients[CARL].status is RecipientStatus.DELIVERED


async def test_partitions_are_made_for_a_week_and_dropped_as_a_whole_when_all_of_them_is_old(
    databases: Databases, clock: StillClock
) -> None:
    target = databases.new()
    emptied(databases)
    async with opened(target, clock) as one, opened(target, clock) as two:
        assert databases.sql(PARTS) == "8"
        assert [databases.sql(TABLES.format(table)) for table in ALL] == ["9"] * 3  # with the one for all other times
        await delivered(one, "a1")
        clock.pass_by(DAY)
        await delivered(two, "a2")
        await two.sweep(clock.now())
        assert databases.sql(PARTS) == "9"
        clock.pass_by(30 * DAY - timedelta(hours=1))
        await one.sweep(clock.now())
        await two.sweep(clock.now())
        assert await found(one) == ["a2"]  # all of the day before has ended more than thirty days ago
        assert databases.sql(IN_OTHER) == "0"
        clock.pass_by(DAY)
        await two.sweep(clock.now())
        assert await found(one) == []
        assert databases.sql(IN_GENERAL) == "0"


async def test_history_that_no_partition_was_made_for_is_kept_and_deleted_when_it_is_old(
    databases: Databases, clock: StillClock
) -> None:
    target = databases.new()
    emptied(databases)
    async with opened(target, clock) as spool:
        clock.pass_by(20 * DAY)
        await delivered(spool, "a1")
        assert databases.sql(IN_OTHER) == "1"
        await spool.sweep(clock.now())  # today's partition cannot be made any more; the next ones are
        assert databases.sql(PARTS) == "15"
        await delivered(spool, "a2")
        assert databases.sql(IN_OTHER) == "2"
        assert await found(spool) == ["a2", "a1"]
        clock.pass_by(31 * DAY)
        await spool.sweep(clock.now())
        assert await found(spool) == []


async def test_a_long_history_has_few_wide_partitions(databases: Databases, clock: StillClock) -> None:
    target = databases.new()
    emptied(databases)
    async with opened(target, clock) as spool:
        emptied(databases)
        spool.apply_limits(SpoolLimits(timedelta(days=3650)))
        await spool.sweep(clock.now())
        assert databases.sql("SELECT count(*), max(ends - begins) / 86400000 FROM senderproxy.history_part") == "1|58"
    emptied(databases)


async def test_who_cannot_lock_the_history_at_once_stops_nobody_and_drops_it_later(
    databases: Databases, clock: StillClock
) -> None:
    target = databases.new()
    emptied(databases)
    async with opened(target, clock) as spool:
        await delivered(spool, "a1")
        clock.pass_by(32 * DAY)
        reader = await connect(target)
        await reader.execute("BEGIN")
        await reader.fetch("SELECT count(*) FROM history")
        await spool.sweep(clock.now())
        await delivered(spool, "a2")
        assert await found(spool) == ["a2", "a1"]
        await reader.execute("COMMIT")
        await reader.close()
        await spool.sweep(clock.now())
        assert await found(spool) == ["a2"]
        assert await spool.trouble() is None


async def test_what_an_older_program_leaves_behind_is_found_moved_and_dropped(
    databases: Databases, clock: StillClock
) -> None:
    target = databases.new()
    async with opened(target, clock) as spool:
        await spool.accept(arrival("a1"))
        now = rows.to_ms(clock.now())
        databases.sql(f"""UPDATE senderproxy.recipient SET fate = 'delivered', due_at = NULL;
            UPDATE senderproxy.message SET waiting = 0, due_at = NULL, undelayed = NULL, finished_at = {now};""")
        assert await found(spool) == ["a1"]
        await spool.sweep(clock.now())
        assert await found(spool) == ["a1"]
        assert databases.sql(IN_GENERAL) == "0"
        clock.pass_by(32 * DAY)
        await spool.sweep(clock.now())
        assert await found(spool) == []


async def test_a_message_with_a_job_stays_until_the_last_one_has_ended(databases: Databases, clock: StillClock) -> None:
    copies = Lane("copy", "anna")
    jobs = [NewJob("copy", copies, b"x", holds_content=holds) for holds in (True, False)]
    async with opened(databases.new(), clock) as spool:
        await spool.accept(arrival("a1"))
        (claim,) = await spool.claim(ANNA, 1)
        await spool.settle(claim, SpoolUpdate({CARL: DELIVERED}, jobs=tuple(jobs)))
        clock.pass_by(32 * DAY)
        await spool.sweep(clock.now())
        assert databases.sql(IN_GENERAL) == "1"
        one, two = await spool.claim_jobs("copy", copies, 2)
        await spool.settle_job(one)
        assert databases.sql("SELECT count(*) FROM senderproxy.content") == "0"
        assert databases.sql(IN_GENERAL) == "1"
        await spool.settle_job(two)
        assert databases.sql(IN_GENERAL) == "0"
        assert await found(spool) == ["a1"]


async def test_the_service_may_make_and_drop_partitions_in_no_other_way(databases: Databases) -> None:
    connection = await connect(databases.new())
    for statement in ("CREATE TABLE x PARTITION OF history FOR VALUES FROM (1) TO (2)", "DROP TABLE history_other"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    await connection.execute("CREATE TEMPORARY TABLE history_part (begins bigint, ends bigint)")  # hides nothing
    await connection.execute("INSERT INTO pg_temp.history_part VALUES (0, 9223372036854775807)")
    await connection.execute("SELECT senderproxy.make_history(1769847300000, 1)")
    await connection.close()
    assert int(databases.sql(PARTS)) >= 8
    owner = "SELECT DISTINCT relowner::regrole FROM pg_class JOIN pg_inherits ON inhrelid = oid WHERE relkind = 'r'"
    assert databases.sql(owner) == OWNER


QUERIES = {
    "id": Query(id="m77777"),
    "Message-ID": Query(id="<m77777@firma.example>"),
    "recipient": Query(recipient="carl777@elsewhere.example"),
    "recipient's domain": Query(recipient="@elsewhere.example"),
    "author": Query(sender="anna77@firma.example"),
    "reverse-path": Query(sender="bounce7@firma.example"),
    "author's domain": Query(sender="@firma.example"),
    "account": Query(account="anna"),
    "upstream's id": Query(upstream_id="Q77777"),
    "failed": Query(status=RecipientStatus.FAILED),
    "delivered": Query(status=RecipientStatus.DELIVERED),
    "a recipient's failure": Query(status=RecipientStatus.FAILED, recipient="carl10@elsewhere.example"),
    "subject": Query(subject="rechnung 777"),
    "the last hour": Query(since=rows.from_ms(1769847300000 - 3_600_000)),
    "a past hour": Query(since=rows.from_ms(1768000000000), until=rows.from_ms(1768003600000)),
    "the newest": Query(),
}


async def rows_read(connection: DatabaseConnection) -> tuple[int, int]:
    """The rows of the history that this connection has read so far, by scans and by indexes."""
    await connection.fetchval("SELECT pg_stat_force_next_flush()")
    counts = await connection.fetchrow(
        "SELECT sum(seq_tup_read)::bigint, sum(coalesce(idx_tup_fetch, 0))::bigint FROM pg_stat_user_tables"
        " WHERE schemaname = 'senderproxy' AND relname LIKE 'history%' AND relname <> 'history_part'"
    )
    return counts[0], counts[1]


@pytest.mark.slow
async def test_no_search_reads_the_whole_history(databases: Databases) -> None:
    """A hundred thousand messages in thirty-one partitions, nearly all of one account."""
    target = databases.new()
    emptied(databases)
    databases.sql(_MANY)
    connection = await connect(target)
    most = {"subject": 9000}  # one of its words is in all subjects: the newest partition is read by the index
    read: dict[str, tuple[int, int]] = {}
    scanned, fetched = await rows_read(connection)
    for name, query in QUERIES.items():
        await connection.execute("BEGIN")
        records = await find(connection, query, 20, None, 1769847300000)
        await connection.execute("ROLLBACK")
        assert records, name
        now = await rows_read(connection)
        read[name] = now[0] - scanned, now[1] - fetched
        scanned, fetched = now
    await connection.close()
    databases.new()
    emptied(databases)
    assert {name: counts for name, counts in read.items() if counts[0] or counts[1] > most.get(name, 3000)} == {}


_MANY = """
SELECT senderproxy.make_history(1769847300000 - n * 86400000::bigint, 1) FROM generate_series(0, 30, 7) AS n;
INSERT INTO senderproxy.history SELECT 1767260000000 + n * 25900::bigint, n, 'm' || n, 1767260000000 + n * 25900::bigint,
  'l', '{"host":"a","name":"b","protocol":"ESMTP"}', '', 'anna@firma.example',
  CASE WHEN n % 50 = 7 THEN 'bert' ELSE 'anna' END, 10, '<m' || n || '@firma.example>', NULL,
  'firma.example anna' || n % 500, CASE WHEN n % 1000 = 7 THEN 'firma.example bounce7' END, 'Rechnung ' || n, '[]'
  FROM generate_series(1, 100000) AS n;
INSERT INTO senderproxy.history_recipient SELECT 1767260000000 + n * 25900::bigint, n, 0, 'carl@elsewhere.example',
  'elsewhere.example carl' || n % 1000, CASE WHEN n % 100 = 10 THEN 'failed' ELSE 'delivered' END, 1, NULL, '', 0,
  'Q' || n, 'account:anna' FROM generate_series(1, 100000) AS n;
INSERT INTO senderproxy.history_word SELECT 1767260000000 + n * 25900::bigint, word, n
  FROM generate_series(1, 100000) AS n, unnest(ARRAY['rechnung', n::text]) AS word;
ANALYZE senderproxy.history; ANALYZE senderproxy.history_recipient; ANALYZE senderproxy.history_word;
"""
