"""Several ways of one message at once: an error or an end in one part leaves the outcomes of the others."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from senderproxy.mail.address import ForwardPath, parse_address
from senderproxy.mail.outcome import Deferred, Delivered, Failed
from senderproxy.mail.reply import reply
from senderproxy.mail.submission import Submission
from senderproxy.relay.decide import Decision
from senderproxy.relay.ports import Outcomes
from senderproxy.relay.way_delivery import deliver_by_ways
from senderproxy.relay.ways import NoWay, RoutedOutcomes
from senderproxy.routing.recipient_routes import AccountVia, MxVia
from senderproxy.routing.route import Refusal
from tests.fakes.arrivals import arrival
from tests.senderproxy.relay.test_ways import CHEF, FRIEND, INTERNAL, KUNDE, RELAY, decided

OKAY = Delivered(reply(250, "2.0.0", "taken"))
BACK = Deferred(reply(451, "5.7.1", "not from you"), handed_back=True)
MESSAGE = arrival("m1").submission
Part = Callable[[Decision, Sequence[ForwardPath]], Awaitable[Outcomes]]


def three_ways() -> Decision:
    """Kunde by the smarthost, Chef by the internal server, the friend by the author's account."""
    decision = decided(("kunde@kunde.example", RELAY), ("chef@kunde.example", INTERNAL))
    assert isinstance(decision, Decision)
    return decision


def name_of(decision: Decision) -> str:
    return f"account {decision.route.account.id}" if decision.hop is None else str(decision.hop)


async def delivered(part: Part, decision: Decision | None = None) -> tuple[RoutedOutcomes, list[tuple[str, list[str]]]]:
    """The outcomes, and the parts that were asked for."""
    asked: list[tuple[str, list[str]]] = []

    async def deliver(_submission: Submission, one: Decision, recipients: Sequence[ForwardPath]) -> Outcomes:
        asked.append((name_of(one), [path.local_part for path in recipients]))
        assert one.ways is None
        return await part(one, recipients)

    found = await deliver_by_ways(deliver, MESSAGE, decision or three_ways(), (KUNDE, CHEF, FRIEND))
    return found, asked


def by_name(**outcomes: Any) -> Part:
    """Parts with these outcomes, by `account`, `smarthost` or `internal`; an exception is raised."""

    async def part(decision: Decision, recipients: Sequence[ForwardPath]) -> Outcomes:
        outcome = outcomes.get(name_of(decision).split()[0], OKAY)
        if isinstance(outcome, BaseException):
            raise outcome
        return dict.fromkeys(recipients, outcome)

    return part


async def test_each_part_goes_its_own_way() -> None:
    found, asked = await delivered(by_name())
    assert list(found) == [KUNDE, CHEF, FRIEND]
    assert set(found.values()) == {OKAY}
    assert dict(found.sent_by) == {KUNDE: "smarthost relay", CHEF: "internal 192.168.1.20:25", FRIEND: "account anna"}
    assert sorted(asked) == [
        ("account anna", ["freund"]),
        ("internal 192.168.1.20:25", ["chef"]),
        ("smarthost relay", ["kunde"]),
    ]


async def test_an_error_in_one_part_defers_its_recipients_only(caplog: pytest.LogCaptureFixture) -> None:
    found, _ = await delivered(by_name(smarthost=ZeroDivisionError()))
    assert found[CHEF] == found[FRIEND] == OKAY
    assert isinstance(found[KUNDE], Deferred)
    assert "internal error for the recipients of one route" in caplog.text


async def test_an_error_in_all_parts_is_raised() -> None:
    fault = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        await delivered(by_name(smarthost=fault, internal=fault, account=fault))


async def test_what_a_server_hands_back_is_sent_by_the_author_alone() -> None:
    found, asked = await delivered(by_name(smarthost=BACK))
    assert found[KUNDE] == OKAY
    assert found.sent_by[KUNDE] == "account anna"
    assert ("account anna", ["kunde"]) in asked
    assert len(asked) == 4


async def test_a_refused_way_asks_nobody() -> None:
    for code, kind in ((550, Failed), (451, Deferred)):
        decision = three_ways()
        assert decision.ways is not None
        refusal = Refusal(reply(code, f"{code // 100}.3.5", "not by this route"))
        object.__setattr__(decision, "ways", {**decision.ways, KUNDE: NoWay(refusal)})
        found, asked = await delivered(by_name(), decision)
        assert isinstance(found[KUNDE], kind)
        assert found.sent_by[KUNDE] == ""
        assert len(asked) == 2


async def test_recipients_that_are_not_due_are_left_out() -> None:
    asked: list[str] = []

    async def deliver(_submission: Submission, one: Decision, recipients: Sequence[ForwardPath]) -> Outcomes:
        asked.append(name_of(one))
        return dict.fromkeys(recipients, OKAY)

    found = await deliver_by_ways(deliver, MESSAGE, three_ways(), (CHEF,))
    assert (list(found), asked) == ([CHEF], ["internal 192.168.1.20:25"])


async def cancelled(*, after_the_dot: str = "", done: str = "") -> RoutedOutcomes:
    """The outcomes of an attempt that is cancelled while two parts go on: one after its final dot has its outcome."""
    started = asyncio.Event()
    count = 0

    async def part(decision: Decision, recipients: Sequence[ForwardPath]) -> Outcomes:
        nonlocal count
        count += 1
        if count == 3:
            started.set()
        name = name_of(decision).split()[0]
        if name == done:
            return dict.fromkeys(recipients, OKAY)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if name != after_the_dot:
                raise
        return dict.fromkeys(recipients, OKAY)

    task = asyncio.create_task(delivered(part))
    await started.wait()
    task.cancel()
    found, _ = await task
    return found


async def test_a_cancellation_leaves_what_was_sent() -> None:
    found = await cancelled(after_the_dot="smarthost", done="internal")
    assert found[KUNDE] == found[CHEF] == OKAY
    assert isinstance(found[FRIEND], Deferred)
    assert "shutting down" in found[FRIEND].reply.text


async def test_a_cancellation_before_every_dot_is_one() -> None:
    with pytest.raises(asyncio.CancelledError):
        await cancelled()


async def test_no_more_than_eight_ways_at_once() -> None:
    accounts = [parse_address(f"r{n}@d{n}.example") for n in range(30)]
    decision = decided(("*", MxVia()), recipients=tuple(accounts))
    assert isinstance(decision, Decision)
    running = most = 0

    async def deliver(_submission: Submission, one: Decision, recipients: Sequence[ForwardPath]) -> Outcomes:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return dict.fromkeys(recipients, OKAY)

    found = await deliver_by_ways(deliver, MESSAGE, decision, accounts)
    assert list(found) == accounts
    assert most == 8
    assert len({str(way) for way in (decision.ways or {}).values()}) == 30


async def test_recipients_of_one_account_are_one_part() -> None:
    decision = decided(("@kunde.example", AccountVia("open")))
    assert isinstance(decision, Decision)
    _, asked = await delivered(by_name(), decision)
    assert sorted(asked) == [("account anna", ["freund"]), ("account open", ["kunde", "chef"])]
