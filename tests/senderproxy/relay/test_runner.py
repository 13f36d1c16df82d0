"""The queue: each account separately, in order, at the right time."""

import asyncio
import sqlite3
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from senderproxy.delivery.courier import SmtpCourier
from senderproxy.mail.address import ForwardPath
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.message import Message
from senderproxy.mail.outcome import Outcome
from senderproxy.relay.decide import MessageFacts, decide
from senderproxy.relay.ports import Availability, Claim, SpoolFull, SpoolUpdate
from senderproxy.retry import RetryPolicy
from senderproxy.routing.account import Account
from senderproxy.routing.hops import Hop
from senderproxy.routing.provider import Provider, Security, Smarthost
from senderproxy.routing.route import Route
from senderproxy.simulator.faults import Delay, Fault, FaultScript, FaultStage, ReplyWith
from senderproxy.simulator.provider_replies import UNKNOWN_USER, server_reply
from senderproxy.spool.sqlite import statements
from senderproxy.spool.sqlite.leases import Leases
from senderproxy.spool.sqlite.store import SqliteSpool
from senderproxy.tracking.record import Lane, Query
from tests.senderproxy.relay.office import KUNDE, SETTINGS, RelayOffice, answering, relay_office

BUSY = server_reply(450, "4.2.1 Mailbox busy")


async def queue_messages(office: RelayOffice, count: int, by: str = "anna@firma.example") -> list[str]:
    """So many messages in the queue while the provider is down; their ids."""
    await office.simulator.go_offline()
    kept = [(await office.submit(at="devices", by=by, text=f"Brief {number}"))[0] for number in range(count)]
    await office.until(lambda: office.runner.blocked, "the provider is known to be down")
    await office.until(lambda: no_attempt_in_progress(office), "the results of the attempts are written down")
    return kept


async def no_attempt_in_progress(office: RelayOffice) -> bool:
    return not any(record.leased for record in await office.spool.find(Query(unfinished=True), limit=1000))


# ---- accounts are independent ----


async def test_a_wrong_password_with_a_full_queue_delays_no_other_account_and_costs_one_login(tmp_path: Path) -> None:
    async with relay_office(tmp_path) as office:
        office.drawer.set_password("anna", "geheim-falsch")
        for number in range(50):
            await office.submit(at="devices", text=f"Brief {number}")
        await office.submit(at="devices", by="bert@firma.example", text="von Bert")
        await office.until(lambda: office.taken() == ["von Bert"], "Bert's message")
        await office.pass_time(hours=1)
        assert office.simulator.failed_logins("anna@firma.example") == 1

        async def only_annas_wait() -> bool:
            return await office.waiting() == 50

        await office.until(only_annas_wait, "Bert's message is written down")
        blocked = office.runner.blocked[Lane.of_account("anna")]
        assert "senderproxy account set-password anna" in blocked.why
        assert blocked.until is None


async def test_a_corrected_password_sends_the_queue_in_order(tmp_path: Path) -> None:
    async with relay_office(tmp_path, connections=1) as office:
        office.drawer.set_password("anna", "geheim-falsch")
        for number in range(20):
            await office.submit(at="devices", text=f"Brief {number}")
        await office.until(lambda: office.runner.blocked, "the password was refused")
        office.drawer.set_password("anna", "geheim-relay")
        office.runner.wake()  # what the service does when the vault has changed
        await office.until_all_is_done()
        assert office.taken() == [f"Brief {number}" for number in range(20)]


async def test_a_long_queue_of_one_account_does_not_delay_another_account(tmp_path: Path) -> None:
    script = FaultScript(Fault(FaultStage.DOT, Delay(0.05), login="anna@firma.example"))
    async with relay_office(tmp_path, script=script) as office:
        await queue_messages(office, 200)
        await office.simulator.go_online()
        await office.pass_time(seconds=120)
        await office.submit(at="devices", by="bert@firma.example", text="von Bert")
        await office.until(lambda: "von Bert" in office.taken(), "Bert's message")
        assert len(office.taken()) < 50


