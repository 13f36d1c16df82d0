"""Jobs: work that is stored with a message, or for itself, and done after the commit.

Guarantees: a job is written in the commit of its message; the content that it holds is deleted in the commit in which
the last recipient and the last job are final. A job of a kind that this version does not know is kept. A job or a
content that cannot be read is kept for an operator and never attempted.
Not here: the work (the callers), transactions (spool.sqlite.writer).
"""

import asyncio
import logging
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count, islice
from typing import Final
from zlib import crc32

from senderproxy import log_events
from senderproxy.log import event
from senderproxy.mail.submission import Submission
from senderproxy.relay.ports import JobClaim, JobTotals, Lease, NewJob
from senderproxy.spool.sqlite import leases, rows
from senderproxy.spool.sqlite.claims import Claims
from senderproxy.spool.sqlite.leases import LeasedMessage, LeasedRows
from senderproxy.spool.sqlite.rows import Row, UnreadableRow
from senderproxy.spool.sqlite.spool_time import SpoolTime
from senderproxy.spool.sqlite.statements import DROP_CONTENT, add_events
from senderproxy.spool.sqlite.writer import WriteJob, Writer
from senderproxy.tracking.record import Event, Lane

DUE: Final = (
    "SELECT due_at, number FROM job INDEXED BY job_due"
    " WHERE kind = ? AND lane = ? AND due_at IS NOT NULL AND due_at <= ? ORDER BY due_at, number"
)
NEXT_LANE: Final = (
    "SELECT lane FROM job INDEXED BY job_due WHERE kind = ? AND lane > ? AND due_at IS NOT NULL ORDER BY lane LIMIT 1"
)
JOB: Final = (
    "SELECT kind, lane, payload, message, holds_content, seal, attempts, why, added_at FROM job WHERE number = ?"
)
END: Final = "DELETE FROM job WHERE number = ?"
RETRY: Final = "UPDATE job SET due_at = ?, attempts = attempts + 1, why = ? WHERE number = ?"
HOLD: Final = "UPDATE job SET due_at = NULL, why = ? WHERE number = ?"
FILE: Final = "SELECT file FROM content WHERE message = ?"
# Reads all jobs, of which there are few.
ALL: Final = "SELECT kind, lane, due_at, added_at FROM job"

_FOREVER: Final = 2**62  # milliseconds since 1970; later than any due time
_FIXED: Final = 5  # columns of JOB that the seal covers

_log = logging.getLogger("senderproxy.spool")


def job_row(job: NewJob, message: int | None, now: int) -> Row:
    """kind, lane, added_at, due_at, attempts, why, payload, message, holds_content, seal."""
    fixed = (job.kind, str(job.lane), job.payload, message, int(job.holds_content))
    return (*fixed[:2], now, now + rows.span_ms(job.due_in), 0, "", *fixed[2:], _seal(fixed))


def _seal(fixed: Row) -> int:
    return crc32(repr(fixed).encode("utf-8", "backslashreplace"))


@dataclass(slots=True)
class _LeasedJob:
    """The rows of a leased job, and those of its message if it holds the content."""

    lease: str
    number: int
    row: Row
    message: LeasedRows | None = None


@dataclass(slots=True)
class _JobLeases:
    """The leased jobs. In memory only: a restart ends all leases. On the writer's thread."""

    _ids: "count[int]" = field(default_factory=lambda: count(1))
    _numbers: dict[str, int] = field(default_factory=dict)  # by lease

    def take(self, number: int) -> str:
        lease = f"job {next(self._ids)}"
        self._numbers[lease] = number
        return lease

    def give_back(self, lease: str) -> None:
        self._numbers.pop(lease, None)

    def number(self, lease: str) -> int | None:
        return self._numbers.get(lease)

    def __contains__(self, number: int) -> bool:
        return number in self._numbers.values()


