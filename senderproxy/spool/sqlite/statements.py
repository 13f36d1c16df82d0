"""Statements that write messages: new ones, changes of leased ones, deletion. Runs on the writer's thread.

Guarantees: no statement here scans the queue: each is bound to the index that it needs (the database refuses it
without), and the cost of one message does not depend on the number of waiting ones. Each change of recipients is
also made in their message's summary.
Not here: transactions and threads (spool.sqlite.writer), leases (spool.sqlite.leases), searches (spool.sqlite.search).
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from heapq import merge
from typing import Final

from senderproxy.spool.sqlite import history_packs, new_messages, rows
from senderproxy.spool.sqlite.history_packs import FinishedMessage, finished_message
from senderproxy.spool.sqlite.leases import LeasedMessage, Leases
from senderproxy.spool.sqlite.rows import MESSAGE_COLUMNS, STATE_COLUMNS, SUMMARY_COLUMNS, ArrivalRows, Row, Summary
from senderproxy.tracking.record import Event, Lane, RecipientStatus
from senderproxy.value_class import value_class

# Any other status but `waiting` counts as held, also one that a damaged disk made unreadable.
_FINAL_STATUSES: Final = frozenset(status.value for status in RecipientStatus if status.is_final)
_FINAL: Final = f"({', '.join(repr(status.value) for status in RecipientStatus if status.is_final)})"

# Each takes many rows: `_write_rows` replaces the braces with their placeholders.
ADD_MESSAGES: Final = (
    f"INSERT INTO message ({MESSAGE_COLUMNS}, author_key, reverse_key, faults, {SUMMARY_COLUMNS}) VALUES {{}}"
)
ADD_RECIPIENTS: Final = (
    f"INSERT INTO recipient (message, position, address, key, {STATE_COLUMNS}, upstream_id, lane) VALUES {{}}"
)
ADD_EVENTS: Final = (
    "INSERT INTO event (message, position, at, what, recipients, facts)"
    " SELECT column1, column2 + (SELECT coalesce(max(position), -1) + 1 FROM event WHERE message = column1),"
    " column3, column4, column5, column6 FROM (VALUES {})"
)
ADD_FIRST_EVENTS: Final = "INSERT INTO event (message, position, at, what, recipients, facts) VALUES {}"
ADD_CONTENTS: Final = (
    "INSERT INTO content (message, header, body, file, size, checksum, is_ascii, has_long_lines) VALUES {}"
)
ADD_SUBJECTS: Final = "INSERT INTO subject (message, text) VALUES {}"
ADD_SUBJECT_WORDS: Final = "INSERT INTO subject_word (word, message) VALUES {}"
LAST_NUMBER: Final = "SELECT max(number) FROM message"
LAST_NEW_NUMBER: Final = "SELECT max(number) FROM new_message"
ID_OF_MESSAGE: Final = "SELECT 1 FROM message INDEXED BY message_by_id WHERE id = ?"

ADD_JOBS: Final = (
    "INSERT INTO job (kind, lane, added_at, due_at, attempts, why, payload, message, holds_content, seal) VALUES {}"
)

# A part of others: a job holds the content of the message of that row.
CONTENT_IS_HELD: Final = (
    "EXISTS (SELECT 1 FROM job INDEXED BY job_by_message WHERE job.message = message.number AND holds_content)"
)

CHANGE_RECIPIENTS: Final = (
    # A waiting recipient without a new due time keeps its own; one that was held is due now.
    "UPDATE recipient SET fate = column3,"
    " due_at = CASE WHEN column3 = 'waiting' THEN coalesce(column4, due_at, column10) END,"
    " tries = column5, reply = column6, why = column7, delay_reported = column8, upstream_id = column9"
    " FROM (VALUES {}) WHERE message = column1 AND position = column2"
)
MOVE_LANE: Final = (
    f"UPDATE recipient SET lane = ?1 WHERE message = ?2 AND fate NOT IN {_FINAL} AND (?3 = '' OR +lane = ?3)"
)
MOVE_RECIPIENTS: Final = (
    "UPDATE recipient SET lane = column3 FROM (VALUES {}) WHERE message = column1 AND position = column2"
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
    " (SELECT number FROM (VALUES {}) CROSS JOIN message WHERE number = column1 AND finished_at IS NOT NULL"
    f" AND NOT {CONTENT_IS_HELD})"
)
DROP_CONTENT: Final = (
    "DELETE FROM content WHERE message = ?1 AND EXISTS"
    f" (SELECT 1 FROM message WHERE number = ?1 AND finished_at IS NOT NULL AND NOT {CONTENT_IS_HELD})"
)
SUBJECT: Final = "SELECT 1 FROM subject WHERE message = ?"
HAS_CONTENT: Final = "SELECT 1 FROM content WHERE message = ?"
SHIFT_RECIPIENTS: Final = (
    "UPDATE recipient SET due_at = due_at + ?1 WHERE fate = 'waiting'"
    " AND message IN (SELECT number FROM message INDEXED BY message_open WHERE finished_at IS NULL)"
)
SHIFT_MESSAGES: Final = (
    "UPDATE message SET due_at = due_at + ?1, received_at = received_at + ?1 WHERE number IN"
    " (SELECT number FROM message INDEXED BY message_open WHERE finished_at IS NULL)"
)

SHIFT_JOBS: Final = "UPDATE job SET due_at = due_at + ?1, added_at = added_at + ?1"

OLD_HISTORY: Final = (
    "SELECT finished_at, number, 1 FROM message INDEXED BY message_finished"
    " WHERE finished_at IS NOT NULL AND finished_at < ?"
    " AND NOT EXISTS (SELECT 1 FROM job INDEXED BY job_by_message WHERE job.message = message.number)"
    " ORDER BY finished_at LIMIT ?"
)
IS_HISTORY: Final = (
    "SELECT 1 FROM message WHERE number = ?1 AND finished_at IS NOT NULL"
    " AND NOT EXISTS (SELECT 1 FROM job INDEXED BY job_by_message WHERE job.message = ?1)"
)
DELETE_SUBJECT: Final = (
    "DELETE FROM subject WHERE message = ?",
    "DELETE FROM subject_word WHERE message = ?",
)
DELETE_MESSAGE: Final = (
    "DELETE FROM event WHERE message = ?",
    "DELETE FROM recipient WHERE message = ?",
    "DELETE FROM content WHERE message = ?",
    *DELETE_SUBJECT,
    "DELETE FROM message WHERE number = ?",
)
OWNER_OF_FILE: Final = "SELECT message FROM content INDEXED BY content_by_file WHERE file = ?"


_SIZES: Final = ("page_size", "page_count", "freelist_count")
_FOREVER: Final = 2**62  # milliseconds since 1970; later than any completion
_ROWS_AT_ONCE: Final = (64, 16, 4, 1)  # rows in one statement; few sizes, so that SQLite's statement cache holds all
_BULKY: Final = 16 * 1024  # octets of a content that is written alone; its octets are copied during the write


@value_class
class NewMessage:
    """All rows of one new message. `content` is None if only its history is stored."""

    rows: ArrivalRows
    content: Row | None
    jobs: Sequence[Row] = ()

    @property
    def id(self) -> str:
        """The message's id."""
        return str(self.rows.message[1])

    @property
    def number(self) -> int:
        """The message's number, which orders it by submission."""
        number: int = self.rows.message[0]
        return number


