"""What is being tried, as the next process finds it."""

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


def test_the_next_process_finds_what_was_begun_and_not_ended_and_finds_it_once(tmp_path: Path) -> None:
    one = begun(tmp_path / "under-way")
    for ident in ("Anna23456789", "Bert23456789", "Carl23456789"):
        one.attempt_started(ident)
    one.attempt_ended("Bert23456789")
    one.attempt_started("Dora23456789")  # in Bert's place
    one.attempt_ended("Nobody")
    two = next_process(tmp_path / "under-way")
    assert sorted(two.take_suspects()) == ["Anna23456789", "Carl23456789", "Dora23456789"]
    assert next_process(tmp_path / "under-way").take_suspects() == []


def test_who_was_killed_from_outside_or_ended_in_order_died_of_no_message(tmp_path: Path) -> None:
    begun(tmp_path / "under-way").attempt_started("Anna23456789")
    assert CrashJournalFile(tmp_path / "under-way", str).take_suspects() == []
    assert next_process(tmp_path / "under-way").take_suspects() == []  # nor is it blamed for a later crash


@pytest.mark.parametrize(("end", "of"), [("os.abort()", "Aborted"), ("os.kill(os.getpid(), 11)", "Segmentation fault")])
def test_the_next_process_hears_of_what_the_one_before_it_crashed(tmp_path: Path, end: str, of: str) -> None:
    note = tmp_path / "crash"
    program = f"""
import os
from pathlib import Path
from senderproxy.control.crash_journal import CrashNote
note = CrashNote(Path({str(note)!r}))
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


def test_after_many_messages_the_file_is_as_large_as_the_most_that_were_under_way_at_once(tmp_path: Path) -> None:
    file = begun(tmp_path / "under-way")
    for number in range(1000):
        file.attempt_started(f"a{number}")
        file.attempt_started(f"b{number}")
        file.attempt_ended(f"a{number}")
        file.attempt_ended(f"b{number}")
    assert (tmp_path / "under-way").stat().st_size == 2 * 32
    file.close()


def test_what_is_no_list_of_ids_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "under-way").write_bytes(bytes(range(256)) * 3 + b"half a place")
    file = next_process(tmp_path / "under-way")
    assert all(isinstance(name, str) for name in file.take_suspects())
    file.attempt_started("x" * 100)
    file.attempt_started("Anna23456789")
    assert next_process(tmp_path / "under-way").take_suspects() == ["Anna23456789"]


@pytest.mark.parametrize("there", ["nothing", "a link"])
def test_where_the_file_cannot_be_made_it_is_said_once_and_everything_goes_on(
    tmp_path: Path, there: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    path = tmp_path / "gone" / "under-way"
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
