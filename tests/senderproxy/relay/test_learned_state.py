"""Learned facts: collected from their components, restored at the start, written in batches."""

import asyncio
import json
import logging
from collections.abc import Callable
from datetime import timedelta

import pytest

from senderproxy.learned import Fact, Instant, LearnedSource
from senderproxy.relay import learned_state
from senderproxy.relay.learned_state import LearnedState
from senderproxy.relay.ports import LEARNED_VALUE_LIMIT, SpoolError
from tests.fakes.memory_learned import MemoryLearned
from tests.fakes.still_clock import StillClock

DEADLINE = 30.0  # seconds for what takes milliseconds
FULL = SpoolError("The disk is full.", hint="Delete something.")


class Numbers(LearnedSource):
    """A component that has learned one number about each subject, and the time of it."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.written: dict[str, Instant] = {}

    def fact(self, subject: str, at: Instant) -> Fact | None:
        if self.numbers.get(subject) == 13:
            raise RuntimeError("an internal error")
        return {"number": self.numbers[subject]} if subject in self.numbers else None

    def restore(self, subject: str, fact: Fact, written: Instant) -> bool:
        self.numbers[subject] = fact["number"] + self.numbers.get(subject, 0)
        self.written[subject] = written
        return bool(fact["number"] > 0)


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def store(clock: StillClock) -> MemoryLearned:
    return MemoryLearned(clock)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learned_state, "_DELAY", 0.01)
    monkeypatch.setattr(learned_state, "_RETRY", 0.01)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.001)


def values(store: MemoryLearned) -> dict[str, int]:
    return {key: json.loads(value)["number"] for key, (value, _) in store.rows.items()}


async def test_changes_are_written_together_and_restored_by_the_next_process(
    clock: StillClock, store: MemoryLearned
) -> None:
    state, numbers = LearnedState(clock), Numbers()
    changed = state.register("number", numbers)
    await state.open(store)
    for subject in ("a", "b", "a", "a"):
        numbers.numbers[subject] = numbers.numbers.get(subject, 0) + 1
        changed(subject)
    await until(lambda: bool(store.rows))
    assert values(store) == {"number/a": 3, "number/b": 1}
    assert len(store.batches) == 1
    await state.close()

    clock.pass_by(timedelta(seconds=20))
    later, restored = LearnedState(clock), Numbers()
    later.register("number", restored)
    await later.open(store)
    assert restored.numbers == {"a": 3, "b": 1}
    assert restored.written["a"] == Instant(clock.now() - timedelta(seconds=20), clock.monotonic() - 20)
    await later.close()
    assert len(store.batches) == 1  # nothing has changed


async def test_what_is_over_is_deleted(clock: StillClock, store: MemoryLearned) -> None:
    await store.write_learned({"number/a": '{"number":1}', "number/b": '{"number":0}'})
    state, numbers = LearnedState(clock), Numbers()
    changed = state.register("number", numbers)
    await state.open(store)
    numbers.numbers.clear()
    changed("a")
    await until(lambda: not store.rows)
    await state.close()


@pytest.mark.parametrize(("adds", "number"), [(True, 7), (False, 2)])
async def test_a_change_while_the_spool_is_closed_is_written_when_it_opens(
    clock: StillClock, store: MemoryLearned, adds: bool, number: int
) -> None:
    state, numbers = LearnedState(clock), Numbers()
    changed = state.register("number", numbers, adds=adds)
    await store.write_learned({"number/a": '{"number":5}', "number/b": '{"number":5}', "number/c": '{"number":5}'})
    numbers.numbers["a"] = 2
    changed("a")
    changed("c")  # a fact that is over
    await state.open(store)
    assert numbers.numbers["a"] == number
    await until(lambda: values(store).get("number/a") == number)
    assert values(store) == {"number/a": number, "number/b": 5} | ({"number/c": 5} if adds else {})
    await state.close()


async def test_a_change_shortly_before_the_stop_is_written(clock: StillClock, store: MemoryLearned) -> None:
    state, numbers = LearnedState(clock), Numbers()
    changed = state.register("number", numbers)
    await state.open(store)
    numbers.numbers["a"] = 1
    changed("a")
    await state.close()
    assert values(store) == {"number/a": 1}
    numbers.numbers["a"] = 2
    changed("a")  # after it: the spool is closed
    assert values(store) == {"number/a": 1}


async def test_while_the_disk_is_full_changes_stay_in_memory(
    clock: StillClock, store: MemoryLearned, caplog: pytest.LogCaptureFixture
) -> None:
    state, numbers = LearnedState(clock), Numbers()
    changed = state.register("number", numbers)
    await state.open(store)
    store.fails = FULL
    numbers.numbers["a"] = 1
    with caplog.at_level(logging.WARNING, "senderproxy"):
        changed("a")
        await until(lambda: bool(caplog.records))
        numbers.numbers["a"] = 2
        changed("a")
        tries = store.calls
        await until(lambda: store.calls > tries + 3)
    assert len(caplog.records) == 1  # once, however often it is tried
    store.fails = None
    await until(lambda: values(store) == {"number/a": 2})
    await state.close()


async def test_a_table_that_cannot_be_read_stops_nothing(clock: StillClock, store: MemoryLearned) -> None:
    state, numbers = LearnedState(clock), Numbers()
    changed = state.register("number", numbers)
    store.fails = FULL
    await state.open(store)
    store.fails = None
    numbers.numbers["a"] = 1
    changed("a")
    await until(lambda: values(store) == {"number/a": 1})
    await state.close()


async def test_a_disk_that_hangs_does_not_hold_up_the_start(
    clock: StillClock, store: MemoryLearned, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Silent(MemoryLearned):
        async def read_learned(self) -> list[object]:  # type: ignore[override]
            await asyncio.Event().wait()
            return []

    monkeypatch.setattr(learned_state, "_READ_SECONDS", 0.01)
    state = LearnedState(clock)
    async with asyncio.timeout(DEADLINE):
        await state.open(Silent(clock))
        await state.close()


@pytest.mark.parametrize("value", ["{", "[]", "{}", '{"number":"x"}', "[" * 9000, "null", '{"number":null}'])
async def test_a_fact_of_another_version_is_left_as_it_is(clock: StillClock, store: MemoryLearned, value: str) -> None:
    rows = {"number/a": value, "later/x": '{"number":1}', "number": '{"number":1}'}
    await store.write_learned({**rows, "number/b": '{"number":1}'})
    state, numbers = LearnedState(clock), Numbers()
    state.register("number", numbers)
    await state.open(store)
    await state.close()
    assert numbers.numbers["b"] == 1
    assert {key: store.rows[key][0] for key in rows} == rows


async def test_an_internal_error_in_one_fact_does_not_stop_the_others(
    clock: StillClock, store: MemoryLearned, caplog: pytest.LogCaptureFixture
) -> None:
    state, numbers = LearnedState(clock), Numbers()
    changed = state.register("number", numbers)
    await state.open(store)
    numbers.numbers |= {"a": 13, "b": 1}
    with caplog.at_level(logging.WARNING, "senderproxy"):
        changed("a")
        changed("b")
        await until(lambda: values(store) == {"number/b": 1})
        await state.close()
    assert "an internal error" in str(caplog.records[0].exc_info)


async def test_a_fact_that_is_too_long_is_not_written(clock: StillClock, store: MemoryLearned) -> None:
    class Texts(Numbers):
        def fact(self, subject: str, at: Instant) -> Fact | None:
            return {"number": 1, "text": "x" * (LEARNED_VALUE_LIMIT if subject == "a" else 1)}

    state = LearnedState(clock)
    changed = state.register("number", Texts())
    await state.open(store)
    changed("a")
    changed("b")
    await state.close()
    assert values(store) == {"number/b": 1}


@pytest.mark.parametrize("subject", ["x" * 600, "a\udc80"])
async def test_a_subject_that_the_table_cannot_have_does_not_fail_the_others(
    clock: StillClock, store: MemoryLearned, subject: str
) -> None:
    state, numbers = LearnedState(clock), Numbers()
    changed = state.register("number", numbers)
    await state.open(store)
    numbers.numbers |= {subject: 1, "b": 2}
    changed(subject)
    changed("b")
    await state.close()
    assert values(store) == {"number/b": 2}


async def test_many_changes_are_written_in_several_batches(clock: StillClock, store: MemoryLearned) -> None:
    state, numbers = LearnedState(clock), Numbers()
    changed = state.register("number", numbers)
    await state.open(store)
    for number in range(1200):
        numbers.numbers[str(number)] = number + 20
        changed(str(number))
    await state.close()
    assert [len(batch) for batch in store.batches] == [500, 500, 200]
    assert len(store.rows) == 1200


async def test_a_flush_writes_what_has_changed_before_it_returns(
    clock: StillClock, store: MemoryLearned, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learned_state, "_DELAY", 3600.0)
    state, numbers = LearnedState(clock), Numbers()
    changed = state.register("number", numbers)
    numbers.numbers["a"] = 1
    changed("a")
    assert not await state.flush()  # no spool is open
    await state.open(store)
    assert await state.flush()
    assert values(store) == {"number/a": 1}
    assert await state.flush()
    assert len(store.batches) == 1  # nothing has changed
    numbers.numbers["a"] = 2
    changed("a")
    assert all(await asyncio.gather(state.flush(), state.flush()))
    assert values(store) == {"number/a": 2}
    await state.close()


async def test_a_flush_to_a_full_disk_says_so_and_nothing_is_lost(clock: StillClock, store: MemoryLearned) -> None:
    state, numbers = LearnedState(clock), Numbers()
    changed = state.register("number", numbers)
    await state.open(store)
    store.fails = FULL
    numbers.numbers["a"] = 1
    changed("a")
    assert not await state.flush()
    store.fails = None
    await until(lambda: bool(store.rows))
    assert values(store) == {"number/a": 1}
    await state.close()