# ---- new messages ----


def add(connection: sqlite3.Connection, messages: Sequence[NewMessage]) -> None:
    """Insert many messages with few statements, each where it costs least."""
    general: list[NewMessage] = []
    new: list[Row] = []
    finished: list[FinishedMessage] = []
    for message in messages:
        if (row := _new_message_row(message)) is not None:
            new.append(row)
        elif message.content is None and not message.jobs and message.rows.message[21] is not None:
            finished.append(_finished(message.rows))
        else:
            general.append(message)
    _add_general(connection, general)
    _write_rows(connection, new_messages.ADD, [row for row in new if not _is_bulky(row[-2:])])
    for row in new:
        if _is_bulky(row[-2:]):
            _write_rows(connection, new_messages.ADD, [row])
    history_packs.write(connection, finished)
    _check_ids(connection, general, new, finished)
    if subjects := [message.rows.subject for message in messages if message.rows.subject is not None]:
        _write_rows(connection, ADD_SUBJECTS, subjects)
        _write_rows(connection, ADD_SUBJECT_WORDS, [row for message in messages for row in message.rows.words])


def _new_message_row(message: NewMessage) -> Row | None:
    made = message.rows
    if message.jobs:
        return None
    return new_messages.row_of(made.message, made.recipients, made.events, message.content)