class Jobs:
    """Jobs of one spool. See relay.ports.Spool."""

    def __init__(self, writer: Writer, claims: Claims, time: SpoolTime) -> None:
        self._writer = writer
        self._claims = claims
        self._time = time
        self._leases = _JobLeases()

    async def claim(self, kind: str, lane: Lane, limit: int) -> Sequence[JobClaim]:
        """Lease the jobs of a kind and a lane that have been due longest."""
        now = await self._time.now()
        lease = WriteJob(run=lambda connection: self._lease(connection, (kind, str(lane), now), limit), reads_only=True)
        found: Sequence[_LeasedJob] = await self._claims.await_lease(
            self._writer.submit(lease), self._leases, lambda found: [one.lease for one in found]
        )
        claims: list[JobClaim] = []
        for one in found:
            try:
                claims.append(await self._read(one))
            except UnreadableRow as reason:
                await self._hold(one, str(reason))
        return claims

    def _lease(self, connection: sqlite3.Connection, values: Row, limit: int) -> Sequence[_LeasedJob]:
        with closing(connection.execute(DUE, values)) as due:
            numbers = list(islice((number for _, number in due if number not in self._leases), limit))
        found: list[_LeasedJob] = []
        for number in numbers:
            row = connection.execute(JOB, (number,)).fetchone()
            message = leases.read_rows(connection, LeasedMessage("", "", row[3], "", 0, None)) if row[4] else None
            found.append(_LeasedJob(self._leases.take(number), number, row, message))
        return found

    async def _read(self, found: _LeasedJob) -> JobClaim:
        """The claim on a leased job. Raises UnreadableRow."""
        kind, lane, payload, _message, _holds, seal, attempts, why, added_at = found.row
        if seal != _seal(found.row[:_FIXED]):
            raise UnreadableRow("its row is damaged (wrong checksum)")
        submission: Submission | None = None
        if found.message is not None:
            submission = await self._claims.read_submission(found.message)
        age = self._time.age(added_at)
        return JobClaim(Lease(found.lease), kind, Lane.parse(lane), payload, attempts, why, submission, age)

    async def _hold(self, found: _LeasedJob, why: str) -> None:
        event(_log, log_events.JOB_UNREADABLE, kind=found.row[0], why=why)

        def run(connection: sqlite3.Connection) -> None:
            connection.execute(HOLD, (rows.clean(why), found.number))

        hold = WriteJob(run=run, uses_reserve=True, done=lambda _: self._leases.give_back(found.lease))
        await self._writer.submit(hold)

    async def settle(
        self, claim: JobClaim, retry_in: timedelta | None, why: str, events: Sequence[Event]
    ) -> str | None:
        """End a job, or retry it later; the name of a body file that is not needed any more."""
        number = self._leases.number(claim.lease.id)
        if number is None:
            raise ValueError(f"the job of kind {claim.kind} is not leased")
        now = await self._time.now()

        def run(connection: sqlite3.Connection) -> str | None:
            if events:
                message = connection.execute(JOB, (number,)).fetchone()[3]
                if message is not None:
                    add_events(connection, message, events)
            if retry_in is not None:
                connection.execute(RETRY, (now + rows.span_ms(retry_in), rows.clean(why), number))
                return None
            return _end(connection, number)

        def done(file: str | None) -> str | None:
            self._leases.give_back(claim.lease.id)
            return file

        file: str | None = await asyncio.shield(self._writer.submit(WriteJob(run=run, uses_reserve=True, done=done)))
        return file

    async def due(self, kind: str) -> Mapping[Lane, timedelta]:
        """The time left to the next due time of each lane with jobs of this kind."""
        now = await self._time.now()
        found: Mapping[str, int] = await self._writer.submit(
            WriteJob(run=lambda connection: self._due(connection, kind), reads_only=True)
        )
        return {Lane.parse(lane): timedelta(milliseconds=at - now) for lane, at in found.items()}

    def _due(self, connection: sqlite3.Connection, kind: str) -> Mapping[str, int]:
        found: dict[str, int] = {}
        row = connection.execute(NEXT_LANE, (kind, "")).fetchone()
        while row is not None:
            (lane,) = row
            with closing(connection.execute(DUE, (kind, lane, _FOREVER))) as due:
                first = next((at for at, number in due if number not in self._leases), None)
            if first is not None:
                found[lane] = first
            row = connection.execute(NEXT_LANE, (kind, lane)).fetchone()
        return found


def _end(connection: sqlite3.Connection, number: int) -> str | None:
    """Delete a job, and the content that only it has held; return the name of that content's file."""
    message: int | None = connection.execute(JOB, (number,)).fetchone()[3]
    connection.execute(END, (number,))
    if message is None:
        return None
    row = connection.execute(FILE, (message,)).fetchone()
    dropped = connection.execute(DROP_CONTENT, (message,)).rowcount
    return row[0] if row is not None and dropped else None


def totals(connection: sqlite3.Connection, now: int) -> Sequence[JobTotals]:
    """Counts of the jobs of each kind and lane. `now`: milliseconds since 1970."""
    found: dict[tuple[str, str], list[Row]] = {}
    for kind, lane, *times in connection.execute(ALL):
        found.setdefault((kind, lane), []).append(tuple(times))
    return [
        JobTotals(
            kind,
            Lane.parse(lane),
            count=len(times),
            unreadable=sum(due_at is None for due_at, _ in times),
            age=timedelta(milliseconds=now - min(added_at for _, added_at in times)),
        )
        for (kind, lane), times in sorted(found.items())
    ]
