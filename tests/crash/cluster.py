"""Storms over three instances that share one database: kills of instances and of the database, with clocks that are an
hour off; cuts in the network; a standby that is promoted; an upgrade of one instance after the other.

    python -m tests.crash.cluster 20

Guarantees: all clients use both modes. Each storm prints what was acknowledged, lost, and doubled with its reason. The exit
code is 1 if anything was lost, left waiting, or doubled without a reason, or if a client was refused in the upgrade.
"""

import asyncio
import random
import subprocess
import sys
import time
from typing import Final

from tests.crash.kills import kills
from tests.crash.networks import in_own_network, why_no_networks
from tests.crash.promotion import promotion
from tests.crash.traffic import Reckoning
from tests.crash.upgrade import upgrade
from tests.peers.packages import PROJECT

_CUTS_WITHIN: Final = 1800  # seconds; six minutes on an idle machine


def main(count: int, seed: int) -> bool:
    """All storms; True if everything was kept. `count`: of kills, in each of two storms."""
    kept = True
    for name, storm in (
        (f"{count} kills of instances and database", _kills(count, seed, hours_off=False)),
        (f"{count} kills with clocks that are an hour off", _kills(count, seed, hours_off=True)),
        ("a promoted standby", _promotion(seed)),
        ("a rolling upgrade", _upgrade(seed)),
    ):
        print(f"== {name}", flush=True)
        started = time.monotonic()
        reckoning = asyncio.run(storm)
        print(f"{reckoning}; {time.monotonic() - started:.0f} s", flush=True)
        for what in (*reckoning.lost, *reckoning.unexplained):
            print(what)
        kept = kept and reckoning.is_kept
        if name == "a rolling upgrade":
            print(f"{len(reckoning.refused)} refused {reckoning.refused[:5]}", flush=True)
            kept = kept and not reckoning.refused
    return _cuts(seed) and kept


async def _kills(count: int, seed: int, *, hours_off: bool) -> Reckoning:
    async with kills(seed, hours_off=hours_off) as it:
        return await it.rage(count)


async def _promotion(seed: int) -> Reckoning:
    async with promotion(seed) as it:
        return await it.rage(before=100, after=100)


async def _upgrade(seed: int) -> Reckoning:
    async with upgrade(seed) as it:
        return await it.rage()


def _cuts(seed: int) -> bool:
    """Cuts of instances from database, provider and both, in a network of their own."""
    print("== cuts in the network", flush=True)
    if why_not := why_no_networks():
        print(f"SKIPPED: {why_not}")
        return True
    command = in_own_network("tests.crash.cuts", "0,1,2,3,4,5", str(seed))
    return subprocess.run(command, cwd=PROJECT, timeout=_CUTS_WITHIN, check=False).returncode == 0


if __name__ == "__main__":
    chosen = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    number = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1_000_000)
    print(f"seed {number}", flush=True)
    sys.exit(not main(chosen, number))