def _finished(made: ArrivalRows) -> FinishedMessage:
    return finished_message(
        made.message, made.recipients, made.events, made.message[21], has_subject=made.subject is not None
    )


def _check_ids(
    connection: sqlite3.Connection,
    general: Sequence[NewMessage],
    new: Sequence[Row],
    finished: Sequence[FinishedMessage],
) -> None:
    """Refuse an id that another table has; those of one table are in its unique index, or in RecentIds."""
    in_general = [*(row[1] for row in new), *(message.id for message in finished)]
    in_new = [*(message.rows.message[1] for message in general), *(message.id for message in finished)]
    for statement, ids in ((ID_OF_MESSAGE, in_general), (new_messages.NUMBER, in_new)):
        for ident in ids:
            if connection.execute(statement, (ident,)).fetchone() is not None:
                raise sqlite3.IntegrityError(f"there is a message {ident}")


def _add_general(connection: sqlite3.Connection, messages: Sequence[NewMessage]) -> None:
    _write_rows(connection, ADD_MESSAGES, [message.rows.message for message in messages])
    _write_rows(connection, ADD_RECIPIENTS, [row for message in messages for row in message.rows.recipients])
    contents = [message.content for message in messages if message.content is not None]
    _write_rows(connection, ADD_CONTENTS, [row for row in contents if not _is_bulky(row[1:3])])
    for row in contents:
        if _is_bulky(row[1:3]):
            _write_rows(connection, ADD_CONTENTS, [row])
    first = [
        (number, position, *columns)
        for message in messages
        for position, (number, *columns) in enumerate(message.rows.events)
    ]
    _write_rows(connection, ADD_FIRST_EVENTS, first)
    _write_rows(connection, ADD_JOBS, [row for message in messages for row in message.jobs])


def generalise(connection: sqlite3.Connection, number: int, *, with_content: bool = True) -> None:
    """Move a new message to the general tables, before a change of it; nothing if it is there already.

    `with_content`: False if a page of the content is damaged. SQLite writes nothing in a transaction that has met one.
    """
    read = new_messages.read_row if with_content else new_messages.read_facts
    row = read(connection, number)
    if row is None:
        return
    made = new_messages.general_rows(row)
    arrival = ArrivalRows(made.message, made.recipients, made.events, 0)
    if new_messages.has_content(row):  # else it cannot be deleted: a damaged page refers to others
        connection.execute(new_messages.DELETE, (number,))
    _add_general(connection, [NewMessage(arrival, made.content)])


def _write_rows(connection: sqlite3.Connection, statement: str, lines: Sequence[Row]) -> None:
    """Many rows in one statement: each statement releases the interpreter's lock and competes for it again."""
    done = 0
    for size in _ROWS_AT_ONCE:
        while len(lines) - done >= size:
            values = [value for line in lines[done : done + size] for value in line]
            connection.execute(for_rows(statement, size, len(lines[done])), values)
            done += size


@lru_cache
def for_rows(statement: str, count: int, width: int) -> str:
    """The statement for `count` rows of `width` values; the same text each time, so that SQLite prepares it once."""
    return statement.format(", ".join([f"({', '.join('?' * width)})"] * count))


def _is_bulky(content: Row) -> bool:
    """True if this header and body are written alone: SQLite copies their octets during the write."""
    header, body = content
    return len(header) + len(body or b"") > _BULKY


def last_number(connection: sqlite3.Connection) -> int:
    """The highest number of a message; 0 if there is none."""
    found = (LAST_NUMBER, LAST_NEW_NUMBER, history_packs.LAST_NUMBER)
    return max(connection.execute(statement).fetchone()[0] or 0 for statement in found)


# ---- changes of leased messages ----


