"""Instances over one database: each is killed once in mid-load, or the database is, and its standby takes over."""

import random

import pytest

from tests.crash.kills import kills
from tests.crash.promotion import promotion
from tests.peers.packages import HAPROXY, POSTGRESQL
from tests.peers.process import why_not_here

reason = why_not_here(POSTGRESQL / "postgres", HAPROXY)
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


async def test_nothing_acknowledged_is_lost_when_a_standby_is_promoted() -> None:
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    async with promotion(seed, members=1) as it:  # the full run, with three: python -m tests.crash.cluster
        reckoning = await it.rage(before=30, after=10)
    print(reckoning)
    assert reckoning.lost == []
    assert reckoning.unexplained == []
    assert (reckoning.left_waiting, reckoning.left_held) == (0, 0)
    assert any("database" in words for words in reckoning.refused)  # it was away
