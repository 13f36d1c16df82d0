"""Hourly limits that several instances share: by the server's clock never one more than the limit, and never one less."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import pytest

from senderproxy.delivery import shared_quota
from senderproxy.delivery.quota import QuotaExceeded, Remaining, Reservation
from senderproxy.delivery.shared_quota import SharedLimits, SharedQuota
from senderproxy.relay.ports import SpoolError
from senderproxy.relay.shared_ports import HourlyAmounts, HourlyGrant, HourlyLimits, HourlyRequest, HourlyUsed
from senderproxy.spool.postgresql.store import PostgresqlSpool
from senderproxy.spool.postgresql.target import DatabaseTarget
from tests.fakes.still_clock import StillClock
from tests.peers.process import private_folder
from tests.senderproxy.spool.postgresql.cut_line import cut_line
from tests.senderproxy.spool.postgresql.open_spool import Databases, joined, opened
from tests.senderproxy.spool.postgresql.test_instances import SILENT, hush, take_over, until, vanish

ANNA = "anna"
HOUR = timedelta(minutes=61, seconds=13)  # a use counts so long at most
TAKEN = "SELECT coalesce(sum(messages), 0) FROM senderproxy.hourly_portion WHERE instance = {}"


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """No instance is gone here that another one waits for, and each has the time that it needs on a slow machine."""
    monkeypatch.setattr(shared_quota, "_ANSWERS", 8.0)
    monkeypatch.setattr(shared_quota, "_DRAW", 40.0)


@dataclass
class Member:
    """One instance, and its quota of the account."""

    spool: PostgresqlSpool
    limits: SharedLimits
    quota: SharedQuota

    async def send(self, limit: int | None, recipients: int = 1, per_hour: int | None = None) -> bool:
        """As a courier does; True if the message may be sent."""
        return isinstance(await self.ask(limit, recipients, per_hour), Reservation)

    async def ask(
        self, limit: int | None, recipients: int = 1, per_hour: int | None = None
    ) -> Reservation | QuotaExceeded:
        now = self.spool._clock.monotonic()
        found = self.quota.reserve(recipients, messages_per_hour=limit, recipients_per_hour=per_hour, now=now)
        if isinstance(found, Reservation):
            return found
        return await self.quota.draw(recipients, messages_per_hour=limit, recipients_per_hour=per_hour)

    async def send_until_refused(self, limit: int) -> int:
        sent = 0
        while await self.send(limit):
            sent += 1
        return sent


@asynccontextmanager
async def member(target: DatabaseTarget, clock: StillClock) -> AsyncIterator[Member]:
    async with opened(target, clock) as spool:
        limits = SharedLimits(clock)
        limits.use(spool.hourly_limits)
        yield Member(spool, limits, limits.quota(ANNA))
        await limits.close()


async def later(clock: StillClock, step: timedelta, *spools: PostgresqlSpool) -> None:
    """The time passes, on all machines and on the server."""
    clock.pass_by(step)
    for spool in spools:
        await spool.instance.look()


async def test_of_two_instances_exactly_the_limit_leaves(databases: Databases, clock: StillClock) -> None:
    target = databases.new()
    async with member(target, clock) as one, member(target, clock) as two:
        assert await one.send(60)
        assert await two.send(60)
        sent = await asyncio.gather(*(each.send_until_refused(60) for each in (one, two, one, two)))
        assert sum(sent) == 58


async def test_what_one_instance_holds_and_does_not_use_is_given_back(databases: Databases, clock: StillClock) -> None:
    target = databases.new()
    async with member(target, clock) as one, member(target, clock) as two:
        assert await one.send(100)
        assert one.quota._portion.held.messages > 0
        assert await two.send_until_refused(100) == 99
        assert one.quota._portion.held == HourlyAmounts()


async def test_after_an_hour_exactly_the_limit_leaves_again(databases: Databases, clock: StillClock) -> None:
    target = databases.new()
    async with member(target, clock) as one, member(target, clock) as two:
        assert await one.send_until_refused(20) == 20
        await later(clock, timedelta(minutes=30), one.spool, two.spool)
        refusal = await two.ask(20)
        assert isinstance(refusal, QuotaExceeded)
        assert not refusal.is_undecided
        assert refusal.limit == "20 messages an hour"
        assert refusal.seconds is not None
        assert 1800 <= refusal.seconds <= 1872
        assert not await two.send(20)
        await later(clock, timedelta(seconds=1799), one.spool, two.spool)
        assert not await two.send(20)
        await later(clock, HOUR - timedelta(minutes=60), one.spool, two.spool)
        assert await two.send_until_refused(20) + await one.send_until_refused(20) == 20


async def test_a_usual_message_asks_the_database_nothing(databases: Databases, clock: StillClock) -> None:
    async with member(databases.new(), clock) as one:
        assert await one.send(1000)
        commits = one.spool.commits
        for _ in range(49):
            assert isinstance(
                one.quota.reserve(1, messages_per_hour=1000, recipients_per_hour=None, now=clock.monotonic()),
                Reservation,
            )
        assert one.spool.commits == commits


async def test_a_portion_is_drawn_before_it_is_used_up(databases: Databases, clock: StillClock) -> None:
    async with member(databases.new(), clock) as one:
        assert await one.send(1000)
        for _ in range(500):
            await until(lambda: not one.quota._is_refilling)
            found = one.quota.reserve(1, messages_per_hour=1000, recipients_per_hour=None, now=clock.monotonic())
            assert isinstance(found, Reservation)
            assert one.quota._portion.held.messages <= 100


async def test_a_message_that_was_not_accepted_leaves_room_for_another_instance(
    databases: Databases, clock: StillClock
) -> None:
    target = databases.new()
    async with member(target, clock) as one, member(target, clock) as two:
        reserved = [await one.ask(10) for _ in range(10)]
        assert not await two.send(10)
        last = reserved[-1]
        assert isinstance(last, Reservation)
        one.quota.release(last)
        await until(lambda: two.quota._refusal is None)
        assert await two.send(10)
        assert not await one.send(10)
        assert not await two.send(10)


async def test_recipients_are_shared_as_messages_are(databases: Databases, clock: StillClock) -> None:
    target = databases.new()
    async with member(target, clock) as one, member(target, clock) as two:
        assert await one.send(None, 40, 100)
        assert await two.send(None, 40, 100)
        assert not await one.send(None, 21, 100)
        assert await one.send(None, 20, 100)
        assert not await two.send(None, 1, 100)
        refusal = await two.ask(None, 101, 100)
        assert refusal == QuotaExceeded("100 recipients an hour", None)


async def test_another_limit_counts_what_was_sent_before(databases: Databases, clock: StillClock) -> None:
    target = databases.new()
    async with member(target, clock) as one, member(target, clock) as two:
        for _ in range(5):
            assert await one.send(None)
        assert await one.send_until_refused(8) == 3
        assert await two.send_until_refused(12) == 4
        assert one.quota.remaining(messages_per_hour=8, recipients_per_hour=None, now=0.0) == Remaining(0, None)


async def test_what_a_killed_instance_had_counts_as_used(databases: Databases, clock: StillClock) -> None:
    target = databases.new()
    async with member(target, clock) as two:
        spool = await joined(target, clock)
        limits = SharedLimits(clock)
        limits.use(spool.hourly_limits)
        one = Member(spool, limits, limits.quota(ANNA))
        assert await one.send(100)
        held = one.quota._portion.held.messages
        assert held > 0
        await vanish(spool)
        await take_over(databases, two.spool, spool)
        assert databases.sql(TAKEN.format(spool.instance.number)) == "0"
        assert await two.send_until_refused(100) == 100 - 1 - held


async def test_an_instance_that_was_taken_over_uses_nothing_of_its_portion(
    databases: Databases, clock: StillClock
) -> None:
    target = databases.new()
    async with member(target, clock) as one, member(target, clock) as two:
        await hush(one.spool)
        assert await one.send(100)
        number = one.spool.instance.number
        databases.sql(SILENT.format(number))
        await two.spool.instance.look()
        assert databases.sql(TAKEN.format(number)) == "0"
        await one.spool.instance.look()
        assert one.spool.instance.number != number
        assert one.quota._portion.held.messages > 0
        found = one.quota.reserve(1, messages_per_hour=100, recipients_per_hour=None, now=clock.monotonic())
        assert isinstance(found, QuotaExceeded)
        assert found.is_undecided


async def test_without_its_leases_an_instance_sends_nothing_that_has_a_limit(
    databases: Databases, clock: StillClock
) -> None:
    async with member(databases.new(), clock) as one:
        await hush(one.spool)  # the next heartbeat would regain the leases
        assert await one.send(100)
        one.spool.instance._lose()
        refusal = await one.ask(100)
        assert isinstance(refusal, QuotaExceeded)
        assert refusal.is_undecided
        assert await one.send(None)
        await one.spool.instance.look()
        await later(clock, timedelta(seconds=6), one.spool)
        assert await one.send(100)


async def test_before_the_database_is_open_an_account_with_a_limit_sends_nothing(clock: StillClock) -> None:
    quota = SharedLimits(clock).quota(ANNA)
    found = await quota.draw(1, messages_per_hour=5, recipients_per_hour=None)
    assert isinstance(found, QuotaExceeded)
    assert found.is_undecided
    assert quota.check(1, messages_per_hour=5, recipients_per_hour=None, now=clock.monotonic()) is not None
    assert quota.check(1, messages_per_hour=5, recipients_per_hour=None, now=clock.monotonic() + 6) is None


async def test_nothing_is_granted_while_a_step_of_the_clock_is_not_noticed(
    databases: Databases, clock: StillClock
) -> None:
    target = databases.new()
    async with member(target, clock) as one, member(target, clock) as two:
        for each in (one, two):
            await hush(each.spool)
        assert await one.send_until_refused(10) == 10
        clock.time += timedelta(hours=2)
        databases.sql(
            "UPDATE senderproxy.instance SET alive_until = alive_until - interval '2 hours'"
        )  # by the new time
        await one.spool.instance.look()
        with pytest.raises(SpoolError):
            await two.spool.hourly_limits.exchange(request())
        await two.spool.instance.look()
        assert not (await two.spool.hourly_limits.exchange(request())).is_enough
        assert not (await one.spool.hourly_limits.exchange(request())).is_enough


def request(needed: int = 1, limit: int = 10, used: int = 0, kept: int = 0) -> HourlyRequest:
    reported = [HourlyUsed(3600.0, used, used)] if used else []
    return HourlyRequest(
        ANNA, HourlyLimits(limit, None), reported, HourlyAmounts(kept), HourlyAmounts(needed), False, False
    )


async def test_an_exchange_counts_the_use_what_is_kept_and_the_portions_of_others(
    databases: Databases, clock: StillClock
) -> None:
    target = databases.new()
    async with opened(target, clock) as one, opened(target, clock) as two:
        assert await one.hourly_limits.exchange(request(needed=4)) == grant(4, left=6)
        assert await two.hourly_limits.exchange(request(needed=5)) == grant(5, left=1)
        assert await one.hourly_limits.exchange(request(needed=1, used=3, kept=1)) == grant(1, left=0)
        refused = await one.hourly_limits.exchange(request(needed=1, kept=2))
        assert refused == HourlyGrant(HourlyAmounts(), False, HourlyLimits(0, None), True, None)
        assert await two.hourly_limits.exchange(request(needed=0, used=1)) == grant(0, left=4)
        assert await one.hourly_limits.exchange(request(needed=4, kept=2)) == grant(4, left=0)


def grant(messages: int, *, left: int) -> HourlyGrant:
    return HourlyGrant(HourlyAmounts(messages, 0), True, HourlyLimits(left, None), False, None)


async def test_use_that_counts_no_more_is_deleted(databases: Databases, clock: StillClock) -> None:
    async with opened(databases.new(), clock) as spool:
        await spool.hourly_limits.exchange(request(used=3))
        await later(clock, timedelta(minutes=62), spool)
        await spool.sweep(clock.now())
        assert databases.sql("SELECT count(*) FROM senderproxy.hourly_use") == "0"


@pytest.mark.parametrize("cut", ["before", "after"])
async def test_the_outcome_of_an_exchange_is_known_when_the_line_breaks(
    databases: Databases, clock: StillClock, cut: str
) -> None:
    with private_folder("line") as folder:
        async with cut_line(databases.new(), folder) as (line, target), opened(target, clock) as spool:
            await hush(spool)  # its commit would be cut
            assert await spool.hourly_limits.exchange(request(needed=4)) == grant(4, left=6)
            line.cut = cut
            if cut == "after":
                assert await spool.hourly_limits.exchange(request(needed=1, used=2, kept=2)) == grant(1, left=5)
            else:
                with pytest.raises(SpoolError):
                    await spool.hourly_limits.exchange(request(needed=1, used=2, kept=2))
            assert line.cuts == 1
            assert databases.sql("SELECT sum(messages) FROM senderproxy.hourly_portion") == (
                "3" if cut == "after" else "4"
            )
