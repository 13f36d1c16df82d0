"""Limit on failed logins of clients, against password guessing. PURE.

Guarantees: a host or a user name with too many failed logins is locked until the oldest of them is out of the window; a
name is treated alike whether it exists or not; memory is bounded. A host that has logged in lately is trusted: failed
logins of others never lock it, and its own lock only the name at this host. Times are arguments, in seconds of one
clock. Locks and trust outlive a restart; names and hosts are stored as keyed digests, because a person may have typed
the password as the name.
Not here: the check of a password (listener.client_auth), the limit per connection (wire.dialogue), the table that
outlives a restart (relay.learned_state).
"""

import hashlib
from collections import deque
from dataclasses import dataclass
from typing import Final

from senderproxy.learned import Fact, Instant, LearnedSource, Notify, clamp, duration, ignore_change

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


class LoginThrottle(LearnedSource):
    """Counter of failed logins by host and by user name; of a trusted host, by both together.

    `key` makes the digests; with the same one after a restart, stored locks are found again. `changed` is called with
    the subject of a fact that has changed.
    """

    def __init__(self, limits: ThrottleLimits, key: bytes = b"") -> None:
        self.changed: Notify = ignore_change
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
            counts.append(len(times))
            self.changed(f"{_FAILURES}{key}")
        if len(self._failures) > _MAX_ENTRIES:
            self._forget_old(now)
        return min(self._limits.first_delay * 2.0 ** (max(counts) - 1), self._limits.longest_delay)

    def succeeded(self, host: str, user: str, now: float) -> None:
        """Trust the host, and forget the failures of the name: at this host where it was trusted before, else of all.

        The failures of an attacker elsewhere are not forgotten with each login of a trusted host.
        """
        source = self._digest("host", host)
        forgotten = self._at_host(host, user) if self._trusts(source, now) else self._digest("user", user)
        if forgotten in self._failures:
            self._forget(forgotten)
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
        times = self._failures.get(subject.removeprefix(_FAILURES), ())
        ages = [round(at.monotonic - time, 1) for time in times if at.monotonic - time < self._limits.window]
        return {"ages": ages} if ages else None

    def restore(self, subject: str, fact: Fact, written: Instant) -> bool:
        """See learned.LearnedSource."""
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
        if times is None:
            return 0.0
        while times and times[0] <= now - self._limits.window:
            times.popleft()
        if not times:
            self._forget(key)
            return 0.0
        return times[0] + self._limits.window - now if len(times) >= self._limits.failures else 0.0

    def _forget_old(self, now: float) -> None:
        """Forget entries outside the window; if that is not enough, the older half."""
        for key in list(self._failures):
            self._locked_for(key, now)
        if len(self._failures) > _MAX_ENTRIES:
            for key in list(self._failures)[: _MAX_ENTRIES // 2]:
                self._forget(key)

    def _forget(self, key: str) -> None:
        del self._failures[key]
        self.changed(f"{_FAILURES}{key}")
