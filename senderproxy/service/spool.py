"""The spool of the running service: opening, reopening, cleanup, closing.

Guarantees: while the spool cannot be opened, mail of `pass-through` listeners is relayed without it, and opening is
tried again. A disk that does not respond delays neither the start nor the stop without limit.
Not here: the spool itself (spool.sqlite.store), delivery from it (relay.runner).
"""

import asyncio
import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

from senderproxy import log_events
from senderproxy.clock import Clock
from senderproxy.config.model import SpoolSettings
from senderproxy.config.values import SQLITE_ENGINE
from senderproxy.late_import import late_import
from senderproxy.log import event
from senderproxy.monitoring.facts import InstanceFacts, SpoolFacts, SpoolState
from senderproxy.relay.no_spool import NoSpool
from senderproxy.relay.ports import Claim, LearnedStore, Spool, SpoolError, SpoolFull, SpoolObserver, Totals
from senderproxy.service.lease_guard import LeaseGuard
from senderproxy.spool.sqlite.file_identity import SpoolFileLost
from senderproxy.spool.sqlite.free_space import too_little_space
from senderproxy.spool.sqlite.limits import SpoolLimits
from senderproxy.spool.sqlite.stall import SpoolStalled, not_responding
from senderproxy.spool.sqlite.store import SqliteSpool
from senderproxy.wiring import Components, spool_limits_of
from senderproxy.worker_threads import WorkerThreads, WorkerThreadsError

_log = logging.getLogger("senderproxy.service")
_REOPEN: Final = 30.0  # seconds between tries to open a spool; a person has to fix the cause first
_CLEANUP: Final = 600.0  # seconds between deletions of old history; it is kept for days
_IDLE: Final = 60.0  # seconds without a commit after which the space of an idle spool is returned
_DISK_TIMEOUT: Final = 5.0  # seconds for a question to the disk; an operator may wait for the answer
_EARLY_CLEANUP: Final = 10.0  # seconds between those that the histories' size or a lack of space requires


class Health(Protocol):
    """The state of a spool."""

    def is_disturbed(self) -> bool:
        """True if the last write failed or takes too long. Cheap."""
        ...


class EngineSpool(Spool, LearnedStore, Protocol):
    """A spool of any engine, with what its service needs beside the ports."""

    @property
    def health(self) -> Health:
        """Cheap to ask."""
        ...

    @property
    def commits(self) -> int:
        """The number of commits so far."""
        ...

    @property
    def needs_sweep(self) -> bool:
        """True if `sweep` should be called before its time."""
        ...

    def observe(self, observer: SpoolObserver) -> None:
        """Call the observer for each commit."""
        ...

    def apply_limits(self, limits: SpoolLimits) -> None:
        """Put other limits in force."""
        ...

    @property
    def other_users(self) -> Sequence[str]:
        """The names of the other instances that use it."""
        ...

    def last_clock_step(self) -> tuple[timedelta, datetime] | None:
        """The size and the time of the last step of its clock."""
        ...

    async def trouble(self) -> SpoolError | None:
        """The reason why a new message would be refused; None if none is known."""
        ...

    async def check_content(self, claim: Claim) -> None:
        """Raises UnreadableRow if the content of a leased message is not as it was written."""
        ...

    async def sweep(self, now: datetime) -> None:
        """Delete old history."""
        ...

    async def tidy(self) -> None:
        """Return the space of an idle spool."""
        ...

    async def close(self) -> None:
        """Finish all calls."""
        ...


