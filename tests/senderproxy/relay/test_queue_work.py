"""Work of the queue for a drain: what is in progress or due, and what is not waited for."""

from pathlib import Path

from senderproxy.simulator.provider_replies import ServerReply
from tests.senderproxy.relay.office import SETTINGS, answering, relay_office


async def test_an_idle_queue_has_no_work(tmp_path: Path) -> None:
    async with relay_office(tmp_path) as office:
        assert (office.runner.work.in_progress, office.runner.work.is_due) == (0, False)


async def test_a_queued_message_is_work_until_its_result_is_written(tmp_path: Path) -> None:
    async with relay_office(tmp_path) as office:
        message, answer = await office.submit(at="devices")
        assert answer.code == 250
        assert office.runner.work.in_progress == 1 or office.runner.work.is_due
        await office.until(lambda: not office.runner.work.in_progress and not office.runner.work.is_due, "no work")
        assert await office.statuses(message) == {"kunde@kunde.example": "delivered"}


async def test_a_message_that_waits_for_its_time_is_no_work_until_then(tmp_path: Path) -> None:
    settings = answering(SETTINGS, later=ServerReply(451, ("4.7.1 greylisted",)))
    async with relay_office(tmp_path, settings) as office:
        await office.submit("later@kunde.example", at="devices")
        await office.until(lambda: not office.runner.work.in_progress and not office.runner.work.is_due, "no work")
        assert await office.waiting() == 1
        await office.advance(3600)
        assert office.runner.work.is_due


async def test_due_messages_of_an_account_that_cannot_send_are_no_work(tmp_path: Path) -> None:
    async with relay_office(tmp_path) as office:
        office.drawer.add("anna", "anna@firma.example", "geheim-falsch")
        await office.submit(at="devices")
        await office.until(lambda: office.runner.blocked, "anna is blocked")
        await office.until(lambda: not office.runner.work.in_progress and not office.runner.work.is_due, "no work")
        assert await office.waiting() == 1
