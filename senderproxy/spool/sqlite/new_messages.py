"""Table of new messages: one row for each message that nothing has changed since its acceptance.

All of its recipients wait in one lane, due since its reception, and its content is in the row. It costs one row with
two index entries, and the first result deletes them; in the general tables it would have fifteen.
Guarantees: the general rows of a new message are the same as if they had been written in its place.
Not here: the general tables (spool.sqlite.statements), leases (spool.sqlite.leases).
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from senderproxy.spool.sqlite import rows
from senderproxy.spool.sqlite.database import primary_code
from senderproxy.spool.sqlite.history_packs import PackedRecord
from senderproxy.spool.sqlite.rows import MESSAGE_COLUMNS, Row

_FACTS: Final = f"{MESSAGE_COLUMNS}, lane, recipients, waiting, events, checksum, is_ascii, has_long_lines"
_TEXTS: Final = frozenset(
    {"id", "listener", "client", "reverse_path", "author", "account", "carrier", "message_id", "report_on", "lane"}
    | {"recipients", "events"}
)
ADD: Final = f"INSERT INTO new_message ({_FACTS}, header, body) VALUES {{}}"
DELETE: Final = "DELETE FROM new_message WHERE number = ?"
DELETE_ALL: Final = "DELETE FROM new_message WHERE number IN (VALUES {})"
# A part of others: a row whose number the general tables have is left out. A page of it is damaged: it is not deleted.
_IS_VALID: Final = "NOT EXISTS (SELECT 1 FROM message WHERE message.number = new_message.number)"
WHOLE: Final = f"SELECT {_FACTS}, header, body FROM new_message WHERE number = ? AND {_IS_VALID}"
# Octets in place of texts, which a damaged disk may have made invalid.
_AS_OCTETS: Final = ", ".join(f"CAST({name} AS BLOB)" if name in _TEXTS else name for name in _FACTS.split(", "))
FACTS_AS_OCTETS: Final = f"SELECT {_AS_OCTETS} FROM new_message WHERE number = ? AND {_IS_VALID}"
CONTENT: Final = "SELECT header, body FROM new_message WHERE number = ?"
NUMBER: Final = f"SELECT number FROM new_message INDEXED BY new_message_by_id WHERE id = ? AND {_IS_VALID}"
DUE: Final = (
    "SELECT received_at, number FROM new_message INDEXED BY new_message_due"
    f" WHERE lane = ? AND received_at <= ? AND {_IS_VALID} ORDER BY received_at, number"
)
NEXT_LANE: Final = "SELECT lane FROM new_message INDEXED BY new_message_due WHERE lane > ? ORDER BY lane LIMIT 1"
SHIFT: Final = "UPDATE new_message SET received_at = received_at + ?1 WHERE number > 0"
# These read all new messages: the totals need them all, and a search has no index here.
TOTALS: Final = f"SELECT account, size, received_at FROM new_message WHERE number > 0 AND {_IS_VALID}"
OCTETS_OF_ALL: Final = "SELECT coalesce(sum(size), 0) FROM new_message WHERE number > 0"
BY_HOUR: Final = (
    f"SELECT received_at / 3600000, waiting FROM new_message WHERE number > 0 AND received_at >= ? AND {_IS_VALID}"
)
# A search; conditions are added.
OLDEST_FIRST: Final = f"SELECT {_FACTS} FROM new_message WHERE number > :after AND {_IS_VALID}{{}} ORDER BY number"
NEWEST_FIRST: Final = f"SELECT {_FACTS} FROM new_message WHERE number < :after AND {_IS_VALID}{{}} ORDER BY number DESC"
EVENTS: Final = "SELECT events FROM new_message INDEXED BY new_message_by_id WHERE id = ?"
HEADER: Final = "SELECT header FROM new_message INDEXED BY new_message_by_id WHERE id = ?"

_LIMIT: Final = 64 * 1024  # octets of a content in the row; others have a row of their own
_MESSAGE: Final = len(MESSAGE_COLUMNS.split(", "))
_WITHOUT_CONTENT: Final = len(_FACTS.split(", "))
_UNTRIED: Final = (0, None, "", 0, None)  # tries, reply, why, delay_reported, upstream_id
_UNREADABLE: Final = "unreadable"  # in place of the kind of an event; no kind has this name


@dataclass(slots=True)
class GeneralRows:
    """The rows of one message for the general tables."""

    message: Row
    recipients: list[Row]
    events: list[Row]  # message, at, what, recipients, facts
    content: Row | None  # None: on a damaged page


def row_of(message: Row, recipients: Sequence[Row], events: Iterable[Row], content: Row | None) -> Row | None:
    """The row of a message with these general rows; None if it needs them."""
    if content is None or content[2] is None or len(content[1]) + len(content[2]) > _LIMIT:
        return None
    if len(content[1]) + content[4] != message[10]:
        return None
    lane = recipients[0][11] if recipients else None
    expected = ("waiting", message[2], *_UNTRIED, lane)
    if lane is None or any(row[4:] != expected for row in recipients):
        return None
    addresses = "\n".join(row[2] for row in recipients)
    facts = (lane, addresses, len(recipients), rows.events_text(events), content[5], content[6], content[7])
    return (*message[:_MESSAGE], *facts, content[1], content[2])


def event_rows(number: int, text: str) -> list[Row]:
    """The rows of `rows.events_text`. Raises ValueError or TypeError."""
    return [
        (number, at, what, rows.json_text(people), rows.json_text(facts))
        for at, what, people, facts in json.loads(text)
    ]


def record_of(row: Row) -> PackedRecord:
    """The message as it is in a pack, with its recipients waiting."""
    number, ident, received_at, listener, client, reverse_path, _, author, account, _, size, message_id, report_on = (
        row[:13]
    )
    recipients = [(address, "waiting", 0, "", 0, None, None) for address in addresses_of(row)]
    return PackedRecord(
        number, ident, received_at, listener, client, reverse_path, author, account, size, message_id, report_on,
        recipients, (), row[_MESSAGE],
    )  # fmt: skip


def addresses_of(row: Row) -> list[str]:
    """The addresses of a row's recipients."""
    return str(row[_MESSAGE + 1]).split("\n")


