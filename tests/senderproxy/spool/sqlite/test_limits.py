"""The limits of a spool: the history gives way before messages do."""

import os
from datetime import timedelta
from pathlib import Path

import pytest

from senderproxy.relay.ports import SpoolFull
from senderproxy.spool.sqlite.limits import SpoolLimits
from senderproxy.spool.sqlite.store import SqliteSpool
from senderproxy.tracking.record import Query, RecipientStatus
from tests.fakes.arrivals import DELIVERED, arrival
from tests.fakes.still_clock import START, StillClock
from tests.senderproxy.spool.sqlite.open_spool import HISTORY, ids, opened, written

LIMIT = 250_000  # octets of history


def free_octets(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


async def note(spool: SqliteSpool, first: int, count: int) -> None:
    """Histories s1000000, ..., written in batches."""
    for number in range(first, first + count):
        spool.note(arrival(f"s{1_000_000 + number}", state=DELIVERED))
        if number % 500 == 0 or number == first + count - 1:
            await spool.accept(arrival(f"flush{number}", state=DELIVERED))
            await written(spool)


def needs_sweep(spool: SqliteSpool) -> bool:
    return spool.needs_sweep


async def histories(spool: SqliteSpool) -> list[str]:
    return [ident for ident in await ids(spool) if ident.startswith("s")]


async def test_the_oldest_history_is_deleted_when_all_of_it_takes_more_than_its_limit(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    async with opened(folder, history_size=LIMIT) as spool:
        waiting = [f"w{number}" for number in range(40)]
        for ident in waiting:  # more octets than the history may have: they do not count
            await spool.accept(arrival(ident, body=b"x" * 50_000))
        assert not needs_sweep(spool)
        await note(spool, 0, 200)
        assert needs_sweep(spool)
        await spool.sweep(START)
        assert not needs_sweep(spool)
        assert len(await histories(spool)) == 200  # no more than the limit
        for more in range(200, 6000, 2000):
            await note(spool, more, 2000)
            await spool.sweep(START)
        left = await histories(spool)
        assert 200 < len(left) < 3000
        assert left[0] == "s1006199"
        assert left == sorted(left, reverse=True)
        assert int(left[0][1:]) - int(left[-1][1:]) == len(left) - 1  # the newest without a gap
        found = await spool.find(Query(status=RecipientStatus.WAITING), limit=100)
        assert {record.id for record in found} == set(waiting)
    assert (folder / "spool.db").stat().st_size < 40 * 60_000 + LIMIT + 17 * 2**20


async def test_a_history_leaves_twice_the_free_space_that_a_message_leaves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(tmp_path / "spool", min_free=int(free_octets(tmp_path) / 1.5)) as spool:
        spool.note(arrival("s1", state=DELIVERED))
        await spool.accept(arrival("a1"))
        assert await ids(spool) == ["a1"]
    assert any("too little space" in str(getattr(r, "senderproxy_fields", {}).get("why")) for r in caplog.records)


async def test_space_that_becomes_free_counts_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock does not move: a number that was asked for a moment ago refuses nothing."""
    free = 0
    async with opened(tmp_path / "spool", StillClock(), min_free=1 << 20) as spool:
        monkeypatch.setattr(os, "fstatvfs", lambda _: os.statvfs_result((1, 1, free, free, free, 0, 0, 0, 0, 255)))
        with pytest.raises(SpoolFull):
            await spool.accept(arrival("w1"))
        spool.note(arrival("s1", state=DELIVERED))  # asks for the space, and is not kept
        await written(spool)
        free = 1 << 30
        await spool.accept(arrival("w2"))
        spool.note(arrival("s2", state=DELIVERED))
        await written(spool)
        assert set(await ids(spool)) == {"w2", "s2"}


async def test_when_a_message_is_refused_for_lack_of_space_the_history_gives_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = StillClock()
    async with opened(tmp_path / "spool", clock) as spool:
        await spool.accept(arrival("w1"))
        await note(spool, 0, 2000)
        free = free_octets(tmp_path)
        monkeypatch.setattr(os, "fstatvfs", lambda _: os.statvfs_result((1, 1, free, free, free, 0, 0, 0, 0, 255)))
        clock.pass_by(timedelta(seconds=1))
        spool.apply_limits(SpoolLimits(HISTORY, min_free=free + 30_000))
        with pytest.raises(SpoolFull):
            await spool.accept(arrival("w2"))
        assert needs_sweep(spool)
        await spool.sweep(START)
        assert 0 < len(await histories(spool)) < 2000
        assert (await histories(spool))[0] == "s1001999"
        assert [record.id for record in await spool.find(Query(unfinished=True), limit=9)] == ["w1"]


async def test_other_limits_are_in_force_at_once(tmp_path: Path) -> None:
    folder, clock = tmp_path / "spool", StillClock()
    async with opened(folder, clock, reserve=100_000) as spool:
        assert (folder / "reserve").stat().st_size == 100_000
        spool.apply_limits(SpoolLimits(timedelta(), min_free=0, reserve=50_000))
        await spool.accept(arrival("a1"))
        assert (folder / "reserve").stat().st_size == 50_000
        spool.note(arrival("s1", state=DELIVERED))
        await spool.accept(arrival("a2"))
        await spool.sweep(START + timedelta(seconds=1))
        assert await ids(spool) == ["a2", "a1"]
        spool.apply_limits(SpoolLimits(HISTORY, min_free=free_octets(tmp_path) * 2, reserve=200_000))
        clock.pass_by(timedelta(seconds=1))
        with pytest.raises(SpoolFull):
            await spool.accept(arrival("a3"))
        spool.apply_limits(SpoolLimits(HISTORY, reserve=200_000))
        await spool.accept(arrival("a4"))
        assert (folder / "reserve").stat().st_size == 200_000
