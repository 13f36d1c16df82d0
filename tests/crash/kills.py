"""Kills of instances and of their database in mid-load."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from tests.crash.members import Cluster, Place, build_other_clock, cluster, other_clock
from tests.crash.traffic import ACKNOWLEDGED_PER_KILL, CLIENTS, Reckoning
from tests.peers.postgresql import PostgresqlServer, running_postgresql
from tests.peers.process import private_folder

HOUR: Final = 3590  # seconds; certificates of the tests are valid from an hour ago on


class Kills:
    """A storm over several instances and their database."""

    def __init__(self, it: Cluster, database: PostgresqlServer) -> None:
        self.cluster = it
        self._database = database

    async def rage(self, kills: int) -> Reckoning:
        """Kill one after another while everybody submits, each fourth time the database; then let what waits go out."""
        it = self.cluster
        it.traffic.start(it.doors, each=CLIENTS - 1)
        try:
            for killed in range(kills):
                await it.traffic.until_acknowledged(ACKNOWLEDGED_PER_KILL * (killed + 1))
                await asyncio.sleep(it.rng.uniform(0.02, 0.5))  # the moment is the test's subject: any will do
                if killed % 4 == 3:
                    await asyncio.to_thread(self._database.kill)
                    await asyncio.to_thread(self._database.start)
                    continue
                victim = it.members[killed % len(it.members)]
                await asyncio.to_thread(victim.kill)
                await asyncio.to_thread(victim.start)
            await it.traffic.until_faults(kills // 2)
        finally:
            await it.traffic.stop()
        return await it.settle("killed before it was written down")


@asynccontextmanager
async def kills(seed: int, *, hours_off: bool = False) -> AsyncIterator[Kills]:
    """Three instances; with `hours_off`, the first is an hour fast and the second an hour slow."""
    with private_folder("clock") as folder, running_postgresql() as database:
        places = [Place(), Place(), Place()]
        if hours_off:
            library = build_other_clock(folder)
            places = [Place(environment=other_clock(library, seconds)) for seconds in (HOUR, -HOUR, 0)]
        async with cluster(seed, database, places=places) as it:
            yield Kills(it, database)
