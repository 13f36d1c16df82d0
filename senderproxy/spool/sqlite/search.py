"""Searches: messages, their events, totals of the queue. Runs on the reader's connection.

Guarantees: each criterion uses an index; the result is bounded by the limit. A row that a damaged disk has altered is
shown as far as it can be read, because operators search when something is wrong.
Not here: leases (spool.sqlite.leases), the connection and its thread (spool.sqlite.reader).
"""

import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, Final

from senderproxy.mail.address import Address, AddressError
from senderproxy.mail.display import printable
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.subject import LEAST_BEGINNING, subject_words
from senderproxy.relay.ports import Totals
from senderproxy.spool.sqlite import history_packs, new_messages, other_tables, rows
from senderproxy.spool.sqlite.history_packs import PackedRecord
from senderproxy.spool.sqlite.leases import Leases
from senderproxy.spool.sqlite.rows import Row, UnreadableRow
from senderproxy.spool.sqlite.shown_rows import shown_address, shown_client, shown_state
from senderproxy.tracking.age_buckets import AGE_BUCKETS, age_bucket
from senderproxy.tracking.record import Event, HourCount, Lane, MessageRecord, Query, RecipientState, RecipientStatus

NUMBER: Final = "SELECT number FROM message INDEXED BY message_by_id WHERE id = ?"
RECORD: Final = (
    "SELECT number, id, received_at, client, listener, reverse_path, author, account, size, message_id, report_on"
    " FROM message WHERE number = ?"
)
RECIPIENTS: Final = (
    "SELECT address, fate, due_at, tries, reply, why, delay_reported, lane"
    " FROM recipient WHERE message = ? ORDER BY position"
)
SUBJECT: Final = "SELECT text FROM subject WHERE message = ?"
OPEN_OCTETS: Final = (
    "SELECT coalesce(sum(size), 0) FROM message INDEXED BY message_open WHERE finished_at IS NULL AND size <= ?"
)
HELD_OCTETS: Final = (
    "SELECT coalesce(sum(size), 0) FROM message WHERE number IN (SELECT message FROM job INDEXED BY job_by_message"
    " WHERE message IS NOT NULL AND holds_content) AND finished_at IS NOT NULL AND size <= ?"
)
EVENTS: Final = (
    "SELECT at, what, recipients, facts FROM event"
    " WHERE message = (SELECT number FROM message INDEXED BY message_by_id WHERE id = ?) ORDER BY position"
)
HEADER: Final = (
    "SELECT header FROM content WHERE message = (SELECT number FROM message INDEXED BY message_by_id WHERE id = ?)"
)
# These two read all waiting messages, and no others: the totals need them all.
WAITING: Final = (
    "SELECT account, waiting, held, size, received_at FROM message INDEXED BY message_open WHERE finished_at IS NULL"
)
REASONS: Final = (
    "SELECT message.account, recipient.reply, recipient.why, recipient.fate"
    " FROM message INDEXED BY message_open CROSS JOIN recipient ON recipient.message = message.number"
    " WHERE message.finished_at IS NULL AND recipient.fate IN ('waiting', 'held')"
)
# All messages since a time: 100,000 recipients take a quarter of a second on the reader's thread.
BY_HOUR: Final = (
    "SELECT message.received_at / 3600000, recipient.fate, count(*)"
    " FROM message INDEXED BY message_by_time CROSS JOIN recipient ON recipient.message = message.number"
    " WHERE message.received_at >= ? GROUP BY 1, 2 ORDER BY 1, 2"
)

_UNFINISHED: Final = (RecipientStatus.WAITING.value, RecipientStatus.HELD.value)
_STATUSES: Final = frozenset(status.value for status in RecipientStatus)
_HOUR: Final = 3_600_000  # milliseconds
_REASONS: Final = 5  # shown for each account: the most frequent ones
_BEHIND_ALL: Final = "\U0010ffff"  # behind every character of a word
_LAST: Final = 2**62  # above every row number and every time


