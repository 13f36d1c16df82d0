"""Encrypted named records in one file or another store, and sealed streams: the public interface.

Guarantees: a record is returned exactly as it was stored, or an error gives the reason. FORMAT.md specifies the
sealed bytes, STREAM.md the stream.

Not here: the meaning of the records, the place of the sealed bytes, the passphrase prompt.
"""

from vault._errors import (
    Damage,
    Damaged,
    DiskError,
    Exists,
    InUse,
    KeyringLocked,
    Missing,
    MissingKey,
    NoBackend,
    NoSuchRecord,
    NoSuchUnlock,
    RolledBack,
    TooNew,
    UnsafeFile,
    VaultError,
    WouldLockOut,
    WrongKey,
)
from vault._keys import KeyFile, Keyring, Passphrase, SuppliedKey, Unlock
from vault._store import Fingerprint, SealedSource, StoreWriter, VaultStore
from vault._stream import StreamReader, StreamWriter
from vault._vault import UnlockInfo, Vault, VaultInfo

__all__ = [
    "Damage",
    "Damaged",
    "DiskError",
    "Exists",
    "Fingerprint",
    "InUse",
    "KeyFile",
    "Keyring",
    "KeyringLocked",
    "Missing",
    "MissingKey",
    "NoBackend",
    "NoSuchRecord",
    "NoSuchUnlock",
    "Passphrase",
    "RolledBack",
    "SealedSource",
    "StoreWriter",
    "StreamReader",
    "StreamWriter",
    "SuppliedKey",
    "TooNew",
    "Unlock",
    "UnlockInfo",
    "UnsafeFile",
    "Vault",
    "VaultError",
    "VaultInfo",
    "VaultStore",
    "WouldLockOut",
    "WrongKey",
]
