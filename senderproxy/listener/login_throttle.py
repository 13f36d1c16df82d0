"""How often a login may fail: the brake on guessing passwords.

PURE: the time comes in as an argument. Guarantees: a host or a user name with too many refused logins is locked until
the oldest of them is out of the window; a name is treated alike whether it exists or not; memory is bounded.
Not here: whether a password is right (listener.client_auth), the limit per connection (wire.dialogue).
"""

from collections import deque
from dataclasses import dataclass
from typing import Final, TypeAlias

_KEPT: Final = 10_000  # hosts and names; more than any office has, less than an attack could fill memory with
_NAME: Final = 64  # characters of a user name that tell it from another

_Key: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True)
class ThrottleLimits:
    """How much patience there is."""

    failures: int = 5
    window: float = 300.0  # seconds
    first_delay: float = 0.5  # seconds before the answer to the first refused login; doubles with each
    longest_delay: float = 4.0


class LoginThrottle:
    """Counts refused logins per host and per user name."""

    def __init__(self, rules: ThrottleLimits) -> None:
        self._rules = rules
        self._refused: dict[_Key, deque[float]] = {}

    def locked_for(self, host: str, user: str, now: float) -> float:
        """Seconds until this host may try this name again; 0 where it may now."""
        return max(self._locked_for(key, now) for key in _keys(host, user))

    def refused(self, host: str, user: str, now: float) -> float:
        """Note a refused login; give back how long its answer should be held back."""
        counts = []
        for key in _keys(host, user):
            times = self._refused.setdefault(key, deque(maxlen=self._rules.failures))
            times.append(now)
            counts.append(len(times))
        if len(self._refused) > _KEPT:
            self._tidy(now)
        return min(self._rules.first_delay * 2.0 ** (max(counts) - 1), self._rules.longest_delay)

    def succeeded(self, user: str) -> None:
        """The owner of the name has shown up: its failures are forgotten; those of the host are not."""
        self._refused.pop(_keys("", user)[1], None)

    def _locked_for(self, key: _Key, now: float) -> float:
        times = self._refused.get(key)
        if times is None:
            return 0.0
        while times and times[0] <= now - self._rules.window:
            times.popleft()
        if not times:
            del self._refused[key]
            return 0.0
        return times[0] + self._rules.window - now if len(times) >= self._rules.failures else 0.0

    def _tidy(self, now: float) -> None:
        """Forget what is over; if that is not enough, the older half."""
        for key in list(self._refused):
            self._locked_for(key, now)
        if len(self._refused) > _KEPT:
            for key in list(self._refused)[: _KEPT // 2]:
                del self._refused[key]


def _keys(host: str, user: str) -> tuple[_Key, _Key]:
    return ("host", host), ("user", user[:_NAME])
