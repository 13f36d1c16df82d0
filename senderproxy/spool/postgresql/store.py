"""PostgresqlSpool: relay.ports.Spool and LearnedStore with a PostgreSQL database that several instances share.

Guarantees: docs/spool-states.md and docs/cluster.md. The library asyncpg is imported by this package only.
Not here: new messages (spool.postgresql.incoming), claims (spool.postgresql.claims), transactions
(spool.postgresql.connections), the heartbeat (spool.postgresql.instance).
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final, Self

from senderproxy import log_events
from senderproxy.clock import Clock
from senderproxy.log import event
from senderproxy.mail.header import HeaderSection
from senderproxy.relay.ports import (
    Arrival,
    Claim,
    JobClaim,
    JobTotals,
    LearnedRow,
    SpoolError,
    SpoolObserver,
    SpoolUpdate,
    Totals,
)
from senderproxy.spool.postgresql import learned, search, statements
from senderproxy.spool.postgresql.claims import RowClaims
from senderproxy.spool.postgresql.connection_slots import DatabaseConnectionSlots
from senderproxy.spool.postgresql.connections import Connections, DatabaseConnection
from senderproxy.spool.postgresql.grants import DatabaseGrants
from senderproxy.spool.postgresql.health import DatabaseHealth
from senderproxy.spool.postgresql.history import SharedHistory
from senderproxy.spool.postgresql.hourly_limits import DatabaseHourlyLimits
from senderproxy.spool.postgresql.incoming import SharedIncoming
from senderproxy.spool.postgresql.instance import LEASE, Instance
from senderproxy.spool.postgresql.jobs import SharedJobs
from senderproxy.spool.postgresql.leases import InstanceLeases, RowLease
from senderproxy.spool.postgresql.server_time import ServerTime
from senderproxy.spool.postgresql.statements import LeasedChange
from senderproxy.spool.postgresql.target import DatabaseTarget
from senderproxy.spool.postgresql.wakes import Wakes
from senderproxy.spool.sqlite import rows
from senderproxy.spool.sqlite.limits import SpoolLimits
from senderproxy.tracking.record import Event, HourCount, Lane, MessageRecord, Query, RecipientStatus

DUE: Final = "SELECT lane, due_at FROM due_times($1)"
END_LEASE: Final = "DELETE FROM lease WHERE number = $1 RETURNING message"
STANDING: Final = "SELECT count(*) FROM lease WHERE number = $1"

_log = logging.getLogger("senderproxy.spool")


class PostgresqlSpool:
    """The spool as one instance uses it, from one event loop. One attribute for each part of it."""

    def __init__(
        self, target: DatabaseTarget, clock: Clock, limits: SpoolLimits, time: ServerTime | None = None
    ) -> None:
        """Not open yet. `time`: the server's clock; tests have another one."""
        self._clock = clock
        self._time = ServerTime(clock) if time is None else time
        self._connections = Connections(target)
        self.instance = Instance(target, self._connections, self._time, clock)
        self._leases = InstanceLeases()
        self._wakes = Wakes(self._connections, self.instance)
        self._claims = RowClaims(self._connections, self.instance, self._leases, self._time, clock)
        self._jobs = SharedJobs(self._connections, self.instance, self._claims, self._leases, self._time)
        self._incoming = SharedIncoming(self._connections, self.instance, self._leases, self._time)
        self._incoming.keeps_subjects = limits.keep_subjects
        self._history = SharedHistory(self._connections, self._incoming, self._time, limits.history)
        self.hourly_limits = DatabaseHourlyLimits(self._connections, self.instance, self._time)
        self.connection_slots = DatabaseConnectionSlots(self._connections, self.instance)
        self.grants = DatabaseGrants(self._connections, self.instance, self._time)
        self.health = DatabaseHealth(self._connections, self.instance)
        self._observer: SpoolObserver | None = None
        self._closed = False

    @classmethod
    async def open(
        cls, target: DatabaseTarget, clock: Clock, limits: SpoolLimits, time: ServerTime | None = None
    ) -> Self:
        """Join the instances of this database. Raises SpoolError with a hint."""
        spool = cls(target, clock, limits, time)
        await spool.instance.open()
        spool._wakes.start()
        with suppress(SpoolError):  # the next sweep does it too
            await spool._history.make_ahead()
        return spool

    async def close(self) -> None:
        """Finish all calls, end all leases."""
        if self._closed:
            return
        self._closed = True
        await self._wakes.close()
        await self._history.close()
        await self._leases.close()
        await self._connections.close()
        await self.instance.close()

    def observe(self, observer: SpoolObserver) -> None:
        """Call the observer from now on for each commit."""
        self._observer = observer
        self._connections.on_commit = observer.committed

    @property
    def other_users(self) -> Sequence[str]:
        """The names of the other instances that use the database: those whose leases stand."""
        return [one.name for one in self.instance.others if one.silent < LEASE]

    # ---- time ----

    def on_wake(self, wake: Callable[[Lane | None], None]) -> None:
        """Call `wake` for messages of others, for leases given back, and after a step of the server's clock."""
        self._wakes.wake = wake
        self.instance.on_return = lambda: wake(None)
        self.instance.on_step = self._moved
        self._leases.on_return = lambda lane: wake(Lane.parse(lane) if lane else None)

    def _moved(self, step: int) -> None:
        self._leases.shift(step)
        self._wakes.wake(None)

    def age(self, claim: Claim) -> timedelta | None:
        """The time since the reception of a leased message; None while ages are uncertain."""
        leased = self._leases.find(claim.lease.id)
        received_at = rows.to_ms(claim.submission.received_at) if leased is None else leased.received_at
        return self._time.age(received_at)

    def on_leases(self, lost: Callable[[], None], regained: Callable[[], None]) -> None:
        """Call `lost` when attempts must end because other instances will take over, `regained` when they may begin."""
        self.instance.on_lost = lost
        self.instance.on_regained = regained

    # ---- messages ----

    async def accept(self, *arrivals: Arrival, leased: bool = False) -> Sequence[Claim]:
        """Store the messages in one commit; return when they are safe. `leased`: return claims on them."""
        claims = await self._incoming.accept(arrivals, leased)
        if not leased:
            self._wakes.send(_due_lanes(arrivals))
        if self._observer is not None:
            self._observer.stored(arrivals)
        return claims

    def note(self, arrival: Arrival) -> None:
        """Store the history of a message that passed through: soon, in bounded batches."""
        self._history.note(arrival)
        if self._observer is not None:
            self._observer.noted(arrival)

    async def claim(self, lane: Lane, limit: int) -> Sequence[Claim]:
        """The messages of this lane that have been due longest and are not leased, with its due recipients."""
        return await self._claims.claim_due(lane, limit)

    async def claim_expired(self, lane: Lane, age: timedelta, limit: int) -> Sequence[Claim]:
        """The oldest messages of this lane above that age, due or not, with its waiting recipients."""
        return await self._claims.claim_expired(lane, age, limit)

    async def claim_undelayed(self, age: timedelta, limit: int) -> Sequence[Claim]:
        """The oldest messages above that age, with their waiting recipients without a report on the delay."""
        return await self._claims.claim_undelayed(age, limit)

    async def claim_one(self, message_id: str) -> Claim | None:
        """This message, with all its waiting and held recipients; None if it is not there, or leased."""
        return await self._claims.claim_one(message_id)

    async def check_content(self, claim: Claim) -> None:
        """Nothing: each claim is verified, and one whose content is not as it was written has none."""

    async def settle(self, claim: Claim, update: SpoolUpdate) -> None:
        """Write the update and end the lease; return when it is safe. An empty update only ends the lease.

        With an error the lease goes on: a delivered message must not be delivered again because a write failed. If
        another instance has ended the lease meanwhile, the result is only logged.
        """
        leased = self._leases.find(claim.lease.id)
        if leased is None:
            raise ValueError(f"message {claim.submission.id} is not leased")
        if _is_empty(claim, update):
            await self._claims.end_quietly(leased)
        else:
            await self._settle(claim, update, leased)
            if self._observer is not None:
                self._observer.settled(update.account or claim.account, update)
        if claim.lane is None:
            self._leases.on_return("")  # the caller does not know the lanes

    async def _settle(self, claim: Claim, update: SpoolUpdate, leased: RowLease) -> None:
        positions = {path: position for position, path in enumerate(claim.submission.envelope.recipients)}

        async def work(connection: DatabaseConnection) -> bool:
            if await connection.fetchval(END_LEASE, leased.lease) is None:
                return False
            now = self._time.now()
            if await connection.fetchval(statements.LOCK_MESSAGE, leased.number) is None:
                return False
            change = LeasedChange(
                states=[(positions[p], rows.state_columns(s, now)) for p, s in update.states.items()],
                events=[rows.event_row(leased.number, one) for one in update.events],
                account=update.account,
                faults=update.faults,
                now=now,
                lanes=[(positions[p], str(lane)) for p, lane in update.lanes.items()],
                jobs=[statements.job_row(job, leased.number, now) for job in update.jobs],
                leaves_history=update.leaves_history,
            )
            await statements.change(connection, leased.number, leased.lane, change)
            await statements.add(connection, await self._incoming.new_messages(connection, update.reports))
            return True

        async def was_committed(connection: DatabaseConnection) -> bool:
            return bool(await connection.fetchval(STANDING, leased.lease) == 0)

        is_written = await self._connections.write(work, was_committed)
        self._leases.end(claim.lease.id)
        if not is_written:
            event(_log, log_events.RESULT_TOO_LATE, id=leased.id)
            return
        moved = {*map(str, update.lanes.values())} | (
            {str(Lane.of_account(update.account))} if update.account else set()
        )
        self._wakes.send({*_due_lanes(update.reports), *moved})

    async def due(self, lane: Lane | None = None) -> Mapping[Lane, timedelta]:
        """The time left to the next due time of this lane, or of each lane; without leased recipients."""
        text = None if lane is None else rows.lane_text(lane)
        now = self._time.now()
        found = await self._connections.read(lambda connection: connection.fetch(DUE, text))
        return {Lane.parse(text): timedelta(milliseconds=at - now) for text, at in found}

    # ---- learned facts ----

    async def read_learned(self) -> Sequence[LearnedRow]:
        """See relay.ports.LearnedStore."""
        now = self._time.now()
        return await self._connections.read(lambda connection: learned.read(connection, now))

    async def write_learned(self, rows: Mapping[str, str | None]) -> None:
        """See relay.ports.LearnedStore."""
        now = self._time.now()

        async def work(connection: DatabaseConnection) -> None:
            await learned.write(connection, rows, now)
            await learned.notify(connection, self.instance.number, rows)

        async def was_committed(_connection: DatabaseConnection) -> bool:
            return False  # the caller writes them again

        await self._connections.write(work, was_committed)

    def on_learned(self, changed: Callable[[Sequence[str]], None]) -> None:
        """See relay.ports.SharedLearnedStore."""

        def noticed(payload: str) -> None:
            sender, _, keys = payload.partition(" ")
            if sender != str(self.instance.number):
                changed(keys.split("\n"))

        self.instance.on_learned = noticed

    async def read_some(self, keys: Sequence[str]) -> Sequence[LearnedRow]:
        """See relay.ports.SharedLearnedStore."""
        now = self._time.now()
        return await self._connections.read(lambda connection: learned.read_some(connection, keys, now))

    # ---- jobs ----

    async def claim_jobs(self, kind: str, lane: Lane, limit: int) -> Sequence[JobClaim]:
        """The jobs of this kind and lane that have been due longest and are not leased."""
        return await self._jobs.claim(kind, lane, limit)

    async def settle_job(
        self, claim: JobClaim, *, retry_in: timedelta | None = None, why: str = "", events: Sequence[Event] = ()
    ) -> None:
        """Retry the job later, or delete it; return when that is safe."""
        await self._jobs.settle(claim, retry_in, why, events)

    async def due_jobs(self, kind: str) -> Mapping[Lane, timedelta]:
        """The time left to the next due time of each lane with jobs of this kind."""
        return await self._jobs.due(kind)

    async def job_totals(self) -> Sequence[JobTotals]:
        """Counts of all jobs."""
        return await self._jobs.totals()

    # ---- searches ----

    async def find(self, query: Query, *, limit: int, after: str | None = None) -> Sequence[MessageRecord]:
        """The matching messages, newest first (unfinished ones: oldest first), from the one after that id."""
        now = self._time.now()
        return await self._connections.read(lambda connection: search.find(connection, query, limit, after, now))

    async def events(self, message_id: str) -> Sequence[Event]:
        """The events of a message, in order."""
        return await self._connections.read(lambda connection: search.events(connection, message_id))

    async def header(self, message_id: str) -> HeaderSection | None:
        """A message's header section as it was received; None if its content was deleted."""
        return await self._connections.read(lambda connection: search.header(connection, message_id))

    async def totals(self) -> Sequence[Totals]:
        """Counts of waiting and held messages, for each account."""
        now = self._time.now()
        return await self._connections.read(lambda connection: search.totals(connection, now))

    async def counts_by_hour(self, since: datetime) -> Sequence[HourCount]:
        """Counts of recipients by hour of reception and status."""
        return await self._connections.read(lambda connection: search.counts_by_hour(connection, since))

    # ---- for the service ----

    def last_clock_step(self) -> tuple[timedelta, datetime] | None:
        """The size and the time of the last step of the server's clock while it is open."""
        return self._time.last_step

    async def trouble(self) -> SpoolError | None:
        """The reason why a new message would be refused, as far as known; None if none is known."""
        return self.health.trouble()

    @property
    def needs_sweep(self) -> bool:
        """False: the history has no limit in octets here."""
        return False

    async def sweep(self, now: datetime) -> None:
        """Make partitions of the history ahead, and drop old ones. To be called now and then."""
        await self._history.make_ahead()
        await self._history.delete_old(now)
        await self.hourly_limits.expire()

    @property
    def commits(self) -> int:
        """A number that changes with each look at the totals: other instances write too."""
        return self._connections.commits

    async def tidy(self) -> None:
        """Nothing: the server reuses free space by itself (autovacuum)."""

    def apply_limits(self, limits: SpoolLimits) -> None:
        """Put other limits in force."""
        self._history.kept = limits.history
        self._incoming.keeps_subjects = limits.keep_subjects


def _due_lanes(arrivals: Sequence[Arrival]) -> set[str]:
    """The lanes in which a recipient is due at once."""
    found: set[str] = set()
    for arrival in arrivals:
        home = Lane.of_account(arrival.account)
        for path, state in arrival.states.items():
            if state.status is RecipientStatus.WAITING and not state.due_in:
                found.add(rows.lane_text(arrival.lanes.get(path, home)))
    return found


def _is_empty(claim: Claim, update: SpoolUpdate) -> bool:
    moves = update.lanes or update.account is not None
    changes = update.states or update.events or update.reports or update.jobs or moves
    return not changes and update.faults in (0, claim.faults)
