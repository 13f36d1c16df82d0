"""The portion of the hourly limits at one instance, from values alone; a property test compares it with plain sums."""

from hypothesis import given
from hypothesis import strategies as st

from senderproxy.delivery.portion import Portion, PortionReservation, needed, report_of
from senderproxy.delivery.quota import HOUR
from senderproxy.relay.shared_ports import HourlyAmounts, HourlyLimits, HourlyUsed

LIMITS = HourlyLimits(10, 100)
NONE = HourlyAmounts()


def granted(messages: int, recipients: int, limits: HourlyLimits = LIMITS) -> Portion:
    portion = Portion()
    portion.grant(HourlyAmounts(messages, recipients), limits, portion.epoch)
    return portion


def test_nothing_is_reserved_beyond_the_grant() -> None:
    portion = granted(2, 30)
    assert portion.reserve(31, LIMITS, 0.0) is None
    assert portion.reserve(10, LIMITS, 0.0) is not None
    assert portion.reserve(20, LIMITS, 0.0) is not None
    assert portion.held == NONE
    assert portion.reserve(1, LIMITS, 0.0) is None


def test_a_grant_for_other_limits_covers_nothing() -> None:
    assert granted(2, 30).reserve(1, HourlyLimits(5, 100), 0.0) is None


def test_without_limits_use_is_reported_and_nothing_is_needed() -> None:
    portion, unlimited = Portion(), HourlyLimits(None, None)
    assert needed(7, unlimited) == NONE
    assert portion.reserve(7, unlimited, 30.0) is not None
    assert report_of(portion.take_used(), 30.0) == [HourlyUsed(30.0 + HOUR, 1, 7)]


def test_the_use_of_a_minute_is_reported_once_and_comes_back_after_a_failure() -> None:
    portion = granted(5, 50)
    for at in (59.0, 61.0, 119.0):
        portion.reserve(3, LIMITS, at)
    used = portion.take_used()
    assert report_of(used, 120.0) == [HourlyUsed(HOUR - 60, 1, 3), HourlyUsed(HOUR, 2, 6)]
    assert portion.take_used() == {}
    portion.put_back(used, portion.epoch)
    assert portion.take_used() == used


def test_a_message_that_was_not_accepted_is_taken_back_once() -> None:
    portion = granted(1, 10)
    reservation = portion.reserve(4, LIMITS, 0.0)
    assert reservation is not None
    portion.take_used()
    portion.release(reservation)
    portion.release(reservation)
    assert portion.held == HourlyAmounts(1, 10)
    assert report_of(portion.take_used(), 0.0) == [HourlyUsed(60 + HOUR, -1, -4)]


def test_what_was_taken_over_is_void() -> None:
    portion = granted(3, 30)
    reservation, used, epoch = portion.reserve(1, LIMITS, 0.0), portion.take_used(), portion.epoch
    assert reservation is not None
    portion.void()
    portion.release(reservation)
    portion.put_back(used, epoch)
    portion.grant(HourlyAmounts(1, 1), LIMITS, epoch)
    assert portion.is_empty
    assert portion.reserve(1, LIMITS, 0.0) is None


def test_a_portion_is_low_below_half_of_what_was_drawn() -> None:
    portion = granted(4, 100)
    found = []
    for _ in range(4):
        portion.reserve(1, LIMITS, 0.0)
        found.append(portion.is_low())
    assert found == [False, False, True, True]


@given(st.lists(st.sampled_from(["reserve", "release", "report", "fail", "grant", "give up"])))
def test_what_the_database_counts_is_held_or_used(steps: list[str]) -> None:
    """The sum of what is held and what is not reported is the portion in the database after each step."""
    portion = granted(2, 20)
    in_database, reservations = 2, list[PortionReservation]()
    for step in steps:
        if step == "reserve" and (reservation := portion.reserve(1, LIMITS, 0.0)) is not None:
            reservations.append(reservation)
        elif step == "release" and reservations:
            portion.release(reservations.pop())
        elif step == "report":
            in_database -= sum(one.messages for one in portion.take_used().values())
        elif step == "fail":
            portion.put_back(portion.take_used(), portion.epoch)
        elif step == "grant":
            portion.grant(HourlyAmounts(1, 10), LIMITS, portion.epoch)
            in_database += 1
        elif step == "give up":
            in_database -= portion.held.messages
            portion.give_up()
        unreported = portion.take_used()
        portion.put_back(unreported, portion.epoch)
        assert portion.held.messages + sum(one.messages for one in unreported.values()) == in_database
        assert portion.held.messages >= 0
