"""Snapshot of a spool for a backup: all queued messages with their content, all jobs, the learned state.

One read transaction: the state of one moment, while the service goes on. The write-ahead log cannot begin anew during
that time, so it grows by what is committed meanwhile.
Guarantees: nothing is changed; the snapshot has each message that is queued at its moment and afterwards, with its
whole content, or counts it as unreadable. Memory use does not depend on the number of messages.
Not here: the file of the backup (backup.create), a spool made of a snapshot (spool.sqlite.rebuild).
"""

import base64
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

from senderproxy.relay.ports import SpoolError
from senderproxy.spool.sqlite import content, new_messages, spool_id
from senderproxy.spool.sqlite.database import NAME, as_spool_errors, check_file, connect, damaged, scripts
from senderproxy.translation import _

Entry: TypeAlias = tuple[str, Sequence[Any]]  # the table and the values of one row, ready for JSON

TABLES: Final = ("message", "recipient", "event", "content", "job", "learned")
BLOCK: Final = 64 * 1024  # octets of a body in one block
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC

# A message that waits or is held, or whose job is not final.
_MESSAGES: Final = (
    "SELECT number FROM message INDEXED BY message_open WHERE finished_at IS NULL AND number > ?1"
    " UNION SELECT number FROM new_message WHERE number > ?1"
    " UNION SELECT message FROM job INDEXED BY job_by_message WHERE message IS NOT NULL AND message > ?1"
    " ORDER BY 1 LIMIT 1000"
)
_COUNT: Final = (
    "SELECT (SELECT count(*) FROM message INDEXED BY message_open WHERE finished_at IS NULL)"
    " + (SELECT count(*) FROM new_message)"
)
_SIZE: Final = "SELECT (SELECT coalesce(sum(size), 0) FROM content) + (SELECT coalesce(sum(size), 0) FROM new_message)"
_ROWS_OF_MESSAGE: Final = 2000  # octets of one message besides its body: its rows as JSON, its header
_ROWS: Final = {
    "message": "SELECT * FROM message WHERE number = ?",
    "recipient": "SELECT * FROM recipient WHERE message = ? ORDER BY position",
    "event": "SELECT * FROM event WHERE message = ? ORDER BY position",
    "job": "SELECT * FROM job INDEXED BY job_by_message WHERE message = ? ORDER BY number",
}
_CONTENT: Final = "SELECT message, file, size, checksum, is_ascii, has_long_lines FROM content WHERE message = ?"
_OCTETS: Final = "SELECT header, body FROM content WHERE message = ?"
_OTHER_JOBS: Final = "SELECT * FROM job WHERE message IS NULL ORDER BY number"
_LEARNED: Final = "SELECT * FROM learned ORDER BY updated_at, key"
_IS_NEEDED: Final = (
    "SELECT 1 FROM message WHERE number = ? AND (finished_at IS NULL"
    " OR EXISTS (SELECT 1 FROM job INDEXED BY job_by_message WHERE job.message = message.number))"
)


@dataclass(slots=True)
class SnapshotCounts:
    """The number of messages, so far and at the end."""

    messages: int = 0
    octets: int = 0  # of their contents
    finished: int = 0  # left out: finished while the snapshot was read
    unreadable: list[str] = field(default_factory=list)  # ids of messages whose content is gone; the first hundred


_NAMED: Final = 100  # unreadable messages that are named


