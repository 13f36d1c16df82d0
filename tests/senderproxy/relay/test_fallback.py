"""The fallback account: when it sends, when it must not, and the return to the account itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from senderproxy.relay.ports import SpoolError
from senderproxy.routing.provider import Limits, Provider, SenderRule
from senderproxy.simulator.faults import Delay, Drop, Fault, FaultScript, FaultStage, Hold, ReplyWith
from senderproxy.simulator.provider_replies import IONOS, UNKNOWN_USER, server_reply
from senderproxy.simulator.rules import OwnershipRule, SimulatedMailbox
from senderproxy.simulator.server import Simulator
from senderproxy.simulator.settings import SimulatorSettings
from senderproxy.tracking.record import Event, EventKind, Lane
from tests.senderproxy.delivery.messages import smarthost_of
from tests.senderproxy.relay.office import KUNDE, SETTINGS, RelayOffice, answering, relay_office, subject

OTHER = "dora@kunde.example"
LIMIT = ReplyWith(server_reply(450, "Mail send limit exceeded."))


class TwoProviders:
    """An office whose accounts are at two providers: anna's fallback is at the second."""

    def __init__(self, office: RelayOffice, second: Simulator, **more: Any) -> None:
        self.office = office
        self.second = second
        provider = Provider("second", (smarthost_of(second),), **more)
        rules = office.relay.rules
        office.relay.rules = replace(rules, providers={**rules.providers, "second": provider})
        office.drawer.add("reserve", "reserve@firma.example", "geheim-reserve")
        office.drawer.accounts["reserve"] = replace(office.drawer.accounts["reserve"], provider="second")
        self.edit("anna", fallback="reserve")

    def edit(self, account: str, **more: Any) -> None:
        """Change an account."""
        self.office.drawer.accounts[account] = replace(self.office.drawer.accounts[account], **more)

    def taken(self) -> list[tuple[str, str]]:
        """The messages that the second provider accepted: their subject, and the first recipient."""
        return [(subject(received.content), received.recipients[0]) for received in self.second.received]

    async def attempts(self, message: str) -> list[Event]:
        """The attempts in the history of a message; waits for them."""

        async def history() -> list[Event]:
            return [e for e in await self.office.spool.events(message) if e.kind is EventKind.ATTEMPTED]

        await self.office.until(history, "the history")
        return await history()


@asynccontextmanager
async def two_providers(
    folder: Path,
    settings: SimulatorSettings = SETTINGS,
    script: FaultScript | None = None,
    second_script: FaultScript | None = None,
    second_settings: SimulatorSettings | None = None,
    more: dict[str, Any] | None = None,
    **limits: Any,
) -> AsyncIterator[TwoProviders]:
    mailboxes = {"reserve@firma.example": SimulatedMailbox("geheim-reserve")}
    chosen = second_settings or SimulatorSettings(mailboxes=mailboxes)
    async with (
        relay_office(folder, settings, script, **limits) as office,
        Simulator(replace(chosen, mailboxes=mailboxes), second_script) as second,
    ):
        yield TwoProviders(office, second, **(more or {}))


# ---- the closed list of causes, with a client that waits ----


async def test_while_the_provider_is_unreachable_the_fallback_sends_and_the_history_says_why(tmp_path: Path) -> None:
    async with two_providers(tmp_path) as two:
        await two.office.simulator.go_offline()
        message, answer = await two.office.submit()
        assert answer.code == 250
        [received] = two.second.received
        assert (received.login, received.reverse_path) == ("reserve@firma.example", "anna@firma.example")
        assert b"From: <anna@firma.example>\r\n" in received.content
        [attempt] = await two.attempts(message)
        assert attempt.facts["account"] == "reserve"
        assert (attempt.facts["instead_of"], attempt.facts["cause"]) == ("anna", "unreachable")
        assert "refused the connection" in attempt.facts["why"]
        assert "sent_as" not in attempt.facts
        assert (await two.office.record(message)).account == "anna"


async def test_a_refused_login_suspends_the_account_and_costs_one_login(tmp_path: Path) -> None:
    async with two_providers(tmp_path) as two:
        two.office.drawer.set_password("anna", "geheim-falsch")
        for number in range(5):
            message, answer = await two.office.submit(text=f"Brief {number}")
            assert answer.code == 250
            [attempt] = await two.attempts(message)
            assert (attempt.facts["account"], attempt.facts["cause"]) == ("reserve", "suspended")
        assert len(two.taken()) == 5
        assert len(two.office.simulator.sessions) == 1
        two.office.drawer.set_password("anna", "geheim-relay")
        _, answer = await two.office.submit(text="wieder selbst")
        assert answer.code == 250
        assert two.office.taken() == ["wieder selbst"]


