"""The limit of failed logins."""

import json

from senderproxy.web.login_limits import FAILURES, FAILURES_OF_ALL, NAMES_LIMIT, PERIOD, LoginLimits


def test_a_name_waits_after_some_failures_until_the_first_is_old() -> None:
    limits = LoginLimits()
    for second in range(FAILURES):
        assert limits.wait("anna", float(second)) == 0
        limits.add_failure("anna", float(second))
    assert limits.wait("anna", 100.0) == PERIOD - 100
    assert limits.wait("bert", 100.0) == 0
    assert limits.wait("anna", PERIOD) == 0
    assert limits.wait("anna", PERIOD - 1) > 0


def test_all_names_together_wait_so_that_changing_names_gives_no_more_guesses() -> None:
    limits = LoginLimits()
    for number in range(FAILURES_OF_ALL):
        assert limits.wait(f"name{number}", 0.0) == 0
        limits.add_failure(f"name{number}", 0.0)
    assert limits.wait("another", 1.0) == PERIOD - 1
    assert not limits.is_empty(PERIOD - 1)
    assert limits.is_empty(PERIOD)


def test_memory_is_bounded_whatever_names_are_tried() -> None:
    limits = LoginLimits()
    for number in range(NAMES_LIMIT * 3):
        limits.add_failure(f"{number}-{'x' * 10_000}", float(number))
    assert len(limits._of_name) == NAMES_LIMIT
    assert max(map(len, limits._of_name)) <= 64
    assert len(limits._of_all) == FAILURES_OF_ALL


def test_the_next_process_knows_the_failures_and_no_name_that_may_be_a_password() -> None:
    limits = LoginLimits()
    for second in range(FAILURES):
        limits.add_failure("anna", float(second))
    limits.add_failure("a password in the wrong field", 10.0)
    entries = json.loads(json.dumps(limits.entries({"anna", "bert"})))
    assert "password" not in str(entries)
    after = LoginLimits.of_entries(entries, 20.0)
    assert after.wait("anna", 20.0) == limits.wait("anna", 20.0) > 0
    assert after.is_empty(PERIOD + 9) is False
    assert LoginLimits.of_entries(entries, 2.0).wait("anna", 2.0) == 0  # of an earlier boot: the clock began again
    assert LoginLimits.of_entries({}, 0.0).is_empty(0.0)
