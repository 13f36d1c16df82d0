"""Metrics of the running service: the values at a scrape, their text, and the server's life.

Guarantees: what other parts count already is read at the scrape, on the event loop, without texts; the text is made on
a thread, at most once a second, whatever is asked. Values of a disk that does not respond are those of the last time.
An address that cannot be opened is a condition, and is tried again every minute: mail is not affected.
Not here: the list of the series and the counts (metrics), HTTP (service.metrics_server).
"""

import asyncio
import logging
import os
import platform
import resource
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final

from senderproxy import __version__, log_events
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.build import build_id
from senderproxy.clock import Clock
from senderproxy.config.model import MetricsSettings
from senderproxy.errors import SenderproxyError
from senderproxy.log import event
from senderproxy.metrics import series
from senderproxy.metrics.counts import Counts, LabelNames, account_label
from senderproxy.metrics.series import ACCOUNTS_LIMIT, OTHER, Labels, Sample, Series, Value
from senderproxy.monitoring.facts import MetricsFacts
from senderproxy.service.condition_facts import FactCollector
from senderproxy.service.conditions import ServiceConditions
from senderproxy.service.listeners import Listeners
from senderproxy.service.loop_lag import LoopLag
from senderproxy.service.metrics_server import MetricsError, MetricsServer, MetricsUnavailable
from senderproxy.service.spool import ServiceSpool
from senderproxy.tracking.age_buckets import AGE_LIMITS
from senderproxy.translation import _
from senderproxy.wiring import Components
from senderproxy.worker_threads import WorkerThreads, WorkerThreadsError

_log = logging.getLogger("senderproxy.service")
_FRESH: Final = 1.0  # seconds for which a text is an answer to further requests
_LOOK_TIMEOUT: Final = 6.0  # seconds for the queue and the disk; then the values of the last time are the answer
_REOPEN: Final = 60.0  # seconds until an address that could not be opened is tried again
_TEXTS: Final = 2  # that wait for the thread
_AGES: Final = (*(f"{limit.total_seconds() / 60:g}m" for limit in AGE_LIMITS), "more")


class Figures:
    """The values at one scrape. Several values for the same labels, as of `other`, become one."""

    def __init__(self) -> None:
        self._values: dict[tuple[Series, Labels], Value] = {}

    def add(
        self, kind: Series, value: float, *labels: str, merge: Callable[[float, float], float] = float.__add__
    ) -> None:
        """Set a value; `merge` it with an earlier one for the same labels."""
        earlier = self._values.get((kind, labels))
        self._values[kind, labels] = float(value) if earlier is None else merge(float(earlier), float(value))  # type: ignore[arg-type]

    def include(self, sample: Sample) -> None:
        """Set a value whose labels are not there yet."""
        self._values[sample.series, sample.labels] = sample.value

    def samples(self) -> list[Sample]:
        """All values, by series in the order of the list."""
        found: dict[Series, list[Sample]] = {kind: [] for kind in series.SERIES}
        for (kind, labels), value in self._values.items():
            found[kind].append(Sample(kind, labels, value))
        return [sample for samples in found.values() for sample in samples]


