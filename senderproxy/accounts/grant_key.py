"""The key of the grant file in the vault: a record of its own kind.

Guarantees: a new data key of the vault comes with a new key here (accounts.vault_admin); the previous one still opens a
grant file that was not rewritten yet. No error contains a key.
Not here: the grant file (accounts.grant_file).
"""

import secrets
from collections.abc import Iterable
from typing import Final

from senderproxy.accounts.record import GRANT_KEY, Record, StoredRecord, decode, encode
from vault import Vault

RECORD_ID: Final = "grant-key"
_OCTETS: Final = 32  # of a key
_FIELDS: Final = ("key", "previous")  # in hexadecimal digits


def new_grant_key(records: Iterable[Record]) -> StoredRecord:
    """Return a record with a new key; the key among these records, if there is one, becomes the previous one."""
    before = next((one for one in records if isinstance(one, StoredRecord) and one.kind == GRANT_KEY), None)
    fields = {"key": secrets.token_hex(_OCTETS)}
    if before is not None and (key := before.fields.get("key")):
        fields["previous"] = key
    return StoredRecord(RECORD_ID if before is None else before.id, GRANT_KEY, fields)


def renew_grant_key(vault: Vault) -> tuple[bytes, ...]:
    """Put a new key in an opened vault, without saving, and return all keys; none if the vault has no such record."""
    if RECORD_ID not in vault.names():
        return ()
    before = decode(RECORD_ID, vault.get(RECORD_ID))
    record = new_grant_key([before])
    vault.put(RECORD_ID, encode(record))
    return grant_keys([record])


def grant_keys(records: Iterable[Record]) -> tuple[bytes, ...]:
    """Return the keys among these records, the newest first; none if there is no such record."""
    found = (one for one in records if isinstance(one, StoredRecord) and one.kind == GRANT_KEY)
    return tuple(key for record in found for name in _FIELDS if (key := _read(record.fields.get(name, ""))))


def _read(text: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        return b""
    return key if len(key) == _OCTETS else b""
