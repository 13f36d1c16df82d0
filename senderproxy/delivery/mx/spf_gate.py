"""SpfGate: mail with a reverse-path of a domain leaves from this machine only if its SPF record names our address.

Guarantees: nothing passes before the record was seen to name every public address of ours. A wrong record stops the
domain at once; a failed look-up never does: the last good answer holds for KEPT seconds. One look-up of a domain at a
time, on threads; bounded in time and memory.
Not here: the evaluation (domain_records.spf_address), the mail that is stopped (delivery.mx.courier).
RFC 7208.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from senderproxy.aio import wait_done
from senderproxy.clock import Clock
from senderproxy.dns_client.client import DnsClient
from senderproxy.dns_client.errors import LookupFailed
from senderproxy.domain_records.lookups import Lookups
from senderproxy.domain_records.spf_address import AddressVerdict, SpfResult, judge_addresses
from senderproxy.mail.reply import Reply, reply
from senderproxy.translation import in_english
from senderproxy.worker_threads import WorkerThreads, WorkerThreadsError

DOMAINS: Final = 500  # domains with a verdict; the one looked up longest ago is forgotten
KEPT: Final = 3 * 24 * 3600.0  # seconds that a good verdict holds while look-ups fail; as for addresses, RFC 8767
_GOOD: Final = 3600.0  # seconds until the next look-up of a record that names us
_WRONG: Final = 300.0  # seconds until the next look-up of one that does not: it may have been changed
_UNKNOWN: Final = 60.0  # seconds until the next look-up after a failed one
_LOOK_UPS: Final = 4  # at once

_NO_ADDRESS: Final = reply(451, "4.3.5", "The public address of this machine is not configured: [mx] public_address")

NewClient: TypeAlias = Callable[[], DnsClient]


@dataclass(frozen=True, slots=True)
class _KnownVerdict:
    verdict: AddressVerdict
    due: float  # of the next look-up, monotonic seconds
    good_until: float  # monotonic seconds; 0: the record was never seen to name us


class SpfGate:
    """The verdicts about the domains of reverse-paths. `addresses` may be replaced: all is looked up again then."""

    def __init__(self, clock: Clock, addresses: tuple[str, ...], new_client: NewClient = DnsClient) -> None:
        self._clock = clock
        self._addresses = addresses
        self._new_client = new_client
        self._threads = WorkerThreads("spf-gate", _LOOK_UPS)
        self._known: dict[str, _KnownVerdict] = {}  # the domain looked up last is the last one
        self._again: set[asyncio.Task[_KnownVerdict]] = set()  # _LOOK_UPS
        self.changes = 0  # a cheap sign of another verdict
        self._running: dict[tuple[str, ...], asyncio.Future[AddressVerdict]] = {}

    @property
    def addresses(self) -> tuple[str, ...]:
        """The public addresses of this machine, as text."""
        return self._addresses

    def configure(self, addresses: tuple[str, ...]) -> None:
        """Change the public addresses."""
        if addresses != self._addresses:
            self._addresses = addresses
            self._known.clear()
            self.changes += 1

    async def refusal(self, domain: str) -> Reply | None:
        """Why nothing may be sent for this domain; None: it may. Waits for a look-up, unless one was made lately."""
        if not self._addresses:
            return _NO_ADDRESS
        known = self._known.get(domain)
        if known is None or self._clock.monotonic() >= known.due:
            known = await self._look(domain)
        return self._refusal_of(domain, known)

    async def verdict(self, domain: str) -> AddressVerdict:
        """The verdict about a domain, looked up now. There is a public address."""
        return (await self._look(domain)).verdict

    def tick(self) -> None:
        """Look again at domains with stopped mail, when it is time. Cheap: called by the housekeeping."""
        if self._again or not self._known:
            return
        now = self._clock.monotonic()
        due = [domain for domain in self.stopped() if now >= self._known[domain].due]
        for domain in due[:_LOOK_UPS]:
            task = asyncio.create_task(self._look(domain))
            self._again.add(task)
            task.add_done_callback(self._again.discard)

    def stopped(self) -> Mapping[str, AddressVerdict]:
        """The domains with stopped mail, by their last verdict."""
        return {
            domain: known.verdict
            for domain, known in self._known.items()
            if self._refusal_of(domain, known) is not None
        }

    def close(self) -> None:
        """Make no more look-ups."""
        self._threads.stop()
        for running in list(self._running.values()):
            running.cancel()

    # --- parts ---

    async def _look(self, domain: str) -> _KnownVerdict:
        addresses = self._addresses
        key = domain, *addresses
        if (running := self._running.get(key)) is None:
            try:
                running = self._threads.do(look, domain, addresses, self._new_client)
            except WorkerThreadsError:
                return self._note(domain, _unknown(addresses, "too many look-ups"))
            self._running[key] = running
            running.add_done_callback(lambda _: self._running.pop(key, None))
        await wait_done(running)
        if running.cancelled():
            return self._note(domain, _unknown(addresses, "senderproxy is shutting down"))
        if addresses != self._addresses:  # they were changed meanwhile
            return await self._look(domain)
        return self._note(domain, running.result())

    def _note(self, domain: str, verdict: AddressVerdict) -> _KnownVerdict:
        now, before = self._clock.monotonic(), self._known.pop(domain, None)
        match verdict.result:
            case SpfResult.NAMED:
                known = _KnownVerdict(verdict, now + _GOOD, now + KEPT)
            case SpfResult.UNKNOWN:
                known = _KnownVerdict(verdict, now + _UNKNOWN, 0.0 if before is None else before.good_until)
            case _:
                known = _KnownVerdict(verdict, now + _WRONG, 0.0)
        self._known[domain] = known
        self.changes += before is None or before.verdict != verdict
        if len(self._known) > DOMAINS:
            del self._known[next(iter(self._known))]
        return known

    def _refusal_of(self, domain: str, known: _KnownVerdict) -> Reply | None:
        verdict = known.verdict
        if verdict.result is SpfResult.NAMED or self._clock.monotonic() < known.good_until:
            return None
        if verdict.is_wrong:
            text = f"The SPF record of {domain} does not name {verdict.address}, the address of this machine"
            return reply(451, "4.7.0", f"{text}: {verdict.record or 'there is none'}")
        return reply(451, "4.7.0", f"The SPF record of {domain} could not be evaluated yet: {verdict.why}")


def look(domain: str, addresses: tuple[str, ...], new_client: NewClient) -> AddressVerdict:
    """Judge a domain. Blocks for 30 s at most."""
    try:
        return judge_addresses(Lookups(new_client().records), domain, addresses)
    except LookupFailed as error:  # this machine has no name server
        return _unknown(addresses, in_english(error.args[0]))


def _unknown(addresses: tuple[str, ...], why: str) -> AddressVerdict:
    return AddressVerdict(SpfResult.UNKNOWN, addresses[0], why=why)
