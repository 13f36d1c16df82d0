"""Limit on failed logins of clients, against password guessing. PURE.

Guarantees: a host or a user name with too many failed logins is locked until the oldest of them is out of the window; a
name is treated alike whether it exists or not; memory is bounded. Times are arguments, in seconds of one clock.
Not here: the check of a password (listener.client_auth), the limit per connection (wire.dialogue).
"""

from collections import deque
from dataclasses import dataclass
from typing import Final, TypeAlias

_MAX_ENTRIES: Final = 10_000  # hosts and names; more than any office has, and a bound on memory under attack
_NAME_LIMIT: Final = 64  # characters of a user name that count; the rest of a longer one only costs memory

_Key: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True)
class ThrottleLimits:
    """Limits on failed logins."""

    failures: int = 5  # within the window; a person who mistypes a password needs fewer
    window: float = 300.0  # seconds: at most one guess a minute, and a short wait for a locked user
    first_delay: float = 0.5  # seconds before the reply to the first failed login; doubles with each
    longest_delay: float = 4.0  # seconds: shorter than a client's timeout for a reply


class LoginThrottle:
    """Counter of failed logins by host and by user name."""

    def __init__(self, limits: ThrottleLimits) -> None:
        self._limits = limits
        self._failures: dict[_Key, deque[float]] = {}

    def locked_for(self, host: str, user: str, now: float) -> float:
        """Seconds until this host may try this name again; 0 where it may now."""
        return max(self._locked_for(key, now) for key in _keys(host, user))

    def failed(self, host: str, user: str, now: float) -> float:
        """Record a failed login; the seconds by which its reply should be delayed."""
        counts = []
        for key in _keys(host, user):
            times = self._failures.setdefault(key, deque(maxlen=self._limits.failures))
            times.append(now)
            counts.append(len(times))
        if len(self._failures) > _MAX_ENTRIES:
            self._forget_old(now)
        return min(self._limits.first_delay * 2.0 ** (max(counts) - 1), self._limits.longest_delay)

    def succeeded(self, user: str) -> None:
        """Forget the failures of a name after a successful login; those of the host stay."""
        self._failures.pop(_keys("", user)[1], None)

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


def _keys(host: str, user: str) -> tuple[_Key, _Key]:
    return ("host", host), ("user", user[:_NAME_LIMIT])
