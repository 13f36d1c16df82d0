"""Connections at one server that several instances use: together no more than it takes, and none goes without for long."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest

from senderproxy.delivery import server_limits, server_sessions, shared_connections
from senderproxy.delivery.server_limits import ServerLimits
from senderproxy.delivery.server_sessions import hosts_of
from senderproxy.delivery.shared_connections import SharedConnections
from senderproxy.mail.outcome import Delivered, Outcome
from senderproxy.relay.learned_state import LearnedState
from senderproxy.relay.shared_ports import ReachedLimit, SlotReport, SlotRequest
from senderproxy.simulator.rules import SimulatedMailbox
from senderproxy.simulator.server import Simulator
from senderproxy.spool.postgresql.connection_slots import DatabaseConnectionSlots
from senderproxy.spool.postgresql.store import PostgresqlSpool
from senderproxy.spool.postgresql.target import DatabaseTarget
from tests.fakes.connection_limit import ConnectionLimit
from tests.fakes.still_clock import StillClock
from tests.senderproxy.delivery.messages import SETTINGS, smarthost_of
from tests.senderproxy.delivery.office import Office, office
from tests.senderproxy.spool.postgresql.open_spool import Databases, opened
from tests.senderproxy.spool.postgresql.test_instances import hush, take_over, until, vanish

NAMES = [f"p{number}@firma.example" for number in range(8)]
MAILBOXES = replace(SETTINGS, mailboxes={name: SimulatedMailbox("geheim") for name in NAMES})


class CountedSlots(DatabaseConnectionSlots):
    """The slots of an instance, with the number of questions to the database."""

    questions = 0

    async def take(self, request: SlotRequest) -> ReachedLimit | None:
        self.questions += 1
        return await super().take(request)

    async def report(self, report: SlotReport) -> None:
        self.questions += 1
        await super().report(report)

    async def refused(self, report: SlotReport, *, is_first: bool) -> int:
        self.questions += 1
        return await super().refused(report, is_first=is_first)


@dataclass
class Member:
    """One instance."""

    office: Office
    spool: PostgresqlSpool
    slots: CountedSlots
    limits: ServerLimits

    @property
    def limit(self) -> int | None:
        return self.limits.limit(hosts_of(self.office.provider))

    async def send(self, *names: str, count: int = 1) -> list[Outcome]:
        """Send so many messages of each account at the same time."""
        return await asyncio.gather(*(self.office.send_one(name) for name in names for _ in range(count)))


@asynccontextmanager
async def member(target: DatabaseTarget, clock: StillClock, simulator: Simulator) -> AsyncIterator[Member]:
    async with opened(target, clock) as spool, office(smarthost_of(simulator), connections=2, idle_seconds=600) as o:
        for name in NAMES:
            o.accounts.add(name, name, "geheim")
        limits = o.courier.servers.common = ServerLimits(lambda: [o.provider], o.clock)
        learned = LearnedState(o.clock)
        limits.changed = learned.register(server_limits.STATE, limits)
        learned.share(server_limits.STATE, limits)
        learned.follow(spool)
        await learned.open(spool)
        slots = CountedSlots(spool._connections, spool.instance)
        o.courier.shared_connections = SharedConnections(slots, o.courier.servers)
        yield Member(o, spool, slots, limits)
        await learned.close()


@asynccontextmanager
async def server(connections: int) -> AsyncIterator[tuple[Simulator, ConnectionLimit]]:
    script = ConnectionLimit(connections)
    async with Simulator(MAILBOXES, script) as simulator:
        script.simulator = simulator
        yield simulator, script


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The database answers, however slow the machine is: after three seconds an instance would count its own sessions."""
    monkeypatch.setattr(shared_connections, "_DATABASE", 40.0)
    monkeypatch.setattr(shared_connections, "_WAIT", 40.0)
    for module in (shared_connections, server_sessions):  # so does a session come free, after many messages
        monkeypatch.setattr(module, "IDLE_TIMEOUT", 600.0)


def all_delivered(outcomes: Sequence[Outcome]) -> bool:
    return all(isinstance(outcome, Delivered) for outcome in outcomes)


async def test_one_refused_connection_is_enough_for_all_instances(databases: Databases, clock: StillClock) -> None:
    target = databases.new()
    async with (
        server(3) as (simulator, script),
        member(target, clock, simulator) as one,
        member(target, clock, simulator) as two,
    ):
        assert all_delivered(await one.send(NAMES[0]) + await one.send(NAMES[1]) + await two.send(NAMES[2]))
        assert not script.refused
        assert all_delivered(await two.send(NAMES[3]))
        assert len(script.refused) == 1
        await until(lambda: one.limit == two.limit == 3)
        outcomes = await asyncio.gather(one.send(*NAMES, count=5), two.send(*NAMES, count=5))
        assert [one for part in outcomes for one in part if not isinstance(one, Delivered)] == []
        assert len(script.refused) == 1
        assert script.most == 3
        assert len(simulator.received) == 84


