"""Gaps without mail: offices of a simulated year, on a clock of the test's own."""

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from senderproxy.learned import Instant
from senderproxy.monitoring.mail_gaps import WEEKS, MailGaps

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
TICK = timedelta(minutes=10)
HOUR, DAY, WEEK = timedelta(hours=1), timedelta(days=1), timedelta(weeks=1)


class Office:
    """A service, its clock, and its messages."""

    def __init__(self, zone: Any = UTC, begin: datetime = MONDAY) -> None:
        self.gaps = MailGaps(zone)
        self.zone = zone
        self.now = begin
        self.count = 0
        self.monotonic = 50.0
        self.reports: list[datetime] = []  # beginnings

    def live(self, time: timedelta, per_hour: Callable[[datetime], float], seed: int = 1) -> None:
        """Let time pass with this many messages an hour, by chance; at least one where it is above 100."""
        chance, end, was = random.Random(seed), self.now + time, self.is_reported
        while self.now < end:
            rate = per_hour(self.now.astimezone(self.zone)) * TICK / HOUR
            self.count += chance.random() < rate
            self.gaps.observe(self.count, self.now, self.monotonic)
            if self.is_reported and not was:
                self.reports.append(self.now)
            was = self.is_reported
            self.now += TICK
            self.monotonic += TICK.total_seconds()

    @property
    def is_reported(self) -> bool:
        return self.gaps.unusual(self.monotonic) is not None

    def restart(self, stopped: timedelta) -> None:
        instant = Instant(self.now, self.monotonic)
        facts = {name: json.loads(json.dumps(self.gaps.fact(name, instant))) for name in ("week", "now")}
        self.now += stopped
        self.gaps, self.monotonic, self.count = MailGaps(self.zone), 7.0, 0
        for name, fact in facts.items():
            self.gaps.restore(name, fact, Instant(self.now, self.monotonic).before(stopped.total_seconds()))


def busy(now: datetime) -> float:
    """Mondays to Fridays, 8 to 17, every ten minutes; no lunch."""
    return 100 if now.weekday() < 5 and 8 <= now.hour < 17 and now.hour != 12 else 0


def nothing(_now: datetime) -> float:
    return 0


def rare(per_day: float) -> Callable[[datetime], float]:
    return lambda now: per_day / 9 if now.weekday() < 5 and 8 <= now.hour < 17 else 0


@pytest.mark.parametrize("silent_at", [9, 14])
def test_a_busy_office_that_falls_silent_is_reported_after_some_hours_of_its_working_day(silent_at: int) -> None:
    office = Office()
    office.live(3 * WEEK + DAY + silent_at * HOUR, busy)
    assert office.reports == []
    silent_since = office.now
    office.live(2 * DAY, nothing)
    (report,) = office.reports
    delay = report - silent_since
    assert delay <= 5 * HOUR if silent_at == 9 else report.hour in range(9, 12)
    office.live(HOUR, busy)
    office.live(DAY, busy)
    assert not office.is_reported


def test_nights_weekends_and_lunch_are_not_reported() -> None:
    office = Office()
    office.live(10 * WEEK, busy)
    assert office.reports == []


@pytest.mark.parametrize("per_day", [1, 3, 8, 30])
def test_an_office_with_little_mail_is_rarely_reported_by_mistake_and_found_when_it_falls_silent(per_day: int) -> None:
    office = Office()
    office.live(40 * WEEK, rare(per_day))
    assert len(office.reports) <= 1
    known = len(office.reports)
    office.live(4 * WEEK, nothing)
    assert len(office.reports) == known + 1


def test_two_weeks_are_needed() -> None:
    office = Office()
    office.live(WEEK + 4 * DAY + 10 * HOUR, busy)
    office.live(3 * DAY - 10 * HOUR, nothing)
    assert office.reports == []


def test_a_service_that_never_gets_mail_is_never_reported() -> None:
    office = Office()
    office.live(20 * WEEK, nothing)
    assert office.reports == []