class ServiceSpool:
    """Opens the spool and gives it to the components. One attribute for each fact about it."""

    def __init__(self, folder: Path, settings: SpoolSettings, components: Components, clock: Clock) -> None:
        self._settings = settings
        self._folder = folder
        self._components = components
        self._clock = clock
        self._observer: SpoolObserver | None = None
        self._spool: EngineSpool | None = None
        self._problem: SpoolError | None = None
        self._opened_at = -math.inf  # monotonic seconds; the last try
        self._cleaned_at = -math.inf  # monotonic seconds
        self._cleanup: asyncio.Task[None] | None = None
        self._commits = self._tidied_at = 0  # numbers of commits
        self._committed_at = -math.inf  # monotonic seconds, to the precision of `maintain`
        self._lease_guard = LeaseGuard(components.runner)
        self._durability: Callable[[], str] = str  # of a database server; empty: none
        self._instances: Callable[[], Sequence[InstanceFacts]] = tuple  # of a database server
        self._is_draining = False
        self._show_drain: Callable[[], None] = lambda: None  # to the other instances
        self._counted_commits = -1  # the number of commits before the last totals
        self._disk = WorkerThreads("spool-free-space")

    def apply(self, settings: SpoolSettings) -> None:
        """Put other settings in force, after a reload."""
        self._settings = settings
        if self._spool is not None:
            self._spool.apply_limits(spool_limits_of(settings))

    def observe(self, observer: SpoolObserver) -> None:
        """Call the observer for what is written, from the next `open` on."""
        self._observer = observer

    @property
    def is_open(self) -> bool:
        """True while messages can be queued."""
        return self._spool is not None

    @property
    def last_clock_step(self) -> tuple[timedelta, datetime] | None:
        """The size and the time of the last step of the clock; None without one while the spool is open."""
        return self._spool.last_clock_step() if self._spool is not None else None

    @property
    def is_disturbed(self) -> bool:
        """True if it is not open, or its last write failed or takes too long. Cheap."""
        return self._spool is None or self._spool.health.is_disturbed()

    def drain(self, *, on: bool) -> None:
        """Let the other instances show that this one drains, or that it does no more."""
        self._is_draining = on
        self._show_drain()

    async def facts(self) -> SpoolFacts:
        """The ability of the spool to take messages, and the free space on its disk."""
        if self._spool is None:
            problem = self._problem
            return SpoolFacts(SpoolState.CLOSED, problem.message if problem else "", problem.hint if problem else "")
        if self._settings.engine != SQLITE_ENGINE:  # what an idle disk lets us know, a heartbeat finds out
            trouble = await self._spool.trouble()
            if trouble is None:
                return SpoolFacts(durability=self._durability(), instances=self._instances())
            return SpoolFacts(SpoolState.CLOSED, trouble.message, trouble.hint)
        try:
            async with asyncio.timeout(_DISK_TIMEOUT):
                trouble = await self._spool.trouble()
                free = await self._disk.do(_free_octets, self._folder)
        except TimeoutError:
            trouble, free = not_responding(_DISK_TIMEOUT), None
        except WorkerThreadsError:  # the service stops
            trouble, free = None, None
        if trouble is None:
            return SpoolFacts(free=free, min_free=self._settings.min_free)
        return SpoolFacts(_state_of(trouble), trouble.message, trouble.hint, free, self._settings.min_free)

    async def totals(self) -> Sequence[Totals] | None:
        """The counts of the queue; None if nothing was written since the last ones, or the disk does not respond."""
        spool = self._spool
        if spool is None or spool.commits == self._counted_commits:
            return None
        commits = spool.commits
        try:
            async with asyncio.timeout(_DISK_TIMEOUT):
                totals = await spool.totals()
        except (TimeoutError, SpoolError):
            return None
        self._counted_commits = commits
        return totals

    async def open(self) -> None:
        """Open the spool and start delivery from it. A failure is logged once for each cause, and not raised."""
        self._opened_at = self._clock.monotonic()
        try:
            spool = await self._open_engine()
        except SpoolError as error:
            if self._problem is None or self._problem.message != error.message:
                event(_log, log_events.SPOOL_OPEN_FAILED, why=error.message, hint=error.hint)
            self._problem = error
            self._components.use_spool(NoSpool(error))
            return
        self._spool, self._problem, self._counted_commits = spool, None, -1
        if self._observer is not None:
            spool.observe(self._observer)
        await self._components.learned.open(spool)  # before the first attempt
        self._components.use_spool(spool)
        await self._components.runner.start()

    async def _open_engine(self) -> "EngineSpool":
        if self._settings.engine != SQLITE_ENGINE:
            with late_import():
                from senderproxy.delivery.shared_connections import SharedConnections
                from senderproxy.service.postgresql import open_postgresql
            spool = await open_postgresql(self._settings, self._clock)
            self._durability = lambda: spool.instance.durability.value
            self._instances = lambda: [
                InstanceFacts(spool.instance.name, is_this=True, is_draining=spool.instance.is_draining),
                *(
                    InstanceFacts(one.name, one.silent, one.messages, is_draining=one.is_draining)
                    for one in spool.instance.others
                ),
            ]

            def show_drain() -> None:
                spool.instance.is_draining = self._is_draining

            self._show_drain = show_drain
            show_drain()
            courier = self._components.courier
            assert courier.shared_limits is not None
            courier.shared_limits.use(spool.hourly_limits)
            courier.shared_connections = SharedConnections(spool.connection_slots, courier.servers)
            self._components.tokens.use_database(spool.grants)
            self._components.learned.follow(spool)
            spool.on_leases(self._lease_guard.lost, self._lease_guard.regained)
            return spool
        opener = WorkerThreads("spool-opener")  # a thread that does not hold up the exit if the disk does not respond
        try:
            return await opener.do(SqliteSpool.open, self._folder, self._clock, spool_limits_of(self._settings))
        finally:
            opener.stop()

    async def maintain(self) -> None:
        """Try again to open it, or begin a cleanup, if the time has come. Never waits for the disk of an open spool."""
        now = self._clock.monotonic()
        if self._spool is None:
            if now - self._opened_at >= _REOPEN:
                await self.open()
            return
        if self._spool.commits != self._commits:
            self._commits, self._committed_at = self._spool.commits, now
        if self._cleanup is not None and not self._cleanup.done():
            return
        passed = now - self._cleaned_at
        if passed >= _CLEANUP or (passed >= _EARLY_CLEANUP and self._spool.needs_sweep):
            self._cleaned_at = now
            self._cleanup = asyncio.create_task(self._clean_up(self._spool))
        elif self._commits != self._tidied_at and now - self._committed_at >= _IDLE:
            self._cleanup = asyncio.create_task(self._tidy(self._spool))

    async def _clean_up(self, spool: "EngineSpool") -> None:
        with self._log_failure():
            await spool.sweep(self._clock.now())

    async def _tidy(self, spool: "EngineSpool") -> None:
        """Return the space of an idle spool to the disk, once until its next commit."""
        try:
            with self._log_failure():
                await spool.tidy()
        finally:
            self._commits = self._tidied_at = spool.commits

    @contextmanager
    def _log_failure(self) -> Iterator[None]:
        """Log an error of a cleanup; the next one may succeed."""
        try:
            yield
        except SpoolError as error:
            event(_log, log_events.HISTORY_CLEANUP_FAILED, why=error.message, hint=error.hint)
        except Exception as fault:  # noqa: BLE001  the housekeeping goes on
            event(_log, log_events.HISTORY_CLEANUP_FAILED, fault=fault)

    async def close(self, timeout_seconds: float) -> None:
        """Close it, within so many seconds.

        A disk that does not respond does not prevent the exit: what it never confirmed was never acknowledged to a
        client.
        """
        self._disk.stop()
        self._lease_guard.close()
        if self._spool is None:
            return
        if self._cleanup is not None:
            self._cleanup.cancel()
        closing = asyncio.create_task(self._write_and_close(self._spool))
        done, _ = await asyncio.wait([closing], timeout=timeout_seconds)
        if not done:
            event(
                _log,
                log_events.SPOOL_CLOSE_TIMEOUT,
                seconds=round(timeout_seconds, 1),
                hint="Look for errors of the disk: dmesg",
            )

    async def _write_and_close(self, spool: "EngineSpool") -> None:
        await self._components.learned.close()
        await spool.close()


def _free_octets(folder: Path) -> int | None:
    """Blocks."""
    try:
        status = os.statvfs(folder)
    except OSError:
        return None
    return status.f_bavail * status.f_frsize


def disk_facts(folder: Path, min_free: int) -> SpoolFacts | None:
    """The free space for a spool that is not open; None if it is unknown. Blocks."""
    free = _free_octets(folder)
    if free is None or free >= min_free:
        return None if free is None else SpoolFacts(free=free, min_free=min_free)
    error = too_little_space(free, min_free)
    return SpoolFacts(SpoolState.FULL, error.message, error.hint, free, min_free)


def _state_of(trouble: SpoolError) -> SpoolState:
    match trouble:
        case SpoolFull():
            return SpoolState.FULL
        case SpoolStalled():
            return SpoolState.SILENT
        case SpoolFileLost():
            return SpoolState.LOST
        case _:
            return SpoolState.BROKEN