async def test_an_instance_without_a_session_gets_one_of_another(databases: Databases, clock: StillClock) -> None:
    target = databases.new()
    async with (
        server(3) as (simulator, script),
        member(target, clock, simulator) as one,
        member(target, clock, simulator) as two,
    ):
        assert all_delivered([outcome for name in NAMES[:4] for outcome in await one.send(name)])
        await until(lambda: two.limit == 3)
        for _ in range(3):
            assert all_delivered(await two.send(NAMES[4]))
            assert all_delivered(await one.send(*NAMES[:3]))
        assert len(script.refused) == 1
        assert script.most == 3


@pytest.mark.parametrize("connections", [1, 3])
async def test_a_busy_instance_leaves_a_session_to_another(
    databases: Databases, clock: StillClock, connections: int
) -> None:
    target = databases.new()
    async with (
        server(connections) as (simulator, script),
        member(target, clock, simulator) as one,
        member(target, clock, simulator) as two,
    ):
        for name in NAMES[:4]:
            assert all_delivered(await one.send(name))
        await until(lambda: two.limit == connections)
        is_over = False

        async def go_on(name: str) -> None:
            while not is_over:
                assert all_delivered(await one.send(name, count=3))

        busy = [asyncio.create_task(go_on(name)) for name in NAMES[:connections]]
        for name in NAMES[5:8]:
            assert all_delivered(await two.send(name))
        is_over = True
        await asyncio.gather(*busy)
        assert len(script.refused) == 1
        assert script.most == connections


async def test_the_sessions_of_a_killed_instance_come_free_with_its_leases(
    databases: Databases, clock: StillClock
) -> None:
    target = databases.new()
    async with server(2) as (simulator, script), member(target, clock, simulator) as one:
        async with member(target, clock, simulator) as two:
            assert all_delivered([outcome for name in NAMES[:3] for outcome in await two.send(name)])
            await until(lambda: one.limit == 2)
            await hush(one.spool)  # on a slow machine it would take over by itself
            await vanish(two.spool)
        await simulator.drop_sessions()
        request = SlotRequest(NAMES[5], 1, 2, False, server_limits.server_name(hosts_of(one.office.provider)), 2, False)
        assert await one.slots.take(request) is ReachedLimit.SERVER
        await take_over(databases, one.spool, two.spool)
        assert all_delivered(await one.send(NAMES[5], NAMES[6]))
        assert len(script.refused) == 1


async def test_without_the_database_each_instance_counts_its_own(databases: Databases, clock: StillClock) -> None:
    target = databases.new()
    async with (
        server(3) as (simulator, script),
        member(target, clock, simulator) as one,
        member(target, clock, simulator) as two,
    ):
        assert all_delivered(await two.send(NAMES[7]))
        await hush(one.spool)  # the next heartbeat would regain the leases
        one.spool.instance._lose()
        for name in NAMES[:4]:
            assert all_delivered(await one.send(name))
        assert len(script.refused) == 1
        assert one.limit is None  # what was left for one instance is no limit of all
        one.spool.instance.is_lost = False
        assert all_delivered(await one.send(*NAMES[:5]))
        assert script.most == 3


async def test_a_limit_is_known_after_a_restart(databases: Databases, clock: StillClock) -> None:
    target = databases.new()
    async with server(1) as (simulator, script):
        async with member(target, clock, simulator) as one:
            assert all_delivered(await one.send(NAMES[0]) + await one.send(NAMES[1]))
            assert one.limit == 1
        async with member(target, clock, simulator) as again:
            assert again.limit == 1
            assert all_delivered(await again.send(NAMES[0]) + await again.send(NAMES[1]))
        assert len(script.refused) == 1


async def test_a_message_on_an_open_session_asks_no_database(databases: Databases, clock: StillClock) -> None:
    async with server(2) as (simulator, _script), member(databases.new(), clock, simulator) as one:
        for name in NAMES[:3]:
            assert all_delivered(await one.send(name))
        assert one.limit == 2
        await asyncio.sleep(0)
        before = one.slots.questions
        for _ in range(5):
            assert all_delivered(await one.send(NAMES[2]))
        assert one.slots.questions - before <= 1  # the report of the session that was closed for the last one


async def test_accounts_that_wait_for_a_busy_server_ask_the_database_rarely(
    databases: Databases, clock: StillClock
) -> None:
    async with server(1) as (simulator, script), member(databases.new(), clock, simulator) as one:
        for name in NAMES[:2]:
            assert all_delivered(await one.send(name))
        before = one.slots.questions
        busy = asyncio.create_task(one.send(NAMES[1], count=100))
        await simulator.wait_for(5, 40.0)
        waiting = asyncio.create_task(one.send(*NAMES[2:]))
        assert all_delivered(await busy)
        assert all_delivered(await waiting)
        assert one.slots.questions - before < 60  # 106 messages, and six sessions
        assert script.most == 1
