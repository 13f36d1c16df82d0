"""The session for a message is chosen from values alone."""

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senderproxy.delivery.reuse import (
    Choice,
    KeepWaiting,
    OpenNew,
    PoolLimits,
    Reuse,
    SessionKey,
    choose,
    is_expired,
    next_expiry,
)

KEY = SessionKey("anna", "anna@firma.example", "v1", (), ("PLAIN",))
OTHER_SECRET = replace(KEY, version="v2")
LIMITS = PoolLimits(connections=2, messages_per_connection=None, idle_seconds=30.0)


@dataclass(frozen=True)
class Open:
    """An open session, as far as the choice goes."""

    number: int
    key: SessionKey = KEY
    busy: bool = False
    message_count: int = 1
    opened_at: float = 0.0
    idle_since: float = 90.0


IDLE = Open(1)


def chosen(
    *sessions: Open, limits: PoolLimits = LIMITS, opening: bool = False, closing: int = 0, since: float | None = None
) -> Choice:
    return choose(sessions, KEY, limits, opening=opening, closing=closing, now=100.0, opened_since=since)


def test_the_first_message_opens_a_session() -> None:
    assert chosen() == Choice(OpenNew())


def test_the_most_recently_used_session_is_taken_so_that_surplus_ones_expire() -> None:
    assert chosen(replace(IDLE, number=1, idle_since=91), replace(IDLE, number=2, idle_since=95)) == Choice(Reuse(2))


def test_a_session_of_another_login_or_secret_is_never_taken_but_closed() -> None:
    assert chosen(replace(IDLE, key=OTHER_SECRET)) == Choice(OpenNew(), close=(1,))


def test_a_busy_session_of_an_old_secret_is_left_to_finish() -> None:
    assert chosen(replace(IDLE, key=OTHER_SECRET, busy=True)) == Choice(OpenNew())


def test_busy_sessions_count_against_the_limit() -> None:
    busy = replace(IDLE, busy=True)
    assert chosen(busy) == Choice(OpenNew())
    assert chosen(busy, replace(busy, number=2)) == Choice(KeepWaiting())


def test_a_session_that_is_being_closed_still_counts() -> None:
    assert chosen(replace(IDLE, busy=True), closing=1) == Choice(KeepWaiting())


def test_during_a_login_no_other_login_starts() -> None:
    assert chosen(opening=True) == Choice(KeepWaiting())
    assert chosen(IDLE, opening=True) == Choice(Reuse(1))


def test_a_session_at_its_limit_of_messages_is_closed() -> None:
    limits = replace(LIMITS, messages_per_connection=20)
    assert chosen(replace(IDLE, message_count=20), limits=limits) == Choice(OpenNew(), close=(1,))
    assert chosen(replace(IDLE, message_count=19), limits=limits) == Choice(Reuse(1))


def test_a_session_idle_for_too_long_is_closed_not_trusted() -> None:
    assert chosen(replace(IDLE, idle_since=70.0)) == Choice(OpenNew(), close=(1,))


@pytest.mark.parametrize("expired", [replace(IDLE, idle_since=70.0), replace(IDLE, idle_since=99.0, message_count=20)])
def test_an_expired_session_beside_a_good_one_is_closed_and_the_good_one_taken(expired: Open) -> None:
    limits = replace(LIMITS, messages_per_connection=20)
    good = replace(IDLE, number=2, idle_since=95.0)
    assert chosen(expired, good, limits=limits) == Choice(Reuse(2), close=(1,))
    assert chosen(good, expired, limits=limits) == Choice(Reuse(2), close=(1,))


def test_a_session_of_an_old_secret_beside_a_good_one_is_closed_and_the_good_one_taken() -> None:
    outdated = replace(IDLE, idle_since=99.0, key=OTHER_SECRET)
    assert chosen(outdated, replace(IDLE, number=2)) == Choice(Reuse(2), close=(1,))


def test_a_message_that_lost_its_session_gets_none_that_was_there_before() -> None:
    assert chosen(replace(IDLE, opened_at=10.0), since=50.0) == Choice(OpenNew())
    assert chosen(replace(IDLE, opened_at=50.0), since=50.0) == Choice(Reuse(1))


def test_at_the_limit_the_session_idle_longest_is_closed_for_a_new_one() -> None:
    full = (replace(IDLE, number=1, idle_since=91), replace(IDLE, number=2, idle_since=95))
    assert chosen(*full, since=99.0) == Choice(KeepWaiting(), close=(1,))
    assert chosen(full[1], closing=1, since=99.0) == Choice(KeepWaiting())


def test_the_next_expiry_is_that_of_the_session_idle_longest() -> None:
    sessions = [IDLE, replace(IDLE, idle_since=80.0), replace(IDLE, busy=True, idle_since=1.0)]
    assert next_expiry(sessions, LIMITS) == 110.0
    assert next_expiry([replace(IDLE, busy=True)], LIMITS) is None


open_sessions = st.builds(
    Open,
    number=st.integers(1, 50),
    key=st.sampled_from([KEY, replace(KEY), OTHER_SECRET]),
    busy=st.booleans(),
    message_count=st.integers(0, 30),
    opened_at=st.floats(0, 100),
    idle_since=st.floats(0, 100),
)


@given(
    st.lists(open_sessions, max_size=8, unique_by=lambda session: session.number),
    st.builds(PoolLimits, st.integers(1, 5), st.none() | st.integers(1, 30), st.floats(1, 60)),
    st.booleans(),
    st.integers(0, 3),
    st.none() | st.floats(0, 100),
)
def test_every_choice_keeps_the_guarantees(
    there: list[Open], limits: PoolLimits, opening: bool, closing: int, since: float | None
) -> None:
    choice = choose(there, KEY, limits, opening=opening, closing=closing, now=100.0, opened_since=since)
    by_number = {session.number: session for session in there}
    assert not any(by_number[number].busy for number in choice.close)
    if isinstance(choice.action, Reuse):
        taken = by_number[choice.action.number]
        assert taken.key == KEY
        assert not taken.busy
        assert not is_expired(taken, limits, 100.0)
        assert taken.number not in choice.close
        assert since is None or taken.opened_at >= since
        unusable = {s.number for s in there if not s.busy and (s.key != KEY or is_expired(s, limits, 100.0))}
        assert set(choice.close) == unusable
    if isinstance(choice.action, OpenNew):
        assert not opening
        assert len(there) + closing < limits.connections
    if isinstance(choice.action, KeepWaiting):
        # Something will wake the message: a login, a close, a busy session, or one that is closed just now.
        assert opening or closing or choice.close or any(session.busy for session in there)
