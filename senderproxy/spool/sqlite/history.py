"""History of messages: written for those that passed through, deleted for all when it is old.

Guarantees: `note` never waits and never raises; the history in memory is bounded, and what is lost is counted and
logged. It is written with the next transaction, or after a second. It has a limit in octets, above which the oldest is
deleted, and never takes the space that new messages need.
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
from senderproxy.spool.sqlite.writer import WriteJob, Writer

_DELAY: Final = 1.0  # seconds in memory at most; a power cut costs as much
_LIMIT: Final = 10_000  # messages in memory; each takes 1 to 2 kB
_GROWTH: Final = 32  # the part of the limit by which the history may exceed it for a short time
_DELETED_AT_ONCE: Final = 200  # messages in one transaction; other jobs wait for some milliseconds

_log = logging.getLogger("senderproxy.spool")


class History:
    """The history of one spool; `limits` may be replaced at any time."""

    def __init__(self, writer: Writer, clock: Clock, next_number: Callable[[], int], limits: SpoolLimits) -> None:
        self.limits = limits
        self._writer = writer
        self._clock = clock
        self._next_number = next_number
        self._unwritten: deque[NewMessage] = deque()
        self._octets = 0  # written since the last `make_room`, estimated
        self._lost = 0
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def note(self, arrival: Arrival) -> None:
        """See relay.ports.Spool."""
        if self._closed or len(self._unwritten) >= _LIMIT:
            self._lose()
            return
        try:
            message = rows.rows_of(arrival, self._next_number(), rows.to_ms(self._clock.now()))
        except Exception as error:  # noqa: BLE001  the message has been delivered: its history must not cause an error
            self._lose(error)
            return
        self._unwritten.append(NewMessage(message, None))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_DELAY, self._write)

    def close(self) -> None:
        """Write what is in memory; from now on nothing is noted."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._write()

    def log_losses(self) -> None:
        """Log the number of lost histories, if there are any."""
        if self._lost:
            event(_log, log_events.HISTORY_LOST, count=self._lost)

    def take_jobs(self) -> Sequence[WriteJob]:
        """The jobs that write what is in memory; on the writer's thread, for its next transaction."""
        jobs: list[WriteJob] = []
        while self._unwritten:
            message = self._unwritten.popleft()
            octets = message.rows.octets
            if not self._has_space(octets):
                self._lose("too little space on the disk")
                continue
            self._octets += octets
            jobs.append(WriteJob(messages=[message], needs_space=False, failed=self._lose, octets=octets))
        return jobs

    def _has_space(self, octets: int) -> bool:
        try:
            return self._writer.free_space.claim_for_history(octets)
        except OSError:
            return False

    async def delete_old(self, now: datetime) -> None:
        """Delete old history in small transactions, so that other jobs do not wait long."""
        before = rows.to_ms(now - self.limits.history)
        while (
            await self._writer.submit(
                WriteJob(run=lambda connection: statements.delete_history(connection, before, _DELETED_AT_ONCE))
            )
            == _DELETED_AT_ONCE
        ):
            pass

    @property
    def has_grown(self) -> bool:
        """True if so much was written since the last `make_room` that it should be called before its time."""
        return self._octets >= self.limits.history_size // _GROWTH

    async def make_room(self, limit: int) -> None:
        """Delete the oldest history until the database uses at most `limit` octets, free pages not counted."""
        self._octets = 0
        used = await self._writer.submit(WriteJob(run=statements.used_octets, reads_only=True))
        count = 0
        while used > limit:
            job = WriteJob(run=lambda c: statements.delete_oldest_history(c, _DELETED_AT_ONCE), uses_reserve=True)
            deleted, used = await self._writer.submit(job)
            count += deleted
            if deleted < _DELETED_AT_ONCE:
                break
        if count:
            event(_log, log_events.HISTORY_SHORTENED, count=count)

    def _write(self) -> None:
        self._timer = None
        if self._unwritten:
            self._writer.enqueue(WriteJob(run=lambda _: None))  # the writer adds `take_jobs` to its transaction

    def _lose(self, reason: BaseException | str | None = None) -> None:
        if self._lost == 0:
            why = reason or ("the spool is closed" if self._closed else "more messages than the disk can write")
            event(_log, log_events.HISTORY_LOST, why=why)
        self._lost += 1
