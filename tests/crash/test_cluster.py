"""Three instances over one database, each killed once in mid-load: nothing acknowledged is lost."""

import random

import pytest

from tests.crash.kills import kills
from tests.peers.packages import POSTGRESQL
from tests.peers.process import why_not_here

reason = why_not_here(POSTGRESQL / "postgres")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]

KILLS = 3  # the full run, with the database, cuts and an upgrade: python -m tests.crash.cluster


async def test_nothing_acknowledged_is_lost_when_each_of_three_instances_is_killed() -> None:
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    async with kills(seed) as it:
        reckoning = await it.rage(KILLS)
    print(reckoning)
    assert reckoning.lost == []
    assert reckoning.unexplained == []
    assert (reckoning.left_waiting, reckoning.left_held) == (0, 0)
    assert sum(reckoning.faults.values()) > KILLS / 2
