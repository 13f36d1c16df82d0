"""A new spool made of the rows of a snapshot: `senderproxy restore`.

Guarantees: the spool has the snapshot's format at first and the current one at the end; every message that waited is
held, with a reason; all of it is synced. The rows come from a file: names and values are checked before use.
Not here: the rows (spool.sqlite.snapshot), the place of the new spool (backup.restore).
"""

import base64
import binascii
import json
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Self

from senderproxy.relay.ports import SpoolError
from senderproxy.spool.sqlite import content, rows
from senderproxy.spool.sqlite.database import NAME, as_spool_errors, connect, create, open_database, scripts
from senderproxy.spool.sqlite.snapshot import TABLES
from senderproxy.spool.sqlite.spool_folder import SpoolFolder, open_subfolder
from senderproxy.tracking.record import EventKind, RecipientStatus
from senderproxy.translation import _

_FILE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_ROW_BODY_LIMIT: Final = 16 * 2**20  # octets of a body in a row; those that a spool writes are far smaller
_HEADER_LIMIT: Final = 64 * 2**20  # octets of a header section; a listener accepts less
_WRITE_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FINAL: Final = f"({', '.join(repr(status.value) for status in RecipientStatus if status.is_final)})"

_HOLD_EVENT: Final = (
    "INSERT INTO event (message, position, at, what, recipients, facts)"
    " SELECT number, (SELECT coalesce(max(position), -1) + 1 FROM event WHERE message = number), ?, ?, '[]', ?"
    " FROM message WHERE finished_at IS NULL"
)
_HOLD_RECIPIENTS: Final = (
    "UPDATE recipient SET due_at = NULL, fate = 'held',"
    " why = iif(fate = 'held' AND why != '', why || '; ' || ?1, ?1)"
    f" WHERE fate NOT IN {_FINAL} AND message IN (SELECT number FROM message WHERE finished_at IS NULL)"
)
_HOLD_MESSAGES: Final = (
    "UPDATE message SET held = waiting + held, waiting = 0, due_at = NULL, undelayed = NULL WHERE finished_at IS NULL"
)
_IS_INVALID: Final = (sqlite3.IntegrityError, sqlite3.ProgrammingError, TypeError, ValueError, OverflowError)


