"""The files of the database are deleted, replaced or moved while the spool is open."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from senderproxy.relay.ports import SpoolError, SpoolUpdate
from senderproxy.spool.sqlite.file_identity import FileIdentity, SpoolFileLost
from tests.fakes.arrivals import DELIVERED, arrival
from tests.senderproxy.spool.sqlite.open_spool import claimed, ids, opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def unlink(folder: Path) -> None:
    (folder / "spool.db").unlink()


def unlink_the_log(folder: Path) -> None:
    (folder / "spool.db-wal").unlink()


def replace(folder: Path) -> None:
    shutil.copy(folder / "spool.db", folder / "copy")
    (folder / "copy").rename(folder / "spool.db")


def move_the_folder(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))


@pytest.mark.parametrize("lose", [unlink, unlink_the_log, replace, move_the_folder])
async def test_no_message_is_acknowledged_once_a_file_is_lost(
    folder: Path, lose: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(folder) as spool:
        await spool.accept(arrival("a1"))
        assert await spool.trouble() is None
        lose(folder)
        for body in (b"x\r\n", b"x" * 200_000):
            with pytest.raises(SpoolFileLost) as lost:
                await spool.accept(arrival("a2", body=body))
            assert "/proc/" in lost.value.hint
        claim = await claimed(spool)
        with pytest.raises(SpoolFileLost):
            await spool.settle(claim, SpoolUpdate(dict.fromkeys(claim.due, DELIVERED)))
        assert isinstance(await spool.trouble(), SpoolFileLost)
        assert await ids(spool) == ["a1"]
    events = [record.__dict__.get("senderproxy_event") for record in caplog.records]
    assert events.count("spool_file_lost") == 1
    if lose is unlink:
        assert not (folder / "spool.db").exists()  # no empty one was made


async def test_a_second_name_of_a_file_is_logged_once_and_stops_nothing(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A backup by `cp -al` must not stop the queue."""
    async with opened(folder) as spool:
        await spool.accept(arrival("a1"))
        for number, name in enumerate(("spool.db", "spool.db-wal", "spool.db")):
            (folder / "second").hardlink_to(folder / name)
            for attempt in range(2):
                await spool.accept(arrival(f"b{number}{attempt}"))
            claim = await claimed(spool)
            await spool.settle(claim, SpoolUpdate(dict.fromkeys(claim.due, DELIVERED)))
            assert await spool.trouble() is None
            (folder / "second").unlink()
            await spool.accept(arrival(f"c{number}"))
    found = [r for r in caplog.records if r.__dict__.get("senderproxy_event") == "spool_file_linked"]
    assert len(found) == 3
    assert "find / -xdev -samefile" in found[0].__dict__["senderproxy_fields"]["hint"]


async def test_a_file_lost_during_a_commit_is_noticed_before_the_reply(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(folder) as spool:
        check, checks = spool._writer.identity.check, []

        def lose_after_the_first_check(_self: FileIdentity) -> None:
            check()
            checks.append("passed")
            unlink(folder)

        monkeypatch.setattr(FileIdentity, "check", lose_after_the_first_check)
        with pytest.raises(SpoolFileLost):
            await spool.accept(arrival("a1"))
        assert checks == ["passed"]


async def test_a_file_that_is_moved_back_is_used_again(folder: Path) -> None:
    async with opened(folder) as spool:
        await spool.accept(arrival("a1"))
        for name in ("spool.db", "spool.db-wal"):
            (folder / name).rename(folder / f"{name}.away")
        with pytest.raises(SpoolFileLost):
            await spool.accept(arrival("a2"))
        claim = await claimed(spool)
        with pytest.raises(SpoolError):
            await spool.settle(claim, SpoolUpdate(dict.fromkeys(claim.due, DELIVERED)))
        for name in ("spool.db", "spool.db-wal"):
            (folder / f"{name}.away").rename(folder / name)
        await spool.accept(arrival("a3"))
        await spool.settle(claim, SpoolUpdate(dict.fromkeys(claim.due, DELIVERED)))
        assert await spool.trouble() is None
    async with opened(folder) as spool:
        assert await ids(spool) == ["a3", "a1"]
