"""What is written to the tables and read from them while messages wait. Runs on the writer's thread.

Guarantees: no statement here looks through the whole queue: each is bound to the index it needs (the database refuses
it without), and one message costs the same whatever waits beside it. What a statement changes in the recipients, it
changes in their message's summary too.
Not here: transactions and threads (spool.sqlite.writer), questions people ask (spool.sqlite.search).
"""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from senderproxy.relay.ports import Claim
from senderproxy.spool.sqlite import rows
from senderproxy.spool.sqlite.database import primary_code
from senderproxy.spool.sqlite.rows import Row, Rows, Summary
from senderproxy.tracking.record import Event, RecipientStatus

# ---- the statements; a test asks the database how it would carry out each of them ----

_MESSAGE: Final = (
    "number, id, received_at, listener, client, reverse_path, eight_bit, author, account, carrier, size, message_id,"
    " report_on, seal"
)
_SUMMARY: Final = "waiting, held, due_at, undelayed, finished_at"
_STATE: Final = "fate, due_at, tries, reply, why, delay_reported"
# What is none of these and does not wait is held, also where a damaged disk made it unreadable.
_FINAL: Final = f"({', '.join(repr(fate.value) for fate in RecipientStatus if fate.is_final)})"

# Each takes many rows: `_write_rows` puts their places where the braces are.
ADD_MESSAGES: Final = f"INSERT INTO message ({_MESSAGE}, author_key, reverse_key, faults, {_SUMMARY}) VALUES {{}}"
ADD_RECIPIENTS: Final = f"INSERT INTO recipient (message, position, address, key, {_STATE}, upstream_id) VALUES {{}}"
ADD_EVENTS: Final = (
    "INSERT INTO event (message, position, at, what, recipients, facts)"
    " SELECT column1, column2 + (SELECT coalesce(max(position), -1) + 1 FROM event WHERE message = column1),"
    " column3, column4, column5, column6 FROM (VALUES {})"
)
ADD_FIRST_EVENTS: Final = "INSERT INTO event (message, position, at, what, recipients, facts) VALUES {}"
ADD_CONTENTS: Final = (
    "INSERT INTO content (message, header, body, file, size, checksum, is_ascii, has_long_lines) VALUES {}"
)
LAST_NUMBER: Final = "SELECT max(number) FROM message"

DUE: Final = (
    "SELECT due_at, number FROM message INDEXED BY message_due"
    " WHERE account = ? AND due_at IS NOT NULL AND due_at <= ? ORDER BY due_at, number"
)
EXPIRED: Final = (
    "SELECT received_at, number FROM message INDEXED BY message_waiting"
    " WHERE account = ? AND due_at IS NOT NULL AND received_at < ? ORDER BY received_at, number"
)
UNDELAYED: Final = (
    "SELECT received_at, number FROM message INDEXED BY message_undelayed"
    " WHERE undelayed IS NOT NULL AND received_at < ? ORDER BY received_at, number"
)
FIRST_ACCOUNT: Final = (
    "SELECT account FROM message INDEXED BY message_due WHERE due_at IS NOT NULL ORDER BY account LIMIT 1"
)
NEXT_ACCOUNT: Final = (
    "SELECT account FROM message INDEXED BY message_due WHERE account > ? AND due_at IS NOT NULL"
    " ORDER BY account LIMIT 1"
)
OPEN_BY_ID: Final = "SELECT number FROM message INDEXED BY message_by_id WHERE id = ? AND finished_at IS NULL"
MESSAGE: Final = f"SELECT {_MESSAGE}, faults FROM message WHERE number = ?"
RECIPIENTS: Final = f"SELECT address, {_STATE} FROM recipient WHERE message = ? ORDER BY position"
CONTENT: Final = "SELECT header, body, file, size, checksum, is_ascii, has_long_lines FROM content WHERE message = ?"

