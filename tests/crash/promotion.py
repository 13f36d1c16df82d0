"""A standby of the database that is promoted in mid-load, after the primary has died with its disk.

The instances reach the database through haproxy, configured as docs/cluster.md says. Nothing acknowledged is lost,
because each commit has waited for the standby.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from tests.crash.members import Cluster, cluster
from tests.crash.traffic import CLIENTS, Reckoning
from tests.peers.haproxy import Haproxy, running_database_proxy
from tests.peers.postgresql import DATABASE, OWNER, SERVICE, PostgresqlServer, running_postgresql, running_standby
from tests.peers.process import LOOPBACK, reserved_ports

_CHECKER: Final = "haproxy"  # the role of health checks (docs/cluster.md)
_ACCESS: Final = f"host postgres {_CHECKER} 127.0.0.1/32 trust\nhost all {OWNER} 127.0.0.1/32 trust\n"


class Promotion:
    """Instances, their database, and its synchronous standby."""

    def __init__(self, it: Cluster, primary: PostgresqlServer, standby: PostgresqlServer, haproxy: Haproxy) -> None:
        self.cluster = it
        self._primary = primary
        self._standby = standby
        self._haproxy = haproxy

    async def rage(self, before: int, after: int) -> Reckoning:
        """Kill the primary when so many messages are acknowledged, promote the standby, wait for so many more."""
        it = self.cluster
        assert it.members[0].status()["queue"]["durability"] == "standby"
        it.traffic.start(it.doors, each=CLIENTS - 1)
        try:
            await it.traffic.until_acknowledged(before)
            await asyncio.to_thread(self._primary.kill)
            await asyncio.to_thread(self._standby.promote)
            await asyncio.to_thread(self._haproxy.wait_for, "db2", "UP L7OK")
            await it.traffic.until_more_acknowledged(after)
        finally:
            await it.traffic.stop()
        reckoning = await it.settle("the primary died before it was written down")
        assert self._standby.sql("SELECT count(*) FROM senderproxy.history", DATABASE) != "0"
        assert it.members[0].status()["queue"]["durability"] == "server"
        return reckoning


@asynccontextmanager
async def promotion(seed: int) -> AsyncIterator[Promotion]:
    """Three instances behind haproxy, a primary and its standby."""
    with (
        running_postgresql("fsync=on", more_access=_ACCESS) as primary,
        running_standby(primary) as standby,
        reserved_ports(1) as [port],
    ):
        await asyncio.to_thread(primary.sql, f"CREATE ROLE {_CHECKER} LOGIN")
        servers = {"db1": primary.port, "db2": standby.port}
        with running_database_proxy(port, servers) as haproxy:
            await asyncio.to_thread(haproxy.wait_for, "db1", "UP L7OK")
            password = standby.socket_folder / "password"
            password.touch(mode=0o600)
            password.write_text("geheim\n", encoding="ascii")
            engine = f"postgresql://{SERVICE}@{LOOPBACK}:{port}/{DATABASE}"
            async with cluster(
                seed, primary, engine=engine, more_spool_settings=f'engine_password = "file:{password}"'
            ) as it:
                yield Promotion(it, primary, standby, haproxy)
