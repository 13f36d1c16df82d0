"""Counts of the smarthost since the last reset.

Guarantees: a delivery is one message to one recipient. The same delivery twice is doubled; a message on another login
than its author's is on the wrong login; one without its last line is damaged.
"""

import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class Ledger:
    """Counts, and the time of the first and last delivery (CLOCK_MONOTONIC, the same in all processes here)."""

    connections: int = 0
    open_now: int = 0
    most_open: int = 0
    handshakes: int = 0
    resumed: int = 0
    logins: int = 0
    failed_logins: int = 0
    transactions: int = 0
    flights: int = 0
    wrong_sender: int = 0
    wrong_login: int = 0
    doubled: int = 0
    damaged: int = 0
    strangers: int = 0
    impatient: int = 0
    octets: int = 0
    first_at: float = 0.0
    last_at: float = 0.0
    seen: set[tuple[bytes, bytes]] = field(default_factory=set)

    @property
    def deliveries(self) -> int:
        """Number of different deliveries."""
        return len(self.seen)

    def opened(self) -> None:
        """Count a connection."""
        self.connections += 1
        self.open_now += 1
        self.most_open = max(self.most_open, self.open_now)

    def take(self, name: bytes, author: int, login: int, recipients: list[bytes], *, whole: bool) -> None:
        """Count a transaction that was ended by its final dot."""
        self.last_at = time.monotonic()
        self.first_at = self.first_at or self.last_at
        self.transactions += 1
        self.wrong_login += author != login
        self.damaged += not whole
        for recipient in recipients:
            delivery = (name, recipient)
            if delivery in self.seen:
                self.doubled += 1
            self.seen.add(delivery)

    def counts(self) -> dict[str, int | float]:
        """Return everything as one flat object, with the CPU seconds of this process."""
        names = [name for name in self.__slots__ if name != "seen"]
        used = time.process_time()
        return {**{name: getattr(self, name) for name in names}, "deliveries": self.deliveries, "cpu": used}

    def fresh(self) -> "Ledger":
        """Return an empty ledger with the same open connections."""
        return Ledger(open_now=self.open_now, most_open=self.open_now)
