"""The writer: the one thread that changes the database, and all that wait for it share one sync.

Guarantees: a job's future has its result only when the change survives a power cut, or an error and then nothing of the
job was done; one job's fault never spoils another's. The event loop never waits for the disk.
Not here: what a job does (spool.sqlite.statements).
"""

import asyncio
import logging
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Final, TypeAlias

from senderproxy import log_events
from senderproxy.log import event
from senderproxy.relay.ports import SpoolError, SpoolFull
from senderproxy.spool.sqlite import statements
from senderproxy.spool.sqlite.database import connect, primary_code, told
from senderproxy.spool.sqlite.statements import NewMessage, Settlement

_BATCH: Final = 500  # jobs in one transaction
_WHAT: Final = "The spool cannot be written"

_log = logging.getLogger("senderproxy.spool")


@dataclass(slots=True, eq=False)
class WriteJob:
    """One thing to do. `stocks`: new messages; `settlement`: what became of one; `run`: all else."""

    run: Callable[[sqlite3.Connection], Any] | None = None
    stocks: Sequence[NewMessage] = ()
    settlement: Settlement | None = None
    reads_only: bool = False
    keeps: bool = True  # what a client hands over, which is refused where there is little room
    future: "asyncio.Future[Any] | None" = None
    done: Callable[[Any], Any] | None = None  # on the writer's thread, once it is safe; its answer is the result
    failed: Callable[[BaseException], None] | None = None  # where nobody waits for the result
    octets: int = 0


_Answer: TypeAlias = tuple[WriteJob, Any, BaseException | None]


class FreeSpace:
    """How much the disk still takes."""

    def __init__(self, folder: int, min_free: int, monotonic: Callable[[], float]) -> None:
        self._folder = folder
        self._min_free = min_free
        self.monotonic = monotonic
        self._looked_at = float("-inf")
        self._free = 0

    def ask_for(self, octets: int) -> None:
        """Raises SpoolFull where so much more would leave too little. Looks at the disk four times a second."""
        now = self.monotonic()
        if now - self._looked_at > 0.25:
            status = os.fstatvfs(self._folder)
            self._free = status.f_bavail * status.f_frsize
            self._looked_at = now
        if self._free - octets < self._min_free:
            self._looked_at = float("-inf")
            raise SpoolFull(
                f"There is too little room on the disk of the spool: {self._free >> 20} MiB are free, and"
                f" {self._min_free >> 20} MiB must stay free.",
                hint="Free some space, or change min_free in section [spool].",
            )
        self._free -= octets


@dataclass(slots=True)
class WalSize:
    """The write-ahead log's length, as far as we can tell, and how it is kept short.

    A checkpoint copies it into the database. Most of that is done on another connection while commits go on; only what
    came meanwhile is left to the writer, after which the log begins anew.
    """

    pages: int  # when to begin
    limit: int  # when commits wait until the other connection is done
    begin: Callable[[], None]  # have the other connection do its part, and then call `copied`
    written: int = 0
    _at_rest: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._at_rest.set()

    def grown(self, pages: int) -> None:
        """The writer has added so much."""
        self.written += pages
        if self.written >= self.limit:
            self._at_rest.wait()
        if self.written >= self.pages and self._at_rest.is_set():
            self._at_rest.clear()
            self.written = 0
            self.begin()

    def copied(self) -> None:
        """The other connection has done its part, or could not."""
        self._at_rest.set()

    def finish(self, connection: sqlite3.Connection) -> None:
        """Copy the rest, where it is little; on the writer's thread."""
        if self.written < self.pages:
            checkpoint(connection)


def checkpoint(connection: sqlite3.Connection) -> None:
    """Copy as much of the log as can be copied without waiting for anybody."""
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