@dataclass(slots=True)
class SearchStatement:
    """A query as SQL: conditions on the message, and conditions on one recipient of it.

    `lead` is the index that is searched first because it narrows most; the other conditions are checked on what it
    finds. The database does not choose: it would take an open range of numbers for a narrow condition.
    """

    of_message: list[str] = field(default_factory=list)
    of_recipient: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    lead: str = ""

    def text(self, oldest_first: bool) -> str:
        """The SELECT of the matching numbers, in order, after the number `:after`."""
        beyond, order = (">", "ASC") if oldest_first else ("<", "DESC")
        if self.lead.startswith("recipient"):
            conditions = [*self.of_recipient, f"{self._number('recipient.message')} {beyond} :after", *self.of_message]
            return (
                f"SELECT recipient.message FROM recipient INDEXED BY {self.lead}"
                " CROSS JOIN message ON message.number = recipient.message"
                f" WHERE {' AND '.join(conditions)} GROUP BY recipient.message ORDER BY recipient.message {order}"
                " LIMIT :limit"
            )
        conditions = [f"{self._number('message.number')} {beyond} :after", *self.of_message]
        if self.of_recipient:
            fits = " AND ".join(["recipient.message = message.number", *self.of_recipient])
            conditions.append(f"EXISTS (SELECT 1 FROM recipient WHERE {fits})")
        hint = f" INDEXED BY {self.lead}" if self.lead in _IN_ORDER or self.lead == "message_by_time" else ""
        return (
            f"SELECT message.number FROM message{hint} WHERE {' AND '.join(conditions)}"
            f" ORDER BY message.number {order} LIMIT :limit"
        )

    def _number(self, column: str) -> str:
        """With a plus, the column is compared only, and its index is not used."""
        return column if not self.lead or self.lead in _IN_ORDER else f"+{column}"


# Indexes that have the messages of one value in the order of their numbers.
_IN_ORDER: Final = frozenset({"message_by_account", "message_open", "recipient_by_upstream_id", "recipient_by_fate"})


def search_statement(query: Query) -> SearchStatement | None:
    """The query as SQL; None if nothing can match: an address in it is invalid, or its subject has no word."""
    statement = SearchStatement()
    try:
        _add_recipient_conditions(query, statement)
        _add_message_conditions(query, statement)
    except AddressError:
        return None
    if query.subject is not None and not _add_subject_conditions(query.subject, statement):
        return None
    leads = (
        ("numbers", query.id),
        ("recipient_by_upstream_id", query.upstream_id),
        ("recipient_by_address", query.recipient),
        ("numbers", query.sender),
        ("numbers", query.subject),
        ("recipient_by_fate", None if query.status is None or query.status.is_final else query.status),
        ("message_open", query.unfinished or None),
        ("recipient_by_fate", query.status),
        ("message_by_account", query.account),
        ("message_by_time", query.since or query.until),
    )
    statement.lead = next((lead for lead, given in leads if given is not None), "")
    return statement


def _add_recipient_conditions(query: Query, statement: SearchStatement) -> None:
    if query.upstream_id is not None:
        statement.of_recipient.append("recipient.upstream_id = :upstream_id")
        statement.values["upstream_id"] = query.upstream_id
    if query.recipient is not None:
        statement.values["recipient"], statement.values["recipient_end"] = rows.range_of(query.recipient)
        statement.of_recipient.append("recipient.key >= :recipient AND recipient.key < :recipient_end")
    if query.status is not None:
        statement.of_recipient.append("recipient.fate = :fate")
        statement.values["fate"] = query.status.value


def _add_message_conditions(query: Query, statement: SearchStatement) -> None:
    if query.id is not None:
        statement.of_message.append(
            "message.number IN (SELECT number FROM message INDEXED BY message_by_id WHERE id = :id UNION ALL"
            " SELECT number FROM message INDEXED BY message_by_message_id WHERE message_id IN (:id, '<' || :id || '>'))"
        )
        statement.values["id"] = query.id
    if query.sender is not None:
        statement.values["sender"], statement.values["sender_end"] = rows.range_of(query.sender)
        statement.of_message.append(
            "message.number IN (SELECT number FROM message INDEXED BY message_by_author"
            " WHERE author_key >= :sender AND author_key < :sender_end UNION ALL"
            " SELECT number FROM message INDEXED BY message_by_reverse_path"
            " WHERE reverse_key >= :sender AND reverse_key < :sender_end)"
        )
    if query.account is not None:
        statement.of_message.append("message.account = :account")
        statement.values["account"] = query.account
    if query.unfinished:
        statement.of_message.append("message.finished_at IS NULL")
    for name, time, operator in (("since", query.since, ">="), ("until", query.until, "<")):
        if time is not None:
            statement.of_message.append(f"message.received_at {operator} :{name}")
            statement.values[name] = rows.to_ms(time)