async def test_the_own_hourly_limit_goes_on_with_the_fallbacks_own_limit(tmp_path: Path) -> None:
    second = {"limits": Limits(messages_per_hour=1)}
    async with two_providers(tmp_path, more=second, messages_per_hour=1) as two:
        for text in ("eins", "zwei"):
            message, answer = await two.office.submit(text=text)
            assert answer.code == 250
        [attempt] = await two.attempts(message)
        assert attempt.facts["cause"] == "limit"
        assert (two.office.taken(), two.taken()) == (["eins"], [("zwei", KUNDE)])
        _, answer = await two.office.submit(text="drei")
        assert str(answer).startswith("451 4.7.1 Account anna has reached its limit of 1 message")  # the first's reply
        await two.office.advance(3700)
        _, answer = await two.office.submit(text="vier")
        assert (answer.code, two.office.taken()) == (250, ["eins", "vier"])


@pytest.mark.parametrize("stage", [FaultStage.MAIL, FaultStage.RCPT, FaultStage.DATA])
async def test_a_limit_of_the_provider_before_the_content_is_no_reason_to_wait(
    tmp_path: Path, stage: FaultStage
) -> None:
    async with two_providers(tmp_path, script=FaultScript(Fault(stage, LIMIT))) as two:
        message, answer = await two.office.submit()
        assert answer.code == 250
        [attempt] = await two.attempts(message)
        assert (attempt.facts["account"], attempt.facts["cause"]) == ("reserve", "limit")
        assert two.office.courier.status({})[0].state == "paused"
        two.office.simulator.script.clear()
        _, answer = await two.office.submit(text="in der Pause")
        assert (answer.code, len(two.taken())) == (250, 2)
        await two.office.advance(61)
        _, answer = await two.office.submit(text="nach der Pause")
        assert (answer.code, two.office.taken()) == (250, ["nach der Pause"])


@pytest.mark.parametrize(
    ("stage", "action"),
    [
        (FaultStage.DOT, LIMIT),
        (FaultStage.DOT, Drop(after_storing=True)),
        (FaultStage.DOT, ReplyWith(server_reply(421, "4.7.0 closing"))),
        (FaultStage.DOT, ReplyWith(server_reply(554, "5.7.1 Spam"))),
        (FaultStage.DOT, ReplyWith(server_reply(451, "4.3.0 later"))),
        (FaultStage.RCPT, ReplyWith(server_reply(450, "4.2.1 Mailbox busy"))),
        (FaultStage.RCPT, ReplyWith(server_reply(550, "5.1.1 No such mailbox"))),
        (FaultStage.MAIL, ReplyWith(IONOS.reverse_path_refused)),
        (FaultStage.MAIL, ReplyWith(server_reply(451, "4.3.0 Local error"))),
        (FaultStage.MAIL, Drop()),
        (FaultStage.BODY, Drop()),
    ],
    ids=lambda value: getattr(value, "value", str(value)),
)
async def test_every_other_reply_stays_the_accounts_own(tmp_path: Path, stage: FaultStage, action: Any) -> None:
    async with two_providers(tmp_path, script=FaultScript(Fault(stage, action))) as two:
        _, answer = await two.office.submit()
        assert answer.code >= 400
        assert len(two.second.sessions) == 0


async def test_busy_sessions_are_no_reason(tmp_path: Path) -> None:
    released = asyncio.Event()
    script = FaultScript(Fault(FaultStage.DOT, Hold(released)))
    async with two_providers(tmp_path, script=script, connections=1) as two:
        timeouts = replace(two.office.courier._opener.timeouts, free_session=0.2)
        two.office.courier.configure(timeouts, "relay.firma.example")
        sending = [asyncio.create_task(two.office.submit(text=text)) for text in ("eins", "zwei")]
        (deferred,), (busy,) = await asyncio.wait(sending, return_when=asyncio.FIRST_COMPLETED)
        assert deferred.result()[1].code == 451
        assert "were busy for" in str(deferred.result()[1])
        released.set()
        assert (await busy)[1].code == 250
        assert len(two.second.sessions) == 0


