"""Steps of the wall clock, and when ages may be trusted, decided from times alone."""

from datetime import UTC, datetime, timedelta

import pytest

from senderproxy.spool.sqlite.clock_step import ClockStep, step_while_stopped

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
BOOT = 5000.0  # seconds, monotonic


def started() -> ClockStep:
    clock = ClockStep()
    clock.start(NOON, BOOT)
    return clock


@pytest.mark.parametrize("hours", [0, 1, 1000])
@pytest.mark.parametrize("drift", [-59.0, 0.0, 59.0])
def test_time_that_passes_and_a_small_drift_are_no_step(hours: int, drift: float) -> None:
    now = NOON + timedelta(hours=hours, seconds=drift)
    assert started().detect(now, BOOT + hours * 3600) is None


@pytest.mark.parametrize("step", [timedelta(minutes=1), timedelta(days=-1), timedelta(days=400)])
def test_a_step_is_returned_once_with_its_size(step: timedelta) -> None:
    clock = started()
    assert clock.detect(NOON + step + timedelta(seconds=10), BOOT + 10) == step
    assert clock.detect(NOON + step + timedelta(seconds=20), BOOT + 20) is None


def test_a_step_back_to_the_right_time_is_a_step_too() -> None:
    clock = started()
    day = timedelta(days=1)
    assert clock.detect(NOON + day, BOOT) == day
    assert clock.detect(NOON, BOOT) == -day


def test_ages_are_trusted_ten_minutes_after_the_start() -> None:
    clock = started()
    assert not clock.ages_trusted(BOOT + 599)
    assert clock.ages_trusted(BOOT + 600)


def test_ages_are_trusted_ten_minutes_after_a_step() -> None:
    clock = started()
    clock.detect(NOON + timedelta(days=400, seconds=3600), BOOT + 3600)
    assert not clock.ages_trusted(BOOT + 3600)
    assert clock.ages_trusted(BOOT + 3600 + 600)


HALF_AN_HOUR = timedelta(minutes=30)


def test_without_waiting_messages_nothing_says_that_the_clock_was_set_back() -> None:
    assert step_while_stopped([], HALF_AN_HOUR) is None


@pytest.mark.parametrize("minutes", [-10_000, 0, 30, 120])
def test_waits_within_twice_the_longest_one_are_plausible(minutes: int) -> None:
    waits = [timedelta(minutes=minutes), timedelta(days=4000)]
    assert step_while_stopped(waits, HALF_AN_HOUR) is None


def test_waits_that_all_last_for_years_say_that_the_clock_was_set_back() -> None:
    shortest = timedelta(days=3650)
    assert step_while_stopped([shortest + timedelta(hours=1), shortest], HALF_AN_HOUR) == -shortest


def test_a_long_longest_wait_makes_longer_ones_plausible() -> None:
    waits = [timedelta(hours=20)]
    assert step_while_stopped(waits, timedelta(hours=12)) is None
    assert step_while_stopped(waits, timedelta(hours=8)) == -timedelta(hours=20)
