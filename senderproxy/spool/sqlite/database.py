"""Database file: creation, checks before use, migration with a backup.

Guarantees: an existing database is never replaced by an empty one; a format that this version does not know is not
touched; a migration is done as a whole or not at all, and the database before the last one is stored beside it.
Not here: the tables' content (spool.sqlite.statements), writes and their time (spool.sqlite.writer).
"""

import logging
import os
import re
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Final

from senderproxy import log_events
from senderproxy.log import event
from senderproxy.relay.ports import SpoolError
from senderproxy.spool.sqlite import spool_id
from senderproxy.spool.sqlite.content import FOLDER
from senderproxy.spool.sqlite.spool_folder import SpoolFolder, disk_error, disk_full
from senderproxy.spool.sqlite.spool_id import ensure_id
from senderproxy.translation import _

NAME: Final = "spool.db"
APPLICATION_ID: Final = 0x53505258  # "SPRX", shown by file(1)
_NEW: Final = f"{NAME}.new"
CHECK_LIMIT: Final = 256 * 2**20  # octets; checked in about a second before the listeners open, larger ones afterwards
_PAGE: Final = 4096  # octets; the block size of common file systems
_HEAD: Final = 100  # octets of the database header (sqlite.org/fileformat.html, 1.3)
_CONDITION: Final = re.compile(r"\)\s*WHERE\s(.*)", re.DOTALL | re.IGNORECASE)  # of a partial index; written by us
_ERROR_TEXT: Final = 300  # characters of an integrity check's findings in an error

_log = logging.getLogger("senderproxy.spool")


class SpoolDamaged(SpoolError):
    """The database is not as it was written, or not one of senderproxy."""


class SpoolTooNew(SpoolError):
    """The spool was written by a later version of senderproxy."""


@lru_cache(
    1
)  # read at the start: an upgrade of the program may have replaced the files before the spool is opened again
def scripts() -> Sequence[str]:
    """The migrations in order: the n-th one makes format n of format n-1."""
    found = sorted(Path(__file__).with_name("schema").glob("*.sql"))  # importlib.resources would load zipfile: 0.4 MB
    assert [int(entry.name[:4]) for entry in found] == list(range(1, len(found) + 1))
    return tuple(entry.read_text(encoding="utf-8") for entry in found)


def open_database(folder: SpoolFolder, migrations: Sequence[str]) -> sqlite3.Connection:
    """The writer's connection to a checked database of the current format. Raises SpoolError."""
    names = folder.names()
    if NAME not in names:
        refuse_if_lost(folder, names)
        with as_spool_errors(_("The spool's database cannot be created")):
            create(folder, migrations)
    path = folder.path / NAME
    check_file(path)
    with as_spool_errors(_("The spool's database {path} cannot be opened").format(path=path), path):
        connection = connect(path)
        try:
            _check_version(path, connection, len(migrations))
            # Detects a database that cannot be written: SQLite opens it read-only without an error.
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("COMMIT")
            if path.stat().st_size <= CHECK_LIMIT:
                check(path, connection)
            _migrate(folder, connection, migrations)
            _check_tables(path, connection, migrations)
            ensure_id(folder)
        except BaseException:
            connection.close()
            raise
    return connection


