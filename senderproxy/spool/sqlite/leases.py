"""Leases of messages, and the statements that find a message to lease. Runs on the writer's thread.

Guarantees: a message has one lease at most. No statement here scans the queue: each is bound to the index that it needs
(the database refuses it without), and one step in the index is all that a leased message costs the next search.
Not here: what is written about a leased message (spool.sqlite.statements), its conversion (spool.sqlite.claims).
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from heapq import merge
from itertools import count
from typing import Final, TypeAlias

from senderproxy.relay.ports import Claim
from senderproxy.spool.sqlite import new_messages
from senderproxy.spool.sqlite.database import primary_code
from senderproxy.spool.sqlite.rows import MESSAGE_COLUMNS, STATE_COLUMNS, Row

DUE: Final = (
    "SELECT due_at, message FROM recipient INDEXED BY recipient_due"
    " WHERE lane = ? AND due_at IS NOT NULL AND due_at <= ? GROUP BY due_at, message ORDER BY due_at, message"
)
EXPIRED: Final = (
    "SELECT received_at, number FROM message INDEXED BY message_waiting"
    " WHERE due_at IS NOT NULL AND received_at < ?2 AND EXISTS (SELECT 1 FROM recipient"
    " WHERE message = number AND +lane = ?1 AND recipient.due_at IS NOT NULL) ORDER BY received_at, number"
)
UNDELAYED: Final = (
    "SELECT received_at, number FROM message INDEXED BY message_undelayed"
    " WHERE undelayed IS NOT NULL AND received_at < ? ORDER BY received_at, number"
)
NEXT_LANE: Final = (
    "SELECT lane FROM recipient INDEXED BY recipient_due WHERE lane > ? AND due_at IS NOT NULL ORDER BY lane LIMIT 1"
)
OPEN_BY_ID: Final = "SELECT number FROM message INDEXED BY message_by_id WHERE id = ? AND finished_at IS NULL"
MESSAGE: Final = f"SELECT {MESSAGE_COLUMNS}, faults FROM message WHERE number = ?"
RECIPIENTS: Final = f"SELECT address, {STATE_COLUMNS}, lane FROM recipient WHERE message = ? ORDER BY position"
CONTENT: Final = "SELECT header, body, file, size, checksum, is_ascii, has_long_lines FROM content WHERE message = ?"

_FOREVER: Final = 2**62  # milliseconds since 1970; later than any due time


@dataclass(slots=True)
class LeasedMessage:
    """The facts of a leased message, or of its recipients in one lane, that are needed until it is settled."""

    lease: str  # id
    id: str
    number: int
    lane: str  # text form; empty: all lanes of the message
    received_at: int  # milliseconds since 1970
    file: str | None  # of its body
    has_damaged_page: bool = False


@dataclass(frozen=True, slots=True)
class CachedMessage:
    """A message that was not leased since it was accepted: its claim is complete without a read."""

    leased: LeasedMessage
    claim: Claim
    octets: int  # estimated, in memory


@dataclass(frozen=True, slots=True)
class LeasedRows:
    """The rows of a leased message. `why`: the reason if they cannot be read."""

    leased: LeasedMessage
    message: Row = ()
    recipients: Sequence[Row] = ()
    content: Row | None = None
    why: str = ""


@dataclass(slots=True)
class Leases:
    """The leased messages, and the cache of those not leased yet. In memory only: a restart ends all leases.

    Each change of a message leases it first, and a leased message leaves the cache: a cached message equals its rows.
    """

    cache_size: int  # octets
    on_return: Callable[[str], None] = lambda _: None  # called with the lane of a lease that is given back; empty: any
    _ids: "count[int]" = field(default_factory=lambda: count(1))
    _by_lease: dict[str, LeasedMessage] = field(default_factory=dict)
    _lanes: dict[int, tuple[str, ...]] = field(default_factory=dict)  # that are leased, by the message's number
    _cache: dict[int, CachedMessage] = field(default_factory=dict)
    _cached_octets: int = 0

    def new_id(self) -> str:
        """The id of a new lease; from any thread."""
        return str(next(self._ids))

    def take(self, message: LeasedMessage) -> None:
        """Lease a message."""
        self._by_lease[message.lease] = message
        self._lanes[message.number] = (*self._lanes.get(message.number, ()), message.lane)

    def take_all(self, messages: Iterable[LeasedMessage]) -> None:
        """Lease messages."""
        for message in messages:
            self.take(message)

    def end(self, lease: str) -> None:
        """End a lease, unless it has ended."""
        message = self._by_lease.pop(lease, None)
        if message is not None:
            left = tuple(lane for lane in self._lanes.pop(message.number) if lane != message.lane)
            if left:
                self._lanes[message.number] = left

    def give_back(self, lease: str) -> None:
        """End a lease whose message was not attempted."""
        message = self._by_lease.get(lease)
        if message is not None:
            self.end(lease)
            self.on_return(message.lane)

    def find(self, lease: str) -> LeasedMessage | None:
        """The message of a lease; None if the lease has ended. From any thread."""
        return self._by_lease.get(lease)

    def shift(self, step: int) -> None:
        """Move the times of the leased messages by `step` milliseconds."""
        for message in self._by_lease.values():
            message.received_at += step

    def __contains__(self, number: int) -> bool:
        return number in self._lanes

    def is_free(self, number: int, lane: str) -> bool:
        """True if this lane of a message may be leased; the whole message, if `lane` is empty."""
        lanes = self._lanes.get(number)
        return lanes is None or (lane != "" and lane not in lanes and "" not in lanes)

    def cache(self, message: CachedMessage) -> None:
        """Add a message to the cache, unless it is full: the oldest messages are leased first."""
        if self._cached_octets + message.octets <= self.cache_size:
            self._cache[message.leased.number] = message
            self._cached_octets += message.octets

    def take_cached(self, number: int) -> CachedMessage | None:
        """Lease a message from the cache, which it leaves; None if it is not there."""
        message = self._cache.pop(number, None)
        if message is not None:
            self._cached_octets -= message.octets
            self.take(message.leased)
        return message

    def clear_cache(self) -> None:
        """Empty the cache, after a change of all rows."""
        self._cache.clear()
        self._cached_octets = 0


Found: TypeAlias = LeasedRows | CachedMessage
Search: TypeAlias = tuple[str, Row]  # a statement for (time, number) in this order, and its values


def lease_due(connection: sqlite3.Connection, leases: Leases, lane: str, now: int, limit: int) -> Sequence[Found]:
    """Lease the messages of this lane that have been due longest. `now`: milliseconds since 1970."""
    searches = ((DUE, (lane, now)), (new_messages.DUE, (lane, now)))
    return _lease_first(connection, leases, searches, lane, limit)


def lease_expired(
    connection: sqlite3.Connection, leases: Leases, lane: str, before: int, limit: int
) -> Sequence[Found]:
    """Lease the oldest waiting messages of this lane that were received before then."""
    searches = ((EXPIRED, (lane, before)), (new_messages.DUE, (lane, before - 1)))
    return _lease_first(connection, leases, searches, lane, limit)


def lease_undelayed(connection: sqlite3.Connection, leases: Leases, before: int, limit: int) -> Sequence[Found]:
    """Lease the oldest messages received before then that have a waiting recipient without a delay report."""
    new = ((new_messages.DUE, (lane, before - 1)) for lane in _lanes(connection))
    return _lease_first(connection, leases, ((UNDELAYED, (before,)), *new), "", limit)


def lease_one(connection: sqlite3.Connection, leases: Leases, message_id: str) -> Sequence[Found]:
    """Lease this message, unless it does not exist, is finished, or is leased."""
    row = connection.execute(new_messages.NUMBER, (message_id,)).fetchone()
    row = row or connection.execute(OPEN_BY_ID, (message_id,)).fetchone()
    return [] if row is None or row[0] in leases else [_lease(connection, leases, row[0], "")]


def due_times(connection: sqlite3.Connection, leases: Leases, lane: str | None = None) -> Mapping[str, int]:
    """The next due time, in milliseconds since 1970, of each lane or of this one; one index search for each."""
    found: dict[str, int] = {}
    for each in _lanes(connection) if lane is None else (lane,):
        searches = ((DUE, (each, _FOREVER)), (new_messages.DUE, (each, _FOREVER)))
        first = _first_free(connection, leases, searches, each, 1)
        if first:
            found[each] = first[0][0]
    return found


def _lanes(connection: sqlite3.Connection) -> Iterator[str]:
    """Each lane in which a message waits; one step in each of two indexes for each."""
    lane = ""
    while True:
        rows = [connection.execute(each, (lane,)).fetchone() for each in (NEXT_LANE, new_messages.NEXT_LANE)]
        following = [row[0] for row in rows if row is not None]
        if not following:
            return
        lane = min(following)
        yield lane


@contextmanager
def _merged(connection: sqlite3.Connection, searches: Sequence[Search]) -> Iterator[Iterator[tuple[int, int]]]:
    """(time, number) of all searches in this order; each search has it."""
    with ExitStack() as stack:
        yield merge(*(stack.enter_context(closing(connection.execute(*search))) for search in searches))


def _first_free(
    connection: sqlite3.Connection, leases: Leases, searches: Sequence[Search], lane: str, limit: int
) -> list[tuple[int, int]]:
    """(time, number) of the first messages whose lane is not leased: one step in the index for each leased one."""
    free: dict[int, int] = {}
    with _merged(connection, searches) as found:
        for time, number in found:
            if number not in free and leases.is_free(number, lane):
                free[number] = time
                if len(free) == limit:
                    break
    return [(time, number) for number, time in free.items()]


def _lease_first(
    connection: sqlite3.Connection, leases: Leases, searches: Sequence[Search], lane: str, limit: int
) -> Sequence[Found]:
    first = _first_free(connection, leases, searches, lane, limit)
    return [_lease(connection, leases, number, lane) for _, number in first]


def _lease(connection: sqlite3.Connection, leases: Leases, number: int, lane: str) -> Found:
    cached = leases.take_cached(number)
    if cached is not None:
        return cached
    found = read_rows(connection, LeasedMessage(leases.new_id(), f"number {number}", number, lane, 0, None))
    leases.take(found.leased)
    return found


def read_rows(connection: sqlite3.Connection, leased: LeasedMessage) -> LeasedRows:
    """The rows of a message; the facts about it are added to `leased`."""
    number = leased.number
    try:
        if (new := connection.execute(new_messages.WHOLE, (number,)).fetchone()) is not None:
            return _new_rows(leased, new)
        message = connection.execute(MESSAGE, (number,)).fetchone()
        recipients = connection.execute(RECIPIENTS, (number,)).fetchall()
        content = connection.execute(CONTENT, (number,)).fetchone()
        leased.id, leased.received_at = str(message[1]), message[2]
        leased.file = None if content is None else content[2]
        return LeasedRows(leased, message, recipients, content)
    except (sqlite3.DatabaseError, TypeError) as error:
        if not _is_of_these_rows(error):
            raise
        leased.lane = ""  # unknown
        leased.has_damaged_page = isinstance(error, sqlite3.Error) and primary_code(error) == sqlite3.SQLITE_CORRUPT
        return LeasedRows(leased, why=f"its rows cannot be read ({error})")


def _new_rows(leased: LeasedMessage, new: Row) -> LeasedRows:
    leased.id, leased.received_at = str(new[1]), new[2]
    message = (*new[: len(MESSAGE_COLUMNS.split(", "))], 0)
    return LeasedRows(leased, message, list(new_messages.recipient_states(new)), new_messages.content_of(new))


def _is_of_these_rows(error: Exception) -> bool:
    """True for a damaged page or invalid text, which concern this message only."""
    return not isinstance(error, sqlite3.Error) or primary_code(error) in (0, sqlite3.SQLITE_CORRUPT)
