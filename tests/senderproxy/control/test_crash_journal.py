"""Crash records, as the next process finds them."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from senderproxy.control.crash_journal import CrashJournalFile


def next_process(path: Path) -> CrashJournalFile:
    return CrashJournalFile(path, lambda: "Fatal Python error: Aborted")


def begun(path: Path) -> CrashJournalFile:
    file = next_process(path)
    assert file.take_suspects() == []
    return file


def test_the_next_process_finds_unfinished_attempts_once(tmp_path: Path) -> None:
    one = begun(tmp_path / "under-way")
    for ident in ("Anna23456789", "Bert23456789", "Carl23456789"):
        one.attempt_started(ident)
    one.attempt_ended("Bert23456789")
    one.attempt_started("Dora23456789")  # in Bert's slot
    one.attempt_ended("Nobody")
    two = next_process(tmp_path / "under-way")
    assert sorted(two.take_suspects()) == ["Anna23456789", "Carl23456789", "Dora23456789"]
    assert next_process(tmp_path / "under-way").take_suspects() == []


def test_after_a_stop_or_a_kill_from_outside_no_message_is_a_suspect(tmp_path: Path) -> None:
    begun(tmp_path / "under-way").attempt_started("Anna23456789")
    assert CrashJournalFile(tmp_path / "under-way", str).take_suspects() == []
    assert next_process(tmp_path / "under-way").take_suspects() == []  # nor is it blamed for a later crash


@pytest.mark.parametrize(("end", "of"), [("os.abort()", "Aborted"), ("os.kill(os.getpid(), 11)", "Segmentation fault")])
def test_the_next_process_finds_the_traceback_of_the_crash_once(tmp_path: Path, end: str, of: str) -> None:
    note = tmp_path / "crash"
    program = f"""
import os
from pathlib import Path
from senderproxy.control.crash_journal import CrashTraceback
note = CrashTraceback(Path({str(note)!r}))
print(note.read())
def fall():
    {end}
if os.environ.get("CRASH"):
    fall()
"""

    def run(**environment: str) -> str:
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
        assert (done.returncode != 0) == bool(environment)
        return done.stdout.strip()

    assert run(CRASH="1") == ""
    said = run()
    assert said.startswith(f"Fatal Python error: {of}; File ")
    assert said.endswith("in <module>")
    assert "in fall;" in said
    assert run() == ""


def test_the_size_of_the_file_follows_the_most_attempts_at_once(tmp_path: Path) -> None:
    file = begun(tmp_path / "under-way")
    for number in range(1000):
        file.attempt_started(f"a{number}")
        file.attempt_started(f"b{number}")
        file.attempt_ended(f"a{number}")
        file.attempt_ended(f"b{number}")
    assert (tmp_path / "under-way").stat().st_size == 2 * 32
    file.close()


def test_a_damaged_file_causes_no_error(tmp_path: Path) -> None:
    (tmp_path / "under-way").write_bytes(bytes(range(256)) * 3 + b"half a slot")
    file = next_process(tmp_path / "under-way")
    assert all(isinstance(name, str) for name in file.take_suspects())
    file.attempt_started("x" * 100)
    file.attempt_started("Anna23456789")
    assert next_process(tmp_path / "under-way").take_suspects() == ["Anna23456789"]


@pytest.mark.parametrize("there", ["nothing", "a link"])
def test_a_file_that_cannot_be_created_is_logged_once(
    tmp_path: Path, there: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    path = tmp_path / "missing" / "under-way"
    if there == "a link":
        path.parent.mkdir()
        path.symlink_to(tmp_path / "elsewhere")
    file = next_process(path)
    assert file.take_suspects() == []
    file.attempt_started("Anna23456789")
    file.attempt_ended("Anna23456789")
    file.close()
    assert [getattr(record, "senderproxy_event", "") for record in caplog.records] == ["crash_journal_failed"]
    assert not (tmp_path / "elsewhere").exists()
