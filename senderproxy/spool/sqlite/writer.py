"""Writer: the only thread that changes the database; all jobs that wait for it share one transaction and one sync.

Guarantees: a job's future has its result only after the change survives a power cut; with an error, nothing of the job
was written. An error of one job does not affect another. The event loop never waits for the disk.
Not here: the statements of a job (spool.sqlite.statements), the write-ahead log (spool.sqlite.wal).
"""

import asyncio
import logging
import queue
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Final, TypeAlias

from senderproxy import log_events
from senderproxy.aio import call_in_loop
from senderproxy.daemon_thread import DaemonThread
from senderproxy.log import event
from senderproxy.relay.ports import SpoolError, SpoolFull, SpoolRejected
from senderproxy.spool.sqlite import statements
from senderproxy.spool.sqlite.database import connect, database_error, primary_code
from senderproxy.spool.sqlite.file_identity import FileIdentity, SpoolFileLost
from senderproxy.spool.sqlite.free_space import FreeSpace
from senderproxy.spool.sqlite.recent_ids import RecentIds
from senderproxy.spool.sqlite.spool_folder import disk_error
from senderproxy.spool.sqlite.stall import StallWatch
from senderproxy.spool.sqlite.statements import NewMessage, Settlement
from senderproxy.spool.sqlite.wal import WriteAheadLog
from senderproxy.translation import N_, _

_BATCH: Final = 500  # jobs in one transaction; more would make the first of them wait noticeably
_OPERATION: Final = N_("The spool cannot be written")
_COMMIT_PAGES: Final = 8  # pages of the log, estimated, for a commit without changes
_PAGES_OF_CHANGE: Final = 2  # pages, estimated, for each changed row: its table and an index
_PAGE: Final = 4096  # octets

_log = logging.getLogger("senderproxy.spool")


@dataclass(slots=True, eq=False)
class WriteJob:
    """A job for the writer: new messages, the settlement of a lease, or any other function of the connection."""

    messages: Sequence[NewMessage] = ()
    settlement: Settlement | None = None
    run: Callable[[sqlite3.Connection], Any] | None = None
    reads_only: bool = False  # needs no transaction
    needs_space: bool = True  # new messages of a client: refused if the disk has little free space
    uses_reserve: bool = False  # a result of a delivery: on a full disk, the reserve file is released for it
    octets: int = 0  # of the new messages, estimated
    done: Callable[[Any], Any] | None = None  # on the writer's thread, after the commit; returns the job's result
    failed: Callable[[BaseException], None] | None = None  # for jobs whose result is not awaited
    future: "asyncio.Future[Any] | None" = None


_Result: TypeAlias = tuple[WriteJob, Any, BaseException | None]


