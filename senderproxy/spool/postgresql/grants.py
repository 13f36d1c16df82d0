"""Tokens of grants that all instances share: relay.shared_ports.SharedGrants in the database.

Guarantees: a lease stands for REQUEST seconds at least, and as long as the heartbeat of its instance does.
Not here: seals and requests (accounts.shared_refresh_tokens), the condition of a lease (schema/0005_grants.sql).
"""

from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from typing import Final

from senderproxy.relay.shared_ports import GrantRow, SharedGrants
from senderproxy.spool.postgresql.connections import Connections, DatabaseConnection
from senderproxy.spool.postgresql.instance import GRANTS_CHANNEL, Instance
from senderproxy.spool.postgresql.server_time import ServerTime

REQUEST: Final = 30.0  # seconds: 5 until the request is sent, 20 until it has ended, 5 for the machine
_TAKE: Final = "SELECT * FROM take_grant($1, $2, $3, $4, $5)"
_PUT: Final = (
    "UPDATE oauth_grant SET version = version + 1, sealed = $3, written_at = $4,"
    " lease = NULL, instance = NULL, taken_at = NULL WHERE id = $1 AND lease = $2 RETURNING version"
)
_WRITTEN: Final = "SELECT version FROM oauth_grant WHERE id = $1 AND sealed = $2"
_GIVE_BACK: Final = "UPDATE oauth_grant SET lease = NULL, instance = NULL, taken_at = NULL WHERE id = $1 AND lease = $2"
_NOTIFY: Final = f"SELECT pg_notify('{GRANTS_CHANNEL}', $1)"
_READ: Final = "SELECT id, sealed FROM oauth_grant WHERE id = ANY($1::text[]) AND sealed <> ''"
_RESEAL: Final = "UPDATE oauth_grant SET sealed = $3 WHERE id = $1 AND sealed = $2"
_REMOVE: Final = "DELETE FROM oauth_grant WHERE id = ANY($1::text[])"


class DatabaseGrants(SharedGrants):
    """The grants as one instance uses them."""

    def __init__(self, connections: Connections, instance: Instance, time: ServerTime) -> None:
        self._connections = connections
        self._instance = instance
        self._time = time

    def on_change(self, changed: Callable[[str], None]) -> None:
        """See relay.shared_ports.SharedGrants."""

        def noticed(payload: str) -> None:
            sender, grant = payload.split(" ", 1)
            if sender != str(self._instance.number):
                changed(grant)

        self._instance.on_grants = noticed

    async def take(self, grant: str, seen: int) -> GrantRow:
        """See relay.shared_ports.SharedGrants."""
        self._instance.check()
        number = self._instance.number

        async def work(connection: DatabaseConnection) -> GrantRow:
            row = await connection.fetchrow(_TAKE, grant, number, seen, self._time.now(), timedelta(seconds=REQUEST))
            age = (self._time.now() - row["written_at"]) / 1000  # it may have waited for the one who wrote
            return GrantRow(row["version"], bytes(row["sealed"]), age, row["lease"])

        return await self._connections.write(work, _not_written)

    async def put(self, grant: str, lease: int, sealed: bytes) -> int | None:
        """See relay.shared_ports.SharedGrants."""

        async def work(connection: DatabaseConnection) -> int | None:
            now = self._time.now()
            version: int | None = await connection.fetchval(_PUT, grant, lease, sealed, now)
            if version is None:
                version = await connection.fetchval(_WRITTEN, grant, sealed)
            else:
                await connection.execute(_NOTIFY, f"{self._instance.number} {grant}")
            return version

        async def was_committed(connection: DatabaseConnection) -> bool:
            return await connection.fetchval(_WRITTEN, grant, sealed) is not None

        return await self._connections.write(work, was_committed)

    async def give_back(self, grant: str, lease: int) -> None:
        """See relay.shared_ports.SharedGrants."""

        async def work(connection: DatabaseConnection) -> None:
            await connection.execute(_GIVE_BACK, grant, lease)
            await connection.execute(_NOTIFY, f"{self._instance.number} {grant}")

        await self._connections.write(work, _not_written)

    async def read_all(self, grants: Collection[str]) -> Sequence[tuple[str, bytes]]:
        """See relay.shared_ports.SharedGrants."""
        found = await self._connections.read(lambda connection: connection.fetch(_READ, list(grants)))
        return [(row["id"], bytes(row["sealed"])) for row in found]

    async def reseal(self, grant: str, before: bytes, sealed: bytes) -> None:
        """See relay.shared_ports.SharedGrants."""
        await self._connections.write(
            lambda connection: connection.execute(_RESEAL, grant, before, sealed), _not_written
        )

    async def remove(self, grants: Collection[str]) -> None:
        """See relay.shared_ports.SharedGrants."""
        await self._connections.write(lambda connection: connection.execute(_REMOVE, list(grants)), _not_written)


async def _not_written(_connection: DatabaseConnection) -> bool:
    """False after a lost COMMIT: the caller does it again, with the same effect."""
    return False
