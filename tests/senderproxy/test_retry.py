"""The waits an office notices when its provider is away."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senderproxy.retry import RetryPolicy, is_over, wait_after

MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(("tries", "minutes"), [(0, 1), (1, 1), (2, 2), (3, 4), (5, 16), (6, 30), (1000, 30)])
def test_the_waits_double_from_a_minute_to_half_an_hour(tries: int, minutes: int) -> None:
    assert wait_after(RetryPolicy(), tries, 0.5) == minutes * MINUTE


@given(st.integers(1, 100), st.floats(0, 1))
def test_what_failed_together_does_not_come_back_together(tries: int, chance: float) -> None:
    middle, drawn = wait_after(RetryPolicy(), tries, 0.5), wait_after(RetryPolicy(), tries, chance)
    assert 0.75 * middle <= drawn <= 1.25 * middle


def test_giving_up_counts_from_the_reception() -> None:
    assert not is_over(RetryPolicy(), timedelta(hours=47))
    assert is_over(RetryPolicy(), timedelta(hours=48))
