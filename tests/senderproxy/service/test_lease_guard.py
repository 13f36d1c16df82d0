"""Attempts while the leases of a shared spool are lost, and after they are back."""

from pathlib import Path

from senderproxy.service.lease_guard import LeaseGuard
from tests.senderproxy.relay.office import relay_office


async def test_nothing_is_attempted_while_the_leases_are_lost_and_all_of_it_afterwards(tmp_path: Path) -> None:
    async with relay_office(tmp_path) as office:
        guard = LeaseGuard(office.runner)
        await office.submit(at="devices", text="vorher")
        await office.until(lambda: office.taken() == ["vorher"], "the first message")
        await office.until_all_is_done()  # its result is written, however slow the disk is
        guard.lost()
        await office.until(lambda: not guard._tasks, "the delivery has stopped")
        for number in range(3):
            await office.submit(at="devices", text=f"Brief {number}")
        assert await office.waiting() == 3
        assert office.taken() == ["vorher"]
        guard.lost()
        guard.regained()  # before the stop is over
        await office.until(lambda: len(office.taken()) == 4, "all of them are sent")

        async def is_empty() -> bool:
            return await office.waiting() == 0

        await office.until(is_empty, "the results are written")


async def test_after_the_end_of_the_service_nothing_is_started_again(tmp_path: Path) -> None:
    async with relay_office(tmp_path) as office:
        guard = LeaseGuard(office.runner)
        guard.lost()
        await office.until(lambda: not guard._tasks, "the delivery has stopped")
        guard.close()
        guard.regained()
        await office.until(lambda: not guard._tasks, "the start is over")
        await office.submit(at="devices", text="danach")
        assert await office.waiting() == 1
        assert office.taken() == []
