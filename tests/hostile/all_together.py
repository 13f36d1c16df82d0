"""Ten polite clients beside all hostile elements at once, for two rounds.

Asserted are quantities that do not depend on how busy the machine is: replies, the CPU time of each pass of the event
loop, and the memory that a second round adds. `make hostile` prints the times.
"""

from contextlib import AsyncExitStack

import pytest

from tests.hostile.conftest import OfficeRunner
from tests.hostile.elements import ELEMENTS
from tests.hostile.office import HostileOffice
from tests.peers import probe

pytestmark = pytest.mark.slow

_PASS = 0.2  # seconds of CPU time of one pass of the event loop; 0.05 on a quiet machine
_ADDED = 3 * 2**20  # octets that a second identical round adds to the memory in use


@pytest.mark.skipif(not probe.has_mallinfo(), reason="only glibc 2.33 and newer counts memory in use")
def test_polite_clients_are_served_beside_all_of_them_and_a_second_round_needs_no_more_memory(
    offices: OfficeRunner,
) -> None:
    async def scenario(office: HostileOffice) -> None:
        measured = []
        for _ in range(2):
            async with AsyncExitStack() as stack:
                for element in ELEMENTS:
                    await stack.enter_async_context(office.hostile(element))
                await stack.enter_async_context(office.key_change())
                await office.submit_politely(2)
            await office.check()
            measured.append(await office.measure())
            print(measured[-1], await office.report(), sep="\n")
        first, second = measured
        assert second.longest_pass < _PASS
        assert second.in_use - first.in_use < _ADDED

    offices.run(scenario)
