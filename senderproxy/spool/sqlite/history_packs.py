"""Packs of history: the records of messages that were finished in one commit, compressed in one row.

A message costs some hundred octets in the pack of its commit, and no index entry of its own: what is searched for is
compared with the checksums of all texts that a pack can be found by, twenty octets a message.
Guarantees: a pack is written in the commit that finishes its messages and is never changed. Its size is bounded.
Not here: the search in all tables (spool.sqlite.search), the deletion of old history (spool.sqlite.statements).
"""

import json
import sqlite3
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from zlib import crc32

from senderproxy.spool.sqlite import rows
from senderproxy.spool.sqlite.rows import Row, UnreadableRow

ADD: Final = (
    "INSERT INTO history_pack"
    " (first, last, oldest, newest, finished_at, messages, has_subjects, by_hour, keys, records)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
RECORDS: Final = "SELECT records FROM history_pack WHERE number = ?"
LAST_NUMBER: Final = "SELECT max(last) FROM history_pack"
NEWEST_IDS: Final = "SELECT substr(keys, 1, 4 * messages) FROM history_pack ORDER BY number DESC LIMIT ?"
WITH_ID: Final = (
    "SELECT number FROM history_pack INDEXED BY history_pack_overview"
    " WHERE last > 0 AND instr(substr(keys, 1, 4 * messages), ?)"
)
OLDEST: Final = (
    "SELECT finished_at, number, messages FROM history_pack INDEXED BY history_pack_finished"
    " WHERE finished_at < ? ORDER BY finished_at LIMIT ?"
)
DELETE: Final = "DELETE FROM history_pack WHERE number = ?"
HAS_SUBJECTS: Final = "SELECT has_subjects FROM history_pack WHERE number = ?"
BY_HOUR: Final = (
    "SELECT number, oldest, by_hour FROM history_pack INDEXED BY history_pack_overview WHERE last > 0 AND newest >= ?"
)
# A search: the packs with a message before a number, received in a time, with all of the keys that are added.
CANDIDATES: Final = (
    "SELECT number, first, last FROM history_pack INDEXED BY history_pack_overview"
    " WHERE last > 0 AND first < :after AND newest >= :since AND oldest < :until{} ORDER BY last DESC"
)

_MESSAGES: Final = 64  # of one pack, at most
_OCTETS: Final = 128 * 1024  # of the records of one pack, not compressed; a longer record has a pack of its own
_READ_LIMIT: Final = 2**28  # octets of a pack's records; those that were written have far less
_LEVEL: Final = 3  # of the compression
_HOUR: Final = 3_600_000  # milliseconds


@dataclass(frozen=True, slots=True)
class FinishedMessage:
    """A message with its record as JSON."""

    number: int
    id: str
    received_at: int  # milliseconds since 1970
    finished_at: int
    fates: Sequence[str]  # of the recipients
    keys: frozenset[str]  # texts that it can be found by
    text: str
    has_subject: bool = False


@dataclass(frozen=True, slots=True)
class PackedRecord:
    """A message as it is in a pack. Times are milliseconds since 1970."""

    number: int
    id: str
    received_at: int
    listener: str
    client: str
    reverse_path: str
    author: str
    account: str
    size: int
    message_id: str | None
    report_on: str | None
    recipients: Sequence[Sequence[Any]]  # address, fate, tries, why, delay_reported, upstream_id, reply
    events: Sequence[Sequence[Any]]  # at, what, recipients, facts
    lane: str = ""  # in which all recipients wait, text form; a finished message has none


# ---- writing ----


def finished_message(
    message: Row, recipients: Iterable[Row], events: Iterable[Row], finished_at: int, *, has_subject: bool
) -> FinishedMessage:
    """The record of a message from its rows for the general tables; all recipients are final."""
    number, ident, received_at, listener, client, reverse_path, _, author, account, _, size, message_id, report_on = (
        message[:13]
    )
    keys = {f"c{account}", message_id_key(ident), *address_keys("a", author)}
    if message_id is not None:
        keys.add(message_id_key(message_id))
    if reverse_path and reverse_path != author:
        keys.update(address_keys("a", reverse_path))
    fates: list[str] = []
    people: list[str] = []
    for _, _, address, key, fate, _, tries, reply, why, delay_reported, upstream, *_ in recipients:
        fates.append(fate)
        keys.update((f"s{fate}", f"r{key}", f"r{key.partition(' ')[0]} "))
        if upstream is not None:
            keys.add(f"u{upstream}")
        facts = rows.json_text((address, fate, tries, why, delay_reported, upstream))
        people.append(f"{facts[:-1]},{reply or 'null'}]")
    fixed = (
        number, ident, received_at, listener, client, reverse_path, author, account, size, message_id, report_on,
    )  # fmt: skip
    text = f"{rows.json_text(fixed)[:-1]},[{','.join(people)}],{rows.events_text(events)}]"
    return FinishedMessage(
        number, ident, received_at, finished_at, fates, frozenset(keys), text, has_subject=has_subject
    )


def address_keys(kind: str, address: str) -> tuple[str, str]:
    """The keys of an address and of its domain, for searches."""
    key = rows.author_key(address)
    return f"{kind}{key}", f"{kind}{key.partition(' ')[0]} "


def message_id_key(message_id: str) -> str:
    """The key of an id, or of a Message-ID with or without its brackets."""
    return f"m{message_id.removeprefix('<').removesuffix('>')}"


def checksum(key: str) -> bytes:
    """The four octets of a key in a pack."""
    return crc32(key.encode("utf-8", "backslashreplace")).to_bytes(4, "big")


def write(connection: sqlite3.Connection, messages: Sequence[FinishedMessage]) -> None:
    """Write the messages in as few packs as their sizes allow."""
    part: list[FinishedMessage] = []
    octets = 0
    for message in messages:
        if part and (len(part) == _MESSAGES or octets + len(message.text) > _OCTETS):
            _write_pack(connection, part)
            part, octets = [], 0
        part.append(message)
        octets += len(message.text)
    if part:
        _write_pack(connection, part)


def _write_pack(connection: sqlite3.Connection, messages: Sequence[FinishedMessage]) -> None:
    numbers = [message.number for message in messages]
    times = [message.received_at for message in messages]
    hours = Counter((message.received_at // _HOUR, fate) for message in messages for fate in message.fates)
    others = sorted({checksum(key) for message in messages for key in message.keys})
    text = f"[{','.join(message.text for message in messages)}]"
    connection.execute(
        ADD,
        (
            min(numbers),
            max(numbers),
            min(times),
            max(times),
            max(message.finished_at for message in messages),
            len(messages),
            int(any(message.has_subject for message in messages)),
            rows.json_text([[hour, fate, count] for (hour, fate), count in hours.items()]),
            b"".join((*(checksum(message.id) for message in messages), *others)),
            zlib.compress(text.encode("ascii"), _LEVEL),
        ),
    )


# ---- reading ----


def read(connection: sqlite3.Connection, number: int) -> list[PackedRecord]:
    """The messages of a pack; none if it was deleted. Raises UnreadableRow."""
    row = connection.execute(RECORDS, (number,)).fetchone()
    if row is None:
        return []
    try:
        text = zlib.decompressobj().decompress(row[0], _READ_LIMIT)
        return [PackedRecord(*values) for values in json.loads(text)]
    except (zlib.error, ValueError, TypeError, RecursionError) as error:
        raise UnreadableRow(f"a part of the history is damaged ({error})") from error


def find_id(connection: sqlite3.Connection, ident: str) -> PackedRecord | None:
    """The message with this id; None if it is in no pack. Raises UnreadableRow."""
    for (number,) in connection.execute(WITH_ID, (checksum(ident),)).fetchall():
        for record in read(connection, number):
            if record.id == ident:
                return record
    return None


def newest_ids(connection: sqlite3.Connection, packs: int) -> Iterator[int]:
    """The checksums of the ids in so many of the newest packs."""
    for (octets,) in connection.execute(NEWEST_IDS, (packs,)):
        for start in range(0, len(octets), 4):
            yield int.from_bytes(octets[start : start + 4], "big")


def numbers_with_subjects(connection: sqlite3.Connection, pack: int) -> list[int]:
    """The messages of a pack if one of them may have a subject in its own table. Raises UnreadableRow."""
    row = connection.execute(HAS_SUBJECTS, (pack,)).fetchone()
    return [record.number for record in read(connection, pack)] if row is not None and row[0] else []


def reply_text(reply: object) -> str | None:
    """The reply of a recipient in a pack as in the general tables."""
    return None if reply is None else rows.json_text(reply)
