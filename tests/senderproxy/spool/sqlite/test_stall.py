"""A disk that does not answer: new messages are refused at once, and what is written goes on when it answers."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from senderproxy.listener.body import BodyBuffer, SpillDirectory
from senderproxy.mail.message import Message
from senderproxy.relay.ports import SpoolUpdate
from senderproxy.spool.sqlite import content, content_writer, incoming, stall, statements
from senderproxy.spool.sqlite.stall import SpoolStalled
from senderproxy.spool.sqlite.statements import NewMessage
from tests.fakes.arrivals import DELIVERED, arrival
from tests.fakes.still_clock import StillClock
from tests.senderproxy.spool.sqlite.open_spool import claimed, files, ids, opened


class HangingDisk:
    """The writes of new messages hang while `hangs` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hangs = False
        self.reached, self.answers = threading.Event(), threading.Event()
        self._add = statements.add
        monkeypatch.setattr(statements, "add", self._hang_and_add)

    def _hang_and_add(self, connection: sqlite3.Connection, messages: Sequence[NewMessage]) -> None:
        if self.hangs:
            self.reached.set()
            assert self.answers.wait(30)
        self._add(connection, messages)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[HangingDisk]:
    monkeypatch.setattr(stall, "_CHECK", 0.01)
    monkeypatch.setattr(stall, "_CHECK_STALLED", 0.01)
    monkeypatch.setattr(incoming, "_SLOT_WAIT", 0.01)
    disk = HangingDisk(monkeypatch)
    yield disk
    disk.answers.set()  # or a failed test would wait for it


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [e for r in caplog.records if (e := str(r.__dict__.get("senderproxy_event"))).startswith("spool_stall")]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


async def test_while_the_disk_does_not_answer_mail_is_refused_at_once_and_nothing_is_lost_or_doubled(
    tmp_path: Path, disk: HangingDisk, caplog: pytest.LogCaptureFixture
) -> None:
    folder, clock = tmp_path / "spool", StillClock()
    async with opened(folder, clock) as spool:
        await spool.accept(arrival("a0"))
        claim = await claimed(spool)
        disk.hangs = True
        begun = asyncio.create_task(spool.accept(arrival("a1")))
        assert await asyncio.to_thread(disk.reached.wait, 20)
        waiting = asyncio.create_task(spool.accept(arrival("a2", body=b"x" * 200_000)))
        settling = asyncio.create_task(spool.settle(claim, SpoolUpdate(dict.fromkeys(claim.due, DELIVERED))))
        clock.pass_by(timedelta(seconds=9.9))
        await asyncio.sleep(0)
        assert events(caplog) == []
        clock.pass_by(timedelta(seconds=0.2))
        with pytest.raises(SpoolStalled, match="has not responded for 10 s"):
            await spool.accept(arrival("a3"))
        with pytest.raises(SpoolStalled):
            async with asyncio.timeout(20):
                await waiting
        assert isinstance(await spool.trouble(), SpoolStalled)
        await until(lambda: files(folder) == set())  # the body of the refused message
        assert not begun.done()
        assert not settling.done()
        disk.hangs = False
        disk.answers.set()
        async with asyncio.timeout(20):
            await asyncio.gather(begun, settling)
        await spool.accept(arrival("a4"))
        await until(lambda: events(caplog) == ["spool_stalled", "spool_stall_ended"])
        assert await spool.trouble() is None
        assert await ids(spool) == ["a4", "a1", "a0"]


async def test_messages_that_wait_for_a_slot_are_refused_too(
    tmp_path: Path, disk: HangingDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incoming, "_ARRIVALS", 1)
    clock = StillClock()
    async with opened(tmp_path / "spool", clock) as spool:
        disk.hangs = True
        begun = asyncio.create_task(spool.accept(arrival("a1")))
        assert await asyncio.to_thread(disk.reached.wait, 20)
        waiting = [asyncio.create_task(spool.accept(arrival(f"a{number}"))) for number in (2, 3)]
        await asyncio.sleep(0)
        clock.pass_by(timedelta(seconds=11))
        async with asyncio.timeout(20):
            outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [SpoolStalled, SpoolStalled]
        disk.answers.set()
        await begun
        await spool.accept(arrival("a4"))
        assert await ids(spool) == ["a4", "a1"]


# ---- files of large bodies ----

LARGE = b"x" * 200_000


