"""Limit of failed logins. PURE.

Guarantees: after FAILURES for a name, or FAILURES_OF_ALL for all names together, within PERIOD, no further password is
tried until the first of them is older. Memory is bounded, whatever names are tried. A link needs no password, so an
attacker locks nobody out for good.
Not here: the passwords (web.passwords), the links (web.store).
"""

from collections import OrderedDict, deque
from collections.abc import Collection, Mapping
from typing import Any, Final, Self

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

    @classmethod
    def of_entries(cls, entries: Mapping[str, Any], now: float) -> Self:
        """The failures that `entries` of an ended process has returned. A time after `now`: of an earlier boot."""
        limits = cls()
        for name, times in list(entries.get("names", {}).items())[:NAMES_LIMIT]:
            recent = [float(time) for time in times if time <= now]
            limits._of_name[str(name)[:_NAME]] = deque(recent, maxlen=FAILURES)
        limits._of_all.extend(float(time) for time in entries.get("all", ()) if time <= now)
        return limits

    def entries(self, known: Collection[str]) -> dict[str, Any]:
        """The failures, for the process that comes next. Names that are not `known` may be passwords: left out."""
        names = {name: list(times) for name, times in self._of_name.items() if name in known}
        return {"all": list(self._of_all), "names": names}

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
