"""Both ways of a message, the straight path and the general one, do the same.

Generated conversations, with faults of the provider at every stage, clients that leave, stops, limits, patience and
reloads in the middle, in memory and in virtual time: octets to the provider, replies to the clients, log events, stored
events and states are equal, ids aside. `make differential` runs all cases.
"""

import os

import pytest

from tests.senderproxy.straight.office import Observed, observe
from tests.senderproxy.straight.virtual_loop import run_virtually

CASES = int(os.environ.get("DIFFERENTIAL_CASES", "150"))
GROUP = 25
FIRST = int(os.environ.get("DIFFERENTIAL_FIRST", "0"))


def compare(seed: int) -> Observed | None:
    """Run one case both ways. None: two inputs came at the same time, so that the order of their effects is open."""
    straight = run_virtually(observe(seed, straight=True))
    general = run_virtually(observe(seed, straight=False))
    if straight.ties or general.ties:
        return None
    for part in ("upstream", "replies", "events", "stored", "states"):
        assert getattr(straight, part) == getattr(general, part), f"case {seed}: {part}"
    return straight


@pytest.mark.parametrize("group", range(FIRST, FIRST + CASES, GROUP))
def test_both_ways_do_the_same(group: int) -> None:
    taken = finished = compared = 0
    for seed in range(group, group + GROUP):
        if (observed := compare(seed)) is not None:
            compared += 1
            taken += observed.taken
            finished += observed.finished
    assert compared >= GROUP / 2
    assert taken >= GROUP / 5, "the straight path takes many of the messages"
    assert finished >= taken / 3, "and ends most of them itself"
