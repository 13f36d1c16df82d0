"""The contract of relay.ports.LearnedStore, kept by the real spool and by the one in memory alike."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TypeAlias

import pytest

from senderproxy.relay import ports
from senderproxy.relay.ports import LearnedStore, SpoolError
from senderproxy.spool.sqlite import learned
from senderproxy.spool.sqlite.limits import SpoolLimits
from senderproxy.spool.sqlite.store import SqliteSpool
from tests.fakes.memory_learned import MemoryLearned
from tests.fakes.still_clock import StillClock
from tests.senderproxy.spool.postgresql import open_spool
from tests.senderproxy.spool.postgresql.open_spool import Databases

Open: TypeAlias = Callable[[], AbstractAsyncContextManager[LearnedStore]]


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture(params=["memory", "postgresql", "sqlite"])
def opened(request: pytest.FixtureRequest, tmp_path: Path, clock: StillClock) -> Open:
    if request.param == "postgresql":
        databases: Databases = request.getfixturevalue("databases")
        target = databases.new()
        return lambda: open_spool.opened(target, clock)

    in_memory = MemoryLearned(clock)

    @asynccontextmanager
    async def memory() -> AsyncIterator[LearnedStore]:
        yield in_memory

    @asynccontextmanager
    async def sqlite() -> AsyncIterator[LearnedStore]:
        spool = SqliteSpool.open(tmp_path / "spool", clock, SpoolLimits(timedelta(days=30)))
        yield spool
        await spool.close()

    return memory if request.param == "memory" else sqlite


async def values(store: LearnedStore) -> dict[str, str]:
    return {row.key: row.value for row in await store.read_learned()}


async def test_rows_are_found_after_a_restart_with_their_age(opened: Open, clock: StillClock) -> None:
    async with opened() as store:
        await store.write_learned({"account/anna": '{"a":1}', "loop/1": "{}"})
    clock.pass_by(timedelta(seconds=90))
    async with opened() as store:
        assert await values(store) == {"account/anna": '{"a":1}', "loop/1": "{}"}
        assert {row.age for row in await store.read_learned()} == {90.0}


async def test_a_row_is_replaced_and_deleted(opened: Open, clock: StillClock) -> None:
    async with opened() as store:
        await store.write_learned({"account/anna": "1", "account/bert": "1", "account/carl": "1"})
        clock.pass_by(timedelta(seconds=1))
        await store.write_learned({"account/anna": "2", "account/bert": None, "account/nobody": None})
        assert await values(store) == {"account/anna": "2", "account/carl": "1"}
        ages = [(row.key, row.age) for row in await store.read_learned()]
        assert ages == [("account/carl", 1.0), ("account/anna", 0.0)]


async def test_after_a_step_of_the_clock_backwards_no_age_is_negative(opened: Open, clock: StillClock) -> None:
    async with opened() as store:
        await store.write_learned({"account/anna": "1"})
        clock.time -= timedelta(days=400)
        assert [row.age for row in await store.read_learned()] == [0.0]


@pytest.mark.parametrize("limit", ["LEARNED_ROWS_LIMIT", "LEARNED_OCTETS_LIMIT"])
async def test_above_a_limit_the_oldest_rows_of_the_kind_are_deleted_and_no_others(
    opened: Open, clock: StillClock, limit: str
) -> None:
    """With the real limits: the first kind is filled above one of them."""
    value = "x" * (ports.LEARNED_VALUE_LIMIT if limit == "LEARNED_OCTETS_LIMIT" else 1)
    count = getattr(ports, limit) // (max(1, len(value))) + 5
    async with opened() as store:
        await store.write_learned({"account/anna": "1", "loo/p": "1", "loop0": "1"})
        for start in range(0, count, 5000):
            clock.pass_by(timedelta(seconds=1))
            await store.write_learned({f"loop/{n:06}": value for n in range(start, min(count, start + 5000))})
        clock.pass_by(timedelta(seconds=1))
        await store.write_learned({"loop/last": value})
        found = await values(store)
    assert {"account/anna", "loo/p", "loop0", "loop/last", f"loop/{count - 1:06}"} <= set(found)
    assert "loop/000000" not in found
    rows = [key for key in found if key.startswith("loop/")]
    assert len(rows) <= ports.LEARNED_ROWS_LIMIT
    assert sum(len(key) + len(value) for key in rows) <= ports.LEARNED_OCTETS_LIMIT
    assert count - len(rows) < 20  # not more than necessary


async def test_a_failed_batch_changes_nothing(tmp_path: Path, clock: StillClock) -> None:
    spool = SqliteSpool.open(tmp_path / "spool", clock, SpoolLimits(timedelta(days=30)))
    await spool.write_learned({"account/anna": "1"})
    with pytest.raises(SpoolError):
        await spool.write_learned({"account/anna": "2", "account/bert": "x" * 70_000})
    assert await values(spool) == {"account/anna": "1"}
    await spool.close()


# ---- without a service ----


async def test_rows_are_forgotten_while_no_service_runs(tmp_path: Path, clock: StillClock) -> None:
    folder = tmp_path / "spool"
    learned.forget(folder, ["account/anna"])  # no spool yet
    assert not folder.exists()
    spool = SqliteSpool.open(folder, clock, SpoolLimits(timedelta(days=30)))
    await spool.write_learned({"account/anna": "1", "account/bert": "1"})
    with pytest.raises(SpoolError):  # a service uses it
        learned.forget(folder, ["account/anna"])
    await spool.close()
    learned.forget(folder, ["account/anna"])
    spool = SqliteSpool.open(folder, clock, SpoolLimits(timedelta(days=30)))
    assert await values(spool) == {"account/bert": "1"}
    await spool.close()
