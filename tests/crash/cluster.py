"""A storm over several instances that share one database: any of them is killed, and so is the database.

Guarantees: as tests.crash.storm. A message that came twice has a reason: its first reply was lost, or no instance had
written down that it was delivered.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from senderproxy.simulator.provider_replies import SEND_LIMIT, UNKNOWN_USER
from senderproxy.simulator.rules import SimulatedMailbox
from senderproxy.simulator.server import Simulator
from senderproxy.simulator.settings import SimulatorSettings
from tests.crash.storm import (
    ACKNOWLEDGED_PER_KILL,
    BUSY,
    CLIENTS,
    NOBODY,
    PEOPLE,
    SECRET,
    Reckoning,
    Storm,
    Weather,
)
from tests.peers.postgresql import OWNER, SERVICE, PostgresqlServer, running_postgresql
from tests.peers.process import LOOPBACK, reserved_ports
from tests.peers.senderproxy import Senderproxy, VaultAccount

DATABASE: Final = "mail"
_TAKEN_OVER_WITHIN: Final = 120.0  # seconds; fifteen on an idle machine


class Member(Senderproxy):
    """One instance. The first one makes the tables."""

    makes_tables = False

    def _import_accounts(self) -> None:
        super()._import_accounts()
        if self.makes_tables:
            self.command("spool", "migrate", "--owner", OWNER, "--no-password")


class ClusterStorm(Storm):
    """Several instances, each with two listeners, their clients, their provider and their database."""

    def __init__(
        self,
        simulator: Simulator,
        weather: Weather,
        members: Sequence[Senderproxy],
        queue_ports: Sequence[int],
        database: PostgresqlServer,
        rng: random.Random,
    ) -> None:
        super().__init__(simulator, weather, members[0], queue_ports[0], rng)
        self._members = members
        self._database = database
        self._all_ports = [*(member.port for member in members), *queue_ports]

    async def rage(self, kills: int) -> Reckoning:
        """Kill one after another while everybody submits, and once the database; then let what waits go out."""
        clients = [asyncio.create_task(self._submit(port)) for port in self._all_ports for _ in range(CLIENTS - 1)]
        try:
            for killed in range(kills):
                await self._until_acknowledged(ACKNOWLEDGED_PER_KILL * (killed + 1))
                await asyncio.sleep(self._rng.uniform(0.02, 0.5))  # the moment is the test's subject: any will do
                if killed % 4 == 3:
                    await asyncio.to_thread(self._database.kill)
                    await asyncio.to_thread(self._database.start)
                    continue
                victim = self._members[killed % len(self._members)]
                await asyncio.to_thread(victim.kill)
                await asyncio.to_thread(victim.start)
        finally:
            self._over.set()
            await asyncio.gather(*clients)
        self._weather.is_fair = True
        for member in self._members:
            await asyncio.to_thread(member.resume_accounts)
        await asyncio.wait_for(self._drain(), _TAKEN_OVER_WITHIN)
        await self._count(kills)
        return self.reckoning

    def _process_of(self, copy: tuple[int, int]) -> int:
        """Sessions of several instances cannot be told apart: what is written down decides."""
        return copy[0]


@asynccontextmanager
async def cluster_storm(seed: int, members: int = 3) -> AsyncIterator[ClusterStorm]:
    """Everything a storm over instances needs, gone afterwards."""
    rng = random.Random(seed)
    weather = Weather(rng)
    settings = SimulatorSettings(
        mailboxes={person: SimulatedMailbox(SECRET) for person in PEOPLE},
        recipient_replies={NOBODY: UNKNOWN_USER, BUSY: SEND_LIMIT},
    )
    async with Simulator(settings, weather) as simulator, AsyncExitStack() as things:
        database = things.enter_context(running_postgresql())
        database.sql(f"CREATE DATABASE {DATABASE} OWNER {OWNER}")
        ports = things.enter_context(reserved_ports(members))
        services: list[Senderproxy] = []
        for port in ports:
            section = f"""
host = "127.0.0.1"
port = {simulator.port_tls}
security = "tls"
ca_file = "{simulator.ca_file}"
sender_rule = "domain"
messages_per_hour = 0
recipients_per_hour = 0

[[listeners]]
name = "devices"
address = "{LOOPBACK}:{port}"
mode = "queue"

[spool]
engine = "postgresql://{SERVICE}@:{database.port}/{DATABASE}?host={database.socket_folder}"
first_retry_seconds = 1
longest_retry_seconds = 2
"""
            service = Member([VaultAccount(person, SECRET) for person in PEOPLE], section)
            service.makes_tables = not services
            await asyncio.to_thread(service.__enter__)
            things.push_async_callback(asyncio.to_thread, service.__exit__, None, None, None)
            services.append(service)
        yield ClusterStorm(simulator, weather, services, ports, database, rng)


def main(kills: int, seed: int) -> Reckoning:
    """The full run, from the command line: python -m tests.crash.cluster 20."""

    async def run() -> Reckoning:
        async with cluster_storm(seed) as it:
            return await it.rage(kills)

    started = time.monotonic()
    reckoning = asyncio.run(run())
    print(f"{reckoning}; {time.monotonic() - started:.0f} s")
    for what in (*reckoning.lost, *reckoning.unexplained):
        print(what)
    return reckoning


if __name__ == "__main__":
    import sys

    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1_000_000)
    print(f"seed {seed}")
    result = main(kills, seed)
    sys.exit(bool(result.lost or result.unexplained or result.left_waiting or result.left_held))