class SpoolRebuild:
    """A spool in the making, in an empty folder that is locked. Left without `finish`, it has no database."""

    def __init__(self, folder: SpoolFolder, version: int, columns: Mapping[str, Sequence[str]]) -> None:
        """`columns`: of each table, in the order of the values. Raises SpoolError."""
        if not 1 <= version <= len(scripts()):
            raise SpoolError(
                _("The backup has a queue of format {version}; this program knows up to format {known}.").format(
                    version=version, known=len(scripts())
                ),
                hint=_("Install the version of senderproxy that wrote the backup, or a later one."),
            )
        self._folder = folder
        self._content = open_subfolder(folder, content.FOLDER)
        self._connection: sqlite3.Connection | None = None
        self._inserts: dict[str, str] = {}
        self._body: _Body | None = None
        with self._errors():
            create(folder, scripts()[:version])
            self._connection = connect(folder.path / NAME)
            self._connection.execute("BEGIN")
            for table in TABLES:
                self._inserts[table] = self._insert(self._connection, table, columns.get(table, ()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._body is not None:
            self._body.close()
        if self._connection is not None:
            self._connection.close()
        with suppress(OSError):
            os.close(self._content)

    def _insert(self, connection: sqlite3.Connection, table: str, names: Sequence[str]) -> str:
        known = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        if sorted(known) != sorted(names):
            raise _invalid(_("its table {table} has other columns").format(table=table))
        return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"

    def add(self, table: str, values: Sequence[Any]) -> None:
        """Add a row; one of the content is complete when its octets have been added. Raises SpoolError."""
        assert self._connection is not None
        self._end_body()
        with self._errors():
            if table == "content":
                self._body = _Body(self._content, self._folder, values)
            elif table in self._inserts:
                self._connection.execute(self._inserts[table], [_value(each) for each in values])
            else:
                raise _invalid(_("it has a table {table}").format(table=table))

    def add_octets(self, block: bytes) -> None:
        """Add octets of the header, then of the body, of the content added last. Raises SpoolError."""
        if self._body is None:
            raise _invalid(_("it has octets that belong to no message"))
        with self._errors():
            self._body.add(block)

    def _end_body(self) -> None:
        if self._body is None:
            return
        assert self._connection is not None
        with self._errors():
            body, self._body = self._body, None
            self._connection.execute(
                "INSERT INTO content (message, header, body, file, size, checksum, is_ascii, has_long_lines)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                body.row(),
            )

    def finish(self, now: datetime, why: str) -> int:
        """Bring the spool to the current format and hold its messages. Returns their number. Raises SpoolError."""
        assert self._connection is not None
        self._end_body()
        with self._errors():
            self._connection.execute("COMMIT")
            self._connection.close()
            os.fsync(self._content)
        before = self._folder.names()
        connection = open_database(self._folder, scripts())
        try:
            with self._errors():
                connection.execute("BEGIN IMMEDIATE")
                event = (rows.to_ms(now), EventKind.HELD.value, json.dumps({"why": why}))
                connection.execute(_HOLD_EVENT, event)
                connection.execute(_HOLD_RECIPIENTS, (why,))
                connection.execute(_HOLD_MESSAGES)
                held = connection.execute("SELECT count(*) FROM message WHERE finished_at IS NULL").fetchone()[0]
                connection.execute("COMMIT")
        finally:
            connection.close()
        with self._errors():
            for copy in self._folder.names() - before:
                if copy.startswith(f"{NAME}.format-"):
                    os.unlink(copy, dir_fd=self._folder.fd)
            self._folder.sync()
        return int(held)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Errors of the rows and of the disk as SpoolError."""
        with as_spool_errors(_("The spool {path} cannot be written").format(path=self._folder.path)):
            try:
                yield
            except _IS_INVALID as error:
                raise _invalid(str(error)) from error


class _Body:
    """The content of one message: its header in memory, its body in memory or in a file."""

    def __init__(self, content_fd: int, folder: SpoolFolder, values: Sequence[Any]) -> None:
        number, header, body, name, size, checksum, is_ascii, has_long_lines = values
        for length in (header, body, size):
            if not isinstance(length, int) or isinstance(length, bool) or length < -1:
                raise ValueError(_("a length is no number"))
        if header > _HEADER_LIMIT or (name is None and not 0 <= body <= _ROW_BODY_LIMIT):
            raise ValueError(_("a message is too long for a row"))
        if name is not None and (not isinstance(name, str) or not _FILE_NAME.fullmatch(name)):
            raise ValueError(_("a file has an invalid name"))
        self._fixed = (number, name, size, checksum, is_ascii, has_long_lines)
        self._missing = [header, max(0, body)]
        self._header = bytearray()
        self._body = bytearray()
        self._file: int | None = None
        if name is not None and body >= 0:
            self._file = os.open(name, _WRITE_NEW, 0o600, dir_fd=content_fd)
            os.fchmod(self._file, 0o600)  # independent of the umask
            folder.give_to_owner(self._file)

    def add(self, block: bytes) -> None:
        part, rest = block[: self._missing[0]], block[self._missing[0] :]
        self._header += part
        self._missing[0] -= len(part)
        self._missing[1] -= len(rest)
        if self._missing[1] < 0:
            raise ValueError(_("a message is longer than it says"))
        if self._file is None:
            self._body += rest
        else:
            view = memoryview(rest)
            while view:
                view = view[os.write(self._file, view) :]

    def row(self) -> Sequence[Any]:
        """The values of the row; the file is complete and synced."""
        if self._missing != [0, 0]:
            raise ValueError(_("a message is shorter than it says"))
        if self._file is not None:
            os.fsync(self._file)
        self.close()
        number, name, size, checksum, is_ascii, has_long_lines = self._fixed
        body = None if name is not None else bytes(self._body)
        return number, bytes(self._header), body, name, size, checksum, is_ascii, has_long_lines

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _value(value: object) -> object:
    """A value of a row: a number, a text, or octets as base64 in a list of one. Raises ValueError."""
    match value:
        case None | int() | str():
            return value
        case [str(text)]:
            try:
                return base64.b64decode(text, validate=True)
            except binascii.Error as error:
                raise ValueError(_("a value is not base64")) from error
        case _:
            raise ValueError(_("a value is neither a number nor a text"))


def _invalid(why: str) -> SpoolError:
    return SpoolError(
        _("The queue in the backup cannot be used: {why}.").format(why=why),
        hint=_("Use another backup, or restore without the queue: senderproxy restore --without-queue"),
    )
