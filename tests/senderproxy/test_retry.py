"""Waits between attempts, and the end of the attempts."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senderproxy.retry import RetryPolicy, is_over, wait_after

MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(("attempts", "minutes"), [(0, 1), (1, 1), (2, 2), (3, 4), (5, 16), (6, 30), (1000, 30)])
def test_the_waits_double_from_a_minute_to_half_an_hour(attempts: int, minutes: int) -> None:
    assert wait_after(RetryPolicy(), attempts, 0.5) == minutes * MINUTE


@given(st.integers(1, 100), st.floats(0, 1))
def test_waits_are_spread_by_a_quarter(attempts: int, chance: float) -> None:
    middle, drawn = wait_after(RetryPolicy(), attempts, 0.5), wait_after(RetryPolicy(), attempts, chance)
    assert 0.75 * middle <= drawn <= 1.25 * middle


def test_giving_up_counts_from_the_reception() -> None:
    assert not is_over(RetryPolicy(), timedelta(hours=47))
    assert is_over(RetryPolicy(), timedelta(hours=48))
