"""A disk that does not answer: new messages are refused at once, and what is written goes on when it answers."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from senderproxy.relay.ports import SpoolUpdate
from senderproxy.spool.sqlite import incoming, stall, statements
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


async def test_an_idle_spool_has_no_timer(tmp_path: Path, disk: HangingDisk) -> None:
    async with opened(tmp_path / "spool") as spool:
        await spool.accept(arrival("a1"))
        await until(lambda: spool._writer.stall._timer is None)
        assert not disk.reached.is_set()
