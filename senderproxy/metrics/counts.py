"""Counts of messages, attempts and commits since the start, where no other part of the program counts them.

It is an observer of the intake, of the deliveries and of the spool (relay.ports); without metrics there is none.
Guarantees: each call takes constant time. Memory is bounded by the limits on names. Counts begin with 0 at each start:
Prometheus takes that as a reset.
Not here: counts that exist without metrics (service.metrics reads them), the list of the series (metrics.series).
"""

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from senderproxy import log_events
from senderproxy.log_events import LogEvent
from senderproxy.mail.outcome import Delivered
from senderproxy.metrics import series
from senderproxy.metrics.series import NAMES_LIMIT, OTHER, HistogramValue, Labels, Sample, Series
from senderproxy.relay.ports import NO_ACCOUNT, Arrival, Outcomes, SpoolUpdate
from senderproxy.tracking.record import RecipientState, RecipientStatus

_DIGEST: Final = 4  # octets; of 300 accounts, two have the same one with a probability of 1 in 100,000

_OUTCOMES: Final[Mapping[LogEvent, str]] = MappingProxyType(
    {
        log_events.MESSAGE_DELIVERED: "delivered",
        log_events.MESSAGE_QUEUED: "queued",
        log_events.MESSAGE_KEPT_DURING_ATTEMPT: "queued",
        log_events.MESSAGE_TAKEN_OVER: "queued",
        log_events.REPORT_DELAYED: "queued",
        log_events.MESSAGE_DEFERRED: "deferred",
        log_events.MESSAGE_REFUSED: "refused",
        log_events.MESSAGE_DISCARDED: "discarded",
    }
)
MESSAGE_OUTCOMES: Final = tuple(dict.fromkeys(_OUTCOMES.values()))


class LabelNames:
    """Names as values of a label, up to a limit: those that come later are `other` together."""

    def __init__(self, limit: int, shown: Callable[[str], str] = str) -> None:
        """`shown`: the value for a name."""
        self._limit = limit
        self._shown = shown
        self._names: dict[str, str] = {}

    def label(self, name: str) -> str:
        """The value for the name, always the same."""
        found = self._names.get(name)
        if found is None:
            if len(self._names) >= self._limit:
                return OTHER
            found = self._names[name] = self._shown(name)
        return found

    def known(self) -> Mapping[str, str]:
        """The names with a value of their own, and the values."""
        return self._names


def account_label(account: str, key: bytes, *, addresses: bool) -> str:
    """The value for an account: its id, or a keyed digest in place of an id with an address, unless `addresses`."""
    if account == NO_ACCOUNT:
        return series.NONE
    if account.startswith("@"):  # relay.attempt.REPORT_SERVER: no id of an account begins so
        return series.INTERNAL
    if addresses or "@" not in account:
        return account
    digest = hashlib.blake2b(account.encode("utf-8", "surrogatepass"), key=key, digest_size=_DIGEST)
    return f"account-{digest.hexdigest()}"


class HistogramCounts:
    """A histogram in progress."""

    __slots__ = ("_bounds", "_counts", "_total")

    def __init__(self, kind: Series) -> None:
        self._bounds = kind.buckets
        self._counts = [0] * (len(kind.buckets) + 1)
        self._total = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def value(self) -> HistogramValue:
        """The value now."""
        return HistogramValue(tuple(self._counts), self._total)


class Counts:
    """The counts. `labels`: of the accounts; `now`: the time of day, in seconds of the Unix epoch."""

    def __init__(self, labels: LabelNames, now: Callable[[], float]) -> None:
        self.accounts = labels
        self.listeners = LabelNames(NAMES_LIMIT)
        self.providers = LabelNames(NAMES_LIMIT)
        self._now = now
        self._messages: dict[Labels, int] = {}
        self._recipients: dict[Labels, int] = {}
        self._reused: dict[Labels, int] = {}
        self._last_success: dict[Labels, float] = {}
        self._accept: dict[str, HistogramCounts] = {}  # by listener
        self._upstream: dict[str, HistogramCounts] = {}  # by provider
        self._commit = HistogramCounts(series.SPOOL_COMMIT_SECONDS)

    # ---- relay.ports.IntakeObserver ----

    def answered(self, listener: str, account: str, kind: LogEvent, seconds: float) -> None:
        """See relay.ports.IntakeObserver."""
        name = self.listeners.label(listener)
        _count(self._messages, (name, self.accounts.label(account), _OUTCOMES[kind]))
        histogram = self._accept.get(name)
        if histogram is None:
            histogram = self._accept[name] = HistogramCounts(series.ACCEPT_SECONDS)
        histogram.observe(seconds)

    # ---- relay.ports.DeliveryObserver ----

    def attempted(
        self, account: str, provider: str, outcomes: Outcomes | None, seconds: float, *, is_reused: bool
    ) -> None:
        """See relay.ports.DeliveryObserver."""
        labels = (self.accounts.label(account),)
        if is_reused:
            _count(self._reused, labels)
        if outcomes is not None and any(isinstance(outcome, Delivered) for outcome in outcomes.values()):
            self._last_success[labels] = self._now()
        name = self.providers.label(provider)
        histogram = self._upstream.get(name)
        if histogram is None:
            histogram = self._upstream[name] = HistogramCounts(series.UPSTREAM_SECONDS)
        histogram.observe(seconds)

    # ---- relay.ports.SpoolObserver ----

    def stored(self, arrivals: Sequence[Arrival]) -> None:
        """See relay.ports.SpoolObserver."""
        for arrival in arrivals:
            self._count_states(arrival)

    def noted(self, arrival: Arrival) -> None:
        """See relay.ports.SpoolObserver."""
        self._count_states(arrival)

    def settled(self, account: str, update: SpoolUpdate) -> None:
        """See relay.ports.SpoolObserver."""
        name = self.accounts.label(account)
        for state in update.states.values():
            if state.status is not RecipientStatus.WAITING:
                _count(self._recipients, (name, "queue", state.status.value))
        self.stored(update.reports)

    def committed(self, seconds: float) -> None:
        """See relay.ports.SpoolObserver."""
        self._commit.observe(seconds)

    # ---- for a scrape ----

    def samples(self) -> Iterator[Sample]:
        """The values of all series here."""
        for kind, counts in (
            (series.MESSAGES, self._messages),
            (series.RECIPIENTS, self._recipients),
            (series.UPSTREAM_REUSED, self._reused),
            (series.ACCOUNT_LAST_SUCCESS, self._last_success),
        ):
            for labels, value in counts.items():
                yield Sample(kind, labels, value)
        for kind, histograms in ((series.ACCEPT_SECONDS, self._accept), (series.UPSTREAM_SECONDS, self._upstream)):
            for name, histogram in histograms.items():
                yield Sample(kind, (name,), histogram.value())
        yield Sample(series.SPOOL_COMMIT_SECONDS, (), self._commit.value())

    def _count_states(self, arrival: Arrival) -> None:
        name = self.accounts.label(arrival.account)
        for state in arrival.states.values():
            _count(self._recipients, (name, *_stage_and_outcome(state)))


def _stage_and_outcome(state: RecipientState) -> tuple[str, str]:
    return ("direct", state.status.value) if state.status.is_final else ("queue", "queued")


def _count(counts: dict[Labels, int], labels: Labels) -> None:
    counts[labels] = counts.get(labels, 0) + 1