def recipient_states(row: Row) -> Iterator[Row]:
    """address, fate, due_at, tries, reply, why, delay_reported, lane of each recipient."""
    for address in addresses_of(row):
        yield (address, "waiting", row[2], *_UNTRIED[:4], row[_MESSAGE])


def events_of(row: Row) -> list[Row]:
    """The events as rows of message, at, what, recipients, facts; one that is unreadable in place of damaged ones."""
    try:
        return event_rows(row[0], row[_MESSAGE + 3])
    except (ValueError, TypeError):
        return [(row[0], row[2], _UNREADABLE, "[]", rows.json_text({"damaged": str(row[_MESSAGE + 3])}))]


def content_of(row: Row) -> Row:
    """header, body, file, size, checksum, is_ascii, has_long_lines."""
    checksum, is_ascii, has_long_lines, header, body = row[_MESSAGE + 4 :]
    return header, body, None, row[10] - len(header), checksum, is_ascii, has_long_lines


def general_rows(row: Row) -> GeneralRows:
    """The rows of a message for the general tables; `row` may end before its content. Values are not checked."""
    number, received_at, reverse_path, author = row[0], row[2], row[5], row[7]
    author_key = rows.author_key(author)
    reverse_key = rows.author_key(reverse_path) if reverse_path and reverse_path != author else None
    recipients = [
        (number, position, address, rows.author_key(address), *state, None, lane)
        for position, (address, *state, lane) in enumerate(recipient_states(row))
    ]
    summary = (len(recipients), 0, received_at, 1, None)
    message = (*row[:_MESSAGE], author_key, reverse_key if reverse_key != author_key else None, 0, *summary)
    content = (number, *content_of(row)) if has_content(row) else None
    return GeneralRows(message, recipients, events_of(row), content)


def read_facts(connection: sqlite3.Connection, number: int) -> Row | None:
    """The row of a message without its content, texts as far as they are readable; None if there is none."""
    row = connection.execute(FACTS_AS_OCTETS, (number,)).fetchone()
    if row is None:
        return None
    return tuple(value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value for value in row)


def read_row(connection: sqlite3.Connection, number: int) -> Row | None:
    """The row of a message, texts as far as they are readable; without its content if that is on a damaged page.

    None if there is none.
    """
    facts = read_facts(connection, number)
    if facts is None:
        return None
    try:
        return (*facts, *connection.execute(CONTENT, (number,)).fetchone())
    except sqlite3.DatabaseError as error:
        if primary_code(error) != sqlite3.SQLITE_CORRUPT:
            raise
        return facts


def has_content(row: Row) -> bool:
    """False for a row whose content is on a damaged page."""
    return len(row) > _WITHOUT_CONTENT
