"""A database is made whole, looked at before it is trusted, and never replaced by an empty one."""

import asyncio
import errno
import hashlib
import os
import random
import re
import shutil
import signal
import sqlite3
import stat
import subprocess
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from senderproxy.relay.ports import SpoolError, SpoolFull, SpoolUpdate
from senderproxy.spool.sqlite import database, store
from senderproxy.spool.sqlite.database import SpoolDamaged, SpoolTooNew, open_database, scripts
from senderproxy.spool.sqlite.limits import SpoolLimits
from senderproxy.spool.sqlite.spool_folder import SpoolFolder
from senderproxy.spool.sqlite.store import SqliteSpool
from senderproxy.tracking.record import Query, RecipientStatus
from tests.fakes.arrivals import DELIVERED, arrival
from tests.fakes.claims import next_claim
from tests.fakes.still_clock import StillClock
from tests.senderproxy.spool.sqlite.open_spool import HISTORY, claimed, ids, opened, sql

FORMAT = len(scripts())  # of this version
LARGE = b"x" * 200_000 + b"\r\n"
EVERY_MESSAGE = (
    "SELECT (SELECT count(*) FROM message WHERE note IS NULL) + (SELECT count(*) FROM new_message)"
    " + (SELECT sum(messages) FROM history_pack)"
)
NEXT = "CREATE TABLE extra (number INTEGER) STRICT;\n-- a note\nALTER TABLE message ADD COLUMN note TEXT;\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def open_it(folder: Path) -> SqliteSpool:
    return SqliteSpool.open(folder, StillClock(), SpoolLimits(HISTORY))


