"""The limit of failed logins."""

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
