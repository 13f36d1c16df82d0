"""Searches: messages, their events, totals of the queue.

Guarantees: each criterion has an index; the result is bounded by the limit. A row that was altered is shown as far as
it can be read, because operators search when something is wrong.
Not here: leases (spool.postgresql.claims).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from senderproxy.mail.address import AddressError
from senderproxy.mail.display import printable
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.subject import LEAST_BEGINNING, subject_words
from senderproxy.relay.ports import SpoolError, Totals
from senderproxy.spool.postgresql.connections import DatabaseConnection
from senderproxy.spool.sqlite import rows
from senderproxy.spool.sqlite.new_messages import event_rows
from senderproxy.spool.sqlite.rows import Row
from senderproxy.spool.sqlite.shown_rows import shown_address, shown_client, shown_state
from senderproxy.tracking.age_buckets import AGE_BUCKETS, AGE_LIMITS
from senderproxy.tracking.record import Event, HourCount, Lane, MessageRecord, Query, RecipientStatus


@dataclass(frozen=True, slots=True)
class Tables:
    """Tables for a search of messages: the general ones, or the history. The names are those of the statements."""

    message: str
    recipient: str
    word: str
    same: str = ""  # a further condition for a recipient of a message
    records: str = ""
    recipients: str = ""


_RECORD: Final = "number, id, received_at, client, listener, reverse_path, author, account, size, message_id, report_on"
_RECIPIENT: Final = "tries, reply, why, delay_reported, lane"
QUEUE: Final = Tables(
    "message",
    "recipient",
    "subject_word",
    records=(
        f"SELECT {_RECORD}, EXISTS (SELECT 1 FROM lease WHERE lease.message = message.number),"
        " (SELECT text FROM subject WHERE subject.message = message.number)"
        " FROM message WHERE number = ANY($1::bigint[])"
    ),
    recipients=(
        f"SELECT message, address, fate, due_at, {_RECIPIENT}"
        " FROM recipient WHERE message = ANY($1::bigint[]) ORDER BY message, position"
    ),
)
HISTORY: Final = Tables(
    "history",
    "history_recipient",
    "history_word",
    same=" AND {}.finished_at = message.finished_at",
    records=f"SELECT {_RECORD}, false, subject FROM history WHERE number = ANY($1::bigint[])",
    recipients=(
        f"SELECT message, address, fate, NULL::bigint, {_RECIPIENT}"
        " FROM history_recipient WHERE message = ANY($1::bigint[]) ORDER BY message, position"
    ),
)
# Of the transaction of a search: a message may be moved between two of its statements; each partition is joined by
# itself; a small one is not read as a whole either.
SETTINGS: Final = (
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;"
    " SET LOCAL enable_partitionwise_join = on; SET LOCAL enable_seqscan = off"
)
NUMBER: Final = "SELECT number FROM message WHERE id = $1 UNION ALL SELECT number FROM history WHERE id = $1 LIMIT 1"
EVENTS: Final = (
    "SELECT at, what, recipients, facts FROM event"
    " WHERE message = (SELECT number FROM message WHERE id = $1) ORDER BY number"
)
HISTORY_EVENTS: Final = "SELECT events FROM history WHERE id = $1 LIMIT 1"
HEADER: Final = "SELECT header FROM content WHERE message = (SELECT number FROM message WHERE id = $1)"
# These two read all unfinished messages, and no others: the totals need them all.
WAITING: Final = (  # one row for each account and age bucket: $2 has the limits in milliseconds, as in age_bucket
    "SELECT account, width_bucket($1 - received_at - 1, $2::bigint[]), count(*) FILTER (WHERE held = 0),"
    " count(*) FILTER (WHERE held > 0), sum(size)::bigint, min(received_at)"
    " FROM message WHERE finished_at IS NULL GROUP BY 1, 2"
)
REASONS: Final = (
    "SELECT message.account, recipient.reply, recipient.why, recipient.fate, count(*)"
    " FROM message JOIN recipient ON recipient.message = message.number"
    " WHERE message.finished_at IS NULL AND recipient.fate IN ('waiting', 'held') GROUP BY 1, 2, 3, 4"
)
BY_HOUR: Final = (
    "SELECT received_at / 3600000, fate, count(*) FROM ("
    "SELECT message.received_at, recipient.fate FROM message JOIN recipient ON recipient.message = message.number"
    " WHERE message.received_at >= $1 UNION ALL "
    "SELECT message.received_at, recipient.fate FROM history AS message JOIN history_recipient AS recipient"
    " ON recipient.message = message.number AND recipient.finished_at = message.finished_at"
    " WHERE message.received_at >= $1) AS found GROUP BY 1, 2 ORDER BY 1, 2"
)

_UNFINISHED: Final = (RecipientStatus.WAITING.value, RecipientStatus.HELD.value)
_STATUSES: Final = frozenset(status.value for status in RecipientStatus)
_HOUR: Final = 3_600_000  # milliseconds
_REASONS: Final = 5  # shown for each account: the most frequent ones
_BEHIND_ALL: Final = "\U0010ffff"  # behind every character of a word
_LAST: Final = 2**62  # above every row number and every time


@dataclass(slots=True)
class SearchText:
    """A query as SQL: conditions on the message, and conditions on one recipient of it."""

    tables: Tables = QUEUE
    of_message: list[str] = field(default_factory=list)
    of_recipient: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def value(self, value: object) -> str:
        """The placeholder of a value."""
        self.values.append(value)
        return f"${len(self.values)}"

    def text(self, after: int, limit: int, *, oldest_first: bool) -> str:
        """The SELECT of the matching numbers, in order, after the number `after`."""
        beyond, order = (">", "ASC") if oldest_first else ("<", "DESC")
        conditions = [f"message.number {beyond} {self.value(after)}", *self.of_message]
        if self.of_recipient:
            fits = f"recipient.message = message.number{self.tables.same.format('recipient')}"
            fits = " AND ".join([fits, *self.of_recipient])
            conditions.append(f"EXISTS (SELECT 1 FROM {self.tables.recipient} AS recipient WHERE {fits})")
        return (
            f"SELECT message.number FROM {self.tables.message} AS message WHERE {' AND '.join(conditions)}"
            f" ORDER BY message.number {order} LIMIT {self.value(limit)}"
        )


def search_statement(query: Query, tables: Tables) -> SearchText | None:
    """The query as SQL; None if nothing can match: an address in it is invalid, or its subject has no word."""
    statement = SearchText(tables)
    try:
        _add_recipient_conditions(query, statement)
        _add_message_conditions(query, statement)
    except AddressError:
        return None
    if query.subject is not None and not _add_subject_conditions(query.subject, statement):
        return None
    return statement


def _add_recipient_conditions(query: Query, statement: SearchText) -> None:
    if query.upstream_id is not None:
        statement.of_recipient.append(f"recipient.upstream_id = {statement.value(query.upstream_id)}")
    if query.recipient is not None:
        first, end = (statement.value(key) for key in _range_of(query.recipient))
        statement.of_recipient.append(f"recipient.key >= {first} AND recipient.key < {end}")
    if query.status is not None:
        statement.of_recipient.append(f"recipient.fate = '{query.status.value}'")  # in the text: for partial indexes


def _add_message_conditions(query: Query, statement: SearchText) -> None:
    if query.id is not None:
        one, other = statement.value(query.id), statement.value([query.id, f"<{query.id}>"])
        statement.of_message.append(f"(message.id = {one} OR message.message_id = ANY({other}::text[]))")
    if query.sender is not None:
        first, end = (statement.value(key) for key in _range_of(query.sender))
        statement.of_message.append(
            f"((message.author_key >= {first} AND message.author_key < {end})"
            f" OR (message.reverse_key >= {first} AND message.reverse_key < {end}))"
        )
    if query.account is not None:
        statement.of_message.append(f"message.account = {statement.value(query.account)}")
    if query.unfinished:
        statement.of_message.append("message.finished_at IS NULL")
    for time, operator in ((query.since, ">="), (query.until, "<")):
        if time is not None:
            statement.of_message.append(f"message.received_at {operator} {statement.value(rows.to_ms(time))}")


def _range_of(text: str) -> tuple[str, str]:
    """As rows.range_of; the first text behind another one, without the octet 0. Raises AddressError."""
    first, end = rows.range_of(text)
    return first, end.replace("\0", "\x01")


def _add_subject_conditions(subject: str, statement: SearchText) -> bool:
    """Each word of the search, or a longer one that begins with it. False if there is no word."""
    words = subject_words(subject)
    for word in words:
        end = word + (_BEHIND_ALL if len(word) >= LEAST_BEGINNING else " ")
        statement.of_message.append(
            f"EXISTS (SELECT 1 FROM {statement.tables.word} AS subject_word"
            f" WHERE subject_word.message = message.number{statement.tables.same.format('subject_word')}"
            f" AND word >= {statement.value(word)} AND word < {statement.value(end)})"
        )
    return bool(words)


async def find(
    connection: DatabaseConnection, query: Query, limit: int, after: str | None, now: int
) -> list[MessageRecord]:
    """The records of the matching messages, at most `limit`, after the message with the id `after`.

    `now`: milliseconds since 1970.
    """
    await connection.execute(SETTINGS)
    start = -1 if query.unfinished else _LAST
    if after is not None:
        start = await connection.fetchval(NUMBER, after)
        if start is None:
            return []
    found: list[tuple[int, MessageRecord]] = []
    for tables in (QUEUE,) if query.unfinished else (QUEUE, HISTORY):
        statement = search_statement(query, tables)
        if statement is not None:
            text = statement.text(start, limit, oldest_first=query.unfinished)
            numbers = [row[0] for row in await connection.fetch(text, *statement.values)]
            found += await _records(connection, tables, numbers, now)
    found.sort(key=lambda one: one[0], reverse=not query.unfinished)
    return [record for _number, record in found[:limit]]


async def _records(
    connection: DatabaseConnection, tables: Tables, numbers: Sequence[int], now: int
) -> list[tuple[int, MessageRecord]]:
    """The numbers and records of these messages."""
    if not numbers:
        return []
    recipients: dict[int, list[Row]] = {number: [] for number in numbers}
    for row in await connection.fetch(tables.recipients, numbers):
        recipients[row[0]].append(tuple(row)[1:])
    records = await connection.fetch(tables.records, numbers)
    return [(row[0], _record(tuple(row), recipients[row[0]], now)) for row in records]


def _record(row: Row, recipients: Sequence[Row], now: int) -> MessageRecord:
    _number, ident, received_at, client, listener, reverse_path, author, account, size, message_id, report_on = row[:11]
    is_leased, subject = row[11:]
    home = str(Lane.of_account(account))
    return MessageRecord(
        id=ident,
        received_at=rows.from_ms(received_at),
        client=shown_client(client),
        listener=listener,
        reverse_path=reverse_path,
        author=author,
        account=account,
        size=size,
        message_id=message_id or "",
        report_on=report_on,
        recipients={shown_address(columns[0]): shown_state(columns[1:], now) for columns in recipients},
        as_of=rows.from_ms(now),
        lanes={
            shown_address(columns[0]): Lane.parse(columns[7])
            for columns in recipients
            if columns[1] in _UNFINISHED and columns[7] != home
        },
        leased=is_leased,
        subject="" if subject is None else printable(subject),
    )


async def events(connection: DatabaseConnection, message_id: str) -> Sequence[Event]:
    """The events of a message, in order. Raises SpoolError if one is unreadable."""
    found = [tuple(row) for row in await connection.fetch(EVENTS, message_id)]
    try:
        if not found and (text := await connection.fetchval(HISTORY_EVENTS, message_id)) is not None:
            found = [row[1:] for row in event_rows(0, text)]
        return [rows.event_of(row) for row in found]
    except (ValueError, TypeError, OverflowError) as error:
        raise SpoolError(f"the events of message {message_id} are unreadable ({error})") from error


async def header(connection: DatabaseConnection, message_id: str) -> HeaderSection | None:
    """A message's header section as it was received; None if its content was deleted."""
    raw: bytes | None = await connection.fetchval(HEADER, message_id)
    return None if raw is None else HeaderSection(raw)


