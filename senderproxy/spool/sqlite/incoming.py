"""Incoming messages: their content is stored, then their rows; a copy stays in the cache.

Guarantees: a message's rows are written only after the file of its body, if it has one, was synced; without the rows,
the file is removed. Memory for messages that wait for the writer is bounded.
Not here: the files (spool.sqlite.content_writer), the transaction (spool.sqlite.writer), messages that passed through
(spool.sqlite.history).
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final
from zlib import crc32

from senderproxy.clock import Clock
from senderproxy.mail.message import Body, Disk, Message
from senderproxy.relay.ports import Arrival, Claim, Lease
from senderproxy.spool.sqlite import rows
from senderproxy.spool.sqlite.claims import await_lease, checksum_before_body
from senderproxy.spool.sqlite.content import Content, RowBody
from senderproxy.spool.sqlite.content_writer import ContentWriter
from senderproxy.spool.sqlite.jobs import job_row
from senderproxy.spool.sqlite.leases import CachedMessage, LeasedMessage, Leases
from senderproxy.spool.sqlite.rows import Row
from senderproxy.spool.sqlite.spool_folder import disk_error
from senderproxy.spool.sqlite.spool_time import SpoolTime
from senderproxy.spool.sqlite.statements import NewMessage
from senderproxy.spool.sqlite.writer import WriteJob, Writer
from senderproxy.tracking.record import ACCOUNT_LANE, Lane, RecipientStatus
from senderproxy.translation import _

_ARRIVALS: Final = 256  # calls of `accept` at once; bounds the memory of messages that wait for the writer
_SLOT_WAIT: Final = 1.0  # seconds in the queue for a slot between two looks at the disk
_CACHE_OVERHEAD: Final = 4096  # octets, estimated, that a cached message takes beside its content


@dataclass(frozen=True, slots=True)
class StoredContent:
    """The content of an arrival: its row without the message's number, its body for a claim, its file's name."""

    row: Row | None = None
    body: Body | None = None
    file: str | None = None


class Incoming:
    """New messages of one spool: accepted ones, and reports."""

    def __init__(
        self,
        writer: Writer,
        leases: Leases,
        content: Content,
        files: ContentWriter,
        clock: Clock,
        time: SpoolTime,
        *,
        row_limit: int,
        last_number: int,
    ) -> None:
        """`row_limit`: octets of a body that is stored in a row; `last_number`: of the newest message."""
        self.last_number = last_number
        self._writer = writer
        self._leases = leases
        self._content = content
        self._files = files
        self._clock = clock
        self._time = time
        self._row_limit = row_limit
        self._slots = asyncio.Semaphore(_ARRIVALS)
        self.keeps_subjects = False
        self._files_without_row: set[str] = set()

    def next_number(self) -> int:
        """The number of a new message; numbers are in the order of submission."""
        self.last_number += 1
        return self.last_number

    async def accept(self, arrivals: Sequence[Arrival], leased: bool) -> Sequence[Claim]:
        """See relay.ports.Spool."""
        await self._take_slot()
        try:
            contents = await self.store_contents(arrivals)
            now = await self._time.now()
            claims = [self._new_claim(a, content) for a, content in zip(arrivals, contents, strict=True)]
            messages = self.new_messages(arrivals, contents, now)
            job = WriteJob(messages=messages, octets=_octets(messages))
            if leased:
                both = zip(messages, claims, strict=True)
                job.done = lambda _: self._leases.take_all(_leased(message, claim) for message, claim in both)
                ids = [claim.lease.id for claim in claims]
                await await_lease(self._writer, self._leases, self.submit(job, contents), lambda _: ids)
                return claims
            job.done = lambda _: self._cache(messages, claims)
            await asyncio.shield(self.submit(job, contents))
            return []
        finally:
            self._slots.release()

    async def _take_slot(self) -> None:
        """Wait for one of the slots. Raises SpoolError if the disk does not answer."""
        self._writer.stall.check()
        while self._slots.locked():  # otherwise the slot is taken without a wait
            with suppress(TimeoutError):
                async with asyncio.timeout(_SLOT_WAIT):
                    await self._slots.acquire()
                return
            self._writer.stall.check()
        await self._slots.acquire()

    def new_messages(
        self, arrivals: Sequence[Arrival], contents: Sequence[StoredContent], now: int
    ) -> list[NewMessage]:
        """The rows of new messages, with their numbers. `now`: milliseconds since 1970."""
        messages: list[NewMessage] = []
        for arrival, stored in zip(arrivals, contents, strict=True):
            number = self.next_number()
            content = None if stored.row is None else (number, *stored.row)
            new_jobs = [job_row(job, number, now) for job in arrival.jobs] if arrival.jobs else ()
            new_rows = rows.rows_of(arrival, number, now, keeps_subject=self.keeps_subjects)
            messages.append(NewMessage(new_rows, content, new_jobs))
        return messages

    def submit(self, job: WriteJob, contents: Sequence[StoredContent]) -> "asyncio.Future[Any]":
        """Submit a job with these contents; if it fails, their files are removed, also if the caller is cancelled.

        The future must not be cancelled: shield it.
        """
        future = self._writer.submit(job)
        if any(content.file is not None for content in contents):
            future.add_done_callback(
                lambda future: self._discard(contents) if future.exception() else self._rows_written(contents)
            )
        return future

    def without_pending(self, files: Sequence[str]) -> list[str]:
        """The files except those whose rows are still to be written."""
        return [name for name in files if name not in self._files_without_row]

    # ---- content ----

    async def store_contents(self, arrivals: Sequence[Arrival], *, use_reserve: bool = False) -> list[StoredContent]:
        """Read small bodies, write large ones to files. `use_reserve`: also if the disk has little free space.

        Raises SpoolError; then no file is left.
        """
        contents: list[StoredContent] = []
        try:
            for arrival in arrivals:
                content = await self._store_content(arrival, use_reserve)
                contents.append(content)
        except BaseException:
            self._discard(contents)
            raise
        return contents

    async def _store_content(self, arrival: Arrival, use_reserve: bool) -> StoredContent:
        is_held = any(job.holds_content for job in arrival.jobs)
        if not is_held and all(state.status.is_final for state in arrival.states.values()):
            return StoredContent()  # only the history of such a message is stored
        header, body = arrival.submission.message.header.raw, arrival.submission.message.body
        checksum = checksum_before_body(header, body)
        size, flags = body.size, (body.is_ascii, body.has_long_lines)
        if size <= self._row_limit:
            octets = b"".join(body.blocks()) if body.disk is None else await _read(body, body.disk)
            row: Row = (header, octets, None, len(octets), crc32(octets, checksum), *map(int, flags))
            return StoredContent(row, RowBody(octets, *flags))
        name = f"{arrival.submission.id}-{self._clock.new_id()}"
        self._files_without_row.add(name)
        try:
            checksum = await self._files.write(name, body, checksum, use_reserve=use_reserve)
        except BaseException:
            self._files_without_row.discard(name)
            raise
        row = (header, None, name, size, checksum, *map(int, flags))
        return StoredContent(row, self._content.body(name, size, *flags), name)

    def _rows_written(self, contents: Sequence[StoredContent]) -> None:
        self._files_without_row.difference_update(content.file for content in contents if content.file is not None)

    def _discard(self, contents: Sequence[StoredContent]) -> None:
        """Remove the files of contents without rows; the sweep removes those that this leaves behind."""
        files = [content.file for content in contents if content.file is not None]
        if files:
            self._files_without_row.difference_update(files)
            self._files.remove(files)

    def _cache(self, messages: Sequence[NewMessage], claims: Sequence[Claim]) -> None:
        """Cache small messages whose recipients are all due at once; on the writer's thread, before the next job."""
        for message, claim in zip(messages, claims, strict=True):
            content, is_complete = message.content, len(claim.due) == len(message.rows.recipients)
            is_uniform = is_complete and len({row[4:] for row in message.rows.recipients}) == 1
            if content is not None and content[3] is None and is_uniform:
                octets = _CACHE_OVERHEAD + len(content[1]) + len(content[2])
                self._leases.cache(CachedMessage(_leased(message, claim), claim, octets))

    def _new_claim(self, arrival: Arrival, content: StoredContent) -> Claim:
        """The claim on a new message, with its content in the spool."""
        submission = arrival.submission
        if content.body is not None:
            submission = submission.with_message(Message(submission.message.header, content.body))
        waiting = {
            path: state if state.due_in is None else replace(state, due_in=None)
            for path, state in arrival.states.items()
            if state.status is RecipientStatus.WAITING
        }
        lease = Lease(self._leases.new_id())
        lane: Lane | None = Lane.of_account(arrival.account)
        if arrival.lanes:
            lanes = {arrival.lanes.get(path, lane) for path in waiting}
            lane = lanes.pop() if len(lanes) == 1 else None
        account = lane.name if lane is not None and lane.kind == ACCOUNT_LANE else arrival.account
        return Claim(lease, lane, submission, account, arrival.author, waiting, decision=arrival.decision)


async def _read(body: Body, disk: Disk) -> bytes:
    try:
        return await disk.read(body)
    except OSError as error:
        raise disk_error(_("A message cannot be read from its temporary file"), error) from error


def _octets(messages: Sequence[NewMessage]) -> int:
    total = 0
    for message in messages:
        total += message.rows.octets
        if message.content is not None:
            total += len(message.content[1]) + len(message.content[2] or b"")
    return total


def _leased(message: NewMessage, claim: Claim) -> LeasedMessage:
    row = message.rows.message
    file = None if message.content is None else message.content[3]
    return LeasedMessage(
        claim.lease.id, row[1], row[0], "" if claim.lane is None else rows.lane_text(claim.lane), row[2], file
    )
