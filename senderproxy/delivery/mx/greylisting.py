"""Waits after a deferral by greylisting, learned for each domain.

A server that greylists takes a message at the first attempt after its delay, which is five minutes in most of them: the
usual waits (1, 2 and 4 minutes) would come back too early twice, and then too late. PURE: the time is an argument.
Guarantees: the wait is the server's own where it names one, else what the domain took the last time, else five minutes;
memory is bounded. Not here: the recognition of such a deferral (replies), the other waits (senderproxy.retry).
RFC 6647.
"""

from datetime import timedelta
from typing import Final

DEFAULT: Final = timedelta(minutes=5)  # postgrey, rspamd, milter-greylist, Exim's usual recipe
SHORTEST: Final = timedelta(minutes=1)  # as the first of the usual waits
LONGEST: Final = timedelta(minutes=15)  # above it the usual waits are as good
DOMAINS: Final = 500  # with a learned delay; about 200 octets each
PENDING: Final = 2000  # deferred pairs of reverse-path and recipient


class Greylisting:
    """What is known about the delays of domains."""

    def __init__(self) -> None:
        self._learned: dict[str, timedelta] = {}  # the domain learned last is the last one
        self._pending: dict[tuple[str, str], float] = {}  # the first deferral, monotonic seconds

    def deferred(self, domain: str, pair: tuple[str, str], asked: timedelta | None, now: float) -> timedelta:
        """The wait after a deferral of this pair. `asked`: the wait that the server names."""
        since = self._pending.setdefault(pair, now)
        learned = self._learned.get(domain)
        if learned is not None and now - since >= learned.total_seconds():
            del self._learned[domain]  # it takes longer than that
            learned = None
        if len(self._pending) > PENDING:
            del self._pending[next(iter(self._pending))]
        return min(max(asked or learned or DEFAULT, SHORTEST), LONGEST)

    def accepted(self, domain: str, pair: tuple[str, str], now: float) -> None:
        """The message of this pair was accepted."""
        since = self._pending.pop(pair, None)
        if since is None:
            return
        took = min(max(timedelta(seconds=now - since), SHORTEST), LONGEST)
        self._learned[domain] = min(took, self._learned.pop(domain, took))
        if len(self._learned) > DOMAINS:
            del self._learned[next(iter(self._learned))]
