"""Limit on failed logins of clients, against password guessing. PURE.

Guarantees: a host or a user name with too many failed logins is locked until the oldest of them is out of the window; a
name is treated alike whether it exists or not; memory is bounded. A host that has logged in lately is trusted: failed
logins of others never lock it, and its own lock only the name at this host. Times are arguments, in seconds of one
clock. Locks and trust outlive a restart; names and hosts are stored as keyed digests, because a person may have typed
the password as the name. Where several instances serve the clients, the failures of all count; the others know them
within a second or two.
Not here: the check of a password (listener.client_auth), the limit per connection (wire.dialogue), the table that
outlives a restart (relay.learned_state).
"""

import hashlib
from collections import deque
from dataclasses import dataclass
from typing import Final

from senderproxy.learned import Fact, Instant, Notify, SharedLearnedSource, clamp, duration, ignore_change
from senderproxy.relay.counts_of_others import CountsOfOthers

LEARNED_KIND: Final = "client-login"  # of the facts about failures and trust
_MAX_ENTRIES: Final = 10_000  # hosts and names; more than any office has, and a bound on memory under attack
_TRUST_WRITTEN: Final = 3600.0  # seconds between writings of the trust in a host that logs in for each page it scans
_FAILURES: Final = "failures "  # subjects of facts: one of these, and a digest
_TRUST: Final = "trust "
_DIGEST: Final = 16  # octets; two names never have the same digest


@dataclass(frozen=True, slots=True)
class ThrottleLimits:
    """Limits on failed logins."""

    failures: int = 5  # within the window; a person who mistypes a password needs fewer
    window: float = 300.0  # seconds: at most one guess a minute, and a short wait for a locked user
    first_delay: float = 0.5  # seconds before the reply to the first failed login; doubles with each
    longest_delay: float = 4.0  # seconds: shorter than a client's timeout for a reply
    trust: float = 30 * 86_400.0  # seconds from a successful login in which its host is trusted: a holiday


