"""Administration of the vault file: its unlocks, a new key, sealed copies.

Guarantees: each change is one atomic step; if it fails, nothing changes. The last unlock cannot be removed.
Not here: the accounts inside (accounts.vault_accounts, accounts.editor), prompts (cli).
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from senderproxy.accounts.errors import InvalidVaultRequest, accounts_error
from senderproxy.accounts.saving import save_upgraded
from senderproxy.accounts.unlock import KEYRING_NAME, Prompt, UnlockMethod, unlock_method
from senderproxy.translation import _
from vault import Exists, KeyFile, Keyring, Passphrase, Vault, VaultError


@dataclass(frozen=True, slots=True)
class VaultFacts:
    """The facts that a vault shows without a key."""

    path: str
    vault_id: str
    generation: int  # number of saves
    unlocks: tuple[tuple[str, str], ...]  # kind and label of each


def inspect(path: Path | str) -> VaultFacts:
    """Read the unencrypted part of the file. Raises AccountsError."""
    with _errors_translated():
        info = Vault.inspect(path)
    return VaultFacts(
        str(path), info.vault_id, info.generation, tuple((unlock.kind, unlock.label) for unlock in info.unlocks)
    )


def new_unlock_method(setting: str, ask_new: Callable[[], str], prompt: Prompt | None) -> UnlockMethod:
    """Create an unlock method for a vault that does not have it yet. A missing key file or keyring entry is made.

    `setting` as for unlock.unlock_method; `ask_new` asks for a new passphrase. Raises AccountsError.
    """
    kind, _colon, argument = setting.partition(":")
    with _errors_translated():
        if kind == "key-file" and argument and not Path(argument).exists():
            return KeyFile.generate(argument)
        if kind == "keyring" and argument:
            try:
                return Keyring.generate(KEYRING_NAME, service=argument)
            except Exists:
                return Keyring(KEYRING_NAME, service=argument)
        if kind == "passphrase":
            return Passphrase(ask_new())
    return unlock_method(setting, prompt)


def add_unlock(path: Path | str, current: UnlockMethod, new: UnlockMethod, label: str | None) -> str:
    """Add an unlock and return its label. Raises AccountsError."""
    with _errors_translated(), Vault.open(path, unlock=current, write=True) as vault:
        given = vault.add_unlock(new, label=label)
        save_upgraded(vault)
        return given


def remove_unlock(path: Path | str, current: UnlockMethod, label: str) -> None:
    """Remove an unlock. Raises AccountsError, also for the last one."""
    with _errors_translated(), Vault.open(path, unlock=current, write=True) as vault:
        vault.remove_unlock(label)
        save_upgraded(vault)


def rekey(path: Path | str, current: UnlockMethod, others: Collection[UnlockMethod], drop: Collection[str]) -> None:
    """Seal the vault under a new key for `current`, `others` and no other unlock. Raises AccountsError.

    Refused if an existing unlock is neither given nor named in `drop`: it would stop working.
    """
    with _errors_translated(), Vault.open(path, unlock=current, write=True) as vault:
        vault.rekey(current, *others, drop=drop)
        save_upgraded(vault)


def export(path: Path | str, current: UnlockMethod, copy: Path | str, new: UnlockMethod) -> None:
    """Write a sealed copy that only `new` opens. Never overwrites a file. Raises AccountsError."""
    with _errors_translated(), Vault.open(path, unlock=current) as vault:
        vault.export(copy, unlock=new)


def restore(copy: Path | str, current: UnlockMethod, path: Path | str, new: UnlockMethod) -> None:
    """Create this machine's vault from a sealed copy that `current` opens. Never overwrites. Raises AccountsError."""
    with _errors_translated():
        Vault.restore(copy, path, unlock=current, new=new)


@contextmanager
def _errors_translated() -> Iterator[None]:
    try:
        yield
    except VaultError as error:
        raise accounts_error(error) from error
    except ValueError as error:  # an invalid or duplicate label, or too many unlocks
        text = _("The vault was not changed: {error}.").format(error=error)
        raise InvalidVaultRequest(text) from error