async def test_a_stop_is_no_reason(tmp_path: Path) -> None:
    async with two_providers(tmp_path) as two:
        await two.office.courier.close(0)
        _, answer = await two.office.submit()
        assert str(answer) == "451 4.3.2 senderproxy is shutting down"
        assert len(two.second.sessions) == 0


# ---- each recipient by itself ----


async def test_only_the_recipients_without_an_answer_go_through_the_fallback(tmp_path: Path) -> None:
    script = FaultScript(Fault(FaultStage.RCPT, LIMIT, after=2))
    settings = replace(answering(SETTINGS, nobody=UNKNOWN_USER), recipients_per_message=3)
    async with two_providers(tmp_path, settings, script) as two:
        message, answer = await two.office.submit(KUNDE, "nobody@kunde.example", OTHER)
        assert answer.text.startswith("Recipients: 2 accepted, 1 refused and reported to the author")
        assert two.office.taken(KUNDE) == ["Guten Tag"]
        assert two.office.taken(OTHER) == []
        assert ("Guten Tag", OTHER) in two.taken()
        assert [received.recipients for received in two.second.received if OTHER in received.recipients] == [(OTHER,)]
        attempts = await two.attempts(message)
        assert {(e.recipients, e.facts["account"]) for e in attempts} == {
            ((KUNDE,), "anna"), (("nobody@kunde.example",), "anna"), ((OTHER,), "reserve")
        }  # fmt: skip


async def test_the_fallbacks_answer_counts_for_its_recipients(tmp_path: Path) -> None:
    second = answering(SimulatorSettings(), nobody=UNKNOWN_USER, busy=server_reply(450, "4.2.1 Mailbox busy"))
    async with two_providers(tmp_path, second_settings=second) as two:
        await two.office.simulator.go_offline()
        message, _ = await two.office.submit(KUNDE, "nobody@kunde.example", "busy@kunde.example")
        assert await two.office.statuses(message) == {
            KUNDE: "delivered", "nobody@kunde.example": "failed", "busy@kunde.example": "waiting"
        }  # fmt: skip


# ---- what the fallback may send ----


async def test_a_fallback_that_would_replace_the_sender_is_not_used(tmp_path: Path) -> None:
    async with two_providers(
        tmp_path, more={"sender_rule": SenderRule.ADDRESS, "from_rule": SenderRule.ADDRESS}
    ) as two:
        await two.office.simulator.go_offline()
        _, answer = await two.office.submit()
        assert answer.code == 451
        assert "refused the connection" in str(answer)
        assert len(two.second.sessions) == 0
        two.edit("anna", fallback_rewrites=True)
        message, answer = await two.office.submit(text="ersetzt")
        assert answer.code == 250
        [attempt] = await two.attempts(message)
        assert attempt.facts["sent_as"] == "reserve@firma.example"
        [received] = two.second.received
        assert received.reverse_path == "reserve@firma.example"
        assert b"From: anna <reserve@firma.example>\r\n" in received.content
        assert b"Reply-To: anna@firma.example\r\n" in received.content


async def test_a_sender_that_the_second_provider_refuses_waits_for_the_account(tmp_path: Path) -> None:
    second = SimulatorSettings(ownership_rule=OwnershipRule.ADDRESS)
    async with two_providers(tmp_path, second_settings=second) as two:
        await two.office.simulator.go_offline()
        _, answer = await two.office.submit()
        assert answer.code == 451
        assert "refused the connection" in str(answer)
        [rule] = two.office.relay.rejected_senders.entries()
        assert (rule.provider, rule.account, rule.address) == ("second", "reserve", "anna@firma.example")


async def test_a_message_above_the_size_of_the_second_provider_waits(tmp_path: Path) -> None:
    async with two_providers(tmp_path, more={"limits": Limits(message_size=50)}) as two:
        await two.office.simulator.go_offline()
        _, answer = await two.office.submit()
        assert answer.code == 451
        assert two.second.received == []


async def test_with_both_down_the_first_accounts_reply_stands(tmp_path: Path) -> None:
    async with two_providers(tmp_path) as two:
        await two.office.simulator.go_offline()
        await two.second.go_offline()
        _, answer = await two.office.submit()
        assert answer.code == 451
        assert "refused the connection" in str(answer)
        await two.office.simulator.go_online()
        _, answer = await two.office.submit(text="sofort wieder")
        assert (answer.code, two.office.taken()) == (250, ["sofort wieder"])


