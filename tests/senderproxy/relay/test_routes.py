"""Routes in the whole relay: a server that is away delays nothing else, and mail follows a change of the configuration."""

import asyncio
from collections import Counter
from dataclasses import replace
from pathlib import Path

from senderproxy.control.crash_journal import CrashJournalFile
from senderproxy.relay.queue_admin import QueueAdmin
from senderproxy.simulator.faults import Drop, Fault, FaultScript, FaultStage, Hold, Silence
from senderproxy.simulator.provider_replies import server_reply
from senderproxy.tracking.queue_words import QueueAction
from senderproxy.tracking.record import Lane, Query, RecipientStatus
from senderproxy.tracking.serialize import read_record
from senderproxy.tracking.timeline import current_state
from tests.senderproxy.relay.office import SECRET
from tests.senderproxy.relay.routes import OPEN, RoutesOffice, routes_office

KUNDE, FRIEND, ANNA = "kunde@kunde.example", "freund@elsewhere.example", "anna@firma.example"
TO_RELAY = ("@kunde.example", "relay")
RELAY = Lane("smarthost", "relay")


async def until_blocked(office: RoutesOffice, lane: Lane = RELAY) -> None:
    """Wait until the lane is blocked and no attempt is in progress, which would block it again."""

    async def is_blocked() -> bool:
        found = await office.spool.find(Query(unfinished=True), limit=100)
        return lane in office.runner.blocked and not any(record.leased for record in found)

    await office.until(is_blocked, f"{lane} is known to be down")


async def retry_all(office: RoutesOffice) -> None:
    """Let all queued mail be tried again, as after the longest wait."""
    await office.pass_time(hours=1)


async def test_a_dead_smarthost_delays_no_other_mail(tmp_path: Path) -> None:
    async with routes_office(tmp_path, TO_RELAY) as office:
        await office.relay_host.go_offline()
        kept = [(await office.submit(KUNDE, FRIEND, at="devices", text=f"Brief {n}"))[0] for n in range(20)]
        await office.until(lambda: len(office.received("account")) == 20, "the friend has everything")
        await until_blocked(office)
        assert office.received("account") == [FRIEND] * 20
        assert "account:anna" not in map(str, office.runner.blocked)
        assert office.received("relay") == []
        await office.relay_host.go_online()
        await retry_all(office)
        await office.until_all_is_done()
        assert office.received("relay") == [KUNDE] * 20
        assert office.received("account") == [FRIEND] * 20
        for message in kept:
            assert await office.statuses(message) == {KUNDE: "delivered", FRIEND: "delivered"}


async def test_a_slow_smarthost_holds_up_its_own_mail_only(tmp_path: Path) -> None:
    script = FaultScript(Fault(FaultStage.MAIL, Silence()))
    async with routes_office(tmp_path, TO_RELAY, scripts=(None, script, None), connections=1) as office:
        for n in range(12):
            await office.submit(KUNDE, at="devices", text=f"slow {n}")
        for n in range(12):
            await office.submit(FRIEND, at="devices", text=f"fast {n}")
        await office.until(lambda: len(office.received("account")) == 12, "the others are not held up")
        assert office.received("relay") == []


async def test_a_message_that_passes_through_wakes_the_lane_of_its_server(tmp_path: Path) -> None:
    async with routes_office(tmp_path, TO_RELAY) as office:
        await office.relay_host.go_offline()
        await office.submit(KUNDE, at="devices", text="waits")
        await until_blocked(office)
        await office.relay_host.go_online()
        assert (await office.submit(KUNDE, text="passes"))[1].code == 250
        await office.until_all_is_done()
        assert office.received("relay") == [KUNDE, KUNDE]


async def test_waiting_mail_follows_a_changed_route(tmp_path: Path) -> None:
    async with routes_office(tmp_path, TO_RELAY) as office:
        await office.relay_host.go_offline()
        message, _ = await office.submit(KUNDE, FRIEND, at="devices")
        await until_blocked(office)
        office.route(("@kunde.example", "internal"))
        await office.until_all_is_done()
        assert (office.received("internal"), office.received("account")) == ([KUNDE], [FRIEND])
        events = await office.spool.events(message)
        (moved,) = [event for event in events if event.facts.get("what") == "way"]
        assert moved.recipients == (KUNDE,)
        assert moved.facts["old"] == "smarthost:relay"
        assert moved.facts["new"].startswith("internal:")


async def test_mail_of_a_smarthost_that_is_not_configured_any_more_goes_by_the_account(tmp_path: Path) -> None:
    async with routes_office(tmp_path, TO_RELAY) as office:
        await office.relay_host.go_offline()
        for n in range(3):
            await office.submit(KUNDE, at="devices", text=f"Brief {n}")
        await until_blocked(office)
        office.courier.hops.keep(set())
        office.route()
        await office.until_all_is_done()
        assert office.received("account") == [KUNDE] * 3
        assert office.received("relay") == []