async def test_during_a_burst_one_message_in_four_is_sent_and_the_rest_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("senderproxy.relay.pacing._BURST_HOLD", 3600.0)  # until the clock is moved on
    monkeypatch.setattr("senderproxy.relay.pacing._START_ALLOWANCE", 3.0)
    async with relay_office(tmp_path) as office:
        each = ["anna@firma.example", "bert@firma.example", "carl@firma.example"]
        crowd = [office.submit(at="devices", by=each[number % 3], text=f"Brief {number}") for number in range(60)]
        answers = await asyncio.gather(*crowd)
        assert {answer.code for _, answer in answers} == {250}

        async def some_have_left() -> bool:
            return await office.waiting() <= 60 - 7

        await office.until(some_have_left, "one for every eight that came")
        before = office.taken()
        assert len(before) <= 20
        assert {int(subject.split()[1]) % 3 for subject in before} == {0, 1, 2}  # nobody's account goes short
        await office.pass_time(seconds=3601)
        await office.until_all_is_done()
        assert len(office.taken()) == 60


async def test_a_passed_through_message_starts_the_queue_of_its_account(tmp_path: Path) -> None:
    async with relay_office(tmp_path) as office:
        await queue_messages(office, 3)
        await office.simulator.go_online()
        _, result = await office.submit(text="geht wieder")
        assert result.code == 250
        await office.until_all_is_done()
        assert sorted(office.taken()) == ["Brief 0", "Brief 1", "Brief 2", "geht wieder"]


async def test_a_paused_account_is_tried_at_the_end_of_its_pause(tmp_path: Path) -> None:
    script = FaultScript(Fault(FaultStage.MAIL, ReplyWith(server_reply(450, "Mail send limit exceeded.")), times=1))
    async with relay_office(tmp_path, script=script) as office:
        await office.submit(at="devices")
        await office.until(lambda: office.courier.status({})[0].state == "paused", "the limit is noticed")
        await office.submit(at="devices", text="noch einer")
        until = office.runner.blocked[Lane.of_account("anna")].until
        assert until is not None
        assert timedelta(seconds=30) < until - office.clock.now() <= timedelta(seconds=60)
        assert office.taken() == []
        await office.pass_time(seconds=130)
        await office.until_all_is_done()
        assert sorted(office.taken()) == ["Guten Tag", "noch einer"]


async def test_the_hourly_limit_delays_the_rest_of_the_queue(tmp_path: Path) -> None:
    async with relay_office(tmp_path, messages_per_hour=2) as office:
        for number in range(5):
            await office.submit(at="devices", text=f"Brief {number}")
        await office.until(lambda: len(office.taken()) == 2 and office.runner.blocked, "two may go")
        until = office.runner.blocked[Lane.of_account("anna")].until
        assert until is not None
        assert until - office.clock.now() > timedelta(seconds=3500)
        await office.pass_time(hours=1.1)
        await office.until(lambda: len(office.taken()) == 4, "two more")


async def test_messages_of_one_account_are_sent_in_the_order_of_submission(tmp_path: Path) -> None:
    async with relay_office(tmp_path, connections=1) as office:
        await queue_messages(office, 10)
        await office.restart()
        await office.until(lambda: office.runner.blocked, "the provider is known to be down")
        await office.until(lambda: no_attempt_in_progress(office), "the results of the attempts are written down")
        await office.simulator.go_online()
        await office.pass_time(seconds=120)
        for number in range(10, 20):
            await office.submit(at="devices", text=f"Brief {number}")
        await office.until_all_is_done()
        assert office.taken() == [f"Brief {number}" for number in range(20)]


# ---- a restart, a stop ----


async def test_queued_messages_are_sent_once_after_a_restart(tmp_path: Path) -> None:
    async with relay_office(tmp_path) as office:
        kept = await queue_messages(office, 5)
        await office.restart()
        assert await office.waiting() == 5
        await office.simulator.go_online()
        await office.pass_time(seconds=120)
        await office.until_all_is_done()
        assert sorted(office.taken()) == [f"Brief {number}" for number in range(5)]
        assert await office.statuses(kept[0]) == {KUNDE: "delivered"}


async def test_a_stop_during_a_transaction_writes_its_result(tmp_path: Path) -> None:
    script = FaultScript(Fault(FaultStage.DOT, Delay(0.3), times=1))
    async with relay_office(tmp_path, script=script) as office:
        message, _ = await office.submit(at="devices")
        await office.until(lambda: office.simulator.received, "the provider has it")
        await office.restart()
        assert await office.statuses(message) == {KUNDE: "delivered"}
        await office.pass_time(hours=1)
        assert office.taken() == ["Guten Tag"]


# ---- time ----


