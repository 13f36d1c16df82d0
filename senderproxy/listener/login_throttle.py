"""Limit on failed logins of clients, against password guessing. PURE.

Guarantees: a host or a user name with too many failed logins is locked until the oldest of them is out of the window; a
name is treated alike whether it exists or not; memory is bounded. A host that has logged in lately is trusted: failed
logins of others never lock it, and its own lock only the name at this host. Times are arguments, in seconds of one
clock.
Not here: the check of a password (listener.client_auth), the limit per connection (wire.dialogue).
"""

from collections import deque
from dataclasses import dataclass
from typing import Final, TypeAlias

_MAX_ENTRIES: Final = 10_000  # hosts and names; more than any office has, and a bound on memory under attack
_NAME_LIMIT: Final = 64  # characters of a user name that count; the rest of a longer one only costs memory

_Key: TypeAlias = tuple[str, str, str]  # kind, host, user name


@dataclass(frozen=True, slots=True)
class ThrottleLimits:
    """Limits on failed logins."""

    failures: int = 5  # within the window; a person who mistypes a password needs fewer
    window: float = 300.0  # seconds: at most one guess a minute, and a short wait for a locked user
    first_delay: float = 0.5  # seconds before the reply to the first failed login; doubles with each
    longest_delay: float = 4.0  # seconds: shorter than a client's timeout for a reply
    trust: float = 30 * 86_400.0  # seconds from a successful login in which its host is trusted: a holiday


class LoginThrottle:
    """Counter of failed logins by host and by user name; of a trusted host, by both together."""

    def __init__(self, limits: ThrottleLimits) -> None:
        self._limits = limits
        self._failures: dict[_Key, deque[float]] = {}
        self._trusted: dict[str, float] = {}  # the last login of each host, the oldest first

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
        if len(self._failures) > _MAX_ENTRIES:
            self._forget_old(now)
        return min(self._limits.first_delay * 2.0 ** (max(counts) - 1), self._limits.longest_delay)

    def succeeded(self, host: str, user: str, now: float) -> None:
        """Trust the host, and forget the failures of the name: at this host where it was trusted before, else of all.

        The failures of an attacker elsewhere are not forgotten with each login of a trusted host.
        """
        self._failures.pop(_at_host(host, user) if self._trusts(host, now) else _by_name(user), None)
        self._trusted.pop(host, None)
        self._trusted[host] = now
        if len(self._trusted) > _MAX_ENTRIES:
            del self._trusted[next(iter(self._trusted))]

    def _keys(self, host: str, user: str, now: float) -> tuple[_Key, ...]:
        """The entries against which a failed login counts."""
        if self._trusts(host, now):
            return (_at_host(host, user),)
        return ("host", host, ""), _by_name(user)

    def _trusts(self, host: str, now: float) -> bool:
        last = self._trusted.get(host)
        return last is not None and now - last < self._limits.trust

    def _locked_for(self, key: _Key, now: float) -> float:
        times = self._failures.get(key)
        if times is None:
            return 0.0
        while times and times[0] <= now - self._limits.window:
            times.popleft()
        if not times:
            del self._failures[key]
            return 0.0
        return times[0] + self._limits.window - now if len(times) >= self._limits.failures else 0.0

    def _forget_old(self, now: float) -> None:
        """Forget entries outside the window; if that is not enough, the older half."""
        for key in list(self._failures):
            self._locked_for(key, now)
        if len(self._failures) > _MAX_ENTRIES:
            for key in list(self._failures)[: _MAX_ENTRIES // 2]:
                del self._failures[key]


def _by_name(user: str) -> _Key:
    return "user", "", user[:_NAME_LIMIT]


def _at_host(host: str, user: str) -> _Key:
    return "user at host", host, user[:_NAME_LIMIT]
