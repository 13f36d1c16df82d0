"""Jobs: work that is stored with a message, or for itself, and done after the commit.

Guarantees: as spool.sqlite.jobs. Two instances never have the same job.
Not here: the work (the callers), the rows of new jobs (spool.postgresql.statements).
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from senderproxy import log_events
from senderproxy.log import event
from senderproxy.relay.ports import JobClaim, JobTotals, Lease
from senderproxy.spool.postgresql import statements
from senderproxy.spool.postgresql.claims import RowClaims
from senderproxy.spool.postgresql.connections import Connections, DatabaseConnection
from senderproxy.spool.postgresql.history_rows import end_message
from senderproxy.spool.postgresql.instance import Instance
from senderproxy.spool.postgresql.leases import InstanceLeases
from senderproxy.spool.postgresql.server_time import ServerTime
from senderproxy.spool.sqlite import rows
from senderproxy.spool.sqlite.rows import Row, UnreadableRow
from senderproxy.tracking.record import Event, Lane

LEASE_JOBS: Final = "SELECT lease, leased_job FROM lease_jobs($1, $2, $3, $4, $5)"
JOB: Final = (
    "SELECT kind, lane, payload, message, holds_content, seal, attempts, why, added_at FROM job WHERE number = $1"
)
END: Final = "DELETE FROM job WHERE number = $1"
RETRY: Final = "UPDATE job SET due_at = $1, attempts = attempts + 1, why = $2 WHERE number = $3"
HOLD: Final = "UPDATE job SET due_at = NULL, why = $1 WHERE number = $2"
END_LEASE: Final = "DELETE FROM job_lease WHERE job = $1 AND number = $2 RETURNING job"
STANDING: Final = "SELECT count(*) FROM job_lease WHERE number = ANY($1::bigint[])"
DUE: Final = "SELECT lane, due_at FROM due_job_times($1)"
ALL: Final = (  # reads all jobs, of which there are few
    "SELECT kind, lane, count(*), count(*) FILTER (WHERE due_at IS NULL), min(added_at) FROM job"
    " GROUP BY kind, lane ORDER BY kind, lane"
)
_FIXED: Final = 5  # columns of JOB that the seal covers

_log = logging.getLogger("senderproxy.spool")


@dataclass(frozen=True, slots=True)
class _ReadJob:
    lease: int
    number: int
    row: Row
    claim: JobClaim | None = None
    why: str = ""  # it cannot be read


class SharedJobs:
    """Jobs as one instance claims them. See relay.ports.Spool."""

    def __init__(
        self, connections: Connections, instance: Instance, claims: RowClaims, leases: InstanceLeases, time: ServerTime
    ) -> None:
        self._connections = connections
        self._instance = instance
        self._claims = claims
        self._leases = leases
        self._time = time
        self._numbers: dict[str, int] = {}  # of leased jobs, by the lease's id

    async def claim(self, kind: str, lane: Lane, limit: int) -> Sequence[JobClaim]:
        """Lease the jobs of a kind and a lane that have been due longest."""
        self._instance.check()
        values = (kind, str(lane), self._time.now(), limit, self._instance.number)
        taken: list[int] = []

        async def work(connection: DatabaseConnection) -> list[_ReadJob]:
            leased = await connection.fetch(LEASE_JOBS, *statements.storable(values))
            taken[:] = [row[0] for row in leased]
            return [await self._read(connection, row[0], row[1]) for row in leased]

        async def was_committed(connection: DatabaseConnection) -> bool:
            return bool(taken) and await connection.fetchval(STANDING, taken) > 0

        leasing = asyncio.create_task(self._connections.write(work, was_committed))
        try:
            found = await asyncio.shield(leasing)
        except asyncio.CancelledError:
            leasing.add_done_callback(self._leased_for_nobody)
            raise
        try:
            for one in found:
                if one.claim is None:
                    await self._hold(one)
        except BaseException:
            self._leases.give_back(lambda: self._give_back(found))
            raise
        claims = [(one.number, one.claim) for one in found if one.claim is not None]
        self._numbers |= {claim.lease.id: number for number, claim in claims}
        return [claim for _number, claim in claims]

    async def _read(self, connection: DatabaseConnection, lease: int, number: int) -> _ReadJob:
        row: Row = tuple(await connection.fetchrow(JOB, number))
        kind, lane, payload, message, holds, _seal, attempts, why, added_at = row
        try:
            _check(row)
            submission = await self._claims.submission(connection, message) if holds else None
        except UnreadableRow as reason:
            return _ReadJob(lease, number, row, why=str(reason))
        age = self._time.age(added_at)
        claim = JobClaim(Lease(f"job {lease}"), kind, Lane.parse(lane), payload, attempts, why, submission, age)
        return _ReadJob(lease, number, row, claim)

    async def _hold(self, found: _ReadJob) -> None:
        event(_log, log_events.JOB_UNREADABLE, kind=found.row[0], why=found.why)

        async def work(connection: DatabaseConnection) -> None:
            await connection.execute(HOLD, *statements.storable((rows.clean(found.why), found.number)))
            await connection.fetchval(END_LEASE, found.number, found.lease)

        await self._connections.write(work, self._has_ended(found.lease))

    def _leased_for_nobody(self, leasing: "asyncio.Task[list[_ReadJob]]") -> None:
        if leasing.cancelled() or leasing.exception() is not None:
            return
        found = leasing.result()
        self._leases.give_back(lambda: self._give_back(found))

    async def _give_back(self, found: Sequence[_ReadJob]) -> None:
        async def work(connection: DatabaseConnection) -> None:
            for one in found:
                await connection.fetchval(END_LEASE, one.number, one.lease)

        await self._connections.write(work, self._has_ended(*(one.lease for one in found)))

    async def settle(self, claim: JobClaim, retry_in: timedelta | None, why: str, events: Sequence[Event]) -> None:
        """End a job, or retry it later. Raises ValueError if its lease has ended."""
        number = self._numbers.get(claim.lease.id)
        if number is None:
            raise ValueError(f"the job of kind {claim.kind} is not leased")
        lease = int(claim.lease.id.removeprefix("job "))
        now = self._time.now()

        async def work(connection: DatabaseConnection) -> bool:
            if await connection.fetchval(END_LEASE, number, lease) is None:
                return False
            message: int | None = (await connection.fetchrow(JOB, number))[3]
            if message is not None:
                await connection.fetchval(statements.LOCK_MESSAGE, message)
                await statements.add_events(connection, message, events)
            if retry_in is not None:
                values = (now + rows.span_ms(retry_in), rows.clean(why), number)
                await connection.execute(RETRY, *statements.storable(values))
                return True
            await connection.execute(END, number)
            if message is not None:
                await end_message(connection, message)
            return True

        is_written = await self._connections.write(work, self._has_ended(lease))
        del self._numbers[claim.lease.id]
        if not is_written:
            raise ValueError(f"the job of kind {claim.kind} is not leased any more")

    def _has_ended(self, *leases: int) -> "_HasEnded":
        return _HasEnded(leases)

    async def due(self, kind: str) -> Mapping[Lane, timedelta]:
        """The time left to the next due time of each lane with jobs of this kind."""
        now = self._time.now()
        found = await self._connections.read(lambda connection: connection.fetch(DUE, kind))
        return {Lane.parse(lane): timedelta(milliseconds=at - now) for lane, at in found}

    async def totals(self) -> Sequence[JobTotals]:
        """Counts of all jobs."""
        now = self._time.now()
        found = await self._connections.read(lambda connection: connection.fetch(ALL))
        return [
            JobTotals(kind, Lane.parse(lane), count, unreadable, timedelta(milliseconds=now - oldest))
            for kind, lane, count, unreadable, oldest in found
        ]


def _check(row: Row) -> None:
    """Raises UnreadableRow if a row of JOB is not as it was written."""
    if row[_FIXED] != statements.job_seal(row[:_FIXED]):
        raise UnreadableRow("its row is damaged (wrong checksum)")


@dataclass(frozen=True, slots=True)
class _HasEnded:
    """Asks whether leases have ended: with them the transaction that ended them was committed."""

    leases: Sequence[int]

    async def __call__(self, connection: DatabaseConnection) -> bool:
        return bool(await connection.fetchval(STANDING, list(self.leases)) == 0)
