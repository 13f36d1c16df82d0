"""Claims: a message is leased, read from its rows, and verified.

Guarantees: a claim is as the message was written; a message that cannot be read is held, never guessed and never
deleted. If the caller of a claim is cancelled, the lease is given back.
Not here: the search for a message to lease (spool.sqlite.leases), the end of a claim (spool.sqlite.store).
"""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Protocol
from zlib import crc32

from senderproxy import log_events
from senderproxy.clock import Clock
from senderproxy.log import event
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.message import Body, Message
from senderproxy.mail.submission import Submission
from senderproxy.relay.ports import Claim, SpoolError
from senderproxy.spool.sqlite import leases, rows, statements
from senderproxy.spool.sqlite.claim_rows import claim_of, claim_without_content, is_open, is_sealed
from senderproxy.spool.sqlite.content import Content, FileBody, RowBody
from senderproxy.spool.sqlite.leases import CachedMessage, Found, LeasedRows, Leases
from senderproxy.spool.sqlite.rows import Row, UnreadableRow
from senderproxy.spool.sqlite.spool_time import SpoolTime
from senderproxy.spool.sqlite.threads import SpoolThreads
from senderproxy.spool.sqlite.writer import WriteJob, Writer
from senderproxy.tracking.record import Event, EventKind, Lane
from senderproxy.translation import _

_log = logging.getLogger("senderproxy.spool")


class Claims:
    """Claims of one spool. See relay.ports.Spool for the four methods."""

    def __init__(
        self,
        writer: Writer,
        leases: Leases,
        content: Content,
        content_threads: SpoolThreads,
        clock: Clock,
        time: SpoolTime,
    ) -> None:
        self._writer = writer
        self._leases = leases
        self._content = content
        self._content_threads = content_threads
        self._clock = clock
        self._time = time

    async def claim_due(self, lane: Lane, limit: int) -> Sequence[Claim]:
        """The messages of this lane that have been due longest, with its due recipients."""
        text = rows.lane_text(lane)
        now = await self._time.now()

        def is_due(state: Row) -> bool:
            return bool(state[0] == "waiting" and state[1] <= now and state[6] == text)

        return await self._claim_first(lambda c: leases.lease_due(c, self._leases, text, now, limit), is_due)

    async def claim_expired(self, lane: Lane, age: timedelta, limit: int) -> Sequence[Claim]:
        """The oldest messages of this lane above that age, with its waiting recipients."""
        text = rows.lane_text(lane)
        before = await self._time.now() - rows.span_ms(age)
        if not self._time.ages_trusted():
            return []
        return await self._claim_first(
            lambda c: leases.lease_expired(c, self._leases, text, before, limit),
            lambda state: bool(state[0] == "waiting" and state[6] == text),
        )

    async def claim_undelayed(self, age: timedelta, limit: int) -> Sequence[Claim]:
        """The oldest messages above that age, with their waiting recipients that have no delay report."""
        before = await self._time.now() - rows.span_ms(age)
        return await self._claim_first(
            lambda c: leases.lease_undelayed(c, self._leases, before, limit),
            lambda state: bool(state[0] == "waiting" and not state[5]),
        )

    async def claim_one(self, message_id: str) -> Claim | None:
        """This message, also if its content cannot be read: an operator may cancel it, or try it again."""
        leased = await self._lease(lambda c: leases.lease_one(c, self._leases, message_id))
        if not leased:
            return None
        (found,) = leased
        if isinstance(found, CachedMessage):
            return found.claim
        try:
            return _read_claim(found, self._content, is_open)
        except UnreadableRow as reason:
            try:
                return _claim_without_content(found, str(reason))
            except UnreadableRow as rows_reason:
                give_back(self._writer, self._leases, [found.leased.lease])
                raise SpoolError(
                    _("Message {id} cannot be read: {reason}.").format(id=message_id, reason=rows_reason),
                    hint=_("Look for errors of the disk: dmesg"),
                ) from reason

    async def read_submission(self, found: LeasedRows) -> Submission:
        """The message of these rows, with its content verified. Raises UnreadableRow."""
        submission = _read_claim(found, self._content, lambda _: False).submission
        await self._verify(found, submission.message)
        return submission

    async def await_lease(
        self, future: "asyncio.Future[Any]", leases: "GivesBack", leased: Callable[[Any], Sequence[str]]
    ) -> Any:  # noqa: ANN401  the job's result
        """See `await_lease`."""
        return await await_lease(self._writer, leases, future, leased)

    async def _claim_first(
        self, lease: Callable[[sqlite3.Connection], Sequence[Found]], selects: Callable[[Row], bool]
    ) -> Sequence[Claim]:
        """The first readable messages; unreadable ones are held, and if there are no others, the next are leased."""
        while found := await self._lease(lease):
            claims: list[Claim] = []
            try:
                for one in found:
                    if isinstance(one, CachedMessage):
                        claims.append(one.claim)
                    elif (claim := await self._read(one, selects)) is not None:
                        claims.append(claim)
            except BaseException:
                give_back(self._writer, self._leases, [one.leased.lease for one in found])
                raise
            if claims:
                return claims
        return []

    async def _read(self, found: LeasedRows, selects: Callable[[Row], bool]) -> Claim | None:
        """The claim of a leased message; None if it cannot be read, and is held now."""
        try:
            claim = _read_claim(found, self._content, selects)
            await self._verify(found, claim.submission.message)
            return claim
        except UnreadableRow as reason:
            await self._hold(found, str(reason))
            return None

    async def _lease(self, lease: Callable[[sqlite3.Connection], Sequence[Found]]) -> Sequence[Found]:
        future = self._writer.submit(WriteJob(run=lease, reads_only=True))
        found: Sequence[Found] = await await_lease(
            self._writer, self._leases, future, lambda found: [one.leased.lease for one in found]
        )
        return found

    async def _verify(self, found: LeasedRows, message: Message) -> None:
        """Raises UnreadableRow if the content is not as it was written."""
        assert found.content is not None
        checksum, expected = checksum_before_body(message.header.raw, message.body), found.content[4]
        if isinstance(message.body, FileBody):
            await self._content_threads.do(self._content.verify, message.body, checksum, expected)
        elif crc32(found.content[1] or b"", checksum) != expected:
            raise UnreadableRow("its content is damaged (wrong checksum)")

    async def _hold(self, found: LeasedRows, why: str) -> None:
        now = self._clock.now()
        held = Event(now, EventKind.HELD, (), {"why": why})
        leased = found.leased
        event(_log, log_events.MESSAGE_UNREADABLE, id=leased.id, why=why)

        def run(connection: sqlite3.Connection) -> None:
            statements.hold(connection, leased, why, held, rows.to_ms(now))

        await self._writer.submit(WriteJob(run=run, uses_reserve=True, done=lambda _: self._leases.end(leased.lease)))