@value_class
class RecipientChange:
    """A SpoolUpdate as rows. `states`: (position, columns) of the recipients that change; `lanes`: (position, lane)."""

    states: Sequence[tuple[int, Row]]
    events: Sequence[Row]
    reports: Sequence[NewMessage]
    account: str | None
    faults: int  # internal errors in a row
    now: int  # milliseconds since 1970
    lanes: Sequence[tuple[int, str]] = ()
    jobs: Sequence[Row] = ()
    leaves_history: bool = True


@value_class
class Settlement:
    """The change with which a lease ends."""

    message: LeasedMessage
    change: RecipientChange


def settle(connection: sqlite3.Connection, settlements: Sequence[Settlement]) -> list[bool]:
    """Write the changes; True for each message whose body file is not needed any more."""
    left = _finish_new(connection, settlements)
    _settle_general(connection, left)
    return [
        one.message.file is not None and connection.execute(HAS_CONTENT, (one.message.number,)).fetchone() is None
        for one in settlements
    ]


def _finish_new(connection: sqlite3.Connection, settlements: Sequence[Settlement]) -> Sequence[Settlement]:
    """Replace new messages that are finished by their history; return the settlements of the others."""
    left: list[Settlement] = []
    finished: list[FinishedMessage] = []
    forgotten: list[int] = []
    reports: list[NewMessage] = []
    for one in settlements:
        number, change = one.message.number, one.change
        row = new_messages.read_facts(connection, number) if one.message.file is None else None
        if row is None:
            left.append(one)
        elif _finishes(change, new_messages.addresses_of(row)):
            if change.leaves_history:
                finished.append(_after(connection, row, change))
            else:
                forgotten.append(number)
            reports += change.reports
        else:
            generalise(connection, number)
            left.append(one)
    if finished or forgotten:
        add(connection, reports)  # while the messages are there: none of them has its id
        ended = [*(message.number for message in finished), *forgotten]
        _write_rows(connection, new_messages.DELETE_ALL, [(number,) for number in ended])
        history_packs.write(connection, finished)
        for number in forgotten:
            for statement in DELETE_SUBJECT:
                connection.execute(statement, (number,))
    return left


def _finishes(change: RecipientChange, recipients: Sequence[str]) -> bool:
    """True if nothing is left of a new message but its history."""
    if change.jobs or change.lanes:
        return False
    return {position for position, columns in change.states if columns[0] in _FINAL_STATUSES} == set(
        range(len(recipients))
    )


def _after(connection: sqlite3.Connection, row: Row, change: RecipientChange) -> FinishedMessage:
    """A new message after the change that finishes it."""
    number = row[0]
    states = dict(change.states)
    recipients = [
        (number, position, address, rows.author_key(address), *states[position])
        for position, address in enumerate(new_messages.addresses_of(row))
    ]
    message = row if change.account is None else (*row[:8], change.account, *row[9:])
    events = [*new_messages.events_of(row), *((number, *columns) for _, *columns in change.events)]
    has_subject = connection.execute(SUBJECT, (number,)).fetchone() is not None
    return finished_message(message, recipients, events, change.now, has_subject=has_subject)


def _settle_general(connection: sqlite3.Connection, settlements: Sequence[Settlement]) -> None:
    changes = [(one.message.number, one.change) for one in settlements]
    states = [
        (number, position, *columns, change.now) for number, change in changes for position, columns in change.states
    ]
    events = [
        (number, position, *columns)
        for number, change in changes
        for position, (_, *columns) in enumerate(change.events)
    ]
    _write_rows(connection, CHANGE_RECIPIENTS, states)
    for one in settlements:
        if one.change.account is not None or one.change.lanes:
            _move(connection, one.message, one.change)
    _write_rows(connection, ADD_EVENTS, events)
    add(connection, [report for _, change in changes for report in change.reports])
    _write_rows(connection, ADD_JOBS, [row for _, change in changes for row in change.jobs])
    _write_rows(connection, SUM_UP, [(number, change.account, change.faults) for number, change in changes])
    _write_rows(connection, FINISH, [(number, change.now) for number, change in changes])
    _write_rows(connection, DROP_CONTENTS, [(number,) for number, _ in changes])
    for number, change in changes:
        if not change.leaves_history and connection.execute(IS_HISTORY, (number,)).fetchone() is not None:
            for statement in DELETE_MESSAGE:
                connection.execute(statement, (number,))


