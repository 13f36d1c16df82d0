"""Connections of one account in several instances: together never more than its limit, and none goes without for long."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from senderproxy.delivery import server_sessions, shared_connections
from senderproxy.delivery.shared_connections import SharedConnections
from senderproxy.mail.outcome import Delivered
from senderproxy.relay.ports import SpoolError
from senderproxy.relay.shared_ports import ReachedLimit, SlotNotices, SlotReport, SlotRequest
from senderproxy.simulator.server import Simulator
from senderproxy.spool.postgresql.store import PostgresqlSpool
from senderproxy.spool.postgresql.target import DatabaseTarget
from tests.fakes.still_clock import StillClock
from tests.senderproxy.delivery.messages import ANNA, SETTINGS, smarthost_of
from tests.senderproxy.delivery.office import Office, office
from tests.senderproxy.spool.postgresql.open_spool import Databases, joined, opened
from tests.senderproxy.spool.postgresql.test_instances import hush, take_over, until, vanish


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


SERVER = "mail.firma.example"


async def take(
    spool: PostgresqlSpool,
    account: str,
    sessions: int,
    limit: int,
    *,
    server: str = SERVER,
    server_limit: int | None = None,
    is_urgent: bool = False,
    is_first: bool = False,
) -> ReachedLimit | None:
    request = SlotRequest(account, sessions, limit, is_urgent, server, server_limit, is_first)
    return await spool.connection_slots.take(request)


async def test_all_instances_together_open_no_more_than_the_limit(databases: Databases, clock: StillClock) -> None:
    target = databases.new()
    async with opened(target, clock) as one, opened(target, clock) as two:
        assert await take(one, "anna", 1, 3) is None
        assert await take(one, "anna", 2, 3) is None
        assert await take(two, "anna", 1, 3) is None
        assert await take(two, "anna", 2, 3) is ReachedLimit.ACCOUNT
        assert await take(two, "bert", 2, 3) is None
        await one.connection_slots.report(SlotReport("anna", 1, SERVER))
        assert await take(two, "anna", 2, 3) is None


async def test_all_accounts_in_all_instances_open_no_more_than_the_limit_of_a_server(
    databases: Databases, clock: StillClock
) -> None:
    target = databases.new()
    async with opened(target, clock) as one, opened(target, clock) as two:
        assert await take(one, "anna", 2, 9) is None  # before a limit is known
        assert await take(two, "bert", 1, 9, server_limit=4) is None
        assert await take(two, "anna", 1, 9, server_limit=4) is None
        assert await take(one, "carl", 1, 9, server_limit=4) is ReachedLimit.SERVER
        assert await take(one, "carl", 1, 9, server="other.example", server_limit=4) is None
        refused = SlotReport("dora", 0, SERVER)
        assert await two.connection_slots.refused(refused, is_first=False) == 4
        assert await two.connection_slots.refused(replace(refused, server="other.example"), is_first=False) == 1
        assert await take(two, "bert", 2, 1, server_limit=4) is ReachedLimit.ACCOUNT
        await one.connection_slots.report(SlotReport("anna", 1, SERVER))
        assert await take(one, "dora", 1, 9, server_limit=4) is None
        assert await take(two, "bert", 2, 9, server_limit=4) is ReachedLimit.SERVER


async def test_a_request_at_a_full_server_reaches_the_other_instances_and_so_does_the_answer(
    databases: Databases, clock: StillClock
) -> None:
    target = databases.new()
    async with opened(target, clock) as one, opened(target, clock) as two:
        heard: list[str] = []

        def note(words: str) -> Callable[[str], None]:
            return lambda subject: heard.append(f"{words} {subject}")

        for name, spool in (("one", one), ("two", two)):
            spool.connection_slots.on_notice(
                SlotNotices(
                    wanted=note(f"{name} wanted"),
                    freed=note(f"{name} freed"),
                    wanted_at=note(f"{name} wanted at"),
                    freed_at=note(f"{name} freed at"),
                    renewed=lambda: None,
                )
            )
        assert await take(one, "anna", 1, 9, server="a.example b.example", server_limit=1) is None
        assert await take(two, "bert", 1, 9, server="a.example b.example", server_limit=1) is ReachedLimit.SERVER
        assert (
            await take(two, "bert", 1, 9, server="a.example b.example", server_limit=1, is_first=True)
            is ReachedLimit.SERVER
        )
        await until(lambda: heard == ["one wanted at a.example b.example"])
        await one.connection_slots.report(SlotReport("anna", 0, "a.example b.example", for_server=True))
        await until(lambda: heard == ["one wanted at a.example b.example", "two freed at a.example b.example"])


async def test_a_program_of_format_6_counts_its_accounts_beside_newer_ones(
    databases: Databases, clock: StillClock
) -> None:
    target = databases.new()
    async with opened(target, clock) as old, opened(target, clock) as new:
        number = old.instance.number
        took = f"SELECT senderproxy.take_connection('anna', {number}, 1, 2, false)"
        assert databases.sql(f"SET search_path = senderproxy; {took}").endswith("t")
        assert await take(new, "anna", 1, 2, server_limit=1) is None  # nobody knows where the other one is
        assert await take(new, "anna", 2, 2, server_limit=9) is ReachedLimit.ACCOUNT
        assert databases.sql(f"SET search_path = senderproxy; {took.replace('1, 2', '2, 2')}").endswith("f")


async def test_the_connections_of_an_instance_that_ended_are_free(databases: Databases, clock: StillClock) -> None:
    target = databases.new()
    async with opened(target, clock) as two:
        one = await joined(target, clock)
        assert await take(one, "anna", 1, 1, server_limit=1) is None
        await hush(two)  # on a slow machine it would take over by itself
        await vanish(one)
        assert await take(two, "anna", 1, 1) is ReachedLimit.ACCOUNT
        assert await take(two, "bert", 1, 1, server_limit=1) is ReachedLimit.SERVER
        await take_over(databases, two, one)
        assert await take(two, "bert", 1, 1, server_limit=1) is None
        assert await take(two, "anna", 1, 1) is None


async def test_an_instance_whose_leases_are_lost_takes_nothing(databases: Databases, clock: StillClock) -> None:
    async with opened(databases.new(), clock) as one:
        one.instance._lose()
        with pytest.raises(SpoolError):
            await take(one, "anna", 1, 1)


@asynccontextmanager
async def member(
    target: DatabaseTarget, clock: StillClock, simulator: Simulator, connections: int
) -> AsyncIterator[tuple[Office, PostgresqlSpool]]:
    async with opened(target, clock) as spool, office(smarthost_of(simulator), connections=connections) as o:
        o.courier.shared_connections = SharedConnections(spool.connection_slots, o.courier.servers)
        yield o, spool


@pytest.mark.parametrize("connections", [1, 2])
async def test_couriers_of_two_instances_send_by_turns_on_the_connections_of_one_account(
    databases: Databases, clock: StillClock, connections: int
) -> None:
    target = databases.new()
    async with (
        Simulator(SETTINGS) as simulator,
        member(target, clock, simulator, connections) as (one, _spool),
        member(target, clock, simulator, connections) as (two, _other),
    ):
        for _ in range(3):
            for o in (one, two):
                outcomes = await asyncio.gather(*(o.send_one() for _ in range(3)))
                assert all(isinstance(outcome, Delivered) for outcome in outcomes)
        assert simulator.observations.max_concurrent_sessions[ANNA] <= connections
        assert len(simulator.received) == 18


async def test_both_instances_send_at_the_same_time_within_the_limit(databases: Databases, clock: StillClock) -> None:
    target = databases.new()
    async with (
        Simulator(SETTINGS) as simulator,
        member(target, clock, simulator, 3) as (one, _spool),
        member(target, clock, simulator, 3) as (two, _other),
    ):
        outcomes = await asyncio.gather(*(o.send_one() for o in (one, two) for _ in range(20)))
        assert all(isinstance(outcome, Delivered) for outcome in outcomes)
        assert simulator.observations.max_concurrent_sessions[ANNA] <= 3


async def test_a_busy_instance_leaves_the_connection_of_an_account_to_another(
    databases: Databases, clock: StillClock
) -> None:
    target = databases.new()
    async with (
        Simulator(SETTINGS) as simulator,
        member(target, clock, simulator, 1) as (one, _spool),
        member(target, clock, simulator, 1) as (two, _other),
    ):
        is_over = False

        async def go_on() -> None:
            while not is_over:
                assert isinstance(await one.send_one(), Delivered)

        busy = [asyncio.create_task(go_on()) for _ in range(4)]
        await simulator.wait_for(20, 40.0)
        assert isinstance(await two.send_one(), Delivered)
        is_over = True
        await asyncio.gather(*busy)
        assert simulator.observations.max_concurrent_sessions[ANNA] == 1


async def test_without_the_database_each_instance_counts_its_own(databases: Databases, clock: StillClock) -> None:
    async with Simulator(SETTINGS) as simulator, member(databases.new(), clock, simulator, 1) as (one, spool):
        spool.instance._lose()
        assert isinstance(await one.send_one(), Delivered)


async def test_closed_sessions_are_reported(databases: Databases, clock: StillClock) -> None:
    async with Simulator(SETTINGS) as simulator, member(databases.new(), clock, simulator, 2) as (one, _spool):
        assert isinstance(await one.send_one(), Delivered)
        assert databases.sql("SELECT sessions FROM senderproxy.connection_slot") == "1"
        one.accounts.set_password("anna", "geheim-neu")
        one.courier.drop_stale()
        await until(lambda: databases.sql("SELECT count(*) FROM senderproxy.connection_slot") == "0")