class LoginThrottle(SharedLearnedSource):
    """Counter of failed logins by host and by user name; of a trusted host, by both together.

    `key` makes the digests; with the same one after a restart, stored locks are found again. `changed` is called with
    the subject of a fact that has changed. `others`: the failures at other instances; None: there is none.
    """

    def __init__(self, limits: ThrottleLimits, key: bytes = b"", others: CountsOfOthers | None = None) -> None:
        self.changed: Notify = ignore_change
        self._others = others
        self._cleared: dict[str, float] = {}  # when the failures of all instances were forgotten, by digest
        self._limits = limits
        self._key = key
        self._failures: dict[str, deque[float]] = {}  # by digest
        self._trusted: dict[str, float] = {}  # the last login of each host, by digest; the oldest first

    def locked_for(self, host: str, user: str, now: float) -> float:
        """Seconds until this host may try this name again; 0 where it may now."""
        return max(self._locked_for(key, now) for key in self._keys(host, user, now))

    def failed(self, host: str, user: str, now: float) -> float:
        """Record a failed login; the seconds by which its reply should be delayed."""
        counts = []
        for key in self._keys(host, user, now):
            times = self._failures.setdefault(key, deque(maxlen=self._limits.failures))
            times.append(now)
            of_all = times if self._others is None else self._of_all(key, now)
            counts.append(min(len(of_all), self._limits.failures))
            self._note(key)
        if len(self._failures) > _MAX_ENTRIES:
            self._forget_old(now)
        return min(self._limits.first_delay * 2.0 ** (max(counts) - 1), self._limits.longest_delay)

    def succeeded(self, host: str, user: str, now: float) -> None:
        """Trust the host, and forget the failures of the name: at this host where it was trusted before, else of all.

        The failures of an attacker elsewhere are not forgotten with each login of a trusted host.
        """
        source = self._digest("host", host)
        forgotten = self._at_host(host, user) if self._trusts(source, now) else self._digest("user", user)
        if forgotten in self._failures or self._of_all(forgotten, now):
            self._clear(forgotten, now)
        last = self._trusted.pop(source, None)
        self._trusted[source] = now
        if last is None or now // _TRUST_WRITTEN != last // _TRUST_WRITTEN:
            self.changed(f"{_TRUST}{source}")
        if len(self._trusted) > _MAX_ENTRIES:
            oldest = next(iter(self._trusted))
            del self._trusted[oldest]
            self.changed(f"{_TRUST}{oldest}")

    # ---- beyond a restart ----

    def fact(self, subject: str, at: Instant) -> Fact | None:
        """See learned.LearnedSource. Ages in seconds."""
        if subject.startswith(_TRUST):
            last = self._trusted.get(subject.removeprefix(_TRUST))
            return None if last is None else {"age": round(at.monotonic - last)}
        key, instance = self._parts(subject)
        if instance != self._own:
            return None  # of another one, and out of date
        times = self._failures.get(key, ())
        ages = [round(at.monotonic - time, 1) for time in times if at.monotonic - time < self._limits.window]
        fact: dict[str, object] = {"ages": ages} if ages else {}
        cleared = self._cleared.get(key)
        if cleared is not None and at.monotonic - cleared < self._limits.window:
            fact["cleared"] = round(at.monotonic - cleared, 1)
        return fact or None

    def restore(self, subject: str, fact: Fact, written: Instant) -> bool:
        """See learned.LearnedSource."""
        if self._others is not None and not subject.startswith(_TRUST):
            return self._take_over(*self._parts(subject), fact, written)
        if max(len(self._failures), len(self._trusted)) >= _MAX_ENTRIES:
            return False
        if subject.startswith(_TRUST):
            age = duration(fact, "age", self._limits.trust)
            if age + written.elapsed >= self._limits.trust:
                return False
            self._trusted[subject.removeprefix(_TRUST)] = written.monotonic - age
            return True
        ages = [clamp(age, self._limits.window) for age in fact["ages"]]
        times = sorted(written.monotonic - age for age in ages if age + written.elapsed < self._limits.window)
        if not times:
            return False
        self._failures[subject.removeprefix(_FAILURES)] = deque(times, maxlen=self._limits.failures)
        return True

    # ---- several instances ----

    def follow(self, subject: str, fact: Fact, written: Instant) -> None:
        """See learned.SharedLearnedSource."""
        if not subject.startswith(_TRUST):
            self._take_over(*self._parts(subject), fact, written)
            return
        source, last = subject.removeprefix(_TRUST), written.monotonic - duration(fact, "age", self._limits.trust)
        if last > self._trusted.pop(source, last - 1):
            self._trusted[source] = last

    def gone(self, subject: str) -> None:
        """See learned.SharedLearnedSource."""
        if self._others is not None and not subject.startswith(_TRUST):
            self._others.replace(*self._parts(subject), ())

    def _take_over(self, key: str, instance: str, fact: Fact, written: Instant) -> bool:
        """Replace what is known of one other instance; False if all of it is too old."""
        if self._others is None or instance == self._own:
            return True
        window = self._limits.window
        if "cleared" in fact:
            self._forget_until(key, written.monotonic - duration(fact, "cleared", window))
        ages = [clamp(age, window) for age in fact.get("ages", ())][-self._limits.failures :]
        times = [written.monotonic - age for age in ages if age + written.elapsed < window]
        self._others.replace(key, instance, times)
        return bool(times) or fact.get("cleared", window) + written.elapsed < window

    def _forget_until(self, key: str, cleared: float) -> None:
        """A login of this name at another instance has succeeded."""
        if self._others is not None:
            self._others.forget_until(key, cleared)
        own = self._failures.get(key)
        if own is not None and own[0] <= cleared:
            self._failures[key] = deque((time for time in own if time > cleared), maxlen=self._limits.failures)
            if not self._failures[key]:
                del self._failures[key]
            self._note(key)

    def _clear(self, key: str, now: float) -> None:
        """Forget the failures of a name, at the other instances too."""
        self._failures.pop(key, None)
        if self._others is not None:
            self._others.forget_until(key, now)
            self._cleared.pop(key, None)
            self._cleared[key] = now
            while len(self._cleared) > _MAX_ENTRIES:
                del self._cleared[next(iter(self._cleared))]
        self._note(key)

    @property
    def _own(self) -> str:
        return "" if self._others is None else self._others.own

    def _parts(self, subject: str) -> tuple[str, str]:
        """The digest, and the instance whose failures they are; empty without others."""
        key, _blank, instance = subject.removeprefix(_FAILURES).partition(" ")
        return key, instance

    def _note(self, key: str) -> None:
        self.changed(f"{_FAILURES}{key} {self._own}".rstrip())

    def _of_all(self, key: str, now: float) -> list[float]:
        """The failures in the window, at all instances."""
        own = [time for time in self._failures.get(key, ()) if time > now - self._limits.window]
        return own if self._others is None else [*own, *self._others.since(key, now - self._limits.window)]

    # ---- parts ----

    def _keys(self, host: str, user: str, now: float) -> tuple[str, ...]:
        """The entries against which a failed login counts."""
        source = self._digest("host", host)
        if self._trusts(source, now):
            return (self._at_host(host, user),)
        return source, self._digest("user", user)

    def _at_host(self, host: str, user: str) -> str:
        return self._digest("user at host", host, user)

    def _digest(self, *parts: str) -> str:
        text = "\0".join(parts).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, key=self._key, digest_size=_DIGEST).hexdigest()

    def _trusts(self, source: str, now: float) -> bool:
        last = self._trusted.get(source)
        return last is not None and now - last < self._limits.trust

    def _locked_for(self, key: str, now: float) -> float:
        times = self._failures.get(key)
        if times is not None:
            while times and times[0] <= now - self._limits.window:
                times.popleft()
            if not times:
                self._forget(key)
        elif self._others is None:
            return 0.0
        of_all = self._of_all(key, now)
        if len(of_all) < self._limits.failures:
            return 0.0
        return sorted(of_all)[-self._limits.failures] + self._limits.window - now

    def _forget_old(self, now: float) -> None:
        """Forget entries outside the window; if that is not enough, the older half."""
        for key in list(self._failures):
            self._locked_for(key, now)
        if len(self._failures) > _MAX_ENTRIES:
            for key in list(self._failures)[: _MAX_ENTRIES // 2]:
                self._forget(key)

    def _forget(self, key: str) -> None:
        del self._failures[key]
        self._note(key)
