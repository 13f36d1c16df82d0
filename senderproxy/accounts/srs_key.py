"""The key of SRS addresses in the vault: a record of its own kind.

Guarantees: a new key replaces the previous one for signing; the previous one still verifies, so that bounces of mail
already sent are undone. No error contains a key.
Not here: the addresses (rewriting.srs).
"""

import secrets
from collections.abc import Iterable
from typing import Final

from senderproxy.accounts.editor import AccountEditor
from senderproxy.accounts.record import SRS_KEY, Record, StoredRecord
from senderproxy.rewriting.srs import SigningKeys

RECORD_ID: Final = "srs-key"
_OCTETS: Final = 32  # of a key; the block of SHA-256 is 64
_FIELDS: Final = ("key", "previous")  # in hexadecimal digits


def make_srs_key(editor: AccountEditor) -> bool:
    """Put a new key in the vault, without saving. True if there was one before, which becomes the previous one."""
    before = editor.records(SRS_KEY)
    fields = {"key": secrets.token_hex(_OCTETS)}
    if before and (key := before[0].fields.get("key")):
        fields["previous"] = key
    editor.put_record(StoredRecord(before[0].id if before else RECORD_ID, SRS_KEY, fields))
    return bool(before)


def signing_keys(records: Iterable[Record]) -> SigningKeys | None:
    """The keys among these records, the newest first; None if there is none."""
    keys: list[bytes] = []
    for record in records:
        if isinstance(record, StoredRecord) and record.kind == SRS_KEY:
            keys += [key for name in _FIELDS if (key := _read(record.fields.get(name, "")))]
    return SigningKeys(tuple(keys)) if keys else None


def _read(text: str) -> bytes:
    """The key; empty if it is damaged or too short to sign anything."""
    try:
        key = bytes.fromhex(text)
    except ValueError:
        return b""
    return key if len(key) >= _OCTETS else b""
