"""Administration of the vault: its unlocks, a new key, sealed copies.

Guarantees: each change is one atomic step; if it fails, nothing changes. The last unlock cannot be removed.
Not here: the accounts inside (accounts.vault_accounts, accounts.editor), prompts (cli).
"""

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from senderproxy.accounts.errors import AccountsError, InvalidVaultRequest, accounts_error
from senderproxy.accounts.grant_file import grant_file_of, seal_again
from senderproxy.accounts.grant_key import renew_grant_key
from senderproxy.accounts.record import for_backup
from senderproxy.accounts.rollback import accept_generation, find_rollback
from senderproxy.accounts.saving import save_upgraded, upgrade_records
from senderproxy.accounts.sealed_credential import credential_unlock, is_available, seal, sealed_file
from senderproxy.accounts.unlock import KEYRING_NAME, Prompt, UnlockMethod, new_passphrase, unlock_method
from senderproxy.accounts.vault_place import VaultPlace, files_of
from senderproxy.translation import _
from vault import Exists, KeyFile, Keyring, SuppliedKey, Vault, VaultError


class UnlockInUse(AccountsError):
    """The unlock to be removed is the one for the service's start."""


@dataclass(frozen=True, slots=True)
class VaultFacts:
    """The facts that a vault shows without a key."""

    path: str  # of the file, or the name of the database
    vault_id: str
    generation: int  # number of saves
    unlocks: tuple[tuple[str, str], ...]  # kind and label of each


def inspect(place: VaultPlace) -> VaultFacts:
    """Read the unencrypted part of the vault. Raises AccountsError."""
    return inspect_with_octets(place)[0]


def inspect_with_octets(place: VaultPlace) -> tuple[VaultFacts, bytes]:
    """The same, with all octets of the vault, still sealed. Raises AccountsError."""
    with _errors_translated():
        info = Vault.inspect(place)
    unlocks = tuple((unlock.kind, unlock.label) for unlock in info.unlocks)
    return VaultFacts(str(place), info.vault_id, info.generation, unlocks), info.sealed


@dataclass(frozen=True, slots=True)
class NewUnlock:
    """An unlock method, new to its vault."""

    method: UnlockMethod
    created: str = ""  # the setting whose key file, keyring entry or credential was made for it; empty if none was

    def discard(self) -> None:
        """Remove a key made for it. Never raises, so as not to hide the error before."""
        kind, _colon, argument = self.created.partition(":")
        with suppress(VaultError, OSError):
            match kind:
                case "key-file":
                    Path(argument).unlink(missing_ok=True)
                case "credential":
                    sealed_file(argument).unlink(missing_ok=True)
                case "keyring":
                    Keyring(KEYRING_NAME, service=argument).remove()
                case _:
                    pass


def new_unlock_method(
    setting: str,
    ask_new: Callable[[], str],
    prompt: Prompt | None,
    *,
    may_reuse: Callable[[str], bool] = lambda _service: False,
    with_key: str = "auto",
) -> NewUnlock:
    """Create an unlock method, new to its vault, with a missing key file or keyring entry.

    `setting` as for unlock.unlock_method; `ask_new` asks for a new passphrase; `may_reuse` is asked before an existing
    entry of the keyring is used; `with_key` as for sealed_credential.seal. Raises AccountsError, VaultExists for an
    entry of the keyring that is not to be used.
    """
    kind, _colon, argument = setting.partition(":")
    with _errors_translated():
        if kind == "key-file" and argument and not Path(argument).exists():
            return NewUnlock(KeyFile.generate(argument), setting)
        if kind == "keyring" and argument:
            try:
                return NewUnlock(Keyring.generate(KEYRING_NAME, service=argument), setting)
            except Exists:
                if not may_reuse(argument):
                    raise
                return NewUnlock(Keyring(KEYRING_NAME, service=argument))
        if kind == "passphrase":
            return NewUnlock(new_passphrase(ask_new()))
        if kind == "credential" and argument and os.geteuid() == 0 and not is_available(argument):
            seal(argument, SuppliedKey.new_content(), with_key)
            return NewUnlock(credential_unlock(argument), setting)
    return NewUnlock(unlock_method(setting, prompt))