async def test_mail_that_waits_for_an_account_follows_a_new_route(tmp_path: Path) -> None:
    async with routes_office(tmp_path) as office:
        office.drawer.set_password("anna", "falsch")
        message, _ = await office.submit(KUNDE, FRIEND, at="devices")
        await until_blocked(office, Lane.of_account("anna"))
        office.drawer.set_password("anna", SECRET)
        office.route(TO_RELAY)
        await office.until_all_is_done()
        assert (office.received("relay"), office.received("account")) == ([KUNDE], [FRIEND])
        assert await office.statuses(message) == {KUNDE: "delivered", FRIEND: "delivered"}


async def test_a_new_route_moves_a_large_queue_without_an_attempt_by_the_old_way(tmp_path: Path) -> None:
    async with routes_office(tmp_path, TO_RELAY) as office:
        await office.relay_host.go_offline()
        for n in range(30):
            await office.submit(KUNDE, at="devices", text=f"Brief {n}")
        await until_blocked(office)
        await office.relay_host.go_online()
        office.route(("@kunde.example", "account bert"))
        await office.until_all_is_done()
        assert office.received("account") == [KUNDE] * 30
        assert {taken.login for taken in office.simulator.received} == {"bert@firma.example"}
        assert office.received("relay") == []


async def test_mail_of_a_server_is_delivered_after_a_restart(tmp_path: Path) -> None:
    async with routes_office(tmp_path, TO_RELAY) as office:
        await office.relay_host.go_offline()
        message, _ = await office.submit(KUNDE, FRIEND, at="devices")
        await until_blocked(office)
        await office.until(lambda: office.received("account"), "the friend has it")
        await office.relay_host.go_online()
        await office.restart()
        await office.until_all_is_done()
        assert (office.received("relay"), office.received("account")) == ([KUNDE], [FRIEND])
        assert await office.statuses(message) == {KUNDE: "delivered", FRIEND: "delivered"}


async def test_mail_for_a_dead_server_expires_with_a_report(tmp_path: Path) -> None:
    async with routes_office(tmp_path, TO_RELAY) as office:
        await office.relay_host.go_offline()
        message, _ = await office.submit(KUNDE, FRIEND, at="devices")
        await until_blocked(office)

        async def friend_has_it() -> bool:
            return await office.statuses(message) == {KUNDE: "waiting", FRIEND: "delivered"}

        await office.until(friend_has_it, "no other recipient is late, too")
        await office.pass_time(hours=49)
        await office.until_all_is_done()
        (report,) = office.reports()  # on the end, none on the delay before it
        assert report.login == ANNA
        assert KUNDE.encode() in report.content
        assert FRIEND.encode() not in report.content.partition(b"message/rfc822")[0]
        assert await office.statuses(message) == {KUNDE: "expired", FRIEND: "delivered"}


async def test_the_clients_wait_ends_although_a_server_is_slow(tmp_path: Path) -> None:
    released = asyncio.Event()
    script = FaultScript(Fault(FaultStage.DOT, Hold(released)))
    async with routes_office(tmp_path, TO_RELAY, scripts=(None, script, None)) as office:
        message, answer = await office.submit(KUNDE, FRIEND, at="hasty")
        assert answer.code == 250
        assert "has not replied yet" in answer.text
        released.set()
        await office.until_all_is_done()
        assert (office.received("relay"), office.received("account")) == ([KUNDE], [FRIEND])
        assert await office.statuses(message) == {KUNDE: "delivered", FRIEND: "delivered"}


async def test_what_outlasts_the_clients_wait_and_is_deferred_waits_in_its_lane(tmp_path: Path) -> None:
    later = replace(OPEN, recipient_replies={KUNDE: server_reply(450, "4.2.1 later")})
    released = asyncio.Event()
    script = FaultScript(Fault(FaultStage.RCPT, Hold(released)))
    async with routes_office(tmp_path, TO_RELAY, relay=later, scripts=(None, script, None)) as office:
        message, _ = await office.submit(KUNDE, FRIEND, at="hasty")
        released.set()

        async def is_settled() -> bool:
            return await office.statuses(message) == {KUNDE: "waiting", FRIEND: "delivered"}

        await office.until(is_settled, "the attempt ends")
        record = await office.record(message)
        assert {str(path): str(lane) for path, lane in record.lanes.items()} == {KUNDE: "smarthost:relay"}
        office.relay_host.settings = OPEN
        await retry_all(office)
        await office.until_all_is_done()
        assert (office.received("relay"), office.received("account")) == ([KUNDE], [FRIEND])


async def test_nothing_is_doubled_when_a_reply_is_lost(tmp_path: Path) -> None:
    """Neither by the same way at once, nor by another one. The queue tries again later, as for one way."""
    script = FaultScript(Fault(FaultStage.DOT, Drop(after_storing=True), times=1))
    async with routes_office(tmp_path, TO_RELAY, scripts=(None, script, None)) as office:
        message, answer = await office.submit(KUNDE, FRIEND)
        assert answer.code == 250
        assert Counter(office.received("relay") + office.received("account")) == {KUNDE: 1, FRIEND: 1}
        assert await office.statuses(message) == {KUNDE: "waiting", FRIEND: "delivered"}
        events = await office.spool.events(message)
        (unknown,) = [event for event in events if event.facts.get("maybe_taken")]
        assert (unknown.facts["way"], "account" in unknown.facts) == ("smarthost relay", False)


