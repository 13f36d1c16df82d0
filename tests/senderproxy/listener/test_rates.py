"""Rates of clients on given times."""

import pytest

from senderproxy.listener.rates import ClientRates, RateLimits

LIMITS = RateLimits(connections=2, messages=3, recipients=4)


@pytest.mark.parametrize(("what", "limit"), [("connection", 2), ("message", 3), ("recipient", 4)])
def test_a_client_has_its_limit_in_each_minute_and_no_more(what: str, limit: int) -> None:
    rates = ClientRates(LIMITS)
    for begin in (0.0, 60.0):
        counted = [getattr(rates, what)("192.0.2.1", begin + number) for number in range(limit + 2)]
        assert counted == [True] * limit + [False] * 2
    assert not getattr(rates, what)("192.0.2.1", 119.9)
    assert getattr(rates, what)("192.0.2.1", 120.0)


def test_each_client_is_counted_by_itself() -> None:
    rates = ClientRates(LIMITS)
    assert [rates.message("192.0.2.1", 0) for _ in range(4)][-1] is False
    assert rates.message("192.0.2.2", 0)
    assert rates.connection("192.0.2.1", 0), "and each kind by itself"


def test_many_clients_do_not_fill_the_memory_and_the_latest_are_counted() -> None:
    rates = ClientRates(LIMITS)
    for number in range(30_000):
        rates.message(f"2001:db8:{number:x}::/64", number / 1000)
    assert len(rates) == 10_000
    for _ in range(3):
        rates.message("2001:db8:752f::/64", 30)
    assert not rates.message("2001:db8:752f::/64", 30), "number 29,999"
