"""DKIM keys in the vault: a record of their own kind for each domain and selector.

Guarantees: what `new_dkim_key` makes can be read back. No error and no repr contains a key.
Not here: the signatures (dkim), the DNS records (domain_records.own_key).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Final

from senderproxy.accounts.record import DKIM_KEY, Record, RecordError, StoredRecord
from senderproxy.dkim.key import SigningKey
from senderproxy.signing.errors import SigningKeyError
from senderproxy.signing.keys import load_own_key, make_key
from senderproxy.translation import _

if TYPE_CHECKING:
    from senderproxy.signing.rsa_key import RsaKey

KEYS_OF_DOMAIN: Final = 2  # the one that signs, and the one that follows it
_SELECTOR: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")  # one label of a name in the DNS


@dataclass(frozen=True, slots=True)
class StoredDkimKey:
    """A key as the vault has it. `created`: an ISO 8601 time in UTC."""

    key: SigningKey
    created: str
    record: StoredRecord


def new_dkim_key(domain: str, selector: str, now: datetime) -> StoredDkimKey:
    """Make a key. Raises RecordError for a selector that is no label of the DNS. Takes some 100 ms."""
    if _SELECTOR.fullmatch(selector) is None:
        raise RecordError(
            _("{name} cannot be a selector.").format(name=selector),
            hint=_("Use small letters, digits and hyphens, such as sp2026."),
        )
    private = make_key()
    fields = {
        "domain": domain,
        "selector": selector,
        "created": now.astimezone(UTC).isoformat(timespec="seconds"),
        "key": private.reveal_pem(),
    }
    record = StoredRecord(f"dkim:{domain}:{selector}", DKIM_KEY, fields)
    return StoredDkimKey(_signing_key(domain, selector, private), fields["created"], record)


def new_selector(day: date, taken: Iterable[str]) -> str:
    """A selector with the day, such as `sp20261129`, that is not taken: then with a letter, such as `sp20261129b`."""
    base, used = f"sp{day:%Y%m%d}", set(taken)
    names: Iterable[str] = (base + letter for letter in ("", *"bcdefghijklmnopqrstuvwxyz"))
    return next(name for name in names if name not in used)


def read_dkim_keys(records: Iterable[Record]) -> list[StoredDkimKey]:
    """The keys among these records, in order. Raises RecordError for one that is not usable."""
    return in_order(_read(one) for one in records if isinstance(one, StoredRecord) and one.kind == DKIM_KEY)


def in_order(keys: Iterable[StoredDkimKey]) -> list[StoredDkimKey]:
    """The keys by domain, of each domain the oldest first."""
    return sorted(keys, key=lambda one: (one.key.domain, one.created, one.key.selector))


def _read(record: StoredRecord) -> StoredDkimKey:
    domain, selector, created, pem = (record.fields.get(name, "") for name in ("domain", "selector", "created", "key"))
    try:
        private = load_own_key(pem)
    except SigningKeyError:
        private = None
    if private is None or not domain or _SELECTOR.fullmatch(selector) is None:
        raise RecordError(
            _("The DKIM key {name} in the vault cannot be used.").format(name=record.id),
            hint=_("Remove it: senderproxy dkim remove {domain} --selector {selector}").format(
                domain=domain or "DOMAIN", selector=selector or "SELECTOR"
            ),
        )
    return StoredDkimKey(_signing_key(domain, selector, private), created, record)


def _signing_key(domain: str, selector: str, private: "RsaKey") -> SigningKey:
    return SigningKey(domain, selector, private.public_octets(), private.sign_rs256, private.verify_rs256)
