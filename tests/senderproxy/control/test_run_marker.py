"""The marker of the running process."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from senderproxy.control.run_marker import RunMarker

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def boot(tmp_path: Path) -> Path:
    path = tmp_path / "boot_id"
    path.write_text("first\n")
    return path


def marker(boot: Path) -> RunMarker:
    return RunMarker(boot.with_name("running"), boot)


def test_a_process_that_stopped_is_no_crash(boot: Path) -> None:
    first = marker(boot)
    assert first.start(NOW) == []
    first.stop()
    assert marker(boot).start(NOW + HOUR) == []


def test_a_process_that_ended_without_a_stop_is_a_crash_at_the_next_start(boot: Path) -> None:
    marker(boot).start(NOW)
    assert marker(boot).start(NOW + HOUR) == [NOW + HOUR]


def test_an_end_of_the_machine_is_no_crash(boot: Path) -> None:
    marker(boot).start(NOW)
    boot.write_text("second\n")
    assert marker(boot).start(NOW + HOUR) == []


def test_crashes_are_remembered_for_a_day_also_over_a_stop(boot: Path) -> None:
    marker(boot).start(NOW)
    crashed = marker(boot)
    crashed.start(NOW + HOUR)
    crashed.stop()
    again = marker(boot)
    assert again.start(NOW + 2 * HOUR) == [NOW + HOUR]
    again.stop()
    assert marker(boot).start(NOW + 25 * HOUR) == []


def test_a_clock_that_was_set_back_leaves_no_crash_in_the_future(boot: Path) -> None:
    marker(boot).start(NOW)
    marker(boot).start(NOW + HOUR)
    assert marker(boot).start(NOW) == [NOW]


def test_a_crash_loop_leaves_a_bounded_number_of_times(boot: Path) -> None:
    times = [marker(boot).start(NOW + timedelta(seconds=number)) for number in range(150)]
    assert len(times[-1]) == 100
    assert times[-1][-1] == NOW + timedelta(seconds=149)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[" * 50_000, "[]", '{"running": 1, "crashes": 5}', '{"running": true, "boot": "first", "crashes": ["x", 3, "2026-11-29T11:59:00"]}'],
)  # fmt: skip
def test_a_file_of_another_form_stops_nothing(boot: Path, text: str) -> None:
    path = boot.with_name("running")
    path.write_text(text)
    assert list(marker(boot).start(NOW)) == ([NOW] if '"running": true' in text else [])
    assert json.loads(path.read_text())["running"] is True


def test_a_folder_that_cannot_be_written_is_logged_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = RunMarker(tmp_path / "missing" / "running", tmp_path / "boot_id")
    assert one.start(NOW) == []
    one.stop()
    assert [record.__dict__["senderproxy_event"] for record in caplog.records] == ["crash_note_failed"] * 2
