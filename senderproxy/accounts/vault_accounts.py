"""VaultAccounts: the accounts in use, read from the vault and read again when it changes.

Guarantees: a change of the vault is noticed with the next message. If the vault becomes unreadable, the accounts in
memory stay in force and `problem` names the cause. An unreadable record, or one of an unknown kind, leaves the others
usable. A credential's version changes with its secret, is the same at each start, and reveals nothing about the secret.
After `read_in_background` the event loop only compares the file's fingerprint (of a vault in a database, the one that
was told last): one thread at a time reads the vault and derives its key, once for each change.
Not here: changing accounts (accounts.editor), opening methods (accounts.unlock).
"""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Self, TypeAlias

from senderproxy import log_events
from senderproxy.accounts import late_oauth
from senderproxy.accounts.dkim_key import StoredDkimKey, in_order, read_dkim_keys
from senderproxy.accounts.errors import VaultDiskError, accounts_error
from senderproxy.accounts.grant_key import grant_keys
from senderproxy.accounts.oauth_application import Flow, UsableApplication, from_record
from senderproxy.accounts.record import (
    OAUTH_APPLICATION,
    Grant,
    Record,
    RecordError,
    StoredAccount,
    StoredRecord,
    UnknownRecord,
    decode,
    encode,
)
from senderproxy.accounts.srs_key import signing_keys
from senderproxy.accounts.unlock import UnlockMethod
from senderproxy.accounts.vault_place import VaultPlace, call_on_change, look_now
from senderproxy.aio import wait_done
from senderproxy.clock import Clock, SystemClock
from senderproxy.dkim.key import SigningKey
from senderproxy.errors import SenderproxyError
from senderproxy.log import event
from senderproxy.relay.ports import Accounts
from senderproxy.rewriting.srs import SigningKeys
from senderproxy.routing.account import AccessToken, Account, Credential
from senderproxy.routing.directory import AccountDirectory
from senderproxy.translation import _
from senderproxy.worker_threads import WorkerThreads, WorkerThreadsError
from vault import Damaged, Fingerprint, Vault, VaultError

_log = logging.getLogger("senderproxy.accounts")

_CHECK_INTERVAL: Final = 0.05  # seconds between stat() calls: each releases the GIL, which slows down a burst of mail
_SLOW_SECONDS: Final = 15.0  # a reading that takes longer is a problem; a keyring has 10 s to respond
_FIRST_PAUSE: Final = 2.0  # seconds after a failed reading until the same file is read again
_LONGEST_PAUSE: Final = 120.0  # seconds; deriving a key costs a CPU core up to some seconds each time


@dataclass(frozen=True, slots=True)
class StoredGrant:
    """The grant of an account, as the vault has it.

    `token_version` changes with everything that a token depends on. `refresh_token`: that of the consent, empty
    without one.
    """

    account: str
    login: str
    application: str
    id: str
    token_version: str
    refresh_token: AccessToken


@dataclass(frozen=True, slots=True)
class _Snapshot:
    vault_id: str
    generation: int
    fingerprint: Fingerprint
    directory: AccountDirectory
    stored: dict[str, StoredAccount]
    credentials: dict[str, Credential] = field(repr=False)
    grants: dict[str, StoredGrant]
    applications: dict[str, UsableApplication | str]  # a sentence for one that is not usable
    grant_keys: tuple[bytes, ...] = field(repr=False)
    records: tuple[StoredRecord, ...]
    keys: SigningKeys | None
    dkim_keys: tuple[SigningKey, ...]
    unknown: tuple[UnknownRecord, ...]
    unreadable: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _FailedReading:
    """An unreadable file, and the time of the next attempt."""

    fingerprint: Fingerprint | None
    pause_seconds: float
    until: float  # monotonic seconds


