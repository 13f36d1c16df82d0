"""Ten polite clients beside all hostile elements at once, for two rounds: `make hostile`.

It takes minutes and measures the machine as much as the program, so it is not part of the test command.
"""

from contextlib import AsyncExitStack

import pytest

from tests.hostile.conftest import OfficeRunner
from tests.hostile.office import HostileOffice
from tests.hostile.test_hostile import ELEMENTS

pytestmark = pytest.mark.slow


def test_polite_clients_are_served_beside_all_of_them_and_a_second_round_needs_no_more_memory(
    offices: OfficeRunner,
) -> None:
    async def scenario(office: HostileOffice) -> None:
        resident: list[int] = []
        for _ in range(2):
            async with AsyncExitStack() as stack:
                for element in ELEMENTS:
                    await stack.enter_async_context(element(office))
                await office.submit_politely(2)
            await office.check()
            resident.append(office.resident_bytes())
        print(f"resident after each round: {[f'{octets / 2**20:.1f} MiB' for octets in resident]}")

    offices.run(scenario)
