"""AccountEditor: changes to the accounts in the vault.

Guarantees: all changes take effect together on `save`, in one atomic replace, or none does. An account that `put`
accepts can be read back and conflicts with no other. One writer at a time.
Not here: the accounts in use (accounts.vault_accounts), the unlocks of the vault (accounts.vault_admin).
"""

from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from senderproxy.accounts.errors import UnknownAccount, VaultUnreadable, accounts_error
from senderproxy.accounts.record import RecordError, StoredAccount, decode, encode
from senderproxy.accounts.unlock import UnlockMethod
from senderproxy.routing.directory import AccountDirectory
from senderproxy.translation import _
from vault import Vault, VaultError


class AccountEditor:
    """The vault, opened for writing."""

    def __init__(self, vault: Vault) -> None:
        """Called by `open` only."""
        self._vault = vault

    @classmethod
    def create(cls, path: Path | str, unlock: UnlockMethod) -> None:
        """Write a new, empty vault. An existing file stays. Raises AccountsError."""
        try:
            Vault.create(path, unlock=unlock)
        except VaultError as error:
            raise accounts_error(error) from error

    @classmethod
    def open(cls, path: Path | str, unlock: UnlockMethod) -> Self:
        """Open the vault for writing. Raises AccountsError, which names any other writer."""
        try:
            return cls(Vault.open(path, unlock=unlock, write=True))
        except VaultError as error:
            raise accounts_error(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._vault.close()

    def all(self) -> list[StoredAccount]:
        """Return every readable account. `put` replaces an unreadable one, `remove` deletes it."""
        found: list[StoredAccount] = []
        for name in self._vault.names():
            with suppress(RecordError):
                found.append(decode(name, self._vault.get(name)))
        return found

    def expect(self, account_id: str) -> None:
        """Raise UnknownAccount if there is no account of that id, readable or not."""
        if account_id not in self._vault.names():
            raise UnknownAccount(
                _("There is no account {id}.").format(id=account_id),
                hint=_("List the accounts: senderproxy account list"),
            )

    def find(self, account_id: str) -> StoredAccount:
        """Return the account of that id. Raises UnknownAccount if there is none, RecordError if it is unreadable."""
        self.expect(account_id)
        return decode(account_id, self._vault.get(account_id))

    def put(self, stored: StoredAccount) -> None:
        """Add an account, or replace the one of its id.

        Raises DirectoryError if another account has the address, RecordError if the record could not be read back.
        """
        others = [entry.account for entry in self.all() if entry.account.id != stored.account.id]
        AccountDirectory([*others, stored.account])
        record = encode(stored)
        decode(stored.account.id, record)
        try:
            self._vault.put(stored.account.id, record)
        except ValueError as error:
            text = _("{id!r} is not a valid account id: {error}.").format(id=stored.account.id, error=error)
            raise RecordError(text) from error

    def remove(self, account_id: str) -> None:
        """Delete an account. Raises UnknownAccount if there is none of that id."""
        self.expect(account_id)
        self._vault.remove(account_id)

    def save(self) -> None:
        """Write all changes in one atomic replace. Raises AccountsError; then nothing has changed."""
        try:
            self._vault.save()
        except VaultError as error:
            raise accounts_error(error) from error
        except ValueError as error:
            text = _("The vault cannot be saved: {error}.").format(error=error)
            raise VaultUnreadable(text) from error
