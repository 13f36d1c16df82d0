"""One call that fails, at seeded points: nothing acknowledged is lost, and the service goes on or is started again.

Forty points in the test command, more in `make storm`.
"""

import asyncio
import os
import random
import resource
from collections import Counter
from itertools import product
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

LARGE = 300_000  # lines of a message of 3 MB, which needs threads for the disk

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
        await office.wait_empty()
        await asyncio.to_thread(office.service.terminate)  # that of a thread may be due until clients need one more
        await asyncio.to_thread(office.service.start)
        await office.submit_politely(1)
        await office.check()

    offices.run(scenario)


def test_one_allocation_that_fails_loses_no_acknowledged_message(offices: OfficeRunner) -> None:
    """It may end the process, and then the service is started again. SIGTERM ends it at each point."""

    async def scenario(office: HostileOffice) -> None:
        rng = random.Random(SEED)
        replies: Counter[int] = Counter()
        ends: Counter[int] = Counter()
        for _ in range(MEMORY_POINTS):
            office.faults.fail_once(OneFailure.MEMORY, rng.randrange(1, _ALLOCATIONS))
            for mode in ("pass-through", "queue"):
                replies[await office.submit_once(mode)] += 1
            if is_alive(office):
                for mode in ("pass-through", "queue"):
                    replies[await office.submit_once(mode)] += 1
            ends[await asyncio.to_thread(office.service.terminate)] += 1  # by itself, or by SIGTERM
            office.faults.clear_failures()
            await asyncio.to_thread(office.service.start)
            for mode in ("pass-through", "queue"):
                assert await office.submit_once(mode) == 250
        print(f"replies {dict(replies)}, exit codes {dict(ends)}")
        await office.submit_politely(1)
        await office.check(may_double=True)

    offices.run(scenario)


def use_of_data(office: HostileOffice) -> int:
    """Octets of memory that count for RLIMIT_DATA. getrlimit(2), proc(5)."""
    status = Path(f"/proc/{office.service.pid}/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmData:"))


def limit_data(office: HostileOffice, more: int) -> None:
    """From now on, the service gets so many more octets from the system, and no others."""
    resource.prlimit(office.service.pid, resource.RLIMIT_DATA, (use_of_data(office) + more, resource.RLIM_INFINITY))


def test_a_limit_of_memory_that_is_stepped_down_loses_no_acknowledged_message(offices: OfficeRunner) -> None:
    """A large message needs threads, whose stacks count; the last limit leaves nothing but what the process has."""

    async def scenario(office: HostileOffice) -> None:
        await asyncio.to_thread(office.service.restart)
        replies: Counter[int] = Counter()
        ends: Counter[int] = Counter()
        for more in (2**26, 2**24, 2**20, 0):
            limit_data(office, more)
            for mode, lines in product(("pass-through", "queue"), (1, LARGE, 1)):
                replies[await office.submit_once(mode, lines)] += 1
            ends[await asyncio.to_thread(office.service.terminate)] += 1  # by itself, or by SIGTERM
            await asyncio.to_thread(office.service.start)
        print(f"replies {dict(replies)}, exit codes {dict(ends)}")
        assert set(replies) > {250}, "nothing failed"
        assert replies[250] >= 6
        await office.submit_politely(1)
        await office.check(may_double=True)

    offices.run(scenario)