@dataclass(slots=True, eq=False)
class Writer:
    """Give it jobs from the event loop's thread."""

    path: Path
    room: FreeSpace
    log: WalSize
    connection: sqlite3.Connection | None
    stories: Callable[[], Sequence[WriteJob]]  # what was noted since, to be written along
    commits: int = 0
    broken: SpoolError | None = None  # nothing more is done
    busy_since: float | None = None  # monotonic: since when the disk is at it
    _jobs: "queue.SimpleQueue[WriteJob | None]" = field(default_factory=queue.SimpleQueue)
    _loop: asyncio.AbstractEventLoop | None = None
    _thread: threading.Thread | None = None
    _stopped: "asyncio.Future[None] | None" = None

    def submit(self, job: WriteJob) -> "asyncio.Future[Any]":
        """Its result, or a SpoolError, or what its function raised."""
        self._start()
        assert self._loop is not None
        job.future = self._loop.create_future()
        if self._stopped is not None:
            job.future.set_exception(SpoolError("The spool is closed."))
        else:
            self._jobs.put(job)
        return job.future

    def slip_in(self, job: WriteJob) -> None:
        """A job of our own, once we run from any thread; nobody hears of its result."""
        self._start()
        self._jobs.put(job)

    def _start(self) -> None:
        if self._thread is None:
            self._loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._work, name="spool-writer", daemon=True)
            self._thread.start()

    async def stop(self) -> None:
        """Finish what was asked for and end."""
        if self._stopped is not None:
            return
        if self._thread is None:
            self._stopped = asyncio.get_running_loop().create_future()
            self._stopped.set_result(None)
            return
        self._stopped = asyncio.get_running_loop().create_future()
        self._jobs.put(None)
        await self._stopped

    # on the thread

    def _work(self) -> None:
        going_on = True
        while going_on:
            batch: list[WriteJob] = []
            job = self._jobs.get()
            while True:
                if job is None:
                    going_on = False
                    break
                batch.append(job)
                if len(batch) >= _BATCH:
                    break
                try:
                    job = self._jobs.get_nowait()
                except queue.Empty:
                    break
            self._serve(batch)
        self._tell(self._say_stopped)

    def _say_stopped(self) -> None:
        if self._stopped is not None and not self._stopped.done():
            self._stopped.set_result(None)

    def _serve(self, batch: Sequence[WriteJob]) -> None:
        self.busy_since = self.room.monotonic()
        answers: list[_Answer] = []
        try:
            answers += [self._read(job) for job in batch if job.reads_only]
            arrivals = [job for job in batch if job.stocks]
            changes = [job for job in batch if not job.stocks and not job.reads_only]
            arrivals = [job for job in arrivals if self._has_room(job, answers)]
            if arrivals or changes:
                arrivals += self.stories()
                self._write(arrivals, changes, answers)
        except BaseException as fault:  # noqa: BLE001  whoever waits must hear of it, or would wait for ever
            event(_log, log_events.SPOOL_WRITER_ERROR, fault=fault)
            told_already = {id(job) for job, _, _ in answers}
            answers += [(job, None, fault) for job in batch if id(job) not in told_already]
        self.busy_since = None  # before anybody hears of it
        if answers:
            self._tell(_resolve, answers)

    def _tell(self, call: Callable[..., None], *arguments: object) -> None:
        assert self._loop is not None
        with suppress(RuntimeError):  # the loop is closed, and nobody waits any more
            self._loop.call_soon_threadsafe(call, *arguments)

    def _has_room(self, job: WriteJob, answers: list[_Answer]) -> bool:
        if not job.keeps:
            return True
        try:
            self.room.ask_for(job.octets)
            return True
        except SpoolFull as full:
            answers.append((job, None, full))
        except OSError as fault:
            answers.append((job, None, SpoolError(f"{_WHAT}: {fault.strerror}.", hint="dmesg")))
        return False

    def _read(self, job: WriteJob) -> _Answer:
        assert job.run is not None
        try:
            return job, job.run(self._connected()), None
        except Exception as fault:  # noqa: BLE001  goes to whoever asked
            return job, None, self._ours(fault)

    def _write(self, arrivals: Sequence[WriteJob], changes: Sequence[WriteJob], answers: list[_Answer]) -> None:
        """All in one transaction; where that fails, as much of it as can be had."""
        try:
            results = self._transact(arrivals, changes)
        except Exception as fault:  # noqa: BLE001
            self._undo(fault)
            if not _is_of_the_disk(fault):
                self._write_with_care([*changes, *arrivals], answers)
            elif changes and arrivals and isinstance(self._ours(fault), SpoolFull):
                # What is under way must come to its end; what is new can wait outside.
                answers += [(job, None, self._ours(fault)) for job in arrivals]
                self._write((), changes, answers)
            else:
                answers += [(job, None, self._ours(fault)) for job in (*arrivals, *changes)]
        else:
            answers += [(job, job.done(result) if job.done else result, None) for job, result in results]

    def _transact(self, arrivals: Sequence[WriteJob], changes: Sequence[WriteJob]) -> list[tuple[WriteJob, Any]]:
        connection = self._connected()
        before = connection.total_changes
        connection.execute("BEGIN IMMEDIATE")
        if arrivals:
            statements.add(connection, [stock for job in arrivals for stock in job.stocks])
        results = _make_changes(connection, changes)
        connection.execute("COMMIT")
        self._committed(connection.total_changes - before, sum(job.octets for job in arrivals))
        return [*((job, None) for job in arrivals), *results]

    def _write_with_care(self, jobs: Sequence[WriteJob], answers: list[_Answer]) -> None:
        """Each job in a savepoint of its own: one of them is at fault."""
        good: list[tuple[WriteJob, Any]] = []
        bad: list[_Answer] = []
        try:
            connection = self._connected()
            before = connection.total_changes
            connection.execute("BEGIN IMMEDIATE")
            for job in jobs:
                connection.execute("SAVEPOINT job")
                try:
                    good.append((job, self._run_alone(connection, job)))
                except Exception as fault:
                    if _is_of_the_disk(fault):
                        raise
                    connection.execute("ROLLBACK TO job")
                    bad.append((job, None, self._ours(fault)))
                connection.execute("RELEASE job")
            connection.execute("COMMIT")
            self._committed(connection.total_changes - before, sum(job.octets for job in jobs))
        except Exception as fault:  # noqa: BLE001
            self._undo(fault)
            answers += [(job, None, self._ours(fault)) for job in jobs]
        else:
            answers += [(job, job.done(result) if job.done else result, None) for job, result in good]
            answers += bad

    def _run_alone(self, connection: sqlite3.Connection, job: WriteJob) -> object:
        if job.stocks:
            statements.add(connection, job.stocks)
        return _make_changes(connection, [job])[0][1] if not job.stocks else None

    def _committed(self, changes: int, octets: int) -> None:
        self.commits += 1
        self.log.grown(8 + 2 * changes + octets // 4096)

    def _connected(self) -> sqlite3.Connection:
        if self.broken is not None:
            raise self.broken
        if self.connection is None:
            self.connection = connect(self.path)
        return self.connection

    def _undo(self, fault: Exception) -> None:
        """Back to before the transaction. After a refusal of the disk, the connection is not trusted again."""
        connection = self.connection
        if connection is None:
            return
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._drop(connection)
            return
        if _is_of_the_disk(fault) and not isinstance(self._ours(fault), SpoolFull):
            self._drop(connection)

    def _drop(self, connection: sqlite3.Connection) -> None:
        self.connection = None
        with suppress(sqlite3.Error):
            connection.close()

    def _ours(self, fault: BaseException) -> BaseException:
        if isinstance(fault, sqlite3.IntegrityError):
            return SpoolError(f"{_WHAT}: {fault}.", hint="A message of that id is there already.")
        return told(_WHAT, fault, self.path) if isinstance(fault, sqlite3.Error) else fault


def _make_changes(connection: sqlite3.Connection, jobs: Sequence[WriteJob]) -> list[tuple[WriteJob, Any]]:
    """In the order in which they came; the settlements that follow one another are written together."""
    results: list[tuple[WriteJob, Any]] = []
    for settles, group in groupby(jobs, key=lambda job: job.settlement is not None):
        if settles:
            together = list(group)
            finished = statements.settle(connection, [job.settlement for job in together if job.settlement is not None])
            results += zip(together, finished, strict=True)
        else:
            results += [(job, job.run(connection)) for job in group if job.run is not None]
    return results


def _is_of_the_disk(fault: Exception) -> bool:
    """Whatever is asked, it would be refused now; else it is this one job's own fault."""
    if isinstance(fault, SpoolError | OSError):
        return True
    return isinstance(fault, sqlite3.Error) and primary_code(fault) not in (
        0,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_TOOBIG,
        sqlite3.SQLITE_RANGE,
    )


def _resolve(answers: Sequence[_Answer]) -> None:
    for job, result, fault in answers:
        if fault is not None and job.failed is not None:
            job.failed(fault)
        if job.future is None or job.future.done():
            continue
        if fault is None:
            job.future.set_result(result)
        else:
            job.future.set_exception(fault)
