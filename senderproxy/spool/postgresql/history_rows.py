"""Rows of the history: messages that are final and have no job, in partitions by the time of their end.

Guarantees: a message is in the general tables or here, never in both: it is moved in the commit that finishes it, or
that ends its last job.
Not here: when partitions are made and dropped (spool.postgresql.history), the tables (schema/0006_history.sql).
"""

from collections.abc import Sequence
from typing import Final

from senderproxy.spool.postgresql.connections import DatabaseConnection
from senderproxy.spool.sqlite import rows
from senderproxy.spool.sqlite.rows import ArrivalRows, Row

ADD_HISTORY: Final = (
    "INSERT INTO history (finished_at, number, id, received_at, listener, client, reverse_path, author, account, size,"
    " message_id, report_on, author_key, reverse_key, subject, events)"
    " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)"
)
ADD_HISTORY_RECIPIENTS: Final = (
    "INSERT INTO history_recipient (finished_at, message, position, address, key, fate, tries, reply, why,"
    " delay_reported, upstream_id, lane) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
)
ADD_HISTORY_WORDS: Final = "INSERT INTO history_word (finished_at, word, message) VALUES ($1, $2, $3)"
END_MESSAGE: Final = "SELECT end_message($1)"
# Left in the general tables by an instance of an older version.
LEFT: Final = (
    "SELECT number FROM message WHERE finished_at IS NOT NULL"
    " AND NOT EXISTS (SELECT 1 FROM job WHERE job.message = message.number)"
    " ORDER BY finished_at, number LIMIT $1 FOR UPDATE SKIP LOCKED"
)
MOVE: Final = "SELECT end_message(number) FROM unnest($1::bigint[]) AS number"
FORGET: Final = (
    "DELETE FROM history_word WHERE message = $1 AND finished_at = $2",
    "DELETE FROM history_recipient WHERE message = $1 AND finished_at = $2",
    "DELETE FROM history WHERE number = $1 AND finished_at = $2",
)
MAKE: Final = "SELECT make_history($1, $2)"
DROP: Final = "SELECT drop_history($1)"
# The number of these ids that are stored.
KNOWN: Final = (
    "SELECT (SELECT count(*) FROM message WHERE id = ANY($1::text[]))"
    " + (SELECT count(*) FROM history WHERE id = ANY($1::text[]))"
)


def finished_at(message: ArrivalRows) -> int | None:
    """The end of a new message in milliseconds since 1970; None if it is not finished."""
    time: int | None = message.message[-1]
    return time


def history_row(message: ArrivalRows) -> Row:
    """The values of ADD_HISTORY."""
    (
        number, ident, received_at, listener, client, reverse_path, _eight_bit, author, account, _carrier, size,
        message_id, report_on, _seal, author_key, reverse_key,
    ) = message.message[:16]  # fmt: skip
    found = (number, ident, received_at, listener, client, reverse_path, author, account, size, message_id, report_on)
    subject = None if message.subject is None else message.subject[1]
    return (finished_at(message), *found, author_key, reverse_key, subject, rows.events_text(message.events))


def history_recipients(message: ArrivalRows) -> list[Row]:
    """The values of ADD_HISTORY_RECIPIENTS."""
    ended = finished_at(message)
    return [(ended, *row[:5], *row[6:]) for row in message.recipients]  # all but due_at


def history_words(message: ArrivalRows) -> list[Row]:
    """The values of ADD_HISTORY_WORDS."""
    ended = finished_at(message)
    return [(ended, word, number) for word, number in message.words]


async def end_message(connection: DatabaseConnection, number: int) -> bool:
    """Move a locked message into the history if it is final, and drop a content that nothing needs any more.

    True if it was moved.
    """
    return bool(await connection.fetchval(END_MESSAGE, number))


async def forget(connection: DatabaseConnection, number: int, ended: int) -> None:
    """Delete a message from the history. `ended`: milliseconds since 1970."""
    for statement in FORGET:
        await connection.execute(statement, number, ended)


async def move_left(connection: DatabaseConnection, most: int) -> int:
    """Move final messages that older programs left in the general tables; their number."""
    numbers: Sequence[int] = [row[0] for row in await connection.fetch(LEFT, most)]
    if numbers:
        await connection.fetch(MOVE, numbers)
    return len(numbers)
