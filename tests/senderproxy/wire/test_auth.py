"""AUTH exchanges with PLAIN and LOGIN."""

import pickle
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senderproxy.mail.reply import Reply
from senderproxy.wire.auth import AuthExchange, Challenge, LoginAttempt, Mechanism, Progress


def encoded(text: str, charset: str = "utf-8") -> str:
    return b64encode(text.encode(charset)).decode("ascii")


def credentials_of(progress: Progress) -> tuple[str, str]:
    assert isinstance(progress, LoginAttempt)
    return progress.user, progress.reveal()


def test_plain_with_its_initial_response() -> None:
    assert credentials_of(AuthExchange(Mechanism.PLAIN).start(encoded("\0anna\0geheim-1"))) == ("anna", "geheim-1")
    assert credentials_of(AuthExchange(Mechanism.PLAIN).start(encoded("anna\0anna\0geheim-1"))) == ("anna", "geheim-1")


def test_plain_with_an_empty_challenge() -> None:
    exchange = AuthExchange(Mechanism.PLAIN)
    challenge = exchange.start(None)
    assert isinstance(challenge, Challenge)
    assert challenge.render() == b"334 \r\n"
    assert credentials_of(exchange.handle_response(encoded("\0anna\0geheim-1").encode())) == ("anna", "geheim-1")


def test_login_sends_the_challenges_that_old_devices_expect() -> None:
    exchange = AuthExchange(Mechanism.LOGIN)
    first = exchange.start(None)
    assert isinstance(first, Challenge)
    assert first.render() == b"334 VXNlcm5hbWU6\r\n"
    second = exchange.handle_response(encoded("anna").encode())
    assert isinstance(second, Challenge)
    assert second.render() == b"334 UGFzc3dvcmQ6\r\n"
    assert credentials_of(exchange.handle_response(encoded("geheim-1").encode())) == ("anna", "geheim-1")


def test_login_with_the_user_name_as_initial_response() -> None:
    exchange = AuthExchange(Mechanism.LOGIN)
    assert isinstance(exchange.start(encoded("anna")), Challenge)
    assert credentials_of(exchange.handle_response(encoded("geheim-1").encode())) == ("anna", "geheim-1")


def test_umlauts_in_latin_1_are_decoded() -> None:
    assert credentials_of(AuthExchange(Mechanism.PLAIN).start(encoded("\0jörg\0geheim-ü", "latin-1"))) == (
        "jörg",
        "geheim-ü",
    )


@pytest.mark.parametrize(
    ("initial", "code", "status"),
    [
        ("=", 501, "5.5.2"),
        ("%%%", 501, "5.5.2"),
        ("QUJ", 501, "5.5.2"),
        (encoded("anna"), 501, "5.5.2"),
        (encoded("\0anna"), 501, "5.5.2"),
        (encoded("\0anna\0a\0b"), 501, "5.5.2"),
        (encoded("\0\0geheim-1"), 501, "5.5.2"),
        (encoded("boss\0anna\0geheim-1"), 535, "5.7.8"),
    ],
)
def test_a_malformed_login_is_refused_without_repeating_it(initial: str, code: int, status: str) -> None:
    answer = AuthExchange(Mechanism.PLAIN).start(initial)
    assert isinstance(answer, Reply)
    assert (answer.code, str(answer.status)) == (code, status)
    assert "geheim" not in str(answer)


def test_an_asterisk_cancels_the_exchange() -> None:
    exchange = AuthExchange(Mechanism.LOGIN)
    exchange.start(None)
    answer = exchange.handle_response(b"*")
    assert isinstance(answer, Reply)
    assert answer.code == 501


def test_a_response_over_the_limit_is_refused() -> None:
    exchange = AuthExchange(Mechanism.LOGIN)
    exchange.start(None)
    answer = exchange.handle_response(b"A" * 12_288)
    assert isinstance(answer, Reply)
    assert str(answer.status) == "5.5.6"


def test_a_login_attempt_shows_nothing_and_is_not_pickled() -> None:
    attempt = LoginAttempt("anna", "geheim-1")
    assert "geheim" not in repr(attempt) + str(attempt)
    with pytest.raises(TypeError):
        pickle.dumps(attempt)


@given(st.sampled_from(list(Mechanism)), st.none() | st.text(max_size=40), st.lists(st.binary(max_size=60), max_size=4))
def test_any_responses_lead_to_a_challenge_an_attempt_or_a_reply(
    mechanism: Mechanism, initial: str | None, lines: list[bytes]
) -> None:
    exchange = AuthExchange(mechanism)
    progress = exchange.start(initial)
    for line in lines:
        if not isinstance(progress, Challenge):
            break
        progress = exchange.handle_response(line)
    assert isinstance(progress, Challenge | LoginAttempt | Reply)


@pytest.mark.parametrize(
    ("user", "password"), [("anna", "geheim-1"), ("a", "geheim-12"), ("scanner", "geheim-123"), ("ab", "geheim-")]
)
def test_base64_without_padding_is_read_for_devices_only(user: str, password: str) -> None:
    plain = encoded(f"\0{user}\0{password}").rstrip("=")
    assert credentials_of(AuthExchange(Mechanism.PLAIN, lenient=True).start(plain)) == (user, password)
    exchange = AuthExchange(Mechanism.LOGIN, lenient=True)
    exchange.start(None)
    assert isinstance(exchange.handle_response(encoded(user).rstrip("=").encode()), Challenge)
    assert credentials_of(exchange.handle_response(encoded(password).rstrip("=").encode())) == (user, password)
    if encoded(user).endswith("="):
        assert isinstance(AuthExchange(Mechanism.LOGIN).start(encoded(user).rstrip("=")), Reply)


@pytest.mark.parametrize("text", ["a", "ab=c", "abc d", "abcde", "a===", "geh\u00e4"])
def test_other_text_stays_invalid_for_devices(text: str) -> None:
    assert isinstance(AuthExchange(Mechanism.LOGIN, lenient=True).start(text), Reply)
