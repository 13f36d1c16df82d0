"""A disk that is full, turns read-only, or fails a call now and then: nothing acknowledged is lost, nothing is half done.

And when the disk is well again, so are we, without anybody's hand.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from senderproxy.mail.address import parse_address
from senderproxy.relay.ports import SpoolError, SpoolFull, SpoolUpdate
from senderproxy.spool.sqlite.store import SqliteSpool, Tuning
from senderproxy.tracking.record import Event, EventKind, Query, RecipientStatus
from tests.crash.disks import Ext4, small_disk
from tests.fakes.arrivals import DELIVERED, arrival
from tests.fakes.claims import next_claim
from tests.fakes.still_clock import START, StillClock
from tests.senderproxy.spool.sqlite.open_spool import claimed, files, ids, opened

PROJECT = Path(__file__).resolve().parents[2]
CARL = parse_address("carl@elsewhere.example")


async def fill(spool: SqliteSpool, size: int) -> list[str]:
    """Bring messages until the disk takes no more; those that were acknowledged."""
    taken: list[str] = []
    for number in range(10_000):
        try:
            await spool.accept(arrival(f"s{size}-{number}", body=b"x" * size))
        except SpoolFull:
            return taken
        taken.append(f"s{size}-{number}")
    raise AssertionError("the disk is never full")


@pytest.mark.slow
@pytest.mark.parametrize("size", [500, 20_000, 400_000])
async def test_g1_a_full_disk_takes_nothing_by_halves_and_takes_mail_again_when_there_is_room(
    tmp_path: Path, size: int
) -> None:
    with small_disk(tmp_path / "disk", "8m") as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(3 << 20))
        async with opened(disk / "spool", tuning=Tuning(wal_pages=200)) as spool:
            taken = await fill(spool, size)
            assert len(taken) > 3
            assert sorted(await ids(spool)) == sorted(taken)
            kept = len(taken) if size > Tuning().row_limit else 0
            async with asyncio.timeout(60):  # the file of the last one goes right after the answer
                while len(files(disk / "spool")) != kept:
                    await asyncio.sleep(0.005)
            assert (await claimed(spool)).submission.id == taken[0]
            ballast.unlink()
            await spool.accept(arrival("again", body=b"x" * size))
            taken.append("again")
        async with opened(disk / "spool") as spool:
            assert sorted(await ids(spool)) == sorted(taken)
            for ident in taken:
                claim = await claimed(spool)
                assert claim.submission.id == ident
                assert b"".join(claim.submission.message.body.blocks()) == b"x" * size


@pytest.mark.slow
async def test_with_a_reserve_a_full_disk_still_lets_what_is_under_way_come_to_its_end(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "16m") as disk:
        async with opened(disk / "spool", min_free=6 << 20, tuning=Tuning(wal_pages=200)) as spool:
            taken = await fill(spool, 20_000)
            for ident in taken:
                claim = await claimed(spool)
                report = arrival(f"r-{ident}", "anna@firma.example", account="bert", reverse_path=None, report_on=ident)
                await spool.settle(claim, SpoolUpdate({CARL: DELIVERED}, reports=(report,)))
            assert len(await spool.find(Query(status=RecipientStatus.DELIVERED), limit=1000)) == len(taken)
            assert len(await spool.find(Query(status=RecipientStatus.WAITING), limit=1000)) == len(taken)


@pytest.mark.slow
async def test_a_disk_that_turns_read_only_takes_nothing_and_loses_nothing(tmp_path: Path) -> None:
    disk = Ext4(tmp_path)
    try:
        async with opened(disk.folder / "spool") as spool:
            await spool.accept(*(arrival(f"m{number}", body=b"x" * 1000) for number in range(20)))
            await spool.accept(arrival("large", body=b"x" * 300_000))
            claim = await claimed(spool)
            disk.break_down()
            for body in (b"kurz\r\n", b"x" * 300_000):
                with pytest.raises(SpoolError) as refused:
                    await spool.accept(arrival(f"more{len(body)}", body=body))
                assert refused.value.hint
            with pytest.raises(SpoolError):
                await spool.settle(claim, SpoolUpdate({CARL: DELIVERED}))
            assert len(await ids(spool)) == 21  # what can be read is read
            with pytest.raises(SpoolError):
                await spool.sweep(START)
            spool.note(arrival("story", state=DELIVERED))
        disk.mend()
        async with opened(disk.folder / "spool") as spool:
            assert len(await ids(spool)) == 21
            found = [(await claimed(spool)).submission.id for _ in range(21)]
            assert found == [*(f"m{number}" for number in range(20)), "large"]
    finally:
        disk.unmount()


STUMBLE = """
import asyncio, json, sys
from pathlib import Path
from senderproxy.relay.ports import SpoolError, SpoolUpdate
from senderproxy.spool.sqlite.store import Tuning
from tests.crash.test_disk_trouble import stumble
print(json.dumps(asyncio.run(stumble(Path(sys.argv[1])))))
"""


async def stumble(folder: Path) -> dict[str, object]:
    """Bring and settle messages on a disk that fails now and then; say what was acknowledged."""
    safe, refused, settled = [], [], []
    async with opened(folder, tuning=Tuning(row_limit=3000, wal_pages=100)) as spool:
        for number in range(60):
            ident = f"m{number}"
            try:
                await spool.accept(arrival(ident, body=b"%d\r\n" % number * (1500 if number % 5 == 0 else 20)))
                safe.append(ident)
            except SpoolError:
                refused.append(ident)
                found = [record.id for record in await spool.find(Query(id=ident), limit=1)]
                assert found == [], f"{ident} was refused and is there"
            if number % 3 == 0 and (claim := await next_claim(spool)) is not None:
                for _ in range(5):
                    try:
                        await spool.settle(claim, SpoolUpdate({CARL: DELIVERED}))
                        settled.append(claim.submission.id)
                        break
                    except SpoolError:
                        (record,) = await spool.find(Query(id=claim.submission.id), limit=1)
                        assert record.recipients[CARL].status is RecipientStatus.WAITING
        await asyncio.sleep(0)
    return {"safe": safe, "refused": refused, "settled": settled}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "error", "first", "each"),
    [
        (call, error, first, each)
        for call, error, rhythms in (
            ("fdatasync", "EIO", ((3, 7), (5, 11), (8, 5))),
            ("fsync", "EIO", ((1, 2), (2, 3))),  # of the folder of the content files
            ("pwrite64", "EIO", ((60, 41), (75, 97), (101, 53))),
            ("pwrite64", "ENOSPC", ((60, 41), (77, 83))),
        )
        for first, each in rhythms
    ],
)
async def test_g1_a_call_that_fails_costs_that_message_alone_and_its_client_knows(
    tmp_path: Path, call: str, error: str, first: int, each: int
) -> None:
    """strace makes every so-manieth call fail, of the writer's thread and of each other one.

    Not so often that every commit has one that fails: one that begins the log anew makes three syncs and thirty writes.
    """
    strace = shutil.which("strace")
    assert strace, "strace is missing: apt-get install strace"
    folder = tmp_path / "spool"
    async with opened(folder):
        pass
    inject = ["-f", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={first}+{each}"]
    if call == "fsync":
        inject += ["-P", str(folder / "content")]
    done = subprocess.run(
        [strace, *inject, sys.executable, "-c", STUMBLE, str(folder)],
        check=False,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(PROJECT), "PATH": os.environ["PATH"]},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert told["refused"], "nothing failed"
    assert len(told["safe"]) > 10, "nothing went well any more"
    async with opened(folder, tuning=Tuning(row_limit=3000)) as spool:
        fates = {r.id: r.recipients[CARL].status for r in await spool.find(Query(), limit=1000)}
        assert set(told["safe"]) <= set(fates)
        for ident in told["safe"]:
            assert fates[ident] is (
                RecipientStatus.DELIVERED if ident in told["settled"] else RecipientStatus.WAITING
            ), ident
        # where the very last sync failed, what was refused may be found again by the next process: G4 allows it
        assert set(fates) - set(told["safe"]) <= set(told["refused"][-1:])
        while (claim := await next_claim(spool)) is not None:
            number = int(claim.submission.id[1:])
            octets = b"".join(claim.submission.message.body.blocks())
            assert octets == b"%d\r\n" % number * (1500 if number % 5 == 0 else 20)
        assert await spool.find(Query(status=RecipientStatus.HELD), limit=1) == []


def fill_up(disk: Path) -> Path:
    """Write a file until the disk takes no more octet; its path."""
    ballast = disk / "ballast"
    with ballast.open("ab", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))
    return ballast


async def settle_all(spool: SqliteSpool, count: int) -> None:
    for _ in range(count):
        await spool.settle(await claimed(spool), SpoolUpdate({CARL: DELIVERED}, [Event(START, EventKind.ATTEMPTED)]))


@pytest.mark.slow
@pytest.mark.parametrize("size", [500, 20_000, 400_000])
async def test_g3_on_a_full_disk_results_are_written_into_the_reserve_which_is_taken_again_when_there_is_room(
    tmp_path: Path, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    clock = StillClock()
    with small_disk(tmp_path / "disk", "32m") as disk:
        reserve, tuning = 4 << 20, Tuning(wal_pages=200)
        async with opened(disk / "spool", clock, reserve=reserve, tuning=tuning) as spool:
            waiting = [f"m{number}" for number in range(40)]
            for ident in waiting:
                await spool.accept(arrival(ident, body=b"x" * size))
            assert (disk / "spool" / "reserve").stat().st_size == reserve
        async with opened(disk / "spool", clock, reserve=reserve, tuning=tuning) as spool:  # with an empty log
            ballast = fill_up(disk)
            clock.pass_by(timedelta(seconds=1))
            with pytest.raises(SpoolFull):
                await spool.accept(arrival("refused", body=b"x" * size))
            await settle_all(spool, 20)
            assert [one for one in caplog.records if one.__dict__.get("senderproxy_event") == "spool_reserve_released"]
            assert (disk / "spool" / "reserve").stat().st_size == 0
        async with opened(disk / "spool", clock, reserve=reserve, tuning=tuning) as spool:  # so does the next process
            await settle_all(spool, 20)
            assert len(await spool.find(Query(status=RecipientStatus.DELIVERED), limit=100)) == 40
            async with asyncio.timeout(60):  # a file goes right after its message is settled
                while files(disk / "spool"):
                    await asyncio.sleep(0.005)
            fill_up(disk)
            clock.pass_by(timedelta(seconds=1))
            with pytest.raises(SpoolFull):
                await spool.accept(arrival("refused", body=b"x" * size))
            ballast.unlink()
            clock.pass_by(timedelta(seconds=1))
            await spool.accept(arrival("again", body=b"x" * size))
            assert (disk / "spool" / "reserve").stat().st_size == reserve
            assert (disk / "spool" / "reserve").stat().st_blocks * 512 >= reserve
            assert await ids(spool) == ["again", *reversed(waiting)]
