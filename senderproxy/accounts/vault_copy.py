"""Copies of the vault for a backup, and the vault made of one.

Guarantees: a copy is the vault of one moment, intact, but for refresh tokens, which an export leaves out; no key and no
password is written anywhere unsealed.
Not here: the file of the backup (backup.create), other exports (accounts.vault_admin).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from senderproxy.accounts.errors import AccountsError, accounts_error
from senderproxy.accounts.record import for_backup
from senderproxy.accounts.unlock import UnlockMethod, make_key_file, unlock_method
from senderproxy.accounts.vault_admin import VaultFacts, inspect_with_octets
from senderproxy.accounts.vault_place import VaultPlace
from senderproxy.errors import SenderproxyError
from vault import KeyFile, Passphrase, Vault, VaultError

_PRIVATE = 0o600  # mode: for the owner only


def read_copy(place: VaultPlace) -> tuple[bytes, VaultFacts]:
    """The vault's octets as they are, and the facts they show without a key. Raises AccountsError."""
    facts, octets = inspect_with_octets(place)
    return octets, facts


def export_copy(octets: bytes, unlock: UnlockMethod, passphrase: str) -> bytes:
    """The same content with a key of its own, sealed by the passphrase. Raises AccountsError."""
    with _errors_translated(), Vault.from_bytes(octets, unlock=unlock) as vault:
        return vault.export_bytes(unlock=Passphrase(passphrase), change=for_backup)


def is_opened_by(octets: bytes, setting: str) -> bool:
    """True if the unlock method of the setting opens the copy on this machine now, without asking anybody."""
    try:
        Vault.from_bytes(octets, unlock=unlock_method(setting, None)).close()
    except (VaultError, SenderproxyError):
        return False
    return True


def write_copy(octets: bytes, path: Path) -> None:
    """Write a copy to a new file as it is, private and synced; it belongs to its folder's owner. Raises OSError."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, _PRIVATE)
    with os.fdopen(file, "wb") as out:
        os.fchmod(file, _PRIVATE)
        if os.geteuid() == 0:
            folder = path.parent.stat()
            os.fchown(file, folder.st_uid, folder.st_gid)
        out.write(octets)
        out.flush()
        os.fsync(file)


def import_export(export: bytes, passphrase: str, path: Path, key: Path) -> None:
    """Create a vault of an export, and a new key file for it. Raises AccountsError."""
    make_key_file(key)
    with _errors_translated(), Vault.from_bytes(export, unlock=Passphrase(passphrase)) as vault:
        vault.export(path, unlock=KeyFile(key))


@contextmanager
def _errors_translated() -> Iterator[None]:
    try:
        yield
    except VaultError as error:
        translated: AccountsError = accounts_error(error)
        raise translated from error
