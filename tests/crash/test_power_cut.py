"""The power is cut at the moments of a spool's day; what the disk then holds is opened, and G1 to G5 are checked.

Three hundred moments of some two thousand in the test command, all of them in `make storm`.

The day (tests/crash/workload.py) runs in a process of its own under strace; tests/crash/recording.py rebuilds what a
power cut leaves. What the day was told to be safe must be there, whole; what was under way may be there or not, but as
a whole; nothing else is there.
"""

import json
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from senderproxy.relay.ports import SpoolError
from senderproxy.spool.sqlite.limits import SpoolLimits
from senderproxy.spool.sqlite.store import SqliteSpool
from senderproxy.tracking.record import Query
from tests.crash.recording import Recording
from tests.crash.workload import HISTORY, TUNING, digest, snapshot
from tests.fakes.still_clock import StillClock

PROJECT = Path(__file__).resolve().parents[2]
MOMENTS = int(os.environ.get("MOMENTS", "300"))


@dataclass(slots=True)
class Promises:
    """What must be there at one moment: the steps that are done, and those under way."""

    safe: dict[str, Any] = field(default_factory=dict)  # id -> how it looks
    contents: dict[str, str] = field(default_factory=dict)
    under_way: list[tuple[dict[str, Any], dict[str, str]]] = field(default_factory=list)


class Day:
    """One recorded day."""

    def __init__(self, base: Path, *how: str) -> None:
        self.disk = base / "disk"
        self.disk.mkdir()
        marks = base / "marks"
        command = [sys.executable, "-m", "tests.crash.workload", str(self.disk), str(marks), *how]
        self.recording = Recording.of(
            command, self.disk, marks, base / "log", PYTHONPATH=str(PROJECT), PATH=os.environ["PATH"]
        )
        self.marks = [(mark.line, json.loads(mark.text)) for mark in self.recording.marks]

    def promises(self, cut: int) -> Promises:
        begun: dict[int, dict[str, Any]] = {}
        found = Promises()
        for line, mark in self.marks:
            if line >= cut:
                break
            if "begin" in mark:
                begun[mark["begin"]] = mark
            else:
                step = begun.pop(mark["end"])
                found.safe |= step["after"]
                for ident in step["after"]:
                    found.contents.pop(ident, None)
                found.contents |= step["contents"]
        found.under_way = [(step["after"], step["contents"]) for step in begun.values()]
        return found


async def look(folder: Path, promises: Promises) -> list[str]:
    """Everything that is wrong with what the power cut left."""
    try:
        spool = SqliteSpool.open(
            folder, StillClock(), SpoolLimits(HISTORY, longest_wait=timedelta(days=999)), tuning=TUNING
        )
    except SpoolError as error:
        return [f"it is not opened: {error.message}"]
    try:
        return [wrong async for wrong in _look(spool, promises)]
    except SpoolError as error:
        return [f"it cannot be read: {error.message}"]
    finally:
        await spool.close()


async def _look(spool: SqliteSpool, promises: Promises) -> Any:
    expected, contents = dict(promises.safe), dict(promises.contents)
    for after, their_contents in promises.under_way:
        # G3: of a step under way all is there, or nothing
        found = {ident: await snapshot(spool, ident) for ident in after}
        if found == after:
            expected |= after
            for ident in after:
                contents.pop(ident, None)
            contents |= their_contents
        else:
            expected |= {ident: expected.get(ident) for ident in after}
    for ident, looks in expected.items():
        found_one = await snapshot(spool, ident)
        if found_one != looks:
            yield f"G1/G3: {ident} is {found_one} and not {looks}"
    for ident, sum_ in contents.items():
        found_sum = await digest(spool, ident) if expected.get(ident) is not None else sum_
        if found_sum != sum_:
            yield f"G2/G5: the content of {ident} is not what was accepted"
    for record in await spool.find(Query(), limit=10_000):
        if expected.get(record.id) is None:
            yield f"G4: {record.id} is there, and nobody brought it"


def cuts(day: Day, count: int) -> Iterator[int]:
    """Moments of the day, evenly: all of them where there are not more."""
    moments = day.recording.moments()
    step = max(1.0, len(moments) / count)
    for index in range(min(count, len(moments))):
        yield moments[int(index * step)]


async def check(day: Day, target: Path, count: int, keeps: tuple[float, ...]) -> tuple[int, list[str]]:
    """How many disks were looked at, and all that was wrong with them."""
    wrong: list[str] = []
    looked = 0
    for cut in cuts(day, count):
        promises = day.promises(cut)
        for keep in keeps:
            day.recording.after_a_cut(cut, target, random.Random(f"{cut} {keep}"), keep)
            wrong += [f"line {cut}, keep {keep}: {what}" for what in await look(target / "spool", promises)]
            looked += 1
    return looked, wrong


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Day:
    return Day(tmp_path_factory.mktemp("day"))


@pytest.fixture
def target() -> Iterator[Path]:
    """Rebuilt disks lie in memory where they can: hundreds of them are synced."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder) / "left"


@pytest.mark.slow
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.9])
async def test_g1_to_g5_hold_whenever_the_power_is_cut(day: Day, target: Path, keep: float) -> None:
    looked, wrong = await check(day, target, MOMENTS, (keep,))
    assert not wrong, f"{len(wrong)} of {looked}:\n" + "\n".join(wrong[:10])
    assert looked == min(MOMENTS, len(day.recording.moments()))


@pytest.mark.slow
async def test_what_is_left_when_everything_came_to_the_disk_is_the_whole_day(day: Day, target: Path) -> None:
    end = day.recording.length
    promises = day.promises(end)
    assert len(promises.safe) > 40
    assert promises.under_way == []
    assert sum(looks is None for looks in promises.safe.values()) > 5  # forgotten by the sweep
    for keep in (0.0, 1.0):
        day.recording.after_a_cut(end, target, random.Random(1), keep)
        assert await look(target / "spool", promises) == []


@pytest.mark.slow
@pytest.mark.parametrize("how", ["careless-commits", "careless-folders"])
async def test_a_spool_that_leaves_syncs_out_is_found_out(tmp_path: Path, target: Path, how: str) -> None:
    """The same day, without the syncs of its commits or of its folders: messages are lost, and this test sees it."""
    looked, wrong = await check(Day(tmp_path, how), target, 60, (0.0, 0.5))
    assert looked == 120
    kinds = Counter(what.partition(": ")[2][:5] for what in wrong)
    assert len(wrong) > 10, kinds


def test_the_day_does_all_that_a_spool_does(day: Day) -> None:
    """What is recorded: commits, content files written and linked, removed ones, checkpoints, a log that begins anew."""
    (spool,) = (file for name, file in day.recording.root.now.items() if name == "spool")
    content = spool.now["content"]
    linked = [one for *_, what in content.names for one in what.values() if one is not None and "(unnamed)" in one.path]
    written = [one for *_, what in content.names for one in what.values() if one is not None and "/m" in one.path]
    removed = [name for *_, what in content.names for name, one in what.items() if one is None]
    assert len(linked) == 2
    assert len(written) > 8
    assert len(removed) > 5
    database = spool.now["spool.db"]
    assert len(database.writes) > 100
    assert len(database.syncs) > 8
    logs = [one for *_, what in spool.names for name, one in what.items() if name == "spool.db-wal" and one is not None]
    assert len(logs) >= 3  # one for each time it was opened
    assert sum(len(log.syncs) for log in logs) > 40
    assert any(len({at for *_, at, _ in log.writes}) < len(log.writes) for log in logs)  # written over
