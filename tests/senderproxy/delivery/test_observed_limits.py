"""Limits that the upstream's replies revealed narrow the configured ones, and grow by one an hour."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from senderproxy.delivery.observed_limits import GROWTH_INTERVAL, ObservedLimit, ObservedLimits
from senderproxy.delivery.reuse import PoolLimits
from senderproxy.learned import Instant

CONFIGURED = PoolLimits(connections=4, messages_per_connection=None, idle_seconds=30.0)


def test_an_observed_limit_narrows_the_configured_one_and_grows() -> None:
    observed = ObservedLimit()
    assert observed.narrow(None, 0.0) is None
    observed.record(10, 0.0)
    observed.record(20, 1.0)
    assert observed.narrow(None, 2.0) == 10
    assert observed.narrow(5, 2.0) == 5
    assert observed.narrow(None, 1.0 + GROWTH_INTERVAL) == 11
    assert observed.narrow(50, 1.0 + 7 * GROWTH_INTERVAL) == 17
    assert observed.narrow(50, 1.0 + 100 * GROWTH_INTERVAL) == 50
    observed.record(20, 1.0 + 3 * GROWTH_INTERVAL)
    assert observed.narrow(None, 1.0 + 3 * GROWTH_INTERVAL) == 13
    observed.record(0, 2.0 + 3 * GROWTH_INTERVAL)
    assert observed.narrow(None, 2.0 + 3 * GROWTH_INTERVAL) == 1


def test_both_limits_narrow_those_of_the_pool() -> None:
    observed = ObservedLimits()
    assert observed.narrow(CONFIGURED, 0.0) is CONFIGURED
    observed.connections.record(2, 0.0)
    observed.messages_per_connection.record(20, 0.0)
    assert observed.narrow(CONFIGURED, 1.0) == replace(CONFIGURED, connections=2, messages_per_connection=20)
    assert observed.narrow(CONFIGURED, 2 * GROWTH_INTERVAL) == replace(CONFIGURED, messages_per_connection=22)


def test_observed_limits_grow_after_a_restart_as_before_it() -> None:
    before, midnight = ObservedLimits(), datetime(2026, 1, 31, tzinfo=UTC)
    assert before.fact(Instant(midnight, 0.0)) is None
    before.connections.record(2, 1000.0)
    before.messages_per_connection.record(10, 4000.0)
    fact = json.loads(json.dumps(before.fact(Instant(midnight, 4100.0))))
    after = ObservedLimits()
    after.restore(fact, Instant(midnight, 50.0))  # 4100.0 on the other clock
    configured = PoolLimits(5, None, 60.0)
    assert after.narrow(configured, 60.0) == PoolLimits(2, 10, 60.0)
    assert after.narrow(configured, 550.0) == PoolLimits(3, 10, 60.0)
    assert after.narrow(configured, 3550.0) == PoolLimits(3, 11, 60.0)
    assert before.fact(Instant(midnight, 31 * 86_400.0)) is None


@pytest.mark.parametrize(
    "fact",
    [
        {"connections": {"limit": 0, "age": 1}},
        {"connections": {"limit": True, "age": 1}},
        {"connections": {}},
        {"connections": 5},
    ],
)
def test_a_fact_of_another_form_is_an_error(fact: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        ObservedLimits().restore(fact, Instant(datetime(2026, 1, 31, tzinfo=UTC), 0.0))


def test_limits_of_another_instance_are_taken_over_unless_the_one_here_is_newer_or_lower() -> None:
    midnight = datetime(2026, 1, 31, tzinfo=UTC)

    def followed(limit: int | None, at: float, written: dict[str, float] | None) -> int | None:
        observed = ObservedLimit(limit, at)
        observed.follow(written, Instant(midnight, 1000.0))
        return observed.limit

    assert followed(None, 0.0, {"limit": 10, "age": 100.0}) == 10
    assert followed(20, 500.0, {"limit": 10, "age": 100.0}) == 10
    assert followed(20, 950.0, {"limit": 10, "age": 100.0}) == 20  # newer
    assert followed(5, 500.0, {"limit": 10, "age": 100.0}) == 5  # still in force
    assert followed(5, 500.0, None) == 5


def test_the_connections_that_another_instance_was_left_are_not_a_limit_here() -> None:
    observed = ObservedLimits()
    fact = {name: {"limit": 2, "age": 1.0} for name in ("connections", "messages_per_connection")}
    observed.follow(fact, Instant(datetime(2026, 1, 31, tzinfo=UTC), 1000.0))
    assert observed.narrow(CONFIGURED, 1000.0) == replace(CONFIGURED, messages_per_connection=2)
