"""Limits of an upstream that its replies revealed: sessions, messages on one session, recipients. PURE.

Guarantees: an observed limit only narrows the configured one. It grows by one an hour: the upstream may have been busy
for a short time only, and a limit that is still in force costs one refusal an hour.
Not here: recognition of the replies (delivery.causes), the clock.
"""

from dataclasses import dataclass, field, replace
from typing import Final

from senderproxy.delivery.reuse import PoolLimits
from senderproxy.learned import Fact, Instant, count, duration

GROWTH_INTERVAL: Final = 3600.0  # seconds; an observed limit grows by one in this time
_KEPT: Final = 30 * 86_400.0  # seconds; by then it has grown by 720


@dataclass(slots=True)
class ObservedLimit:
    """One limit, or none."""

    limit: int | None = None
    at: float = 0.0  # monotonic clock

    def record(self, limit: int, now: float) -> None:
        """Record a limit. A higher one does not replace a lower one that is still in force."""
        narrowed = self.narrow(limit, now)
        self.limit, self.at = max(1, limit if narrowed is None else narrowed), now

    def narrow(self, configured: int | None, now: float) -> int | None:
        """Return the lower of the configured and the observed limit; None if there is neither."""
        if self.limit is None:
            return configured
        grown = self.limit + int(max(0.0, now - self.at) // GROWTH_INTERVAL)
        if configured is not None and grown >= configured:
            return configured
        return grown

    def fact(self, at: Instant) -> Fact | None:
        """Return the limit in values for JSON; None if none is in force."""
        age = at.monotonic - self.at
        return None if self.limit is None or age >= _KEPT else {"limit": self.limit, "age": age}

    def restore(self, fact: Fact | None, written: Instant) -> None:
        """Take a limit that was written at that moment. Raises KeyError, TypeError or ValueError if it is none."""
        if fact is not None:
            self.limit, self.at = count(fact, "limit"), written.monotonic - duration(fact, "age", _KEPT)

    def follow(self, fact: Fact | None, written: Instant) -> None:
        """Take a limit that another instance wrote at that moment, unless the one here is newer or lower.

        Raises KeyError, TypeError or ValueError if it is none.
        """
        seen = ObservedLimit()
        seen.restore(fact, written)
        if seen.limit is None or (self.limit is not None and self.at >= seen.at):
            return
        if self.narrow(seen.limit, seen.at) == seen.limit:
            self.limit, self.at = seen.limit, seen.at


@dataclass(slots=True)
class ObservedLimits:
    """The observed limits of one account."""

    connections: ObservedLimit = field(default_factory=ObservedLimit)
    messages_per_connection: ObservedLimit = field(default_factory=ObservedLimit)

    def narrow(self, configured: PoolLimits, now: float) -> PoolLimits:
        """Return the limits in force."""
        if self.connections.limit is None and self.messages_per_connection.limit is None:
            return configured
        return replace(
            configured,
            connections=max(1, self.connections.narrow(configured.connections, now) or 1),
            messages_per_connection=self.messages_per_connection.narrow(configured.messages_per_connection, now),
        )

    def fact(self, at: Instant) -> Fact | None:
        """Return the limits in force in values for JSON; None if there is none."""
        facts = {
            "connections": self.connections.fact(at),
            "messages_per_connection": self.messages_per_connection.fact(at),
        }
        return {name: fact for name, fact in facts.items() if fact is not None} or None

    def restore(self, fact: Fact, written: Instant) -> None:
        """Take the limits that were written at that moment. Raises KeyError, TypeError or ValueError."""
        self.connections.restore(fact.get("connections"), written)
        self.messages_per_connection.restore(fact.get("messages_per_connection"), written)

    def follow(self, fact: Fact, written: Instant) -> None:
        """Take the limits that another instance wrote at that moment. Raises KeyError, TypeError or ValueError.

        Not that of connections: what was left for the other one depends on those of this one.
        """
        self.messages_per_connection.follow(fact.get("messages_per_connection"), written)
