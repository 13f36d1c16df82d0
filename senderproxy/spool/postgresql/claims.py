"""Claims: messages are leased by rows, read, and verified.

Guarantees: a claim is as the message was written; a message that cannot be read is held, never guessed and never
deleted. Two instances never have a lease on the same recipients. If the caller of a claim is cancelled, the lease is
given back.
Not here: the functions of the database that lease (schema/0001_start.sql), the end of a claim (spool.postgresql.store).
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

from senderproxy import log_events
from senderproxy.clock import Clock
from senderproxy.log import event
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.message import Message
from senderproxy.mail.submission import Submission
from senderproxy.relay.ports import Claim, SpoolError
from senderproxy.spool.postgresql import statements
from senderproxy.spool.postgresql.connections import Connections, DatabaseConnection
from senderproxy.spool.postgresql.content import IN_MEMORY, ContentFetcher, small_body
from senderproxy.spool.postgresql.instance import Instance
from senderproxy.spool.postgresql.leases import InstanceLeases, RowLease
from senderproxy.spool.postgresql.server_time import ServerTime
from senderproxy.spool.sqlite import rows
from senderproxy.spool.sqlite.claim_rows import claim_of, claim_without_content, is_open, is_sealed
from senderproxy.spool.sqlite.rows import MESSAGE_COLUMNS, STATE_COLUMNS, Row, UnreadableRow
from senderproxy.tracking.record import Event, EventKind, Lane
from senderproxy.translation import _

LEASE_DUE: Final = "SELECT lease, leased_message FROM lease_due($1, $2, $3, $4)"
LEASE_EXPIRED: Final = "SELECT lease, leased_message FROM lease_expired($1, $2, $3, $4)"
LEASE_UNDELAYED: Final = "SELECT lease, leased_message FROM lease_undelayed($1, $2, $3)"
LEASE_ONE: Final = "SELECT lease, leased_message FROM lease_one($1, $2)"
MESSAGES: Final = f"SELECT {MESSAGE_COLUMNS}, faults FROM message WHERE number = ANY($1::bigint[])"
RECIPIENTS: Final = (
    f"SELECT message, address, {STATE_COLUMNS}, lane FROM recipient WHERE message = ANY($1::bigint[])"
    " ORDER BY message, position"
)
CONTENTS: Final = (
    "SELECT message, header, size, checksum, is_ascii, has_long_lines FROM content WHERE message = ANY($1::bigint[])"
)
SMALL_BODIES: Final = "SELECT message, octets FROM content_part WHERE message = ANY($1::bigint[]) AND position = 0"
END: Final = "DELETE FROM lease WHERE number = ANY($1::bigint[])"
STANDING: Final = "SELECT count(*) FROM lease WHERE number = ANY($1::bigint[])"

_log = logging.getLogger("senderproxy.spool")


@dataclass(frozen=True, slots=True)
class ClaimedRows:
    """The rows of a leased message."""

    leased: RowLease
    message: Row
    recipients: Sequence[Row]
    content: Any = None  # header, size, checksum, is_ascii, has_long_lines
    octets: bytes = b""  # of a small body

    @property
    def is_large(self) -> bool:
        """True if its body is read in parts, into a file."""
        return self.content is not None and self.content[1] > IN_MEMORY


class RowClaims:
    """Claims of one instance. See relay.ports.Spool for the four methods."""

    def __init__(
        self, connections: Connections, instance: Instance, leases: InstanceLeases, time: ServerTime, clock: Clock
    ) -> None:
        self._connections = connections
        self._instance = instance
        self._leases = leases
        self._time = time
        self._clock = clock
        self._contents = ContentFetcher()

    async def claim_due(self, lane: Lane, limit: int) -> Sequence[Claim]:
        """The messages of this lane that have been due longest, with its due recipients."""
        text, now = rows.lane_text(lane), self._time.now()

        def is_due(state: Row) -> bool:
            return bool(state[0] == "waiting" and state[1] <= now and state[6] == text)

        return await self._claim_first(LEASE_DUE, (text, now, limit), text, is_due)

    async def claim_expired(self, lane: Lane, age: timedelta, limit: int) -> Sequence[Claim]:
        """The oldest messages of this lane above that age, with its waiting recipients."""
        if not self._time.ages_trusted():
            return []
        text, before = rows.lane_text(lane), self._time.now() - rows.span_ms(age)

        def is_waiting(state: Row) -> bool:
            return bool(state[0] == "waiting" and state[6] == text)

        return await self._claim_first(LEASE_EXPIRED, (text, before, limit), text, is_waiting)

    async def claim_undelayed(self, age: timedelta, limit: int) -> Sequence[Claim]:
        """The oldest messages above that age, with their waiting recipients that have no delay report."""
        before = self._time.now() - rows.span_ms(age)

        def is_undelayed(state: Row) -> bool:
            return bool(state[0] == "waiting" and not state[5])

        return await self._claim_first(LEASE_UNDELAYED, (before, limit), "", is_undelayed)

    async def claim_one(self, message_id: str) -> Claim | None:
        """This message, also if its content cannot be read: an operator may cancel it, or try it again."""
        leased = await self._lease(LEASE_ONE, (message_id,), "")
        if not leased:
            return None
        (found,) = leased
        try:
            try:
                return await self._read(found, is_open)
            except UnreadableRow as reason:
                return claim_without_content(str(found.leased.lease), found, str(reason))
        except BaseException as error:
            self.give_back(leased)
            if not isinstance(error, UnreadableRow):
                raise
            raise SpoolError(
                _("Message {id} cannot be read: {reason}.").format(id=message_id, reason=error),
                hint=_("Look into the log of the database server."),
            ) from error

    async def submission(self, connection: DatabaseConnection, number: int) -> Submission:
        """The message with that number, with its content verified. Raises UnreadableRow."""
        found = await read_rows(connection, [RowLease(0, 0, number, "", 0)])
        if not found:
            raise UnreadableRow("its message is missing")
        return (await self._claim(connection, found[0], lambda _: False)).submission

    async def _claim_first(
        self, statement: str, values: Row, lane: str, selects: Callable[[Row], bool]
    ) -> Sequence[Claim]:
        """The first readable messages; unreadable ones are held, and if there are no others, the next are leased."""
        while found := await self._lease(statement, values, lane):
            claims: list[Claim] = []
            try:
                for one in found:
                    try:
                        claims.append(await self._read(one, selects))
                    except UnreadableRow as reason:
                        await self._hold(one, str(reason))
            except BaseException:
                self.give_back(found)
                raise
            if claims:
                return claims
        return []

    async def _lease(self, statement: str, values: Row, lane: str) -> Sequence[ClaimedRows]:
        """Lease messages and read their rows. Raises SpoolError."""
        self._instance.check()
        number = self._instance.number
        taken: list[int] = []

        async def work(connection: DatabaseConnection) -> Sequence[ClaimedRows]:
            leased = await connection.fetch(statement, *statements.storable(values), number)
            taken[:] = [row[0] for row in leased]
            return await read_rows(connection, [RowLease(row[0], number, row[1], lane, 0) for row in leased])

        async def was_committed(connection: DatabaseConnection) -> bool:
            return bool(taken) and await connection.fetchval(STANDING, taken) > 0

        leasing = asyncio.create_task(self._connections.write(work, was_committed))
        try:
            found = await asyncio.shield(leasing)
        except asyncio.CancelledError:
            leasing.add_done_callback(self._leased_for_nobody)
            raise
        for one in found:
            self._leases.take(one.leased)
        return found

    def _leased_for_nobody(self, leasing: "asyncio.Task[Sequence[ClaimedRows]]") -> None:
        if not leasing.cancelled() and leasing.exception() is None:
            self.give_back(leasing.result())

    def give_back(self, found: Sequence[ClaimedRows]) -> None:
        """End leases without a change of their messages, which are due again. Does not wait; tried until it is done."""
        if not found:
            return
        leased = [one.leased for one in found]
        self._leases.give_back(lambda: self.end(leased))

    async def end(self, leased: Sequence[RowLease]) -> None:
        """End leases whose messages were not attempted. Raises SpoolError."""
        for one in leased:
            await self.end_quietly(one)
        for lane in {one.lane for one in leased}:
            self._leases.on_return(lane)

    async def end_quietly(self, leased: RowLease) -> None:
        """End a lease without a change, and without a notice: its owner knows. Raises SpoolError."""

        async def work(connection: DatabaseConnection) -> None:
            await connection.execute(END, [leased.lease])

        async def was_committed(connection: DatabaseConnection) -> bool:
            return bool(await connection.fetchval(STANDING, [leased.lease]) == 0)

        await self._connections.write(work, was_committed)
        self._leases.end(str(leased.lease))

    async def _read(self, found: ClaimedRows, selects: Callable[[Row], bool]) -> Claim:
        """The claim of a leased message. Raises UnreadableRow, SpoolError."""
        if not found.is_large:
            return _small_claim(found, selects)

        async def work(connection: DatabaseConnection) -> Claim | UnreadableRow:
            try:
                return await self._claim(connection, found, selects)
            except UnreadableRow as reason:
                return reason

        claim = await self._connections.read(work)
        if isinstance(claim, UnreadableRow):
            raise claim
        return claim

    async def _claim(self, connection: DatabaseConnection, found: ClaimedRows, selects: Callable[[Row], bool]) -> Claim:
        if not found.is_large:
            return _small_claim(found, selects)
        content = _checked_content(found)
        body = await self._contents.body(connection, found.leased.number, content)
        return claim_of(str(found.leased.lease), found, Message(HeaderSection(content[0]), body), selects)

    async def _hold(self, found: ClaimedRows, why: str) -> None:
        held = Event(self._clock.now(), EventKind.HELD, (), {"why": why})
        leased = found.leased
        event(_log, log_events.MESSAGE_UNREADABLE, id=leased.id, why=why)

        async def work(connection: DatabaseConnection) -> None:
            await connection.fetchval(statements.LOCK_MESSAGE, leased.number)
            await statements.hold(connection, leased.number, why, held)
            await connection.execute(END, [leased.lease])

        async def was_committed(connection: DatabaseConnection) -> bool:
            return bool(await connection.fetchval(STANDING, [leased.lease]) == 0)

        await self._connections.write(work, was_committed)
        self._leases.end(str(leased.lease))


async def read_rows(connection: DatabaseConnection, leased: Sequence[RowLease]) -> list[ClaimedRows]:
    """The rows of these messages, in their order."""
    if not leased:
        return []
    numbers = [one.number for one in leased]
    messages = {row[0]: tuple(row) for row in await connection.fetch(MESSAGES, numbers)}
    recipients: dict[int, list[Row]] = {number: [] for number in numbers}
    for row in await connection.fetch(RECIPIENTS, numbers):
        recipients[row[0]].append(tuple(row)[1:])
    contents = {row[0]: tuple(row)[1:] for row in await connection.fetch(CONTENTS, numbers)}
    small = [number for number, content in contents.items() if content[1] <= IN_MEMORY]
    bodies = {row[0]: row[1] for row in await connection.fetch(SMALL_BODIES, small)} if small else {}
    return [
        ClaimedRows(
            replace(one, id=messages[one.number][1], received_at=messages[one.number][2]),
            messages[one.number],
            recipients[one.number],
            contents.get(one.number),
            bodies.get(one.number, b""),
        )
        for one in leased
        if one.number in messages
    ]


def _checked_content(found: ClaimedRows) -> Row:
    """The row of the content. Raises UnreadableRow."""
    if found.content is None:
        raise UnreadableRow("its content is missing")
    if not is_sealed(found):
        raise UnreadableRow("its rows are damaged (wrong checksum)")
    return tuple(found.content)


def _small_claim(found: ClaimedRows, selects: Callable[[Row], bool]) -> Claim:
    """The claim of a message whose body is in memory. Raises UnreadableRow."""
    content = _checked_content(found)
    body = small_body(found.octets, content)
    return claim_of(str(found.leased.lease), found, Message(HeaderSection(content[0]), body), selects)
