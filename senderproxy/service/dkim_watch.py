"""DkimWatch: the vault's DKIM keys that sign, by looks at their DNS records.

It is a learned.LearnedSource: a key whose record was seen signs after a restart at once.
Guarantees: a key signs from the first look at which the DNS has it, and does not stop when its record changes. A new
key is looked at soon, and each minute in its first hour. One look at a time, on a thread of its own that delays neither
a stop nor the exit; no timer: the housekeeping calls `tick`. An internal error of a look is logged, and the key is
looked at again.
Not here: the judgement of a record (domain_records.own_key), the signatures (relay.dkim_signing).
"""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from senderproxy import log_events
from senderproxy.aio import wait_done
from senderproxy.clock import Clock
from senderproxy.dkim.choice import KeyRing
from senderproxy.dkim.key import SigningKey
from senderproxy.dns_client.errors import LookupFailed
from senderproxy.domain_records.lookups import Lookups
from senderproxy.domain_records.own_key import KeyLook, look_at_key
from senderproxy.domain_records.own_key_history import OwnKeyHistory, choose_key
from senderproxy.learned import Fact, Instant, LearnedSource, Notify, ignore_change
from senderproxy.log import event
from senderproxy.monitoring.facts import DkimKeyFacts
from senderproxy.service.domain_watch import NewClient
from senderproxy.worker_threads import WorkerThreads, WorkerThreadsError

KEYS: Final = 1000  # keys that are watched; of more, the first ones of the vault
LEARNED_KIND: Final = "dkim-key"
_AGAIN: Final = 60.0  # seconds after a failed look
_SPREAD: Final = 0.1  # part of the time by which daily looks are spread
_LOOK_SECONDS: Final = 20.0  # that a request waits for its looks

_log = logging.getLogger("senderproxy.service")


@dataclass(slots=True)
class _WatchedKey:
    key: SigningKey
    due: float  # monotonic seconds
    history: OwnKeyHistory = field(default_factory=OwnKeyHistory)
    error: str = ""  # of the last look, if it failed