async def test_a_stop_in_the_middle_loses_and_doubles_nothing(tmp_path: Path) -> None:
    script = FaultScript(Fault(FaultStage.MAIL, Silence(), times=1))
    async with routes_office(tmp_path, TO_RELAY, scripts=(None, script, None)) as office:
        task = asyncio.create_task(office.submit(KUNDE, FRIEND, at="keeps"))
        await office.until(lambda: script.applied and office.received("account"), "one part is done, one hangs")
        task.cancel()
        message, answer = await task
        assert answer.code == 250
        assert await office.statuses(message) == {KUNDE: "waiting", FRIEND: "delivered"}
        await retry_all(office)
        await office.until_all_is_done()
        assert (office.received("relay"), office.received("account")) == ([KUNDE], [FRIEND])


async def test_an_operator_makes_a_message_due_in_its_lane(tmp_path: Path) -> None:
    async with routes_office(tmp_path, TO_RELAY) as office:
        admin = QueueAdmin(
            lambda: office.spool,
            office.clock,
            office.report_builder.report_cancellation,
            office.runner.note_lane_due,
            lambda: office.runner.blocked,
        )
        await office.relay_host.go_offline()
        message, _ = await office.submit(KUNDE, FRIEND, at="devices")
        await until_blocked(office)

        async def is_settled() -> bool:
            record = await office.record(message)
            return not record.leased and await office.statuses(message) == {KUNDE: "waiting", FRIEND: "delivered"}

        await office.until(is_settled, "the friend has it")
        (entry,) = (await admin.list_messages(Query(id=message)))["messages"]
        kunde, friend = entry["recipients"]
        assert kunde["lane"] == "smarthost:relay"
        assert "refused the connection" in kunde["blocked"]["why"]
        assert "lane" not in friend
        record = read_record(entry)
        assert str(record.lanes[next(iter(record.lanes))]) == "smarthost:relay"
        (state,) = [line for line in current_state(record, None, office.clock.now()) if "waiting" in line]
        assert "by smarthost relay; it takes nothing now" in state
        await office.relay_host.go_online()
        assert (await admin.change(QueueAction.RETRY, [message], "root"))["changed"] == [message]
        await office.until_all_is_done()
        assert office.received("relay") == [KUNDE]


async def test_a_held_message_is_released_in_all_its_lanes(tmp_path: Path) -> None:
    async with routes_office(tmp_path, TO_RELAY) as office:
        admin = QueueAdmin(
            lambda: office.spool, office.clock, office.report_builder.report_cancellation, office.runner.note_lane_due
        )
        office.drawer.set_password("anna", "falsch")
        await office.relay_host.go_offline()
        message, _ = await office.submit(KUNDE, FRIEND, at="devices")
        await until_blocked(office)
        await until_blocked(office, Lane.of_account("anna"))
        assert (await admin.change(QueueAction.HOLD, [message], "root"))["changed"] == [message]
        record = await office.record(message)
        assert {state.status for state in record.recipients.values()} == {RecipientStatus.HELD}
        office.drawer.set_password("anna", SECRET)
        await office.relay_host.go_online()
        assert (await admin.change(QueueAction.RELEASE, [message], "root"))["changed"] == [message]
        await office.until_all_is_done()
        assert (office.received("relay"), office.received("account")) == ([KUNDE], [FRIEND])


async def test_a_message_in_a_lane_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    async with routes_office(tmp_path) as office:
        office.runner.note_lane_due(Lane("future", "x"))
        assert not office.runner.blocked
        assert (await office.submit(FRIEND, at="devices"))[1].code == 250
        await office.until_all_is_done()


def test_two_attempts_of_one_message_are_one_entry_of_the_crash_journal(tmp_path: Path) -> None:
    journal = CrashJournalFile(tmp_path / "under-way", lambda: "crashed")
    assert journal.take_suspects() == []
    for _ in range(3):
        journal.attempt_started("Abcdefgh2345")
    journal.attempt_started("Other2345678")
    for _ in range(2):
        journal.attempt_ended("Abcdefgh2345")
    journal.close()
    again = CrashJournalFile(tmp_path / "under-way", lambda: "crashed")
    assert set(again.take_suspects()) == {"Abcdefgh2345", "Other2345678"}
    for one in ("Abcdefgh2345", "Abcdefgh2345", "Other2345678"):
        again.attempt_started(one)
    for one in ("Abcdefgh2345", "Abcdefgh2345", "Other2345678"):
        again.attempt_ended(one)
    again.close()
    assert CrashJournalFile(tmp_path / "under-way", lambda: "crashed").take_suspects() == []
