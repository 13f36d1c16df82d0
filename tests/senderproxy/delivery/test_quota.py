"""The hourly limits are enforced from values alone; a property test covers any sixty minutes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from senderproxy.delivery.quota import HOUR, HourlyQuota, QuotaExceeded, Remaining, Reservation


def ask(
    quota: HourlyQuota, recipients: int, now: float, *, messages: int | None = None, per_hour: int | None = None
) -> Reservation | QuotaExceeded:
    return quota.reserve(recipients, messages_per_hour=messages, recipients_per_hour=per_hour, now=now)


def test_without_a_limit_every_message_is_allowed() -> None:
    quota = HourlyQuota()
    assert all(isinstance(ask(quota, 1000, 0.0), Reservation) for _ in range(1000))
    assert quota.remaining(messages_per_hour=None, recipients_per_hour=None, now=0.0) == Remaining(None, None)


def test_a_refusal_has_the_time_until_the_next_message_is_allowed() -> None:
    quota = HourlyQuota()
    for at in (0.0, 600.0, 1200.0):
        assert isinstance(ask(quota, 1, at, messages=3), Reservation)
    refusal = ask(quota, 1, 1300.0, messages=3)
    assert isinstance(refusal, QuotaExceeded)
    assert refusal.limit == "3 messages an hour"
    assert refusal.seconds is not None
    assert 2300 <= refusal.seconds <= 2360
    assert isinstance(ask(quota, 1, 1300.0 + refusal.seconds, messages=3), Reservation)


def test_a_message_with_many_recipients_waits_for_enough_quota() -> None:
    quota = HourlyQuota()
    for at in (0.0, 600.0, 1200.0):
        ask(quota, 10, at, per_hour=30)
    refusal = ask(quota, 15, 1200.0, per_hour=30)
    assert isinstance(refusal, QuotaExceeded)
    assert refusal.seconds is not None
    assert isinstance(ask(quota, 15, 1200.0 + refusal.seconds - 1, per_hour=30), QuotaExceeded)
    assert isinstance(ask(quota, 15, 1200.0 + refusal.seconds, per_hour=30), Reservation)


def test_a_message_over_the_limit_by_itself_is_refused_for_good() -> None:
    assert ask(HourlyQuota(), 31, 0.0, per_hour=30) == QuotaExceeded("30 recipients an hour", None)


def test_of_two_limits_the_one_that_ends_later_is_named() -> None:
    quota = HourlyQuota()
    ask(quota, 10, 0.0, messages=2, per_hour=11)
    ask(quota, 1, 1800.0, messages=2, per_hour=11)
    refusal = ask(quota, 11, 1800.0, messages=2, per_hour=11)
    assert isinstance(refusal, QuotaExceeded)
    assert refusal.limit == "11 recipients an hour"


def test_a_reservation_is_released_once() -> None:
    quota = HourlyQuota()
    grant = ask(quota, 5, 0.0, messages=1, per_hour=5)
    assert isinstance(grant, Reservation)
    assert isinstance(ask(quota, 1, 1.0, messages=1), QuotaExceeded)
    quota.release(grant)
    quota.release(grant)
    assert quota.remaining(messages_per_hour=1, recipients_per_hour=5, now=1.0) == Remaining(1, 5)
    assert isinstance(ask(quota, 5, 1.0, messages=1, per_hour=5), Reservation)


def test_a_release_after_the_hour_has_no_effect() -> None:
    quota = HourlyQuota()
    grant = ask(quota, 5, 0.0, messages=1)
    assert isinstance(grant, Reservation)
    assert isinstance(ask(quota, 1, HOUR + 61, messages=1), Reservation)
    quota.release(grant)
    assert quota.remaining(messages_per_hour=1, recipients_per_hour=None, now=HOUR + 61) == Remaining(0, None)


def test_a_lowered_limit_applies_at_once() -> None:
    quota = HourlyQuota()
    for _ in range(5):
        ask(quota, 1, 0.0, messages=10)
    refusal = ask(quota, 1, 1.0, messages=3)
    assert isinstance(refusal, QuotaExceeded)
    assert refusal.seconds is not None


@settings(max_examples=200)
@given(
    limit=st.integers(1, 20),
    steps=st.lists(st.tuples(st.floats(0, 900), st.integers(1, 6), st.booleans()), max_size=80),
)
def test_no_sixty_minutes_exceed_the_limit(limit: int, steps: list[tuple[float, int, bool]]) -> None:
    quota = HourlyQuota()
    now = 0.0
    sent: list[tuple[float, int]] = []
    for wait, recipients, kept in steps:
        now += wait
        answer = ask(quota, recipients, now, per_hour=limit)
        if isinstance(answer, QuotaExceeded):
            if answer.seconds is not None:
                assert answer.seconds > 0
                assert recipients <= limit
            continue
        if kept:
            sent.append((now, recipients))
        else:
            quota.release(answer)
    for begin, _ in sent:
        assert sum(count for at, count in sent if begin <= at < begin + HOUR) <= limit


@pytest.mark.parametrize("rate", [1, 7, 60])
def test_memory_is_bounded_at_any_rate(rate: int) -> None:
    quota = HourlyQuota()
    for minute in range(300):
        for second in range(rate):
            ask(quota, 1, minute * 60.0 + second * 60 / rate, messages=10**9)
    assert len(quota._slots) <= 61
