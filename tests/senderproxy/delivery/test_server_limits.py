"""Limits of connections at servers that several instances observe: the same one everywhere, whoever observed it."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from senderproxy.delivery.observed_limits import GROWTH_INTERVAL
from senderproxy.delivery.server_limits import ServerLimits, hosts_named, server_name
from senderproxy.learned import Instant
from senderproxy.routing.provider import Provider, Security, Smarthost
from tests.fakes.still_clock import StillClock

HOSTS = frozenset({"b.example", "a.example"})
NAME = "a.example b.example"
PROVIDER = Provider("office", tuple(Smarthost(host, 465, Security.IMPLICIT_TLS) for host in sorted(HOSTS)))


class Clock(StillClock):
    """A clock whose monotonic seconds the test sets."""

    seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds


def instant(clock: Clock) -> Instant:
    return Instant(datetime(2026, 1, 31, tzinfo=UTC), clock.monotonic())


def limits(clock: Clock) -> tuple[ServerLimits, list[str]]:
    changed: list[str] = []
    found = ServerLimits(lambda: [PROVIDER], clock)
    found.changed = changed.append
    return found, changed


def written(source: ServerLimits, clock: Clock) -> Any:
    return json.loads(json.dumps(source.fact(NAME, instant(clock))))


def test_the_name_of_a_server_is_that_of_its_hosts_in_any_order() -> None:
    assert server_name(HOSTS) == NAME
    assert hosts_named(NAME) == HOSTS


def test_a_limit_of_one_instance_is_that_of_the_other_and_grows_there_too() -> None:
    clock = Clock()
    (one, changed), (two, _) = limits(clock), limits(clock)
    assert one.limit(HOSTS) is None
    assert one.fact(NAME, instant(clock)) is None
    one.record(HOSTS, 3)
    assert changed == [NAME]
    clock.seconds += 1800.0
    two.follow(NAME, written(one, clock), instant(clock))
    assert two.limit(HOSTS) == 3
    clock.seconds += GROWTH_INTERVAL - 1800.0
    assert one.limit(HOSTS) == two.limit(HOSTS) == 4


@pytest.mark.parametrize("observed", [(3, 4), (4, 3)])
def test_of_two_limits_that_were_observed_one_after_the_other_both_have_the_lower(observed: tuple[int, int]) -> None:
    clock = Clock()
    (one, of_one), (two, of_two) = limits(clock), limits(clock)
    one.record(HOSTS, observed[0])
    clock.seconds += 1
    two.record(HOSTS, observed[1])
    facts = written(one, clock), written(two, clock)
    one.follow(NAME, facts[1], instant(clock))
    two.follow(NAME, facts[0], instant(clock))
    assert one.limit(HOSTS) == two.limit(HOSTS) == 3
    lower = of_one if observed[0] == 3 else of_two
    assert len(lower) == 2  # it writes again what the other one may have replaced
    one.follow(NAME, written(two, clock), instant(clock))
    assert len(lower) == 2


def test_a_limit_that_has_grown_does_not_hide_a_lower_one() -> None:
    clock = Clock()
    (one, _), (two, _) = limits(clock), limits(clock)
    one.record(HOSTS, 3)
    clock.seconds += 5 * GROWTH_INTERVAL
    two.record(HOSTS, 20)
    two.follow(NAME, written(one, clock), instant(clock))
    assert two.limit(HOSTS) == 8
    two.record(HOSTS, 5)
    one.follow(NAME, written(two, clock), instant(clock))
    assert one.limit(HOSTS) == 5


def test_a_limit_of_no_provider_here_is_not_kept() -> None:
    clock = Clock()
    found, _changed = limits(clock)
    assert not found.restore("other.example", {"limit": 3, "age": 1.0}, instant(clock))
    assert found.limit(frozenset({"other.example"})) is None
    assert found.restore(NAME, {"limit": 3, "age": 1.0}, instant(clock))
    assert found.limit(HOSTS) == 3


@pytest.mark.parametrize("fact", [{}, {"limit": 0, "age": 1}, {"limit": "3", "age": 1}, {"limit": 3}, []])
def test_a_fact_of_another_form_changes_nothing(fact: Any) -> None:
    clock = Clock()
    found, _changed = limits(clock)
    with pytest.raises((KeyError, TypeError, ValueError)):
        found.follow(NAME, fact, instant(clock))
    assert found.limit(HOSTS) is None