def everything(folder: Path) -> dict[str, str]:
    """What lies in a folder, byte for byte; the lock's text and SQLite's shared memory are nobody's mail."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("lock", "spool.db-shm")
    }


def refused(folder: Path, kind: type[SpoolError], words: str) -> SpoolError:
    """It is refused with words and a mend, and nothing in there is touched."""
    before = everything(folder)
    with pytest.raises(kind, match=words) as caught:
        open_it(folder)
    assert caught.value.hint
    assert {name: digest for name, digest in everything(folder).items() if name in before} == before
    assert "spool.db.new" not in everything(folder)
    return caught.value


async def filled(folder: Path) -> None:
    async with opened(folder) as spool:
        for number in range(30):
            await spool.accept(arrival(f"m{number}", body=b"Zeile %d\r\n" % number * 200))
        await spool.accept(arrival("large", body=LARGE))
        for _ in range(10):
            claim = await claimed(spool)
            await spool.settle(claim, SpoolUpdate(dict.fromkeys(claim.due, DELIVERED)))


# ---- what is not there, not ours, or not whole ----


async def test_a_database_that_is_gone_while_its_content_is_there_is_not_made_anew(folder: Path) -> None:
    await filled(folder)
    (folder / "spool.db").unlink()
    (folder / "spool.id").unlink()  # as by a version without it
    assert "content/" in refused(folder, SpoolDamaged, "there was one").message
    assert not (folder / "spool.db").exists()


@pytest.mark.parametrize("trace", ["spool.db-wal", "spool.db.format-1"])
def test_a_database_that_is_gone_while_traces_of_it_are_there_is_not_made_anew(folder: Path, trace: str) -> None:
    folder.mkdir(0o700)
    (folder / trace).write_bytes(b"x")
    assert trace in refused(folder, SpoolDamaged, "there was one").message


def test_a_spool_with_an_id_and_without_a_database_is_closed(folder: Path) -> None:
    open_as(folder, scripts())
    (folder / "spool.db").unlink()
    error = refused(folder, SpoolDamaged, "closed")
    assert "spool.id" in error.message
    assert "senderproxy spool reset" in error.hint
    assert not (folder / "spool.db").exists()


def test_a_spool_of_an_older_version_gets_an_id_at_its_next_opening(folder: Path) -> None:
    open_as(folder, scripts())
    first = (folder / "spool.id").read_text()
    open_as(folder, scripts())
    assert (folder / "spool.id").read_text() == first
    (folder / "spool.id").unlink()
    (folder / "spool.id.new").write_bytes(b"")  # of a process that was killed
    open_as(folder, scripts())
    assert re.fullmatch(r"[0-9a-f-]{36}\n", (folder / "spool.id").read_text())
    assert stat.S_IMODE((folder / "spool.id").stat().st_mode) == 0o600
    assert not (folder / "spool.id.new").exists()


def test_a_full_disk_does_not_prevent_the_opening_of_a_spool_without_an_id(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_as(folder, scripts())
    (folder / "spool.id").unlink()

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("senderproxy.spool.sqlite.spool_id.os.write", full)
        open_as(folder, scripts())
    assert not (folder / "spool.id").exists()
    open_as(folder, scripts())
    assert (folder / "spool.id").exists()


def test_what_a_maker_left_that_was_killed_is_no_trace(folder: Path) -> None:
    folder.mkdir(0o700)
    (folder / "content").mkdir(0o700)
    for left in ("spool.db.new", "spool.db.new-journal"):
        (folder / left).write_bytes(b"half")
    place = SpoolFolder.open(folder)
    open_database(place, scripts()).close()
    place.close()
    assert sql(folder, "PRAGMA user_version") == [(len(scripts()),)]


@pytest.mark.parametrize("content", [b"", b"not a database", b"\0" * 8192, b"SQLite format 3\0" + b"\0" * 4080])
def test_what_is_no_database_is_refused(folder: Path, content: bytes) -> None:
    folder.mkdir(0o700)
    (folder / "spool.db").write_bytes(content)
    (folder / "spool.db").chmod(0o600)
    refused(folder, SpoolDamaged, "damaged")
    assert (folder / "spool.db").read_bytes() == content


def test_a_database_of_another_program_is_refused(folder: Path) -> None:
    folder.mkdir(0o700)
    with closing(sqlite3.connect(folder / "spool.db")) as other:
        other.execute("CREATE TABLE bookmarks (url TEXT)")
    (folder / "spool.db").chmod(0o600)
    with pytest.raises(SpoolDamaged, match="not a spool of senderproxy"):
        open_it(folder)
    assert sql(folder, "SELECT name FROM sqlite_schema") == [("bookmarks",)]


async def test_a_database_others_can_read_or_that_is_a_link_is_refused(folder: Path) -> None:
    await filled(folder)
    (folder / "spool.db").chmod(0o644)
    refused(folder, SpoolError, "Other users have access")
    (folder / "spool.db").chmod(0o600)
    (folder / "spool.db").rename(folder.parent / "elsewhere.db")
    (folder / "spool.db").symlink_to(folder.parent / "elsewhere.db")
    refused(folder, SpoolDamaged, "not a file of the spool")
    (folder / "spool.db").unlink()
    (folder / "spool.db").hardlink_to(folder.parent / "elsewhere.db")
    assert "find / -xdev -samefile" in refused(folder, SpoolError, "has a second name").hint
    (folder.parent / "elsewhere.db").unlink()
    async with opened(folder) as spool:
        assert await ids(spool) != []


async def test_a_later_versions_spool_is_left_alone(folder: Path) -> None:
    await filled(folder)
    sql(folder, f"PRAGMA user_version = {len(scripts()) + 1}")
    error = refused(folder, SpoolTooNew, f"format {len(scripts()) + 1}.*up to format {len(scripts())}")
    assert "Install" in error.hint


async def test_a_spool_on_a_read_only_disk_is_refused_with_the_reason(folder: Path) -> None:
    await filled(folder)
    if os.geteuid() != 0:
        pytest.skip("only root can make a disk read-only")
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)
        refused(folder, SpoolError, "read-only")
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    await open_it(folder).close()


async def test_a_database_in_which_a_table_or_an_index_is_missing_is_refused_and_let_go_of(folder: Path) -> None:
    await filled(folder)
    sql(folder, "DROP INDEX recipient_due")
    refused(folder, SpoolDamaged, "it has no recipient_due")
    sql(folder, "DROP TABLE event")
    refused(folder, SpoolDamaged, "it has no event")
    SpoolFolder.open(folder).close()


# ---- damage ----


async def sound_messages(folder: Path) -> dict[str, bytes] | None:
    """Open, claim and read all there is: every message's octets; None where it is refused as a whole."""
    try:
        spool = open_it(folder)
    except SpoolError:
        return None
    found: dict[str, bytes] = {}
    try:
        while (claim := await next_claim(spool)) is not None:
            assert [str(path) for path in claim.due] == ["carl@elsewhere.example"]
            assert str(claim.submission.envelope.reverse_path) == "anna@firma.example"
            found[claim.submission.id] = b"".join(claim.submission.message.blocks())
        held = await spool.find(Query(status=RecipientStatus.HELD), limit=100)
        found |= {record.id: b"held" for record in held}
    except SpoolError:
        return None
    finally:
        await spool.close()
    return found