def _add_subject_conditions(subject: str, statement: SearchStatement) -> bool:
    """Each word of the search, or a longer one that begins with it. False if there is no word."""
    words = sorted(subject_words(subject), key=len, reverse=True)
    for number, word in enumerate(words):
        name = f"word{number}"
        statement.values[name] = word
        statement.values[f"{name}_end"] = word + (_BEHIND_ALL if len(word) >= LEAST_BEGINNING else "\0")
        if number == 0:  # the longest one, which fewest messages have
            statement.of_message.append(
                f"message.number IN (SELECT message FROM subject_word WHERE word >= :{name} AND word < :{name}_end)"
            )
        else:
            statement.of_message.append(
                "EXISTS (SELECT 1 FROM subject_word INDEXED BY subject_word_by_message"
                f" WHERE subject_word.message = message.number AND word >= :{name} AND word < :{name}_end)"
            )
    return bool(words)


def find(
    connection: sqlite3.Connection, leases: Leases, query: Query, limit: int, after: str | None, now: int
) -> list[MessageRecord]:
    """The records of the matching messages, at most `limit`, after the message with the id `after`.

    `now`: milliseconds since 1970.
    """
    statement = search_statement(query)
    if statement is None:
        return []
    with _one_moment(connection):
        start = (-1 if query.unfinished else _LAST) if after is None else _number(connection, after)
        if start is None:
            return []
        values = {**statement.values, "after": start, "limit": limit}
        numbers = connection.execute(statement.text(query.unfinished), values).fetchall()
        found: dict[int, PackedRecord | None] = dict.fromkeys(number for (number,) in numbers)
        new = other_tables.new_messages_that_fit(connection, query, limit, start)
        packed = other_tables.packed_messages_that_fit(connection, query, limit, start)
        found |= {record.number: record for record in (*new, *packed)}
        first = sorted(found, reverse=not query.unfinished)[:limit]
        waiting = {record.number for record in new}
        records: list[MessageRecord | None] = []
        for number in first:
            record = found[number]
            if record is None:
                records.append(_record(connection, leases, number, now))
            else:
                due_at = record.received_at if number in waiting else None
                records.append(_record_of(connection, leases, record, due_at, now))
        return [record for record in records if record is not None]


@contextmanager
def _one_moment(connection: sqlite3.Connection) -> Iterator[None]:
    """All tables as they were at one moment: messages move between them."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("COMMIT")


def _number(connection: sqlite3.Connection, message_id: str) -> int | None:
    for statement in (NUMBER, new_messages.NUMBER):
        row = connection.execute(statement, (message_id,)).fetchone()
        if row is not None:
            return int(row[0])
    packed = history_packs.find_id(connection, message_id)
    return None if packed is None else packed.number


def _record_of(
    connection: sqlite3.Connection, leases: Leases, found: PackedRecord, due_at: int | None, now: int
) -> MessageRecord:
    """The record of a message in a pack, or of a new one."""
    home = str(Lane.of_account(found.account))
    recipients: dict[Address, RecipientState] = {}
    for address, fate, tries, why, delay_reported, _upstream_id, reply in found.recipients:
        columns = (fate, due_at, tries, history_packs.reply_text(reply), why, delay_reported)
        recipients[shown_address(address)] = shown_state(columns, now)
    return MessageRecord(
        id=found.id,
        received_at=rows.from_ms(found.received_at),
        client=shown_client(found.client),
        listener=found.listener,
        reverse_path=found.reverse_path,
        author=found.author,
        account=found.account,
        size=found.size,
        message_id=found.message_id or "",
        report_on=found.report_on,
        recipients=recipients,
        as_of=rows.from_ms(now),
        lanes=dict.fromkeys(recipients, Lane.parse(found.lane)) if found.lane not in ("", home) else {},
        leased=found.number in leases,
        subject=_subject(connection, found.number),
    )


def _record(connection: sqlite3.Connection, leases: Leases, number: int, now: int) -> MessageRecord | None:
    row = connection.execute(RECORD, (number,)).fetchone()
    if row is None:  # deleted meanwhile
        return None
    _number, ident, received_at, client, listener, reverse_path, author, account, size, message_id, report_on = row
    recipients = connection.execute(RECIPIENTS, (number,)).fetchall()
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
            shown_address(columns[0]): Lane.parse(str(columns[7]))
            for columns in recipients
            if columns[1] in _UNFINISHED and columns[7] != home
        },
        leased=number in leases,
        subject=_subject(connection, number),
    )


def _subject(connection: sqlite3.Connection, number: int) -> str:
    row = connection.execute(SUBJECT, (number,)).fetchone()
    return "" if row is None else printable(str(row[0]))


def events(connection: sqlite3.Connection, message_id: str) -> Sequence[Event]:
    """The events of a message, in order. Raises UnreadableRow."""
    try:
        with _one_moment(connection):
            return [rows.event_of(columns) for columns in _event_columns(connection, message_id)]
    except (ValueError, TypeError, OverflowError) as error:
        raise UnreadableRow(f"the events of message {message_id} are unreadable ({error})") from error


def _event_columns(connection: sqlite3.Connection, message_id: str) -> Sequence[Row]:
    """at, what, recipients, facts of each event. Raises ValueError, TypeError, UnreadableRow."""
    if found := connection.execute(EVENTS, (message_id,)).fetchall():
        return found
    if new := connection.execute(new_messages.EVENTS, (message_id,)).fetchone():
        return [columns[1:] for columns in new_messages.event_rows(0, new[0])]
    packed = history_packs.find_id(connection, message_id)
    found_events = () if packed is None else packed.events
    return [(at, what, rows.json_text(people), rows.json_text(facts)) for at, what, people, facts in found_events]


def header(connection: sqlite3.Connection, message_id: str) -> HeaderSection | None:
    """A message's header section as it was received; None if its content was deleted."""
    with _one_moment(connection):
        row = connection.execute(HEADER, (message_id,)).fetchone()
        row = row or connection.execute(new_messages.HEADER, (message_id,)).fetchone()
    return None if row is None else HeaderSection(row[0])


