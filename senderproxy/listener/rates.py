"""Rates of clients: the connections, messages and recipients of each within a minute. PURE.

Guarantees: a client at a limit is refused until its minute is over, and then has its full rates again; memory is
bounded. A client's minute begins with the first thing counted. Times are arguments, in seconds of one clock.
Not here: the clients that have no limits (listener.client_auth), the replies (wire.replies).
"""

from dataclasses import dataclass
from typing import Final

MINUTE: Final = 60.0  # seconds; the limits in the configuration are for one minute
_MAX_CLIENTS: Final = 10_000  # at once; more than any office has, and a bound on memory under attack


@dataclass(frozen=True, slots=True)
class RateLimits:
    """The most of each that one client may have within a minute."""

    connections: int
    messages: int
    recipients: int


@dataclass(slots=True)
class _Minute:
    begin: float
    connections: int = 0
    messages: int = 0
    recipients: int = 0


class ClientRates:
    """Counters of all clients. A client is named by its group (client_auth.Admission)."""

    def __init__(self, limits: RateLimits) -> None:
        self.limits = limits
        self._minutes: dict[str, _Minute] = {}  # the one that began first is the first

    def __len__(self) -> int:
        """The number of clients in memory."""
        return len(self._minutes)

    def connection(self, client: str, now: float) -> bool:
        """Count a connection; False where the client has had its limit."""
        minute = self._minute(client, now)
        minute.connections += 1
        return minute.connections <= self.limits.connections

    def message(self, client: str, now: float) -> bool:
        """Count a message; False where the client has had its limit."""
        minute = self._minute(client, now)
        minute.messages += 1
        return minute.messages <= self.limits.messages

    def recipient(self, client: str, now: float) -> bool:
        """Count a recipient; False where the client has had its limit."""
        minute = self._minute(client, now)
        minute.recipients += 1
        return minute.recipients <= self.limits.recipients

    def _minute(self, client: str, now: float) -> _Minute:
        minute = self._minutes.get(client)
        if minute is not None:
            if now - minute.begin < MINUTE:
                return minute
            del self._minutes[client]
        elif len(self._minutes) >= _MAX_CLIENTS:
            del self._minutes[next(iter(self._minutes))]
        minute = self._minutes[client] = _Minute(now)
        return minute
