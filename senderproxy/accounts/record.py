"""One account and its secret <-> the bytes of one vault record. PURE.

Guarantees: what `encode` wrote `decode` reads back as it was; a record of a later senderproxy is refused, not guessed.
No error tells the secret.
Not here: where the bytes are kept (accounts.vault_accounts), whether two accounts contradict each other
(routing.directory).
"""

import json
from dataclasses import dataclass, field
from typing import Any, Final

from senderproxy.errors import SenderproxyError
from senderproxy.mail.address import AddressError, AddressPattern, parse_address, parse_pattern
from senderproxy.routing.account import Account

SCHEMA: Final = 1


class RecordError(SenderproxyError):
    """A record cannot be used as an account; the message names what is wrong, never the secret."""

    exit_code = 65  # EX_DATAERR, sysexits(3)


@dataclass(frozen=True, slots=True)
class StoredAccount:
    """An account as the vault keeps it."""

    account: Account
    secret: str = field(repr=False)


def encode(stored: StoredAccount) -> bytes:
    """The bytes of one record."""
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
        raise _unreadable(name, "it is not what senderproxy writes") from None
    schema = entry.get("schema") if isinstance(entry, dict) else None
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise _unreadable(name, "it is not what senderproxy writes")
    if schema > SCHEMA:
        raise RecordError(
            f"The account {name} was written by a later senderproxy.", hint="Install that version, or add it again."
        )
    return StoredAccount(_account(name, entry), _text(name, entry, "secret"))


def own_first(address: str, others: list[str]) -> tuple[AddressPattern, ...]:
    """Every address and @domain an account carries, its own first, each once. Raises AddressError."""
    return tuple(dict.fromkeys(parse_pattern(text) for text in (address, *others)))


def _account(name: str, entry: dict[str, Any]) -> Account:
    carries = entry.get("carries")
    if not isinstance(carries, list) or not all(isinstance(text, str) for text in carries):
        raise _unreadable(name, "`carries` is no list of addresses")
    try:
        address = parse_address(_text(name, entry, "address"))
        patterns = own_first(str(address), carries)
    except AddressError as error:
        raise _unreadable(name, str(error)) from error
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
        raise _unreadable(name, f"`{key}` is missing")
    if has_controls(value):
        raise _unreadable(name, f"`{key}` has a character in it that cannot be sent")
    return value


def has_controls(text: str) -> bool:
    """True where a text has control characters, or octets that are no text at all: no login can carry these."""
    return any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 or 0xD800 <= ord(c) < 0xE000 for c in text)


def _number(name: str, entry: dict[str, Any], key: str) -> int | None:
    value = entry.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _unreadable(name, f"`{key}` is no number above zero")
    return value


def _unreadable(name: str, why: str) -> RecordError:
    return RecordError(
        f"The account {name} cannot be used: {why}.",
        hint=f"Take it away and add it again: senderproxy account remove {name}",
    )