def open_octets(connection: sqlite3.Connection, row_limit: int) -> int:
    """The octets in rows, not in files, of the unfinished messages and of those held by jobs."""
    octets: int = connection.execute(OPEN_OCTETS, (row_limit,)).fetchone()[0]
    held: int = connection.execute(HELD_OCTETS, (row_limit,)).fetchone()[0]
    new: int = connection.execute(new_messages.OCTETS_OF_ALL).fetchone()[0]
    return octets + held + new


def counts_by_hour(connection: sqlite3.Connection, since: datetime) -> Sequence[HourCount]:
    """The recipients of the messages received since then, by hour and status. An unreadable row is left out."""
    first = rows.to_ms(since)
    counts: Counter[tuple[int, str]] = Counter()
    with _one_moment(connection):
        for hour, status, count in connection.execute(BY_HOUR, (first,)):
            counts[hour, status] += count
        for hour, count in connection.execute(new_messages.BY_HOUR, (first,)):
            counts[hour, RecipientStatus.WAITING.value] += count
        counts.update(other_tables.packed_by_hour(connection, first))
    return [
        HourCount(rows.from_ms(hour * _HOUR), RecipientStatus(status), count)
        for (hour, status), count in sorted(counts.items())
        if status in _STATUSES
    ]


@dataclass(slots=True)
class _Sum:
    waiting: int = 0
    held: int = 0
    size: int = 0
    oldest: int = _LAST
    ages: list[int] = field(default_factory=lambda: [0] * AGE_BUCKETS)
    reasons: Counter[str] = field(default_factory=Counter)


def totals(connection: sqlite3.Connection, now: int) -> Sequence[Totals]:
    """The totals of each account. A message with a held recipient counts as held. `now`: milliseconds since 1970."""
    sums: dict[str, _Sum] = {}
    with _one_moment(connection):
        new = ((account, 1, 0, *others) for account, *others in connection.execute(new_messages.TOTALS))
        for account, _waiting, held, size, received_at in chain(connection.execute(WAITING), new):
            one = sums.setdefault(account, _Sum())
            one.held += held > 0
            one.waiting += held == 0
            one.size += size
            one.oldest = min(one.oldest, received_at)
            one.ages[age_bucket(timedelta(milliseconds=now - received_at))] += 1
        for account, reply, why, status in connection.execute(REASONS):
            if words := _reason(reply, why, status):
                sums.setdefault(account, _Sum()).reasons[words] += 1
    return [_total(account, one) for account, one in sorted(sums.items())]


def _reason(reply: str | None, why: str, status: str) -> str:
    if status == RecipientStatus.HELD.value and why:
        return why
    try:
        return "" if reply is None else rows.reply_of(reply).reason
    except (ValueError, TypeError):
        return ""


def _total(account: str, one: _Sum) -> Totals:
    reasons: Mapping[str, int] = dict(sorted(one.reasons.items(), key=lambda item: (-item[1], item[0]))[:_REASONS])
    return Totals(
        account=account,
        waiting=one.waiting,
        held=one.held,
        size=one.size,
        oldest=rows.from_ms(one.oldest),
        by_age=tuple(one.ages),
        reasons=reasons,
    )
