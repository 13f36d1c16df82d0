"""SqliteSpool: relay.ports.Spool and LearnedStore with one SQLite database, and one file for each large body.

Guarantees: docs/spool-states.md. The event loop never waits for the disk: all access to it happens on other threads.
Not here: new messages (spool.sqlite.incoming), claims (spool.sqlite.claims), history (spool.sqlite.history),
transactions (spool.sqlite.writer), searches (spool.sqlite.search).
"""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from senderproxy import log_events
from senderproxy.clock import Clock
from senderproxy.daemon_thread import DaemonThread
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
from senderproxy.spool.sqlite import jobs, learned, leases, rows, search, statements
from senderproxy.spool.sqlite.claims import Claims
from senderproxy.spool.sqlite.cleanup import Cleanup
from senderproxy.spool.sqlite.clock_step import step_while_stopped
from senderproxy.spool.sqlite.content import FOLDER, Content
from senderproxy.spool.sqlite.content_writer import THREADS, ContentWriter
from senderproxy.spool.sqlite.database import (
    CHECK_LIMIT,
    NAME,
    SpoolDamaged,
    as_spool_errors,
    check,
    connect,
    open_database,
    scripts,
)
from senderproxy.spool.sqlite.disk_health import DiskHealth
from senderproxy.spool.sqlite.file_identity import FileIdentity
from senderproxy.spool.sqlite.free_space import FreeSpace
from senderproxy.spool.sqlite.history import History
from senderproxy.spool.sqlite.incoming import Incoming
from senderproxy.spool.sqlite.jobs import Jobs, job_row
from senderproxy.spool.sqlite.leases import LeasedMessage, Leases
from senderproxy.spool.sqlite.limits import SpoolLimits
from senderproxy.spool.sqlite.reader import Reader
from senderproxy.spool.sqlite.recent_ids import RecentIds
from senderproxy.spool.sqlite.reserve import DiskReserve
from senderproxy.spool.sqlite.rows import from_ms
from senderproxy.spool.sqlite.spool_folder import SpoolFolder
from senderproxy.spool.sqlite.spool_time import SpoolTime
from senderproxy.spool.sqlite.statements import RecipientChange, Settlement
from senderproxy.spool.sqlite.threads import SpoolThreads
from senderproxy.spool.sqlite.wal import WriteAheadLog
from senderproxy.spool.sqlite.writer import WriteJob, Writer
from senderproxy.tracking.record import Event, HourCount, Lane, MessageRecord, Query
from senderproxy.translation import _

_log = logging.getLogger("senderproxy.spool")


@dataclass(frozen=True, slots=True)
class Tuning:
    """Sizes found by measurement (docs/decisions/0071); tests use small ones."""

    row_limit: int = 128 * 1024  # octets of a body that is stored in a row; larger bodies are files
    cache_size: int = 8 * 1024 * 1024  # octets of messages that need not be read for their first attempt
    wal_pages: int = 2000  # length of the write-ahead log at which it is copied into the database
    wal_limit: int = 32_000  # pages at which commits wait for that


