"""Failed logins of clients and automatic messages, which instances over one database count together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import pytest

from senderproxy.listener import login_throttle
from senderproxy.listener.login_throttle import LoginThrottle, ThrottleLimits
from senderproxy.mail.address import Address, parse_address
from senderproxy.relay import loop_guard
from senderproxy.relay.counts_of_others import CountsOfOthers
from senderproxy.relay.learned_state import LearnedState
from senderproxy.relay.loop_guard import LoopGuard
from senderproxy.spool.postgresql.store import PostgresqlSpool
from senderproxy.spool.postgresql.target import DatabaseTarget
from tests.fakes.still_clock import StillClock
from tests.senderproxy.spool.postgresql.open_spool import Databases, opened
from tests.senderproxy.spool.postgresql.test_instances import until

KEY = b"k" * 32
HOST, OTHER_HOST = "192.0.2.1", "192.0.2.9"
ANNA: Address = parse_address("anna@firma.example")
BERT: Address = parse_address("bert@kunde.example")


@dataclass
class Member:
    """The counts of one instance."""

    clock: StillClock
    learned: LearnedState
    throttle: LoginThrottle
    guard: LoopGuard
    spool: PostgresqlSpool

    def failed(self, count: int, host: str = HOST, user: str = "anna") -> None:
        for _ in range(count):
            self.throttle.failed(host, user, self.clock.monotonic())

    def locked(self, host: str = HOST, user: str = "anna") -> float:
        return self.throttle.locked_for(host, user, self.clock.monotonic())

    def passes(self, count: int, per_hour: int = 3) -> bool:
        return all(self.guard.check(ANNA, [BERT], per_hour, self.clock.monotonic()) is None for _ in range(count))

    def counted(self) -> int:
        return self.guard.count(ANNA, BERT, self.clock.monotonic())


@asynccontextmanager
async def member(target: DatabaseTarget, clock: StillClock, name: str) -> AsyncIterator[Member]:
    async with opened(target, clock) as spool:
        learned = LearnedState(clock)
        throttle, guard = LoginThrottle(ThrottleLimits(), KEY, CountsOfOthers(name)), LoopGuard()
        guard.others = CountsOfOthers(name)
        throttle.changed = learned.register(login_throttle.LEARNED_KIND, throttle)
        guard.changed = learned.register(loop_guard.LEARNED_KIND, guard)
        learned.share(login_throttle.LEARNED_KIND, throttle)
        learned.share(loop_guard.LEARNED_KIND, guard)
        learned.follow(spool)
        await learned.open(spool)
        yield Member(clock, learned, throttle, guard, spool)
        await learned.close()


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


async def test_failed_logins_at_two_instances_lock_name_and_host_at_both(
    databases: Databases, clock: StillClock
) -> None:
    target = databases.new()
    async with member(target, clock, "one") as one, member(target, clock, "two") as two:
        one.failed(3)
        two.failed(2)
        await until(lambda: one.locked() and two.locked())
        assert one.locked(OTHER_HOST) > 299  # the name, everywhere
        assert two.locked(HOST, "bert") > 299  # the host, for all names
        assert two.locked(OTHER_HOST, "bert") == 0
        clock.pass_by(timedelta(seconds=301))
        assert (one.locked(), two.locked()) == (0, 0)


async def test_each_failure_counts_once_however_often_it_is_written(databases: Databases, clock: StillClock) -> None:
    target = databases.new()
    async with member(target, clock, "one") as one, member(target, clock, "two") as two:
        for _ in range(2):
            one.failed(1)
            two.failed(1)
            await one.learned.flush()
            await two.learned.flush()
        async with member(target, clock, "three") as three:  # it reads the rows of both at its start
            assert three.locked() == 0
            three.failed(1)
            assert three.locked() > 299


async def test_a_successful_login_at_one_instance_forgets_the_failures_at_all(
    databases: Databases, clock: StillClock
) -> None:
    target = databases.new()
    async with member(target, clock, "one") as one, member(target, clock, "two") as two:
        one.failed(3, "192.0.2.2")
        two.failed(2, "192.0.2.3")
        await until(lambda: one.locked(OTHER_HOST) and two.locked(OTHER_HOST))
        clock.pass_by(timedelta(seconds=1))
        two.throttle.succeeded("192.0.2.4", "anna", clock.monotonic())
        assert two.locked(OTHER_HOST) == 0
        await until(lambda: one.locked(OTHER_HOST) == 0)
        await one.learned.flush()
        async with member(target, clock, "three") as three:
            assert three.locked(OTHER_HOST) == 0


async def test_a_host_that_logged_in_at_one_instance_is_trusted_by_all(databases: Databases, clock: StillClock) -> None:
    target = databases.new()
    async with member(target, clock, "one") as one, member(target, clock, "two") as two:
        one.throttle.succeeded(HOST, "anna", clock.monotonic())
        await until(lambda: two.throttle._trusted)
        two.failed(5)
        assert two.locked() > 299
        assert two.locked(HOST, "bert") == 0  # only the name at this host


async def test_a_lock_outlives_the_instances(databases: Databases, clock: StillClock) -> None:
    target = databases.new()
    async with member(target, clock, "one") as one:
        one.failed(5)
    async with member(target, clock, "again") as again:
        assert again.locked() > 299
    assert databases.sql("SELECT count(*) FROM senderproxy.learned") == "2"
    clock.pass_by(timedelta(seconds=301))
    async with member(target, clock, "third"):
        pass
    assert databases.sql("SELECT count(*) FROM senderproxy.learned") == "0"


async def test_a_loop_that_passes_through_two_instances_by_turns_ends_at_the_limit(
    databases: Databases, clock: StillClock
) -> None:
    target = databases.new()
    async with member(target, clock, "one") as one, member(target, clock, "two") as two:
        assert one.passes(1)
        await until(lambda: two.counted() == 1)
        assert two.passes(1)
        await until(lambda: one.counted() == 2)
        assert one.passes(1)
        await until(lambda: two.counted() == 3)
        assert not two.passes(1)
        assert not one.passes(1)
        clock.pass_by(timedelta(seconds=3601))
        assert one.passes(1)


async def test_a_message_that_was_not_sent_counts_nowhere(databases: Databases, clock: StillClock) -> None:
    target = databases.new()
    async with member(target, clock, "one") as one, member(target, clock, "two") as two:
        assert one.passes(2)
        await until(lambda: two.counted() == 2)
        one.guard.uncount(ANNA, [BERT])
        await until(lambda: two.counted() == 1)
        one.guard.uncount(ANNA, [BERT])
        await until(lambda: two.counted() == 0)


async def test_reports_above_the_limit_are_spread_over_the_hours_of_all_instances(
    databases: Databases, clock: StillClock
) -> None:
    target = databases.new()
    async with member(target, clock, "one") as one, member(target, clock, "two") as two:
        assert one.passes(3)
        await until(lambda: two.counted() == 3)
        waits = [two.guard.reserve(ANNA, [BERT], 3, clock.monotonic()) for _ in range(3)]
        assert waits == pytest.approx([3600] * 3, abs=1)
        await until(lambda: one.counted() == 6)
        assert one.guard.reserve(ANNA, [BERT], 3, clock.monotonic()) == pytest.approx(7200, abs=1)