def add_unlock(place: VaultPlace, current: UnlockMethod, new: UnlockMethod, label: str | None) -> str:
    """Add an unlock and return its label. Raises AccountsError."""
    with _errors_translated(), Vault.open(place, unlock=current, write=True) as vault:
        given = vault.add_unlock(new, label=label)
        save_upgraded(vault, place)
        return given


def add_unlocks(place: VaultPlace, current: UnlockMethod, new: Sequence[tuple[UnlockMethod, str]]) -> None:
    """Add several unlocks, each with its label, in one step. Raises AccountsError."""
    with _errors_translated(), Vault.open(place, unlock=current, write=True) as vault:
        for method, label in new:
            vault.add_unlock(method, label=label)
        save_upgraded(vault, place)


def labels_opened_by(place: VaultPlace, current: UnlockMethod, other: UnlockMethod) -> tuple[str, ...]:
    """The labels of the unlocks opened by `other`; `current` opens the vault. Raises AccountsError."""
    with _errors_translated(), Vault.open(place, unlock=current) as vault:
        return vault.labels_opened_by(other)


def remove_unlock(place: VaultPlace, current: UnlockMethod, label: str) -> None:
    """Remove an unlock. Raises AccountsError, also for the last one."""
    remove_unlocks(place, current, [label])


def remove_unlocks(place: VaultPlace, current: UnlockMethod, labels: Collection[str]) -> None:
    """Remove several unlocks in one step. Raises AccountsError, also if none would be left."""
    with _errors_translated(), Vault.open(place, unlock=current, write=True) as vault:
        for label in labels:
            vault.remove_unlock(label)
        save_upgraded(vault, place)


def rekey(place: VaultPlace, current: UnlockMethod, others: Collection[UnlockMethod], drop: Collection[str]) -> None:
    """Seal the vault under a new key for `current`, `others` and no other unlock. Raises AccountsError.

    Refused if an existing unlock is neither given nor named in `drop`: it would stop working.
    """
    with _errors_translated(), Vault.open(place, unlock=current, write=True) as vault:
        vault.rekey(current, *others, drop=drop)
        keys = renew_grant_key(vault)
        save_upgraded(vault, place)
    if keys:
        seal_again(grant_file_of(files_of(place)), keys)


def upgrade(place: VaultPlace, current: UnlockMethod) -> int:
    """Write all records in the current schema; return how many were older. Raises AccountsError.

    Nothing is written if none was.
    """
    with _errors_translated(), Vault.open(place, unlock=current, write=True) as vault:
        count = upgrade_records(vault)
        if count:
            vault.save()
        return count


def accept_rollback(place: VaultPlace, current: UnlockMethod) -> tuple[int, bool]:
    """Accept the vault as it is, although a newer generation was in use. Raises AccountsError.

    Returns its generation, and True if it is an older one.
    """
    with _errors_translated(), Vault.open(place, unlock=current) as vault:
        older = find_rollback(place, vault.vault_id, vault.generation) is not None
        accept_generation(place, vault.vault_id, vault.generation)
        return vault.generation, older


def export(place: VaultPlace, current: UnlockMethod, copy: Path | str, new: UnlockMethod) -> None:
    """Write a sealed copy that only `new` opens. Never overwrites a file. Raises AccountsError."""
    with _errors_translated(), Vault.open(place, unlock=current) as vault:
        vault.export(copy, unlock=new, change=for_backup)


def accept_restored(place: VaultPlace) -> None:
    """Accept a restored vault, also one without an unlock on this machine yet. Raises AccountsError."""
    with _errors_translated():
        info = Vault.inspect(place)
    accept_generation(place, info.vault_id, info.generation)


def restore(copy: Path | str, current: UnlockMethod, place: VaultPlace, new: UnlockMethod) -> None:
    """Create this machine's vault from a sealed copy that `current` opens. Never overwrites. Raises AccountsError."""
    with _errors_translated():
        Vault.restore(copy, place, unlock=current, new=new)
    accept_restored(place)


@contextmanager
def _errors_translated() -> Iterator[None]:
    try:
        yield
    except VaultError as error:
        raise accounts_error(error) from error
    except ValueError as error:  # an invalid or duplicate label, or too many unlocks
        text = _("The vault was not changed: {error}.").format(error=error)
        raise InvalidVaultRequest(text) from error
