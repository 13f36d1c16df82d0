"""G1, G3 and G4 with a real process and kill -9: nothing acknowledged is lost, and what is doubled has a reason."""

import os
import random

import pytest

from tests.crash.storm import storm
from tests.crash.traffic import ACKNOWLEDGED_PER_KILL

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("SENDERPROXY_KILLS", "12"))  # the full run: make storm


async def test_g1_g3_g4_nothing_acknowledged_is_lost_however_often_the_service_is_killed() -> None:
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    async with storm(seed) as it:
        reckoning = await it.rage(KILLS)
    print(reckoning)
    assert reckoning.lost == []
    assert reckoning.unexplained == []
    assert (reckoning.left_waiting, reckoning.left_held) == (0, 0)
    # It was a storm: messages of both kinds went through, some were reported, and the provider did fail.
    assert len(reckoning.acknowledged) > ACKNOWLEDGED_PER_KILL * KILLS
    assert reckoning.reported
    assert sum(reckoning.faults.values()) > KILLS / 2
