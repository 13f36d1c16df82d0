"""Leases of this instance, as far as it remembers them.

Guarantees: a lease that ended is not remembered. The rows decide: a lease in memory may have been ended by another
instance (spool.postgresql.instance).
Not here: the rows (spool.postgresql.claims).
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class RowLease:
    """The facts of a leased message, or of its recipients in one lane, that are needed until it is settled."""

    lease: int  # its number
    instance: int  # that took it: this one, perhaps under an earlier number
    number: int  # of the message
    lane: str  # text form; empty: all lanes of the message
    received_at: int  # milliseconds since 1970
    id: str = ""


@dataclass(slots=True)
class InstanceLeases:
    """The leases by their id."""

    on_return: Callable[[str], None] = lambda _: None  # called with the lane of a lease that is given back; empty: any
    _by_id: dict[str, RowLease] = field(default_factory=dict)

    def take(self, message: RowLease) -> None:
        """Remember a lease."""
        self._by_id[str(message.lease)] = message

    def find(self, lease: str) -> RowLease | None:
        """The message of a lease; None if the lease has ended."""
        return self._by_id.get(lease)

    def shift(self, step: int) -> None:
        """Move the times of the leased messages by `step` milliseconds."""
        for lease, message in self._by_id.items():
            self._by_id[lease] = replace(message, received_at=message.received_at + step)

    def end(self, lease: str) -> None:
        """Forget a lease."""
        self._by_id.pop(lease, None)