class DkimWatch(LearnedSource):
    """The DKIM keys of one service. `use` takes the keys that sign, None for none."""

    def __init__(self, clock: Clock, new_client: NewClient, use: Callable[[KeyRing | None], None]) -> None:
        self.changed: Notify = ignore_change
        self.changes = 0  # a cheap sign of something new
        self._clock = clock
        self._new_client = new_client
        self._use = use
        self._threads = WorkerThreads("dkim-records", niceness=5)
        self._watched: dict[str, _WatchedKey] = {}  # by the name of the record; KEYS
        self._signing: dict[str, _WatchedKey] = {}  # by domain; KEYS
        self._look: asyncio.Future[KeyLook] | None = None

    def watch(self, keys: Iterable[SigningKey]) -> None:
        """Watch these keys, of each domain the oldest first, and no others. What was seen of a key is kept."""
        before, self._watched = self._watched, {}
        now = self._clock.monotonic()
        for key in keys:
            known = before.pop(key.name, None)
            if len(self._watched) < KEYS:
                is_same = known is not None and known.key.public == key.public
                self._watched[key.name] = known if known is not None and is_same else _WatchedKey(key, now)
                self._watched[key.name].key = key
        for name in before:
            self.changed(name)
        self._apply()

    def tick(self) -> None:
        """Begin the next look if one is due. Cheap: called by the housekeeping."""
        if self._look is not None or not self._watched:
            return
        name, watched = min(self._watched.items(), key=lambda item: item[1].due)
        if self._clock.monotonic() >= watched.due:
            self._begin(name, watched)

    async def look_now(self, domain: str) -> None:
        """Look at the keys of a domain, one after the other, and wait for the results for some seconds."""
        end = self._clock.monotonic() + _LOOK_SECONDS
        for name, watched in list(self._watched.items()):
            if watched.key.domain != domain:
                continue
            await self._wait(end)
            if self._look is None and self._watched.get(name) is watched:
                self._begin(name, watched)
            await self._wait(end)

    def states(self) -> list[dict[str, Any]]:
        """The keys with their states, in values for JSON."""
        return [
            {
                "domain": one.key.domain,
                "selector": one.key.selector,
                "signs": self._signing.get(one.key.domain) is one,
                "record": self._state(one),
                "found": one.history.problem.record if one.history.problem else "",
                "looked_at": one.history.looked_at.isoformat(timespec="seconds") if one.history.looked_at else None,
                "error": one.error,
            }
            for one in self._watched.values()
        ]

    def facts(self) -> Iterator[DkimKeyFacts]:
        """The keys with a record that needs an operator."""
        now = self._clock.now()
        for one in self._watched.values():
            since, look = one.history.trouble_since(now), one.history.problem
            if since is not None and look is not None:
                signs = self._signing.get(one.key.domain) is one
                yield DkimKeyFacts(one.key.domain, one.key.selector, look, since, one.history.right_at, signs)

    def stop(self) -> None:
        """Begin no more looks. One that is being made is left to its thread."""
        self._threads.stop()
        if self._look is not None:
            self._look.cancel()

    # ---- parts ----

    async def _wait(self, end: float) -> None:
        while self._look is not None and (left := end - self._clock.monotonic()) > 0:
            await wait_done(self._look, left)
            await asyncio.sleep(0)  # its callbacks may be still to come

    def _begin(self, name: str, watched: _WatchedKey) -> None:
        try:
            self._look = self._threads.do(self._look_at, watched.key)
        except WorkerThreadsError:  # stopped, or the system has no thread left
            watched.due = self._clock.monotonic() + _AGAIN
            return
        self._look.add_done_callback(lambda look: self._looked(name, watched, look))

    def _look_at(self, key: SigningKey) -> KeyLook:
        return look_at_key(Lookups(self._new_client().records), key.name, key.domain, key.public)

    def _looked(self, name: str, watched: _WatchedKey, look: "asyncio.Future[KeyLook]") -> None:
        self._look = None
        if look.cancelled():
            return
        self.changes += 1
        fault = look.exception()
        if fault is not None:
            watched.due, watched.error = self._clock.monotonic() + _AGAIN, str(fault)
            if not isinstance(fault, LookupFailed):
                event(_log, log_events.DOMAIN_LOOK_FAILED, fault=fault, domain=watched.key.domain)
            return
        is_new = watched.history.note(look.result(), self._clock.now())
        seconds = watched.history.interval() * (1 + _SPREAD * (2 * self._clock.chance() - 1))
        watched.due, watched.error = self._clock.monotonic() + seconds, ""
        if self._watched.get(name) is not watched:
            return
        self.changed(name)
        if is_new:
            self._apply()
            event(
                _log,
                log_events.DKIM_STATE_CHANGED,
                domain=watched.key.domain,
                selector=watched.key.selector,
                state=self._state(watched),
                signs=self._signing.get(watched.key.domain) is watched,
            )

    def _apply(self) -> None:
        """Put the keys in force, all in one step."""
        of_domain: dict[str, list[_WatchedKey]] = {}
        for one in self._watched.values():
            of_domain.setdefault(one.key.domain, []).append(one)
        chosen = {domain: choose_key(some) for domain, some in of_domain.items()}
        self._signing = {domain: one for domain, one in chosen.items() if one is not None}
        self.changes += 1
        if not self._signing:
            self._use(None)
            return
        signing = {domain: one.key for domain, one in self._signing.items()}
        self._use(KeyRing(signing, {domain: [one.key for one in some] for domain, some in of_domain.items()}))

    @staticmethod
    def _state(watched: _WatchedKey) -> str:
        history = watched.history
        if history.problem is not None:
            return history.problem.problem.value
        return "right" if history.may_sign else ""

    # ---- learned facts ----

    def fact(self, subject: str, at: Instant) -> Fact | None:
        """See learned.LearnedSource."""
        watched = self._watched.get(subject)
        if watched is None or watched.history.looked_at is None:
            return None
        return {**watched.history.fact(at), "key": _fingerprint(watched.key)}

    def restore(self, subject: str, fact: Fact, written: Instant) -> bool:
        """See learned.LearnedSource. The keys must be known before."""
        watched = self._watched.get(subject)
        if watched is None or fact["key"] != _fingerprint(watched.key):
            return False
        watched.history = OwnKeyHistory.read(fact, written)
        looked_at = watched.history.looked_at
        age = 0.0 if looked_at is None else (self._clock.now() - looked_at).total_seconds()
        watched.due = self._clock.monotonic() + max(0.0, watched.history.interval() - age)
        self._apply()
        return True


def _fingerprint(key: SigningKey) -> str:
    return hashlib.sha256(key.public).hexdigest()[:32]
