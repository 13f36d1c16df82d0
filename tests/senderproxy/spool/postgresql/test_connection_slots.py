"""Connections of one account in several instances: together never more than its limit, and none goes without for long."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from senderproxy.delivery.shared_connections import SharedConnections
from senderproxy.mail.outcome import Delivered
from senderproxy.relay.ports import SpoolError
from senderproxy.simulator.server import Simulator
from senderproxy.spool.postgresql.store import PostgresqlSpool
from senderproxy.spool.postgresql.target import DatabaseTarget
from tests.fakes.still_clock import StillClock
from tests.senderproxy.delivery.messages import ANNA, SETTINGS, smarthost_of
from tests.senderproxy.delivery.office import Office, office
from tests.senderproxy.spool.postgresql.open_spool import Databases, joined, opened
from tests.senderproxy.spool.postgresql.test_instances import take_over, until, vanish


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


async def test_all_instances_together_open_no_more_than_the_limit(databases: Databases, clock: StillClock) -> None:
    target = databases.new()
    async with opened(target, clock) as one, opened(target, clock) as two:
        assert await one.connection_slots.take("anna", 1, 3, is_urgent=False)
        assert await one.connection_slots.take("anna", 2, 3, is_urgent=False)
        assert await two.connection_slots.take("anna", 1, 3, is_urgent=False)
        assert not await two.connection_slots.take("anna", 2, 3, is_urgent=False)
        assert await two.connection_slots.take("bert", 2, 3, is_urgent=False)
        await one.connection_slots.report("anna", 1, is_answer=False)
        assert await two.connection_slots.take("anna", 2, 3, is_urgent=False)


async def test_the_connections_of_an_instance_that_ended_are_free(databases: Databases, clock: StillClock) -> None:
    target = databases.new()
    async with opened(target, clock) as two:
        one = await joined(target, clock)
        assert await one.connection_slots.take("anna", 1, 1, is_urgent=False)
        await vanish(one)
        assert not await two.connection_slots.take("anna", 1, 1, is_urgent=False)
        await take_over(databases, two, one)
        assert await two.connection_slots.take("anna", 1, 1, is_urgent=False)


async def test_an_instance_whose_leases_are_lost_takes_nothing(databases: Databases, clock: StillClock) -> None:
    async with opened(databases.new(), clock) as one:
        one.instance._lose()
        with pytest.raises(SpoolError):
            await one.connection_slots.take("anna", 1, 1, is_urgent=False)


@asynccontextmanager
async def member(
    target: DatabaseTarget, clock: StillClock, simulator: Simulator, connections: int
) -> AsyncIterator[tuple[Office, PostgresqlSpool]]:
    async with opened(target, clock) as spool, office(smarthost_of(simulator), connections=connections) as o:
        o.courier.shared_connections = SharedConnections(spool.connection_slots)
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
