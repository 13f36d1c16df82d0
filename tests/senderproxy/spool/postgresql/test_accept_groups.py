"""Messages that are accepted at the same moment: few transactions, and one answer for each of them."""

import asyncio

import pytest

from senderproxy.relay.ports import Claim, SpoolError
from senderproxy.spool.postgresql.connections import connect
from senderproxy.spool.postgresql.store import PostgresqlSpool
from senderproxy.tracking.record import Query
from tests.fakes.arrivals import arrival
from tests.fakes.still_clock import StillClock
from tests.senderproxy.spool.postgresql.open_spool import Databases, opened

_SLOW_COMMIT = """
CREATE FUNCTION senderproxy.wait_at_commit() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN PERFORM pg_advisory_xact_lock_shared(77); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER wait_at_commit AFTER INSERT ON senderproxy.message DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION senderproxy.wait_at_commit();
"""
_NO_SLOW_COMMIT = """
DROP TRIGGER wait_at_commit ON senderproxy.message; DROP FUNCTION senderproxy.wait_at_commit();
"""
_COMMITTING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory' AND query = 'COMMIT'"


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


async def ids(spool: PostgresqlSpool) -> set[str]:
    return {record.id for record in await spool.find(Query(), limit=99)}


async def test_messages_that_arrive_together_share_transactions(databases: Databases, clock: StillClock) -> None:
    async with opened(databases.new(), clock) as spool:
        before = spool.commits
        await asyncio.gather(*(spool.accept(arrival(f"m{number}")) for number in range(60)))
        assert spool.commits - before <= 15
        assert len(await ids(spool)) == 60


async def test_one_that_cannot_be_stored_fails_alone(databases: Databases, clock: StillClock) -> None:
    async with opened(databases.new(), clock) as spool:
        await spool.accept(arrival("m17"))
        answers = await asyncio.gather(
            *(spool.accept(arrival(f"m{number}")) for number in range(40)), return_exceptions=True
        )
        failed = [number for number, answer in enumerate(answers) if isinstance(answer, BaseException)]
        assert failed == [17]
        assert isinstance(answers[17], SpoolError)
        assert len(await ids(spool)) == 40


async def test_each_caller_gets_the_claims_on_its_own_messages(databases: Databases, clock: StillClock) -> None:
    async with opened(databases.new(), clock) as spool:

        async def accept(number: int) -> list[str]:
            arrivals = [arrival(f"m{number}-{place}") for place in range(number % 3 + 1)]
            claims: list[Claim] = [*await spool.accept(*arrivals, leased=number % 2 == 0)]
            return [claim.submission.id for claim in claims]

        found = await asyncio.gather(*(accept(number) for number in range(30)))
        for number, claimed in enumerate(found):
            expected = [f"m{number}-{place}" for place in range(number % 3 + 1)]
            assert claimed == (expected if number % 2 == 0 else [])


async def test_nobody_is_answered_before_the_commit(databases: Databases, clock: StillClock) -> None:
    target = databases.new()
    databases.sql(_SLOW_COMMIT)
    blocker = await connect(target)
    try:
        async with opened(target, clock) as spool:
            await blocker.execute("SELECT pg_advisory_lock(77)")
            callers = [asyncio.create_task(spool.accept(arrival(f"m{number}"))) for number in range(20)]
            async with asyncio.timeout(60):
                while databases.sql(_COMMITTING) == "0":
                    await asyncio.sleep(0.02)
            assert not any(caller.done() for caller in callers)
            assert databases.sql("SELECT count(*) FROM senderproxy.message") == "0"
            await blocker.execute("SELECT pg_advisory_unlock(77)")
            await asyncio.gather(*callers)
            assert len(await ids(spool)) == 20
    finally:
        blocker.terminate()
        databases.sql(_NO_SLOW_COMMIT)


async def test_a_caller_that_goes_away_takes_no_other_message_with_it(databases: Databases, clock: StillClock) -> None:
    async with opened(databases.new(), clock) as spool:
        callers = [asyncio.create_task(spool.accept(arrival(f"m{number}"))) for number in range(20)]
        await asyncio.sleep(0)
        callers[3].cancel()
        answers = await asyncio.gather(*callers, return_exceptions=True)
        assert [number for number, answer in enumerate(answers) if isinstance(answer, BaseException)] == [3]
        assert await ids(spool) >= {f"m{number}" for number in range(20) if number != 3}