def is_older(path: Path, connection: sqlite3.Connection, migrations: Sequence[str]) -> bool:
    """Check a database as `open_database` does, and change nothing: True if it is of an earlier format.

    Raises SpoolError.
    """
    _check_version(path, connection, len(migrations))
    if path.stat().st_size <= CHECK_LIMIT:
        check(path, connection)
    if _version(connection) < len(migrations):
        return True
    _check_tables(path, connection, migrations)
    return False


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """A further connection with the settings that all of ours have. Raises sqlite3.Error."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=200)
    try:
        # First of all: damage is detected in the page that has it.
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # a commit survives a power cut
        connection.execute("PRAGMA wal_autocheckpoint = 0")  # spool.sqlite.wal does it beside the commits
        connection.execute("PRAGMA journal_size_limit = 16777216")  # octets; a log that grew once is cut to 16 MiB
        connection.execute("PRAGMA secure_delete = FAST")
        connection.execute("PRAGMA cache_size = -8192")  # KiB, for each of three connections
        connection.execute("PRAGMA temp_store = MEMORY")
        if read_only:
            connection.execute("PRAGMA query_only = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def check(path: Path, connection: sqlite3.Connection) -> None:
    """Read the whole database and compare each table with its indexes. Raises SpoolDamaged."""
    found = [row[0] for row in connection.execute("PRAGMA integrity_check(3)")]
    if found == ["ok"]:
        found = [*_wrong_partial_indexes(connection)] or found
    if found != ["ok"]:
        raise damaged(path, "; ".join(" ".join(str(line).split()) for line in found)[:_ERROR_TEXT])


def _wrong_partial_indexes(connection: sqlite3.Connection) -> Iterator[str]:
    """Yield each partial index with surplus entries, in SQLite's words.

    integrity_check of SQLite 3.46 does not report them, that of 3.40 does; and queries trust them: a delivered message
    would be sent again. One statement for each table, so that both numbers are of the same moment.
    """
    indexes: dict[str, list[tuple[str, str]]] = {}
    for name, table, sql in connection.execute("SELECT name, tbl_name, sql FROM sqlite_schema WHERE type = 'index'"):
        if sql is not None and (condition := _CONDITION.search(sql)):
            indexes.setdefault(table, []).append((name, condition[1]))
    for table, partial in indexes.items():
        columns = ", ".join(
            f'total(({condition}) IS TRUE), (SELECT count(*) FROM "{table}" INDEXED BY "{name}" WHERE {condition})'  # noqa: S608  our own names
            for name, condition in partial
        )
        counts = connection.execute(f'SELECT {columns} FROM "{table}" NOT INDEXED').fetchone()  # noqa: S608  our own names
        for (name, _condition), rows, entries in zip(partial, counts[::2], counts[1::2], strict=True):
            if rows != entries:
                yield f"wrong # of entries in index {name}"


def damaged(path: Path, why: str) -> SpoolDamaged:
    """The error for a damaged database, which is left as it is."""
    return SpoolDamaged(
        _("The spool's database {path} is damaged: {why}.").format(path=path, why=why),
        hint=_(
            "The database was not changed. Check the disk, copy {folder}, then restore a backup, or save what can be"
            " read: sqlite3 {path} .dump"
        ).format(folder=path.parent, path=path),
    )


@contextmanager
def as_spool_errors(what: str, path: Path | None = None) -> Iterator[None]:
    """Raise errors of SQLite and of the operating system as SpoolError. `what`: a sentence without its period."""
    try:
        yield
    except sqlite3.Error as error:
        raise database_error(what, error, path) from error
    except UnicodeDecodeError as error:  # sqlite3 could not decode SQLite's message, which quotes the damaged schema
        raise damaged(path or Path(NAME), _("its schema is unreadable")) from error
    except OSError as error:
        raise disk_error(what, error) from error


_DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def primary_code(fault: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 if the error is not from SQLite."""
    return getattr(fault, "sqlite_errorcode", 0) & 0xFF


def database_error(what: str, error: sqlite3.Error, path: Path | None = None) -> SpoolError:
    """An error of SQLite as a SpoolError. `what`: the failed operation, a sentence without its period."""
    match primary_code(error):
        case sqlite3.SQLITE_FULL:
            return disk_full(_("{what}: the disk is full.").format(what=what))
        case code if code in _DAMAGE:
            return damaged(path or Path(NAME), str(error))
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN:
            return SpoolError(
                _("{what}: it is not writable ({reason}).").format(what=what, reason=error),
                hint=_("Check the owner of the files and whether the disk is read-only: ls -l, mount, dmesg"),
            )
        case int():
            return SpoolError(
                _("{what}: {reason}.").format(what=what, reason=error), hint=_("Look for errors of the disk: dmesg")
            )


def refuse_if_lost(folder: SpoolFolder, names: set[str]) -> None:
    """Raise SpoolDamaged if other files show that there was a database: there may be mail in a backup of it."""
    traces = [spool_id.NAME] if spool_id.NAME in names else []
    traces += sorted(name for name in names if name.startswith((f"{NAME}-", f"{NAME}.")) and not name.startswith(_NEW))
    with suppress(FileNotFoundError, NotADirectoryError):
        traces += [f"{FOLDER}/{entry.name}" for entry in sorted((folder.path / FOLDER).iterdir())[:1]]
    if traces:
        raise SpoolDamaged(
            _("The spool {path} is closed: it has no {name}, but there was one ({trace} still exists).").format(
                path=folder.path, name=NAME, trace=traces[0]
            ),
            hint=_(
                "Restore {name} from a backup. To give up the mail that waited in it: senderproxy spool reset"
            ).format(name=NAME),
        )


