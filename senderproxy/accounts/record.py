"""Conversion between one account with its secret and the bytes of one vault record. PURE.

Guarantees: `decode` returns exactly what `encode` wrote; a record of a newer version is refused. No error contains
the secret.
Not here: storage of the bytes (accounts.vault_accounts, accounts.editor), conflicts between accounts
(routing.directory).
"""

import json
from dataclasses import dataclass, field
from typing import Any, Final

from senderproxy.errors import SenderproxyError
from senderproxy.mail.address import AddressError, AddressPattern, parse_address, parse_pattern
from senderproxy.routing.account import Account
from senderproxy.translation import _

SCHEMA: Final = 1  # version of the record format


class RecordError(SenderproxyError):
    """A record is not a usable account. The message names the field, never the secret."""


@dataclass(frozen=True, slots=True)
class StoredAccount:
    """An account with its secret, as stored in the vault."""

    account: Account
    secret: str = field(repr=False)


def encode(stored: StoredAccount) -> bytes:
    """Return the bytes of one record."""
    account = stored.account
    entry = {
        "schema": SCHEMA,
        "login": account.login,
        "secret": stored.secret,
        "provider": account.provider,
        "address": str(account.address),
        "carries": [str(pattern) for pattern in account.carries],
        "display_name": account.display_name,
        "messages_per_hour": account.messages_per_hour,
        "connections": account.connections,
    }
    return json.dumps(entry, ensure_ascii=False, sort_keys=True).encode("utf-8", "surrogatepass")


def decode(name: str, record: bytes) -> StoredAccount:
    """Read the record of that name. Raises RecordError."""
    try:
        entry = json.loads(record)
    except ValueError:
        raise _unusable(name, _("the record has an unknown format")) from None
    schema = entry.get("schema") if isinstance(entry, dict) else None
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise _unusable(name, _("the record has an unknown format"))
    if schema > SCHEMA:
        raise RecordError(
            _("The account {name} was written by a newer version of senderproxy.").format(name=name),
            hint=_("Install that version, or add the account again."),
        )
    return StoredAccount(_account(name, entry), _text(name, entry, "secret"))


def own_first(address: str, others: list[str]) -> tuple[AddressPattern, ...]:
    """Return the patterns of an account, its own address first, without duplicates. Raises AddressError."""
    return tuple(dict.fromkeys(parse_pattern(text) for text in (address, *others)))


def has_controls(text: str) -> bool:
    """True if the text has control characters or undecodable octets, which no login can contain."""
    return any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 or 0xD800 <= ord(c) < 0xE000 for c in text)


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
    )


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


def _unusable(name: str, why: str) -> RecordError:
    return RecordError(
        _("The account {name} cannot be used: {why}.").format(name=name, why=why),
        hint=_("Remove it and add it again: senderproxy account remove {name}").format(name=name),
    )
