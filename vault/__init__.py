"""Sealed, named records in one file: the only door.

Guarantees: records come back as they were put, or an error says why not; FORMAT.md says how the file is made.
Not here: what the records mean, where the file lies, who is asked for a passphrase.
"""

from vault._errors import (
    Damage,
    Damaged,
    DiskTrouble,
    Exists,
    InUse,
    Missing,
    NoBackend,
    NoSuchRecord,
    NoSuchUnlock,
    RolledBack,
    TooNew,
    Unsafe,
    VaultError,
    WouldLockOut,
    WrongKey,
)
from vault._keys import KeyFile, Keyring, Passphrase, Unlock
from vault._store import UnlockInfo, Vault, VaultInfo

__all__ = [
    "Damage",
    "Damaged",
    "DiskTrouble",
    "Exists",
    "InUse",
    "KeyFile",
    "Keyring",
    "Missing",
    "NoBackend",
    "NoSuchRecord",
    "NoSuchUnlock",
    "Passphrase",
    "RolledBack",
    "TooNew",
    "Unlock",
    "UnlockInfo",
    "Unsafe",
    "Vault",
    "VaultError",
    "VaultInfo",
    "WouldLockOut",
    "WrongKey",
]
