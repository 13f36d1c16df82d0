"""Statements that write messages: new ones, and changes of leased ones.

Guarantees: each change of recipients is also made in their message's summary, in the same transaction. The cost of one
message does not depend on the number of waiting ones.
Not here: transactions (spool.postgresql.connections), leases (spool.postgresql.claims).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from zlib import crc32

from senderproxy.mail.message import Body
from senderproxy.relay.ports import NewJob
from senderproxy.spool.postgresql.connections import DatabaseConnection
from senderproxy.spool.postgresql.content import ADD_PART, PART, checksum_before_body, write_parts
from senderproxy.spool.postgresql.history_rows import (
    ADD_HISTORY,
    ADD_HISTORY_RECIPIENTS,
    ADD_HISTORY_WORDS,
    end_message,
    finished_at,
    forget,
    history_recipients,
    history_row,
    history_words,
)
from senderproxy.spool.sqlite import rows
from senderproxy.spool.sqlite.rows import MESSAGE_COLUMNS, STATE_COLUMNS, SUMMARY_COLUMNS, ArrivalRows, Row
from senderproxy.tracking.record import Event, Lane, RecipientStatus

FINAL: Final = f"({', '.join(repr(status.value) for status in RecipientStatus if status.is_final)})"


def _places(count: int) -> str:
    return ", ".join(f"${place}" for place in range(1, count + 1))


NUMBERS: Final = "SELECT nextval('message_number') FROM generate_series(1, $1::integer)"
ADD_MESSAGES: Final = (
    f"INSERT INTO message ({MESSAGE_COLUMNS}, author_key, reverse_key, faults, {SUMMARY_COLUMNS})"
    f" VALUES ({_places(22)})"
)
ADD_RECIPIENTS: Final = (
    f"INSERT INTO recipient (message, position, address, key, {STATE_COLUMNS}, upstream_id, lane)"
    f" VALUES ({_places(12)})"
)
ADD_EVENTS: Final = f"INSERT INTO event (message, at, what, recipients, facts) VALUES ({_places(5)})"
ADD_CONTENT: Final = (
    f"INSERT INTO content (message, header, size, checksum, is_ascii, has_long_lines) VALUES ({_places(6)})"
)
ADD_SUBJECTS: Final = "INSERT INTO subject (message, text) VALUES ($1, $2)"
ADD_SUBJECT_WORDS: Final = "INSERT INTO subject_word (word, message) VALUES ($1, $2)"
ADD_JOBS: Final = (
    "INSERT INTO job (kind, lane, added_at, due_at, attempts, why, payload, message, holds_content, seal)"
    f" VALUES ({_places(10)})"
)
LOCK_MESSAGE: Final = "SELECT number FROM message WHERE number = $1 FOR NO KEY UPDATE"
CHANGE_RECIPIENTS: Final = (
    # A waiting recipient without a new due time keeps its own; one that was held is due now.
    "UPDATE recipient SET fate = $3,"
    " due_at = CASE WHEN $3 = 'waiting' THEN coalesce($4::bigint, due_at, $10::bigint) END,"
    " tries = $5, reply = $6, why = $7, delay_reported = $8, upstream_id = $9 WHERE message = $1 AND position = $2"
)
MOVE_LANE: Final = (
    f"UPDATE recipient SET lane = $1 WHERE message = $2 AND fate NOT IN {FINAL} AND ($3 = '' OR lane = $3)"
)
MOVE_RECIPIENTS: Final = "UPDATE recipient SET lane = $3 WHERE message = $1 AND position = $2"
HOLD_RECIPIENTS: Final = (
    f"UPDATE recipient SET fate = 'held', due_at = NULL, why = $1 WHERE message = $2 AND fate NOT IN {FINAL}"
)
SUM_UP: Final = (
    "UPDATE message SET account = coalesce($2, account), faults = $3, waiting = s.waiting, held = s.held,"
    " due_at = s.due_at, undelayed = s.undelayed,"
    " finished_at = CASE WHEN s.waiting = 0 AND s.held = 0 THEN $4::bigint END"
    " FROM (SELECT count(*) FILTER (WHERE fate = 'waiting') AS waiting,"
    f" count(*) FILTER (WHERE fate <> 'waiting' AND fate NOT IN {FINAL}) AS held,"
    " min(due_at) FILTER (WHERE fate = 'waiting') AS due_at,"
    " max(1) FILTER (WHERE fate = 'waiting' AND delay_reported = 0) AS undelayed"
    " FROM recipient WHERE message = $1) AS s WHERE number = $1"
)


@dataclass(frozen=True, slots=True)
class AddedMessage:
    """All rows of one new message. `body` is None if only its history is stored."""

    rows: ArrivalRows
    header: bytes = b""
    body: Body | None = None
    jobs: Sequence[Row] = ()

    @property
    def number(self) -> int:
        """The message's number, which orders it by submission."""
        number: int = self.rows.message[0]
        return number

    @property
    def is_history(self) -> bool:
        """True if it is final, and has no job that needs it."""
        return finished_at(self.rows) is not None and not self.jobs


def storable(row: Sequence[Any]) -> Row:
    """The row without the octet 0 in texts, which PostgreSQL does not store."""
    return tuple(value.replace("\0", "\\0") if isinstance(value, str) and "\0" in value else value for value in row)