class ServiceMetrics:
    """The metrics of one service. One attribute for each part of it that has figures."""

    def __init__(
        self,
        settings: MetricsSettings,
        components: Components,
        accounts: VaultAccounts,
        listeners: Listeners,
        spool: ServiceSpool,
        facts: FactCollector,
        conditions: ServiceConditions,
        clock: Clock,
        loop_lag: LoopLag | None,
    ) -> None:
        """Counts begin with the call. Raises SenderproxyError if the library is missing."""
        try:
            # Not imported where metrics are off; before the start is over, as all modules (decision 0102).
            from senderproxy.metrics.exposition import CONTENT_TYPE, render
        except ImportError as error:
            raise SenderproxyError(
                _("The library prometheus_client, which [metrics] needs, cannot be loaded: {error}").format(
                    error=error
                ),
                hint=_("Install it: pip install prometheus-client; or remove [metrics] from the configuration."),
            ) from None
        self._content_type, self._render = CONTENT_TYPE, render
        key = accounts.derive_key("metrics-labels")
        self._labels = LabelNames(
            ACCOUNTS_LIMIT, lambda account: account_label(account, key, addresses=settings.addresses)
        )
        self._counts = Counts(self._labels, lambda: clock.now().timestamp())
        self._components = components
        self._accounts = accounts
        self._listeners = listeners
        self._facts = facts
        self._conditions = conditions
        self._clock = clock
        self._loop_lag = loop_lag
        self._settings = settings
        self._started_at = clock.now()
        self._threads = WorkerThreads("metrics", queue_limit=_TEXTS)
        self._server: MetricsServer | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._text: asyncio.Task[bytes] | None = None
        self._text_at = 0.0  # monotonic seconds
        components.intake.observer = self._counts
        components.courier.observers.attempts = self._counts
        spool.observe(self._counts)

    # ---- life ----

    def start(self) -> None:
        """Open the address; if that fails, note it and try again later."""
        self._retry = None
        try:
            self._use(self._open(self._settings))
        except MetricsError as error:
            address = str(self._settings.listen)
            if self._facts.metrics is None:
                event(_log, log_events.METRICS_UNAVAILABLE, address=address, why=error.message, hint=error.hint)
            self._facts.metrics = MetricsFacts(address, error.message, error.hint)
            self._retry = asyncio.get_running_loop().call_later(_REOPEN, self.start)

    @asynccontextmanager
    async def replaced(self, settings: MetricsSettings) -> AsyncIterator[None]:
        """Open the address of new settings, and use it if the block ends without an error. Raises MetricsError."""
        server = self._open(settings) if self._server is None or self._server.listen != settings.listen else None
        try:
            yield
        except BaseException:
            if server is not None:
                server.close()
            raise
        self._settings = settings
        before = self._server
        if server is not None:
            self._use(server)
            if before is not None:
                await before.stop()
        elif before is not None:
            before.allow = settings.allow

    def _open(self, settings: MetricsSettings) -> MetricsServer:
        return MetricsServer(settings, self.text, self._content_type)

    def _use(self, server: MetricsServer) -> None:
        self._server, self._facts.metrics = server, None
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        server.start()
        event(_log, log_events.METRICS_STARTED, address=server.address)

    async def stop(self) -> None:
        """Close the address."""
        if self._retry is not None:
            self._retry.cancel()
        if self._server is not None:
            await self._server.stop()
        if self._text is not None:
            self._text.cancel()
        self._threads.stop()

    @property
    def address(self) -> str | None:
        """The address on which metrics can be read; None: on none."""
        return None if self._server is None else self._server.address

    def labels(self) -> Mapping[str, str]:
        """The accounts that have another label than their id, by their label."""
        return {
            label: account for account, label in self._labels.known().items() if label != account and "@" in account
        }

    # ---- a scrape ----

    async def text(self) -> bytes:
        """The text, of this second. Raises MetricsUnavailable."""
        now = self._clock.monotonic()
        if self._text is None or (self._text.done() and now - self._text_at >= _FRESH):
            self._text = asyncio.create_task(self._make_text())
            self._text_at = now
        try:
            return await asyncio.shield(self._text)
        except WorkerThreadsError:
            raise MetricsUnavailable from None

    async def _make_text(self) -> bytes:
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_TIMEOUT):
                await self._conditions.ask()
        try:
            samples = self._collect().samples()
            return await self._threads.do(_render, self._render, samples)
        except WorkerThreadsError:
            raise
        except Exception as fault:
            event(_log, log_events.METRICS_FAILED, fault=fault)
            raise MetricsUnavailable from fault

    def _collect(self) -> Figures:
        figures = Figures()
        for sample in self._counts.samples():
            figures.include(sample)
        self._add_accounts(figures)
        self._add_queue(figures)
        self._add_clients(figures)
        for account, stored, given_up, waiting in self._components.copies.counts():
            label = self._labels.label(account)
            figures.add(series.SENT_COPIES, stored, label, "stored")
            figures.add(series.SENT_COPIES, given_up, label, "given_up")
            figures.add(series.SENT_COPIES_WAITING, waiting, label)
        for one in self._conditions.current:
            figures.add(series.CONDITIONS, 1, one.key.value, one.severity.name.lower())
        figures.add(series.DRAINING, self._facts.drain is not None)
        if (lag := self._loop_lag) is not None:
            figures.add(series.LOOP_LONGEST, lag.maximum)
            figures.add(series.LOOP_BLOCKS, lag.blocks)
        figures.add(series.BUILD, 1, __version__, build_id(), platform.python_version())
        figures.add(series.PROCESS_START, self._started_at.timestamp())
        return figures

    def _add_accounts(self, figures: Figures) -> None:
        figures.add(series.ACCOUNTS, len(self._accounts.directory().accounts))
        for one in self._components.courier.figures(self._components.relay.rules.providers):
            label = self._labels.label(one.account)
            figures.add(series.ACCOUNT_CAN_SEND, one.can_send, label, merge=min)
            figures.add(series.UPSTREAM_OPENED, one.sessions_opened, label)
            figures.add(series.UPSTREAM_SESSIONS, one.sessions_busy, label, "busy")
            figures.add(series.UPSTREAM_SESSIONS, one.sessions_idle, label, "idle")
            figures.add(series.UPSTREAM_WAITING, one.waiting, label)
            figures.add(series.UPSTREAM_FAILED_LOGINS, one.failed_logins, label)
            for outcome, count in (("delivered", one.delivered), ("deferred", one.deferred), ("failed", one.failed)):
                figures.add(series.UPSTREAM_RECIPIENTS, count, label, outcome)
            if label != OTHER:  # limits of several accounts have no sum
                for unit, limit, left in one.limits:
                    figures.add(series.ACCOUNT_LIMIT, limit, label, unit)
                    figures.add(series.ACCOUNT_LIMIT_LEFT, left, label, unit)

    def _add_queue(self, figures: Figures) -> None:
        now, ages = self._clock.now(), [0] * len(_AGES)
        for total in self._facts.totals:
            label = self._labels.label(total.account)
            figures.add(series.QUEUE_MESSAGES, total.waiting, label, "waiting")
            figures.add(series.QUEUE_MESSAGES, total.held, label, "held")
            figures.add(series.QUEUE_BYTES, total.size, label)
            age = max(0.0, (now - total.oldest).total_seconds())
            figures.add(series.QUEUE_OLDEST, age, label, merge=max)
            ages = [before + count for before, count in zip(ages, total.by_age or ages, strict=True)]
        for age_label, count in zip(_AGES, ages, strict=True):
            figures.add(series.QUEUE_AGE, count, age_label)
        spool = self._facts.spool_facts
        figures.add(series.SPOOL_OPEN, spool.is_open)
        if spool.free is not None:
            figures.add(series.SPOOL_FREE, spool.free)

    def _add_clients(self, figures: Figures) -> None:
        for listener in self._listeners.open:
            name = self._counts.listeners.label(listener.settings.name)
            counters = listener.counters
            figures.add(series.LISTENER_CONNECTIONS, counters.connections, name)
            figures.add(series.LISTENER_CONNECTED, listener.connections, name)
            figures.add(series.LISTENER_IN_PROGRESS, listener.in_progress, name)
            figures.add(series.LISTENER_FAULTS, listener.faults, name)
        for reason, count in self._listeners.turned_away.by_reason.items():
            figures.add(series.TURNED_AWAY, count, reason.value)


def _render(render: Callable[[list[Sample]], bytes], samples: list[Sample]) -> bytes:
    """The text, with the figures of the process, which the kernel has. On a thread."""
    return render([*samples, *_process()])


def _process() -> Iterator[Sample]:
    times = os.times()
    yield Sample(series.PROCESS_CPU, (), times.user + times.system)
    yield Sample(series.PROCESS_THREADS, (), threading.active_count())
    yield Sample(series.PROCESS_MAX_FDS, (), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    with suppress(OSError, ValueError):
        with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123
            yield Sample(series.PROCESS_MEMORY, (), int(statm.read().split()[1]) * resource.getpagesize())
        yield Sample(series.PROCESS_FDS, (), len(os.listdir("/proc/self/fd")))  # noqa: PTH208
