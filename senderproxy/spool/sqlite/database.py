"""The database file: made whole or not at all, looked at before it is trusted, brought up to date with a backup beside.

Guarantees: what is there is never replaced by something empty, whatever is wrong with it; a version we do not know is
left alone; a migration happens as a whole or not, and what was there before lies beside it.
Not here: what is in the tables (spool.statements), who writes and when (spool.sqlite.writer).
"""

import logging
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from importlib import resources
from pathlib import Path
from typing import Final

from senderproxy import log_events
from senderproxy.log import event
from senderproxy.relay.ports import SpoolError, SpoolFull
from senderproxy.spool.sqlite.content import FOLDER
from senderproxy.spool.sqlite.spool_folder import SpoolFolder, disk_fault

NAME: Final = "spool.db"
APPLICATION_ID: Final = 0x53505258  # "SPRX", read by file(1) and by us
_NEW: Final = f"{NAME}.new"
# Octets that are checked before the doors open, in about a second; a larger database is checked while we work.
CHECK_LIMIT: Final = 256 * 2**20
_PAGE: Final = 4096
_HEAD: Final = 100  # octets: what says that a file is a database, and whose (sqlite.org/fileformat.html, 1.3)

_log = logging.getLogger("senderproxy.spool")


class SpoolDamaged(SpoolError):
    """What is on the disk is not what was written, or not ours."""


class SpoolTooNew(SpoolError):
    """It was written by a later version of the program."""


def scripts() -> Sequence[str]:
    """The migrations, in order: the n-th makes format n of format n-1."""
    folder = resources.files("senderproxy.spool.sqlite") / "schema"
    found = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda entry: entry.name)
    assert [int(entry.name[:4]) for entry in found] == list(range(1, len(found) + 1))
    return [entry.read_text(encoding="utf-8") for entry in found]


def open_database(place: SpoolFolder, migrations: Sequence[str]) -> sqlite3.Connection:
    """The writer's connection to a database that is ours, of the current format, and sound. Raises SpoolError."""
    names = place.names()
    if NAME not in names:
        _refuse_if_lost(place, names)
        with translated("The spool's database cannot be made"):
            _create(place, migrations)
    path = place.path / NAME
    _look_at(path)
    with translated(f"The spool's database {path} cannot be opened", path):
        connection = connect(path)
        try:
            _check_version(path, connection, len(migrations))
            # Also shows whether it can be written: SQLite opens what it may not write for reading, without a word.
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("COMMIT")
            if path.stat().st_size <= CHECK_LIMIT:
                check(path, connection)
            _migrate(place, connection, migrations)
            _check_tables(path, connection, migrations)
        except BaseException:
            connection.close()
            raise
    return connection


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """One more connection, as all of ours are. Raises sqlite3.Error."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=200)
    try:
        # Before anything else: a damaged page is refused where it is read, and not where it leads to.
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # a commit survives a power cut
        connection.execute(
            "PRAGMA wal_autocheckpoint = 0"
        )  # spool.sqlite.writer sees to it, off the way of the commits
        connection.execute("PRAGMA journal_size_limit = 16777216")
        connection.execute("PRAGMA secure_delete = FAST")
        connection.execute("PRAGMA cache_size = -8192")
        connection.execute("PRAGMA temp_store = MEMORY")
        if read_only:
            connection.execute("PRAGMA query_only = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def check(path: Path, connection: sqlite3.Connection) -> None:
    """Read all of it and compare every table with its indexes. Raises SpoolDamaged."""
    found = [row[0] for row in connection.execute("PRAGMA integrity_check(3)")]
    if found != ["ok"]:
        raise damaged(path, "; ".join(" ".join(str(line).split()) for line in found)[:300])


def damaged(path: Path, why: str) -> SpoolDamaged:
    """What to say and what to do: nothing is thrown away."""
    return SpoolDamaged(
        f"The spool's database {path} is damaged: {why}.",
        hint=f"It is left as it is. Check the disk, put a copy of {path.parent} aside, then bring back a backup, or"
        f" save what can be read: sqlite3 {path} .dump",
    )


class translated:  # noqa: N801  reads as a word where it is used
    """Lets SQLite's and the system's refusals leave as ours."""

    def __init__(self, what: str, path: Path | None = None) -> None:
        self._what = what
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, fault: BaseException | None, _trace: object) -> None:
        if isinstance(fault, sqlite3.Error):
            raise told(self._what, fault, self._path) from fault
        if isinstance(fault, OSError):
            raise disk_fault(self._what, fault) from fault


_DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def primary_code(fault: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 where it was not SQLite that refused."""
    return getattr(fault, "sqlite_errorcode", 0) & 0xFF


def told(what: str, fault: sqlite3.Error, path: Path | None = None) -> SpoolError:
    """SQLite's refusal in our words."""
    match primary_code(fault):
        case sqlite3.SQLITE_FULL:
            return SpoolFull(
                f"{what}: there is no room left on the disk.",
                hint="Free some space on the disk of the spool (df shows how much there is).",
            )
        case code if code in _DAMAGE:
            return damaged(path or Path(NAME), str(fault))
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN:
            return SpoolError(
                f"{what}: it cannot be written ({fault}).",
                hint="See whose the files are and whether the disk is read-only: ls -l, mount, dmesg",
            )
        case _:
            return SpoolError(f"{what}: {fault}.", hint="See what the system says about the disk: dmesg")