CHANGE_RECIPIENTS: Final = (
    "UPDATE recipient SET fate = column3, due_at = column4, tries = column5, reply = column6, why = column7,"
    " delay_reported = column8, upstream_id = column9"
    " FROM (VALUES {}) WHERE message = column1 AND position = column2"
)
HOLD_RECIPIENTS: Final = (
    f"UPDATE recipient SET fate = 'held', due_at = NULL, why = ? WHERE message = ? AND fate NOT IN {_FINAL}"
)
_SUMMARY_OF: Final = (
    f"SELECT sum(fate = 'waiting'), sum(fate != 'waiting' AND fate NOT IN {_FINAL}),"
    " min(CASE WHEN fate = 'waiting' THEN due_at END),"
    " nullif(max(fate = 'waiting' AND NOT delay_reported), 0) FROM recipient WHERE message ="
)
SUMMARY: Final = f"{_SUMMARY_OF} ?"
CHANGE_MESSAGE: Final = (
    "UPDATE message SET account = coalesce(?, account), faults = ?, waiting = ?, held = ?, due_at = ?, undelayed = ?,"
    " finished_at = ? WHERE number = ?"
)
SUM_UP: Final = (
    "UPDATE message SET account = coalesce(column2, account), faults = column3,"
    f" (waiting, held, due_at, undelayed) = ({_SUMMARY_OF} number) FROM (VALUES {{}}) WHERE number = column1"
)
FINISH: Final = (
    "UPDATE message SET finished_at = column2 FROM (VALUES {}) WHERE number = column1 AND waiting = 0 AND held = 0"
)
DROP_CONTENTS: Final = (
    "DELETE FROM content WHERE message IN"
    " (SELECT number FROM (VALUES {}) CROSS JOIN message WHERE number = column1 AND finished_at IS NOT NULL)"
)
HAS_CONTENT: Final = "SELECT 1 FROM content WHERE message = ?"
SHIFT_RECIPIENTS: Final = (
    "UPDATE recipient SET due_at = due_at + ?1 WHERE fate = 'waiting'"
    " AND message IN (SELECT number FROM message INDEXED BY message_open WHERE finished_at IS NULL)"
)
SHIFT_MESSAGES: Final = (
    "UPDATE message SET due_at = due_at + ?1, received_at = received_at + ?1 WHERE number IN"
    " (SELECT number FROM message INDEXED BY message_open WHERE finished_at IS NULL)"
)

OUTLIVED: Final = (
    "SELECT number FROM message INDEXED BY message_finished WHERE finished_at IS NOT NULL AND finished_at < ?"
    " ORDER BY finished_at LIMIT ?"
)
FORGET: Final = (
    "DELETE FROM event WHERE message = ?",
    "DELETE FROM recipient WHERE message = ?",
    "DELETE FROM content WHERE message = ?",
    "DELETE FROM message WHERE number = ?",
)
OWNER_OF_FILE: Final = "SELECT message FROM content INDEXED BY content_by_file WHERE file = ?"


_AT_ONCE: Final = (64, 16, 4, 1)  # rows in one statement
_BULKY: Final = 16 * 1024  # octets


@dataclass(frozen=True, slots=True)
class NewMessage:
    """All rows of one new message. `content` None: its story alone is kept."""

    rows: Rows
    content: Row | None

    @property
    def number(self) -> int:
        number: int = self.rows.message[0]
        return number


@dataclass(frozen=True, slots=True)
class Lease:
    """What is known of a leased message until it is settled."""

    id: str
    number: int
    received_at: int
    file: str | None


@dataclass(frozen=True, slots=True)
class CachedMessage:
    """A message as it came, `claim`, that nobody has had since: it need not be read to be leased."""

    lease: Lease
    claim: Claim
    octets: int


@dataclass(slots=True)
class Leases:
    """Who is being attempted, and who has not been yet. In memory alone: after a restart everything is due again.

    What changes a message leases it first, and who is leased is fresh no more: what is fresh is as its rows are.
    """

    room: int  # octets of messages that are remembered until they are leased
    _by_id: dict[str, Lease] = field(default_factory=dict)
    _numbers: dict[int, str] = field(default_factory=dict)
    _fresh: dict[int, CachedMessage] = field(default_factory=dict)
    _fresh_octets: int = 0

    def take(self, lease: Lease) -> None:
        self._by_id[lease.id] = lease
        self._numbers[lease.number] = lease.id

    def remember(self, fresh: CachedMessage) -> None:
        """While there is room for it: the first to come are the first to be asked for."""
        if self._fresh_octets + fresh.octets <= self.room:
            self._fresh[fresh.lease.number] = fresh
            self._fresh_octets += fresh.octets

    def fresh(self, number: int) -> CachedMessage | None:
        """What is remembered of it, and from now on is not."""
        fresh = self._fresh.pop(number, None)
        if fresh is not None:
            self._fresh_octets -= fresh.octets
        return fresh

    def forget(self) -> None:
        """The rows of all of them have changed."""
        self._fresh.clear()
        self._fresh_octets = 0

    def take_all(self, leases: Iterable[Lease]) -> None:
        for lease in leases:
            self.take(lease)

    def end(self, message_id: str) -> None:
        lease = self._by_id.pop(message_id, None)
        if lease is not None:
            self._numbers.pop(lease.number, None)

    def of(self, message_id: str) -> Lease:
        """Raises ValueError where nobody has it."""
        try:
            return self._by_id[message_id]
        except KeyError:
            raise ValueError(f"message {message_id} is not leased") from None

    def __contains__(self, number: int) -> bool:
        return number in self._numbers


