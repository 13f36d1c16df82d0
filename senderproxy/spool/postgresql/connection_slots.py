"""Connections of accounts in all instances: relay.shared_ports.ConnectionSlots in the database.

Guarantees: the rows of an instance end with its leases (spool.postgresql.instance).
Not here: the sums (schema/0007_servers.sql), the sessions (delivery.shared_connections).
"""

from typing import Final

from senderproxy.relay.shared_ports import ConnectionSlots, ReachedLimit, SlotNotices, SlotReport, SlotRequest
from senderproxy.spool.postgresql.connections import Connections, DatabaseConnection
from senderproxy.spool.postgresql.instance import Instance

_TAKE: Final = "SELECT take_connection($1, $2, $3, $4, $5, $6, $7, $8)"
_SET: Final = "SELECT set_connections($1, $2, $3, $4, $5, $6)"
_REFUSED: Final = "SELECT refuse_connection($1, $2, $3, $4, $5)"


class DatabaseConnectionSlots(ConnectionSlots):
    """The rows of one instance."""

    def __init__(self, connections: Connections, instance: Instance) -> None:
        self._connections = connections
        self._instance = instance

    def on_notice(self, notices: SlotNotices) -> None:
        """See relay.shared_ports.ConnectionSlots."""
        functions = {
            "wanted": notices.wanted,
            "freed": notices.freed,
            "wanted-at": notices.wanted_at,
            "freed-at": notices.freed_at,
        }

        def noticed(payload: str) -> None:
            sender, what, subject = payload.split(" ", 2)
            if sender != str(self._instance.number) and what in functions:
                functions[what](subject)

        self._instance.on_connections, self._instance.on_renumbered = noticed, notices.renewed

    async def take(self, request: SlotRequest) -> ReachedLimit | None:
        """See relay.shared_ports.ConnectionSlots."""
        self._instance.check()
        values = (
            request.account,
            self._instance.number,
            request.sessions,
            request.limit,
            request.is_urgent,
            request.server,
            request.server_limit,
            request.is_first,
        )

        async def work(connection: DatabaseConnection) -> ReachedLimit | None:
            reached = await connection.fetchval(_TAKE, *values)
            return None if reached is None else ReachedLimit(reached)

        return await self._connections.write(work, _unknown)

    async def report(self, report: SlotReport) -> None:
        """See relay.shared_ports.ConnectionSlots."""
        self._instance.check()
        values = (
            report.account,
            self._instance.number,
            report.sessions,
            report.server,
            report.for_account,
            report.for_server,
        )
        await self._connections.write(lambda connection: connection.execute(_SET, *values), _unknown)

    async def refused(self, report: SlotReport, *, is_first: bool) -> int:
        """See relay.shared_ports.ConnectionSlots."""
        self._instance.check()
        values = report.account, self._instance.number, report.sessions, report.server, is_first

        async def work(connection: DatabaseConnection) -> int:
            return int(await connection.fetchval(_REFUSED, *values))

        return await self._connections.write(work, _unknown)


async def _unknown(_connection: DatabaseConnection) -> bool:
    """False after a lost COMMIT: the caller has the number of its sessions, and writes it again."""
    return False
