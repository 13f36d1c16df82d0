"""One call that fails, at seeded points: nothing acknowledged is lost, and the service goes on or is started again.

Forty points in the test command, more in `make storm`.
"""

import asyncio
import os
import random
from collections import Counter
from pathlib import Path

import pytest

from tests.hostile.conftest import OfficeRunner
from tests.hostile.faulty_calls import OneFailure
from tests.hostile.office import HostileOffice
from tests.peers.process import PeerFailed

pytestmark = pytest.mark.slow

POINTS = int(os.environ.get("POINTS", "40"))
MEMORY_POINTS = POINTS // 5
SEED = 12
_ALLOCATIONS = 8000  # about as many as two messages need

# The highest N for the N-th call: about as many as two messages need, and a start.
_LAST = {OneFailure.WRITE: 30, OneFailure.SOCKET: 6, OneFailure.OPEN: 6, OneFailure.THREAD: 12}


def start_again(office: HostileOffice) -> bool:
    """A power cut and a start in which a thread may fail to start. True if the start failed, and one more did not."""
    office.service.kill()
    try:
        office.service.start()
    except PeerFailed:
        office.service.kill()
        office.faults.clear_failures()
        office.service.start()
        return True
    return False


def is_alive(office: HostileOffice) -> bool:
    return Path(f"/proc/{office.service.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_one_call_that_fails_loses_no_acknowledged_message(offices: OfficeRunner) -> None:
    async def scenario(office: HostileOffice) -> None:
        rng = random.Random(SEED)
        replies: Counter[int] = Counter()
        failed_starts = 0
        for point in range(POINTS - MEMORY_POINTS):
            call = list(_LAST)[point % len(_LAST)]
            office.faults.fail_once(call, rng.randrange(1, _LAST[call] + 1))
            if call is OneFailure.THREAD:
                await office.wait_empty()  # a message in progress at a power cut may arrive twice
                failed_starts += await asyncio.to_thread(start_again, office)
            for mode in ("pass-through", "queue"):
                replies[await office.submit_once(mode)] += 1
            assert is_alive(office)
        office.faults.clear_failures()
        print(f"replies {dict(replies)}, {failed_starts} failed starts")
        assert set(replies) > {250}, "nothing failed"
        assert replies[250] > POINTS - MEMORY_POINTS
        for _ in range(40):  # failures that are still due are used up
            await office.submit_once("queue")
            await office.submit_once("pass-through")
        await office.submit_politely(1)
        await office.check()

    offices.run(scenario)


def test_one_allocation_that_fails_loses_no_acknowledged_message(offices: OfficeRunner) -> None:
    """It may end the process, and then the service is started again."""

    async def scenario(office: HostileOffice) -> None:
        rng = random.Random(SEED)
        replies: Counter[int] = Counter()
        deaths = 0
        for _ in range(MEMORY_POINTS):
            office.faults.fail_once(OneFailure.MEMORY, rng.randrange(1, _ALLOCATIONS))
            for mode in ("pass-through", "queue"):
                replies[await office.submit_once(mode)] += 1
            if not is_alive(office):
                deaths += 1
                await asyncio.to_thread(start_again, office)
            else:
                for mode in ("pass-through", "queue"):
                    replies[await office.submit_once(mode)] += 1
        print(f"replies {dict(replies)}, {deaths} ends of the process")
        assert replies[250] > MEMORY_POINTS
        # Where an allocation failed at a place from which the process cannot recover, a restart does.
        office.faults.clear_failures()
        await asyncio.to_thread(start_again, office)
        await office.submit_politely(1)
        await office.check(may_double=True)

    offices.run(scenario)
