"""The file with the state of the alerts: what it restores, and when the spool knows better."""

import asyncio
import os
from datetime import timedelta
from pathlib import Path

import pytest

from senderproxy.alerts.policy import AlertPolicy, AlertRules
from senderproxy.learned import Instant
from senderproxy.log_events import Severity
from senderproxy.monitoring.record import EVERYBODY, Condition, ConditionKey
from senderproxy.service.alert_state import AlertStateFile
from tests.fakes.still_clock import START, StillClock

CLOSED = Condition(ConditionKey.SPOOL_CLOSED, "", Severity.ERROR, START, "The queue is closed.", "Open it.", EVERYBODY)
MINUTE = timedelta(minutes=1)


class Process:
    """A policy with its file, and the subjects that LearnedState was told of."""

    def __init__(self, path: Path, clock: StillClock) -> None:
        self.clock = clock
        self.policy = AlertPolicy(AlertRules(error_delay=0))
        self.state = AlertStateFile(path, self.policy, clock)
        self.noted: list[str] = []
        self.state.changed = self.noted.append
        self.state.read()

    @property
    def at(self) -> Instant:
        return Instant(self.clock.now(), self.clock.monotonic())

    def news(self) -> int:
        """Alerts that are due for a closed spool."""
        self.policy.observe([CLOSED], {}, self.clock.monotonic())
        return len(self.policy.due(self.at).groups)

    async def alert(self) -> None:
        """Send what is due, as the sender does."""
        batch = self.policy.due(self.at)
        self.policy.begin(batch, self.clock.monotonic())
        await self.state.write()
        self.policy.sent(batch.items, self.clock.monotonic())
        await self.state.write()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "alerts"


async def alerted(path: Path, clock: StillClock) -> Process:
    process = Process(path, clock)
    assert process.news() == 1
    await process.alert()
    return process


async def test_the_next_process_repeats_no_alert(path: Path) -> None:
    clock = StillClock()
    await alerted(path, clock)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    clock.pass_by(MINUTE)
    second = Process(path, clock)
    assert second.news() == 0
    assert second.policy.open == 1


async def test_an_alert_in_progress_is_repeated_once(path: Path) -> None:
    clock = StillClock()
    for expected in (1, 1, 0):
        process = Process(path, clock)
        assert process.news() == expected
        process.policy.begin(process.policy.due(process.at), clock.monotonic())
        await process.state.write()
        clock.pass_by(MINUTE)


async def test_a_spool_that_is_opened_later_gets_what_the_file_had(path: Path) -> None:
    clock = StillClock()
    await alerted(path, clock)
    second = Process(path, clock)
    assert second.noted == []
    second.state.store_in_spool()
    assert set(second.noted) == {" sent", "spool_closed "}
    second.state.store_in_spool()
    assert len(second.noted) == 2


async def test_the_newer_of_file_and_spool_is_in_force(path: Path) -> None:
    clock = StillClock()
    first = await alerted(path, clock)
    stored = first.state.fact("spool_closed ", first.at)
    assert stored is not None
    never_alerted = {name: value for name, value in stored.items() if not name.startswith("alerted")}
    clock.pass_by(MINUTE)
    second = Process(path, clock)
    assert not second.state.restore("spool_closed ", never_alerted, second.at.before(61))
    assert second.policy.open == 1
    assert second.state.restore("spool_closed ", never_alerted, second.at.before(30))
    assert second.policy.open == 0


async def test_alerts_of_the_hour_are_not_counted_twice(path: Path) -> None:
    clock = StillClock()
    first = await alerted(path, clock)
    sent = first.state.fact(" sent", first.at)
    assert sent is not None
    clock.pass_by(MINUTE)
    second = Process(path, clock)
    assert second.state.restore(" sent", sent, second.at.before(30))
    again = second.state.fact(" sent", second.at)
    assert again is not None
    assert len(again["ages"]) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]\n",
        b'{"time":"2026-01-31T08:15:00"}\n',
        b'{"time":7}\n["spool_closed ",{}]\n',
        b'{"time":"2026-01-31T08:15:00+00:00"}\n["spool_closed ",{"condition":[]}]\n[1,2,3]\n{}\nno json\n',
        b'{"time":"2026-01-31T08:15:00+00:00"}\n["spool_closed ",' + b"[" * 900_000 + b"\n",
        b'{"time":"2026-01-31T08:15:00+00:00"}\n' + b" " * 1_000_000,
    ],
    ids=["empty", "octets", "list", "naive", "number", "other facts", "deep", "large"],
)
async def test_a_damaged_file_is_ignored_and_replaced(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    clock = StillClock()
    await alerted(path, clock)
    assert Process(path, clock).news() == 0


async def test_neither_a_link_nor_a_pipe_is_read(path: Path, tmp_path: Path) -> None:
    clock = StillClock()
    await alerted(tmp_path / "other", clock)
    path.symlink_to(tmp_path / "other")
    assert Process(path, clock).news() == 1
    path.unlink()
    os.mkfifo(path)
    assert Process(path, clock).news() == 1


async def test_a_folder_that_cannot_be_written_is_logged_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, clock = tmp_path / "gone" / "alerts", StillClock()
    await alerted(path, clock)
    messages = [record.getMessage() for record in caplog.records]
    assert messages.count("cannot store the state of the alerts") == 1
    path.parent.mkdir()
    process = Process(path, clock)
    process.news()
    process.state.write_soon()
    async with asyncio.timeout(60):
        while not path.exists():
            await asyncio.sleep(0.01)


async def test_it_is_not_written_without_a_change(path: Path) -> None:
    process = Process(path, StillClock())
    process.state.write_soon()
    await process.state.write()
    assert not path.exists()


async def test_a_file_has_space_for_what_was_alerted(path: Path) -> None:
    clock = StillClock()
    process = await alerted(path, clock)
    many = [
        Condition(ConditionKey.CLIENT_TURNED_AWAY, f"{number}", Severity.ERROR, START, "x" * 600, "y" * 600, EVERYBODY)
        for number in range(900)
    ]
    process.policy.observe([*many, CLOSED], {}, clock.monotonic())
    await process.state.write()
    assert path.stat().st_size <= 1_000_000
    assert Process(path, clock).policy.open == 1


async def test_after_the_stop_nothing_is_written_and_nothing_raised(path: Path) -> None:
    process = Process(path, StillClock())
    process.state.stop()
    process.news()
    process.state.write_soon()
    await process.state.write()
    assert not path.exists()
