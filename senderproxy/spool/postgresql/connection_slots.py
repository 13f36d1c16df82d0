"""Connections of accounts in all instances: relay.shared_ports.ConnectionSlots in the database.

Guarantees: the rows of an instance end with its leases (spool.postgresql.instance).
Not here: the sums (schema/0004_connections.sql), the sessions (delivery.shared_connections).
"""

from collections.abc import Callable
from typing import Final

from senderproxy.relay.shared_ports import ConnectionSlots
from senderproxy.spool.postgresql.connections import Connections, DatabaseConnection
from senderproxy.spool.postgresql.instance import Instance

_TAKE: Final = "SELECT take_connection($1, $2, $3, $4, $5)"
_SET: Final = "SELECT set_connections($1, $2, $3, $4)"


class DatabaseConnectionSlots(ConnectionSlots):
    """The rows of one instance."""

    def __init__(self, connections: Connections, instance: Instance) -> None:
        self._connections = connections
        self._instance = instance
        self._wanted: Callable[[str], None] = lambda _account: None
        self._freed: Callable[[str], None] = lambda _account: None

    def on_notice(
        self, wanted: Callable[[str], None], freed: Callable[[str], None], renewed: Callable[[], None]
    ) -> None:
        """See relay.shared_ports.ConnectionSlots."""
        self._wanted, self._freed = wanted, freed
        self._instance.on_connections, self._instance.on_renumbered = self._noticed, renewed

    async def take(self, account: str, wanted: int, limit: int, *, is_urgent: bool) -> bool:
        """See relay.shared_ports.ConnectionSlots."""
        self._instance.check()
        number = self._instance.number

        async def work(connection: DatabaseConnection) -> bool:
            return bool(await connection.fetchval(_TAKE, account, number, wanted, limit, is_urgent))

        return await self._connections.write(work, _unknown)

    async def report(self, account: str, open_now: int, *, is_answer: bool) -> None:
        """See relay.shared_ports.ConnectionSlots."""
        self._instance.check()
        number = self._instance.number
        await self._connections.write(
            lambda connection: connection.execute(_SET, account, number, open_now, is_answer), _unknown
        )

    def _noticed(self, payload: str) -> None:
        sender, what, account = payload.split(" ", 2)
        if sender != str(self._instance.number):
            (self._wanted if what == "wanted" else self._freed)(account)


async def _unknown(_connection: DatabaseConnection) -> bool:
    """False after a lost COMMIT: the caller has the number of its sessions, and writes it again."""
    return False