@dataclass(frozen=True, slots=True)
class LeasedRows:
    """A leased message as its rows say. `why`: they cannot be read."""

    lease: Lease
    message: Row = ()
    recipients: Sequence[Row] = ()
    content: Row | None = None
    why: str = ""


# ---- new messages ----


def add(connection: sqlite3.Connection, stocks: Sequence[NewMessage]) -> None:
    """Many messages in few statements."""
    _write_rows(connection, ADD_MESSAGES, [stock.rows.message for stock in stocks])
    _write_rows(connection, ADD_RECIPIENTS, [row for stock in stocks for row in stock.rows.recipients])
    contents = [stock.content for stock in stocks if stock.content is not None]
    _write_rows(connection, ADD_CONTENTS, [row for row in contents if not _is_bulky(row)])
    for row in contents:
        if _is_bulky(row):
            _write_rows(connection, ADD_CONTENTS, [row])
    first = [
        (number, position, *columns)
        for stock in stocks
        for position, (number, *columns) in enumerate(stock.rows.events)
    ]
    _write_rows(connection, ADD_FIRST_EVENTS, first)


def _write_rows(connection: sqlite3.Connection, statement: str, lines: Sequence[Row]) -> None:
    """Each statement gives Python's lock away and asks for it again, and so does the mail: many rows go into one."""
    done = 0
    for size in _AT_ONCE:
        while len(lines) - done >= size:
            values = [value for line in lines[done : done + size] for value in line]
            connection.execute(for_rows(statement, size, len(lines[done])), values)
            done += size


@lru_cache
def for_rows(statement: str, count: int, width: int) -> str:
    """The statement for so many rows: the same text again and again, so that SQLite translates it once."""
    return statement.format(", ".join([f"({', '.join('?' * width)})"] * count))


def _is_bulky(content: Row) -> bool:
    """Its octets are copied while it is written: those of many at once would be a lot."""
    return len(content[1]) + len(content[2] or b"") > _BULKY


def last_number(connection: sqlite3.Connection) -> int:
    return connection.execute(LAST_NUMBER).fetchone()[0] or 0


# ---- leasing ----


def lease_due(
    connection: sqlite3.Connection, leases: Leases, account: str, now: int
) -> LeasedRows | CachedMessage | None:
    return _lease_first(connection, leases, DUE, (account,), now)


def lease_expired(
    connection: sqlite3.Connection, leases: Leases, account: str, before: int
) -> LeasedRows | CachedMessage | None:
    return _lease_first(connection, leases, EXPIRED, (account,), before)


def lease_undelayed(connection: sqlite3.Connection, leases: Leases, before: int) -> LeasedRows | CachedMessage | None:
    return _lease_first(connection, leases, UNDELAYED, (), before)


def lease_one(connection: sqlite3.Connection, leases: Leases, message_id: str) -> LeasedRows | CachedMessage | None:
    row = connection.execute(OPEN_BY_ID, (message_id,)).fetchone()
    return None if row is None or row[0] in leases else _lease(connection, leases, row[0])


def due(connection: sqlite3.Connection, leases: Leases, account: str | None = None) -> Mapping[str, int]:
    """One look for each account; or for this one alone."""
    found: dict[str, int] = {}
    if account is not None:
        only = _first_free(connection, leases, DUE, (account,), _FOREVER)
        return {} if only is None else {account: only[0]}
    row = connection.execute(FIRST_ACCOUNT).fetchone()
    while row is not None:
        (account,) = row
        first = _first_free(connection, leases, DUE, (account,), _FOREVER)
        if first is not None:
            found[account] = first[0]
        row = connection.execute(NEXT_ACCOUNT, (account,)).fetchone()
    return found


_FOREVER: Final = 2**62


def _first_free(
    connection: sqlite3.Connection, leases: Leases, statement: str, lane: Row, limit: int
) -> tuple[int, int] | None:
    """(moment, number) of the first that is not leased: one step in the index for each that is."""
    with closing(connection.execute(statement, (*lane, limit))) as found:
        return next(((moment, number) for moment, number in found if number not in leases), None)


def _lease_first(
    connection: sqlite3.Connection, leases: Leases, statement: str, lane: Row, limit: int
) -> LeasedRows | CachedMessage | None:
    first = _first_free(connection, leases, statement, lane, limit)
    return None if first is None else _lease(connection, leases, first[1])


