"""The account's health is decided from values alone."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from senderproxy.delivery import account_health
from senderproxy.delivery.account_health import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    FailedLogin,
    Health,
    HealthEvent,
    Healthy,
    LimitReached,
    LoggedIn,
    MessageAccepted,
    Paused,
    Resumed,
    Suspended,
)
from senderproxy.delivery.causes import Cause
from senderproxy.delivery.hints import Login, hint
from senderproxy.learned import Instant
from senderproxy.mail.reply import Reply, parse_reply, reply

LOGIN = Login("anna", "anna@firma.example", "ionos-de", "smtp.ionos.example")
NOW = datetime(2026, 1, 31, 8, 15, tzinfo=UTC)
WRONG = reply(535, None, "Authentication credentials invalid")
LIMIT = parse_reply([b"450-Requested mail action not taken: mailbox unavailable", b"450 Mail send limit exceeded."])


def happen(state: Health, occurred: HealthEvent, at: float) -> Health:
    return account_health.next_health(state, occurred, now=NOW, monotonic=at)


def against(state: Health, *, version: str = "v1", at: float) -> Reply | None:
    return account_health.blocking_reply(state, version, LOGIN, monotonic=at)


def test_one_refused_password_stops_the_account_until_the_secret_changes() -> None:
    state = happen(Healthy(), FailedLogin(Cause.PASSWORD, WRONG, "v1"), 100.0)
    assert isinstance(state, Suspended)
    objection = against(state, at=1e9)
    assert objection is not None
    assert str(objection) == (
        "451 4.7.8 smtp.ionos.example refused the login of account anna (anna@firma.example): "
        "535 Authentication credentials invalid. To fix: senderproxy account set-password anna"
    )
    assert against(state, version="v2", at=101.0) is None


def test_the_reply_after_a_refused_password_is_one_line_with_the_command() -> None:
    objection = against(happen(Healthy(), FailedLogin(Cause.PASSWORD, WRONG, "v1"), 0.0), at=0.0)
    assert objection is not None
    assert "set-password anna" in objection.text
    assert "anna@firma.example" in objection.text


def test_the_operator_can_resume_a_suspended_account() -> None:
    state = happen(happen(Healthy(), FailedLogin(Cause.PASSWORD, WRONG, "v1"), 0.0), Resumed(), 1.0)
    assert against(state, at=1.0) is None
    assert isinstance(state, Healthy)
    assert state.since == NOW


def test_a_rate_limit_pauses_longer_each_time_until_a_message_is_accepted() -> None:
    state: Health = Healthy()
    at, lengths = 0.0, []
    for _ in range(8):
        state = happen(state, LimitReached(LIMIT, "v1"), at)
        assert isinstance(state, Paused)
        lengths.append(state.length)
        assert against(state, at=state.until - 0.1) is not None
        assert against(state, at=state.until) is None
        at = state.until + 1
    assert lengths == [60, 120, 240, 480, 960, LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE]
    state = happen(happen(state, MessageAccepted("v1"), at), LimitReached(LIMIT, "v1"), at)
    assert isinstance(state, Paused)
    assert state.length == FIRST_PAUSE


def test_the_same_limit_on_two_sessions_is_one_event() -> None:
    once = happen(Healthy(), LimitReached(LIMIT, "v1"), 100.0)
    assert happen(once, LimitReached(LIMIT, "v1"), 101.0) == once


def test_a_reply_on_an_older_session_does_not_end_a_suspension_or_pause() -> None:
    suspended = happen(Healthy(), FailedLogin(Cause.PASSWORD, WRONG, "v1"), 0.0)
    assert happen(suspended, LimitReached(LIMIT, "v1"), 1.0) == suspended
    assert happen(suspended, MessageAccepted("v1"), 1.0) == suspended
    paused = happen(Healthy(), LimitReached(LIMIT, "v1"), 0.0)
    assert happen(paused, MessageAccepted("v1"), 1.0) == paused


def test_a_new_password_ends_the_suspension() -> None:
    suspended = happen(Healthy(), FailedLogin(Cause.PASSWORD, WRONG, "v1"), 0.0)
    assert isinstance(happen(suspended, MessageAccepted("v2"), 1.0), Healthy)
    assert isinstance(happen(suspended, LimitReached(LIMIT, "v2"), 1.0), Paused)


def test_the_reply_of_a_paused_account_has_the_time_and_the_reason() -> None:
    objection = against(happen(Healthy(), LimitReached(LIMIT, "v1"), 0.0), at=5.0)
    assert objection is not None
    assert objection.text.startswith(
        "Account anna is paused for another 55 s: smtp.ionos.example reported a sending limit: 450 "
    )
    assert "Mail send limit exceeded. To fix: set messages_per_hour in [providers.ionos-de]" in objection.text
    assert objection.code == 451


@pytest.mark.parametrize(
    ("state", "at", "words"),
    [
        (Healthy(), 0.0, "healthy"),
        (
            Suspended(Cause.PASSWORD, WRONG, "v1", NOW),
            0.0,
            "suspended, password refused: 535 Authentication credentials invalid",
        ),
        (
            Paused(Cause.LIMIT, WRONG, "v1", 100.0, NOW, 60.0),
            90.0,
            "paused for another 10 s, sending limit: 535 Authentication credentials invalid",
        ),
        (
            Paused(Cause.LIMIT, WRONG, "v1", 100.0, NOW, 60.0),
            101.0,
            "pause over, next message tries again (sending limit): 535 Authentication credentials invalid",
        ),
    ],
)
def test_status_describes_the_health(state: Health, at: float, words: str) -> None:
    assert account_health.describe(state, monotonic=at) == words


@pytest.mark.parametrize(("seconds", "words"), [(0.2, "1 s"), (59.6, "60 s"), (120.0, "2 min"), (7200.0, "2.0 h")])
def test_durations_are_formatted_for_people(seconds: float, words: str) -> None:
    assert account_health.format_duration(seconds) == words


# ---- beyond a restart ----

LATER = Instant(NOW + timedelta(seconds=40), 1040.0)  # the moment of writing, 40 s after the change at 1000.0


def again(state: Health, down: float, *, other_clock: float = 0.0) -> Health:
    """The health in the process that starts `down` seconds after the writing, on another monotonic clock."""
    fact = json.loads(json.dumps(account_health.health_fact(state, LATER)))
    at = Instant(LATER.now + timedelta(seconds=down), LATER.monotonic + down + other_clock)
    return account_health.read_health(fact, at.before(down))


def test_a_suspension_is_the_same_after_a_restart() -> None:
    state = happen(Healthy(), FailedLogin(Cause.PASSWORD, WRONG, "v1"), 1000.0)
    assert again(state, 86_400.0, other_clock=-90_000.0) == state


@pytest.mark.parametrize("down", [0.0, 10.0, 500.0])
def test_a_pause_goes_on_for_what_is_left_of_it(down: float) -> None:
    state = happen(Healthy(), LimitReached(LIMIT, "v1"), 1000.0)
    assert isinstance(state, Paused)
    after = again(state, down, other_clock=-777.0)
    assert isinstance(after, Paused)
    assert after.until == pytest.approx(state.until - 777.0)
    assert (after.upstream_reply, after.since, after.length) == (LIMIT, NOW, FIRST_PAUSE)
    ended = happen(after, LimitReached(LIMIT, "v1"), after.until)  # the next one is longer, as without a restart
    assert isinstance(ended, Paused)
    assert ended.length == 2 * FIRST_PAUSE


def test_a_healthy_account_has_no_fact() -> None:
    assert account_health.health_fact(Healthy(NOW), LATER) is None


@pytest.mark.parametrize(
    ("name", "value"), [("left", 1e12), ("left", -5), ("since", 1e15), ("since", -1), ("length", 0)]
)
def test_no_stored_number_blocks_an_account_for_long(name: str, value: float) -> None:
    fact = account_health.health_fact(happen(Healthy(), LimitReached(LIMIT, "v1"), 1000.0), LATER)
    assert fact is not None
    state = account_health.read_health({**fact, name: value}, LATER)
    assert isinstance(state, Paused)
    assert LATER.monotonic <= state.until <= LATER.monotonic + LONGEST_PAUSE
    assert FIRST_PAUSE <= state.length <= LONGEST_PAUSE
    assert state.since <= LATER.now


def test_a_state_of_a_later_version_counts_as_healthy() -> None:
    assert account_health.read_health({"state": "waiting", "left": 5}, LATER) == Healthy()


@pytest.mark.parametrize("value", [True, "5", None, float("nan"), float("inf")])
def test_a_fact_of_another_form_is_an_error(value: object) -> None:
    fact = account_health.health_fact(happen(Healthy(), LimitReached(LIMIT, "v1"), 1000.0), LATER)
    assert fact is not None
    with pytest.raises((KeyError, TypeError, ValueError)):
        account_health.read_health({**fact, "left": value}, LATER)


# ---- failed logins ----

REFUSED = reply(535, "5.7.8", "Authentication failed")
AWAY = reply(454, "4.7.0", "Temporary authentication failure")


def waits_of(cause: Cause, said: Reply, *, proven: bool = False, times: int = 6) -> list[float | str]:
    """The seconds of each pause, then the cause of the suspension, of an account whose logins all fail."""
    state: Health = Healthy()
    at, seen = 0.0, list[float | str]()
    for _ in range(times):
        state = happen(state, FailedLogin(cause, said, "v1", proven=proven), at)
        if isinstance(state, Suspended):
            return [*seen, state.cause.value]
        assert isinstance(state, Paused)
        seen.append(state.length)
        at = state.until
    return seen


@pytest.mark.parametrize(
    ("cause", "said", "proven", "waits"),
    [
        (Cause.PASSWORD, REFUSED, False, ["password"]),
        (Cause.PASSWORD, REFUSED, True, [300, 900, 3600, "password"]),
        (Cause.LOCKED, REFUSED, True, [300, 900, 3600, "password"]),
        (Cause.SMTP_OFF, REFUSED, True, ["smtp-off"]),
        (Cause.APP_PASSWORD, REFUSED, False, ["app-password"]),
        (Cause.BACKEND, REFUSED, False, [300, 900, 3600, "login-server"]),
        (Cause.BACKEND, AWAY, False, [300, 900, 3600, 3600, 3600, 3600]),
        (Cause.METHOD, REFUSED, False, [300, 900, 3600, "method"]),
        (Cause.CUT, AWAY, False, [300, 900, 3600, "login-cut"]),
        (Cause.LOGIN_LIMIT, REFUSED, False, [300, 900, 3600, 3600, 3600, 3600]),
    ],
)
def test_a_failed_login_is_tried_again_or_suspends_by_its_cause(
    cause: Cause, said: Reply, proven: bool, waits: list[float | str]
) -> None:
    assert waits_of(cause, said, proven=proven) == waits


def test_a_login_that_works_ends_the_pause_after_a_failed_one_but_not_a_sending_limit() -> None:
    failed = happen(Healthy(), FailedLogin(Cause.BACKEND, AWAY, "v1"), 0.0)
    assert isinstance(happen(failed, LoggedIn("v1"), 301.0), Healthy)
    limited = happen(Healthy(), LimitReached(LIMIT, "v1"), 0.0)
    assert happen(limited, LoggedIn("v1"), 61.0) == limited


def test_a_new_password_ends_every_pause() -> None:
    for state in (
        happen(Healthy(), FailedLogin(Cause.BACKEND, AWAY, "v1"), 0.0),
        happen(Healthy(), LimitReached(LIMIT, "v1"), 0.0),
    ):
        assert against(state, at=1.0) is not None
        assert against(state, version="v2", at=1.0) is None


@pytest.mark.parametrize("cause", [Cause.BACKEND, Cause.PASSWORD_RETRY, Cause.CUT, Cause.METHOD, Cause.LOGIN_LIMIT])
def test_the_reply_to_a_failed_login_never_proposes_a_new_password_first(cause: Cause) -> None:
    objection = against(happen(Healthy(), FailedLogin(cause, AWAY, "v1"), 0.0), at=1.0)
    assert objection is not None
    assert "set-password" not in objection.text
    assert "To fix: " in objection.text


@pytest.mark.parametrize(
    ("provider", "host", "words"),
    [
        ("gmx", "127.0.0.1", "POP3/IMAP Abruf"),
        ("web", "smtp.web.de", "POP3/IMAP Abruf"),
        ("office", "smtp.office365.com", "SmtpClientAuthenticationDisabled"),
        ("hoster", "smtp.hoster.example", "enable access by SMTP for the mailbox at smtp.hoster.example"),
    ],
)
def test_a_switch_of_the_provider_is_named(provider: str, host: str, words: str) -> None:
    assert words in hint(Cause.SMTP_OFF, Login("anna", "anna@firma.example", provider, host))


@pytest.mark.parametrize(
    ("provider", "words"), [("gmail", "apppasswords"), ("t-online", "E-Mail-Passwort"), ("gmx", "anwendungsspezifisch")]
)
def test_a_password_for_programs_is_named(provider: str, words: str) -> None:
    assert words in hint(Cause.APP_PASSWORD, Login("anna", "anna@firma.example", provider, "127.0.0.1"))


def test_a_failed_login_is_the_same_after_a_restart() -> None:
    state = happen(Healthy(), FailedLogin(Cause.CUT, AWAY, "v1"), 1000.0)
    after = again(state, 10.0)
    assert isinstance(after, Paused)
    assert (after.cause, after.version, after.failures, after.length) == (Cause.CUT, "v1", 1, 300.0)