class SqliteSpool:
    """The spool in one folder. Used from one event loop. One attribute for each part of it."""

    def __init__(
        self,
        folder: SpoolFolder,
        content: Content,
        reader: sqlite3.Connection,
        writer: Writer,
        clock: Clock,
        limits: SpoolLimits,
        tuning: Tuning,
        last_number: int,
    ) -> None:
        """Called by `open` only."""
        self._folder = folder
        self._content = content
        self._writer = writer
        self._reader = Reader(reader, writer)
        self._content_threads = SpoolThreads("spool-content", THREADS)
        self._leases = Leases(tuning.cache_size)
        self._time = SpoolTime(clock, writer, self._leases)
        self._claims = Claims(writer, self._leases, content, self._content_threads, clock, self._time)
        self._jobs = Jobs(writer, self._claims, self._time)
        self._files = ContentWriter(self._content_threads, content, writer.free_space, clock.monotonic)
        self._incoming = Incoming(
            writer,
            self._leases,
            content,
            self._files,
            clock,
            self._time,
            row_limit=tuning.row_limit,
            last_number=last_number,
        )
        self._incoming.keeps_subjects = limits.keep_subjects
        self._history = History(writer, clock, self._incoming.next_number, limits)
        self._cleanup = Cleanup(
            writer, self._reader, self._history, self._incoming, content, self._content_threads, tuning.row_limit
        )
        self.health = DiskHealth(writer, self._reader.thread, clock)
        self._observer: SpoolObserver | None = None
        self._closed = False
        writer.extra_jobs = self._history.take_jobs
        writer.wal.start(copied=lambda: writer.enqueue(WriteJob(run=writer.wal.finish, reads_only=True)))

    @classmethod
    def open(cls, directory: Path, clock: Clock, limits: SpoolLimits, tuning: Tuning | None = None) -> Self:
        """Open the spool; create it if it is missing. May block. Raises SpoolError with a hint."""
        tuning = tuning or Tuning()
        path = directory / NAME
        with ExitStack() as undo:
            folder = SpoolFolder.open(directory)
            undo.callback(folder.close)
            connection = undo.enter_context(closing(open_database(folder, scripts())))
            content = undo.enter_context(closing(Content(folder)))
            with as_spool_errors(_("The spool's database {path} cannot be read").format(path=path), path):
                last_number = statements.last_number(connection)
                ids = RecentIds()
                ids.read(connection)
                _undo_step(connection, rows.to_ms(clock.now()), limits)
                reader = undo.enter_context(closing(connect(path, read_only=True)))
                wal_connection = undo.enter_context(closing(connect(path)))
                wal = WriteAheadLog(wal_connection, tuning.wal_pages, tuning.wal_limit, clock.monotonic)
            with as_spool_errors(_("The spool's reserve file cannot be opened")):
                reserve = undo.enter_context(closing(DiskReserve(folder, limits.reserve)))
                free_space = FreeSpace(folder.fd, limits.min_free, reserve, clock.monotonic)
                free_space.adjust_reserve()
                identity = FileIdentity(path)
            undo.pop_all()
        writer = Writer(path, free_space, wal, identity, connection, ids, clock.monotonic)
        spool = cls(folder, content, reader, writer, clock, limits, tuning, last_number)
        if path.stat().st_size > CHECK_LIMIT:
            with suppress(RuntimeError):  # no thread, no check until the next start
                DaemonThread(_check_database, "spool-check", (writer,)).start()
        return spool

    @property
    def spill_folder(self) -> Path:
        """The folder for unnamed files of bodies: there each can be given a name, without a copy."""
        return self._folder.path / FOLDER

    async def close(self) -> None:
        """Finish all calls, close the files, release the lock."""
        if self._closed:
            return
        self._closed = True
        self._history.close()
        await self._writer.stop()
        self._content_threads.stop()
        closing_files = self._reader.thread.do(self._close_files)
        self._reader.thread.stop()
        await closing_files
        self._history.log_losses()

    def _close_files(self) -> None:
        """The last connection that is closed copies the write-ahead log into the database and removes it."""
        self._content_threads.join()
        self._reader.close()
        self._writer.wal.stop()
        if self._writer.connection is not None:
            with suppress(sqlite3.Error):
                self._writer.connection.close()
        self._content.close()
        self._writer.free_space.reserve.close()
        self._folder.close()

    def observe(self, observer: SpoolObserver) -> None:
        """Call the observer from now on for each commit."""
        self._observer = observer
        self._writer.on_commit = observer.committed

    # ---- time ----

    def on_wake(self, wake: Callable[[Lane | None], None]) -> None:
        """Call `wake` after a step of the clock (None), and with the lane of a lease that is given back."""
        self._time.on_step = lambda: wake(None)
        self._leases.on_return = lambda lane: self._writer.call_in_loop(wake, Lane.parse(lane) if lane else None)

    def age(self, claim: Claim) -> timedelta | None:
        """The time since the reception of a leased message; None while ages are uncertain."""
        leased = self._leases.find(claim.lease.id)
        received_at = rows.to_ms(claim.submission.received_at) if leased is None else leased.received_at
        return self._time.age(received_at)

    # ---- new messages ----

    async def accept(self, *arrivals: Arrival, leased: bool = False) -> Sequence[Claim]:
        """Store the messages in one commit; return when they are safe. `leased`: return claims on them."""
        with self.health.watch():
            claims = await self._incoming.accept(arrivals, leased)
        if self._observer is not None:
            self._observer.stored(arrivals)
        return claims

    def note(self, arrival: Arrival) -> None:
        """Store the history of a message that passed through: soon, in bounded batches."""
        self._history.note(arrival)
        if self._observer is not None:
            self._observer.noted(arrival)

    # ---- leased messages ----

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
        """Raises UnreadableRow if the content of a claim is not as it was written; `claim_one` does not look."""
        message = self._leases.find(claim.lease.id)
        if message is None:
            raise ValueError(f"message {claim.submission.id} is not leased")
        read = WriteJob(run=lambda connection: leases.read_rows(connection, message), reads_only=True)
        await self._claims.read_submission(await self._writer.submit(read))

    async def settle(self, claim: Claim, update: SpoolUpdate) -> None:
        """Write the update and end the lease; return when it is safe. An empty update only ends the lease.

        With an error the lease goes on: a delivered message must not be delivered again because a write failed.
        """
        lease = claim.lease.id
        message = self._leases.find(lease)
        if message is None:
            raise ValueError(f"message {claim.submission.id} is not leased")
        if _is_empty(claim, update):
            await self._writer.submit(WriteJob(run=lambda _: self._leases.end(lease), reads_only=True))
        else:
            with self.health.watch():
                await self._settle(claim, update, message)
            if self._observer is not None:
                self._observer.settled(update.account or claim.account, update)
        if claim.lane is None:
            self._leases.on_return("")  # the caller does not know the lanes

    async def _settle(self, claim: Claim, update: SpoolUpdate, message: LeasedMessage) -> None:
        contents = await self._incoming.store_contents(update.reports, use_reserve=True)
        now = await self._time.now()
        positions = {path: position for position, path in enumerate(claim.submission.envelope.recipients)}
        change = RecipientChange(
            states=[(positions[p], rows.state_columns(s, now)) for p, s in update.states.items()],
            events=[rows.event_row(message.number, one) for one in update.events],
            reports=self._incoming.new_messages(update.reports, contents, now),
            account=update.account,
            faults=update.faults,
            now=now,
            lanes=[(positions[p], str(lane)) for p, lane in update.lanes.items()],
            jobs=[job_row(job, message.number, now) for job in update.jobs],
            leaves_history=update.leaves_history,
        )

        def done(file_is_unused: bool) -> bool:
            self._leases.end(message.lease)
            return file_is_unused

        job = WriteJob(settlement=Settlement(message, change), uses_reserve=True, done=done)
        if await asyncio.shield(self._incoming.submit(job, contents)) and message.file is not None:
            self._files.remove([message.file])

    async def due(self, lane: Lane | None = None) -> Mapping[Lane, timedelta]:
        """The time left to the next due time of this lane, or of each lane; without leased recipients."""
        text = None if lane is None else str(lane)
        now = await self._time.now()
        found = await self._writer.submit(
            WriteJob(run=lambda connection: leases.due_times(connection, self._leases, text), reads_only=True)
        )
        return {Lane.parse(text): timedelta(milliseconds=at - now) for text, at in found.items()}

    # ---- learned facts ----

    async def read_learned(self) -> Sequence[LearnedRow]:
        """See relay.ports.LearnedStore."""
        now = from_ms(await self._time.now())
        return await self._reader.run(lambda connection: learned.read(connection, now))

    async def write_learned(self, rows: Mapping[str, str | None]) -> None:
        """See relay.ports.LearnedStore."""
        now = from_ms(await self._time.now())
        await self._writer.submit(WriteJob(run=lambda connection: learned.write(connection, rows, now)))

    # ---- jobs ----

    async def claim_jobs(self, kind: str, lane: Lane, limit: int) -> Sequence[JobClaim]:
        """The jobs of this kind and lane that have been due longest and are not leased."""
        return await self._jobs.claim(kind, lane, limit)

    async def settle_job(
        self, claim: JobClaim, *, retry_in: timedelta | None = None, why: str = "", events: Sequence[Event] = ()
    ) -> None:
        """Retry the job later, or delete it; return when that is safe."""
        file = await self._jobs.settle(claim, retry_in, why, events)
        if file is not None:
            self._files.remove([file])

    async def due_jobs(self, kind: str) -> Mapping[Lane, timedelta]:
        """The time left to the next due time of each lane with jobs of this kind."""
        return await self._jobs.due(kind)

    async def job_totals(self) -> Sequence[JobTotals]:
        """Counts of all jobs."""
        now = await self._time.now()
        return await self._reader.run(lambda connection: jobs.totals(connection, now))

    # ---- searches ----

    async def find(self, query: Query, *, limit: int, after: str | None = None) -> Sequence[MessageRecord]:
        """The matching messages, newest first (unfinished ones: oldest first), from the one after that id."""
        now = await self._time.now()
        return await self._reader.run(
            lambda connection: search.find(connection, self._leases, query, limit, after, now)
        )

    async def events(self, message_id: str) -> Sequence[Event]:
        """The events of a message, in order."""
        return await self._reader.run(lambda connection: search.events(connection, message_id))

    async def header(self, message_id: str) -> HeaderSection | None:
        """A message's header section as it was received; None if its content was deleted."""
        return await self._reader.run(lambda connection: search.header(connection, message_id))

    async def totals(self) -> Sequence[Totals]:
        """Counts of waiting and held messages, for each account."""
        now = await self._time.now()
        return await self._reader.run(lambda connection: search.totals(connection, now))

    async def counts_by_hour(self, since: datetime) -> Sequence[HourCount]:
        """Counts of recipients by hour of reception and status."""
        return await self._reader.run(lambda connection: search.counts_by_hour(connection, since))

    @property
    def other_users(self) -> Sequence[str]:
        """None: the folder is locked."""
        return ()

    def last_clock_step(self) -> tuple[timedelta, datetime] | None:
        """The size and the time of the last step of the clock while it is open."""
        return self._time.last_step

    async def trouble(self) -> SpoolError | None:
        """The reason why a new message would be refused, as far as known; None if none is known."""
        return await self.health.trouble()

    # ---- cleanup ----

    @property
    def needs_sweep(self) -> bool:
        """True if `sweep` should be called before its time: for the histories' limit, or for a lack of space."""
        return self._history.has_grown or self._writer.free_space.is_short

    async def sweep(self, now: datetime) -> None:
        """Delete old history and orphaned files, and return free pages to the disk. To be called now and then."""
        await self._cleanup.sweep(now)

    @property
    def commits(self) -> int:
        """The number of commits so far: a spool without new ones is idle."""
        return self._writer.commits

    async def tidy(self) -> None:
        """Return the space of an idle spool to the disk: free pages, and the write-ahead log. Raises SpoolError."""
        await self._cleanup.tidy()

    def apply_limits(self, limits: SpoolLimits) -> None:
        """Put other limits in force; the reserve file gets its size with the next message or cleanup."""
        self._history.limits = limits
        self._incoming.keeps_subjects = limits.keep_subjects
        self._writer.free_space.min_free = limits.min_free
        self._writer.free_space.reserve.size = limits.reserve


