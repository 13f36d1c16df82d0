"""The upkeep of the service's spool: cleanup, and space that is returned when it is idle."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from senderproxy.config.model import SpoolSettings
from senderproxy.learned import Fact, Instant, LearnedSource, Notify
from senderproxy.relay.learned_state import LearnedState
from senderproxy.relay.ports import SpoolError, SpoolUpdate
from senderproxy.service.spool import ServiceSpool
from senderproxy.spool.sqlite.store import SqliteSpool
from tests.fakes.arrivals import DELIVERED, arrival
from tests.fakes.still_clock import StillClock
from tests.senderproxy.spool.sqlite.open_spool import claimed


class _Components:
    """What a ServiceSpool uses of the components."""

    def __init__(self) -> None:
        self.runner: Any = self
        self.learned: Any = self
        self.spool: Any = None

    def use_spool(self, spool: object) -> None:
        self.spool = spool

    async def open(self, _store: object) -> None:
        """The learned facts are read."""

    async def close(self) -> None:
        """The learned facts are written."""

    async def start(self) -> None:
        """The delivery loop starts."""


@asynccontextmanager
async def service_spool(folder: Path, clock: StillClock) -> AsyncIterator[tuple[ServiceSpool, SqliteSpool]]:
    components = _Components()
    service = ServiceSpool(folder, SpoolSettings(min_free=1, reserve_size=4096), cast("Any", components), clock)
    await service.open()
    try:
        yield service, components.spool
    finally:
        await service.close(20)


async def maintain(service: ServiceSpool) -> None:
    """One step of the housekeeping, with the cleanup that it began."""
    await service.maintain()
    if service._cleanup is not None:
        async with asyncio.timeout(60):
            await service._cleanup


async def use(spool: SqliteSpool) -> None:
    """Messages that leave free pages and a long log."""
    await spool.accept(*(arrival(f"m{number}", body=b"x" * 20_000) for number in range(400)))
    for _ in range(400):
        claim = await claimed(spool)
        await spool.settle(claim, SpoolUpdate(dict.fromkeys(claim.due, DELIVERED)))


async def test_an_idle_spool_returns_its_space_once(tmp_path: Path) -> None:
    clock, folder = StillClock(), tmp_path / "spool"
    async with service_spool(folder, clock) as (service, spool):
        await maintain(service)  # the first cleanup
        await use(spool)
        await maintain(service)
        log, database = folder / "spool.db-wal", folder / "spool.db"
        assert log.stat().st_size > 4 * 2**20
        clock.pass_by(timedelta(seconds=59))
        await maintain(service)
        assert log.stat().st_size > 4 * 2**20  # it is not idle yet
        clock.pass_by(timedelta(seconds=2))
        await maintain(service)
        assert log.stat().st_size == 0
        assert database.stat().st_size < 3 * 2**20
        commits = spool.commits
        for _ in range(3):
            clock.pass_by(timedelta(seconds=61))
            await maintain(service)
        assert spool.commits == commits
        await spool.accept(arrival("new"))  # the files are still the same
        clock.pass_by(timedelta(seconds=2))
        await maintain(service)
        clock.pass_by(timedelta(seconds=61))
        await maintain(service)
        assert log.stat().st_size == 0
        assert (await claimed(spool)).submission.id == "new"


async def test_a_failed_cleanup_is_logged_and_the_next_one_takes_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = StillClock()
    async with service_spool(tmp_path / "spool", clock) as (service, spool):
        failures: list[Exception] = [ValueError("a fault"), SpoolError("The disk is read-only.")]

        async def sweep(_now: object) -> None:
            if failures:
                raise failures.pop()
            swept.append(clock.monotonic())

        swept: list[float] = []
        monkeypatch.setattr(spool, "sweep", sweep)
        for _ in range(3):
            clock.pass_by(timedelta(seconds=601))
            await maintain(service)
        assert len(swept) == 1
    logged = [record.__dict__["senderproxy_event"] for record in caplog.records]
    assert logged.count("history_cleanup_failed") == 2


class _Number(LearnedSource):
    """A component that has learned one number."""

    def __init__(self) -> None:
        self.number: int | None = None

    def fact(self, subject: str, at: Instant) -> Fact | None:
        return None if self.number is None else {"number": self.number}

    def restore(self, subject: str, fact: Fact, written: Instant) -> bool:
        self.number = fact["number"]
        return True


async def test_what_is_learned_while_the_spool_is_closed_is_written_when_it_opens_and_restored_by_the_next_start(
    tmp_path: Path,
) -> None:
    clock, folder = StillClock(), tmp_path / "spool"
    folder.write_text("not a folder")

    def start() -> tuple[ServiceSpool, _Number, Notify]:
        components, number = _Components(), _Number()
        learned = components.learned = cast("Any", LearnedState(clock))
        service = ServiceSpool(folder, SpoolSettings(min_free=1, reserve_size=4096), cast("Any", components), clock)
        return service, number, learned.register("number", number)

    service, before, changed = start()
    await service.open()
    was_open = [service.is_open]
    before.number = 7
    changed("it")
    folder.unlink()
    clock.pass_by(timedelta(seconds=31))
    await service.maintain()
    was_open.append(service.is_open)
    assert was_open == [False, True]
    await service.close(20)
    service, after, _ = start()
    await service.open()
    await service.close(20)
    assert after.number == 7