@pytest.mark.slow
async def test_g5_whatever_byte_is_damaged_nothing_is_sent_as_what_it_was_not(tmp_path: Path) -> None:
    """Flipped bytes, zeroed sectors, a file cut off: refused, held, or as it was. Never something else, never gone."""
    whole = tmp_path / "whole"
    await filled(whole)
    expected = await sound_messages(whole)
    assert expected is not None
    assert len(expected) == 21
    original = (whole / "spool.db").read_bytes()
    choose = random.Random(20260131)
    outcomes = {"refused": 0, "held": 0, "as it was": 0}
    for number in range(120):
        folder = tmp_path / "damaged"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        harmed = bytearray(original)
        match number % 4:
            case 0 | 1:
                for _ in range(1 + number % 3):
                    harmed[choose.randrange(len(harmed))] ^= 1 << choose.randrange(8)
            case 2:
                start = choose.randrange(len(harmed) // 512) * 512
                harmed[start : start + 512] = bytes(512)
            case _:
                del harmed[choose.randrange(len(harmed)) :]
        (folder / "spool.db").write_bytes(harmed)
        found = await sound_messages(folder)
        if found is None:
            outcomes["refused"] += 1
            continue
        sent = {ident: octets for ident, octets in found.items() if octets != b"held"}
        for ident, octets in sent.items():
            assert expected[ident] == octets, f"damage {number}"
        outcomes["as it was" if sent == expected else "held"] += 1
        assert len(found) == len(expected), f"damage {number}: a message is gone"
    assert min(outcomes.values()) > 5, outcomes


def replace_condition(folder: Path, index: str, old: str, new: str) -> None:
    """Change the condition of a partial index, and leave its entries."""
    with closing(sqlite3.connect(folder / "spool.db")) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_schema SET sql = replace(sql, ?, ?) WHERE name = ?", (old, new, index))
        connection.commit()


@pytest.mark.parametrize(
    ("index", "condition", "change"),
    [
        ("message_open", "finished_at IS NULL", "UPDATE message SET finished_at = 1 WHERE finished_at IS NULL"),
        ("recipient_due", "due_at IS NOT NULL", "UPDATE recipient SET due_at = NULL WHERE due_at IS NOT NULL"),
        ("content_by_file", "file IS NOT NULL", "UPDATE content SET file = NULL"),
    ],
)
async def test_an_index_with_surplus_entries_is_damage(folder: Path, index: str, condition: str, change: str) -> None:
    await filled(folder)
    other = condition.split()[0] + " = 'none'"
    replace_condition(folder, index, condition, other)
    sql(folder, change)  # the index is not told
    replace_condition(folder, index, other, condition)
    refused(folder, SpoolDamaged, f"wrong # of entries in index {index}")


async def test_a_database_too_large_to_be_checked_first_is_checked_while_we_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await filled(folder)
    replace_condition(folder, "message_open", "finished_at IS NULL", "held > 5")  # it has entries that it must not have
    refused(folder, SpoolDamaged, "damaged")
    for module in (database, store):
        monkeypatch.setattr(module, "CHECK_LIMIT", 0)
    async with opened(folder) as spool:
        while spool._writer.broken is None:
            await asyncio.sleep(0.01)
        with pytest.raises(SpoolDamaged, match="damaged"):
            await spool.accept(arrival("more"))
        with pytest.raises(SpoolDamaged):
            await spool.find(Query(), limit=1)
    assert "spool damaged" in caplog.text


# ---- new formats ----


def open_as(folder: Path, migrations: Sequence[str]) -> None:
    place = SpoolFolder.open(folder)
    try:
        open_database(place, migrations).close()
    finally:
        place.close()


async def test_a_new_format_is_made_with_the_old_one_kept_beside_it(folder: Path) -> None:
    await filled(folder)
    before = await _listed(folder)
    open_as(folder, [*scripts(), NEXT])
    assert sql(folder, "PRAGMA user_version") == [(FORMAT + 1,)]
    assert sql(folder, EVERY_MESSAGE) == [(31,)]
    backup = folder / f"spool.db.format-{FORMAT}"
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert {path.name for path in folder.iterdir()} == {
        "spool.db", backup.name, "spool.id", "content", "lock"
    }  # fmt: skip
    refused(folder, SpoolTooNew, "later version")
    (folder / "spool.db").unlink()
    backup.rename(folder / "spool.db")
    assert await _listed(folder) == before


async def _listed(folder: Path) -> list[str]:
    async with opened(folder) as spool:
        return await ids(spool)


async def test_a_migration_that_fails_leaves_everything_as_it_was(folder: Path) -> None:
    await filled(folder)
    before = await _listed(folder)
    with pytest.raises(SpoolError, match="no such table"):
        open_as(folder, [*scripts(), NEXT + "DROP TABLE nonsense;\n"])
    assert sql(folder, "PRAGMA user_version") == [(FORMAT,)]
    assert sql(folder, "SELECT name FROM sqlite_schema WHERE name = 'extra'") == []
    assert await _listed(folder) == before


async def test_a_backup_without_room_stops_the_migration_before_it_begins(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(folder)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(database, "_make_file", full)
    with pytest.raises(SpoolFull):
        open_as(folder, [*scripts(), NEXT])
    monkeypatch.undo()
    assert sql(folder, "PRAGMA user_version") == [(FORMAT,)]


@pytest.mark.slow
async def test_a_migration_killed_at_any_point_is_done_or_not_begun(folder: Path, tmp_path: Path) -> None:
    """A process is killed ahead of each of SQLite's steps and of ours; the next one finishes the work."""
    await filled(folder)
    reached, number, killed = set(), 0, True
    while killed:
        number += 1
        site = tmp_path / "site"
        shutil.rmtree(site, ignore_errors=True)
        shutil.copytree(folder, site)
        pid = os.fork()
        if pid == 0:
            _migrate_until(site, number)
        killed = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        (version,) = sql(site, "PRAGMA user_version")[0]
        assert sql(site, "PRAGMA integrity_check") == [("ok",)]
        if version == FORMAT + 1:
            assert (site / f"spool.db.format-{FORMAT}").exists()
        reached.add(version)
        open_as(site, [*scripts(), NEXT])
        assert sql(site, EVERY_MESSAGE) == [(31,)]
        assert sql(site, "PRAGMA user_version") == [(FORMAT + 1,)]
    assert reached == {FORMAT, FORMAT + 1}
    assert number > 10


def _migrate_until(folder: Path, number: int) -> None:
    """In a child: kill ourselves ahead of the call of that number."""
    calls = 0

    def tick(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def ticking(real):
        def call(*args, **kwargs):
            tick()
            return real(*args, **kwargs)

        return call

    class Ticking(sqlite3.Connection):
        def execute(self, *args):
            tick()
            return super().execute(*args)

        def backup(self, *args, **kwargs):
            tick()
            return super().backup(*args, pages=5, progress=tick, **kwargs)

    setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Ticking))  # noqa: B010  its overloads fit no stand-in
    for name in ("fsync", "rename", "unlink"):
        setattr(os, name, ticking(getattr(os, name)))
    try:
        open_as(folder, [*scripts(), NEXT])
    finally:
        os._exit(0)


def test_the_migrations_are_numbered_without_a_gap_and_never_edited() -> None:
    """Spools out there have been made by these very files: what must change is a new file."""
    digests = [hashlib.sha256(script.encode()).hexdigest()[:16] for script in scripts()]
    assert digests == DIGESTS


DIGESTS = ["d1bfe459cb1d6be0", "4c316cdaee9cceb4", "babda15a2df55b4f", "05d222a7159c58f0"]
