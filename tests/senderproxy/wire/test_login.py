"""AUTH PLAIN and AUTH LOGIN, step by step."""

import pickle
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senderproxy.mail.reply import Reply
from senderproxy.wire.login import Challenge, Login, LoginAttempt, Mechanism, Progress


def encoded(text: str, charset: str = "utf-8") -> str:
    return b64encode(text.encode(charset)).decode("ascii")


def claimed(progress: Progress) -> tuple[str, str]:
    assert isinstance(progress, LoginAttempt)
    return progress.user, progress.reveal()


def test_plain_with_its_initial_response() -> None:
    assert claimed(Login(Mechanism.PLAIN).begin(encoded("\0anna\0geheim-1"))) == ("anna", "geheim-1")
    assert claimed(Login(Mechanism.PLAIN).begin(encoded("anna\0anna\0geheim-1"))) == ("anna", "geheim-1")


def test_plain_asked_with_an_empty_challenge() -> None:
    login = Login(Mechanism.PLAIN)
    challenge = login.begin(None)
    assert isinstance(challenge, Challenge)
    assert challenge.render() == b"334 \r\n"
    assert claimed(login.answer(encoded("\0anna\0geheim-1").encode())) == ("anna", "geheim-1")


def test_login_asks_for_name_and_password_as_old_devices_expect() -> None:
    login = Login(Mechanism.LOGIN)
    first = login.begin(None)
    assert isinstance(first, Challenge)
    assert first.render() == b"334 VXNlcm5hbWU6\r\n"
    second = login.answer(encoded("anna").encode())
    assert isinstance(second, Challenge)
    assert second.render() == b"334 UGFzc3dvcmQ6\r\n"
    assert claimed(login.answer(encoded("geheim-1").encode())) == ("anna", "geheim-1")


def test_login_with_the_name_at_once() -> None:
    login = Login(Mechanism.LOGIN)
    assert isinstance(login.begin(encoded("anna")), Challenge)
    assert claimed(login.answer(encoded("geheim-1").encode())) == ("anna", "geheim-1")


def test_umlauts_in_the_code_page_of_an_old_device_are_understood() -> None:
    assert claimed(Login(Mechanism.PLAIN).begin(encoded("\0jörg\0geheim-ü", "latin-1"))) == ("jörg", "geheim-ü")


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
    answer = Login(Mechanism.PLAIN).begin(initial)
    assert isinstance(answer, Reply)
    assert (answer.code, str(answer.status)) == (code, status)
    assert "geheim" not in str(answer)


def test_a_star_breaks_the_login_off() -> None:
    login = Login(Mechanism.LOGIN)
    login.begin(None)
    answer = login.answer(b"*")
    assert isinstance(answer, Reply)
    assert answer.code == 501


def test_an_answer_over_the_limit_is_refused() -> None:
    login = Login(Mechanism.LOGIN)
    login.begin(None)
    answer = login.answer(b"A" * 12_288)
    assert isinstance(answer, Reply)
    assert str(answer.status) == "5.5.6"


def test_a_claim_shows_nothing_and_is_not_pickled() -> None:
    claim = LoginAttempt("anna", "geheim-1")
    assert "geheim" not in repr(claim) + str(claim)
    with pytest.raises(TypeError):
        pickle.dumps(claim)


@given(st.sampled_from(list(Mechanism)), st.none() | st.text(max_size=40), st.lists(st.binary(max_size=60), max_size=4))
def test_any_answers_lead_somewhere(mechanism: Mechanism, initial: str | None, lines: list[bytes]) -> None:
    login = Login(mechanism)
    progress = login.begin(initial)
    for line in lines:
        if not isinstance(progress, Challenge):
            break
        progress = login.answer(line)
    assert isinstance(progress, Challenge | LoginAttempt | Reply)
