"""Conversion between one record and its bytes in the vault. PURE.

Schema 2 is a JSON object with `schema`, `kind` and the fields of that kind; schema 1 had accounts only, and no `kind`.
Schema 3 is that of accounts that log in with OAuth: an earlier version reports them and does not drop the grant.

Guarantees: `decode` returns exactly what `encode` wrote. A record of a newer version is refused; one of an unknown kind
is an UnknownRecord, never an error. No error and no `repr` contains a secret.
Not here: storage of the bytes (accounts.vault_accounts, accounts.editor), conflicts between accounts
(routing.directory).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from senderproxy.errors import SenderproxyError
from senderproxy.mail.address import AddressError, AddressPattern, parse_address, parse_pattern
from senderproxy.routing.account import Account, SentCopy
from senderproxy.translation import _

SCHEMA: Final = 2  # version of the record format
GRANT_SCHEMA: Final = 3  # that of an account with a grant; earlier versions must not take its secret for a password

ACCOUNT: Final = "account"
SRS_KEY: Final = "srs-key"
OAUTH_APPLICATION: Final = "oauth-application"
GRANT_KEY: Final = "grant-key"
DKIM_KEY: Final = "dkim-key"
# The kinds that this version knows.
KINDS: Final = frozenset({ACCOUNT, SRS_KEY, OAUTH_APPLICATION, GRANT_KEY, DKIM_KEY})


class RecordError(SenderproxyError):
    """A record is not usable. The message names the field, never the secret."""


@dataclass(frozen=True, slots=True)
class Grant:
    """The permission to get access tokens for an account, in the place of a password.

    `id` is random: a new consent has another one, so that tokens of the earlier one are never used again.
    """

    application: str  # id of a record of the kind OAUTH_APPLICATION
    id: str


@dataclass(frozen=True, slots=True)
class StoredAccount:
    """An account with its secret, as stored in the vault.

    The secret is the password; with a grant, the refresh token of a person's consent, or empty where the application
    alone gets tokens.
    """

    account: Account
    secret: str = field(repr=False)
    grant: Grant | None = None


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record of another kind than an account, as stored in the vault. Any of its fields may be secret."""

    id: str
    kind: str  # one of KINDS
    fields: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class UnknownRecord:
    """A record of a kind that this version does not know. It stays in the vault as it is."""

    id: str
    kind: str

    def describe(self) -> str:
        """Return one sentence for the operator."""
        text = _("{id} is a record of a kind that this version does not know: {kind}.")
        return text.format(id=self.id, kind=self.kind)


Record: TypeAlias = StoredAccount | StoredRecord | UnknownRecord


def encode(stored: StoredAccount | StoredRecord) -> bytes:
    """Return the bytes of one record."""
    fields = _account_fields(stored) if isinstance(stored, StoredAccount) else dict(stored.fields)
    kind = ACCOUNT if isinstance(stored, StoredAccount) else stored.kind
    schema = GRANT_SCHEMA if isinstance(stored, StoredAccount) and stored.grant is not None else SCHEMA
    entry = {**fields, "schema": schema, "kind": kind}
    return json.dumps(entry, ensure_ascii=False, sort_keys=True).encode("utf-8", "surrogatepass")


def decode(name: str, record: bytes) -> Record:
    """Read the record of that name. Raises RecordError."""
    entry = _object(name, record)
    schema, kind = _schema(name, entry), _kind(name, entry)
    if kind not in KINDS:
        return UnknownRecord(name, kind)
    if schema > (GRANT_SCHEMA if kind == ACCOUNT else SCHEMA):
        raise _too_new(name, kind)
    if kind == ACCOUNT:
        grant = _grant(name, entry) if schema == GRANT_SCHEMA else None
        secret = "" if grant is not None and entry.get("secret") == "" else _text(name, entry, "secret")
        return StoredAccount(_account(name, entry), secret, grant)
    fields = {key: value for key, value in entry.items() if key not in ("schema", "kind")}
    if not all(isinstance(value, str) for value in fields.values()):
        raise _unusable_record(name, _("a field is not a text"))
    return StoredRecord(name, kind, fields)


def upgrade(name: str, record: bytes) -> bytes | None:
    """Return a record of an older schema in the current one; None if it is current, newer or unreadable."""
    try:
        if _schema(name, _object(name, record)) >= SCHEMA:
            return None
        stored = decode(name, record)
    except RecordError:
        return None
    return None if isinstance(stored, UnknownRecord) else encode(stored)


def for_backup(name: str, record: bytes) -> bytes:
    """Return the record as a backup has it: without a refresh token.

    The authorization server may have replaced it since, and ends the whole grant if the older one is used.
    """
    try:
        stored = decode(name, record)
    except RecordError:
        return record
    if isinstance(stored, StoredAccount) and stored.grant is not None and stored.secret:
        return encode(replace(stored, secret=""))
    return record


def own_first(address: str, others: list[str]) -> tuple[AddressPattern, ...]:
    """Return the patterns of an account, its own address first, without duplicates. Raises AddressError."""
    return tuple(dict.fromkeys(parse_pattern(text) for text in (address, *others)))


def has_controls(text: str) -> bool:
    """True if the text has control characters or undecodable octets: no login can contain them."""
    return any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 or 0xD800 <= ord(c) < 0xE000 for c in text)


