"""Look-ups of the mail servers of domains, on threads, with a cache.

Guarantees: bounded in time (dns_client) and in memory; one look-up of a domain at a time, shared by all who wait for
it; whoever waits may stop at any time. An answer is kept as long as its TTL says, within bounds; a failure, and the
answer that the domain does not exist, for a short time: a wrong address does not ask the name server for each message.
Not here: the choice among the servers (delivery.mx.hosts), the queries (dns_client).
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from senderproxy.aio import wait_done
from senderproxy.clock import Clock
from senderproxy.delivery.mx.hosts import KEPT, DomainServers, NoServers, exchangers_of, literal_servers, looked_up
from senderproxy.dns_client.client import DnsClient
from senderproxy.dns_client.errors import LookupFailed
from senderproxy.mail.outcome import Deferred
from senderproxy.mail.reply import reply
from senderproxy.translation import in_english
from senderproxy.worker_threads import WorkerThreads, WorkerThreadsError

LOOK_UPS: Final = 8  # at once; a silent name server holds each for 30 s
CACHED: Final = 1000  # domains; about 1 KB each
_LONGEST: Final = 3600.0  # seconds that an answer is kept
_SHORTEST: Final = 60.0  # seconds that an answer is kept, also one without a TTL
_FAILURE: Final = 30.0  # seconds that a failure is kept; RFC 9520 section 3.2 asks for 1 to 300

NewClient: TypeAlias = Callable[[], DnsClient]  # makes one for each domain; may raise LookupFailed
Servers: TypeAlias = DomainServers | NoServers


@dataclass(frozen=True, slots=True)
class _KnownServers:
    servers: Servers
    until: float  # monotonic seconds


class MailServerLookUp:
    """The look-ups of one courier."""

    def __init__(self, clock: Clock, new_client: NewClient = DnsClient) -> None:
        self._clock = clock
        self._new_client = new_client
        self._threads = WorkerThreads("mx-look-up", LOOK_UPS)
        self._known: dict[str, _KnownServers] = {}  # the domain used last is the last one
        self._running: dict[str, asyncio.Future[tuple[Servers, float]]] = {}

    async def servers(self, domain: str) -> Servers:
        """The servers of a domain, or the outcome if it has none, or the look-up failed. Never raises for the DNS."""
        if (literal := literal_servers(domain)) is not None:
            return literal
        if (known := self.cached(domain)) is not None:
            return known
        running = self._running.get(domain)
        if running is None:
            try:
                running = self._threads.do(look_up, domain, self._new_client)
            except WorkerThreadsError:
                return _failed(domain, "too many look-ups wait for a name server")
            self._running[domain] = running
            running.add_done_callback(lambda done: self._finish(domain, done))
        await wait_done(running)
        return _failed(domain, "senderproxy is shutting down") if running.cancelled() else running.result()[0]

    def cached(self, domain: str) -> Servers | None:
        """What is known about a domain; None: it has to be looked up."""
        known = self._known.pop(domain, None)
        if known is None or self._clock.monotonic() >= known.until:
            return None
        self._known[domain] = known
        return known.servers

    def close(self) -> None:
        """Start no more look-ups. One that is in progress is left to its thread."""
        self._threads.stop()
        for running in list(self._running.values()):
            running.cancel()

    def _finish(self, domain: str, done: "asyncio.Future[tuple[Servers, float]]") -> None:
        del self._running[domain]
        if done.cancelled() or done.exception() is not None:
            return
        servers, seconds = done.result()
        self._known[domain] = _KnownServers(servers, self._clock.monotonic() + seconds)
        if len(self._known) > CACHED:
            del self._known[next(iter(self._known))]


def look_up(domain: str, new_client: NewClient) -> tuple[Servers, float]:
    """Look up the servers of a domain and their addresses; and how many seconds that holds. Blocks for 30 s at most."""
    try:
        client = new_client()
        answer = client.exchangers(domain)
    except LookupFailed as error:
        return _failed(domain, in_english(error.args[0])), _FAILURE
    servers = exchangers_of(domain, answer)
    if not isinstance(servers, DomainServers):
        return servers, _within(answer.seconds)
    lifetimes = [answer.seconds] if answer.exchangers else []
    addresses: dict[str, tuple[str, ...]] = {}
    complete = True
    for host in looked_up(servers.exchangers):
        try:
            found = client.addresses(host)
        except LookupFailed:
            complete = False
            continue
        addresses[host] = found.addresses[:KEPT]
        lifetimes.append(found.seconds)
    result = DomainServers(servers.exchangers, addresses, servers.implicit)
    return result, _within(min(lifetimes, default=0.0)) if complete else _FAILURE


def _within(seconds: float) -> float:
    return min(max(seconds, _SHORTEST), _LONGEST)


def _failed(domain: str, why: str) -> Deferred:
    return Deferred(reply(451, "4.4.3", f"Cannot look up the mail servers of {domain}: {why}"))