def test_a_holiday_is_reported_once_and_does_not_spoil_the_following_weeks() -> None:
    office = Office()
    office.live(5 * WEEK, busy)
    office.live(DAY, nothing)
    assert [report.weekday() for report in office.reports] == [0]
    office.live(6 * DAY, busy)
    office.live(3 * WEEK, busy)
    assert len(office.reports) == 1
    office.live(DAY, nothing)
    assert len(office.reports) == 2


def test_new_habits_are_learned() -> None:
    """An office that goes from every ten minutes to one message a day."""
    office = Office()
    office.live(8 * WEEK, busy)
    office.live(8 * WEEK, rare(1))
    known = len(office.reports)
    office.live(20 * WEEK, rare(1))
    assert len(office.reports) - known <= 1


def test_what_was_learned_and_the_gap_of_now_survive_a_restart() -> None:
    office = Office()
    office.live(3 * WEEK + DAY + 9 * HOUR, busy)
    office.live(2 * HOUR, nothing)
    office.restart(timedelta(minutes=1))
    office.live(5 * HOUR + TICK, nothing)
    assert len(office.reports) == 1
    office.restart(timedelta(minutes=1))
    assert office.is_reported
    fact = office.gaps.unusual(office.monotonic)
    assert fact is not None
    assert fact.seconds == pytest.approx(7 * 3600, abs=3600)


def test_a_machine_that_was_off_for_days_is_no_gap() -> None:
    office = Office()
    office.live(3 * WEEK + DAY + 9 * HOUR, busy)
    office.restart(10 * DAY)
    assert not office.is_reported
    office.live(HOUR, nothing)
    assert not office.is_reported
    office.live(DAY, nothing)
    assert office.is_reported  # from now on


def test_a_fixed_limit_holds_at_any_hour() -> None:
    office = Office()
    office.live(HOUR, nothing)
    assert office.gaps.unusual(office.monotonic, 2 * 3600.0) is None
    assert office.gaps.unusual(office.monotonic, 1800.0) is not None
    office.live(timedelta(minutes=10), busy)
    office.live(8 * HOUR + timedelta(minutes=10), busy)
    assert office.gaps.unusual(office.monotonic, 1800.0) is None


def test_a_counter_that_begins_again_is_no_message_and_hides_none() -> None:
    """As after a reload that replaces a listener."""
    office = Office()
    office.live(3 * WEEK + DAY + 9 * HOUR, busy)
    office.count = 0
    office.live(5 * HOUR + TICK, nothing)
    assert office.is_reported
    office.count = 1
    office.live(TICK, nothing)
    assert not office.is_reported


def test_summer_time_and_steps_of_the_clock_do_not_report() -> None:
    office = Office(ZoneInfo("Europe/Berlin"), datetime(2026, 2, 2, tzinfo=UTC))
    office.live(12 * WEEK, busy)
    assert office.reports == []
    office.now += timedelta(hours=5)
    office.live(TICK, nothing)
    office.now -= timedelta(days=3)
    office.live(3 * WEEK, busy)
    assert office.reports == []


def test_an_idle_service_writes_once_a_day_and_a_busy_one_each_hour() -> None:
    office = Office()
    notes: list[str] = []
    office.gaps.changed = notes.append
    office.live(3 * DAY, nothing)
    assert len(notes) == 2 * 2
    notes.clear()
    office.live(DAY, busy)
    assert len(notes) <= 2 * 10
    notes.clear()
    office.gaps.stop()
    assert notes == ["now"]


def test_memory_is_bounded_and_facts_of_another_form_are_refused() -> None:
    office = Office()
    office.live(10 * WEEK, busy)
    assert {len(weeks) for weeks in office.gaps._weeks} == {WEEKS}
    gaps, written = MailGaps(UTC), Instant(MONDAY, 0.0)
    for hours in ("", "1,0", ",".join("2" * 168), 5):
        assert not gaps.restore("week", {"hours": hours}, written)
    with pytest.raises((KeyError, TypeError, ValueError)):
        gaps.restore("now", {"gap": "x"}, written)
    assert gaps.restore("week", {"hours": ",".join(["1" * 1000] * 168)}, written)
    assert {len(weeks) for weeks in gaps._weeks} == {WEEKS}