async def test_waits_grow_for_each_recipient_separately(tmp_path: Path) -> None:
    async with relay_office(tmp_path, answering(SETTINGS, busy=BUSY)) as office:
        message, _ = await office.submit(KUNDE, "busy@kunde.example", at="devices")

        async def tries() -> int:
            record = await office.record(message)
            return next(state.tries for path, state in record.recipients.items() if path.local_part == "busy")

        for tried, minutes in enumerate((1, 2, 4, 8, 16, 30, 30), 1):

            async def is_tried(tried: int = tried) -> bool:
                return await tries() == tried

            await office.until(is_tried, f"try {tried}")
            record = await office.record(message)
            [left] = [state.due_in.total_seconds() for state in record.recipients.values() if state.due_in]
            assert minutes * 60 - 20 < left <= minutes * 60  # a write takes its time
            await office.pass_time(seconds=minutes * 60 + 1)
        assert office.taken(KUNDE) == ["Guten Tag"]


async def test_a_message_expires_after_two_days_and_is_reported(tmp_path: Path) -> None:
    async with relay_office(tmp_path, answering(SETTINGS, busy=BUSY)) as office:
        message, _ = await office.submit("busy@kunde.example", at="devices")

        async def is_tried() -> bool:
            return any(state.tries for state in (await office.record(message)).recipients.values())

        await office.until(is_tried, "the reports have a reply of the provider")
        await office.pass_time(hours=47)
        assert await office.statuses(message) == {"busy@kunde.example": "waiting"}
        await office.until_reported(1)
        await office.pass_time(hours=1.1)
        await office.until_reported(2)
        assert b"Action: delayed" in office.reports()[0].content
        assert b"Action: failed" in office.reports()[1].content
        for report in office.reports():  # in the provider's own words, and whose they are
            assert b"Remote-MTA: dns; 127.0.0.1" in report.content
            assert b"Diagnostic-Code: smtp; 450 4.2.1 Mailbox busy" in report.content
        assert await office.statuses(message) == {"busy@kunde.example": "expired"}
        assert office.reports()[1].recipients == ("anna@firma.example",)


async def test_a_report_names_the_host_that_replied(tmp_path: Path) -> None:
    async with relay_office(tmp_path, answering(SETTINGS, nobody=UNKNOWN_USER)) as office:
        provider = office.rules.providers["simulator"]
        [way] = provider.smarthosts
        away = replace(way, host="127.0.0.2")
        both = replace(provider, smarthosts=(away, way))
        office.relay.rules = replace(office.rules, providers={"simulator": both})
        await office.submit("nobody@kunde.example", at="devices")
        await office.until_reported(1)
        assert b"Remote-MTA: dns; 127.0.0.1\r\n" in office.reports()[0].content


async def test_messages_of_a_blocked_account_expire_after_two_days(tmp_path: Path) -> None:
    async with relay_office(tmp_path) as office:
        office.relay.rules = replace(office.rules, senders=replace(office.rules.senders, bounce_account="bert"))
        office.drawer.set_password("anna", "geheim-falsch")
        message, _ = await office.submit(at="devices")
        await office.until(lambda: office.runner.blocked, "the password was refused")
        await office.advance(49 * 3600)

        async def is_over() -> bool:
            office.runner.check_overdue()
            return await office.statuses(message) == {KUNDE: "expired"}

        await office.until(is_over, "it is given up")


async def test_a_delay_is_reported_once(tmp_path: Path) -> None:
    async with relay_office(tmp_path, answering(SETTINGS, busy=BUSY)) as office:
        await office.submit("busy@kunde.example", at="devices")
        await office.pass_time(hours=3.9)
        assert office.reports() == []
        for _ in range(3):
            await office.pass_time(hours=1)
            await office.until_reported(1)
        [report] = office.reports()
        assert b"Action: delayed" in report.content
        assert b"Will-Retry-Until: " in report.content


async def test_a_delay_is_not_reported_if_the_settings_say_so(tmp_path: Path) -> None:
    async with relay_office(tmp_path, answering(SETTINGS, busy=BUSY)) as office:
        office.runner.policy = RetryPolicy(report_delay=None)
        await office.submit("busy@kunde.example", at="devices")
        await office.pass_time(hours=10)
        await office.submit(by="bert@firma.example", at="devices", text="danach")
        await office.until(office.taken, "the message after it")
        assert office.reports() == []


