"""The health of an account and what was learned about it, which instances over one database take over from each other."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest

from senderproxy.delivery import learned_accounts
from senderproxy.mail.outcome import Deferred, Delivered
from senderproxy.relay.learned_state import LearnedState
from senderproxy.simulator.faults import Fault, FaultScript, FaultStage, ReplyWith
from senderproxy.simulator.provider_replies import SEND_LIMIT
from senderproxy.simulator.rules import SimulatedMailbox
from senderproxy.simulator.server import Simulator
from senderproxy.spool.postgresql.target import DatabaseTarget
from tests.fakes.still_clock import StillClock
from tests.senderproxy.delivery.messages import ANNA, MAILBOXES, SECRET, SETTINGS, smarthost_of, to
from tests.senderproxy.delivery.office import Office, office
from tests.senderproxy.spool.postgresql.open_spool import Databases, opened
from tests.senderproxy.spool.postgresql.test_instances import until

OTHER_PASSWORD = replace(SETTINGS, mailboxes={**MAILBOXES, ANNA: SimulatedMailbox("geheim-other")})


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@asynccontextmanager
async def member(target: DatabaseTarget, clock: StillClock, simulator: Simulator) -> AsyncIterator[Office]:
    """The courier of one instance."""
    async with opened(target, clock) as spool, office(smarthost_of(simulator)) as o:
        o.courier.use_providers({o.provider.name: o.provider})
        learned, facts = LearnedState(o.clock), o.courier.account_facts()
        facts.is_shared = True
        o.courier.observers.state = learned.register(learned_accounts.STATE, facts)
        learned.share(learned_accounts.STATE, facts)
        learned.follow(spool)
        await learned.open(spool)
        yield o
        await learned.close()


def state(o: Office) -> str:
    return next(entry.state for entry in o.courier.status({}) if entry.account == "anna")


async def test_a_refused_password_is_tried_by_one_instance_alone(databases: Databases, clock: StillClock) -> None:
    target = databases.new()
    async with (
        Simulator(OTHER_PASSWORD) as simulator,
        member(target, clock, simulator) as one,
        member(target, clock, simulator) as two,
    ):
        assert isinstance(await one.send_one(), Deferred)
        await until(lambda: state(two) == "suspended")
        assert isinstance(await two.send_one(), Deferred)
        assert simulator.failed_logins() == 1

        sent: list[str] = []
        two.courier.observers.healthy = sent.append
        one.courier.resume("anna")
        await until(lambda: state(two) == "healthy")
        assert "anna" in sent  # its queue goes on


@pytest.mark.parametrize("same_vault", [True, False])
async def test_a_pause_holds_everywhere_until_a_message_was_accepted(
    databases: Databases, clock: StillClock, *, same_vault: bool
) -> None:
    target = databases.new()
    limit = FaultScript(Fault(FaultStage.MAIL, ReplyWith(SEND_LIMIT), times=1))
    async with (
        Simulator(SETTINGS, limit) as simulator,
        member(target, clock, simulator) as one,
        member(target, clock, simulator) as two,
    ):
        if not same_vault:
            two.accounts.set_password("anna", SECRET)  # another version of the same one
        assert isinstance(await one.send_one(), Deferred)
        assert state(one) == "paused"
        await until(lambda: state(two) == "paused")
        assert isinstance(await two.send_one(), Deferred)
        assert len(simulator.sessions) == 1
        for o in (one, two):
            o.clock.ahead += 61
        assert isinstance(await two.send_one(), Delivered)
        await until(lambda: state(one) == "healthy")


def recipients_limit(o: Office) -> int | None:
    state = o.courier._states.get("anna")
    return None if state is None else state.observed_recipient_limit.limit


async def test_a_limit_of_recipients_that_one_instance_learned_is_kept_by_the_other(
    databases: Databases, clock: StillClock
) -> None:
    target = databases.new()
    carls = to(*(f"carl{number}@kunde.example" for number in range(5)))
    async with (
        Simulator(replace(SETTINGS, recipients_per_message=2)) as simulator,
        member(target, clock, simulator) as one,
        member(target, clock, simulator) as two,
    ):
        assert all(isinstance(outcome, Delivered) for outcome in await one.send(envelope=carls))
        await until(lambda: recipients_limit(two) == 2)
        before = len(simulator.received)
        assert all(isinstance(outcome, Delivered) for outcome in await two.send(envelope=carls))
        assert [len(taken.recipients) for taken in simulator.received[before:]] == [2, 2, 1]


async def test_a_login_that_worked_at_one_instance_is_a_proof_at_the_other(
    databases: Databases, clock: StillClock
) -> None:
    target = databases.new()
    async with (
        Simulator(SETTINGS) as simulator,
        member(target, clock, simulator) as one,
        member(target, clock, simulator) as two,
    ):
        assert isinstance(await one.send_one(), Delivered)
        await until(lambda: "anna" in two.courier._states and two.courier._states["anna"].proven is not None)
        found, there = two.courier._states["anna"].proven, one.courier._states["anna"].proven
        assert found is not None
        assert there is not None
        assert found.version == there.version
        assert abs(found.at - there.at) < timedelta(minutes=1)  # two clocks, and the moment of writing
