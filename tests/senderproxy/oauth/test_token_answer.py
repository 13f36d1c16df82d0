"""Answers of token endpoints: tokens, refusals with their causes, and every other text."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senderproxy.oauth.refusals import RefusalCause, TokenRefusal
from senderproxy.oauth.token_answer import LONGEST, Tokens, lifetime_of, read_token_answer

_MICROSOFT = {"token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599, "access_token": "geheim-eyJ0"}


def answer(**entry: object) -> bytes:
    return json.dumps(entry).encode()


def test_tokens_of_microsoft() -> None:
    tokens = read_token_answer(200, json.dumps(_MICROSOFT).encode())
    assert tokens == Tokens("geheim-eyJ0", 3599.0, "")


def test_a_rotated_refresh_token() -> None:
    tokens = read_token_answer(200, answer(access_token="geheim-a", refresh_token="geheim-r", expires_in="60"))
    assert tokens == Tokens("geheim-a", 60.0, "geheim-r")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, 3600),
        (3599, 3599),
        ("3599", 3599),
        ("3599.5", 3599.5),
        (0, 3600),
        (-5, 3600),
        (0.5, 0.5),
        (1, 1),
        (True, 3600),
        ("soon", 3600),
        ("", 3600),
        ("9" * 400, 3600),
        ("nan", 3600),
        ("inf", 3600),
        (float("inf"), 3600),
        ([3600], 3600),
        (10**30, 86400),
        (90 * 86400, 86400),
    ],
)
def test_lifetimes(value: object, seconds: float) -> None:
    assert lifetime_of(value) == seconds


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"access_token": None},
        {"access_token": ""},
        {"access_token": 5},
        {"access_token": "geheim with a blank"},
        {"access_token": "geheim-\r\nAUTH"},
        {"access_token": "geheim-ü"},
        {"access_token": "g" * 16385},
        {"access_token": "geheim-a", "token_type": "mac"},
        {"access_token": "geheim-a", "token_type": ["Bearer"]},
        {"access_token": "geheim-a", "refresh_token": "two words"},
        {"access_token": "geheim-a", "refresh_token": 7},
    ],
)
def test_tokens_that_cannot_be_used(entry: dict[str, object]) -> None:
    found = read_token_answer(200, json.dumps(entry).encode())
    assert isinstance(found, TokenRefusal)
    assert found.cause is RefusalCause.INVALID_ANSWER
    assert found.is_temporary
    assert "geheim" not in f"{found}"


@pytest.mark.parametrize(
    ("status", "body", "cause"),
    [
        (200, b"", RefusalCause.INVALID_ANSWER),
        (200, b"<html>Log in to the hotel's network</html>", RefusalCause.INVALID_ANSWER),
        (200, b"[]", RefusalCause.INVALID_ANSWER),
        (200, b'"text"', RefusalCause.INVALID_ANSWER),
        (200, b"\xff\xfe", RefusalCause.INVALID_ANSWER),
        (200, b"[" * 100_000, RefusalCause.INVALID_ANSWER),
        (200, b'{"a":' * 10_000, RefusalCause.INVALID_ANSWER),
        (200, b"1" * (LONGEST + 1), RefusalCause.INVALID_ANSWER),
        (302, b"", RefusalCause.INVALID_ANSWER),
        (404, b"Not Found", RefusalCause.INVALID_ANSWER),
        (429, b"", RefusalCause.AWAY),
        (500, b"", RefusalCause.AWAY),
        (503, b"<html>", RefusalCause.AWAY),
        (400, answer(error=5), RefusalCause.INVALID_ANSWER),
    ],
)
def test_answers_without_an_error_code(status: int, body: bytes, cause: RefusalCause) -> None:
    found = read_token_answer(status, body)
    assert isinstance(found, TokenRefusal)
    assert found.cause is cause


def test_the_words_of_the_server_are_one_bounded_line() -> None:
    words = "AADSTS7000222: The provided client secret keys are expired.\x1b[31m\r\nTrace ID: 1\r\n" + "x" * 5000
    found = read_token_answer(401, answer(error="invalid_client", error_description=words, error_codes=[7000222]))
    assert found == TokenRefusal(
        RefusalCause.SECRET_EXPIRED,
        "invalid_client",
        "AADSTS7000222: The provided client secret keys are expired. [31m",
    )


def test_an_error_in_an_answer_with_status_200() -> None:
    found = read_token_answer(200, answer(error="invalid_grant", access_token="geheim-a"))
    assert isinstance(found, TokenRefusal)
    assert found.cause is RefusalCause.GRANT_ENDED


def test_tokens_are_not_shown() -> None:
    assert "geheim" not in repr(Tokens("geheim-a", 1.0, "geheim-r"))


@given(st.integers(100, 599), st.binary(max_size=200))
def test_any_octets(status: int, body: bytes) -> None:
    assert isinstance(read_token_answer(status, body), TokenRefusal)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_FIELDS = ("access_token", "token_type", "expires_in", "refresh_token", "error", "error_description", "error_codes")


@given(st.integers(100, 599), st.dictionaries(st.sampled_from(_FIELDS), _JSON))
def test_any_object(status: int, entry: dict[str, object]) -> None:
    found = read_token_answer(status, json.dumps(entry).encode())
    match found:
        case Tokens(access, lifetime, _):
            assert access
            assert 0 < lifetime <= 86400
        case TokenRefusal(_, error, words):
            assert error.isprintable()
            assert words.isprintable()
            assert len(words) <= 300
