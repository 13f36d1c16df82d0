"""Statistics of long passes of the event loop."""

import pytest

from senderproxy.service.loop_lag import BLOCKED_SECONDS, LoopLag


def test_the_longest_pass_is_the_maximum_and_a_pass_at_the_limit_is_no_block() -> None:
    lag = LoopLag()
    assert [lag.record(seconds) for seconds in (0.01, BLOCKED_SECONDS, 0.101, 3.0, 0.2)] == [
        False,
        False,
        True,
        True,
        True,
    ]
    assert (lag.maximum, lag.blocks) == (3.0, 3)


def test_a_line_is_due_once_a_minute_and_names_the_blocks_without_one() -> None:
    lag = LoopLag()
    assert [lag.take_line(now) for now in (1000.0, 1000.5, 1059.9, 1060.0, 1060.1, 1500.0)] == [
        0,
        None,
        None,
        2,
        None,
        1,
    ]


@pytest.mark.parametrize("start", [-5.0, 0.0, 1e9])
def test_the_first_block_has_a_line_whatever_the_clock_shows(start: float) -> None:
    assert LoopLag().take_line(start) == 0
