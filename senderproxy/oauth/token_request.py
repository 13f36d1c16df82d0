"""Requests to an authorization server, as forms: tokens for each kind of grant, and the codes of a device. PURE.

Guarantees: no repr shows a secret, a code or a token; all of them are in the body, never in the address.
Not here: the transport (http_client), the answers (oauth.token_answer), a person's consent (oauth.consent).
RFC 6749 sections 4.1.3, 4.4.2 and 6, RFC 7523 section 2, RFC 7636 section 4.5, RFC 8628 sections 3.1 and 3.4.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlencode

from senderproxy.oauth.assertion import CertificateProof, ServiceAccount, client_assertion, delegated_assertion
from senderproxy.oauth.authorization_server import AuthorizationServer

_ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_DEVICE_CODE: Final = "urn:ietf:params:oauth:grant-type:device_code"
_SECRETS: Final = (
    "refresh_token", "client_secret", "client_assertion", "assertion", "code", "code_verifier", "device_code",
)  # fmt: skip

HEADERS: Final[Mapping[str, str]] = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}


@dataclass(frozen=True, slots=True)
class Application:
    """An application as registered at a provider. It proves itself by a secret, a certificate, or not at all.

    One without a proof is a public client; only a person's consent gets tokens for it.
    """

    server: AuthorizationServer
    client_id: str
    secret: str = field(default="", repr=False)
    certificate: CertificateProof | None = None


@dataclass(frozen=True, slots=True)
class FormRequest:
    """A POST request with a form. Its headers are `HEADERS`. `secrets`: the values that no error may repeat."""

    url: str
    body: bytes = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Moment:
    """The time of a request, in seconds since 1970, and a random text for one use."""

    now: int
    unique: str


def by_application(application: Application, at: Moment) -> FormRequest:
    """Ask for a token of the application itself, for all its mailboxes (client credentials)."""
    form = {"grant_type": "client_credentials", "scope": application.server.application_scopes}
    return _request(application, form, at)


def by_refresh_token(application: Application, refresh_token: str, at: Moment) -> FormRequest:
    """Ask for a token by the refresh token of a person's consent."""
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
    return _request(application, form, at)


def by_code(application: Application, code: str, verifier: str, redirect: str, at: Moment) -> FormRequest:
    """Ask for the first tokens by the code of a consent. `redirect`: the address of the authorization request."""
    form = {"grant_type": "authorization_code", "code": code, "code_verifier": verifier, "redirect_uri": redirect}
    return _request(application, form, at)


def device_authorization(application: Application) -> FormRequest:
    """Ask for the codes of a consent at another device."""
    form = {"client_id": application.client_id, "scope": application.server.scopes}
    return _form(application.server.device_url, form)


def by_device_code(application: Application, device_code: str, at: Moment) -> FormRequest:
    """Ask for the first tokens by a device code."""
    return _request(application, {"grant_type": _DEVICE_CODE, "device_code": device_code}, at)


def by_service_account(account: ServiceAccount, user: str, scopes: str, now: int) -> FormRequest:
    """Ask for a token of one user by a service account of Google. `now`: seconds since 1970."""
    assertion = delegated_assertion(account, user, scopes, now)
    return _form(account.token_url, {"grant_type": _JWT_BEARER, "assertion": assertion})


def _request(application: Application, form: Mapping[str, str], at: Moment) -> FormRequest:
    """The request with the application's proof in the form: Microsoft and Google take no Basic authentication."""
    url = application.server.token_url
    proof: dict[str, str] = {"client_id": application.client_id}
    if application.certificate is not None:
        proof["client_assertion_type"] = _ASSERTION_TYPE
        proof["client_assertion"] = client_assertion(
            application.certificate, application.client_id, url, at.now, at.unique
        )
    elif application.secret:
        proof["client_secret"] = application.secret
    return _form(url, {**form, **proof})


def _form(url: str, form: Mapping[str, str]) -> FormRequest:
    secrets = tuple(form[name] for name in _SECRETS if form.get(name))
    return FormRequest(url, urlencode(form).encode("ascii"), secrets)
