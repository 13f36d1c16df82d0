"""Token requests: the form of each kind of grant, and signed requests that another implementation verifies."""

import base64
import json
from typing import Any
from urllib.parse import parse_qs

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from senderproxy.oauth import token_request
from senderproxy.oauth.assertion import CertificateProof, ServiceAccount
from senderproxy.oauth.authorization_server import AuthorizationServerError, custom, google, microsoft
from senderproxy.oauth.token_request import Application, Moment
from senderproxy.signing.rsa_key import load_certificate, load_key
from tests.senderproxy.signing.keys import CertifiedKey, certified_key

_AT = Moment(1_800_000_000, "unique-1")
_TENANT = microsoft("firma.onmicrosoft.com")


@pytest.fixture(scope="module")
def key() -> CertifiedKey:
    return certified_key()


def form(body: bytes) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(body.decode(), strict_parsing=True).items()}


def test_the_application_itself() -> None:
    request = token_request.by_application(Application(_TENANT, "client-1", "geheim-secret"), _AT)
    assert request.url == "https://login.microsoftonline.com/firma.onmicrosoft.com/oauth2/v2.0/token"
    assert form(request.body) == {
        "grant_type": "client_credentials",
        "scope": "https://outlook.office365.com/.default",
        "client_id": "client-1",
        "client_secret": "geheim-secret",
    }


def test_a_refresh_token_of_a_public_client() -> None:
    request = token_request.by_refresh_token(Application(_TENANT, "client-1"), "geheim-r", _AT)
    assert form(request.body) == {
        "grant_type": "refresh_token",
        "refresh_token": "geheim-r",
        "client_id": "client-1",
    }


def test_the_code_of_a_consent() -> None:
    request = token_request.by_code(Application(google(), "c", "geheim-s"), "code", "verifier", "http://[::1]/", _AT)
    assert form(request.body) == {
        "grant_type": "authorization_code",
        "code": "code",
        "code_verifier": "verifier",
        "redirect_uri": "http://[::1]/",
        "client_id": "c",
        "client_secret": "geheim-s",
    }


def test_a_device() -> None:
    application = Application(_TENANT, "client-1")
    assert form(token_request.device_authorization(application).body)["scope"] == (
        "https://outlook.office.com/SMTP.Send offline_access"
    )
    request = token_request.by_device_code(application, "geheim-d", _AT)
    assert form(request.body)["grant_type"] == "urn:ietf:params:oauth:grant-type:device_code"


def test_a_certificate_in_place_of_a_secret(key: CertifiedKey) -> None:
    certificate = load_certificate(key.certificate)
    private = load_key(key.key)
    assert private.fits(certificate)
    proof = CertificateProof(certificate.thumbprint, private.sign_ps256)
    request = token_request.by_application(Application(_TENANT, "client-1", certificate=proof), _AT)
    sent = form(request.body)
    assert "client_secret" not in sent
    assert sent["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    header, claims, signed, signature = parts(sent["client_assertion"])
    assert header == {"alg": "PS256", "typ": "JWT", "x5t#S256": unpadded(certificate.thumbprint)}
    assert claims == {
        "aud": request.url,
        "iss": "client-1",
        "sub": "client-1",
        "jti": "unique-1",
        "nbf": _AT.now - 60,
        "iat": _AT.now,
        "exp": _AT.now + 600,
    }
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    key.public.verify(signature, signed, pss, hashes.SHA256())
    with pytest.raises(InvalidSignature):
        key.public.verify(signature, signed + b"x", pss, hashes.SHA256())


def test_a_service_account_of_google(key: CertifiedKey) -> None:
    account = ServiceAccount(
        "robot@p.iam.gserviceaccount.com", "id-7", google().token_url, load_key(key.key).sign_rs256
    )
    request = token_request.by_service_account(account, "anna@firma.de", "https://mail.google.com/", _AT.now)
    sent = form(request.body)
    assert sent["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    header, claims, signed, signature = parts(sent["assertion"])
    assert header == {"alg": "RS256", "typ": "JWT", "kid": "id-7"}
    assert claims["sub"] == "anna@firma.de"
    assert claims["aud"] == "https://oauth2.googleapis.com/token"
    assert claims["exp"] - claims["iat"] == 600
    key.public.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())


def test_nothing_secret_is_shown(key: CertifiedKey) -> None:
    private = load_key(key.key)
    application = Application(_TENANT, "c", "geheim-s", CertificateProof(b"0" * 32, private.sign_ps256))
    for value in (application, private, token_request.by_refresh_token(application, "geheim-r", _AT)):
        assert "geheim" not in repr(value)
        assert "PRIVATE" not in repr(value)


@pytest.mark.parametrize("tenant", ["", "a/b", "../x", "firma.de?x", "firma.de#", "-x", "x" * 300, "firma .de", "ü.de"])
def test_a_tenant_that_is_none(tenant: str) -> None:
    with pytest.raises(AuthorizationServerError):
        microsoft(tenant)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "login.firma.de/token",
        "http://login.firma.de/token",
        "ftp://login.firma.de/token",
        "https:///token",
        "https://geheim-u:p@login.firma.de/token",
        "https://login.firma.de/token#x",
        "https://login.firma.de:99999/token",
        "https://[::1/token",
        "https://login.firma.de/to ken",
        "https://login.firma.de/\r\ntoken",
        "https://lögin.firma.de/token",
    ],
)
def test_an_address_that_is_not_usable(url: str) -> None:
    with pytest.raises(AuthorizationServerError):
        custom("firma", url or "x")


@pytest.mark.parametrize("url", ["https://login.firma.de/token?a=b", "http://127.0.0.1:8080/t", "http://[::1]:1/t"])
def test_a_usable_address(url: str) -> None:
    assert custom("firma", url).token_url == url


def parts(jwt: str) -> tuple[dict[str, object], dict[str, Any], bytes, bytes]:
    header, claims, signature = jwt.split(".")
    return json.loads(decoded(header)), json.loads(decoded(claims)), f"{header}.{claims}".encode(), decoded(signature)


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def unpadded(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).decode().rstrip("=")
