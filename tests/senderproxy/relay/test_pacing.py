"""The number of messages sent while many arrive, decided from times alone."""

import math

import pytest

from senderproxy.relay.pacing import BurstPacing

START = 1000.0  # seconds, monotonic
STEADY = 0.02  # seconds between messages of an ordinary client
FAST = 0.001


def burst(pacing: BurstPacing, messages: int, start: float = START) -> tuple[int, float]:
    """So many messages in fast succession, each sent as soon as it may; the number sent, and the time of the last."""
    sent, now = 0, start
    for number in range(messages):
        now = start + number * FAST
        if pacing.message_incoming(now):
            pacing.messages_sent()
            sent += 1
    return sent, now


def test_messages_that_arrive_one_by_one_are_not_limited() -> None:
    pacing = BurstPacing()
    for number in range(200):
        now = START + number * STEADY
        assert not pacing.message_incoming(now)
        assert pacing.may_send(now)
        assert pacing.allowance(now) == math.inf
        pacing.messages_sent()


def test_a_few_fast_messages_after_a_quiet_time_are_not_a_burst() -> None:
    pacing = BurstPacing()
    _, now = burst(pacing, 8)
    assert pacing.allowance(now) == math.inf


def test_in_a_burst_one_message_is_sent_for_four_that_arrive_after_the_start_allowance() -> None:
    pacing = BurstPacing()
    sent, _ = burst(pacing, 1000)
    assert 40 + (1000 - 60) // 4 <= sent <= 40 + 1000 // 4


def test_without_allowance_nothing_more_may_be_sent_until_the_burst_is_over() -> None:
    pacing = BurstPacing()
    _, now = burst(pacing, 400)
    while pacing.allowance(now) >= 1:
        pacing.messages_sent()
    assert not pacing.may_send(now)
    assert pacing.may_send(pacing.burst_until)
    assert pacing.burst_until - now == pytest.approx(0.05)


def test_a_second_burst_soon_after_the_first_has_no_start_allowance() -> None:
    pacing = BurstPacing()
    _, end = burst(pacing, 400)
    again, _ = burst(pacing, 400, start=end + 0.5)
    assert again <= 400 // 4
    assert again >= (400 - 100) // 4


def test_a_burst_after_a_quiet_second_has_the_start_allowance_again() -> None:
    pacing = BurstPacing()
    _, end = burst(pacing, 400)
    again, _ = burst(pacing, 400, start=end + 1.2)
    assert again >= 40 + (400 - 60) // 4


def test_a_batch_outside_a_burst_is_as_large_as_wanted_and_inside_as_the_allowance() -> None:
    pacing = BurstPacing()
    assert pacing.reserve(14, 100.0) == 14
    pacing.messages_sent(-14)
    _, now = burst(pacing, 400)
    left = pacing.allowance(now)
    assert pacing.reserve(14, now) == max(int(min(left, 14)), 1)
    assert pacing.allowance(now) == left - max(int(min(left, 14)), 1)
