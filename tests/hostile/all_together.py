"""Ten polite clients beside all hostile elements at once, for three rounds.

Asserted is what the program does, and not how busy the machine or how slow its disk is: replies, CPU time, commits and
memory. A limit is exceeded if it is in each round: CPU time contains what the kernel computes for other processes, and
the first rounds fill caches. `make hostile` prints the times.
"""

from contextlib import AsyncExitStack

import pytest

from tests.hostile.conftest import OfficeRunner
from tests.hostile.elements import ELEMENTS
from tests.hostile.office import HostileOffice
from tests.peers import probe

pytestmark = pytest.mark.slow

_PASS = 0.1  # seconds of CPU time of one pass of the event loop; longer ones are logged as blocks
_REPLY = (
    1.0  # seconds of CPU time of the event loop until a reply in pass-through; a connection waits behind 200 others
)
_COMMITS = 2  # that the reply to a queued message waits for: the one in progress, and its own
_ADDED = 3 * 2**20  # octets that an identical round adds to the memory in use


@pytest.mark.skipif(not probe.has_mallinfo(), reason="only glibc 2.33 and newer counts memory in use")
def test_polite_clients_are_served_beside_all_of_them_and_another_round_needs_no_more_memory(
    offices: OfficeRunner,
) -> None:
    async def scenario(office: HostileOffice) -> None:
        measured, replies = [], []
        for _ in range(3):
            async with AsyncExitStack() as stack:
                for element in ELEMENTS:
                    await stack.enter_async_context(office.hostile(element))
                await stack.enter_async_context(office.key_change())
                await office.submit_politely(2)
            await office.check()
            measured.append(await office.measure())
            replies.append(office.times["pass-through"].most_cpu)
            print(measured[-1], await office.report(), sep="\n")
        assert min(figures.longest_pass for figures in measured) < _PASS
        assert min(replies) < _REPLY
        assert min(figures.most_commits for figures in measured) <= _COMMITS
        first, second, third = (figures.in_use for figures in measured)
        assert min(second - first, third - second) < _ADDED

    offices.run(scenario)
