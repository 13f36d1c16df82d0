"""Limits on failed logins, on given times."""

import json
from datetime import UTC, datetime

import pytest

from senderproxy.learned import Instant
from senderproxy.listener.login_throttle import LoginThrottle, ThrottleLimits
from senderproxy.relay.counts_of_others import CountsOfOthers

LIMITS = ThrottleLimits(failures=5, window=300, first_delay=0.5, longest_delay=4)


def test_five_failed_logins_lock_the_user_name_for_all_hosts_and_the_host_for_all_names() -> None:
    throttle = LoginThrottle(LIMITS)
    for second in range(5):
        assert throttle.locked_for("192.0.2.1", "anna", second) == 0
        throttle.failed("192.0.2.1", "anna", second)
    assert throttle.locked_for("192.0.2.1", "anna", 5) == 295
    assert throttle.locked_for("192.0.2.9", "anna", 5) == 295
    assert throttle.locked_for("192.0.2.1", "bert", 5) == 295
    assert throttle.locked_for("192.0.2.9", "bert", 5) == 0


def test_a_lock_ends_when_the_failures_are_old() -> None:
    throttle = LoginThrottle(LIMITS)
    for second in range(5):
        throttle.failed("192.0.2.1", "anna", second)
    assert throttle.locked_for("192.0.2.1", "anna", 299.9) > 0
    assert throttle.locked_for("192.0.2.1", "anna", 300) == 0


def test_an_unknown_user_name_is_locked_like_a_known_one() -> None:
    throttle = LoginThrottle(LIMITS)
    for _ in range(5):
        throttle.failed("192.0.2.1", "nobody-at-all", 0)
    assert throttle.locked_for("192.0.2.2", "nobody-at-all", 1) == 299


def test_replies_are_delayed_longer_after_each_failure() -> None:
    throttle = LoginThrottle(LIMITS)
    assert [throttle.failed("192.0.2.1", f"user{n}", 0) for n in range(5)] == [0.5, 1.0, 2.0, 4.0, 4.0]


def test_a_successful_login_clears_the_failures_of_the_name_but_not_of_the_host() -> None:
    throttle = LoginThrottle(LIMITS)
    for _ in range(5):
        throttle.failed("192.0.2.1", "anna", 0)
    throttle.succeeded("192.0.2.3", "anna", 0)
    assert throttle.locked_for("192.0.2.2", "anna", 1) == 0
    assert throttle.locked_for("192.0.2.1", "anna", 1) > 0


def test_many_names_do_not_fill_the_memory() -> None:
    throttle = LoginThrottle(LIMITS)
    for number in range(30_000):
        throttle.failed("192.0.2.1", f"{number}" * 20, number / 1000)
    assert len(throttle._failures) <= 10_000


def test_many_names_that_log_in_beside_other_instances_do_not_fill_the_memory() -> None:
    throttle = LoginThrottle(LIMITS, others=CountsOfOthers("me"))
    for number in range(11_000):
        throttle.failed("192.0.2.1", f"user{number}", 0)
        throttle.succeeded(f"host{number}", f"user{number}", 0)
    assert len(throttle._cleared) == 10_000


OURS, ATTACKER = "192.0.2.1", "198.51.100.66"


def test_a_host_that_logged_in_lately_is_not_locked_by_failures_elsewhere() -> None:
    throttle = LoginThrottle(LIMITS)
    throttle.succeeded(OURS, "anna", 0)
    for second in range(5):
        throttle.failed(ATTACKER, "anna", second)
    assert throttle.locked_for(ATTACKER, "anna", 5) == 295
    assert throttle.locked_for("192.0.2.9", "anna", 5) == 295
    assert throttle.locked_for(OURS, "anna", 5) == 0


def test_failures_of_such_a_host_lock_the_name_at_this_host_only() -> None:
    throttle = LoginThrottle(LIMITS)
    throttle.succeeded(OURS, "anna", 0)
    assert [throttle.failed(OURS, "bert", 10) for _ in range(5)] == [0.5, 1.0, 2.0, 4.0, 4.0]
    assert throttle.locked_for(OURS, "bert", 10) == 300
    assert throttle.locked_for(OURS, "anna", 10) == 0
    assert throttle.locked_for("192.0.2.9", "bert", 10) == 0
    throttle.succeeded(OURS, "bert", 311)
    assert throttle.locked_for(OURS, "bert", 311) == 0


def test_logins_of_a_trusted_host_give_an_attacker_no_new_guesses() -> None:
    throttle = LoginThrottle(LIMITS)
    throttle.succeeded(OURS, "anna", 0)
    for _ in range(5):
        throttle.failed(ATTACKER, "anna", 1)
        throttle.succeeded(OURS, "anna", 1)
    assert throttle.locked_for(ATTACKER, "anna", 1) == 300