def check_file(path: Path) -> None:
    """Raise SpoolError if the file is not a database of senderproxy."""
    try:
        status = path.lstat()
    except OSError as error:
        raise disk_error(_("The spool's database {path} cannot be opened").format(path=path), error) from error
    if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
        raise SpoolError(
            _("The spool's database {path} has a second name: another service could open it by that one.").format(
                path=path
            ),
            hint=_("Remove the other name: {command}").format(command=f"find / -xdev -samefile {path}"),
        )
    if not stat.S_ISREG(status.st_mode):
        raise SpoolDamaged(
            _("{path} is not a file of the spool.").format(path=path),
            hint=_("See what it is: ls -li {path}").format(path=path),
        )
    if status.st_mode & 0o077:
        raise SpoolError(_("Other users have access to {path}.").format(path=path), hint=f"chmod 600 {path}")
    # Before SQLite opens it: SQLite would write into an empty file or another program's database.
    cannot_read = _("The spool's database {path} cannot be read").format(path=path)
    with as_spool_errors(cannot_read), path.open("rb") as file:
        head = file.read(_HEAD)
    if head[:16] != b"SQLite format 3\0" or len(head) < _HEAD:
        raise damaged(path, _("it is not an SQLite database") if head else _("it is empty"))
    if int.from_bytes(head[68:72], "big") != APPLICATION_ID:
        raise damaged(path, _("it is not a spool of senderproxy"))


def _check_version(path: Path, connection: sqlite3.Connection, known: int) -> None:
    version = _version(connection)
    if version > known:
        raise SpoolTooNew(
            _(
                "The spool {path} was written by a later version of senderproxy (format {version}; this version knows"
                " up to format {known})."
            ).format(path=path.parent, version=version, known=known),
            hint=_("Install that version again. The mail in the spool is safe."),
        )
    if version < 1:
        raise damaged(path, _("it has no format number"))


def _check_tables(path: Path, connection: sqlite3.Connection, migrations: Sequence[str]) -> None:
    """Raise SpoolDamaged if a table or an index is missing, as after an incomplete repair."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as model:
        _apply(model, migrations, 0)
        missing = _names(model) - _names(connection)
    if missing:
        raise damaged(path, _("it has no {name}").format(name=min(missing)))


def _names(connection: sqlite3.Connection) -> set[str]:
    return {row[0] for row in connection.execute("SELECT name FROM sqlite_schema")}


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def create(folder: SpoolFolder, migrations: Sequence[str]) -> None:
    """Under another name first: a file with the final name is always complete."""
    for leftover in (_NEW, f"{_NEW}-journal"):
        with suppress(FileNotFoundError):
            os.unlink(leftover, dir_fd=folder.fd)
    _make_file(folder, _NEW)
    with closing(sqlite3.connect(folder.path / _NEW, isolation_level=None)) as new:
        new.execute(f"PRAGMA page_size = {_PAGE}")
        new.execute("PRAGMA auto_vacuum = INCREMENTAL")
        new.execute("PRAGMA synchronous = FULL")
        new.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        _apply(new, migrations, 0)
    os.rename(_NEW, NAME, src_dir_fd=folder.fd, dst_dir_fd=folder.fd)
    folder.sync()


def _make_file(folder: SpoolFolder, name: str) -> None:
    """An empty, private file; SQLite gives the files beside a database the same owner and mode."""
    file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder.fd)
    try:
        os.fchmod(file, 0o600)  # independent of the umask
        folder.give_to_owner(file)
    finally:
        os.close(file)


def _migrate(folder: SpoolFolder, connection: sqlite3.Connection, migrations: Sequence[str]) -> None:
    version = _version(connection)
    if version == len(migrations):
        return
    backup = f"{NAME}.format-{version}"
    _back_up(folder, connection, backup)
    _apply(connection, migrations[version:], version)
    with suppress(sqlite3.OperationalError):  # the package of an earlier version reads the format in the file
        connection.execute("PRAGMA wal_checkpoint")
    for name in folder.names():
        if name.startswith(f"{NAME}.format-") and name != backup:  # of an earlier migration: one copy is enough
            with suppress(OSError):
                os.unlink(name, dir_fd=folder.fd)
    event(_log, log_events.SPOOL_MIGRATED, format=len(migrations), backup=backup)


def _apply(connection: sqlite3.Connection, migrations: Sequence[str], version: int) -> None:
    """Run the scripts in one transaction."""
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


def _back_up(folder: SpoolFolder, connection: sqlite3.Connection, name: str) -> None:
    """Write a complete, synced copy of the database beside it."""
    beside = f"{name}.new"
    with suppress(FileNotFoundError):
        os.unlink(beside, dir_fd=folder.fd)
    _make_file(folder, beside)
    with closing(sqlite3.connect(folder.path / beside, isolation_level=None)) as copy:
        connection.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, with nothing beside it
    file = os.open(beside, os.O_RDWR | os.O_CLOEXEC, dir_fd=folder.fd)
    try:
        os.fsync(file)
    finally:
        os.close(file)
    os.rename(beside, name, src_dir_fd=folder.fd, dst_dir_fd=folder.fd)
    folder.sync()
