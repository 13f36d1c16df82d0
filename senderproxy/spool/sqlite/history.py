"""History of messages: written for those that passed through, deleted for all when it is old.

Guarantees: `note` never waits and never raises; the history in memory is bounded, and what is lost is counted and
logged. It is written with the next transactions, or after a second; each has a bounded part of it, smaller on a slow
disk, so that a new message never waits long for the history of others. It has a limit in octets, above which the oldest
is deleted, and never takes the space that new messages need.
Not here: the history of queued messages, which is part of each change (spool.sqlite.statements).
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from senderproxy import log_events
from senderproxy.clock import Clock
from senderproxy.log import event
from senderproxy.relay.ports import Arrival
from senderproxy.spool.sqlite import rows, statements
from senderproxy.spool.sqlite.limits import SpoolLimits
from senderproxy.spool.sqlite.statements import NewMessage
from senderproxy.spool.sqlite.transaction_size import TransactionSize
from senderproxy.spool.sqlite.writer import WriteJob, Writer

_DELAY: Final = 1.0  # seconds in memory at most; a power cut costs as much
_LIMIT: Final = 16 * 1024 * 1024  # octets in memory, estimated; 12,000 messages with one recipient
_COMMIT_MOST: Final = 64 * 1024  # octets in one transaction, estimated: fifty messages
_COMMIT_LEAST: Final = 8 * 1024  # octets, on a slow disk: six messages
_COMMIT_BESIDE: Final = 16 * 1024  # octets beside new messages, whose clients wait: twelve messages
_GROWTH: Final = 32  # the part of the limit by which the history may exceed it for a short time
_DELETED_MOST: Final = 200  # messages in one transaction; other jobs wait for some milliseconds
_DELETED_LEAST: Final = 10  # messages, on a slow disk

_log = logging.getLogger("senderproxy.spool")


class History:
    """The history of one spool; `limits` may be replaced at any time."""

    def __init__(self, writer: Writer, clock: Clock, next_number: Callable[[], int], limits: SpoolLimits) -> None:
        self.limits = limits
        self._writer = writer
        self._clock = clock
        self._next_number = next_number
        self._unwritten: deque[NewMessage] = deque()
        self._noted = 0  # octets that were added to the deque; on the event loop only
        self._taken = 0  # octets that were removed from it; on the writer's thread only
        self._part = TransactionSize(_COMMIT_LEAST, _COMMIT_MOST, clock.monotonic, now=_COMMIT_MOST)
        self._octets = 0  # written since the last `make_room`, estimated
        self._lost = 0
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def note(self, arrival: Arrival) -> None:
        """See relay.ports.Spool."""
        if self._closed or self._noted - self._taken >= _LIMIT:
            self._lose()
            return
        try:
            message = rows.rows_of(
                arrival,
                self._next_number(),
                rows.to_ms(self._clock.now()),
                keeps_subject=self.limits.keep_subjects,
            )
        except Exception as error:  # noqa: BLE001  the message has been delivered: its history must not cause an error
            self._lose(error)
            return
        self._noted += message.octets
        self._unwritten.append(NewMessage(message, None))
        self._write_soon()

    def close(self) -> None:
        """Write what is in memory; from now on nothing is noted."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._write()

    def log_losses(self) -> None:
        """Log the number of lost histories, if there are any; at the end, when nothing more is written."""
        self._lost += len(self._unwritten)
        if self._lost:
            event(_log, log_events.HISTORY_LOST, count=self._lost)

    def take_jobs(self, beside_arrivals: bool) -> Sequence[WriteJob]:
        """The jobs that write the next part of what is in memory; on the writer's thread, for its next transaction."""
        most = min(self._part.now, _COMMIT_BESIDE) if beside_arrivals else self._part.now
        jobs: list[WriteJob] = []
        taken = 0
        while self._unwritten and taken < most:
            message = self._unwritten.popleft()
            octets = message.rows.octets
            self._taken += octets
            if not self._has_space(octets):
                self._lose("too little space on the disk")
                continue
            self._octets += octets
            taken += octets
            jobs.append(WriteJob(messages=[message], needs_space=False, failed=self._failed, octets=octets))
        if jobs:
            self._part.begin()
            jobs[-1].done = self._written
        return jobs

    def _written(self, _result: object) -> None:
        """Write the rest with the next transaction; on the writer's thread."""
        self._part.end()
        if self._unwritten:
            self._request_transaction()

    def _failed(self, error: BaseException) -> None:
        self._lose(error)
        if self._unwritten and not self._closed:
            self._write_soon()

    def _has_space(self, octets: int) -> bool:
        try:
            return self._writer.free_space.claim_for_history(octets)
        except OSError:
            return False

    async def delete_old(self, now: datetime) -> None:
        """Delete old history in small transactions, so that other jobs do not wait long."""
        before = rows.to_ms(now - self.limits.history)
        size = self._deletions()
        while True:
            job, limit = size.job(lambda connection, limit: statements.delete_history(connection, before, limit))
            if await self._writer.submit(job) < limit:
                break

    def _deletions(self) -> TransactionSize:
        return TransactionSize(_DELETED_LEAST, _DELETED_MOST, self._clock.monotonic)

    @property
    def has_grown(self) -> bool:
        """True if so much was written since the last `make_room` that it should be called before its time."""
        return self._octets >= self.limits.history_size // _GROWTH

    async def make_room(self, limit: int) -> None:
        """Delete the oldest history until the database uses at most `limit` octets, free pages not counted."""
        self._octets = 0
        used = await self._writer.submit(WriteJob(run=statements.used_octets, reads_only=True))
        count, size = 0, self._deletions()
        while used > limit:
            job, most = size.job(statements.delete_oldest_history, uses_reserve=True)
            deleted, used = await self._writer.submit(job)
            count += deleted
            if deleted < most:
                break
        if count:
            event(_log, log_events.HISTORY_SHORTENED, count=count)

    def _write_soon(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_DELAY, self._write)

    def _write(self) -> None:
        self._timer = None
        if self._unwritten:
            self._request_transaction()

    def _request_transaction(self) -> None:
        self._writer.enqueue(WriteJob(run=lambda _: None))  # the writer adds `take_jobs` to its transaction

    def _lose(self, reason: BaseException | str | None = None) -> None:
        if self._lost == 0:
            why = reason or ("the spool is closed" if self._closed else "more messages than the disk can write")
            event(_log, log_events.HISTORY_LOST, why=why)
        self._lost += 1
