"""A storm: one service that is killed again and again in mid-load.

Guarantees: as tests.crash.traffic. A message that came twice has a reason: its first reply was lost, or the process that
sent it was killed before it could write down that it was delivered.
"""

import asyncio
import random
import time
from bisect import bisect_left
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from senderproxy.simulator.server import Simulator
from tests.crash.traffic import (
    ACCOUNTS,
    ACKNOWLEDGED_PER_KILL,
    SETTINGS,
    Copy,
    Reckoning,
    Traffic,
    Weather,
    provider_section,
    until_nothing_waits,
)
from tests.peers.process import LOOPBACK, reserved_ports
from tests.peers.senderproxy import Senderproxy


class Storm:
    """One service with two doors, its clients and its provider."""

    def __init__(
        self, simulator: Simulator, weather: Weather, service: Senderproxy, queue_port: int, rng: random.Random
    ) -> None:
        self._simulator = simulator
        self._weather = weather
        self._service = service
        self._doors = ((LOOPBACK, service.port), (LOOPBACK, queue_port))
        self._rng = rng
        self._traffic = Traffic(simulator, weather, rng)
        self._sessions_before: list[int] = []  # for each kill: how many sessions the processes until then had opened

    async def rage(self, kills: int) -> Reckoning:
        """Kill it so often while everybody submits; then let what waits go out, and count."""
        self._traffic.start(self._doors)
        try:
            for killed in range(kills):
                await self._traffic.until_acknowledged(ACKNOWLEDGED_PER_KILL * (killed + 1))
                await asyncio.sleep(self._rng.uniform(0.02, 0.5))  # the moment is the test's subject: any will do
                await asyncio.to_thread(self._service.kill)
                self._sessions_before.append(self._simulator.connections)
                await asyncio.to_thread(self._service.start)
            await self._traffic.until_faults(kills // 2)
        finally:
            await self._traffic.stop()
        self._weather.is_fair = True
        await asyncio.to_thread(self._service.restart)  # pauses that a 421 earned are not kept over a restart
        await until_nothing_waits(self._service, self._traffic.reckoning)
        return await self._traffic.count(
            self._service.folder, reason="killed before it was written down", is_one_process=self._is_one_process
        )

    def _is_one_process(self, earlier: Copy, later: Copy) -> bool:
        return self._kills_before(earlier) == self._kills_before(later)

    def _kills_before(self, copy: Copy) -> int:
        return bisect_left(self._sessions_before, copy[0])


@asynccontextmanager
async def storm(seed: int, *, straight_path: bool = True) -> AsyncIterator[Storm]:
    """Everything a storm needs, gone afterwards. `straight_path`: usual messages take it."""
    rng = random.Random(seed)
    weather = Weather(rng)
    async with Simulator(SETTINGS, weather) as simulator:
        with reserved_ports(1) as [queue_port]:
            section = f"""{provider_section(simulator)}
[[listeners]]
name = "devices"
address = "{LOOPBACK}:{queue_port}"
mode = "queue"

[spool]
first_retry_seconds = 1
longest_retry_seconds = 2
min_free = "1 MB"

[delivery]
straight_path = {str(straight_path).lower()}
"""
            service = Senderproxy(ACCOUNTS, section)
            await asyncio.to_thread(service.__enter__)
            try:
                yield Storm(simulator, weather, service, queue_port, rng)
            finally:
                await asyncio.to_thread(service.__exit__, None, None, None)


def main(kills: int, seed: int, *, straight_path: bool) -> Reckoning:
    """A full run, from the command line: python -m tests.crash.storm 100."""

    async def run() -> Reckoning:
        async with storm(seed, straight_path=straight_path) as it:
            return await it.rage(kills)

    started = time.monotonic()
    reckoning = asyncio.run(run())
    way = "on" if straight_path else "off"
    print(f"straight path {way}: {kills} kills, {reckoning}; {time.monotonic() - started:.0f} s")
    for what in (*reckoning.lost, *reckoning.unexplained):
        print(what)
    return reckoning


if __name__ == "__main__":
    import sys

    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1_000_000)
    print(f"seed {seed}")
    kept = [main(kills, seed, straight_path=way).is_kept for way in (True, False)]
    sys.exit(not all(kept))