async def test_a_fallbacks_own_fallback_is_not_used(tmp_path: Path) -> None:
    async with two_providers(tmp_path) as two:
        two.edit("reserve", fallback="bert")
        await two.second.go_offline()
        two.office.drawer.set_password("anna", "geheim-falsch")
        _, answer = await two.office.submit()
        assert answer.code == 451
        assert two.office.taken() == []


async def test_a_fallback_that_does_not_exist_changes_nothing(tmp_path: Path) -> None:
    async with two_providers(tmp_path) as two:
        for name in ("niemand", "anna"):
            two.edit("anna", fallback=name)
            two.office.drawer.set_password("anna", "geheim-falsch")
            _, answer = await two.office.submit()
            assert answer.code == 451
        assert len(two.second.sessions) == 0


# ---- the unreachable provider is left alone for half a minute ----


async def test_an_unreachable_provider_is_tried_once_in_half_a_minute(tmp_path: Path) -> None:
    script = FaultScript(Fault(FaultStage.CONNECT, Drop()))
    async with two_providers(tmp_path, script=script) as two:
        for number in range(5):
            _, answer = await two.office.submit(text=f"Brief {number}")
            assert answer.code == 250
        assert len(two.office.simulator.sessions) == 1
        two.office.simulator.script.clear()
        await two.office.advance(31)
        _, answer = await two.office.submit(text="wieder selbst")
        assert (answer.code, two.office.taken()) == (250, ["wieder selbst"])


# ---- queue mode ----


async def test_a_queued_message_of_a_suspended_account_leaves_at_once(tmp_path: Path) -> None:
    async with two_providers(tmp_path) as two:
        two.office.drawer.set_password("anna", "geheim-falsch")
        ids = [(await two.office.submit(at="devices", text=f"Brief {number}"))[0] for number in range(6)]
        await two.office.until(lambda: len(two.taken()) == 6, "all through the fallback")
        await two.office.until_all_is_done()
        assert len(two.office.simulator.sessions) == 1
        assert two.office.runner.blocked == {}
        for message in ids:
            assert await two.office.statuses(message) == {KUNDE: "delivered"}
            assert [e.facts["account"] for e in await two.attempts(message)] == ["reserve"]
        await two.office.restart()
        await two.office.pass_time(hours=1)
        assert len(two.taken()) == 6


async def test_the_queue_returns_to_the_account_at_the_end_of_its_pause(tmp_path: Path) -> None:
    async with two_providers(tmp_path, script=FaultScript(Fault(FaultStage.MAIL, LIMIT, times=1))) as two:
        await two.office.submit(at="devices", text="eins")
        await two.office.until_all_is_done()
        await two.office.submit(at="devices", text="zwei")
        await two.office.until_all_is_done()
        assert [text for text, _ in two.taken()] == ["eins", "zwei"]
        await two.office.advance(61)
        await two.office.submit(at="devices", text="drei")
        await two.office.until_all_is_done()
        assert two.office.taken() == ["drei"]


async def test_a_queue_that_waits_for_both_goes_on_when_the_fallback_can_send_again(tmp_path: Path) -> None:
    async with two_providers(tmp_path) as two:
        for account in ("anna", "reserve"):
            two.office.drawer.set_password(account, "geheim-falsch")
        await two.office.submit(at="devices")
        await two.office.submit(by="reserve@firma.example", at="devices", text="von reserve")
        await two.office.until(
            lambda: {Lane.of_account("anna"), Lane.of_account("reserve")} <= set(two.office.runner.blocked),
            "both are blocked",
        )
        assert two.office.runner.blocked[Lane.of_account("anna")].until is None
        two.office.drawer.set_password("reserve", "geheim-reserve")
        two.office.courier.resume("reserve")  # as `account set-password` does
        await two.office.until_all_is_done()
        assert sorted(two.taken()) == [("Guten Tag", KUNDE), ("von reserve", KUNDE)]
        assert two.office.taken() == []