def _object(name: str, record: bytes) -> dict[str, Any]:
    try:
        entry = json.loads(record)
    except (ValueError, RecursionError):
        entry = None
    if not isinstance(entry, dict):
        raise _unusable(name, _("the record has an unknown format")) from None
    return entry


def _schema(name: str, entry: dict[str, Any]) -> int:
    schema = entry.get("schema")
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise _unusable(name, _("the record has an unknown format"))
    return schema


def _kind(name: str, entry: dict[str, Any]) -> str:
    if entry["schema"] == 1:
        return ACCOUNT
    return _text(name, entry, "kind")


def _account_fields(stored: StoredAccount) -> dict[str, Any]:
    account = stored.account
    fields: dict[str, Any] = {
        "login": account.login,
        "secret": stored.secret,
        "provider": account.provider,
        "address": str(account.address),
        "carries": [str(pattern) for pattern in account.carries],
        "display_name": account.display_name,
        "messages_per_hour": account.messages_per_hour,
        "connections": account.connections,
    }
    if stored.grant is not None:
        fields["grant"] = {"application": stored.grant.application, "id": stored.grant.id}
    if account.recipients_per_hour is not None:  # records without it are the same octets as before it existed
        fields["recipients_per_hour"] = account.recipients_per_hour
    if account.fallback is not None:
        fields["fallback"] = account.fallback
    if account.fallback_rewrites:
        fields["fallback_rewrites"] = True
    if (copies := account.sent_copy) is not None:
        fields["sent_copy"] = {"folder": copies.folder, "authors": [str(pattern) for pattern in copies.authors]}
    return fields


def _account(name: str, entry: dict[str, Any]) -> Account:
    carries = entry.get("carries")
    if not isinstance(carries, list) or not all(isinstance(text, str) for text in carries):
        raise _unusable(name, _("`carries` is not a list of addresses"))
    try:
        address = parse_address(_text(name, entry, "address"))
        patterns = own_first(str(address), carries)
    except AddressError as error:
        raise _unusable(name, str(error)) from error
    return Account(
        id=name,
        login=_text(name, entry, "login"),
        provider=_text(name, entry, "provider"),
        address=address,
        carries=patterns,
        display_name=_text(name, entry, "display_name") if entry.get("display_name") is not None else None,
        messages_per_hour=_number(name, entry, "messages_per_hour"),
        connections=_number(name, entry, "connections"),
        recipients_per_hour=_number(name, entry, "recipients_per_hour"),
        fallback=_text(name, entry, "fallback") if entry.get("fallback") is not None else None,
        fallback_rewrites=_flag(name, entry, "fallback_rewrites"),
        sent_copy=_sent_copy(name, entry),
    )


def _sent_copy(name: str, entry: dict[str, Any]) -> SentCopy | None:
    fields = entry.get("sent_copy")
    if fields is None:
        return None
    authors = fields.get("authors") if isinstance(fields, dict) else None
    if not isinstance(authors, list) or not all(isinstance(text, str) for text in authors):
        raise _unusable(name, _("`{key}` is not a folder and a list of addresses").format(key="sent_copy"))
    folder = _text(name, fields, "folder") if fields.get("folder") is not None else None
    try:
        return SentCopy(folder, tuple(dict.fromkeys(parse_pattern(text) for text in authors)))
    except AddressError as error:
        raise _unusable(name, str(error)) from error


def _grant(name: str, entry: dict[str, Any]) -> Grant:
    fields = entry.get("grant")
    if not isinstance(fields, dict):
        raise _unusable(name, _("`{key}` is missing").format(key="grant"))
    return Grant(_text(name, fields, "application"), _text(name, fields, "id"))


def _text(name: str, entry: dict[str, Any], key: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value:
        raise _unusable(name, _("`{key}` is missing").format(key=key))
    if has_controls(value):
        raise _unusable(name, _("`{key}` contains a control character").format(key=key))
    return value


def _number(name: str, entry: dict[str, Any], key: str) -> int | None:
    value = entry.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _unusable(name, _("`{key}` is not a positive integer").format(key=key))
    return value


def _flag(name: str, entry: dict[str, Any], key: str) -> bool:
    value = entry.get(key, False)
    if not isinstance(value, bool):
        raise _unusable(name, _("`{key}` is not true or false").format(key=key))
    return value


def _unusable(name: str, why: str) -> RecordError:
    return RecordError(
        _("The account {name} cannot be used: {why}.").format(name=name, why=why),
        hint=_("Remove it and add it again: senderproxy account remove {name}").format(name=name),
    )


def _unusable_record(name: str, why: str) -> RecordError:
    return RecordError(
        _("The record {name} cannot be used: {why}.").format(name=name, why=why),
        hint=_("Make it again with the command that made it."),
    )


def _too_new(name: str, kind: str) -> RecordError:
    if kind != ACCOUNT:
        text = _("The record {name} was written by a newer version of senderproxy.").format(name=name)
        return RecordError(text, hint=_("Install that version."))
    return RecordError(
        _("The account {name} was written by a newer version of senderproxy.").format(name=name),
        hint=_("Install that version, or add the account again."),
    )
