"""Ten polite clients beside one hostile element: each message gets its reply and arrives once.

The replies come while the element is in force. Their times, the longest pass of the event loop and the memory are
printed and not asserted: on a busy machine they measure the machine. A hang is what fails a test.
"""

import pytest

from tests.hostile.conftest import OfficeRunner
from tests.hostile.elements import ELEMENTS
from tests.hostile.faulty_calls import CallFault
from tests.hostile.office import HostileOffice

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("element", ELEMENTS)
def test_polite_clients_are_served_beside(offices: OfficeRunner, element: str) -> None:
    async def scenario(office: HostileOffice) -> None:
        await office.submit_politely(1)
        async with office.hostile(element):
            await office.submit_politely(3)
        await office.submit_politely(1)
        await office.check()

    offices.run(scenario)


def test_polite_clients_are_served_beside_changes_of_the_key(offices: OfficeRunner) -> None:
    async def scenario(office: HostileOffice) -> None:
        async with office.key_change():
            await office.submit_politely(3)
        await office.check()

    offices.run(scenario)


def test_a_disk_that_hangs_does_not_stop_pass_through(offices: OfficeRunner) -> None:
    async def scenario(office: HostileOffice) -> None:
        with office.faults.in_force(CallFault.HANG):
            await office.submit_politely(3, expected={"pass-through": (250,)})
        await office.wait_for_disk()
        await office.submit_politely(2)
        await office.check()

    offices.run(scenario)


def test_a_full_disk_defers_queued_mail_and_does_not_stop_pass_through(offices: OfficeRunner) -> None:
    async def scenario(office: HostileOffice) -> None:
        with office.faults.in_force(CallFault.FULL):
            await office.submit_politely(3, expected={"pass-through": (250,), "queue": (250, 451, 452)})
        await office.submit_politely(2)
        await office.check()

    offices.run(scenario)