def test_a_host_is_trusted_for_thirty_days_after_its_last_login() -> None:
    throttle = LoginThrottle(LIMITS)
    day = 86_400.0
    throttle.succeeded(OURS, "anna", 0)
    throttle.succeeded(OURS, "anna", 20 * day)
    for now, locked in ((49 * day, False), (50 * day, True)):
        for _ in range(5):
            throttle.failed(ATTACKER, "anna", now)
        assert (throttle.locked_for(OURS, "anna", now) > 0) is locked


def test_many_trusted_hosts_do_not_fill_the_memory_and_the_latest_stay() -> None:
    throttle = LoginThrottle(LIMITS)
    for number in range(30_000):
        throttle.succeeded(f"host {number}", "anna", number)
    assert len(throttle._trusted) == 10_000
    for _ in range(5):
        throttle.failed(ATTACKER, "anna", 30_000)
    assert throttle.locked_for("host 29999", "anna", 30_000) == 0
    assert throttle.locked_for("host 1", "anna", 30_000) > 0


# ---- beyond a restart ----

MIDNIGHT, KEY = datetime(2026, 1, 31, tzinfo=UTC), b"k" * 32


def restarted(throttle: LoginThrottle, subjects: list[str], at: float, down: float, key: bytes = KEY) -> LoginThrottle:
    """The throttle of the next process, whose clock begins at 0 when it starts."""
    after = LoginThrottle(LIMITS, key)
    for subject in dict.fromkeys(subjects):
        if (fact := throttle.fact(subject, Instant(MIDNIGHT, at))) is not None:
            assert after.restore(subject, json.loads(json.dumps(fact)), Instant(MIDNIGHT, 0.0).before(down))
    return after


def test_locks_and_trust_outlive_a_restart() -> None:
    throttle, subjects = LoginThrottle(LIMITS, KEY), list[str]()
    throttle.changed = subjects.append
    throttle.succeeded(OURS, "anna", 1000)
    for _ in range(5):
        throttle.failed(ATTACKER, "anna", 1100)
    after = restarted(throttle, subjects, 1150, down=50)
    assert after.locked_for(ATTACKER, "anna", 0) == 200
    assert after.locked_for("192.0.2.9", "anna", 0) == 200
    assert after.locked_for(ATTACKER, "bert", 199) == 1
    assert after.locked_for(ATTACKER, "anna", 200) == 0
    assert after.locked_for(OURS, "anna", 0) == 0
    for subject in subjects:
        assert not any(text in subject for text in ("anna", OURS, ATTACKER))


def test_with_another_key_the_stored_locks_are_not_found() -> None:
    throttle, subjects = LoginThrottle(LIMITS, KEY), list[str]()
    throttle.changed = subjects.append
    for _ in range(5):
        throttle.failed(ATTACKER, "anna", 1100)
    assert restarted(throttle, subjects, 1150, 0, key=b"x" * 32).locked_for(ATTACKER, "anna", 0) == 0


def test_what_is_over_is_reported_so_that_its_row_is_deleted() -> None:
    throttle, subjects = LoginThrottle(LIMITS, KEY), list[str]()
    for _ in range(5):
        throttle.failed(ATTACKER, "anna", 0)
    throttle.changed = subjects.append
    assert throttle.locked_for(ATTACKER, "anna", 300) == 0
    assert len(subjects) == 2
    assert all(throttle.fact(subject, Instant(MIDNIGHT, 300)) is None for subject in subjects)


def test_a_host_that_logs_in_often_is_written_once_an_hour() -> None:
    throttle, subjects = LoginThrottle(LIMITS, KEY), list[str]()
    throttle.changed = subjects.append
    for second in range(0, 7200, 60):
        throttle.succeeded(OURS, "anna", second)
    assert len(subjects) == 2


@pytest.mark.parametrize("ages", [[-1e15], [1e15], [1e15, -1e15]])
def test_no_stored_time_locks_for_longer_than_the_window(ages: list[float]) -> None:
    throttle = LoginThrottle(ThrottleLimits(failures=1, window=300), KEY)
    subjects: list[str] = []
    throttle.changed = subjects.append
    throttle.failed(ATTACKER, "anna", 0)
    for subject in subjects:
        throttle.restore(subject, {"ages": ages}, Instant(MIDNIGHT, 1000.0))
    assert throttle.locked_for(ATTACKER, "anna", 1000) <= 300


def test_what_is_over_by_the_start_is_not_restored() -> None:
    throttle, start = LoginThrottle(LIMITS, KEY), Instant(MIDNIGHT, 1000.0)
    assert throttle.restore("failures x", {"ages": [10, 200]}, start.before(250))
    assert not throttle.restore("failures y", {"ages": [10, 200]}, start.before(290))
    assert throttle.restore("trust x", {"age": 86_400}, start.before(28 * 86_400))
    assert not throttle.restore("trust y", {"age": 86_400}, start.before(29 * 86_400))
    assert (len(throttle._failures), len(throttle._trusted)) == (1, 1)
