"""Signed requests for tokens: applications with a certificate, and Google's service accounts. PURE.

Guarantees: an assertion is valid for ten minutes at most, for one server. No repr shows one.
Not here: the signature, which is a function (signing.rsa_key), the request that carries it (oauth.token_request).
RFC 7523 section 3, RFC 7515 section 3.1, https://learn.microsoft.com/entra/identity-platform/certificate-credentials,
https://developers.google.com/identity/protocols/oauth2/service-account
"""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

Sign: TypeAlias = Callable[[bytes], bytes]

_VALID: Final = 600  # seconds; Google accepts an hour at most
_EARLY: Final = 60  # seconds before the present: the clocks of both sides differ


@dataclass(frozen=True, slots=True)
class CertificateProof:
    """An application's certificate and the signature with its key: PS256 (signing.rsa_key.RsaKey.sign_ps256)."""

    thumbprint: bytes  # SHA-256
    sign: Sign = field(repr=False)


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """A service account of Google: the fields of its key file, and the signature RS256 with its key."""

    email: str  # client_email
    key_id: str  # private_key_id
    token_url: str  # token_uri
    sign: Sign = field(repr=False)


def client_assertion(proof: CertificateProof, client_id: str, audience: str, now: int, unique: str) -> str:
    """The assertion of an application with a certificate at `audience`, the token endpoint.

    `now`: seconds since 1970; `unique`: a random text, never used before.
    """
    header = {"alg": "PS256", "typ": "JWT", "x5t#S256": _base64url(proof.thumbprint)}
    claims = {
        "aud": audience,
        "iss": client_id,
        "sub": client_id,
        "jti": unique,
        "nbf": now - _EARLY,
        "iat": now,
        "exp": now + _VALID,
    }
    return _signed(header, claims, proof.sign)


def delegated_assertion(account: ServiceAccount, user: str, scopes: str, now: int) -> str:
    """The assertion of a service account for a token of one user, by domain-wide delegation.

    `now`: seconds since 1970.
    """
    header = {"alg": "RS256", "typ": "JWT", "kid": account.key_id}
    claims = {
        "iss": account.email,
        "sub": user,
        "scope": scopes,
        "aud": account.token_url,
        "iat": now - _EARLY,
        "exp": now - _EARLY + _VALID,
    }
    return _signed(header, claims, account.sign)


def _signed(header: Mapping[str, Any], claims: Mapping[str, Any], sign: Sign) -> str:
    text = f"{_base64url(_compact(header))}.{_base64url(_compact(claims))}"
    return f"{text}.{_base64url(sign(text.encode('ascii')))}"


def _compact(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry, separators=(",", ":")).encode("utf-8")


def _base64url(octets: bytes) -> str:
    """Base64 for URLs, without padding. RFC 7515 section 2."""
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")