class HangingFiles:
    """The writes of the next body files hang until they are released."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.to_hang = 0  # writes
        self.begun = 0
        self.released = threading.Event()
        self._write_all = content._write_all
        monkeypatch.setattr(content, "_write_all", self._hang_and_write)

    def _hang_and_write(self, file: int, block: bytes) -> None:
        if self.begun < self.to_hang:
            self.begun += 1
            assert self.released.wait(30)
        self._write_all(file, block)


@pytest.fixture
def hanging_files(monkeypatch: pytest.MonkeyPatch) -> Iterator[HangingFiles]:
    monkeypatch.setattr(content_writer, "_LOOK", 0.01)
    hanging = HangingFiles(monkeypatch)
    yield hanging
    hanging.released.set()


async def test_a_message_whose_file_hangs_is_refused_and_its_file_removed_when_the_disk_responds(
    tmp_path: Path, hanging_files: HangingFiles, caplog: pytest.LogCaptureFixture
) -> None:
    folder, clock = tmp_path / "spool", StillClock()
    async with opened(folder, clock) as spool:
        hanging_files.to_hang = 1
        accepting = asyncio.create_task(spool.accept(arrival("a1", body=LARGE)))
        await until(lambda: hanging_files.begun == 1)
        clock.pass_by(timedelta(seconds=9.9))
        await asyncio.sleep(0.05)
        assert not accepting.done()
        clock.pass_by(timedelta(seconds=0.4))  # 10 s, and the time to sync 200 KB at 1 MiB/s
        with pytest.raises(SpoolStalled, match="has not responded for 10 s"):
            async with asyncio.timeout(20):
                await accepting
        assert events(caplog) == ["spool_stalled"]
        async with asyncio.timeout(20):  # the other threads and the writer go on
            await spool.accept(arrival("a2", body=LARGE))
            await spool.accept(arrival("a3"))
        hanging_files.released.set()
        await until(lambda: len(files(folder)) == 1)
        await until(lambda: events(caplog) == ["spool_stalled", "spool_stall_ended"])
        await spool.accept(arrival("a1", body=LARGE))  # the client submits it again
        assert await ids(spool) == ["a1", "a3", "a2"]
        assert len(files(folder)) == 2


async def test_while_all_threads_for_files_hang_large_messages_are_refused_at_once(
    tmp_path: Path, hanging_files: HangingFiles
) -> None:
    folder, clock = tmp_path / "spool", StillClock()
    async with opened(folder, clock) as spool:
        hanging_files.to_hang = content_writer.THREADS
        names = [f"a{number}" for number in range(content_writer.THREADS + 2)]
        accepting = [asyncio.create_task(spool.accept(arrival(name, body=LARGE))) for name in names]
        await until(lambda: hanging_files.begun == content_writer.THREADS)
        clock.pass_by(timedelta(seconds=10.3))
        async with asyncio.timeout(20):
            outcomes = await asyncio.gather(*accepting, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {SpoolStalled}  # those too that wait for a thread
        with pytest.raises(SpoolStalled):
            await asyncio.wait_for(spool.accept(arrival("b1", body=LARGE)), 20)
        await spool.accept(arrival("b2"))
        hanging_files.released.set()
        await until(lambda: spool._files._given_up == 0)
        await spool.accept(arrival("b1", body=LARGE))
        assert await ids(spool) == ["b1", "b2"]
        await until(lambda: len(files(folder)) == 1)


async def test_a_body_is_closed_only_when_no_thread_reads_it(tmp_path: Path, hanging_files: HangingFiles) -> None:
    clock = StillClock()
    async with opened(tmp_path / "spool", clock) as spool:
        hanging_files.to_hang = 1
        message = arrival("a1")
        body = BodyBuffer(2 * len(LARGE), SpillDirectory(folder=tmp_path))
        body.append(LARGE)
        submission = replace(message.submission, message=Message(message.submission.message.header, body))
        accepting = asyncio.create_task(spool.accept(replace(message, submission=submission)))
        await until(lambda: hanging_files.begun == 1)
        accepting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(accepting, 20)
        body.close()  # by its connection
        assert body.size == len(LARGE)
        hanging_files.released.set()
        await until(lambda: body.size == 0)


async def test_an_idle_spool_has_no_timer(tmp_path: Path, disk: HangingDisk) -> None:
    async with opened(tmp_path / "spool") as spool:
        await spool.accept(arrival("a1"))
        await until(lambda: spool._writer.stall._timer is None)
        assert not disk.reached.is_set()