@dataclass(slots=True, eq=False)
class Writer:
    """The thread and its queue of jobs. One attribute for each thing that it shares with the event loop."""

    path: Path  # of the database
    free_space: FreeSpace
    wal: WriteAheadLog
    identity: FileIdentity  # of the database
    connection: sqlite3.Connection | None
    ids: RecentIds
    monotonic: Callable[[], float]  # seconds
    # To be written in the next transaction; True: beside new messages, whose clients wait.
    extra_jobs: Callable[[bool], Sequence[WriteJob]] = lambda _beside_arrivals: ()
    on_commit: Callable[[float], None] | None = None  # on the thread, with the seconds of a transaction and its sync
    commits: int = 0
    broken: SpoolError | None = None  # the error of all further jobs
    busy_since: float | None = None  # monotonic seconds: start of the current batch
    stall: StallWatch = field(init=False)
    _jobs: "queue.SimpleQueue[WriteJob | None]" = field(default_factory=queue.SimpleQueue)
    _loop: asyncio.AbstractEventLoop | None = None
    _thread: DaemonThread | None = None
    _stopped: "asyncio.Future[None] | None" = None

    def __post_init__(self) -> None:
        self.stall = StallWatch(lambda: self.busy_since, self.monotonic, self._refuse_waiting)

    def submit(self, job: WriteJob) -> "asyncio.Future[Any]":
        """Queue a job, from the event loop's thread; the future has its result or its error.

        Raises SpoolError if the system has no thread for the writer.
        """
        self._start()
        assert self._loop is not None
        job.future = self._loop.create_future()
        if self._stopped is not None:
            job.future.set_exception(SpoolError(_("The spool is closed.")))
        else:
            self._jobs.put(job)
            self.stall.job_submitted()
        return job.future

    def _refuse_waiting(self, error: SpoolError) -> None:
        """Refuse the new messages in the queue that the thread has not taken; on the event loop."""
        waiting: list[WriteJob | None] = []
        with suppress(queue.Empty):
            while True:
                waiting.append(self._jobs.get_nowait())
        refused = [job for job in waiting if job is not None and job.messages and job.needs_space]
        for job in waiting:
            if job not in refused:
                self._jobs.put(job)
        _resolve([(job, None, error) for job in refused])

    def enqueue(self, job: WriteJob) -> None:
        """Queue a job without waiting for its result; from any thread, once the writer has been started."""
        self._start()
        self._jobs.put(job)

    def _start(self) -> None:
        if self._thread is None:
            self._loop = asyncio.get_running_loop()
            thread = DaemonThread(self._work, "spool-writer")
            try:
                thread.start()
            except RuntimeError:
                raise SpoolError(
                    _("The system has no thread for the spool."), hint=_("Look at the limits of the unit: TasksMax=")
                ) from None
            self._thread = thread

    async def stop(self) -> None:
        """Finish the queued jobs and end the thread."""
        if self._stopped is not None:
            return
        self.stall.stop()
        if self._thread is None:
            self._stopped = asyncio.get_running_loop().create_future()
            self._stopped.set_result(None)
            return
        self._stopped = asyncio.get_running_loop().create_future()
        self._jobs.put(None)
        await self._stopped

    # ---- on the thread ----

    def _work(self) -> None:
        running = True
        while running or not self._jobs.empty():  # a job may request another one, also after the last `submit`
            batch: list[WriteJob] = []
            job = self._jobs.get()
            while True:
                if job is None:
                    running = False
                    break
                batch.append(job)
                if len(batch) >= _BATCH:
                    break
                try:
                    job = self._jobs.get_nowait()
                except queue.Empty:
                    break
            self._process(batch)
        self.call_in_loop(self._resolve_stopped)

    def _resolve_stopped(self) -> None:
        if self._stopped is not None and not self._stopped.done():
            self._stopped.set_result(None)

    def _process(self, batch: Sequence[WriteJob]) -> None:
        self.busy_since = self.monotonic()
        results: list[_Result] = []
        try:
            results += [self._read(job) for job in batch if job.reads_only]
            arrivals = [job for job in batch if job.messages]
            changes = [job for job in batch if not job.messages and not job.reads_only]
            arrivals = [job for job in arrivals if self._has_space(job, results)]
            if arrivals or changes:
                arrivals += self.extra_jobs(bool(arrivals))
                self._write(arrivals, changes, results)
        except BaseException as error:  # noqa: BLE001  a job without a result would be awaited for ever
            event(_log, log_events.SPOOL_WRITER_ERROR, fault=error)
            with_result = {id(result[0]) for result in results}
            results += [(job, None, error) for job in batch if id(job) not in with_result]
        self.busy_since = None  # before the futures are resolved
        if results:
            self.call_in_loop(_resolve, results)

    def call_in_loop(self, call: Callable[..., None], *arguments: object) -> None:
        """Call a function on the event loop, from the thread."""
        assert self._loop is not None
        call_in_loop(self._loop, call, *arguments)

    def _has_space(self, job: WriteJob, results: list[_Result]) -> bool:
        if not job.needs_space:
            return True
        try:
            self.free_space.claim(job.octets)
            return True
        except SpoolFull as full:
            results.append((job, None, full))
        except OSError as error:
            results.append((job, None, disk_error(_(_OPERATION), error)))
        return False

    def _read(self, job: WriteJob) -> _Result:
        assert job.run is not None
        try:
            return job, job.run(self._connected()), None
        except Exception as error:  # noqa: BLE001  raised by the job's future
            return job, None, self._spool_error(error)

    def _write(self, arrivals: Sequence[WriteJob], changes: Sequence[WriteJob], results: list[_Result]) -> None:
        """Write all jobs in one transaction; if that fails, as many of them as possible."""
        try:
            written = self._transact(arrivals, changes)
        except Exception as error:  # noqa: BLE001
            self._roll_back(error)
            spool_error = self._spool_error(error)
            if not _is_of_the_disk(error):
                self._write_one_by_one([*changes, *arrivals], results)
            elif changes and arrivals and isinstance(spool_error, SpoolFull):
                # Messages in progress must be settled; the client still has the new ones.
                results += [(job, None, spool_error) for job in arrivals]
                self._write((), changes, results)
            elif isinstance(spool_error, SpoolFull) and self._release_reserve(changes):
                self._write((), changes, results)
            else:
                results += [(job, None, spool_error) for job in (*arrivals, *changes)]
        else:
            results += _finished(written)

    def _release_reserve(self, jobs: Sequence[WriteJob]) -> bool:
        """True if the jobs are to be tried again, because the reserve file has been released for one of them."""
        return any(job.uses_reserve for job in jobs) and self.free_space.reserve.release()

    def _transact(self, arrivals: Sequence[WriteJob], changes: Sequence[WriteJob]) -> list[tuple[WriteJob, Any]]:
        connection = self._connected()
        self.identity.check()
        before = connection.total_changes
        connection.execute("BEGIN IMMEDIATE")
        if arrivals:
            self._add(connection, [message for job in arrivals for message in job.messages])
        results = self._make_changes(connection, changes)
        connection.execute("COMMIT")
        self.identity.check()  # before any client or attempt gets its result
        self._committed(connection.total_changes - before, sum(job.octets for job in arrivals))
        return [*((job, None) for job in arrivals), *results]

    def _write_one_by_one(self, jobs: Sequence[WriteJob], results: list[_Result]) -> None:
        """Write each job in a savepoint of its own: one of them causes an error."""
        written: list[tuple[WriteJob, Any]] = []
        failed: list[_Result] = []
        try:
            connection = self._connected()
            before = connection.total_changes
            connection.execute("BEGIN IMMEDIATE")
            for job in jobs:
                connection.execute("SAVEPOINT job")
                try:
                    written.append((job, self._run(connection, job)))
                except Exception as error:
                    if _is_of_the_disk(error):
                        raise
                    connection.execute("ROLLBACK TO job")
                    failed.append((job, None, self._rejected(error)))
                connection.execute("RELEASE job")
            connection.execute("COMMIT")
            self.identity.check()
            self._committed(connection.total_changes - before, sum(job.octets for job in jobs))
        except Exception as error:  # noqa: BLE001
            self._roll_back(error)
            results += [(job, None, self._spool_error(error)) for job in jobs]
        else:
            results += _finished(written)
            results += failed

    def _add(self, connection: sqlite3.Connection, messages: Sequence[NewMessage]) -> None:
        self.ids.add(connection, [message.id for message in messages])
        statements.add(connection, messages)

    def _run(self, connection: sqlite3.Connection, job: WriteJob) -> object:
        if job.messages:
            self._add(connection, job.messages)
            return None
        return self._make_changes(connection, [job])[0][1]

    def _make_changes(self, connection: sqlite3.Connection, jobs: Sequence[WriteJob]) -> list[tuple[WriteJob, Any]]:
        """Run the jobs in their order; consecutive settlements are written together."""
        results: list[tuple[WriteJob, Any]] = []
        for settles, group in groupby(jobs, key=lambda job: job.settlement is not None):
            if settles:
                together = list(group)
                settlements = [job.settlement for job in together if job.settlement is not None]
                reports = [report.id for one in settlements for report in one.change.reports]
                self.ids.add(connection, reports)
                results += zip(together, statements.settle(connection, settlements), strict=True)
            else:
                results += [(job, job.run(connection)) for job in group if job.run is not None]
        return results

    def _committed(self, changes: int, octets: int) -> None:
        self.commits += 1
        if self.on_commit is not None and self.busy_since is not None:
            self.on_commit(self.monotonic() - self.busy_since)
        self.wal.grown(_COMMIT_PAGES + _PAGES_OF_CHANGE * changes + octets // _PAGE)

    def _connected(self) -> sqlite3.Connection:
        if self.broken is not None:
            raise self.broken
        if self.connection is None:
            self.identity.check()  # SQLite would create a missing file
            self.connection = connect(self.path)
        return self.connection

    def _roll_back(self, error: Exception) -> None:
        """End the transaction. After an error of the disk, the connection is replaced: its state is unknown."""
        connection = self.connection
        if connection is None or isinstance(error, SpoolFileLost):  # outside a transaction; the file may come back
            return
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._drop(connection)
            return
        if _is_of_the_disk(error) and not isinstance(self._spool_error(error), SpoolFull):
            self._drop(connection)

    def _drop(self, connection: sqlite3.Connection) -> None:
        self.connection = None
        with suppress(sqlite3.Error):
            connection.close()

    def _rejected(self, error: Exception) -> BaseException:
        """The error of one job in a transaction with successful others."""
        found = self._spool_error(error)
        return SpoolRejected(found.message, hint=found.hint) if isinstance(found, SpoolError) else found

    def _spool_error(self, error: BaseException) -> BaseException:
        if isinstance(error, sqlite3.IntegrityError):
            return SpoolError(f"{_(_OPERATION)}: {error}.", hint=_("The spool already has a message with that id."))
        return database_error(_(_OPERATION), error, self.path) if isinstance(error, sqlite3.Error) else error


def _finished(written: Sequence[tuple[WriteJob, Any]]) -> list[_Result]:
    """The results of committed jobs."""
    return [(job, job.done(result) if job.done else result, None) for job, result in written]


def _is_of_the_disk(error: Exception) -> bool:
    """True if any job would fail now; False for an error of one job."""
    if isinstance(error, SpoolError | OSError):
        return True
    return isinstance(error, sqlite3.Error) and primary_code(error) not in (
        0,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_CORRUPT,  # of a page; other pages may be sound
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_TOOBIG,
        sqlite3.SQLITE_RANGE,
    )


def _resolve(results: Sequence[_Result]) -> None:
    for job, result, error in results:
        if error is not None and job.failed is not None:
            job.failed(error)
        if job.future is None or job.future.done():
            continue
        if error is None:
            job.future.set_result(result)
        else:
            job.future.set_exception(error)
