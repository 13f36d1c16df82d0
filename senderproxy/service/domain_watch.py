"""DomainWatch: a daily look of the running service at the DNS records of the accounts' domains.

It is a learned.LearnedSource: what was seen survives a restart, and a restart looks at nothing again.
Guarantees: one domain at a time, on a thread of its own that delays neither a stop nor the exit; no timer: the
housekeeping calls `tick`. The first looks are spread over FIRST_WITHIN, later ones over the day. At most DOMAINS
domains. An internal error of a look is logged, and the domain is looked at again.
Not here: the judgements (domain_records), the conditions (monitoring.domain_conditions).
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from senderproxy import log_events
from senderproxy.clock import Clock
from senderproxy.dns_client.client import DnsClient
from senderproxy.dns_client.errors import LookupFailed
from senderproxy.domain_records.domain import judge_domain, main_judgements
from senderproxy.domain_records.history import DomainHistory
from senderproxy.domain_records.judgement import Aspect, Judgement, RecordProblem, judge
from senderproxy.domain_records.provider_records import ProviderRecords
from senderproxy.learned import Fact, Instant, LearnedSource, Notify, ignore_change
from senderproxy.log import event
from senderproxy.monitoring.facts import DomainFacts
from senderproxy.worker_threads import WorkerThreads, WorkerThreadsError

DOMAINS: Final = 500  # domains that are watched; of more, the first ones of the vault
FIRST_WITHIN: Final = 900.0  # seconds after the start in which domains are looked at that were never seen
_SETTLED: Final = 60.0  # seconds after the start without a look: the network may come up late
_DAY: Final = 86400.0  # seconds between two looks at a domain whose records are right
_SOON: Final = 3600.0  # seconds until the next look at one with a problem or after a failed look
_SPREAD: Final = 0.1  # part of the time by which looks are spread
LEARNED_KIND: Final = "domain"

_log = logging.getLogger("senderproxy.service")

NewClient = Callable[[], DnsClient]  # makes one for each domain; may raise LookupFailed


@dataclass(slots=True)
class _Watched:
    provider: str
    records: ProviderRecords
    due: float  # monotonic seconds
    history: DomainHistory = field(default_factory=DomainHistory)


class DomainWatch(LearnedSource):
    """The watched domains of one service."""

    def __init__(self, clock: Clock, new_client: NewClient = DnsClient) -> None:
        self.changed: Notify = ignore_change
        self.changes = 0  # a cheap sign of something new
        self._clock = clock
        self._new_client = new_client
        self._threads = WorkerThreads("domain-records", niceness=5)
        self._watched: dict[str, _Watched] = {}  # DOMAINS
        self._restored: dict[str, DomainHistory] = {}  # of domains that are not watched yet; DOMAINS
        self._look: asyncio.Future[list[Judgement]] | None = None
        self._next_at = 0.0  # monotonic seconds; no domain is due before
        self._started_at = clock.monotonic()

    def watch(self, domains: Mapping[tuple[str, str], ProviderRecords]) -> None:
        """Watch these domains, each with its provider, and no others. What was seen of a domain is kept."""
        now = self._clock.monotonic()
        before, self._watched = self._watched, {}
        for (domain, provider), records in domains.items():
            if domain in self._watched or len(self._watched) >= DOMAINS:
                continue
            known = before.pop(domain, None)
            if known is None:
                history = self._restored.pop(domain, None) or DomainHistory()
                known = _Watched(provider, records, self._first_due(history), history)
            elif known.provider != provider:
                known = _Watched(provider, records, now)
            self._watched[domain] = known
        for domain in (*before, *self._restored):
            self.changed(domain)
        self._restored.clear()
        self._next_at = min((one.due for one in self._watched.values()), default=0.0)
        self.changes += 1

    def tick(self) -> None:
        """Begin the next look if one is due. Cheap: called by the housekeeping."""
        now = self._clock.monotonic()
        if self._look is not None or now < self._next_at or not self._watched:
            return
        domain, watched = min(self._watched.items(), key=lambda item: item[1].due)
        if now < watched.due:
            self._next_at = watched.due
            return
        try:
            self._look = self._threads.do(self._judge, domain, watched.records)
        except WorkerThreadsError:  # stopped, or the system has no thread left
            self._next_at = now + _SOON
            return
        self._look.add_done_callback(lambda look: self._looked(domain, watched, look))

    def facts(self) -> list[DomainFacts]:
        """The wrong records."""
        now = self._clock.now()
        return [
            DomainFacts(domain, one.provider, trouble)
            for domain, one in self._watched.items()
            for trouble in one.history.troubles(now)
        ]

    def stop(self) -> None:
        """Begin no more looks. One that is being made is left to its thread."""
        self._threads.stop()
        if self._look is not None:
            self._look.cancel()

    # ---- parts ----

    def _first_due(self, history: DomainHistory) -> float:
        """The time of the first look of this process at a domain."""
        earliest = self._started_at + _SETTLED
        if history.looked_at is None:
            return max(earliest, self._clock.monotonic()) + self._clock.chance() * FIRST_WITHIN
        age = (self._clock.now() - history.looked_at).total_seconds()
        return max(earliest, self._clock.monotonic() + self._interval(history) - age)

    def _interval(self, history: DomainHistory) -> float:
        seconds = _SOON if history.is_unsure or any(history.troubles(self._clock.now())) else _DAY
        return seconds * (1 + _SPREAD * (2 * self._clock.chance() - 1))

    def _judge(self, domain: str, records: ProviderRecords) -> list[Judgement]:
        """Look at a domain. Blocks for some seconds at most."""
        try:
            return list(main_judgements(judge_domain(self._new_client().records, domain, records)).values())
        except LookupFailed as error:  # this machine has no name server
            return [judge(aspect, RecordProblem.LOOKUP_FAILED, error=error) for aspect in Aspect]

    def _looked(self, domain: str, watched: _Watched, look: "asyncio.Future[list[Judgement]]") -> None:
        self._look, self._next_at = None, 0.0
        if look.cancelled():
            return
        if (fault := look.exception()) is not None:
            event(_log, log_events.DOMAIN_LOOK_FAILED, fault=fault, domain=domain)
            watched.due = self._clock.monotonic() + _SOON
            return
        watched.history.note(look.result(), self._clock.now())
        watched.due = self._clock.monotonic() + self._interval(watched.history)
        self.changes += 1
        self.changed(domain)

    # ---- learned facts ----

    def fact(self, subject: str, at: Instant) -> Fact | None:
        """See learned.LearnedSource."""
        watched = self._watched.get(subject)
        return None if watched is None or watched.history.looked_at is None else watched.history.fact(at)

    def restore(self, subject: str, fact: Fact, written: Instant) -> bool:
        """See learned.LearnedSource."""
        history = DomainHistory.read(fact, written)
        watched = self._watched.get(subject)
        if watched is not None:
            watched.history, watched.due = history, self._first_due(history)
            self._next_at = 0.0
        elif len(self._restored) < DOMAINS and not self._watched:
            self._restored[subject] = history
        else:
            return False
        self.changes += 1
        return True