class VaultAccounts(Accounts):
    """relay.ports.Accounts over one vault."""

    def __init__(self, vault: Vault, clock: Clock | None = None) -> None:
        """Called by `open` only."""
        self.problem: str | None = None
        self.problem_hint = ""
        self.on_change: Callable[[], None] = lambda: None  # called when other accounts are in force
        self.source: tuple[VaultPlace, UnlockMethod] | None = None  # what `open` has opened, and with what
        self._vault = vault  # while a reading is in progress, it belongs to the thread
        self._checks_always = clock is None
        self._clock = clock or SystemClock()
        self._next_check = 0.0  # monotonic seconds
        self._version_key = vault.derive_key("credential-version")  # not changed by `rekey`: sessions stay open
        self._snapshot = self._read()
        self._failed: _FailedReading | None = None
        self._reader: WorkerThreads | None = None  # None: read at once, on the caller's thread
        self._slow_seconds = _SLOW_SECONDS
        self._reading: asyncio.Future[_Snapshot | SenderproxyError] | None = None
        self._log_unusable()

    @classmethod
    def open(cls, place: VaultPlace, unlock: UnlockMethod, clock: Clock | None = None) -> Self:
        """Open the vault for the life of the process. With a clock, look for changes at most 20 times a second.

        Raises AccountsError.
        """
        try:
            opened = cls(Vault.open(place, unlock=unlock), clock)
        except VaultError as error:
            raise accounts_error(error) from error
        opened.source = place, unlock
        return opened

    # ---- the accounts in force ----

    def directory(self) -> AccountDirectory:
        """See relay.ports.Accounts."""
        if self._checks_always:
            self.check()
        elif (now := self._clock.monotonic()) >= self._next_check:
            self._next_check = now + _CHECK_INTERVAL
            self.check()
        return self._snapshot.directory

    def credential(self, account: Account) -> Credential | None:
        """See relay.ports.Accounts."""
        return self._snapshot.credentials.get(account.id)

    def stored(self, account: Account) -> StoredAccount | None:
        """Return the account as it is stored, with its secret; None if it no longer exists."""
        return self._snapshot.stored.get(account.id)

    def grant(self, account_id: str) -> StoredGrant | None:
        """Return the grant of an account; None if it has a password or does not exist."""
        return self._snapshot.grants.get(account_id)

    def grants(self) -> Iterable[StoredGrant]:
        """Return the grants of all accounts."""
        return self._snapshot.grants.values()

    def application(self, application_id: str) -> UsableApplication | str:
        """Return the application of that id, or a sentence on the reason against its use."""
        missing = _("There is no application {id}.").format(id=application_id)
        return self._snapshot.applications.get(application_id, missing)

    def applications(self) -> Mapping[str, UsableApplication | str]:
        """Return every application by its id, or the reason why it is not usable."""
        return self._snapshot.applications

    def grant_keys(self) -> tuple[bytes, ...]:
        """Return the keys of the grant file, the newest first."""
        return self._snapshot.grant_keys

    def signing_keys(self) -> SigningKeys | None:
        """See relay.ports.Accounts."""
        return self._snapshot.keys

    def dkim_keys(self) -> tuple[SigningKey, ...]:
        """Return the usable DKIM keys by domain, of each domain the oldest first."""
        return self._snapshot.dkim_keys

    def records(self, kind: str) -> tuple[StoredRecord, ...]:
        """Return the records in force of one kind, not of accounts."""
        return tuple(record for record in self._snapshot.records if record.kind == kind)

    def derive_key(self, purpose: str) -> bytes:
        """Return 32 secret bytes, the same at each start until the vault gets a new data key."""
        return self._vault.derive_key(purpose)

    @property
    def vault_id(self) -> str:
        """The vault's id, the same in all its generations and backups."""
        return self._snapshot.vault_id

    @property
    def generation(self) -> int:
        """The number of times the vault was saved."""
        return self._snapshot.generation

    @property
    def unreadable(self) -> tuple[str, ...]:
        """One sentence for each unreadable record."""
        return self._snapshot.unreadable

    @property
    def unknown(self) -> tuple[UnknownRecord, ...]:
        """The records of kinds that this version does not know."""
        return self._snapshot.unknown

    @property
    def is_reading(self) -> bool:
        """True while the thread reads the file."""
        return self._reading is not None

    # ---- changes of the file ----

    def read_in_background(self, slow_seconds: float = _SLOW_SECONDS) -> None:
        """From now on read changes on a thread, and put them in force on the event loop that calls `check`.

        A reading that takes longer than `slow_seconds` becomes a problem; its result is used all the same.
        """
        self._reader = WorkerThreads("vault-reader")
        self._slow_seconds = slow_seconds
        if self.source is not None:
            call_on_change(self.source[0], self.check)

    def check(self) -> bool:
        """Look for a change, and read it or start to; True if other accounts are in force now.

        Never raises: see `problem`.
        """
        if self._reading is not None:
            return False
        try:
            current = self._vault.stored_fingerprint()
        except VaultError as error:
            self._set_problem(accounts_error(error))
            return False
        if current == self._snapshot.fingerprint:
            self._failed = None
            self._clear_problem()
            return False
        if self._reader is None:
            return self._apply(self._read_again(), current)
        if self._failed is None or self._failed.fingerprint != current or self._clock.monotonic() >= self._failed.until:
            self._start_reading(self._reader, current)
        return False

    async def wait_until_read(self, timeout_seconds: float) -> None:
        """Put the vault's current content in force, or set `problem`. Raises AccountsError after the timeout."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._end_of_reading()  # it may have begun before the change
                if self._reader is not None and self.source is not None:
                    await look_now(self.source[0], self._reader)
                self._failed = None
                self.check()
                await self._end_of_reading()
        except TimeoutError as error:
            raise _too_slow() from error

    async def _end_of_reading(self) -> None:
        """Wait until no reading is in progress and the result of the last one is in force."""
        while self._reading is not None:
            await wait_done(self._reading)
            await asyncio.sleep(0)  # a future that is done may have its callbacks still to come

    def close(self) -> None:
        """Close the vault and drop its key."""
        if self._reader is not None:
            self._reader.stop()
        self._vault.close()

    # ---- reading ----

    def _start_reading(self, reader: WorkerThreads, current: Fingerprint | None) -> None:
        slow = asyncio.get_running_loop().call_later(self._slow_seconds, lambda: self._set_problem(_too_slow()))

        def finish(reading: "asyncio.Future[_Snapshot | SenderproxyError]") -> None:
            slow.cancel()
            self._reading = None
            if not reading.cancelled():
                self._apply(reading.result(), current)

        try:
            self._reading = reader.do(self._read_again)
        except (WorkerThreadsError, RuntimeError) as error:  # RuntimeError: the system has no thread left
            slow.cancel()
            self._apply(VaultDiskError(_("The vault cannot be read: {error}.").format(error=error)), current)
            return
        self._reading.add_done_callback(finish)

    def _read_again(self) -> _Snapshot | SenderproxyError:
        """Read the file and all its records; the error if it cannot be read."""
        try:
            self._vault.reload(min_generation=self._vault.generation)
            return self._read()
        except VaultError as error:
            return accounts_error(error)
        except SenderproxyError as error:
            return error
        except Exception as fault:  # noqa: BLE001  an internal error must not end the reading of later files
            event(_log, log_events.VAULT_READ_ERROR, fault=fault)
            return SenderproxyError(
                _("Reading the vault failed with an internal error; the service's log has the cause.")
            )

    def _read(self) -> _Snapshot:
        found: list[Record] = []
        unreadable: list[str] = []
        for name in self._vault.names():
            try:
                found.append(decode(name, self._vault.get(name)))
            except (RecordError, Damaged) as error:
                unreadable.append(str(error))
        dkim_keys: list[StoredDkimKey] = []
        for record in found:
            try:
                dkim_keys += read_dkim_keys([record])
            except RecordError as error:
                unreadable.append(str(error))
        stored = [record for record in found if isinstance(record, StoredAccount)]
        applications = _applications(found)
        credentials = {e.account.id: self._credential(e, applications) for e in stored}
        return _Snapshot(
            self._vault.vault_id,
            self._vault.generation,
            self._vault.fingerprint,
            AccountDirectory(entry.account for entry in stored),
            {entry.account.id: entry for entry in stored},
            credentials,
            {e.account.id: self._grant(e, e.grant, applications) for e in stored if e.grant is not None},
            {id_: one for id_, (one, _data) in applications.items()},
            grant_keys(found),
            tuple(record for record in found if isinstance(record, StoredRecord)),
            signing_keys(found),
            tuple(one.key for one in in_order(dkim_keys)),
            tuple(record for record in found if isinstance(record, UnknownRecord)),
            tuple(unreadable),
        )

    def _apply(self, result: _Snapshot | SenderproxyError, read: Fingerprint | None) -> bool:
        """Put the accounts in force, all in one step; or note the problem, and when to try this file again."""
        if isinstance(result, SenderproxyError):
            pause = _FIRST_PAUSE
            if self._failed is not None and self._failed.fingerprint == read:
                pause = min(self._failed.pause_seconds * 2, _LONGEST_PAUSE)
            self._failed = _FailedReading(read, pause, self._clock.monotonic() + pause)
            self._set_problem(result)
            return False
        self._snapshot, self._failed = result, None
        self._log_unusable()
        self._clear_problem()
        event(_log, log_events.VAULT_RELOADED, accounts=len(result.directory.accounts))
        self.on_change()
        return True

    def _credential(self, stored: StoredAccount, applications: "Mapping[str, _ReadApplication]") -> Credential:
        login, grant = stored.account.login, stored.grant
        parts = [login.encode(), stored.secret.encode()]
        if grant is None:
            return Credential(login, stored.secret, self._digest(parts))
        _usable, data = applications.get(grant.application, _NO_APPLICATION)
        return Credential(login, "", self._digest([*parts, grant.id.encode(), data]), grant.application)

    def _grant(
        self, stored: StoredAccount, grant: Grant, applications: "Mapping[str, _ReadApplication]"
    ) -> StoredGrant:
        account = stored.account
        application, data = applications.get(grant.application, _NO_APPLICATION)
        if isinstance(application, UsableApplication) and application.flow is Flow.APPLICATION:
            version = self._digest([data])  # one token for all its accounts
        else:
            version = self._credential(stored, applications).version
        refresh_token = AccessToken(stored.secret)
        return StoredGrant(account.id, account.login, grant.application, grant.id, version, refresh_token)

    def _digest(self, parts: Iterable[bytes]) -> str:
        return hashlib.blake2b(b"\0".join(parts), digest_size=16, key=self._version_key).hexdigest()

    def _log_unusable(self) -> None:
        for why in self._snapshot.unreadable:
            event(_log, log_events.ACCOUNT_UNUSABLE, why=why)
        for record in self._snapshot.unknown:
            event(_log, log_events.VAULT_RECORD_UNKNOWN, record=record.id, kind=record.kind)

    def _set_problem(self, error: SenderproxyError) -> None:
        if self.problem != error.message:
            self.problem, self.problem_hint = error.message, error.hint
            event(_log, log_events.VAULT_UNREADABLE, why=error.message, hint=error.hint)

    def _clear_problem(self) -> None:
        if self.problem is not None:
            self.problem = None
            event(_log, log_events.VAULT_READABLE_AGAIN)


_ReadApplication: TypeAlias = tuple[UsableApplication | str, bytes]  # and the octets of its record
_NO_APPLICATION: Final[_ReadApplication] = ("", b"")


def _uses_oauth(found: Sequence[Record]) -> bool:
    """True if one of these records is an application, or an account that uses one."""
    return any(
        record.kind == OAUTH_APPLICATION
        if isinstance(record, StoredRecord)
        else isinstance(record, StoredAccount) and record.grant is not None
        for record in found
    )


def _applications(found: Sequence[Record]) -> dict[str, _ReadApplication]:
    """Read the applications among these records, with their keys. Raises ProgramReplaced."""
    read: dict[str, _ReadApplication] = {}
    if _uses_oauth(found):
        late_oauth.load()
    for record in found:
        if isinstance(record, StoredRecord) and record.kind == OAUTH_APPLICATION:
            try:
                read[record.id] = late_oauth.usable(from_record(record)), encode(record)
            except SenderproxyError as error:
                read[record.id] = str(error), encode(record)
    return read


def _too_slow() -> VaultDiskError:
    return VaultDiskError(
        _("The vault is not read yet: the disk or the keyring does not respond."),
        hint=_("Look for errors of the disk: dmesg"),
    )
