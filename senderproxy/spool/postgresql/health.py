"""Health of the database, as far as this instance knows: the reason why the spool takes no messages now.

Guarantees: the report asks nothing and never raises.
Not here: the heartbeat (spool.postgresql.instance), transactions (spool.postgresql.connections).
"""

from senderproxy.relay.ports import SpoolError
from senderproxy.spool.postgresql.connections import Connections
from senderproxy.spool.postgresql.instance import Instance


class DatabaseHealth:
    """The last error of a transaction, and the state of the heartbeat."""

    def __init__(self, connections: Connections, instance: Instance) -> None:
        self._connections = connections
        self._instance = instance

    def is_disturbed(self) -> bool:
        """True if the last transaction failed, or the leases have ended."""
        return self.trouble() is not None

    def trouble(self) -> SpoolError | None:
        """The reason why a new message would be refused; None if none is known."""
        try:
            self._instance.check()
        except SpoolError as error:
            return error
        return self._connections.problem
