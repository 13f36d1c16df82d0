"""The weekly alert: its time and its sums."""

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from senderproxy.alerts.record import Sums
from senderproxy.alerts.weekly import WeeklySums, latest
from senderproxy.learned import Instant

MONDAY = (0, 8, 0)
NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)  # a Sunday
WEEK = timedelta(days=7)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (NOON, datetime(2026, 11, 23, 8, tzinfo=UTC)),
        (datetime(2026, 11, 30, 7, 59, tzinfo=UTC), datetime(2026, 11, 23, 8, tzinfo=UTC)),
        (datetime(2026, 11, 30, 8, 0, tzinfo=UTC), datetime(2026, 11, 30, 8, tzinfo=UTC)),
    ],
)
def test_the_last_time_of_the_week(now: datetime, expected: datetime) -> None:
    assert latest(MONDAY, UTC, now) == expected


def test_the_time_of_the_week_is_local_also_after_the_end_of_summer_time() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    now = datetime(2026, 10, 26, 12, tzinfo=UTC)  # a Monday, the day after
    assert latest(MONDAY, berlin, now) == datetime(2026, 10, 26, 7, tzinfo=UTC)
    assert latest(MONDAY, timezone(timedelta(hours=2)), now) == datetime(2026, 10, 26, 6, tzinfo=UTC)


def test_the_sums_of_a_week_are_counted_once_and_begin_anew() -> None:
    sums = WeeklySums(MONDAY, UTC)
    sums.count({}, NOON)
    sums.count({"anna": (400, 3), "bert": (2, 0)}, NOON)
    sums.count({"anna": (410, 3), "bert": (2, 0)}, NOON)
    assert not sums.is_due(NOON)
    monday = NOON + timedelta(days=1)
    assert sums.is_due(monday)
    assert sums.take(monday) == Sums(NOON, 412, 3, 0)
    assert not sums.is_due(monday)
    sums.count({"anna": (411, 3), "bert": (2, 0)}, monday)
    assert sums.take(monday + WEEK) == Sums(monday, 1, 0, 0)


def test_without_a_time_nothing_is_due() -> None:
    sums = WeeklySums(None, UTC)
    sums.count({}, NOON)
    assert not sums.is_due(NOON + 3 * WEEK)


def test_the_sums_survive_a_restart_and_an_alert_that_could_not_be_sent() -> None:
    sums = WeeklySums(MONDAY, UTC)
    sums.count({}, NOON)
    sums.count({"anna": (5, 1)}, NOON)
    sums.count_alert()
    fact = sums.fact("sums", Instant(NOON, 0.0))
    assert fact is not None
    other = WeeklySums(MONDAY, UTC)
    other.count({"anna": (2, 0)}, NOON)
    assert other.restore("sums", fact, Instant(NOON, 0.0))
    other.give_back(other.take(NOON + WEEK))
    assert other.is_due(NOON + WEEK)
    assert other.take(NOON + WEEK) == Sums(NOON, 7, 1, 1)


def test_a_clock_that_goes_back_makes_no_alert_due_twice() -> None:
    sums = WeeklySums(MONDAY, UTC)
    sums.count({}, NOON)
    later = NOON + 60 * WEEK
    assert sums.is_due(later)
    sums.take(later)
    sums.count({}, NOON)
    assert not sums.is_due(NOON)
    assert sums.is_due(NOON + WEEK)


@pytest.mark.parametrize("fact", [{}, {"age": 1, "delivered": "x", "refused": 0, "alerts": 0}])
def test_a_fact_of_another_form_is_refused(fact: dict[str, object]) -> None:
    with pytest.raises((KeyError, ValueError)):
        WeeklySums(MONDAY, UTC).restore("sums", fact, Instant(NOON, 0.0))
