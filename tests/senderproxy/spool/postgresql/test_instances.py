"""Several instances over one database: who has a message, who takes it over, and what a lost line costs."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from senderproxy.relay.ports import Claim, SpoolError, SpoolUpdate
from senderproxy.spool.postgresql.claims import ClaimedRows
from senderproxy.spool.postgresql.connections import Connections, DatabaseConnection
from senderproxy.spool.postgresql.store import PostgresqlSpool
from senderproxy.tracking.record import Lane, Query
from tests.fakes.arrivals import DELIVERED, arrival
from tests.fakes.still_clock import StillClock
from tests.peers.process import private_folder
from tests.ports.test_spool import ANNA, CARL, states
from tests.senderproxy.spool.postgresql.cut_line import cut_line
from tests.senderproxy.spool.postgresql.open_spool import Databases, joined, opened, running_databases

LATER = "UPDATE senderproxy.instance SET unlocked_since = unlocked_since - interval '1 minute'"
SILENT = "UPDATE senderproxy.instance SET alive_until = clock_timestamp() - interval '11 minutes' WHERE number = {}"


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


async def quiet(spool: PostgresqlSpool) -> None:
    """Return when no notice is under way."""
    await until(lambda: not spool._wakes._tasks)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(40):
        while not condition():
            await asyncio.sleep(0.02)


async def hush(spool: PostgresqlSpool) -> None:
    """From now on it has no heartbeat but those of the test: one of its own may come at any moment on a slow machine."""
    beating = spool.instance._beating
    assert beating is not None
    async with spool.instance._looking:  # none is cut off in its transaction
        beating.cancel()
        await asyncio.wait([beating])


async def vanish(spool: PostgresqlSpool) -> None:
    """The end of a process that was killed: its connections are closed, and nothing else happens."""
    connection = spool.instance._connection
    assert connection is not None
    await hush(spool)
    await spool._wakes.close()
    spool._connections.abandon()
    await spool._connections.close()  # or a report of its sessions, a second later, would open one that nobody closes
    connection.terminate()
    spool.instance._connection = None
    spool._closed = True


async def take_over(databases: Databases, spool: PostgresqlSpool, dead: PostgresqlSpool) -> None:
    """Return when this instance has taken over; the server may need a moment to notice a closed connection."""
    row = f"SELECT count(*) FROM senderproxy.instance WHERE number = {dead.instance.number}"
    async with asyncio.timeout(40):
        while databases.sql(row) != "0":
            await spool.instance.look()
            databases.sql(LATER)


async def test_each_instance_knows_the_others_and_which_of_them_is_silent(
    databases: Databases, clock: StillClock
) -> None:
    target = databases.new()
    async with opened(target, clock) as one:
        assert one.instance.others == []
        async with opened(target, clock) as two:
            await two.accept(arrival("a1"), arrival("a2"))
            assert len(await two.claim(ANNA, 2)) == 2
            await one.instance.look()
            (other,) = one.instance.others
            assert (other.name, other.messages, other.silent < 25) == (two.instance.name, 2, True)
            assert one.other_users == [two.instance.name]
            await hush(two)
            databases.sql(
                f"UPDATE senderproxy.instance SET alive_until = clock_timestamp() - interval '10 seconds'"
                f" WHERE number = {two.instance.number}"
            )
            await one.instance.look()
            (other,) = one.instance.others
            assert 40 <= other.silent < 100
            assert one.other_users == []
        await one.instance.look()
        assert one.instance.others == []


async def test_each_instance_knows_which_of_the_others_drains(databases: Databases, clock: StillClock) -> None:
    target = databases.new()
    async with opened(target, clock) as one, opened(target, clock) as two:
        for is_draining in (True, False):
            two.instance.is_draining = is_draining
            await two.instance.look()
            await one.instance.look()
            assert [other.is_draining for other in one.instance.others] == [is_draining]
        two.instance.is_draining = True
        await two.instance.look()
        databases.sql(f"DELETE FROM senderproxy.instance WHERE number = {two.instance.number}")
        await two.instance.look()  # with a row of its own again
        await one.instance.look()
        assert [other.is_draining for other in one.instance.others] == [True]


async def test_a_look_waits_for_the_one_in_progress(databases: Databases, clock: StillClock) -> None:
    target = databases.new()
    async with opened(target, clock) as one, opened(target, clock):
        await asyncio.gather(*(one.instance.look() for _ in range(5)))
        assert len(one.instance.others) == 1
        assert not one.instance.is_lost


async def test_two_instances_never_have_the_same_message(databases: Databases, clock: StillClock) -> None:
    target = databases.new()
    async with opened(target, clock) as one, opened(target, clock) as two:
        for batch in range(10):
            await one.accept(*(arrival(f"m{batch}-{number}") for number in range(20)))
        calls = [spool.claim(ANNA, 7) for _ in range(20) for spool in (one, two)]
        both = [claim for claims in await asyncio.gather(*calls) for claim in claims]
        assert len(both) == len({claim.submission.id for claim in both}) == 200
        assert await two.due() == {}


async def test_a_message_of_one_instance_wakes_the_other(databases: Databases, clock: StillClock) -> None:
    target = databases.new()
    async with opened(target, clock) as one, opened(target, clock) as two:
        woken: dict[str, list[Lane | None]] = {"one": [], "two": []}
        one.on_wake(woken["one"].append)
        two.on_wake(woken["two"].append)
        await one.accept(arrival("a1"), arrival("a2"))
        await until(lambda: woken["two"])
        assert woken == {"one": [], "two": [ANNA]}


async def test_the_messages_of_a_killed_instance_are_due_for_the_others_soon(
    databases: Databases, clock: StillClock, caplog: pytest.LogCaptureFixture
) -> None:
    target = databases.new()
    woken: list[Lane | None] = []
    async with opened(target, clock) as one:
        one.on_wake(woken.append)
        two = await joined(target, clock)
        await two.accept(arrival("a1"))
        (claim,) = await two.claim(ANNA, 1)
        await one.instance.look()
        assert await one.claim(ANNA, 1) == []
        await hush(one)  # on a slow machine it would take over by itself
        await vanish(two)

        async def is_noticed() -> bool:
            await one.instance.look()
            found = databases.server.sql(
                "SELECT count(*) FROM senderproxy.instance WHERE unlocked_since IS NOT NULL", "spool"
            )
            return found == "1"

        async with asyncio.timeout(40):
            while not await is_noticed():
                await asyncio.sleep(0.05)
        assert await one.claim(ANNA, 1) == []  # it may come back
        databases.server.sql(LATER, "spool")
        await one.instance.look()
        (again,) = await one.claim(ANNA, 1)
        assert again.submission.id == claim.submission.id
        assert None in woken
        assert "an instance is gone" in caplog.text


async def test_a_silent_instance_keeps_its_messages_until_the_final_dot_has_timed_out(
    databases: Databases, clock: StillClock, caplog: pytest.LogCaptureFixture
) -> None:
    target = databases.new()
    caplog.set_level(logging.INFO)
    async with opened(target, clock) as one, opened(target, clock) as two:
        await hush(two)
        await two.accept(arrival("a1"), arrival("a2"))
        written, late = await two.claim(ANNA, 2)
        databases.server.sql(SILENT.format(two.instance.number).replace("11 minutes", "9 minutes"), "spool")
        await one.instance.look()
        assert await one.claim(ANNA, 2) == []
        await two.settle(written, SpoolUpdate({CARL: DELIVERED}))  # its lease still stands
        assert await states(one, "a1") == {CARL: DELIVERED}
        databases.server.sql(SILENT.format(two.instance.number), "spool")
        await one.instance.look()
        (taken,) = await one.claim(ANNA, 2)
        await two.settle(late, SpoolUpdate({CARL: DELIVERED}))
        assert "another instance took the message over" in caplog.text
        assert [record.leased for record in await one.find(Query(id="a2"), limit=1)] == [True]
        await one.settle(taken, SpoolUpdate({CARL: DELIVERED}))
        regained: list[bool] = []
        two.on_leases(lambda: regained.append(False), lambda: regained.append(True))
        await two.instance.look()
        assert regained == [False, True]
        await two.accept(arrival("a3"))
        assert len(await two.claim(ANNA, 1)) == 1


@pytest.fixture
def own_databases() -> Iterator[Databases]:
    """A server for one test, which ends it."""
    with running_databases() as found:
        yield found


async def test_an_instance_without_its_database_stops_before_its_leases_end(
    own_databases: Databases, clock: StillClock
) -> None:
    async with opened(own_databases.new(), clock) as spool:
        changes: list[str] = []
        spool.on_leases(lambda: changes.append("lost"), lambda: changes.append("regained"))
        await spool.accept(arrival("a1"))
        (claim,) = await spool.claim(ANNA, 1)
        own_databases.server.kill()
        clock.pass_by(timedelta(seconds=23))
        await until(lambda: changes == ["lost"])
        assert spool.health.is_disturbed()
        with pytest.raises(SpoolError, match="did not answer in time"):
            await spool.claim(ANNA, 1)
        with pytest.raises(SpoolError):
            await spool.accept(arrival("a2"))
        own_databases.server.start()
        await until(lambda: changes == ["lost", "regained"])
        await spool.settle(claim, SpoolUpdate({CARL: DELIVERED}))
        assert await states(spool, "a1") == {CARL: DELIVERED}
        assert not spool.health.is_disturbed()


async def test_new_messages_are_refused_while_a_synchronous_standby_is_missing(
    own_databases: Databases, clock: StillClock
) -> None:
    async with opened(own_databases.new(), clock) as spool:
        await spool.accept(arrival("a1"))
        own_databases.sql("ALTER SYSTEM SET synchronous_standby_names = 'missing'")
        own_databases.sql("SELECT pg_reload_conf()")
        try:
            waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
            await until(lambda: own_databases.sql(waits) != "0")  # a heartbeat before that would be the last one
            clock.pass_by(timedelta(seconds=23))
            await until(lambda: spool.instance.is_lost)
            async with asyncio.timeout(30):
                with pytest.raises(SpoolError, match="did not answer in time"):
                    await spool.accept(arrival("a2"))  # not stored: its client has no reply, and sends it again
        finally:
            own_databases.sql("ALTER SYSTEM RESET synchronous_standby_names")
            own_databases.sql("SELECT pg_reload_conf()")
        await until(lambda: not spool.instance.is_lost)
        await spool.accept(arrival("a3"))
        assert own_databases.sql("SELECT count(*) FROM senderproxy.message") == "2"


@pytest.mark.parametrize("cut", ["before", "after"])
async def test_the_outcome_of_a_commit_is_known_also_when_the_line_is_cut_at_it(
    databases: Databases, clock: StillClock, cut: str
) -> None:
    with private_folder("line") as folder:
        async with cut_line(databases.new(), folder) as (line, target), opened(target, clock) as spool:
            await hush(spool)  # its commit would be cut
            await spool.accept(arrival("a1"))
            (claim,) = await spool.claim(ANNA, 1)
            await quiet(spool)
            line.cut = cut
            if cut == "after":
                await spool.accept(arrival("a2"))
            else:
                with pytest.raises(SpoolError):
                    await spool.accept(arrival("a2"))
            await quiet(spool)
            line.cut = cut
            if cut == "after":
                await spool.settle(claim, SpoolUpdate({CARL: DELIVERED}))
            else:
                with pytest.raises(SpoolError):
                    await spool.settle(claim, SpoolUpdate({CARL: DELIVERED}))
            line.cut = cut
            claims: list[Claim] = []
            try:
                claims += await spool.claim(ANNA, 1)
            except SpoolError:
                assert cut == "before"
            assert line.cuts == 3
            found = {record.id: record.leased for record in await spool.find(Query(), limit=9)}
            assert found == ({"a1": False, "a2": True} if cut == "after" else {"a1": True})
            assert len(claims) == (cut == "after")


async def test_a_caller_that_is_cancelled_stops_no_commit(databases: Databases, clock: StillClock) -> None:
    async with opened(databases.new(), clock) as spool:
        accepting = asyncio.create_task(spool.accept(arrival("a1"), leased=True))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        accepting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await accepting

        async def is_free() -> bool:
            return [record.leased for record in await spool.find(Query(), limit=2)] == [False]

        async with asyncio.timeout(40):
            while not await is_free():
                await asyncio.sleep(0.02)


async def test_idle_connections_that_the_server_ended_are_replaced(databases: Databases) -> None:
    connections = Connections(databases.new())

    async def work(connection: DatabaseConnection) -> int:
        answer: int = await connection.fetchval("SELECT 42")
        return answer

    assert await connections.read(work) == 42
    for turns in (0, 1, 2, 3) * 5:  # of the loop, which reads the server's notice in one of them
        databases.server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'senderproxy'")
        for _ in range(turns):
            await asyncio.sleep(0)
        assert await connections.read(work) == 42
    await connections.close()


async def test_what_is_given_back_while_the_database_is_away_is_due_when_it_returns(
    databases: Databases, clock: StillClock
) -> None:
    target = databases.new()
    with private_folder("line") as folder:
        async with cut_line(target, folder) as (line, through), opened(through, clock) as spool:
            await spool.accept(arrival("a1"))
            [claim] = await spool.claim(ANNA, 1)
            leased = spool._leases.find(claim.lease.id)
            assert leased is not None
            await line.stop()
            spool._connections.abandon()
            spool._claims.give_back([ClaimedRows(leased, (), ())])
            await until(lambda: spool._connections.problem is not None)
            async with opened(target, clock) as other:
                assert await other.claim(ANNA, 1) == []
                await line.start(folder)
                async with asyncio.timeout(40):
                    while not (found := await other.claim(ANNA, 1)):
                        await asyncio.sleep(0.02)
                assert [one.submission.id for one in found] == ["a1"]
