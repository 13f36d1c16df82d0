"""Copies of the vault for a backup, and the vault made of one.

Guarantees: a copy is the vault of one moment, intact, but for refresh tokens, which an export leaves out; no key and no
password is written anywhere unsealed.
Not here: the file of the backup (backup.create), other exports (accounts.vault_admin).
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from senderproxy.accounts.errors import AccountsError, accounts_error
from senderproxy.accounts.record import for_backup
from senderproxy.accounts.unlock import UnlockMethod, make_key_file, unlock_method
from senderproxy.accounts.vault_admin import VaultFacts, inspect
from senderproxy.errors import SenderproxyError
from vault import KeyFile, Passphrase, Vault, VaultError

_PRIVATE = 0o600  # mode: for the owner only


def read_copy(path: Path) -> tuple[bytes, VaultFacts]:
    """The vault's octets as they are, without a key. Raises AccountsError."""
    inspect(path)  # the checks of owner, mode and content, with the path in the error
    octets = path.read_bytes()
    with _as_file(octets) as copy:  # the file may have been replaced since
        return octets, inspect(copy)


def export_copy(octets: bytes, unlock: UnlockMethod, passphrase: str) -> bytes:
    """The same content with a key of its own, sealed by the passphrase. Raises AccountsError."""
    with _as_file(octets) as copy, _errors_translated():
        sealed = copy.with_name("export")
        with Vault.open(copy, unlock=unlock) as vault:
            vault.export(sealed, unlock=Passphrase(passphrase), change=for_backup)
        return sealed.read_bytes()


def count_records(octets: bytes, unlock: UnlockMethod) -> int:
    """The number of records. Raises AccountsError if this method does not open the copy."""
    with _as_file(octets) as copy, _errors_translated(), Vault.open(copy, unlock=unlock) as vault:
        return len(vault.names())


def is_opened_by(octets: bytes, setting: str) -> bool:
    """True if the unlock method of the setting opens the copy on this machine now, without asking anybody."""
    try:
        count_records(octets, unlock_method(setting, None))
    except SenderproxyError:
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
    with _as_file(export) as copy, _errors_translated():
        Vault.restore(copy, path, unlock=Passphrase(passphrase), new=KeyFile(key))


@contextmanager
def _as_file(octets: bytes) -> Iterator[Path]:
    """The sealed octets as a private file for the vault library."""
    with tempfile.TemporaryDirectory(prefix="senderproxy-") as folder:
        copy = Path(folder) / "vault"
        write_copy(octets, copy)
        yield copy


@contextmanager
def _errors_translated() -> Iterator[None]:
    try:
        yield
    except VaultError as error:
        translated: AccountsError = accounts_error(error)
        raise translated from error
