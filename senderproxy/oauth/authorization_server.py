"""Authorization servers: addresses and scopes of token requests for SMTP. PURE.

Guarantees: every address is an https one, except on this machine (RFC 6749 section 3.2 requires TLS).
Not here: requests (oauth.token_request), the smarthosts of the same providers (routing.provider).
Sources: https://learn.microsoft.com/exchange/client-developer/legacy-protocols/how-to-authenticate-an-imap-pop-smtp-application-by-using-oauth,
https://developers.google.com/workspace/gmail/imap/xoauth2-protocol, https://developers.google.com/identity/protocols/oauth2/service-account
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from senderproxy.errors import SenderproxyError
from senderproxy.http_client.errors import InvalidUrl
from senderproxy.http_client.url import parse_url
from senderproxy.translation import _

MICROSOFT: Final = "microsoft"
GOOGLE: Final = "google"

# A tenant is a GUID or one of its domains. RFC 1035 section 2.3.4: 253 characters.
_TENANT: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
# No tenants, but names of Microsoft for many at once. An application alone gets no token there (AADSTS9001023).
_NO_TENANTS: Final = frozenset({"common", "organizations", "consumers"})


class AuthorizationServerError(SenderproxyError):
    """An address or a tenant of an authorization server is not usable."""


@dataclass(frozen=True, slots=True)
class AuthorizationServer:
    """The endpoints of one authorization server. An empty one is not offered."""

    name: str  # microsoft, google, or the name that the operator gave
    token_url: str
    authorization_url: str = ""
    device_url: str = ""
    scopes: str = ""  # of a person's consent, separated by spaces
    application_scopes: str = ""  # of client credentials
    # Further parameters of the authorization request; without them Google returns no refresh token.
    authorization_parameters: tuple[tuple[str, str], ...] = ()


def microsoft(tenant: str) -> AuthorizationServer:
    """Return Microsoft's server for one tenant: its GUID or one of its domains. Raises AuthorizationServerError."""
    if not _TENANT.fullmatch(tenant):
        raise AuthorizationServerError(
            _("{tenant} is no tenant of Microsoft.").format(tenant=tenant[:_SHOWN]),
            hint=_("Enter the Directory (tenant) ID from the overview of the app registration."),
        )
    base = f"https://login.microsoftonline.com/{tenant}/oauth2/v2.0"
    return AuthorizationServer(
        MICROSOFT,
        token_url=f"{base}/token",
        authorization_url=f"{base}/authorize",
        device_url=f"{base}/devicecode",
        scopes="https://outlook.office.com/SMTP.Send offline_access",
        application_scopes="https://outlook.office365.com/.default",
    )


def has_application_of_its_own(tenant: str) -> bool:
    """True for a tenant with applications of its own: Microsoft refuses client credentials at `common`."""
    return tenant.lower() not in _NO_TENANTS


def google() -> AuthorizationServer:
    """Return Google's server. Its device flow does not permit the scope of mail, so it has no address here."""
    return AuthorizationServer(
        GOOGLE,
        token_url="https://oauth2.googleapis.com/token",
        authorization_url="https://accounts.google.com/o/oauth2/v2/auth",
        scopes="https://mail.google.com/",
        application_scopes="https://mail.google.com/",
        authorization_parameters=(("access_type", "offline"), ("prompt", "consent")),
    )


def custom(
    name: str, token_url: str, authorization_url: str = "", device_url: str = "", scopes: str = ""
) -> AuthorizationServer:
    """Return a server by its addresses. Raises AuthorizationServerError for an unusable one."""
    for url in filter(None, (token_url, authorization_url, device_url)):
        _check_url(url)
    return AuthorizationServer(name, token_url, authorization_url, device_url, scopes, scopes)


_SHOWN: Final = 100  # characters of a wrong value in an error


def _check_url(text: str) -> None:
    try:
        url = parse_url(text)
    except InvalidUrl as error:
        raise AuthorizationServerError(error.message, hint=error.hint) from error
    if url.authorization or "#" in text:
        raise AuthorizationServerError(
            _("{url} has a user name or a fragment, which an endpoint has not.").format(url=url),
            hint=_("Enter it as https://HOST/PATH, as the documentation of the provider shows it."),
        )
    if url.scheme != "https" and not _is_this_machine(url.host):
        raise AuthorizationServerError(
            _("{url} has no TLS: tokens are requested by https only.").format(url=url),
            hint=_("Enter it as https://HOST/PATH, as the documentation of the provider shows it."),
        )


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