@pytest.mark.parametrize("days", [1, -1, 400])
async def test_a_step_of_the_clock_changes_no_wait_and_expires_no_message(tmp_path: Path, days: int) -> None:
    async with relay_office(tmp_path, answering(SETTINGS, busy=BUSY)) as office:
        message, _ = await office.submit("busy@kunde.example", at="devices")

        async def is_tried() -> bool:
            record = await office.record(message)
            return any(state.tries for state in record.recipients.values())

        await office.until(is_tried, "the first try")
        await office.advance(1200)  # past the time in which nothing is given up
        office.clock.stepped = timedelta(days=days)
        office.runner.check_overdue()

        async def due_time_has_moved() -> bool:
            [state] = (await office.record(message)).recipients.values()
            assert state.status.value == "waiting"
            if state.tries < 2:  # its time has come meanwhile
                return False
            return state.due_in is not None and abs(state.due_in.total_seconds()) < 1200

        await office.until(due_time_has_moved, "its due time moved")
        [state] = (await office.record(message)).recipients.values()
        await office.pass_time(seconds=1200)  # now it may be given up again

        async def is_tried_again() -> bool:
            [now] = (await office.record(message)).recipients.values()
            assert now.status.value == "waiting"
            return now.tries > state.tries

        await office.until(is_tried_again, "the next try")
        office.simulator.settings = SETTINGS
        await office.pass_time(seconds=3600)
        await office.until_all_is_done()
        assert office.taken() == ["Guten Tag"]


async def test_no_attempt_starts_while_due_times_are_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moving, may_move = threading.Event(), threading.Event()
    move = statements.shift

    def slow_move(connection: sqlite3.Connection, leases: Leases, step: int) -> None:
        moving.set()
        may_move.wait(20)
        move(connection, leases, step)

    async with relay_office(tmp_path) as office:
        kept = await queue_messages(office, 2)
        monkeypatch.setattr(statements, "shift", slow_move)
        await office.simulator.go_online()
        office.clock.stepped = timedelta(days=400)
        office.runner.check_overdue()
        await office.until(moving.is_set, "the due times are being moved")
        office.runner.wake()
        for _ in range(3):
            await office.spool.events(kept[0])
        assert office.taken() == []
        may_move.set()
        await office.until_all_is_done()
        assert [await office.statuses(one) for one in kept] == [{KUNDE: "delivered"}] * 2


async def test_a_clock_set_back_while_stopped_does_not_delay_mail_for_years(tmp_path: Path) -> None:
    async with relay_office(tmp_path) as office:
        office.clock.stepped = timedelta(days=3650)
        await queue_messages(office, 2)
        await office.close()
        office.clock.stepped = timedelta()
        await office.simulator.go_online()
        await office.open()
        await office.until_all_is_done()
        assert len(office.taken()) == 2


async def test_no_message_expires_soon_after_a_boot_with_a_wrong_date(tmp_path: Path) -> None:
    async with relay_office(tmp_path) as office:
        kept = await queue_messages(office, 1)
        await office.close()
        office.clock.stepped = timedelta(days=400)
        await office.open()
        office.runner.check_overdue()
        await office.until(lambda: office.runner.blocked, "it was tried, in vain")
        assert await office.statuses(kept[0]) == {KUNDE: "waiting"}
        assert office.reports() == []


# ---- a disk that cannot be written ----


class NoRoom(SqliteSpool):
    """A spool that cannot be written while `full` is set."""

    full = False

    async def settle(self, claim: Claim, verdict: SpoolUpdate) -> None:
        if self.full and verdict.states:
            raise SpoolFull("There is no room.")
        await super().settle(claim, verdict)


async def test_while_the_spool_cannot_be_written_no_attempt_starts_and_no_result_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tests.senderproxy.relay.office.SqliteSpool", NoRoom)
    monkeypatch.setattr("senderproxy.relay.settling._RETRY", 0.02)
    async with relay_office(tmp_path, connections=1) as office:
        await queue_messages(office, 20)
        assert isinstance(office.spool, NoRoom)

        async def no_attempt_is_in_progress() -> bool:
            return not any(record.leased for record in await office.spool.find(Query(), limit=100))

        await office.until(no_attempt_is_in_progress, "the results of the attempts so far are written")
        office.spool.full = True
        await office.simulator.go_online()
        await office.pass_time(seconds=120)

        def logged(field: str) -> int:
            said = [record.__dict__ for record in caplog.records if "queue paused" in record.message]
            return sum(field in fields["senderproxy_fields"] for fields in said)

        await office.until(lambda: logged("messages") >= 1, "it is logged for all of them")
        assert 1 <= logged("id") <= 3  # and once for each
        before = logged("messages")
        await office.pass_time(seconds=600)
        await office.until(lambda: logged("messages") > before, "it is logged again")
        assert 1 <= len(office.taken()) <= 3  # those that were under way: one session, and one claimed ahead
        office.spool.full = False
        await office.until_all_is_done()
        assert len(office.taken()) == len(set(office.taken())) == 20