def _refuse_if_lost(place: SpoolFolder, names: set[str]) -> None:
    """No database, and traces of one: somebody's mail is somewhere."""
    traces = sorted(name for name in names if name.startswith((f"{NAME}-", f"{NAME}.")))
    traces = [name for name in traces if not name.startswith(_NEW)]
    with suppress(FileNotFoundError, NotADirectoryError):
        traces += [f"{FOLDER}/{entry.name}" for entry in sorted((place.path / FOLDER).iterdir())[:1]]
    if traces:
        raise SpoolDamaged(
            f"The spool {place.path} has no {NAME}, but there was one: {traces[0]} is still there.",
            hint=f"Bring {NAME} back from a backup. Where the waiting mail may be given up: move {place.path} away.",
        )


def _look_at(path: Path) -> None:
    try:
        status = path.lstat()
    except OSError as error:
        raise disk_fault(f"The spool's database {path} cannot be opened", error) from error
    if path.is_symlink() or not path.is_file() or status.st_nlink != 1:
        raise SpoolDamaged(f"{path} is not a file of the spool's own.", hint=f"See what it is: ls -li {path}")
    if status.st_mode & 0o077:
        raise SpoolError(f"Others than its owner have a way to {path}.", hint=f"chmod 600 {path}")
    # Before SQLite does: it would begin to write into a file that is empty or another program's.
    with translated(f"The spool's database {path} cannot be read"), path.open("rb") as file:
        head = file.read(_HEAD)
    if head[:16] != b"SQLite format 3\0" or len(head) < _HEAD:
        raise damaged(path, "it is no database" if head else "it is empty")
    if int.from_bytes(head[68:72], "big") != APPLICATION_ID:
        raise damaged(path, "it is no spool of senderproxy")


def _check_version(path: Path, connection: sqlite3.Connection, known: int) -> None:
    version = _version(connection)
    if version > known:
        raise SpoolTooNew(
            f"The spool {path.parent} was written by a later version of senderproxy (format {version}; this one knows"
            f" up to format {known}).",
            hint="Install that version again. Mail that waits there is safe.",
        )
    if version < 1:
        raise damaged(path, "it does not say its format")


def _check_tables(path: Path, connection: sqlite3.Connection, migrations: Sequence[str]) -> None:
    """All that the migrations make is there; what a repair has left out is said now and not in the middle of work."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as model:
        _apply(model, migrations, 0)
        missing = _names(model) - _names(connection)
    if missing:
        raise damaged(path, f"it has no {min(missing)}")


def _names(connection: sqlite3.Connection) -> set[str]:
    return {row[0] for row in connection.execute("SELECT name FROM sqlite_schema")}


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _create(place: SpoolFolder, migrations: Sequence[str]) -> None:
    """Under another name first: what bears the name is always whole."""
    for left in (_NEW, f"{_NEW}-journal"):
        with suppress(FileNotFoundError):
            os.unlink(left, dir_fd=place.folder)
    _make_file(place, _NEW)
    with closing(sqlite3.connect(place.path / _NEW, isolation_level=None)) as fresh:
        fresh.execute(f"PRAGMA page_size = {_PAGE}")
        fresh.execute("PRAGMA auto_vacuum = INCREMENTAL")
        fresh.execute("PRAGMA synchronous = FULL")
        fresh.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        _apply(fresh, migrations, 0)
    os.rename(_NEW, NAME, src_dir_fd=place.folder, dst_dir_fd=place.folder)
    place.sync()


def _make_file(place: SpoolFolder, name: str) -> None:
    """Empty and private; SQLite gives the files beside a database the same owner and mode."""
    file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=place.folder)
    try:
        os.fchmod(file, 0o600)  # whatever the umask left
        place.give_to_owner(file)
    finally:
        os.close(file)


def _migrate(place: SpoolFolder, connection: sqlite3.Connection, migrations: Sequence[str]) -> None:
    version = _version(connection)
    if version == len(migrations):
        return
    backup = f"{NAME}.format-{version}"
    _back_up(place, connection, backup)
    _apply(connection, migrations[version:], version)
    event(_log, log_events.SPOOL_MIGRATED, format=len(migrations), backup=backup)


def _apply(connection: sqlite3.Connection, migrations: Sequence[str], version: int) -> None:
    """All in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for script in migrations:
            for statement in _statements(script):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {version + len(migrations)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _statements(script: str) -> Sequence[str]:
    found: list[str] = []
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            found.append(pending)
            pending = ""
    assert not pending.strip(), "the last statement of a migration is not complete"
    return found


def _back_up(place: SpoolFolder, connection: sqlite3.Connection, name: str) -> None:
    """A copy of the database as it is, whole and synced, under a name that it keeps."""
    beside = f"{name}.new"
    with suppress(FileNotFoundError):
        os.unlink(beside, dir_fd=place.folder)
    _make_file(place, beside)
    with closing(sqlite3.connect(place.path / beside, isolation_level=None)) as copy:
        connection.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, with nothing beside it
    file = os.open(beside, os.O_RDWR | os.O_CLOEXEC, dir_fd=place.folder)
    try:
        os.fsync(file)
    finally:
        os.close(file)
    os.rename(beside, name, src_dir_fd=place.folder, dst_dir_fd=place.folder)
    place.sync()
