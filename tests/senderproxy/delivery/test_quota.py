"""The hourly limits are enforced from values alone; a property test covers any sixty minutes."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from senderproxy.delivery.quota import HOUR, HourlyQuota, QuotaExceeded, Remaining, Reservation
from senderproxy.learned import Instant


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
    assert len(quota._messages) == len(quota._recipients) == 62


# ---- beyond a restart ----

MIDNIGHT = datetime(2026, 1, 31, tzinfo=UTC)


def restarted(quota: HourlyQuota, at: float, down: float, start: float) -> HourlyQuota:
    """The quota in a process that starts `down` seconds after the writing at `at`; its clock reads `start` then."""
    fact = json.loads(json.dumps(quota.fact(Instant(MIDNIGHT, at))))
    after = HourlyQuota()
    assert after.restore(fact, Instant(MIDNIGHT, start).before(down))
    return after


@pytest.mark.parametrize("start", [12_345.0, 7.0, 1_000_000.5])
@pytest.mark.parametrize("down", [0.0, 31.0, 1000.0])
def test_the_use_of_the_hour_counts_after_a_restart_and_ends_at_most_a_minute_later(down: float, start: float) -> None:
    quota = HourlyQuota()
    for second in (0.0, 300.0, 1700.0):
        assert isinstance(quota.reserve(3, messages_per_hour=None, recipients_per_hour=None, now=second), Reservation)
    after = restarted(quota, 1710.0, down, start)
    left = after.remaining(messages_per_hour=10, recipients_per_hour=20, now=start)
    assert (left.messages, left.recipients) == (7, 11)
    for second, messages in ((0.0, 2), (300.0, 1), (1700.0, 0)):
        # The slot of this message ends within a minute of it, and the restart adds a minute at most.
        passed = second + HOUR - 1710.0 - down
        before, afterwards = start + passed - 2, start + passed + 121
        assert after.remaining(messages_per_hour=10, recipients_per_hour=None, now=before).messages == 10 - messages - 1
        assert after.remaining(messages_per_hour=10, recipients_per_hour=None, now=afterwards).messages == 10 - messages


def test_many_restarts_do_not_prolong_the_hour() -> None:
    quota = HourlyQuota()
    quota.reserve(1, messages_per_hour=None, recipients_per_hour=None, now=0.0)
    for number in range(1, 110):  # a restart every 33 s, on one clock
        fact = quota.fact(Instant(MIDNIGHT, number * 33.0))
        quota = HourlyQuota()
        if fact is not None:
            quota.restore(fact, Instant(MIDNIGHT, number * 33.0 + 0.004))  # the wall clock is slewed a little
    assert quota.remaining(messages_per_hour=5, recipients_per_hour=None, now=3661.0).messages == 5


def test_a_restored_use_is_added_to_that_since_the_start() -> None:
    quota, stored = HourlyQuota(), HourlyQuota()
    for one in (quota, stored):
        one.reserve(2, messages_per_hour=None, recipients_per_hour=None, now=600.0)
    fact = stored.fact(Instant(MIDNIGHT, 610.0))
    assert fact is not None
    quota.restore(fact, Instant(MIDNIGHT, 610.0))
    refused = quota.reserve(1, messages_per_hour=2, recipients_per_hour=None, now=620.0)
    assert isinstance(refused, QuotaExceeded)
    assert refused.seconds == pytest.approx(660.0 + HOUR - 620.0)


def test_a_restored_slot_that_ends_later_is_no_second_slot() -> None:
    quota = HourlyQuota()
    quota.restore({"age": -59.0, "slots": [[0, 1, 1]]}, Instant(MIDNIGHT, 30.0))  # it may end at 120 s
    ask(quota, 1, 40.0, messages=10)
    reservation = ask(quota, 1, 65.0, messages=10)
    assert isinstance(reservation, Reservation)
    quota.release(reservation)
    assert quota.remaining(messages_per_hour=10, recipients_per_hour=None, now=70.0).messages == 8
    assert restarted(quota, 70.0, 1.0, 7.0).remaining(
        messages_per_hour=10, recipients_per_hour=None, now=7.0
    ) == Remaining(8, None)


@pytest.mark.parametrize("age", [1e15, -1e15])
def test_no_stored_time_is_far_away(age: float) -> None:
    quota = HourlyQuota()
    quota.restore({"age": age, "slots": [[0, 5, 5]]}, Instant(MIDNIGHT, 1000.0))
    assert quota.remaining(messages_per_hour=5, recipients_per_hour=None, now=1000.0 + HOUR + 120.0).messages == 5


@pytest.mark.parametrize(
    "slots", [None, 5, [[1]], [["x", 1, 1]], [[1, -1, 1]], [[1, 1, True]], [[0.5, 1, 1]], [[-1, 1, 1]]]
)
def test_a_fact_of_another_form_changes_nothing(slots: object) -> None:
    quota = HourlyQuota()
    with pytest.raises((KeyError, TypeError, ValueError)):
        quota.restore({"age": 5, "slots": slots}, Instant(MIDNIGHT, 1000.0))
    assert quota.fact(Instant(MIDNIGHT, 1000.0)) is None


def test_an_unused_or_released_quota_has_no_fact() -> None:
    quota = HourlyQuota()
    assert quota.fact(Instant(MIDNIGHT, 0.0)) is None
    reservation = quota.reserve(1, messages_per_hour=None, recipients_per_hour=None, now=0.0)
    assert isinstance(reservation, Reservation)
    assert quota.fact(Instant(MIDNIGHT, 1.0)) == {"age": -59.0, "slots": [[0, 1, 1]]}
    quota.release(reservation)
    assert quota.fact(Instant(MIDNIGHT, 2.0)) is None


@pytest.mark.parametrize("age", [None, "5", float("nan"), float("inf")])
def test_an_age_of_another_form_changes_nothing(age: object) -> None:
    quota = HourlyQuota()
    with pytest.raises((TypeError, ValueError)):
        quota.restore({"age": age, "slots": [[0, 1, 1]]}, Instant(MIDNIGHT, 1000.0))
    assert quota.fact(Instant(MIDNIGHT, 1000.0)) is None


def test_a_use_that_is_over_by_the_start_is_not_restored() -> None:
    quota, fact = HourlyQuota(), {"age": -59.0, "slots": [[0, 1, 1]]}
    assert quota.restore(fact, Instant(MIDNIGHT, 9000.0).before(3500.0))
    assert not HourlyQuota().restore(fact, Instant(MIDNIGHT, 9000.0).before(3720.0))
