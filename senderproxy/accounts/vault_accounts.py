"""VaultAccounts: the accounts of this moment, and the one place that opens the vault.

Guarantees: a change of the vault counts from the next message on; a vault that becomes unreadable changes nothing until
it is mended (the accounts in memory stay in force, `problem` says why). A record that cannot be read leaves the others
usable. A credential's version changes when its secret does, and tells nothing about it.
"""

import hashlib
import logging
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeAlias

from senderproxy import log_events
from senderproxy.accounts.record import RecordError, StoredAccount, decode, encode
from senderproxy.clock import Clock
from senderproxy.errors import SenderproxyError
from senderproxy.log import event
from senderproxy.routing.account import Account, Credential
from senderproxy.routing.directory import AccountDirectory
from vault import (
    Damaged,
    DiskTrouble,
    Exists,
    KeyFile,
    Keyring,
    Missing,
    NoBackend,
    Passphrase,
    TooNew,
    Unlock,
    Vault,
    VaultError,
)

_log = logging.getLogger("senderproxy.accounts")

EXIT_USAGE: Final = 64
EXIT_DATA: Final = 65  # sysexits(3): the file is damaged or of a later version
EXIT_CANNOT_CREATE: Final = 73  # something is in the way
EXIT_DISK: Final = 74  # the system refused to read or write
EXIT_NO_PERMISSION: Final = 77  # it cannot be opened with what we have
KEYRING_NAME: Final = "vault-key"

Prompt: TypeAlias = Callable[[str], str]
Way: TypeAlias = Unlock  # what opens a vault: commands hand it on and do not look inside


class AccountsError(SenderproxyError):
    """The vault cannot be used. `exit_code` follows sysexits(3)."""

    def __init__(self, message: str, *, hint: str = "", exit_code: int = EXIT_NO_PERMISSION) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code


def unlock_way(unlock: str, prompt: Prompt | None) -> Way:
    """The way to open the vault that the configuration names. Raises AccountsError.

    `prompt` asks a person for the passphrase; None where nobody can be asked.
    """
    kind, _, argument = unlock.partition(":")
    try:
        match kind:
            case "key-file":
                return KeyFile(argument)
            case "credential":
                return KeyFile.from_credential(argument)
            case "keyring":
                return Keyring(KEYRING_NAME, service=argument)
            case "passphrase":
                return _passphrase(prompt)
            case _:
                raise AccountsError(
                    f"{kind} is no way to open a vault.",
                    hint="One of: passphrase, key-file:PATH, credential:NAME, keyring:SERVICE",
                    exit_code=EXIT_USAGE,
                )
    except NoBackend as error:
        hint = f"{error.hint} To open it in another way this once: senderproxy --unlock passphrase ..."
        raise AccountsError(f"The vault cannot be opened: {error}.", hint=hint) from error
    except VaultError as error:
        raise told(error) from error


def _passphrase(prompt: Prompt | None) -> Passphrase:
    if prompt is None:
        raise AccountsError(
            "The vault is opened by a passphrase, and nobody can be asked for it here.",
            hint="Add a key file: senderproxy vault add-unlock key-file:PATH",
        )
    text = prompt("Passphrase of the vault: ")
    if not text:
        raise AccountsError("The passphrase is empty.")
    return Passphrase(text)


def make_key_file(path: Path) -> None:
    """Write a fresh random key, readable by its owner alone; one that is there is left alone. Raises AccountsError."""
    try:
        KeyFile.generate(path)
    except VaultError as error:
        raise told(error) from error


_GLANCE: Final = 0.05  # seconds: each look at the disk lets another thread go first, which a burst of mail can feel


@dataclass(frozen=True, slots=True)
class _Snapshot:
    directory: AccountDirectory
    credentials: dict[str, Credential] = field(repr=False)
    unreadable: tuple[str, ...] = ()


