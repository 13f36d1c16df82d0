"""The queue's move between the engines, with mail inside."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from senderproxy.relay.ports import Arrival, NewJob, Spool, SpoolError, SpoolUpdate
from senderproxy.service.spool import EngineSpool
from senderproxy.service.spool_move import MoveCounts, move_queue
from senderproxy.tracking.record import Lane, Query, RecipientState, RecipientStatus
from tests.fakes.arrivals import DELIVERED, arrival
from tests.fakes.still_clock import START, StillClock
from tests.peers.packages import POSTGRESQL
from tests.peers.process import why_not_here
from tests.ports.test_spool import ANNA, BUSY, CARL, DORA, EMIL, HOUR, MX
from tests.senderproxy.spool.postgresql.open_spool import Databases, running_databases
from tests.senderproxy.spool.postgresql.open_spool import opened as opened_database
from tests.senderproxy.spool.sqlite.open_spool import opened as opened_folder
from tests.senderproxy.spool.sqlite.open_spool import sql

reason = why_not_here(POSTGRESQL / "postgres")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]

MIXED = {
    str(CARL): RecipientState(RecipientStatus.WAITING, HOUR, tries=2, reply=BUSY),
    str(DORA): RecipientState(RecipientStatus.HELD, why="three faults"),
    str(EMIL): DELIVERED,
}


def queue() -> list[Arrival]:
    mixed = replace(arrival("mixed", *MIXED, states=MIXED, at=START - HOUR), lanes={CARL: MX})
    return [mixed, arrival("due", body=b"x" * 300_000), arrival("done", state=DELIVERED)]


@pytest.fixture(scope="module")
def databases() -> Iterator[Databases]:
    with running_databases() as found:
        yield found


async def contents(spool: Spool) -> dict[str, object]:
    """What a person sees of the queue, and what it holds."""
    found: dict[str, object] = {}
    for record in await spool.find(Query(unfinished=True), limit=99):
        header = await spool.header(record.id)
        assert header is not None
        events = [event.kind for event in await spool.events(record.id)]
        found[record.id] = replace(record, as_of=START), header.raw, events
    return found


@pytest.mark.parametrize("back", [False, True])
async def test_each_message_that_waits_or_is_held_moves_with_its_states_and_its_history(
    databases: Databases, tmp_path: Path, *, back: bool
) -> None:
    clock = StillClock()
    async with opened_folder(tmp_path / "spool", clock) as folder, opened_database(databases.new(), clock) as database:
        old: EngineSpool = database if back else folder
        new: EngineSpool = folder if back else database
        await old.accept(*queue())
        before = await contents(old)
        assert set(before) == {"mixed", "due"}
        assert await move_queue(old, new) == MoveCounts(moved=2)
        assert await contents(new) == before
        assert await contents(old) == {}
        (claim,) = await new.claim(ANNA, 9)
        assert claim.submission.id == "due"
        assert b"".join(claim.submission.message.body.blocks()) == b"x" * 300_000
        clock.pass_by(HOUR)
        assert [one.submission.id for one in await new.claim(MX, 9)] == ["mixed"]
        assert await move_queue(old, new) == MoveCounts()


async def test_a_move_that_was_interrupted_goes_on_and_doubles_nothing(databases: Databases, tmp_path: Path) -> None:
    clock = StillClock()
    async with opened_folder(tmp_path / "spool", clock) as old, opened_database(databases.new(), clock) as new:
        await old.accept(*queue())
        await new.accept(queue()[1])  # it was stored there, and the process ended
        assert await move_queue(old, new) == MoveCounts(moved=2)
        assert sorted(record.id for record in await new.find(Query(), limit=9)) == ["due", "mixed"]


@pytest.mark.parametrize("back", [False, True])
async def test_many_messages_move_around_those_that_stay(databases: Databases, tmp_path: Path, *, back: bool) -> None:
    clock = StillClock()
    async with opened_folder(tmp_path / "spool", clock) as folder, opened_database(databases.new(), clock) as database:
        old: EngineSpool = database if back else folder
        new: EngineSpool = folder if back else database
        names = [f"m{number:03}" for number in range(250)]
        await old.accept(*map(arrival, names))
        leased = names[0], names[99], names[100], names[120]
        for name in leased:
            assert await old.claim_one(name) is not None
        assert await move_queue(old, new) == MoveCounts(moved=246, in_use=4)
        assert [record.id for record in await old.find(Query(unfinished=True), limit=999)] == list(leased)
        moved = [record.id for record in await new.find(Query(unfinished=True), limit=999)]
        assert moved == [name for name in names if name not in leased]


async def test_a_spool_that_an_instance_still_uses_is_not_moved(databases: Databases, tmp_path: Path) -> None:
    clock = StillClock()
    async with opened_folder(tmp_path / "spool", clock) as new, opened_database(databases.new(), clock) as running:
        await running.accept(*queue())
        async with opened_database(databases.target("senderproxy"), clock) as old:
            with pytest.raises(SpoolError, match=f"Other instances use the old spool: {running.instance.name}"):
                await move_queue(old, new)
            await running.close()
            await old.instance.look()
            assert await move_queue(old, new) == MoveCounts(moved=2)


async def test_what_is_leased_stays_and_jobs_refuse_the_move(databases: Databases, tmp_path: Path) -> None:
    clock = StillClock()
    async with opened_folder(tmp_path / "spool", clock) as new, opened_database(databases.new(), clock) as old:
        await old.accept(*queue())
        assert len(await old.claim(ANNA, 1)) == 1  # by another instance
        assert await move_queue(old, new) == MoveCounts(moved=1, in_use=1)
        job = NewJob("sent_copy", Lane.of_account("anna"), b"x", timedelta(hours=1))
        await old.accept(replace(arrival("copied", state=DELIVERED), jobs=(job,)))
        with pytest.raises(SpoolError, match="1 copies for Sent folders wait"):
            await move_queue(old, new)


@pytest.mark.parametrize("back", [False, True])
async def test_a_damaged_message_stays_where_it_is(databases: Databases, tmp_path: Path, *, back: bool) -> None:
    clock = StillClock()
    async with opened_folder(tmp_path / "spool", clock) as folder, opened_database(databases.new(), clock) as database:
        old: EngineSpool = database if back else folder
        await old.accept(arrival("damaged"), arrival("good"))
        if back:
            databases.sql(
                "UPDATE senderproxy.content_part SET octets = 'x' WHERE message = (SELECT min(number) FROM senderproxy.message)"
            )
            await old.close()
    if not back:
        sql(
            tmp_path / "spool",
            "UPDATE new_message SET body = CAST(replace(body, 'Carl', 'Karl') AS BLOB) WHERE number = 1",
        )
    async with (
        opened_folder(tmp_path / "spool", clock) as folder,
        opened_database(databases.target(), clock) as database,
    ):
        old = database if back else folder
        new: EngineSpool = folder if back else database
        assert await move_queue(old, new) == MoveCounts(moved=1, unreadable=1)
        assert [record.id for record in await new.find(Query(), limit=9)] == ["good"]
        assert [record.id for record in await old.find(Query(unfinished=True), limit=9)] == ["damaged"]


@pytest.mark.parametrize("back", [False, True])
async def test_a_queue_that_moved_away_moves_back(databases: Databases, tmp_path: Path, *, back: bool) -> None:
    clock = StillClock()
    async with opened_folder(tmp_path / "spool", clock) as folder, opened_database(databases.new(), clock) as database:
        first: EngineSpool = database if back else folder
        second: EngineSpool = folder if back else database
        await first.accept(*queue(), arrival("small"))
        before = await contents(first)
        for old, new in ((first, second), (second, first), (first, second), (second, first)):
            assert await move_queue(old, new) == MoveCounts(moved=3)
            assert await contents(old) == {}
            assert await contents(new) == before
        for claim in await first.claim(ANNA, 9):
            await first.settle(claim, SpoolUpdate(dict.fromkeys(claim.due, DELIVERED)))
        assert set(await contents(first)) == {"mixed"}
        assert await move_queue(first, second) == MoveCounts(moved=1)
        assert set(await contents(second)) == {"mixed"}
