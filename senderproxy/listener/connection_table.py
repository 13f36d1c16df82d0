"""Table of the admitted connections of one listener, with the limits on their number.

Guarantees: never more connections than the limits allow. Where a limit is reached, the connection that is longest
outside a transaction makes room for a new one, that of an unknown client first; one in a transaction never does.
Unknown clients never have the reserved places, and one client never more than its own.
Not here: who is known (listener.client_auth), the last reply to an evicted client (listener.relay_smtp).
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from senderproxy.listener.client_auth import Admission
from senderproxy.mail.reply import Reply
from senderproxy.wire import replies


class Evictable(Protocol):
    """A connection, as the table needs it."""

    @property
    def in_transaction(self) -> bool:
        """True from an accepted MAIL until the reply to its message."""
        ...


_Connection = TypeVar("_Connection", bound=Evictable)


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits on the number of connections."""

    total: int
    per_client: int
    reserved: int  # of the total, for known clients


class ConnectionTable(Generic[_Connection]):
    """The connections, in the order of their eviction. `on_evict` is called for each one that has to make room."""

    def __init__(self, limits: ConnectionLimits, on_evict: Callable[[_Connection, Admission], None]) -> None:
        self._limits = limits
        self._on_evict = on_evict
        # In the order of the end of their last transaction, or of their start: the one longest outside is the first.
        self._connections: dict[_Connection, Admission] = {}
        self._of_client: Counter[str] = Counter()
        self._unknown = 0

    def __len__(self) -> int:
        return len(self._connections)

    def all(self) -> list[_Connection]:
        """All connections."""
        return list(self._connections)

    def add(self, connection: _Connection, admission: Admission) -> Reply | None:
        """Add a connection, and make room for it if necessary; the reply where there is no room."""
        if (refusal := self._make_room(admission)) is not None:
            return refusal
        self._connections[connection] = admission
        self._of_client[admission.client] += 1
        self._unknown += not admission.known
        return None

    def remove(self, connection: _Connection) -> None:
        """Forget a connection; without effect for one that is not in the table."""
        admission = self._connections.pop(connection, None)
        if admission is None:
            return
        self._unknown -= not admission.known
        self._of_client[admission.client] -= 1
        if self._of_client[admission.client] <= 0:
            del self._of_client[admission.client]

    def transaction_ended(self, connection: _Connection) -> None:
        """Note the end of a message: the connection is the last to make room now."""
        admission = self._connections.pop(connection, None)
        if admission is not None:
            self._connections[connection] = admission

    def mark_known(self, connection: _Connection) -> None:
        """Note a login: the connection counts as one of a known client from now on."""
        admission = self._connections.get(connection)
        if admission is not None and not admission.known:
            self._connections[connection] = replace(admission, known=True)
            self._unknown -= 1

    def _make_room(self, new: Admission) -> Reply | None:
        limits = self._limits
        if self._of_client[new.client] >= limits.per_client and not self._evict(
            lambda other: other.client == new.client
        ):
            return replies.too_many_connections_from(new.client)
        without_place = not new.known and self._unknown >= limits.total - limits.reserved
        if without_place and not self._evict(lambda other: not other.known):
            return replies.TOO_MANY_CONNECTIONS
        if len(self) < limits.total or self._evict(lambda other: not other.known) or self._evict(lambda _: True):
            return None
        return replies.TOO_MANY_CONNECTIONS

    def _evict(self, among: Callable[[Admission], bool]) -> bool:
        """Evict the first connection among these that is outside a transaction; False where there is none."""
        for connection, admission in self._connections.items():
            if among(admission) and not connection.in_transaction:
                self.remove(connection)
                self._on_evict(connection, admission)
                return True
        return False