async def counts_by_hour(connection: DatabaseConnection, since: datetime) -> Sequence[HourCount]:
    """The recipients of the messages received since then, by hour and status. An unreadable row is left out."""
    return [
        HourCount(rows.from_ms(hour * _HOUR), RecipientStatus(status), count)
        for hour, status, count in await connection.fetch(BY_HOUR, rows.to_ms(since))
        if status in _STATUSES
    ]


@dataclass(slots=True)
class _AccountSum:
    waiting: int = 0
    held: int = 0
    size: int = 0
    oldest: int = _LAST
    ages: list[int] = field(default_factory=lambda: [0] * AGE_BUCKETS)
    reasons: dict[str, int] = field(default_factory=dict)


async def totals(connection: DatabaseConnection, now: int) -> Sequence[Totals]:
    """The totals of each account. A message with a held recipient counts as held. `now`: milliseconds since 1970."""
    sums: dict[str, _AccountSum] = {}
    limits = [rows.span_ms(limit) for limit in AGE_LIMITS]
    for account, bucket, waiting, held, size, oldest in await connection.fetch(WAITING, now, limits):
        one = sums.setdefault(account, _AccountSum())
        one.held += held
        one.waiting += waiting
        one.size += size
        one.oldest = min(one.oldest, oldest)
        one.ages[bucket] += waiting + held
    for account, reply, why, status, count in await connection.fetch(REASONS):
        if account in sums and (words := _reason(reply, why, status)):
            reasons = sums[account].reasons
            reasons[words] = reasons.get(words, 0) + count
    return [_total(account, one) for account, one in sorted(sums.items())]


def _reason(reply: str | None, why: str, status: str) -> str:
    if status == RecipientStatus.HELD.value and why:
        return why
    try:
        return "" if reply is None else rows.reply_of(reply).reason
    except (ValueError, TypeError):
        return ""


def _total(account: str, one: _AccountSum) -> Totals:
    return Totals(
        account=account,
        waiting=one.waiting,
        held=one.held,
        size=one.size,
        oldest=rows.from_ms(one.oldest),
        by_age=tuple(one.ages),
        reasons=dict(sorted(one.reasons.items(), key=lambda item: (-item[1], item[0]))[:_REASONS]),
    )