class VaultAccounts:
    """relay.ports.Accounts over one vault file."""

    def __init__(self, box: Vault, clock: Clock | None = None) -> None:
        """For `open` alone."""
        self._box = box
        self._clock = clock
        self._look_at = 0.0  # monotonic; earlier nobody looks again
        self._version_key = secrets.token_bytes(32)
        self._snapshot = self._read()
        self._behind = False  # the vault was read again, but its accounts are not in force
        self.problem: str | None = None
        self._tell_unreadable()

    @classmethod
    def open(cls, path: Path | str, unlock: Way, clock: Clock | None = None) -> Self:
        """Open the vault for as long as we run. With a clock, look for changes twenty times a second at most.

        Raises AccountsError.
        """
        try:
            return cls(Vault.open(path, unlock=unlock), clock)
        except VaultError as error:
            raise told(error) from error

    def directory(self) -> AccountDirectory:
        """Who carries what, at this moment."""
        if self._clock is None:
            self.refresh()
        elif (now := self._clock.monotonic()) >= self._look_at:
            self._look_at = now + _GLANCE
            self.refresh()
        return self._snapshot.directory

    def credential(self, account: Account) -> Credential | None:
        """The login and secret of this moment; None where the account is gone."""
        return self._snapshot.credentials.get(account.id)

    @property
    def vault_id(self) -> str:
        """The same through all generations and backups of the vault."""
        return self._box.vault_id

    @property
    def generation(self) -> int:
        """Counts the vault's saves."""
        return self._box.generation

    @property
    def unreadable(self) -> tuple[str, ...]:
        """What is wrong with the records that could not be read."""
        return self._snapshot.unreadable

    def refresh(self) -> bool:
        """Take up what changed on the disk; True where something did. Never raises: see `problem`."""
        try:
            if self._box.changed_on_disk():
                self._box.reload(at_least=self._box.generation)
                self._behind = True
            if self._behind:
                self._snapshot = self._read()
        except (VaultError, SenderproxyError) as error:
            self._trouble(told(error) if isinstance(error, VaultError) else error)
            return False
        if not self._behind:
            self._settled()
            return False
        self._behind = False
        self._tell_unreadable()
        self._settled()
        event(_log, log_events.VAULT_RELOADED, accounts=len(self._snapshot.directory.accounts))
        return True

    def close(self) -> None:
        """Forget what was opened."""
        self._box.close()

    def _read(self) -> _Snapshot:
        stored: list[StoredAccount] = []
        unreadable: list[str] = []
        for name in self._box.names():
            try:
                stored.append(decode(name, self._box.get(name)))
            except (RecordError, Damaged) as error:
                unreadable.append(str(error))
        directory = AccountDirectory(entry.account for entry in stored)
        return _Snapshot(directory, {e.account.id: self._credential(e) for e in stored}, tuple(unreadable))

    def _credential(self, stored: StoredAccount) -> Credential:
        digest = hashlib.blake2b(digest_size=16, key=self._version_key)
        digest.update(stored.account.login.encode() + b"\0" + stored.secret.encode())
        return Credential(stored.account.login, stored.secret, digest.hexdigest())

    def _tell_unreadable(self) -> None:
        for why in self._snapshot.unreadable:
            event(_log, log_events.ACCOUNT_UNUSABLE, why=why)

    def _trouble(self, error: SenderproxyError) -> None:
        if self.problem != error.message:
            self.problem = error.message
            event(_log, log_events.VAULT_UNREADABLE, why=error.message, hint=error.hint)

    def _settled(self) -> None:
        if self.problem is not None:
            self.problem = None
            event(_log, log_events.VAULT_READABLE_AGAIN)


class AccountEditor:
    """The vault open for writing: changes are together in force after `save`, or not at all."""

    def __init__(self, box: Vault, clock: Clock | None = None) -> None:
        """For `open` alone."""
        self._box = box
        self._clock = clock
        self._look_at = 0.0  # monotonic; earlier nobody looks again

    @classmethod
    def create(cls, path: Path | str, unlock: Way) -> None:
        """Write a new, empty vault; one that is there is left alone. Raises AccountsError."""
        try:
            Vault.create(path, unlock=unlock)
        except VaultError as error:
            raise told(error) from error

    @classmethod
    def open(cls, path: Path | str, unlock: Way) -> Self:
        """Open the vault for writing. Raises AccountsError, naming who else has it open."""
        try:
            return cls(Vault.open(path, unlock=unlock, write=True))
        except VaultError as error:
            raise told(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._box.close()

    def all(self) -> list[StoredAccount]:
        """Every account that can be read; one that cannot is replaced by `put` or taken away by `remove`."""
        found: list[StoredAccount] = []
        for name in self._box.names():
            with suppress(RecordError):
                found.append(decode(name, self._box.get(name)))
        return found

    def expect(self, account_id: str) -> None:
        """Raises AccountsError where there is no account of that id, readable or not."""
        if account_id not in self._box.names():
            raise AccountsError(
                f"There is no account {account_id}.", hint="senderproxy account list", exit_code=EXIT_DATA
            )

    def find(self, account_id: str) -> StoredAccount:
        """The account of that id. Raises AccountsError where there is none, RecordError where it cannot be read."""
        self.expect(account_id)
        return decode(account_id, self._box.get(account_id))

    def put(self, stored: StoredAccount) -> None:
        """Add an account, or replace the one of its id.

        Raises DirectoryError where another carries its address, RecordError where it could not be read again.
        """
        others = [entry.account for entry in self.all() if entry.account.id != stored.account.id]
        AccountDirectory([*others, stored.account])
        record = encode(stored)
        decode(stored.account.id, record)
        try:
            self._box.put(stored.account.id, record)
        except ValueError as error:
            raise RecordError(f"The account cannot be called {stored.account.id!r}: {error}.") from error

    def remove(self, account_id: str) -> None:
        """Take an account away. Raises AccountsError where there is none."""
        self.expect(account_id)
        self._box.remove(account_id)

    def save(self) -> None:
        """Put all changes in force, in one atomic replace. Raises AccountsError; then nothing changed."""
        try:
            self._box.save()
        except VaultError as error:
            raise told(error) from error
        except ValueError as error:
            raise AccountsError(f"The vault cannot be saved: {error}.", exit_code=EXIT_DATA) from error


def told(error: VaultError) -> AccountsError:
    """The vault's fault in our words; the exit code says whether the file, the disk or the key is the reason."""
    match error:
        case Damaged() | TooNew() | Missing():
            code = EXIT_DATA
        case DiskTrouble():
            code = EXIT_DISK
        case Exists():
            return AccountsError(f"Nothing was written: {error}.", hint=error.hint, exit_code=EXIT_CANNOT_CREATE)
        case _:
            code = EXIT_NO_PERMISSION
    return AccountsError(f"The vault cannot be used: {error}", hint=error.hint, exit_code=code)
