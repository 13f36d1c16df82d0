"""VaultAccounts: the accounts in use, read from the vault and read again when it changes.

Guarantees: a change of the vault takes effect with the next message. If the vault becomes unreadable, the accounts in
memory stay in force and `problem` names the cause. An unreadable record leaves the others usable. A credential's
version changes with its secret and reveals nothing about it.
Not here: changing accounts (accounts.editor), opening methods (accounts.unlock).
"""

import hashlib
import logging
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from senderproxy import log_events
from senderproxy.accounts.errors import accounts_error
from senderproxy.accounts.record import RecordError, StoredAccount, decode
from senderproxy.accounts.unlock import UnlockMethod
from senderproxy.clock import Clock
from senderproxy.errors import SenderproxyError
from senderproxy.log import event
from senderproxy.relay.ports import Accounts
from senderproxy.routing.account import Account, Credential
from senderproxy.routing.directory import AccountDirectory
from vault import Damaged, Vault, VaultError

_log = logging.getLogger("senderproxy.accounts")

_CHECK_INTERVAL: Final = 0.05  # seconds between stat() calls: each releases the GIL, which slows down a burst of mail


@dataclass(frozen=True, slots=True)
class _Snapshot:
    directory: AccountDirectory
    credentials: dict[str, Credential] = field(repr=False)
    unreadable: tuple[str, ...] = ()


class VaultAccounts(Accounts):
    """relay.ports.Accounts over one vault file."""

    def __init__(self, vault: Vault, clock: Clock | None = None) -> None:
        """Called by `open` only."""
        self._vault = vault
        self._clock = clock
        self._next_check = 0.0  # monotonic clock
        self._version_key = secrets.token_bytes(32)
        self._snapshot = self._read()
        self._reload_pending = False  # the vault was read again, but its accounts are not in force yet
        self.problem: str | None = None
        self._log_unreadable()

    @classmethod
    def open(cls, path: Path | str, unlock: UnlockMethod, clock: Clock | None = None) -> Self:
        """Open the vault for the life of the process. With a clock, look for changes at most 20 times a second.

        Raises AccountsError.
        """
        try:
            return cls(Vault.open(path, unlock=unlock), clock)
        except VaultError as error:
            raise accounts_error(error) from error

    def directory(self) -> AccountDirectory:
        """See relay.ports.Accounts."""
        if self._clock is None:
            self.refresh()
        elif (now := self._clock.monotonic()) >= self._next_check:
            self._next_check = now + _CHECK_INTERVAL
            self.refresh()
        return self._snapshot.directory

    def credential(self, account: Account) -> Credential | None:
        """See relay.ports.Accounts."""
        return self._snapshot.credentials.get(account.id)

    @property
    def vault_id(self) -> str:
        """The vault's id, the same in all its generations and backups."""
        return self._vault.vault_id

    @property
    def generation(self) -> int:
        """The number of times the vault was saved."""
        return self._vault.generation

    @property
    def unreadable(self) -> tuple[str, ...]:
        """One sentence for each unreadable record."""
        return self._snapshot.unreadable

    def refresh(self) -> bool:
        """Read the vault again if it changed; True if it did. Never raises: see `problem`."""
        try:
            if self._vault.changed_on_disk():
                self._vault.reload(min_generation=self._vault.generation)
                self._reload_pending = True
            if self._reload_pending:
                self._snapshot = self._read()
        except (VaultError, SenderproxyError) as error:
            self._set_problem(accounts_error(error) if isinstance(error, VaultError) else error)
            return False
        if not self._reload_pending:
            self._clear_problem()
            return False
        self._reload_pending = False
        self._log_unreadable()
        self._clear_problem()
        event(_log, log_events.VAULT_RELOADED, accounts=len(self._snapshot.directory.accounts))
        return True

    def close(self) -> None:
        """Close the vault and drop its key."""
        self._vault.close()

    def _read(self) -> _Snapshot:
        stored: list[StoredAccount] = []
        unreadable: list[str] = []
        for name in self._vault.names():
            try:
                stored.append(decode(name, self._vault.get(name)))
            except (RecordError, Damaged) as error:
                unreadable.append(str(error))
        directory = AccountDirectory(entry.account for entry in stored)
        return _Snapshot(directory, {e.account.id: self._credential(e) for e in stored}, tuple(unreadable))

    def _credential(self, stored: StoredAccount) -> Credential:
        digest = hashlib.blake2b(digest_size=16, key=self._version_key)
        digest.update(stored.account.login.encode() + b"\0" + stored.secret.encode())
        return Credential(stored.account.login, stored.secret, digest.hexdigest())

    def _log_unreadable(self) -> None:
        for why in self._snapshot.unreadable:
            event(_log, log_events.ACCOUNT_UNUSABLE, why=why)

    def _set_problem(self, error: SenderproxyError) -> None:
        if self.problem != error.message:
            self.problem = error.message
            event(_log, log_events.VAULT_UNREADABLE, why=error.message, hint=error.hint)

    def _clear_problem(self) -> None:
        if self.problem is not None:
            self.problem = None
            event(_log, log_events.VAULT_READABLE_AGAIN)
