"""What is being tried, as the next process finds it."""

import logging
from pathlib import Path

import pytest

from senderproxy.control.under_way import UnderWayFile


def begun(path: Path) -> UnderWayFile:
    file = UnderWayFile(path)
    assert file.take_over() == []
    return file


def test_the_next_process_finds_what_was_begun_and_not_ended_and_finds_it_once(tmp_path: Path) -> None:
    one = begun(tmp_path / "under-way")
    for ident in ("Anna23456789", "Bert23456789", "Carl23456789"):
        one.begin(ident)
    one.end("Bert23456789")
    one.begin("Dora23456789")  # in Bert's place
    one.end("Nobody")
    two = UnderWayFile(tmp_path / "under-way")
    assert sorted(two.take_over()) == ["Anna23456789", "Carl23456789", "Dora23456789"]
    assert UnderWayFile(tmp_path / "under-way").take_over() == []


def test_after_many_messages_the_file_is_as_large_as_the_most_that_were_under_way_at_once(tmp_path: Path) -> None:
    file = begun(tmp_path / "under-way")
    for number in range(1000):
        file.begin(f"a{number}")
        file.begin(f"b{number}")
        file.end(f"a{number}")
        file.end(f"b{number}")
    assert (tmp_path / "under-way").stat().st_size == 2 * 32
    file.close()


def test_what_is_no_list_of_ids_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "under-way").write_bytes(bytes(range(256)) * 3 + b"half a place")
    file = UnderWayFile(tmp_path / "under-way")
    assert all(isinstance(name, str) for name in file.take_over())
    file.begin("x" * 100)
    file.begin("Anna23456789")
    assert UnderWayFile(tmp_path / "under-way").take_over() == ["Anna23456789"]


@pytest.mark.parametrize("there", ["nothing", "a link"])
def test_where_the_file_cannot_be_made_it_is_said_once_and_everything_goes_on(
    tmp_path: Path, there: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    path = tmp_path / "gone" / "under-way"
    if there == "a link":
        path.parent.mkdir()
        path.symlink_to(tmp_path / "elsewhere")
    file = UnderWayFile(path)
    assert file.take_over() == []
    file.begin("Anna23456789")
    file.end("Anna23456789")
    file.close()
    assert [record.getMessage() for record in caplog.records] == [
        "what is under way cannot be noted: a message that ends the process would not be recognised"
    ]
    assert not (tmp_path / "elsewhere").exists()