# ---- changes while a message waits ----


@pytest.mark.parametrize("something_changes", [False, True])
async def test_the_decision_of_the_reception_is_used_unless_the_rules_have_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, something_changes: bool
) -> None:
    decided: list[str] = []

    def noted(facts: MessageFacts, *inputs: Any) -> Any:
        decided.append(facts.id)
        return decide(facts, *inputs)

    monkeypatch.setattr("senderproxy.relay.attempt.decide", noted)
    async with relay_office(tmp_path) as office:
        kept = await queue_messages(office, 20)
        if something_changes:
            office.relay.rules = replace(office.rules)
        await office.simulator.go_online()
        await office.pass_time(seconds=120)
        await office.until_all_is_done()
        attempts = {one: (await office.event_kinds(one)).count("attempted") for one in kept}
        assert 1 in attempts.values()  # it had not been tried before the change
        at_least = 2 if something_changes else 1
        assert Counter(decided) == {one: max(count, at_least) for one, count in attempts.items()}


async def test_mail_of_a_removed_account_waits_until_it_is_added_again(tmp_path: Path) -> None:
    async with relay_office(tmp_path) as office:
        kept = await queue_messages(office, 1)
        office.drawer.remove("anna")
        await office.simulator.go_online()
        await office.pass_time(seconds=120)

        async def says_why() -> bool:
            [state] = (await office.record(kept[0])).recipients.values()
            return state.reply is not None and "No account here may send as anna@firma.example" in str(state.reply)

        await office.until(says_why, "the reason is written down")
        office.drawer.add("anna", "anna@firma.example", "geheim-relay")
        await office.pass_time(seconds=200)
        await office.until_all_is_done()
        assert len(office.taken()) == 1


async def test_mail_of_an_address_that_moved_is_sent_by_its_new_account(tmp_path: Path) -> None:
    async with relay_office(tmp_path) as office:
        kept = await queue_messages(office, 2)
        anna, carl = office.drawer.accounts["anna"], office.drawer.accounts["carl"]
        office.drawer.remove("anna")
        office.drawer.accounts["carl"] = replace(carl, carries=(*carl.carries, *anna.carries))
        await office.simulator.go_online()
        await office.pass_time(seconds=120)
        await office.until_all_is_done()
        assert {received.login for received in office.simulator.received} == {"carl@firma.example"}
        assert (await office.record(kept[0])).account == "carl"


# ---- internal errors ----


class FailingCourier:
    """relay.ports.Courier that raises for one message until it is fixed."""

    def __init__(self, courier: SmtpCourier) -> None:
        self._courier = courier
        self.errors = 0
        self.is_fixed = False

    async def deliver(
        self, route: Route, envelope: Envelope, message: Message, *, tag: str
    ) -> Mapping[ForwardPath, Outcome]:
        if b"Subject: Stein" in message.header.raw and not self.is_fixed:
            self.errors += 1
            raise ZeroDivisionError("an internal error")
        return await self._courier.deliver(route, envelope, message, tag=tag)

    async def deliver_report(
        self, server: Smarthost, envelope: Envelope, message: Message, *, tag: str
    ) -> Mapping[ForwardPath, Outcome]:
        return await self._courier.deliver_report(server, envelope, message, tag=tag)

    async def deliver_hop(
        self, hop: Hop, envelope: Envelope, message: Message, *, tag: str
    ) -> Mapping[ForwardPath, Outcome]:
        return await self._courier.deliver_hop(hop, envelope, message, tag=tag)

    def has_begun(self, tag: str) -> bool:
        return self._courier.has_begun(tag)

    def hop_availability(self, lane: Lane) -> Availability:
        return self._courier.hop_availability(lane)

    def availability(self, account: Account, provider: Provider) -> Availability:
        return self._courier.availability(account, provider)


async def test_a_message_with_three_internal_errors_is_held_and_stops_no_other(tmp_path: Path) -> None:
    async with relay_office(tmp_path, courier=FailingCourier, connections=1) as office:
        stone, _ = await office.submit(at="devices", text="Stein")
        for number in range(3):
            await office.submit(at="devices", text=f"Brief {number}")
        await office.until(lambda: len(office.taken()) == 3, "the others")

        async def is_held() -> bool:
            await office.pass_time(seconds=300)
            return await office.statuses(stone) == {KUNDE: "held"}

        await office.until(is_held, "it is held")
        assert [what for what in await office.event_kinds(stone) if what in ("fault", "held")] == ["fault"] * 3 + [
            "held"
        ]
        [state] = (await office.record(stone)).recipients.values()
        assert "ZeroDivisionError" in state.why
        await office.pass_time(hours=100)
        assert await office.statuses(stone) == {KUNDE: "held"}  # never dropped, never given up