async def numbers(connection: DatabaseConnection, count: int) -> list[int]:
    """Numbers for new messages, in order."""
    return [row[0] for row in await connection.fetch(NUMBERS, count)]


async def add(connection: DatabaseConnection, messages: Sequence[AddedMessage]) -> None:
    """Insert new messages. Raises OSError if a body cannot be read."""
    await _add_history(connection, [one.rows for one in messages if one.is_history])
    await _add_unfinished(connection, [one for one in messages if not one.is_history])


async def _add_history(connection: DatabaseConnection, messages: Sequence[ArrivalRows]) -> None:
    await _many(connection, ADD_HISTORY, [history_row(one) for one in messages])
    await _many(connection, ADD_HISTORY_RECIPIENTS, [row for one in messages for row in history_recipients(one)])
    await _many(connection, ADD_HISTORY_WORDS, [row for one in messages for row in history_words(one)])


async def _add_unfinished(connection: DatabaseConnection, messages: Sequence[AddedMessage]) -> None:
    await _many(connection, ADD_MESSAGES, [one.rows.message for one in messages])
    await _many(connection, ADD_RECIPIENTS, [row for one in messages for row in one.rows.recipients])
    await _many(connection, ADD_EVENTS, [row for one in messages for row in one.rows.events])
    await _add_contents(connection, [(one.number, one.header, one.body) for one in messages if one.body is not None])
    await _many(connection, ADD_JOBS, [row for one in messages for row in one.jobs])
    await _many(connection, ADD_SUBJECTS, [one.rows.subject for one in messages if one.rows.subject is not None])
    await _many(connection, ADD_SUBJECT_WORDS, [row for one in messages for row in one.rows.words])


async def _add_contents(connection: DatabaseConnection, contents: Sequence[tuple[int, bytes, Body]]) -> None:
    """Small bodies in memory are one batch for all messages; each other body is written part by part."""
    parts: list[Row] = []
    lines: list[Row] = []
    for number, header, body in contents:
        before = checksum_before_body(header, body.size, body.is_ascii, body.has_long_lines)
        if body.disk is None and body.size <= PART:
            octets = b"".join(body.blocks())
            size, checksum = len(octets), crc32(octets, before)
            parts += [(number, 0, octets)] if octets else []
        else:
            size, checksum = await write_parts(connection, number, body, before)
        if size != body.size:
            raise OSError("a message is shorter than it was when received")
        lines.append((number, header, size, checksum, int(body.is_ascii), int(body.has_long_lines)))
    await _many(connection, ADD_PART, parts)
    await _many(connection, ADD_CONTENT, lines)


async def _many(connection: DatabaseConnection, statement: str, lines: Sequence[Sequence[Any]]) -> None:
    if len(lines) == 1:
        await connection.execute(statement, *storable(lines[0]))
    elif lines:
        await connection.executemany(statement, [storable(line) for line in lines])


# ---- changes ----


@dataclass(frozen=True, slots=True)
class LeasedChange:
    """A SpoolUpdate as rows. `states`: (position, columns) of the recipients that change; `lanes`: (position, lane)."""

    states: Sequence[tuple[int, Row]]
    events: Sequence[Row]
    account: str | None
    faults: int  # internal errors in a row
    now: int  # milliseconds since 1970
    lanes: Sequence[tuple[int, str]] = ()
    jobs: Sequence[Row] = ()
    leaves_history: bool = True


async def change(connection: DatabaseConnection, number: int, lane: str, update: LeasedChange) -> None:
    """Write a change of leased recipients. `lane`: of the lease; empty: all."""
    states = [(number, position, *columns, update.now) for position, columns in update.states]
    await _many(connection, CHANGE_RECIPIENTS, states)
    if update.account is not None:
        await connection.execute(MOVE_LANE, str(Lane.of_account(update.account)), number, lane)
    await _many(connection, MOVE_RECIPIENTS, [(number, position, to) for position, to in update.lanes])
    await _many(connection, ADD_EVENTS, update.events)
    await _many(connection, ADD_JOBS, update.jobs)
    await connection.execute(SUM_UP, number, update.account, update.faults, update.now)
    if await end_message(connection, number) and not update.leaves_history:
        await forget(connection, number, update.now)


async def add_events(connection: DatabaseConnection, number: int, events: Sequence[Event]) -> None:
    """Add these events to the history of a message."""
    await _many(connection, ADD_EVENTS, [rows.event_row(number, event) for event in events])


async def hold(connection: DatabaseConnection, number: int, why: str, event: Event) -> None:
    """Hold all recipients of an unreadable message that are not final. Nothing is deleted."""
    await connection.execute(HOLD_RECIPIENTS, *storable((rows.clean(why), number)))
    await add_events(connection, number, [event])
    await connection.execute(SUM_UP, number, None, 0, None)


# ---- jobs ----


def job_row(job: NewJob, message: int | None, now: int) -> Row:
    """kind, lane, added_at, due_at, attempts, why, payload, message, holds_content, seal."""
    fixed = (job.kind, str(job.lane), job.payload, message, int(job.holds_content))
    return (*fixed[:2], now, now + rows.span_ms(job.due_in), 0, "", *fixed[2:], job_seal(fixed))


def job_seal(fixed: Row) -> int:
    """CRC-32 of what never changes in a job: kind, lane, payload, message, holds_content."""
    return crc32(repr(fixed).encode("utf-8", "backslashreplace"))
