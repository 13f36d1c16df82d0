"""Limits that the upstream's replies revealed narrow the configured ones, for an hour."""

from dataclasses import replace

from senderproxy.delivery.observed_limits import OBSERVED_FOR, ObservedLimit, ObservedLimits
from senderproxy.delivery.reuse import PoolLimits

CONFIGURED = PoolLimits(connections=4, messages_per_connection=None, idle_seconds=30.0)


def test_an_observed_limit_narrows_the_configured_one_and_expires() -> None:
    observed = ObservedLimit()
    assert observed.narrow(None, 0.0) is None
    observed.record(10, 0.0)
    observed.record(20, 1.0)
    assert observed.narrow(None, 2.0) == 10
    assert observed.narrow(5, 2.0) == 5
    assert observed.narrow(50, 1.0 + OBSERVED_FOR) == 50


def test_both_limits_narrow_those_of_the_pool() -> None:
    observed = ObservedLimits()
    assert observed.narrow(CONFIGURED, 0.0) is CONFIGURED
    observed.connections.record(2, 0.0)
    observed.messages_per_connection.record(20, 0.0)
    assert observed.narrow(CONFIGURED, 1.0) == replace(CONFIGURED, connections=2, messages_per_connection=20)
    assert observed.narrow(CONFIGURED, OBSERVED_FOR) == CONFIGURED
