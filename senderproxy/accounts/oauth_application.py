"""Applications of OAuth in the vault: a record of their own kind, shared by their accounts.

Guarantees: no error contains a secret, a key or a certificate.
Not here: their data for requests (accounts.usable_application), the accounts (accounts.record), the tokens
(accounts.access_tokens).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from senderproxy.accounts.record import OAUTH_APPLICATION, Record, RecordError, StoredRecord
from senderproxy.translation import _

if TYPE_CHECKING:  # loaded late: accounts.late_oauth
    from senderproxy.oauth.assertion import ServiceAccount
    from senderproxy.oauth.authorization_server import AuthorizationServer
    from senderproxy.oauth.token_request import Application


class Flow(StrEnum):
    """The ways to a token."""

    APPLICATION = "application"  # the application alone, for all its mailboxes (client credentials)
    CONSENT = "consent"  # a person has consented for one mailbox (refresh token)
    SERVICE_ACCOUNT = "service-account"  # a service account of Google, delegated by the administrator


@dataclass(frozen=True, slots=True)
class StoredApplication:
    """The data of an application, as stored. Empty texts are not set.

    `server`: microsoft, google or another name. `certificate` and `key`: PEM. `key_file`: a service account's JSON.
    `expires`: the day on which the secret ends, `YYYY-MM-DD`.
    """

    id: str
    flow: Flow
    server: str
    client_id: str = ""
    tenant: str = ""
    token_url: str = ""
    authorization_url: str = ""
    device_url: str = ""
    scopes: str = ""
    secret: str = field(default="", repr=False)
    certificate: str = field(default="", repr=False)
    key: str = field(default="", repr=False)
    key_file: str = field(default="", repr=False)
    expires: str = ""


@dataclass(frozen=True, slots=True)
class UsableApplication:
    """An application in use: either `application` or `service_account` is set.

    `valid_until`: the end of its secret or certificate; None if it is not known.
    """

    id: str
    flow: Flow
    server: "AuthorizationServer"
    application: "Application | None"
    service_account: "ServiceAccount | None"
    valid_until: datetime | None


FIELDS: Final = tuple(name for name in StoredApplication.__dataclass_fields__ if name != "id")


def from_record(record: StoredRecord) -> StoredApplication:
    """Return the data of an application. Raises RecordError."""
    known = {name: record.fields[name] for name in FIELDS if name in record.fields}
    try:
        flow = Flow(known.pop("flow", ""))
    except ValueError:
        raise unusable(record.id, _("`{key}` is missing").format(key="flow")) from None
    return StoredApplication(record.id, flow, known.pop("server", ""), **known)


def applications(records: Iterable[Record]) -> dict[str, StoredApplication]:
    """Return the applications among these records by their ids. Raises RecordError."""
    found = [one for one in records if isinstance(one, StoredRecord) and one.kind == OAUTH_APPLICATION]
    return {record.id: from_record(record) for record in found}


def unusable(application: str, why: str) -> RecordError:
    """The error for an application that cannot be used, with the command that corrects it."""
    return RecordError(
        _("The application {name} cannot be used: {why}.").format(name=application, why=why),
        hint=_("Correct it: senderproxy oauth edit {name}").format(name=application),
    )
