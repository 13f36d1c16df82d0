"""AccountEditor: changes to the accounts and the other records in the vault.

Guarantees: all changes take effect together on `save`, in one atomic replace, or none does. An account that `put`
accepts can be read back and conflicts with no other. A record replaces one of its own kind only. One writer at a time.
Not here: the accounts in use (accounts.vault_accounts), the unlocks of the vault (accounts.vault_admin).
"""

from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from senderproxy.accounts.errors import UnknownAccount, VaultUnreadable, accounts_error
from senderproxy.accounts.record import (
    Record,
    RecordError,
    StoredAccount,
    StoredRecord,
    UnknownRecord,
    decode,
    encode,
)
from senderproxy.accounts.saving import save_upgraded
from senderproxy.accounts.unlock import UnlockMethod
from senderproxy.accounts.vault_place import VaultPlace
from senderproxy.routing.directory import AccountDirectory
from senderproxy.routing.fallback import require_unneeded, require_valid
from senderproxy.translation import _
from vault import Vault, VaultError


class AccountEditor:
    """The vault, opened for writing."""

    def __init__(self, vault: Vault, place: VaultPlace) -> None:
        """Called by `open` only."""
        self._vault = vault
        self._place = place

    @classmethod
    def create(cls, place: VaultPlace, unlock: UnlockMethod) -> None:
        """Write a new, empty vault. An existing one stays. Raises AccountsError."""
        try:
            Vault.create(place, unlock=unlock)
        except VaultError as error:
            raise accounts_error(error) from error

    @classmethod
    def open(cls, place: VaultPlace, unlock: UnlockMethod) -> Self:
        """Open the vault for writing. Raises AccountsError, for a file with the name of any other writer."""
        try:
            return cls(Vault.open(place, unlock=unlock, write=True), place)
        except VaultError as error:
            raise accounts_error(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._vault.close()

    # ---- accounts ----

    def all(self) -> list[StoredAccount]:
        """Return every readable account. `put` replaces an unreadable one, `remove` deletes it."""
        return [stored for stored in self._readable() if isinstance(stored, StoredAccount)]

    def expect(self, account_id: str) -> None:
        """Raise UnknownAccount if there is no account of that id, readable or not."""
        if not self.has(account_id):
            raise UnknownAccount(
                _("There is no account {id}.").format(id=account_id),
                hint=_("List the accounts: senderproxy account list"),
            )

    def has(self, account_id: str) -> bool:
        """True if an account has this id, readable or not."""
        return account_id in self._vault.names() and self._other_kind(account_id) is None

    def find(self, account_id: str) -> StoredAccount:
        """Return the account of that id. Raises UnknownAccount if there is none, RecordError if it is unreadable."""
        self.expect(account_id)
        stored = decode(account_id, self._vault.get(account_id))
        assert isinstance(stored, StoredAccount)  # expect raises for any other kind
        return stored

    def put(self, stored: StoredAccount) -> None:
        """Add an account, or replace the one of its id.

        Raises DirectoryError if another account has the address, FallbackError for an invalid fallback, RecordError if
        the record could not be read back or a record of another kind has the id.
        """
        self.put_all([stored])

    def put_all(self, several: Sequence[StoredAccount]) -> None:
        """Add or replace several accounts, as `put` does, in time linear in their number."""
        ids = {stored.account.id for stored in several}
        others = [entry.account for entry in self.all() if entry.account.id not in ids]
        accounts = [*others, *(stored.account for stored in several)]
        AccountDirectory(accounts)
        require_valid(accounts, ids)
        for stored in several:
            if self._other_kind(stored.account.id) is not None:
                raise _taken(stored.account.id)
        for stored in several:
            self._put(stored.account.id, stored)

    def remove(self, account_id: str) -> None:
        """Delete an account. Raises UnknownAccount if there is none of that id, FallbackError if others need it."""
        self.expect(account_id)
        require_unneeded((stored.account for stored in self.all()), account_id)
        self._vault.remove(account_id)

    # ---- records of other kinds ----

    def records(self, kind: str) -> list[StoredRecord]:
        """Return every readable record of this kind, not of accounts."""
        return [stored for stored in self._readable() if isinstance(stored, StoredRecord) and stored.kind == kind]

    def put_record(self, record: StoredRecord) -> None:
        """Add a record, or replace the one of its id and kind.

        Raises RecordError if the record could not be read back, or an account or a record of another kind has the id.
        """
        before = self._other_kind(record.id)
        if record.id in self._vault.names() and (before is None or before.kind != record.kind):
            raise _taken(record.id)
        self._put(record.id, record)

    def remove_record(self, record: StoredRecord) -> None:
        """Delete a record that `records` returned."""
        self._vault.remove(record.id)

    # ---- all ----

    def save(self) -> None:
        """Write all changes in one atomic replace, and all records in the current schema.

        Raises AccountsError; then nothing has changed.
        """
        try:
            save_upgraded(self._vault, self._place)
        except VaultError as error:
            raise accounts_error(error) from error
        except ValueError as error:
            text = _("The vault cannot be saved: {error}.").format(error=error)
            raise VaultUnreadable(text) from error

    def _readable(self) -> list[Record]:
        found: list[Record] = []
        for name in self._vault.names():
            with suppress(RecordError):
                found.append(decode(name, self._vault.get(name)))
        return found

    def _other_kind(self, record_id: str) -> StoredRecord | UnknownRecord | None:
        """Return the record of that id if it is readable and not an account."""
        if record_id not in self._vault.names():
            return None
        try:
            stored = decode(record_id, self._vault.get(record_id))
        except RecordError:
            return None
        return None if isinstance(stored, StoredAccount) else stored

    def _put(self, name: str, stored: StoredAccount | StoredRecord) -> None:
        record = encode(stored)
        decode(name, record)
        try:
            self._vault.put(name, record)
        except ValueError as error:
            text = _("{id!r} is not a valid account id: {error}.").format(id=name, error=error)
            raise RecordError(text) from error


def _taken(record_id: str) -> RecordError:
    return RecordError(
        _("{id} is the id of a record of another kind.").format(id=record_id), hint=_("Choose another id.")
    )
