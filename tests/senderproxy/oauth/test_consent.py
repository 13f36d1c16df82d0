"""A person's consent: the address for the browser, what comes back, and the codes of a device."""

import base64
import hashlib
import json
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senderproxy.oauth.authorization_server import custom, google, microsoft
from senderproxy.oauth.consent import (
    ConsentError,
    ConsentRequest,
    DeviceCodes,
    consent_request,
    read_device_answer,
    read_redirect,
)
from senderproxy.oauth.refusals import RefusalCause, TokenRefusal
from senderproxy.oauth.token_request import Application

_RANDOM = bytes(range(64))
_REDIRECT = "http://127.0.0.1:8765/"


def request(application: Application | None = None) -> ConsentRequest:
    return consent_request(application or Application(google(), "client-1"), _REDIRECT, "anna@firma.de", _RANDOM)


def test_the_address_for_the_browser() -> None:
    made = request()
    parts = urlsplit(made.url)
    sent = {name: values[0] for name, values in parse_qs(parts.query).items()}
    challenge = base64.urlsafe_b64encode(hashlib.sha256(made.verifier.encode()).digest()).decode().rstrip("=")
    assert f"{parts.scheme}://{parts.netloc}{parts.path}" == "https://accounts.google.com/o/oauth2/v2/auth"
    assert sent == {
        "client_id": "client-1",
        "response_type": "code",
        "redirect_uri": _REDIRECT,
        "scope": "https://mail.google.com/",
        "state": made.state,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
        "login_hint": "anna@firma.de",
        "access_type": "offline",
        "prompt": "consent",
    }
    assert 43 <= len(made.verifier) <= 128  # RFC 7636 section 4.1
    assert made.verifier not in made.url
    assert made.verifier not in repr(made)


def test_an_address_with_parameters_of_its_own() -> None:
    server = custom("firma", "https://login.firma.de/token", "https://login.firma.de/auth?realm=mail", scopes="smtp")
    assert request(Application(server, "c")).url.startswith("https://login.firma.de/auth?realm=mail&client_id=c&")


def test_every_request_has_secrets_of_its_own() -> None:
    other = consent_request(Application(google(), "client-1"), _REDIRECT, "anna@firma.de", bytes(64))
    assert other.state != request().state
    assert other.verifier != request().verifier
    with pytest.raises(ValueError, match="64"):
        consent_request(Application(google(), "client-1"), _REDIRECT, "anna@firma.de", b"short")


@pytest.mark.parametrize(
    "form",
    [
        "http://127.0.0.1:8765/?{}",
        "https://localhost/?{}#",
        "  http://127.0.0.1:8765/?{}\n",
        "?{}",
        "{}",
    ],
)
def test_what_a_person_pastes(form: str) -> None:
    made = request()
    query = urlencode({"code": "0.AX-code", "state": made.state, "session_state": "x"})
    assert read_redirect(made, form.format(query)) == "0.AX-code"


@pytest.mark.parametrize(
    "pasted",
    [
        "",
        "yes",
        "https://accounts.google.com/signin",
        "http://127.0.0.1:8765/?code=abc",
        "http://127.0.0.1:8765/?code=abc&state=other",
        "http://127.0.0.1:8765/?state={state}",
        "http://127.0.0.1:8765/?code=&state={state}",
        "http://127.0.0.1:8765/?code=two%20words&state={state}",
        "http://127.0.0.1:8765/?code=%0d%0a&state={state}",
        "http://127.0.0.1:8765/?error=access_denied&state=other",
        "http://[::1/?code=abc&state={state}",
        "x" * 20_000,
        "a=b&" * 5000,
    ],
)
def test_what_is_no_answer_to_this_request(pasted: str) -> None:
    made = request()
    with pytest.raises(ConsentError) as caught:
        read_redirect(made, pasted.replace("{state}", made.state))
    assert caught.value.hint


def test_a_refused_consent() -> None:
    made = request()
    query = urlencode({"error": "access_denied", "error_description": "The user\r\nsaid no", "state": made.state})
    assert read_redirect(made, f"{_REDIRECT}?{query}") == TokenRefusal(
        RefusalCause.DENIED, "access_denied", "The user  said no"
    )


@given(st.text(max_size=300))
def test_any_text_is_refused_in_words(pasted: str) -> None:
    with pytest.raises(ConsentError):
        read_redirect(request(), pasted)


def test_the_codes_of_a_device() -> None:
    entry = {
        "device_code": "geheim-d",
        "user_code": "ABCD-EFGH",
        "verification_uri": "https://microsoft.com/devicelogin",
        "expires_in": 900,
        "interval": 5,
    }
    codes = read_device_answer(200, json.dumps(entry).encode())
    assert codes == DeviceCodes("geheim-d", "ABCD-EFGH", "https://microsoft.com/devicelogin", 5.0, 900.0)
    assert "geheim" not in repr(codes)
    assert microsoft("firma.de").device_url == "https://login.microsoftonline.com/firma.de/oauth2/v2.0/devicecode"


@pytest.mark.parametrize(
    ("changes", "interval", "lifetime"),
    [
        ({"interval": None}, 5.0, 900.0),
        ({"interval": "7", "expires_in": "60"}, 7.0, 60.0),
        ({"interval": 0}, 5.0, 900.0),
        ({"interval": 0.001}, 1.0, 900.0),
        ({"interval": 10**9}, 60.0, 900.0),
    ],
)
def test_the_times_of_a_device(changes: dict[str, object], interval: float, lifetime: float) -> None:
    entry = {"device_code": "geheim-d", "user_code": "A", "verification_url": "https://google.com/device", **changes}
    codes = read_device_answer(200, json.dumps(entry).encode())
    assert isinstance(codes, DeviceCodes)
    assert (codes.interval, codes.lifetime) == (interval, lifetime)


@pytest.mark.parametrize(
    ("status", "body", "cause"),
    [
        (200, b"{}", RefusalCause.INVALID_ANSWER),
        (200, b'{"device_code": "d", "user_code": "a\\nb", "verification_uri": "u"}', RefusalCause.INVALID_ANSWER),
        (400, b'{"error": "unauthorized_client"}', RefusalCause.FLOW_OFF),
        (400, b"nonsense", RefusalCause.OTHER),
    ],
)
def test_no_codes_for_a_device(status: int, body: bytes, cause: RefusalCause) -> None:
    found = read_device_answer(status, body)
    assert isinstance(found, TokenRefusal)
    assert found.cause is cause