class GivesBack(Protocol):
    """Leases of messages or of jobs."""

    def give_back(self, lease: str) -> None:
        """End a lease whose message or job was not attempted."""


async def await_lease(
    writer: Writer, leases: GivesBack, future: "asyncio.Future[Any]", leased: Callable[[Any], Sequence[str]]
) -> Any:  # noqa: ANN401  the job's result
    """Await a job that leases messages; give the leases back if the caller is cancelled.

    `leased`: the ids of the leases, from the job's result.
    """

    def end_leases(future: "asyncio.Future[Any]") -> None:
        if future.exception() is None:
            give_back(writer, leases, leased(future.result()))

    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        future.add_done_callback(end_leases)
        raise


def give_back(writer: Writer, leases: GivesBack, lease_ids: Sequence[str]) -> None:
    """End leases without a change of their messages, which are due again."""

    def run(_connection: sqlite3.Connection) -> None:
        for lease in lease_ids:
            leases.give_back(lease)

    writer.enqueue(WriteJob(run=run, reads_only=True))


def checksum_before_body(header: bytes, body: Body) -> int:
    """The CRC-32 of a content up to its body: the header section and the known properties of the body."""
    return crc32(header, crc32(b"%d %d %d" % (body.size, body.is_ascii, body.has_long_lines)))


# ---- rows to claims ----


def _read_claim(found: LeasedRows, content: Content, selects: Callable[[Row], bool]) -> Claim:
    """The claim of a leased message. Raises UnreadableRow if its rows are not as they were written."""
    if found.why:
        raise UnreadableRow(found.why)
    if found.content is None:
        raise UnreadableRow("its content is missing")
    if not is_sealed(found):
        raise UnreadableRow("its rows are damaged (wrong checksum)")
    return claim_of(found.leased.lease, found, _message(found.content, content), selects)


def _claim_without_content(found: LeasedRows, why: str) -> Claim:
    """See claim_rows. Raises UnreadableRow."""
    if found.why:
        raise UnreadableRow(found.why)
    return claim_without_content(found.leased.lease, found, why)


def _message(row: Row, content: Content) -> Message:
    header, octets, file, size, _checksum, is_ascii, has_long_lines = row
    body: Body
    if file is not None:
        body = content.body(file, size, bool(is_ascii), bool(has_long_lines))
    elif octets is not None and len(octets) == size:
        body = RowBody(octets, bool(is_ascii), bool(has_long_lines))
    else:
        raise UnreadableRow("its content is shorter than it was when written")
    return Message(HeaderSection(header), body)
