"""Limits of connections at servers, as all instances that share a database observed them.

Guarantees: a limit is about the sessions of all accounts in all instances. What one instance has observed, the others
use; a lower limit that is still in force stays. Memory is bounded: a limit of a server of no provider is not kept.
Not here: the growth of a limit (delivery.observed_limits), what is observed without the database
(delivery.server_sessions).
"""

from collections.abc import Callable, Iterable
from typing import Final

from senderproxy.clock import Clock
from senderproxy.delivery.observed_limits import ObservedLimit
from senderproxy.delivery.server_sessions import hosts_of
from senderproxy.learned import Fact, Instant, Notify, SharedLearnedSource, ignore_change
from senderproxy.routing.provider import Provider

STATE: Final = "server"  # kind of facts; the subject is the name of the server


def server_name(hosts: frozenset[str]) -> str:
    """The name of these hosts in the database."""
    return " ".join(sorted(hosts))


def hosts_named(server: str) -> frozenset[str]:
    """The hosts with this name."""
    return frozenset(server.split())


class ServerLimits(SharedLearnedSource):
    """The observed limits by server. `providers` returns those of the configuration."""

    def __init__(self, providers: Callable[[], Iterable[Provider]], clock: Clock) -> None:
        self._providers = providers
        self._clock = clock
        self._limits: dict[str, ObservedLimit] = {}
        self.changed: Notify = ignore_change

    def limit(self, hosts: frozenset[str]) -> int | None:
        """The sessions that all instances together may have there; None: no limit is known."""
        observed = self._limits.get(server_name(hosts))
        return None if observed is None else observed.narrow(None, self._clock.monotonic())

    def record(self, hosts: frozenset[str], sessions: int) -> None:
        """Record that the server took no more than these."""
        server = server_name(hosts)
        self._limits.setdefault(server, ObservedLimit()).record(sessions, self._clock.monotonic())
        self.changed(server)

    def fact(self, subject: str, at: Instant) -> Fact | None:
        """See learned.LearnedSource."""
        observed = self._limits.get(subject)
        return None if observed is None else observed.fact(at)

    def restore(self, subject: str, fact: Fact, written: Instant) -> bool:
        """See learned.LearnedSource."""
        self.follow(subject, fact, written)
        return self.fact(subject, written) is not None

    def follow(self, subject: str, fact: Fact, written: Instant) -> None:
        """See learned.SharedLearnedSource."""
        if all(server_name(hosts_of(provider)) != subject for provider in self._providers()):
            return
        seen = ObservedLimit()
        seen.restore(fact, written)
        first, last = sorted((self._limits.get(subject, seen), seen), key=lambda each: each.at)
        kept = self._limits[subject] = ObservedLimit(first.narrow(last.limit, last.at), last.at)
        if kept.limit != seen.limit:
            self.changed(subject)  # both were observed at about the same time, and the higher one was written last