def _move(connection: sqlite3.Connection, message: LeasedMessage, change: RecipientChange) -> None:
    """Move the leased recipients to the lane of another account, and single ones to theirs."""
    if change.account is not None:
        lane = str(Lane.of_account(change.account))
        connection.execute(MOVE_LANE, (lane, message.number, message.lane))
    _write_rows(connection, MOVE_RECIPIENTS, [(message.number, position, lane) for position, lane in change.lanes])


def add_events(connection: sqlite3.Connection, number: int, events: Sequence[Event]) -> None:
    """Add these events to the history of a message."""
    columns = [rows.event_row(number, event)[1:] for event in events]
    _write_rows(connection, ADD_EVENTS, [(number, position, *each) for position, each in enumerate(columns)])


def hold(connection: sqlite3.Connection, message: LeasedMessage, why: str, event: Event, now: int) -> None:
    """Hold all recipients of an unreadable message that are not final. Nothing is deleted."""
    number = message.number
    generalise(connection, number, with_content=not message.has_damaged_page)
    connection.execute(HOLD_RECIPIENTS, (rows.clean(why), number))
    add_events(connection, number, [event])
    summary = Summary(*connection.execute(SUMMARY, (number,)).fetchone())
    held = Summary(0, max(summary.held, 1), None, None)
    connection.execute(CHANGE_MESSAGE, (None, 0, *held.columns(now), number))


def shift(connection: sqlite3.Connection, leases: Leases, step: int) -> None:
    """Move the times of all unfinished messages by `step` milliseconds."""
    leases.clear_cache()
    leases.shift(step)
    connection.execute(SHIFT_RECIPIENTS, (step,))
    connection.execute(SHIFT_MESSAGES, (step,))
    connection.execute(SHIFT_JOBS, (step,))
    connection.execute(new_messages.SHIFT, (step,))


# ---- cleanup ----


def delete_oldest_history(connection: sqlite3.Connection, limit: int) -> tuple[int, int]:
    """Delete the oldest histories, `limit` at most; return their number, and the octets that the database then uses."""
    return delete_history(connection, _FOREVER, limit), used_octets(connection)


def used_octets(connection: sqlite3.Connection) -> int:
    """The size of the database without its free pages."""
    size, pages, free = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in _SIZES)
    return int(size * (pages - free))


def delete_history(connection: sqlite3.Connection, before: int, limit: int) -> int:
    """Delete the oldest messages that were finished before then, `limit` of them; return their number.

    Of the last pack all messages are deleted, also above the limit.
    """
    deleted = 0
    single = connection.execute(OLD_HISTORY, (before, limit)).fetchall()
    packs = connection.execute(history_packs.OLDEST, (before, limit)).fetchall()
    for is_pack, (_, number, messages) in _oldest_first(single, packs):
        if deleted >= limit:
            break
        deleted += messages
        if is_pack:
            _delete_pack(connection, number)
        else:
            for statement in DELETE_MESSAGE:
                connection.execute(statement, (number,))
    return deleted


def _oldest_first(single: Sequence[Row], packs: Sequence[Row]) -> Iterator[tuple[bool, Row]]:
    """Both in the order of their ends; within each, the order is kept."""
    return merge(
        ((False, row) for row in single), ((True, row) for row in packs), key=lambda found: (found[1][0], found[0])
    )


def _delete_pack(connection: sqlite3.Connection, pack: int) -> None:
    for number in history_packs.numbers_with_subjects(connection, pack):
        for statement in DELETE_SUBJECT:
            connection.execute(statement, (number,))
    connection.execute(history_packs.DELETE, (pack,))


def orphans(connection: sqlite3.Connection, files: Iterable[str]) -> list[str]:
    """Those of the body files that belong to no message."""
    return [name for name in files if connection.execute(OWNER_OF_FILE, (name,)).fetchone() is None]


def shrink(connection: sqlite3.Connection, keep: int, limit: int) -> bool:
    """Return up to `limit` free pages to the file system; True if more than `keep` are left."""
    free: int = connection.execute("PRAGMA freelist_count").fetchone()[0]
    for _ in range(min(free - keep, limit)):
        connection.execute("PRAGMA incremental_vacuum(1)")  # one page each: sqlite3 executes one step
    return free - keep > limit