async def test_messages_that_the_fallback_may_not_send_hold_up_no_other(tmp_path: Path) -> None:
    more = {"sender_rule": SenderRule.ADDRESS, "from_rule": SenderRule.ANY}
    async with two_providers(tmp_path, more=more) as two:
        two.office.drawer.set_password("anna", "geheim-falsch")
        unfit = [(await two.office.submit(at="devices", text=f"unpassend {number}"))[0] for number in range(4)]

        async def all_wait_by_themselves() -> bool:
            records = [await two.office.record(message) for message in unfit]
            waits = [state.due_in for record in records for state in record.recipients.values()]
            return all(wait is not None and wait > timedelta(seconds=20) for wait in waits)

        await two.office.until(all_wait_by_themselves, "each has a time of its own")
        assert two.office.runner.blocked == {}
        # The author is anna's, and the reverse-path one that the fallback has: this one fits.
        await two.office.submit(at="devices", text="passend", path="reserve@firma.example")
        await two.office.until(lambda: two.taken() == [("passend", KUNDE)], "the one that fits")
        for message in unfit:
            [attempt] = await two.attempts(message)  # none of them is tried again and again
            assert (attempt.facts["account"], attempt.facts["outcome"]) == ("anna", "deferred")
        two.office.drawer.set_password("anna", "geheim-relay")
        await two.office.pass_time(hours=1)
        await two.office.until_all_is_done()
        assert sorted(two.office.taken()) == [f"unpassend {number}" for number in range(4)]


async def test_a_reply_lost_after_the_dot_is_never_followed_by_the_fallback(tmp_path: Path) -> None:
    script = FaultScript(Fault(FaultStage.DOT, Drop(after_storing=True), times=1))
    async with two_providers(tmp_path, script=script) as two:
        message, _ = await two.office.submit(at="devices")
        [attempt] = await two.attempts(message)
        assert attempt.facts["maybe_taken"] == "yes"
        two.office.drawer.set_password("anna", "geheim-falsch")
        for _ in range(3):
            before = len(await two.attempts(message))
            await two.office.pass_time(hours=1)
            await two.office.until(partial(_more, two, message, before), "another attempt")
        await two.office.submit(at="devices", text="ein anderer")
        await two.office.until(lambda: ("ein anderer", KUNDE) in two.taken(), "another message goes")
        assert [text for text, _ in two.taken()] == ["ein anderer"]
        assert two.office.taken() == ["Guten Tag"]


async def _more(two: TwoProviders, message: str, count: int) -> bool:
    return len(await two.attempts(message)) > count


async def test_without_its_history_a_message_that_was_tried_before_is_not_given_to_the_fallback(tmp_path: Path) -> None:
    busy = Fault(FaultStage.RCPT, ReplyWith(server_reply(450, "4.2.1 Mailbox busy")), times=1)
    async with two_providers(tmp_path, script=FaultScript(busy)) as two:
        message, _ = await two.office.submit(at="devices")
        assert len(await two.attempts(message)) == 1
        two.office.drawer.set_password("anna", "geheim-falsch")

        async def unreadable(_id: str) -> list[Event]:
            raise SpoolError("the disk does not respond")

        readable = two.office.spool.events
        two.office.spool.events = unreadable  # type: ignore[method-assign,assignment]
        await two.office.pass_time(hours=1)

        async def is_tried_again() -> bool:
            record = await two.office.record(message)
            return all(state.tries == 2 and not record.leased for state in record.recipients.values())

        await two.office.until(is_tried_again, "the second attempt")
        assert two.taken() == []
        two.office.spool.events = readable  # type: ignore[method-assign]
        await two.office.pass_time(hours=1)
        await two.office.until_all_is_done()
        assert two.taken() == [("Guten Tag", KUNDE)]


async def test_a_report_of_ours_goes_through_the_fallback_as_well(tmp_path: Path) -> None:
    second = answering(SimulatorSettings(), nobody=UNKNOWN_USER)
    async with two_providers(tmp_path, second_settings=second) as two:
        two.edit("anna", fallback_rewrites=True)  # its null reverse-path is replaced by the account's own address
        two.office.drawer.set_password("anna", "geheim-falsch")
        await two.office.submit("nobody@kunde.example", at="devices")
        await two.office.until(lambda: two.second.received, "the report")
        [report] = two.second.received
        assert report.recipients == ("anna@firma.example",)
        assert b"multipart/report" in report.content


async def test_a_cancelled_fallback_keeps_what_the_account_itself_has_delivered(tmp_path: Path) -> None:
    script = FaultScript(Fault(FaultStage.RCPT, LIMIT, after=1))
    slow = FaultScript(Fault(FaultStage.MAIL, Delay(30.0)))
    async with two_providers(tmp_path, script=script, second_script=slow) as two:
        submitting = asyncio.create_task(two.office.submit(KUNDE, OTHER))
        await two.office.until(lambda: two.second.script.applied, "the fallback has begun")
        submitting.cancel()
        message, answer = await submitting
        assert answer.code == 250
        assert await two.office.statuses(message) == {KUNDE: "delivered", OTHER: "waiting"}
        assert two.office.taken(KUNDE) == ["Guten Tag"]
