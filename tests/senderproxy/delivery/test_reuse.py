"""Which session is taken is decided from values alone."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from senderproxy.delivery.reuse import Choice, Open, PoolLimits, Reuse, Seat, Wait, choose, is_worn, next_look

TERMS = PoolLimits(connections=2, messages_per_connection=None, idle_seconds=30.0)
IDLE = Seat(number=1, fits=True, busy=False, carried=1, opened_at=0.0, idle_since=90.0)


def look(
    *seats: Seat, terms: PoolLimits = TERMS, opening: bool = False, closing: int = 0, since: float | None = None
) -> Choice:
    return choose(seats, terms, opening=opening, closing=closing, now=100.0, opened_since=since)


def test_the_first_message_opens_a_session() -> None:
    assert look() == Choice(Open())


def test_the_warmest_session_is_taken_so_that_the_others_grow_cold() -> None:
    assert look(replace(IDLE, number=1, idle_since=91), replace(IDLE, number=2, idle_since=95)) == Choice(Reuse(2))


def test_a_session_of_another_login_or_secret_is_never_taken_but_closed() -> None:
    assert look(replace(IDLE, fits=False)) == Choice(Open(), close=(1,))


def test_a_busy_session_of_an_old_secret_is_left_to_finish() -> None:
    assert look(replace(IDLE, fits=False, busy=True)) == Choice(Open())


def test_busy_sessions_count_against_the_limit() -> None:
    busy = replace(IDLE, busy=True)
    assert look(busy) == Choice(Open())
    assert look(busy, replace(busy, number=2)) == Choice(Wait())


def test_a_session_that_is_being_closed_still_counts() -> None:
    assert look(replace(IDLE, busy=True), closing=1) == Choice(Wait())


def test_while_one_login_is_under_way_nobody_else_logs_in() -> None:
    assert look(opening=True) == Choice(Wait())
    assert look(IDLE, opening=True) == Choice(Reuse(1))


def test_a_session_that_carried_its_share_is_closed_in_time() -> None:
    terms = replace(TERMS, messages_per_connection=20)
    assert look(replace(IDLE, carried=20), terms=terms) == Choice(Open(), close=(1,))
    assert look(replace(IDLE, carried=19), terms=terms) == Choice(Reuse(1))


def test_a_session_idle_for_too_long_is_closed_not_trusted() -> None:
    assert look(replace(IDLE, idle_since=70.0)) == Choice(Open(), close=(1,))


def test_a_message_that_lost_its_session_gets_none_that_was_there_before() -> None:
    assert look(replace(IDLE, opened_at=10.0), since=50.0) == Choice(Open())
    assert look(replace(IDLE, opened_at=50.0), since=50.0) == Choice(Reuse(1))


def test_where_there_is_no_place_for_a_new_session_the_coldest_makes_room() -> None:
    full = (replace(IDLE, number=1, idle_since=91), replace(IDLE, number=2, idle_since=95))
    assert look(*full, since=99.0) == Choice(Wait(), close=(1,))
    assert look(full[1], closing=1, since=99.0) == Choice(Wait())


def test_the_next_look_is_when_the_first_one_grows_cold() -> None:
    assert next_look([IDLE, replace(IDLE, idle_since=80.0), replace(IDLE, busy=True, idle_since=1.0)], TERMS) == 110.0
    assert next_look([replace(IDLE, busy=True)], TERMS) is None


seats = st.builds(
    Seat,
    number=st.integers(1, 50),
    fits=st.booleans(),
    busy=st.booleans(),
    carried=st.integers(0, 30),
    opened_at=st.floats(0, 100),
    idle_since=st.floats(0, 100),
)


@given(
    st.lists(seats, max_size=8, unique_by=lambda seat: seat.number),
    st.builds(PoolLimits, st.integers(1, 5), st.none() | st.integers(1, 30), st.floats(1, 60)),
    st.booleans(),
    st.integers(0, 3),
    st.none() | st.floats(0, 100),
)
def test_whatever_there_is_the_choice_is_a_right_one(
    there: list[Seat], terms: PoolLimits, opening: bool, closing: int, since: float | None
) -> None:
    choice = choose(there, terms, opening=opening, closing=closing, now=100.0, opened_since=since)
    by_number = {seat.number: seat for seat in there}
    assert not any(by_number[number].busy for number in choice.close)
    if isinstance(choice.what, Reuse):
        taken = by_number[choice.what.number]
        assert taken.fits
        assert not taken.busy
        assert not is_worn(taken, terms, 100.0)
        assert taken.number not in choice.close
        assert since is None or taken.opened_at >= since
    if isinstance(choice.what, Open):
        assert not opening
        assert len(there) + closing < terms.connections
    if isinstance(choice.what, Wait):
        # Somebody will come and wake who waits: a login, a farewell, a busy session, or one that is closed just now.
        assert opening or closing or choice.close or any(seat.busy for seat in there)
