"""Incoming messages: accepted ones, and reports. Their rows and contents are one transaction.

Guarantees: `accept` returns when the transaction is committed. Memory for messages that wait for a connection is
bounded: large bodies stay where they are until their parts are written.
Not here: the statements (spool.postgresql.statements), messages that passed through (spool.postgresql.history).
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Final, TypeAlias

from senderproxy.mail.message import Body, Message
from senderproxy.relay.ports import Arrival, Claim, Lease
from senderproxy.spool.postgresql import statements
from senderproxy.spool.postgresql.accept_groups import AcceptGroups
from senderproxy.spool.postgresql.connections import Connections, DatabaseConnection
from senderproxy.spool.postgresql.content import PART
from senderproxy.spool.postgresql.history_rows import KNOWN
from senderproxy.spool.postgresql.instance import Instance
from senderproxy.spool.postgresql.leases import InstanceLeases, RowLease
from senderproxy.spool.postgresql.server_time import ServerTime
from senderproxy.spool.postgresql.statements import AddedMessage
from senderproxy.spool.sqlite import rows
from senderproxy.spool.sqlite.content import RowBody
from senderproxy.tracking.record import ACCOUNT_LANE, Lane, RecipientStatus

ADD_LEASE: Final = "INSERT INTO lease (instance, message, lane) VALUES ($1, $2, $3) RETURNING number"
_AcceptCall: TypeAlias = tuple[Sequence[Arrival], bool]  # the messages of one caller; whether they are leased
_ARRIVALS: Final = 256  # calls of `accept` at once; bounds the memory of messages that wait for a connection


class SharedIncoming:
    """New messages of one instance."""

    def __init__(self, connections: Connections, instance: Instance, leases: InstanceLeases, time: ServerTime) -> None:
        self.keeps_subjects = False
        self._connections = connections
        self._instance = instance
        self._leases = leases
        self._time = time
        self._slots = asyncio.Semaphore(_ARRIVALS)
        self._groups = AcceptGroups(self._write)

    async def accept(self, arrivals: Sequence[Arrival], leased: bool) -> Sequence[Claim]:
        """See relay.ports.Spool."""
        if not arrivals:
            return []
        if leased or not any(_has_result(arrival) for arrival in arrivals):
            self._instance.check()  # a COMMIT may wait for a standby without end: the client keeps its message
        async with self._slots:
            size = _size_in_memory(arrivals)
            if size is None:
                writing: asyncio.Future[Sequence[RowLease]] = asyncio.ensure_future(self._write_one(arrivals, leased))
            else:
                writing = self._groups.add((arrivals, leased), size)
            try:
                taken = await asyncio.shield(writing)
            except asyncio.CancelledError:
                writing.add_done_callback(self._forget)
                raise
        for one in taken:
            self._leases.take(one)
        return [_new_claim(arrival, one) for arrival, one in zip(arrivals, taken, strict=True)] if leased else []

    async def _write_one(self, arrivals: Sequence[Arrival], leased: bool) -> Sequence[RowLease]:
        [taken] = await self._write([(arrivals, leased)])
        return taken

    async def _write(self, calls: Sequence[_AcceptCall]) -> Sequence[Sequence[RowLease]]:
        """Store the messages of these calls in one transaction; the leases of each."""
        instance = self._instance.number
        together = [arrival for arrivals, _leased in calls for arrival in arrivals]
        ids = [arrival.submission.id for arrival in together]

        async def work(connection: DatabaseConnection) -> Sequence[Sequence[RowLease]]:
            messages = await self.new_messages(connection, together)
            await statements.add(connection, messages)
            in_order = iter(messages)
            found: list[list[RowLease]] = []
            for arrivals, leased in calls:
                taken: list[RowLease] = []
                for arrival, message in zip(arrivals, islice(in_order, len(arrivals)), strict=True):
                    if leased:
                        taken.append(await _lease(connection, instance, arrival, message))
                found.append(taken)
            return found

        async def was_committed(connection: DatabaseConnection) -> bool:
            return bool(await connection.fetchval(KNOWN, ids) == len(ids))

        return await self._connections.write(work, was_committed)

    async def new_messages(self, connection: DatabaseConnection, arrivals: Sequence[Arrival]) -> list[AddedMessage]:
        """The rows of new messages, with their numbers."""
        now = self._time.now()
        numbers = await statements.numbers(connection, len(arrivals)) if arrivals else []
        messages: list[AddedMessage] = []
        for number, arrival in zip(numbers, arrivals, strict=True):
            submission = arrival.submission
            received_at = self._time.from_machine(submission.received_at)
            by_server = replace(arrival, submission=replace(submission, received_at=received_at))
            jobs = [statements.job_row(job, number, now) for job in arrival.jobs]
            new_rows = rows.rows_of(by_server, number, now, keeps_subject=self.keeps_subjects)
            body = submission.message.body if _keeps_content(arrival) else None
            messages.append(AddedMessage(new_rows, submission.message.header.raw, body, jobs))
        return messages

    def _forget(self, writing: "asyncio.Future[Sequence[RowLease]]") -> None:
        """The caller is gone: what was leased for it is due."""
        if writing.cancelled() or writing.exception() is not None:
            return
        for one in writing.result():
            self._leases.give_back(partial(self._end, one))

    async def _end(self, leased: RowLease) -> None:
        async def work(connection: DatabaseConnection) -> None:
            await connection.execute("DELETE FROM lease WHERE number = $1", leased.lease)

        async def was_committed(_connection: DatabaseConnection) -> bool:
            return True

        await self._connections.write(work, was_committed)
        self._leases.on_return(leased.lane)


async def _lease(connection: DatabaseConnection, instance: int, arrival: Arrival, message: AddedMessage) -> RowLease:
    lane = _lane_of(arrival)
    text = "" if lane is None else rows.lane_text(lane)
    lease = await connection.fetchval(ADD_LEASE, instance, message.number, text)
    return RowLease(lease, instance, message.number, text, message.rows.message[2], arrival.submission.id)


def _size_in_memory(arrivals: Sequence[Arrival]) -> int | None:
    """The octets of the bodies; None if one is large, or must be read from a disk: it has a transaction of its own."""
    bodies = [arrival.submission.message.body for arrival in arrivals if _keeps_content(arrival)]
    if any(body.disk is not None or body.size > PART for body in bodies):
        return None
    return sum(body.size for body in bodies)


def _has_result(arrival: Arrival) -> bool:
    return any(state.status.is_final for state in arrival.states.values())


def _keeps_content(arrival: Arrival) -> bool:
    is_held = any(job.holds_content for job in arrival.jobs)
    return is_held or not all(state.status.is_final for state in arrival.states.values())


def _lane_of(arrival: Arrival) -> Lane | None:
    """The lane of all waiting recipients; None: they are in several."""
    lane = Lane.of_account(arrival.account)
    waiting = [path for path, state in arrival.states.items() if state.status is RecipientStatus.WAITING]
    lanes = {arrival.lanes.get(path, lane) for path in waiting} if arrival.lanes else {lane}
    return lanes.pop() if len(lanes) == 1 else None


def _new_claim(arrival: Arrival, leased: RowLease) -> Claim:
    """The claim on a new message. A small body in memory is copied: the caller may close its own."""
    submission = arrival.submission
    body: Body = submission.message.body
    if body.disk is None:
        body = RowBody(b"".join(body.blocks()), body.is_ascii, body.has_long_lines)
        submission = replace(submission, message=Message(submission.message.header, body))
    waiting = {
        path: state if state.due_in is None else replace(state, due_in=None)
        for path, state in arrival.states.items()
        if state.status is RecipientStatus.WAITING
    }
    lane = Lane.parse(leased.lane) if leased.lane else None
    account = lane.name if lane is not None and lane.kind == ACCOUNT_LANE else arrival.account
    received_at = rows.from_ms(leased.received_at)
    submission = replace(submission, received_at=received_at)
    return Claim(
        Lease(str(leased.lease)), lane, submission, account, arrival.author, waiting, decision=arrival.decision
    )
