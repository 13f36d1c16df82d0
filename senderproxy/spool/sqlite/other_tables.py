"""Searches in the tables without an index for each criterion: new messages, and packs of history.

Guarantees: memory is bounded by the limit and one pack. A search reads all new messages at most, and of each pack
before its records only the keys; it ends when no other pack can have a message that belongs to the result.
Not here: the general tables and the order of the result (spool.sqlite.search).
"""

import heapq
import json
import logging
import re
import sqlite3
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from typing import Any, Final

from senderproxy import log_events
from senderproxy.log import event
from senderproxy.mail.subject import LEAST_BEGINNING, subject_words
from senderproxy.spool.sqlite import history_packs, new_messages
from senderproxy.spool.sqlite.criteria import Criteria, criteria_of
from senderproxy.spool.sqlite.history_packs import PackedRecord
from senderproxy.spool.sqlite.rows import UnreadableRow
from senderproxy.tracking.record import Query, RecipientStatus

WITH_WORD: Final = "SELECT message FROM subject_word WHERE word >= ? AND word < ?"

_PLAIN: Final = re.compile(r"[a-z0-9._+=-]+")  # part of an address that is written in one way only, but for the case
_BEHIND_ALL: Final = "\U0010ffff"  # behind every character of a word
_HOUR: Final = 3_600_000  # milliseconds

_log = logging.getLogger("senderproxy.spool")


def new_messages_that_fit(
    connection: sqlite3.Connection, query: Query, limit: int, after: int
) -> Sequence[PackedRecord]:
    """The first matching ones after that number, in the order of the query."""
    if query.status not in (None, RecipientStatus.WAITING) or query.upstream_id is not None:
        return []
    criteria, numbers = criteria_of(query), _with_subject(connection, query)
    statement = new_messages.OLDEST_FIRST if query.unfinished else new_messages.NEWEST_FIRST
    conditions, values = _new_message_conditions(criteria)
    found: list[PackedRecord] = []
    with closing(connection.execute(statement.format(conditions), {**values, "after": after})) as rows:
        for row in rows:
            if len(found) == limit:
                break
            if numbers is not None and row[0] not in numbers:
                continue
            record = new_messages.record_of(row)
            if criteria.fit(record):
                found.append(record)
    return found


def _new_message_conditions(criteria: Criteria) -> tuple[str, dict[str, str]]:
    """Conditions that each match meets and few others, with their values: SQLite compares faster than we do."""
    conditions, values = "", {}
    if criteria.id is not None:
        conditions += " AND (id = :id OR message_id IN (:id, '<' || :id || '>'))"
        values["id"] = criteria.id
    if criteria.account is not None:
        conditions += " AND account = :account"
        values["account"] = criteria.account
    if criteria.recipient is not None:
        for name, text in zip(("domain", "local_part"), criteria.recipient[0].split(" ", 1), strict=True):
            if _PLAIN.fullmatch(text):
                conditions += f" AND instr(lower(recipients), :{name})"
                values[name] = text
    return conditions, values


def packed_messages_that_fit(
    connection: sqlite3.Connection, query: Query, limit: int, before: int
) -> Sequence[PackedRecord]:
    """The newest matching ones in packs before that number."""
    if query.unfinished or (query.status is not None and not query.status.is_final):
        return []
    criteria, numbers = criteria_of(query), _with_subject(connection, query)
    ordered = None if numbers is None else sorted(numbers)
    newest: list[tuple[int, PackedRecord]] = []  # a heap
    statement, values = _candidates(criteria, before)
    with closing(connection.execute(statement, values)) as packs:
        for pack, first, last in packs:
            if len(newest) == limit and last < newest[0][0]:
                break
            if ordered is not None and not _has_one(ordered, first, last):
                continue
            for record in _read(connection, pack):
                if record.number < before and (numbers is None or record.number in numbers) and criteria.fit(record):
                    push = heapq.heappush if len(newest) < limit else heapq.heappushpop
                    push(newest, (record.number, record))
    return [record for _, record in newest]


def _candidates(criteria: Criteria, before: int) -> tuple[str, dict[str, Any]]:
    """The statement for the packs that may have a match, with its values."""
    values: dict[str, Any] = {"after": before, "since": criteria.since, "until": criteria.until}
    conditions = ""
    for number, key in enumerate(criteria.keys()):
        values[f"key{number}"] = history_packs.checksum(key)
        conditions += f" AND instr(keys, :key{number})"
    return history_packs.CANDIDATES.format(conditions), values


def _has_one(ordered: Sequence[int], first: int, last: int) -> bool:
    """True if one of the numbers is between these two."""
    place = bisect_left(ordered, first)
    return place < len(ordered) and ordered[place] <= last


def _with_subject(connection: sqlite3.Connection, query: Query) -> set[int] | None:
    """The numbers of the messages with each word of the subject; None if the query has none."""
    if query.subject is None:
        return None
    found: set[int] | None = None
    for word in sorted(subject_words(query.subject), key=len, reverse=True):
        end = word + (_BEHIND_ALL if len(word) >= LEAST_BEGINNING else "\0")
        with_word = {number for (number,) in connection.execute(WITH_WORD, (word, end))}
        found = with_word if found is None else found & with_word
    return found or set()


def packed_by_hour(connection: sqlite3.Connection, since: int) -> Counter[tuple[int, str]]:
    """The recipients in packs received since then, by hour and status. An unreadable pack is left out."""
    counts: Counter[tuple[int, str]] = Counter()
    for pack, oldest, by_hour in connection.execute(history_packs.BY_HOUR, (since,)).fetchall():
        if oldest < since:
            for record in _read(connection, pack):
                if record.received_at >= since:
                    counts.update((record.received_at // _HOUR, each[1]) for each in record.recipients)
        else:
            try:
                counts.update({(hour, fate): count for hour, fate, count in json.loads(by_hour)})
            except (ValueError, TypeError) as error:
                event(_log, log_events.HISTORY_UNREADABLE, why=error)
    return counts


def _read(connection: sqlite3.Connection, pack: int) -> Sequence[PackedRecord]:
    """The messages of a pack; none if it is unreadable: operators search when something is wrong."""
    try:
        return history_packs.read(connection, pack)
    except UnreadableRow as error:
        event(_log, log_events.HISTORY_UNREADABLE, why=error)
        return []