def _lease(connection: sqlite3.Connection, leases: Leases, number: int) -> LeasedRows | CachedMessage:
    fresh = leases.fresh(number)
    if fresh is not None:
        leases.take(fresh.lease)
        return fresh
    try:
        message = connection.execute(MESSAGE, (number,)).fetchone()
        recipients = connection.execute(RECIPIENTS, (number,)).fetchall()
        content = connection.execute(CONTENT, (number,)).fetchone()
        lease = Lease(str(message[1]), number, message[2], None if content is None else content[2])
        found = LeasedRows(lease, message, recipients, content)
    except (sqlite3.DatabaseError, TypeError) as fault:
        if not _is_of_these_rows(fault):
            raise
        found = LeasedRows(Lease(f"number {number}", number, 0, None), why=f"its rows cannot be read ({fault})")
    leases.take(found.lease)
    return found


def _is_of_these_rows(fault: Exception) -> bool:
    """A page that is damaged, or text that is none, stands in the way of this message alone."""
    return not isinstance(fault, sqlite3.Error) or primary_code(fault) in (0, sqlite3.SQLITE_CORRUPT)


# ---- what becomes of them ----


@dataclass(frozen=True, slots=True)
class RecipientChange:
    """A verdict as rows. `states`: (position, columns) of the recipients that change."""

    states: Sequence[tuple[int, Row]]
    events: Sequence[Row]
    reports: Sequence[NewMessage]
    account: str | None
    faults: int
    now: int


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of a leased message."""

    lease: Lease
    change: RecipientChange


def settle(connection: sqlite3.Connection, settlements: Sequence[Settlement]) -> list[bool]:
    """Write verdicts down; True for each message whose file is of no use any more."""
    changes = [(one.lease.number, one.change) for one in settlements]
    states = [(number, position, *columns) for number, change in changes for position, columns in change.states]
    events = [
        (number, position, *columns)
        for number, change in changes
        for position, (_, *columns) in enumerate(change.events)
    ]
    _write_rows(connection, CHANGE_RECIPIENTS, states)
    _write_rows(connection, ADD_EVENTS, events)
    add(connection, [stock for _, change in changes for stock in change.reports])
    _write_rows(connection, SUM_UP, [(number, change.account, change.faults) for number, change in changes])
    _write_rows(connection, FINISH, [(number, change.now) for number, change in changes])
    _write_rows(connection, DROP_CONTENTS, [(number,) for number, _ in changes])
    return [
        one.lease.file is not None and connection.execute(HAS_CONTENT, (one.lease.number,)).fetchone() is None
        for one in settlements
    ]


def hold(connection: sqlite3.Connection, lease: Lease, why: str, event: Event, now: int) -> None:
    """What cannot be read waits for a person: all of it that is not final. Nothing is deleted."""
    connection.execute(HOLD_RECIPIENTS, (rows.clean(why), lease.number))
    number, *columns = rows.event_row(lease.number, event)
    _write_rows(connection, ADD_EVENTS, [(number, 0, *columns)])
    summary = Summary(*connection.execute(SUMMARY, (lease.number,)).fetchone())
    held = Summary(0, max(summary.held, 1), None, None)
    connection.execute(CHANGE_MESSAGE, (None, 0, *held.columns(now), lease.number))


def shift(connection: sqlite3.Connection, leases: Leases, step: int) -> None:
    leases.forget()
    connection.execute(SHIFT_RECIPIENTS, (step,))
    connection.execute(SHIFT_MESSAGES, (step,))


# ---- what is over ----


def forget(connection: sqlite3.Connection, before: int, limit: int) -> int:
    """Delete the oldest finished messages; say how many there were."""
    numbers = connection.execute(OUTLIVED, (before, limit)).fetchall()
    for statement in FORGET:
        connection.executemany(statement, numbers)
    return len(numbers)


def nobodys(connection: sqlite3.Connection, files: Iterable[str]) -> list[str]:
    """Those files that belong to no message."""
    return [name for name in files if connection.execute(OWNER_OF_FILE, (name,)).fetchone() is None]


def give_back_pages(connection: sqlite3.Connection, keep: int, limit: int) -> bool:
    """Shrink the file by some of its free pages; True where more are left than it keeps."""
    free: int = connection.execute("PRAGMA freelist_count").fetchone()[0]
    for _ in range(min(free - keep, limit)):
        connection.execute("PRAGMA incremental_vacuum(1)")  # sqlite3 takes one step of a statement without columns
    return free - keep > limit
