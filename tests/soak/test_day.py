"""A short day of an office: the ledger is exact, and nothing is left of its connections. The long one is `make soak`."""

import asyncio

import pytest

from tests.peers import probe
from tests.soak.day import GARBAGE, office_day

pytestmark = pytest.mark.slow

MESSAGES = 250  # of each round, at least; beside them 200 connections that carry none
_LEAK = (
    4 * 2**20
)  # octets; the caches, not yet full, need less, and the connections of one round had 10 MB of TLS objects


@pytest.mark.skipif(not probe.has_mallinfo(), reason="only glibc 2.33 and newer counts memory in use")
def test_every_acknowledged_message_is_accounted_for_and_nothing_is_left_of_a_round() -> None:
    async def day() -> None:
        async with office_day(seed=12) as office:
            before, after = [await office.round(MESSAGES) for _ in range(2)]
            print(before, after, sep="\n")
            print(office.ledger)
            assert not office.ledger.problems()
            assert after.figures.in_use - before.figures.in_use < _LEAK
            assert after.figures.garbage < GARBAGE
            assert after.figures.descriptors <= before.figures.descriptors
            assert after.figures.tasks <= before.figures.tasks

    asyncio.run(day())
