"""Applications of OAuth as requests use them: their server, their keys, the end of their validity.

Guarantees: what `to_record` accepts can be read back. No error contains a secret, a key or a certificate.
Not here: the records (accounts.oauth_application), the requests (oauth), the tokens (accounts.access_tokens).
"""

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from typing import Any, Final

from senderproxy.accounts.oauth_application import FIELDS, Flow, StoredApplication, UsableApplication, unusable
from senderproxy.accounts.record import OAUTH_APPLICATION, StoredRecord
from senderproxy.oauth.assertion import CertificateProof, ServiceAccount
from senderproxy.oauth.authorization_server import (
    GOOGLE,
    AuthorizationServer,
    AuthorizationServerError,
    custom,
    google,
    microsoft,
)
from senderproxy.oauth.token_request import Application
from senderproxy.signing.errors import SigningKeyError
from senderproxy.signing.keys import load_certificate, load_key
from senderproxy.translation import _

_KEY_FILE: Final = 65536  # characters of a service account's key file; Google's have 2,400


def to_record(stored: StoredApplication) -> StoredRecord:
    """Return the record of an application. Raises RecordError, AuthorizationServerError or SigningKeyError."""
    usable(stored)
    fields = {name: text for name in FIELDS if (text := str(getattr(stored, name)))}
    return StoredRecord(stored.id, OAUTH_APPLICATION, fields)


def usable(stored: StoredApplication) -> UsableApplication:
    """Return the application for requests. Raises RecordError, AuthorizationServerError or SigningKeyError.

    Reading a key takes milliseconds.
    """
    server = _server(stored)
    if stored.flow is Flow.SERVICE_ACCOUNT:
        return UsableApplication(stored.id, stored.flow, server, None, _service_account(stored), None)
    if not stored.client_id:
        raise unusable(stored.id, _("`{key}` is missing").format(key="client_id"))
    certificate, until = None, _end_of(stored)
    if stored.certificate or stored.key:
        key, shown = load_key(stored.key), load_certificate(stored.certificate)
        if not key.fits(shown):
            raise SigningKeyError(_("The certificate belongs to another key."))
        certificate, until = CertificateProof(shown.thumbprint, key.sign_ps256), shown.valid_until
    if stored.flow is Flow.APPLICATION and not (stored.secret or certificate):
        raise unusable(stored.id, _("it has neither a secret nor a certificate"))
    application = Application(server, stored.client_id, stored.secret, certificate)
    return UsableApplication(stored.id, stored.flow, server, application, None, until)


def _server(stored: StoredApplication) -> AuthorizationServer:
    match stored.server:
        case "":
            raise unusable(stored.id, _("`{key}` is missing").format(key="server"))
        case "microsoft":
            return microsoft(stored.tenant)
        case "google":
            return google()
        case name if stored.token_url:
            return custom(name, stored.token_url, stored.authorization_url, stored.device_url, stored.scopes)
        case _:
            raise AuthorizationServerError(_("The address of the token endpoint is missing."))


def _service_account(stored: StoredApplication) -> ServiceAccount:
    """Read the key file of a service account, as Google's console gives it."""
    try:
        entry = json.loads(stored.key_file) if len(stored.key_file) <= _KEY_FILE else None
    except (ValueError, RecursionError):
        entry = None
    if not isinstance(entry, dict) or entry.get("type") != "service_account":
        raise SigningKeyError(
            _("This is no key file of a service account."),
            hint=_("Download it as JSON: Google Cloud console > IAM > Service accounts > Keys > Add key."),
        )
    token_url = _key_field(entry, "token_uri")
    custom(GOOGLE, token_url)  # its address is checked
    return ServiceAccount(
        _key_field(entry, "client_email"),
        _key_field(entry, "private_key_id"),
        token_url,
        load_key(_key_field(entry, "private_key")).sign_rs256,
    )


def _key_field(entry: Mapping[str, Any], name: str) -> str:
    value = entry.get(name)
    if not isinstance(value, str) or not value:
        raise SigningKeyError(_("The key file of the service account has no {name}.").format(name=name))
    return value


def _end_of(stored: StoredApplication) -> datetime | None:
    if not stored.expires:
        return None
    try:
        day = date.fromisoformat(stored.expires)
    except ValueError:
        raise unusable(stored.id, _("`{key}` is no date such as 2028-06-30").format(key="expires")) from None
    return datetime.combine(day, time(), UTC)
