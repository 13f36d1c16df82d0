"""Jobs on the disk: over a restart, with bodies in files, damaged, and beside the cleanup."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from senderproxy.mail.address import parse_address
from senderproxy.relay.ports import NewJob, SpoolUpdate
from senderproxy.spool.sqlite.store import Tuning
from senderproxy.tracking.record import Lane
from tests.fakes.arrivals import DELIVERED, arrival
from tests.fakes.still_clock import StillClock
from tests.senderproxy.spool.sqlite.open_spool import claimed, files, ids, opened, sql

ANNA = Lane.of_account("anna")
CARL = parse_address("carl@elsewhere.example")
COPY = NewJob("sent-copy", ANNA, b"folder", holds_content=True)
FILES = Tuning(row_limit=0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


async def test_a_job_and_the_content_it_holds_outlive_a_restart(folder: Path) -> None:
    async with opened(folder, tuning=FILES) as spool:
        await spool.accept(replace(arrival("a1"), jobs=(COPY,)))
        await spool.settle(await claimed(spool), SpoolUpdate({CARL: DELIVERED}))
        assert len(await spool.claim_jobs("sent-copy", ANNA, 9)) == 1
    assert len(files(folder)) == 1
    async with opened(folder, tuning=FILES) as spool:  # the lease has ended with the process
        (claim,) = await spool.claim_jobs("sent-copy", ANNA, 9)
        assert claim.submission is not None
        assert b"".join(claim.submission.message.body.blocks())
        await spool.settle_job(claim)
    assert files(folder) == set()
    assert sql(folder, "SELECT count(*) FROM content") == [(0,)]


async def test_the_history_and_the_file_of_a_message_with_a_job_are_not_cleaned_up(folder: Path) -> None:
    clock = StillClock()
    async with opened(folder, clock, tuning=FILES, history_size=1) as spool:
        await spool.accept(replace(arrival("a1", state=DELIVERED), jobs=(COPY,)), arrival("a2", state=DELIVERED))
        clock.pass_by(timedelta(days=400))
        await spool.sweep(clock.now())
        assert await ids(spool) == ["a1"]
        assert len(files(folder)) == 1
        (claim,) = await spool.claim_jobs("sent-copy", ANNA, 9)
        await spool.settle_job(claim)
        await spool.sweep(clock.now())
        assert await ids(spool) == []


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE job SET payload = x'00'",
        "UPDATE job SET holds_content = 0",
        "UPDATE content SET checksum = 1",
        "DELETE FROM content",
        "DELETE FROM message",
    ],
)
async def test_a_damaged_job_is_kept_and_never_attempted(
    folder: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock = StillClock()
    async with opened(folder, clock) as spool:
        await spool.accept(replace(arrival("a1"), jobs=(COPY,)))
    sql(folder, damage)
    async with opened(folder, clock) as spool:
        assert await spool.claim_jobs("sent-copy", ANNA, 9) == []
        assert await spool.due_jobs("sent-copy") == {}
        assert [(one.count, one.unreadable) for one in await spool.job_totals()] == [(1, 1)]
    assert "cannot read a job" in caplog.text
