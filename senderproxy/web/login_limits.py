"""Limit of failed logins. PURE.

Guarantees: after FAILURES for a name, or FAILURES_OF_ALL for all names together, within PERIOD, no further password is
tried until the first of them is older. Memory is bounded, whatever names are tried. A link needs no password, so an
attacker locks nobody out for good.
Not here: the passwords (web.passwords), the links (web.store).
"""

from collections import OrderedDict, deque
from typing import Final

FAILURES: Final = 5  # of one name
FAILURES_OF_ALL: Final = 30  # of all names: 180 guesses an hour
PERIOD: Final = 600.0  # seconds
NAMES_LIMIT: Final = 200  # names whose failures are known; the total counts beyond them
_NAME: Final = 64  # characters of a name


class LoginLimits:
    """The failures of the last ten minutes."""

    def __init__(self) -> None:
        self._of_name: OrderedDict[str, deque[float]] = OrderedDict()
        self._of_all: deque[float] = deque(maxlen=FAILURES_OF_ALL)

    def wait(self, name: str, now: float) -> float:
        """The seconds until a password may be tried; 0: at once. `now`: monotonic."""
        mine = self._of_name.get(name[:_NAME], ())
        waits = [0.0]
        for failures, limit in ((mine, FAILURES), (self._of_all, FAILURES_OF_ALL)):
            recent = [time for time in failures if now - time < PERIOD]
            if len(recent) >= limit:
                waits.append(PERIOD - (now - recent[-limit]))
        return max(waits)

    def add_failure(self, name: str, now: float) -> None:
        """Count a password that does not match."""
        key = name[:_NAME]
        self._of_name.setdefault(key, deque(maxlen=FAILURES)).append(now)
        self._of_name.move_to_end(key)
        while len(self._of_name) > NAMES_LIMIT:
            self._of_name.popitem(last=False)
        self._of_all.append(now)

    def is_empty(self, now: float) -> bool:
        """True if no failure is younger than the period: the process may forget all of them, and end."""
        return not self._of_all or now - self._of_all[-1] >= PERIOD
