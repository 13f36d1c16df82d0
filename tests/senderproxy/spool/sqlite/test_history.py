"""History in transactions: bounded parts of it, smaller on a slow disk, and none that a client waits for long."""

import asyncio
import queue
import sqlite3
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from senderproxy.spool.sqlite import history, statements
from senderproxy.spool.sqlite.statements import NewMessage
from senderproxy.spool.sqlite.store import SqliteSpool
from senderproxy.spool.sqlite.transaction_size import TransactionSize
from senderproxy.spool.sqlite.wal import WriteAheadLog
from tests.fakes.arrivals import DELIVERED, arrival
from tests.fakes.still_clock import START, StillClock
from tests.senderproxy.spool.sqlite.open_spool import HISTORY, ids, opened, written


class Disk:
    """Records the messages of each transaction; each takes so many seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, clock: StillClock) -> None:
        self.seconds = 0.0
        self.written: list[list[int]] = []  # sizes: the numbers of histories and of messages with a content
        self.deleted: list[int] = []
        self._clock = clock
        self._add, self._delete = statements.add, statements.delete_history
        monkeypatch.setattr(statements, "add", self._record_and_add)
        monkeypatch.setattr(statements, "delete_history", self._record_and_delete)

    def _record_and_add(self, connection: sqlite3.Connection, messages: Sequence[NewMessage]) -> None:
        with_content = sum(message.content is not None for message in messages)
        self.written.append([len(messages) - with_content, with_content])
        self._clock.pass_by(timedelta(seconds=self.seconds))
        self._add(connection, messages)

    def _record_and_delete(self, connection: sqlite3.Connection, before: int, limit: int) -> int:
        self.deleted.append(limit)
        self._clock.pass_by(timedelta(seconds=self.seconds))
        return self._delete(connection, before, limit)

    def parts(self) -> list[int]:
        """The numbers of histories in the transactions since the last call."""
        found = [histories for histories, _messages in self.written if histories]
        self.written.clear()
        return found


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch, clock: StillClock) -> Disk:
    return Disk(monkeypatch, clock)


def note(spool: SqliteSpool, prefix: str, count: int) -> None:
    for number in range(count):
        spool.note(arrival(f"{prefix}{number}", state=DELIVERED))


async def test_a_new_message_is_written_beside_a_small_part_of_the_history_and_the_rest_after_it(
    tmp_path: Path, clock: StillClock, disk: Disk
) -> None:
    async with opened(tmp_path / "spool", clock) as spool:
        note(spool, "s", 500)
        await spool.accept(arrival("a1"))
        [beside] = [histories for histories, messages in disk.written if messages]
        assert beside == 13  # 1.3 kB each
        await written(spool)
        assert max(disk.parts()) == 51
        assert len(await ids(spool)) == 501


async def test_on_a_slow_disk_a_transaction_has_less_history_and_on_a_fast_one_more_again(
    tmp_path: Path, clock: StillClock, disk: Disk
) -> None:
    async with opened(tmp_path / "spool", clock) as spool:
        disk.seconds = 3
        note(spool, "s", 100)
        await written(spool)
        assert disk.parts() == [51, *[7] * 7]
        disk.seconds = 0.25
        note(spool, "t", 14)
        await written(spool)
        assert disk.parts() == [7, 7]
        disk.seconds = 0
        note(spool, "u", 140)
        await written(spool)
        assert disk.parts() == [7, 13, 26, 51, 43]
        assert len(await ids(spool)) == 254


async def test_the_close_writes_all_history_in_parts(tmp_path: Path, clock: StillClock, disk: Disk) -> None:
    async with opened(tmp_path / "spool", clock) as spool:
        note(spool, "s", 200)
    assert disk.parts() == [51, 51, 51, 47]
    async with opened(tmp_path / "spool", clock) as spool:
        assert len(await ids(spool)) == 200


async def test_after_a_transaction_that_fails_the_rest_of_the_history_is_written(
    tmp_path: Path, clock: StillClock, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "_DELAY", 0.01)

    def fail(_connection: sqlite3.Connection, _messages: Sequence[NewMessage]) -> None:
        monkeypatch.setattr(statements, "add", disk._record_and_add)
        raise OSError(5, "Input/output error")

    async with opened(tmp_path / "spool", clock) as spool:
        monkeypatch.setattr(statements, "add", fail)
        note(spool, "s", 100)
        async with asyncio.timeout(60):
            while len(await ids(spool)) < 49:
                await asyncio.sleep(0.01)
        assert (await ids(spool))[-1] == "s51"


async def test_history_is_deleted_in_transactions_that_are_smaller_on_a_slow_disk(
    tmp_path: Path, clock: StillClock, disk: Disk
) -> None:
    async with opened(tmp_path / "spool", clock) as spool:
        note(spool, "s", 400)
        await written(spool)
        disk.seconds = 5
        await spool.sweep(START + HISTORY + timedelta(days=1))
        assert disk.deleted == [10] * 9  # a pack each, of 51 messages
        disk.deleted.clear()
        disk.seconds = 0
        note(spool, "t", 400)
        await written(spool)
        await spool.sweep(START + HISTORY + timedelta(days=2))
        assert disk.deleted == [10, 20, 40, 80, 160]
        assert await ids(spool) == []


def test_the_size_of_a_transaction_follows_the_speed_of_the_disk() -> None:
    now = 0.0
    size = TransactionSize(10, 1000, lambda: now, now=1000)
    sizes = []
    for seconds in (1.0, 0.25, 100.0, 0.0625, 0.0625, 0.1875, *[0.0625] * 5):
        size.begin()
        now += seconds
        size.end()
        sizes.append(size.now)
    assert sizes == [250, 250, 10, 20, 40, 53, 106, 212, 424, 848, 1000]


class _Log:
    """A connection whose checkpoints copy so many pages a second."""

    def __init__(self, clock: StillClock) -> None:
        self.pages = self.checkpoints = 0
        self.speed = 1e9
        self._clock = clock

    def execute(self, _statement: str) -> "_Log":
        self.checkpoints += 1
        self._clock.pass_by(timedelta(seconds=self.pages / self.speed))
        return self

    def fetchall(self) -> list[object]:
        return []

    def close(self) -> None:
        pass


def test_the_writer_copies_a_short_rest_of_the_log_and_the_thread_a_longer_one(clock: StillClock) -> None:
    thread, writer = _Log(clock), _Log(clock)
    connections: list[Any] = [thread, writer]
    copied: queue.SimpleQueue[None] = queue.SimpleQueue()
    log = WriteAheadLog(connections[0], 1000, 10_000, clock.monotonic)
    log.start(lambda: copied.put(None))
    try:
        thread.pages, thread.speed = 1000, 50.0
        log.grown(1000)
        copied.get(timeout=60)
        log.grown(500)  # meanwhile: ten seconds for the writer
        log.finish(connections[1])
        copied.get(timeout=60)
        assert (thread.checkpoints, writer.checkpoints) == (2, 0)
        log.grown(16)
        log.finish(connections[1])
        assert (thread.checkpoints, writer.checkpoints) == (2, 1)
        log.grown(984)
        copied.get(timeout=60)
        log.grown(700)
        log.grown(200)
        log.finish(connections[1])  # 900 pages of 1000: a third checkpoint of the thread would not be the last either
        copied.get(timeout=60)
        log.grown(950)  # more than it began with: no end is near, and the next one begins with the 1000th page
        log.finish(connections[1])
        assert (thread.checkpoints, writer.checkpoints) == (4, 1)
        thread.speed = 1e6
        log.grown(50)
        copied.get(timeout=60)
        log.grown(999)
        log.finish(connections[1])  # on a fast disk as well as by the thread
        assert (thread.checkpoints, writer.checkpoints) == (5, 2)
    finally:
        log.stop()
