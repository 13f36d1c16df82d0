"""What the courier has learned about accounts, in the courier of the next process."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from senderproxy.delivery import learned_accounts
from senderproxy.mail.outcome import Deferred, Delivered
from senderproxy.relay.learned_state import LearnedState
from senderproxy.simulator.faults import Fault, FaultScript, FaultStage, ReplyWith
from senderproxy.simulator.provider_replies import SEND_LIMIT
from senderproxy.simulator.rules import SimulatedMailbox
from senderproxy.simulator.server import Simulator
from tests.fakes.memory_learned import MemoryLearned
from tests.senderproxy.delivery.messages import ANNA, MAILBOXES, SETTINGS, smarthost_of, to
from tests.senderproxy.delivery.office import MovedClock, Office, office

OTHER_PASSWORD = replace(SETTINGS, mailboxes={**MAILBOXES, ANNA: SimulatedMailbox("geheim-other")})


@asynccontextmanager
async def process(simulator: Simulator, store: MemoryLearned, **limits: object) -> AsyncIterator[Office]:
    """The courier of one process: it restores the table at the start, and writes it at the end."""
    async with office(smarthost_of(simulator), **limits) as o:  # type: ignore[arg-type]
        o.courier.use_providers({o.provider.name: o.provider})
        learned = LearnedState(o.clock)
        o.courier.observers.state = learned.register(learned_accounts.STATE, o.courier.account_facts())
        o.courier.observers.use = learned.register(learned_accounts.USE, o.courier.hourly_use(), adds=True)
        await learned.open(store)
        yield o
        await learned.close()


def state(o: Office) -> str:
    return next(entry.state for entry in o.courier.status({}) if entry.account == "anna")


async def test_a_refused_password_is_not_tried_by_the_next_process_and_a_new_one_is() -> None:
    store = MemoryLearned(MovedClock())
    async with Simulator(OTHER_PASSWORD) as simulator:
        async with process(simulator, store) as o:
            assert isinstance(await o.send_one(), Deferred)
        async with process(simulator, store) as o:
            assert state(o) == "suspended"
            assert o.courier.availability(o.route().account, o.provider).reason is not None
            assert isinstance(await o.send_one(), Deferred)
            assert simulator.failed_logins() == 1
        async with office(smarthost_of(simulator)) as o:
            o.accounts.set_password("anna", "geheim-other")
            learned = LearnedState(o.clock)
            o.courier.observers.state = learned.register(learned_accounts.STATE, o.courier.account_facts())
            await learned.open(store)
            assert state(o) == "healthy"
            assert isinstance(await o.send_one(), Delivered)
            await learned.close()
        assert simulator.failed_logins() == 1
        assert set(json.loads(store.rows["account/anna"][0])) == {"proven"}  # the login that worked


async def test_what_a_wrong_server_refused_is_forgotten_with_another_server() -> None:
    store = MemoryLearned(MovedClock())
    async with Simulator(OTHER_PASSWORD) as wrong, Simulator(SETTINGS) as right:
        async with process(wrong, store) as o:
            assert isinstance(await o.send_one(), Deferred)
            assert state(o) == "suspended"
            o.courier.use_providers({o.provider.name: o.provider})
            assert state(o) == "suspended"
        async with process(right, store) as o:
            assert state(o) == "healthy"
            assert isinstance(await o.send_one(), Delivered)
        async with office(smarthost_of(wrong)) as o:
            o.courier.use_providers({o.provider.name: o.provider})
            await o.send_one()
            fixed = replace(o.provider, smarthosts=(smarthost_of(right),))
            o.courier.use_providers({o.provider.name: fixed})
            assert state(o) == "healthy"
            o.provider = fixed
            assert isinstance(await o.send_one(), Delivered)
        assert wrong.failed_logins() == 2


async def test_no_session_with_a_wrong_port_is_forgotten_with_the_right_one() -> None:
    async with Simulator(SETTINGS) as simulator, office(smarthost_of(simulator)) as o:
        o.courier.use_providers({o.provider.name: o.provider})
        await simulator.go_offline()
        await o.send_one()
        assert state(o) == "no session"
        o.courier.use_providers({o.provider.name: replace(o.provider, mechanisms=("LOGIN",))})
        assert state(o) == "healthy"


async def test_what_was_lifted_before_the_spool_could_be_opened_stays_lifted() -> None:
    store = MemoryLearned(MovedClock())
    async with Simulator(OTHER_PASSWORD) as simulator:
        async with process(simulator, store) as o:
            await o.send_one()
        assert "account/anna" in store.rows
        simulator.settings = SETTINGS
        async with office(smarthost_of(simulator)) as o:
            learned = LearnedState(o.clock)
            o.courier.observers.state = learned.register(learned_accounts.STATE, o.courier.account_facts())
            o.courier.resume("anna")  # the spool is closed
            await learned.open(store)
            assert state(o) == "healthy"
            assert isinstance(await o.send_one(), Delivered)
            await learned.close()
        assert set(json.loads(store.rows["account/anna"][0])) == {"proven"}  # the login that worked


async def test_a_pause_and_its_length_go_on() -> None:
    store = MemoryLearned(MovedClock())
    script = FaultScript(Fault(FaultStage.MAIL, ReplyWith(SEND_LIMIT), session=1))
    async with Simulator(SETTINGS, script) as simulator:
        async with process(simulator, store) as o:
            assert isinstance(await o.send_one(), Deferred)
        async with process(simulator, store) as o:
            assert state(o) == "paused"
            outcome = await o.send_one()
            assert isinstance(outcome, Deferred)
            assert "is paused for another" in str(outcome.reply)
            assert len(simulator.sessions) == 1
            o.clock.ahead = 61
            assert isinstance(await o.send_one(), Delivered)
        assert set(json.loads(store.rows["account/anna"][0])) == {"proven"}  # the login that worked


async def test_the_use_of_the_hour_is_added_to_that_of_the_next_process() -> None:
    store = MemoryLearned(MovedClock())
    async with Simulator(SETTINGS) as simulator:
        for _ in range(2):
            async with process(simulator, store, messages_per_hour=3) as o:
                assert isinstance(await o.send_one(), Delivered)
        async with process(simulator, store, messages_per_hour=3) as o:
            assert isinstance(await o.send_one(), Delivered)
            outcome = await o.send_one()
            assert isinstance(outcome, Deferred)
            assert "limit of 3 messages an hour" in str(outcome.reply)


async def test_observed_limits_are_in_force_in_the_next_process() -> None:
    store, settings = MemoryLearned(MovedClock()), replace(SETTINGS, messages_per_session=2, recipients_per_message=2)
    async with Simulator(settings) as simulator:
        async with process(simulator, store) as o:
            for _ in range(3):
                assert isinstance(await o.send_one(), Delivered)
            envelope = to("a@elsewhere.example", "b@elsewhere.example", "c@elsewhere.example")
            assert all(isinstance(outcome, Delivered) for outcome in await o.send(envelope=envelope))
        sessions, taken = len(simulator.sessions), len(simulator.received)
        async with process(simulator, store) as o:
            for _ in range(3):
                assert isinstance(await o.send_one(), Delivered)
            assert len(simulator.sessions) == sessions + 2  # the first one was closed before its limit
            envelope = to("a@elsewhere.example", "b@elsewhere.example", "c@elsewhere.example")
            assert all(isinstance(outcome, Delivered) for outcome in await o.send(envelope=envelope))
        assert [len(message.recipients) for message in simulator.received[taken:]] == [1, 1, 1, 2, 1]


async def test_facts_about_an_account_that_was_removed_are_deleted() -> None:
    store = MemoryLearned(MovedClock())
    async with Simulator(OTHER_PASSWORD) as simulator:
        async with process(simulator, store) as o:
            await o.send_one()
            await o.send_one("bert")
        assert {key for key in store.rows if "anna" in key} == {"account/anna"}
        async with office(smarthost_of(simulator)) as o:
            o.accounts.remove("anna")
            learned = LearnedState(o.clock)
            learned.register(learned_accounts.STATE, o.courier.account_facts())
            learned.register(learned_accounts.USE, o.courier.hourly_use(), adds=True)
            await learned.open(store)
            await learned.close()
        assert set(store.rows) == {"account/bert", "hourly-use/bert"}
        async with process(simulator, store) as o:
            assert isinstance(await o.send_one("bert"), Delivered)
            o.accounts.remove("bert")
            o.courier.drop_stale()
            await o.courier.close(5)
            o.courier.drop_stale()
        assert not store.rows


@pytest.mark.parametrize("days", [-400, 400])
async def test_a_step_of_the_clock_during_a_stop_never_pauses_an_account_for_longer_than_before(days: int) -> None:
    clock = MovedClock()
    store = MemoryLearned(clock)
    script = FaultScript(Fault(FaultStage.MAIL, ReplyWith(SEND_LIMIT), session=1))
    async with Simulator(SETTINGS, script) as simulator:
        async with process(simulator, store, messages_per_hour=2) as o:
            assert isinstance(await o.send_one(), Deferred)
        clock.ahead = days * 86_400.0
        async with process(simulator, store, messages_per_hour=2) as o:
            left = o.courier.availability(o.route().account, o.provider).retry_after or 0.0
            assert left <= 60 if days < 0 else left == 0
            o.clock.ahead = 61
            assert isinstance(await o.send_one(), Delivered)
