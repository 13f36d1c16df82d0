"""Encrypted named records in one file, and sealed streams: the public interface.

Guarantees: a record is returned exactly as it was stored, or an error gives the reason. FORMAT.md specifies the file,
STREAM.md the stream.

Not here: the meaning of the records, the path of the file, the passphrase prompt.
"""

from vault._errors import (
    Damage,
    Damaged,
    DiskError,
    Exists,
    InUse,
    KeyringLocked,
    Missing,
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
from vault._file import Fingerprint
from vault._keys import KeyFile, Keyring, Passphrase, SuppliedKey, Unlock
from vault._store import UnlockInfo, Vault, VaultInfo
from vault._stream import StreamReader, StreamWriter

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
    "NoBackend",
    "NoSuchRecord",
    "NoSuchUnlock",
    "Passphrase",
    "RolledBack",
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
    "WouldLockOut",
    "WrongKey",
]