class Snapshot:
    """The state of a spool at one moment."""

    def __init__(self, path: Path, connection: sqlite3.Connection, now: sqlite3.Connection) -> None:
        """`connection` is in a transaction; `now` is not, and sees what was committed since."""
        self._path, self._connection, self._now = path, connection, now
        self.counts = SnapshotCounts()

    @property
    def version(self) -> int:
        """Format of the spool."""
        return int(self._connection.execute("PRAGMA user_version").fetchone()[0])

    def columns(self) -> dict[str, list[str]]:
        """The columns of each table, in the order of the values of an entry."""
        return {table: [row[1] for row in self._connection.execute(f"PRAGMA table_info({table})")] for table in TABLES}

    def total(self) -> int:
        """The number of queued messages."""
        return int(self._connection.execute(_COUNT).fetchone()[0])

    def octets(self) -> int:
        """The octets of all contents, and those of the rows beside them as an estimate."""
        return int(self._connection.execute(_SIZE).fetchone()[0]) + _ROWS_OF_MESSAGE * self.total()

    def messages(self) -> Iterator[Entry | bytes]:
        """The rows of each message and of the jobs. The octets of a content follow its row in blocks.

        A row of the content has the lengths of header and body instead of the octets; -1: there are none. Raises
        SpoolError.
        """
        with self._errors():
            last = -1
            while numbers := [row[0] for row in self._connection.execute(_MESSAGES, (last,))]:
                for number in numbers:
                    yield from self._message(number)
                last = numbers[-1]
            for row in self._connection.execute(_OTHER_JOBS):
                yield "job", _plain(row)

    def learned(self) -> Iterator[Entry]:
        """The rows of the learned state, the oldest first. Raises SpoolError."""
        with self._errors():
            for row in self._connection.execute(_LEARNED):
                yield "learned", _plain(row)

    def _message(self, number: int) -> Iterator[Entry | bytes]:
        if (new := new_messages.read_row(self._connection, number)) is not None:
            yield from self._new_message(new)
            return
        row = self._connection.execute(_CONTENT, (number,)).fetchone()
        file: int | None = None
        if row is not None and row[1] is not None:
            file = self._open(row[1], row[2])
            if file is None and self._now.execute(_IS_NEEDED, (number,)).fetchone() is None:
                self.counts.finished += 1  # its content was removed, because nobody waits for it any more
                return
        try:
            for table in ("message", "recipient", "event"):
                for values in self._connection.execute(_ROWS[table], (number,)):
                    yield table, _plain(values)
            self.counts.messages += 1
            if row is not None:
                yield from self._content(number, row, file)
            for values in self._connection.execute(_ROWS["job"], (number,)):
                yield "job", _plain(values)
        finally:
            if file is not None:
                os.close(file)

    def _new_message(self, new: Sequence[Any]) -> Iterator[Entry | bytes]:
        """A new message as the rows of the general tables."""
        made = new_messages.general_rows(tuple(new))
        yield "message", made.message
        for recipient in made.recipients:
            yield "recipient", recipient
        for position, (number, *columns) in enumerate(made.events):
            yield "event", (number, position, *columns)
        self.counts.messages += 1
        if made.content is None:
            self._note_unreadable(str(made.message[1]))
            return
        number, header, body, *facts = made.content
        yield "content", (number, len(header), len(body), *facts)
        self.counts.octets += len(header) + len(body)
        yield header
        yield body

    def _open(self, name: str, size: int) -> int | None:
        """The body's file, which can be read to its end even if it is removed meanwhile; None if there is none."""
        with suppress(OSError):
            file = os.open(self._path / content.FOLDER / name, _READ)
            if os.fstat(file).st_size == size:
                return file
            os.close(file)
        return None

    def _content(self, number: int, row: Sequence[Any], file: int | None) -> Iterator[Entry | bytes]:
        _number, name, size, checksum, is_ascii, has_long_lines = row
        header, body = self._connection.execute(_OCTETS, (number,)).fetchone()
        length = size if file is not None else -1 if body is None else len(body)
        if length < 0:
            self._note_unreadable(self._id(number))
        yield "content", (number, len(header), length, name, size, checksum, is_ascii, has_long_lines)
        self.counts.octets += len(header) + max(0, length)
        yield header
        if file is not None:
            yield from self._blocks(file, size, number)
        elif body is not None:
            yield body

    def _blocks(self, file: int, size: int, number: int) -> Iterator[bytes]:
        """The body. The rest of one that the disk does not return is zeros: its checksum shows the damage."""
        while size:
            try:
                block = os.read(file, min(BLOCK, size))
            except OSError:
                block = b""
            if not block:
                self._note_unreadable(self._id(number))
                block = bytes(min(BLOCK, size))
                os.lseek(file, len(block), os.SEEK_CUR)
            size -= len(block)
            yield block

    def _note_unreadable(self, ident: str) -> None:
        if len(self.counts.unreadable) < _NAMED and ident not in self.counts.unreadable:
            self.counts.unreadable.append(ident)

    def _id(self, number: int) -> str:
        return str(self._connection.execute("SELECT id FROM message WHERE number = ?", (number,)).fetchone()[0])

    @contextmanager
    def _errors(self) -> Iterator[None]:
        path = self._path / NAME
        with as_spool_errors(_("The spool's database {path} cannot be read").format(path=path), path):
            yield


def _plain(values: Sequence[Any]) -> Sequence[Any]:
    """The values of a row for JSON: octets as base64 in a list of one."""
    return [[base64.b64encode(each).decode("ascii")] if isinstance(each, bytes) else each for each in values]


@contextmanager
def open_snapshot(directory: Path) -> Iterator[Snapshot | None]:
    """The state of the spool now; None if there is no spool. Raises SpoolError."""
    path = directory / NAME
    if not path.exists():
        if (directory / spool_id.NAME).exists():
            raise SpoolError(
                _("The spool {path} has lost its database {name}.").format(path=directory, name=NAME),
                hint=_("See: senderproxy status. For a backup of the rest: senderproxy backup --without-queue"),
            )
        yield None
        return
    check_file(path)
    with as_spool_errors(_("The spool's database {path} cannot be opened").format(path=path), path):
        connection = connect(path, read_only=True)
    with closing(connection), closing(connect(path, read_only=True)) as now:
        snapshot = Snapshot(directory, connection, now)
        with as_spool_errors(_("The spool's database {path} cannot be read").format(path=path), path):
            version, known = snapshot.version, len(scripts())
            if version != known:
                raise (
                    damaged(path, _("it has no format number"))
                    if version < 1
                    else SpoolError(
                        _("The spool {path} has format {version}, and this program writes format {known}.").format(
                            path=directory, version=version, known=known
                        ),
                        hint=_("Restart the service, which converts it: systemctl restart senderproxy"),
                    )
                )
            connection.execute("BEGIN")
            snapshot.total()  # the first read of a transaction fixes its moment
        yield snapshot