# ---- the internal server ----


async def test_reports_to_the_internal_server_have_a_null_reverse_path(tmp_path: Path) -> None:
    async with relay_office(tmp_path, answering(SETTINGS, nobody=UNKNOWN_USER)) as office:
        inside = await _internal_server(tmp_path)
        try:
            office.relay.rules = replace(office.rules, report_server=Smarthost("127.0.0.1", inside.port, Security.NONE))
            await office.submit(KUNDE, "nobody@kunde.example")
            await office.until_all_is_done()
            [report] = inside.taken
            assert str(report.envelope.reverse_path) == ""
            assert [str(path) for path in report.envelope.recipients] == ["anna@firma.example"]
            assert b"From: Mail Delivery System <mailer-daemon@firma.example>" in report.header
            assert office.reports() == []
        finally:
            await inside.stop()


async def test_reports_wait_for_an_internal_server_that_is_down(tmp_path: Path) -> None:
    async with relay_office(tmp_path, answering(SETTINGS, nobody=UNKNOWN_USER)) as office:
        office.relay.rules = replace(office.rules, report_server=Smarthost("127.0.0.1", 1, Security.NONE))
        await office.submit(KUNDE, "nobody@kunde.example")
        await office.until(lambda: Lane.of_account("@internal") in office.runner.blocked, "nobody is there")
        assert await office.waiting() == 1
        office.relay.rules = replace(office.rules, report_server=None)  # it goes through the author's account then
        await office.pass_time(seconds=120)
        await office.until_all_is_done()
        assert len(office.reports()) == 1


class _Inside:
    def __init__(self) -> None:
        from senderproxy.clock import SystemClock
        from senderproxy.config.model import ListenerSettings
        from senderproxy.listener.server import Listener
        from tests.fakes.recording_intake import RecordingIntake

        self.intake = RecordingIntake()
        self.listener = Listener(
            ListenerSettings(address="127.0.0.1:0"), (), "exchange.firma.example", self.intake, SystemClock()
        )

    @property
    def port(self) -> int:
        return int(self.listener.address.rpartition(":")[2])

    @property
    def taken(self):
        return self.intake.taken

    async def stop(self) -> None:
        await self.listener.stop(1)


async def _internal_server(_folder: Path) -> _Inside:
    inside = _Inside()
    await inside.listener.start()
    return inside


async def test_waiting_messages_are_listed_oldest_first(tmp_path: Path) -> None:
    async with relay_office(tmp_path) as office:
        kept = await queue_messages(office, 4)
        listed = await office.spool.find(Query(unfinished=True), limit=10)
        assert [record.id for record in listed] == kept


async def test_after_a_crash_messages_in_progress_are_tried_one_by_one_and_cleared_by_any_outcome(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with relay_office(tmp_path) as office:
        kept = await queue_messages(office, 8)
        for message_id in kept[:3]:
            office.journal.attempt_started(message_id)  # as in a process that crashes now
        office.journal.attempt_started("NeverHeardOf")
        office.journal.close()
        await office.restart()
        await office.simulator.go_online()
        await office.pass_time(seconds=200)
        await office.until_all_is_done()
        assert "tried first, one by one" in caplog.text
        assert sorted(office.taken()) == sorted(f"Brief {number}" for number in range(8))
        for message_id in kept[:3]:
            assert (await office.event_kinds(message_id)).count("fault") == 1


async def test_a_message_in_progress_at_several_crashes_is_not_held_if_its_attempts_end(tmp_path: Path) -> None:
    async with relay_office(tmp_path) as office:
        [message] = await queue_messages(office, 1)
        for number in range(1, 6):
            office.journal.attempt_started(message)  # as in a process that crashes now
            office.journal.close()
            await office.restart()

            async def is_counted(number: int = number) -> bool:
                kinds = await office.event_kinds(message)
                return kinds.count("fault") == number and kinds[-1] == "attempted"

            await office.until(is_counted, "the crash is counted, and the attempt after it ends")
        assert await office.statuses(message) == {KUNDE: "waiting"}
        await office.simulator.go_online()
        await office.pass_time(seconds=200)
        await office.until_all_is_done()
        assert office.taken() == ["Brief 0"]
