"""`senderproxy spool reset`: a person gives up what was in a lost database."""

from pathlib import Path

import pytest

from senderproxy.spool.sqlite.spool_folder import SpoolFolder
from tests.senderproxy.cli.conftest import Office
from tests.senderproxy.cli.waiting import QUEUE, fill


@pytest.fixture
def lost(office: Office) -> Path:
    """The folder of a spool whose database was deleted; a body of a large message is left."""
    folder = office.folder / "spool"
    fill(folder, *QUEUE)
    (folder / "spool.db").unlink()
    (folder / "content" / "body").write_bytes(b"x")
    return folder


def test_a_reset_says_what_is_lost_moves_what_is_left_and_makes_an_empty_spool(office: Office, lost: Path) -> None:
    assert "is closed" in office.type("queue").err
    ended = office.type("spool", "reset", "--yes")
    assert ended.code == 0, ended.err
    assert "every message that waited in it" in ended.out
    assert "The body of 1 large message is left" in ended.out
    [moved] = lost.glob("before-reset-*")
    assert str(moved) in ended.out
    assert (moved / "content" / "body").read_bytes() == b"x"
    assert (moved / "spool.id").read_text() != (lost / "spool.id").read_text()
    assert office.type("queue").out == "The queue is empty.\n"


def test_nothing_is_reset_without_a_confirmation(office: Office, lost: Path) -> None:
    before = sorted(path.name for path in lost.rglob("*"))
    ended = office.type("spool", "reset")
    assert ended.code == 64
    assert "--yes" in ended.err
    assert sorted(path.name for path in lost.rglob("*")) == before


def test_an_answer_that_is_not_yes_changes_nothing(office: Office, lost: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("senderproxy.cli.spool.confirm", lambda _question: False)
    ended = office.type("spool", "reset")
    assert ended.code == 1
    assert "Nothing was changed." in ended.out
    assert "is closed" in office.type("queue").err
    assert not list(lost.glob("before-reset-*"))


def test_a_spool_with_a_database_is_not_reset(office: Office) -> None:
    fill(office.folder / "spool", *QUEUE)
    ended = office.type("spool", "reset", "--yes")
    assert ended.code == 69
    assert "has a database" in ended.err
    assert len(office.type("queue", "list").out.splitlines()) == 1 + len(QUEUE)


def test_a_spool_in_use_is_not_reset(office: Office, lost: Path) -> None:
    folder = SpoolFolder.open(lost)
    try:
        assert "is in use" in office.type("spool", "reset", "--yes").err
    finally:
        folder.close()
    assert not list(lost.glob("before-reset-*"))


def test_a_reset_creates_no_spool_where_there_was_none(office: Office) -> None:
    assert office.type("spool", "reset", "--yes").code == 66
    assert not (office.folder / "spool").exists()
    (office.folder / "spool").mkdir(0o700)
    assert "nothing to reset" in office.type("spool", "reset", "--yes").err