def _undo_step(connection: sqlite3.Connection, now: int, limits: SpoolLimits) -> None:
    """Make all messages due if the clock was set back while the spool was closed; else they would wait for years."""
    none = Leases(cache_size=0)
    waits = [timedelta(milliseconds=at - now) for at in leases.due_times(connection, none).values()]
    step = step_while_stopped(waits, limits.longest_wait)
    if step is not None:
        event(_log, log_events.CLOCK_STEPPED, seconds=step.total_seconds())
        connection.execute("BEGIN IMMEDIATE")
        statements.shift(connection, none, rows.span_ms(step))
        connection.execute("COMMIT")


def _is_empty(claim: Claim, update: SpoolUpdate) -> bool:
    moves = update.lanes or update.account is not None
    changes = update.states or update.events or update.reports or update.jobs or moves
    return not changes and update.faults in (0, claim.faults)


def _check_database(writer: Writer) -> None:
    """Check a large database after it was opened; on a thread of its own."""
    path = writer.path
    try:
        with as_spool_errors(_("The spool's database {path} cannot be read").format(path=path), path):
            connection = connect(path, read_only=True)
            try:
                check(path, connection)
            finally:
                connection.close()
    except SpoolDamaged as damage:
        event(_log, log_events.SPOOL_DAMAGED, why=damage, hint=damage.hint)
        writer.broken = damage
    except SpoolError as error:
        event(_log, log_events.SPOOL_CHECK_FAILED, why=error)
