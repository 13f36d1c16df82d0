"""The reply to the client, and the responsibility for the message after it."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from senderproxy.listener.body import SpillDirectory
from senderproxy.relay.no_spool import NoSpool
from senderproxy.relay.ports import SpoolError, SpoolFull
from senderproxy.routing.provider import NullPolicy
from senderproxy.simulator.faults import Delay, Drop, Fault, FaultScript, FaultStage, Hold, Silence
from senderproxy.simulator.provider_replies import UNKNOWN_USER, server_reply
from senderproxy.tracking.record import Query
from tests.fakes.buffered_body import buffered_body
from tests.senderproxy.relay.office import KUNDE, SETTINGS, answering, relay_office

BUSY = server_reply(450, "4.2.1 Mailbox busy")


async def test_a_passed_through_message_leaves_only_a_history(tmp_path: Path) -> None:
    async with relay_office(tmp_path) as office:
        message, result = await office.submit()
        assert result.code == 250
        assert "Requested mail action okay" in result.text
        assert office.taken() == ["Guten Tag"]
        assert await office.waiting() == 0
        await office.until(lambda: office.spool.find(_by_id(message), limit=1), "the history")
        assert await office.statuses(message) == {KUNDE: "delivered"}
        assert await office.event_kinds(message) == ["attempted"]


async def test_queue_mode_replies_250_when_the_message_is_stored_and_sends_it_at_once(tmp_path: Path) -> None:
    async with relay_office(tmp_path) as office:
        message, result = await office.submit(at="devices")
        assert str(result).startswith("250 2.0.0 Queued for delivery")
        await office.until_all_is_done()
        assert office.taken() == ["Guten Tag"]
        assert await office.statuses(message) == {KUNDE: "delivered"}
        assert await office.event_kinds(message) == ["accepted", "attempted"]


async def test_after_a_mixed_outcome_deferred_recipients_wait_and_refused_ones_are_reported(tmp_path: Path) -> None:
    settings = answering(SETTINGS, nobody=UNKNOWN_USER, busy=BUSY)
    async with relay_office(tmp_path, settings) as office:
        message, result = await office.submit(KUNDE, "nobody@kunde.example", "busy@kunde.example")
        assert result.code == 250
        assert result.text.startswith(
            "Recipients: 1 accepted, 1 queued for retry, 1 refused and reported to the author"
        )
        assert await office.statuses(message) == {
            KUNDE: "delivered", "nobody@kunde.example": "failed", "busy@kunde.example": "waiting"
        }  # fmt: skip
        await office.until(office.reports, "the report")
        [report] = office.reports()
        assert (report.login, report.recipients) == ("anna@firma.example", ("anna@firma.example",))
        assert b"Final-Recipient: rfc822; nobody@kunde.example" in report.content
        assert b"busy@kunde.example" not in report.content
        office.simulator.settings = SETTINGS
        await office.pass_time(seconds=61)
        await office.until_all_is_done()
        assert office.taken("busy@kunde.example") == ["Guten Tag"]
        assert office.taken(KUNDE) == ["Guten Tag"]
        assert await office.event_kinds(message) == [
            "accepted",
            "attempted",
            "attempted",
            "attempted",
            "reported",
            "attempted",
        ]


async def test_all_deferred_is_a_4xx_to_a_client_with_a_queue(tmp_path: Path) -> None:
    async with relay_office(tmp_path, answering(SETTINGS, busy=BUSY)) as office:
        message, result = await office.submit("busy@kunde.example")
        assert str(result) == "450 4.2.1 Mailbox busy"
        assert await office.waiting() == 0
        await office.until(lambda: office.spool.find(_by_id(message), limit=1), "the history")
        assert await office.statuses(message) == {"busy@kunde.example": "deferred"}


async def test_all_deferred_is_queued_if_the_listener_is_set_so(tmp_path: Path) -> None:
    async with relay_office(tmp_path) as office:
        await office.simulator.go_offline()
        _, result = await office.submit(at="keeps")
        assert result.code == 250
        assert await office.waiting() == 1
        await office.simulator.go_online()
        await office.pass_time(seconds=120)
        await office.until_all_is_done()
        assert office.taken() == ["Guten Tag"]


async def test_all_refused_is_a_5xx_and_nothing_is_queued(tmp_path: Path) -> None:
    async with relay_office(tmp_path, answering(SETTINGS, nobody=UNKNOWN_USER)) as office:
        for door in ("office", "keeps"):
            _, result = await office.submit("nobody@kunde.example", at=door)
            assert result.code == 550
        assert await office.waiting() == 0
        assert office.reports() == []


async def test_an_author_without_an_account_is_refused_at_every_listener(tmp_path: Path) -> None:
    async with relay_office(tmp_path) as office:
        for door in ("office", "devices"):
            _, result = await office.submit(by="fremd@anderswo.example", at=door)
            assert result.code == 550
            assert "No account here may send as fremd@anderswo.example" in result.lines[0]
        assert await office.waiting() == 0


async def test_a_configuration_error_queues_a_devices_mail_until_it_is_fixed(tmp_path: Path) -> None:
    async with relay_office(tmp_path) as office:
        rules = office.rules
        office.relay.rules = replace(rules, providers={})
        message, result = await office.submit(at="devices")
        assert result.code == 250
        assert await office.statuses(message) == {KUNDE: "waiting"}
        office.relay.rules = rules
        await office.pass_time(seconds=120)
        await office.until_all_is_done()
        assert office.taken() == ["Guten Tag"]
        _, result = await office.submit(text="nun wieder")
        assert result.code == 250


async def test_an_attempt_longer_than_the_timeout_is_queued_and_not_sent_twice(tmp_path: Path) -> None:
    released = asyncio.Event()
    script = FaultScript(Fault(FaultStage.DOT, Hold(released), times=1))
    async with relay_office(tmp_path, script=script) as office:
        message, result = await office.submit(at="hasty")
        assert str(result).startswith("250 2.0.0 Queued: simulator has not replied yet")
        assert await office.statuses(message) == {KUNDE: "waiting"}
        released.set()
        await office.until_all_is_done()
        assert await office.statuses(message) == {KUNDE: "delivered"}
        await office.restart()
        await office.pass_time(hours=1)
        assert office.taken() == ["Guten Tag"]


@pytest.mark.parametrize("stage", [FaultStage.MAIL, FaultStage.RCPT, FaultStage.DATA])
@pytest.mark.parametrize("threshold", [10_000_000, 1000], ids=["in memory", "in a file"])
async def test_an_attempt_longer_than_the_timeout_sends_the_whole_content(
    tmp_path: Path, stage: FaultStage, threshold: int
) -> None:
    text = b"Guten Tag\r\n" * 100_000
    body = await buffered_body(threshold, SpillDirectory(tmp_path), [text])
    released = asyncio.Event()
    script = FaultScript(Fault(stage, Hold(released), times=1))
    async with relay_office(tmp_path, script=script) as office:
        _, result = await office.submit(at="hasty", body=body)
        assert str(result).startswith("250 2.0.0 Queued: simulator has not replied yet")
        released.set()
        await office.until_all_is_done()
        [received] = office.simulator.received
        assert received.content.endswith(b"\r\n\r\n" + text)


async def test_a_refusal_after_the_timeout_is_reported(tmp_path: Path) -> None:
    released = asyncio.Event()
    script = FaultScript(Fault(FaultStage.RCPT, Hold(released), times=1))
    async with relay_office(tmp_path, answering(SETTINGS, nobody=UNKNOWN_USER), script) as office:
        message, result = await office.submit("nobody@kunde.example", at="hasty")
        assert result.code == 250
        released.set()
        await office.until(office.reports, "the report")
        assert await office.statuses(message) == {"nobody@kunde.example": "failed"}


async def test_a_lost_reply_to_the_final_dot_is_a_4xx_to_the_client(tmp_path: Path) -> None:
    script = FaultScript(Fault(FaultStage.DOT, Drop(after_storing=True), times=1))
    async with relay_office(tmp_path, script=script) as office:
        _, result = await office.submit()
        assert result.code == 451
        assert "may deliver it twice" in result.text
        assert await office.waiting() == 0


# ---- where nothing can be kept ----

FULL = SpoolFull("There is too little room on the disk.", hint="Free some space.")


@pytest.mark.parametrize(
    ("why", "said"),
    [(FULL, "452 4.3.1 There is too little room"), (SpoolError("The spool cannot be opened."), "451 4.3.0 The spool")],
)
async def test_a_message_that_cannot_be_stored_is_a_4xx_to_the_client(
    tmp_path: Path, why: SpoolError, said: str
) -> None:
    async with relay_office(tmp_path) as office:
        office.use(NoSpool(why))
        _, result = await office.submit(at="devices")
        assert str(result).startswith(said)
        assert office.taken() == []
        office.use(office.spool)
        _, result = await office.submit(at="devices")
        assert result.code == 250


async def test_pass_through_needs_no_spool(tmp_path: Path) -> None:
    async with relay_office(tmp_path) as office:
        office.use(NoSpool(FULL))
        _, result = await office.submit()
        assert result.code == 250


async def test_a_mixed_outcome_that_cannot_be_stored_names_the_recipients_not_reached(tmp_path: Path) -> None:
    async with relay_office(tmp_path, answering(SETTINGS, busy=BUSY)) as office:
        office.use(NoSpool(FULL))
        _, result = await office.submit(KUNDE, "busy@kunde.example")
        assert result.code == 554
        assert "sent to 1 of 2 recipients; send it again to the others only" in result.text
        _, result = await office.submit("busy@kunde.example", at="keeps")
        assert result.code == 450


async def test_a_client_waits_beyond_the_timeout_if_its_message_cannot_be_stored(tmp_path: Path) -> None:
    script = FaultScript(Fault(FaultStage.DOT, Delay(0.6), times=1))
    async with relay_office(tmp_path, script=script) as office:
        office.use(NoSpool(FULL))
        _, result = await office.submit(at="hasty")
        assert result.code == 250
        assert "Requested mail action okay" in result.text


# ---- who is result nothing ----


async def test_a_bounce_refused_for_some_recipients_is_not_reported_and_its_history_says_why(tmp_path: Path) -> None:
    async with relay_office(tmp_path, answering(SETTINGS, nobody=UNKNOWN_USER)) as office:
        message, result = await office.submit(KUNDE, "nobody@kunde.example", null_path=True)
        assert result.code == 250
        assert await office.statuses(message) == {KUNDE: "delivered", "nobody@kunde.example": "failed"}
        assert "unreported" in await office.event_kinds(message)
        assert await office.waiting() == 0


async def test_a_report_that_is_refused_is_not_reported(tmp_path: Path) -> None:
    settings = replace(
        SETTINGS, recipient_replies={"nobody@kunde.example": UNKNOWN_USER, "anna@firma.example": UNKNOWN_USER}
    )
    async with relay_office(tmp_path, settings) as office:
        await office.submit(KUNDE, "nobody@kunde.example")
        await office.until_all_is_done()
        assert office.reports() == []
        [report] = [record for record in await office.spool.find(_everything(), limit=10) if record.report_on]
        assert [state.status.value for state in report.recipients.values()] == ["failed"]
        assert (await office.event_kinds(report.id))[-1] == "unreported"


async def test_a_message_discarded_by_policy_has_a_history(tmp_path: Path) -> None:
    async with relay_office(tmp_path) as office:
        provider = replace(office.rules.providers["simulator"], null_policy=NullPolicy.DISCARD)
        office.relay.rules = replace(office.rules, providers={"simulator": provider})
        message, result = await office.submit(null_path=True)
        assert result.code == 250
        await office.until(lambda: office.spool.find(_by_id(message), limit=1), "the history")
        assert await office.statuses(message) == {KUNDE: "discarded"}


# ---- a client, or the service, goes away ----


async def test_a_stop_before_the_dot_leaves_the_message_with_the_client(tmp_path: Path) -> None:
    script = FaultScript(Fault(FaultStage.RCPT, Silence()))
    async with relay_office(tmp_path, script=script) as office:
        transaction = asyncio.create_task(office.submit())
        await office.until(lambda: script.applied, "the provider is silent")
        transaction.cancel()
        with pytest.raises(asyncio.CancelledError):
            await transaction
        assert await office.waiting() == 0


async def test_a_stop_after_the_final_dot_waits_for_the_reply(tmp_path: Path) -> None:
    script = FaultScript(Fault(FaultStage.DOT, Delay(0.5)))
    async with relay_office(tmp_path, script=script) as office:
        transaction = asyncio.create_task(office.submit())
        await office.until(lambda: office.simulator.received, "the provider has it")
        transaction.cancel()
        _, result = await transaction
        assert result.code == 250


async def test_the_limit_of_automatic_responses_is_checked_at_reception(tmp_path: Path) -> None:
    async with relay_office(tmp_path) as office:
        answers = [(await office.submit(null_path=True, text=f"abwesend {n}"))[1].code for n in range(11)]
        assert answers == [250] * 10 + [554]


def _by_id(message: str) -> Query:
    return Query(id=message)


def _everything() -> Query:
    return Query()
