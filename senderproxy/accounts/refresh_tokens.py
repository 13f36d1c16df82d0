"""Refresh tokens of this machine: in the vault, and the rotated ones in the grant file beside it.

Guarantees: a refresh token that the server rotates is on disk before the access token of the same answer is used. A
disk that refuses it, or does not respond within some seconds, costs no mail: the token is kept in memory, and stored as
soon as the disk allows it.
Not here: requests and answers (accounts.access_tokens), the file (accounts.grant_file), refresh tokens that several
instances share (accounts.shared_refresh_tokens).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from senderproxy import log_events
from senderproxy.accounts.errors import AccountsError, VaultDiskError
from senderproxy.accounts.grant_file import GrantFile
from senderproxy.accounts.vault_accounts import StoredGrant, VaultAccounts
from senderproxy.aio import wait_done
from senderproxy.log import event
from senderproxy.oauth.refusals import RefusalCause, TokenRefusal
from senderproxy.oauth.token_answer import Tokens
from senderproxy.translation import _, in_english
from senderproxy.worker_threads import WorkerThreads, WorkerThreadsError

_log: Final = logging.getLogger("senderproxy.accounts")

_T = TypeVar("_T")
Spend: TypeAlias = Callable[[str], Awaitable[Tokens | TokenRefusal]]  # one request with this refresh token

_NO_REFRESH_TOKEN: Final = TokenRefusal(
    RefusalCause.GRANT_ENDED, "", "backups leave refresh tokens out, so it is not here"
)


class RefreshTokens(Protocol):
    """The newest refresh token of each grant."""

    async def renew(self, grant: StoredGrant, spend: Spend) -> Tokens | TokenRefusal:
        """Spend the newest refresh token, and return the answer after its new tokens are stored.

        One call at a time for each grant.
        """
        ...

    def retain(self, in_use: Collection[str]) -> None:
        """Forget the grants without these ids."""
        ...

    def follow_keys(self) -> None:
        """Seal the stored tokens with the vault's newest key, if there is another one."""
        ...

    async def close(self) -> None:
        """Store new tokens still in memory, and end. The caller cancels it after its own time limit."""
        ...

    def stop(self) -> None:
        """End all that goes on, after `close` or its cancellation."""
        ...


class LocalRefreshTokens(RefreshTokens):
    """The refresh tokens that this machine alone uses."""

    def __init__(self, accounts: VaultAccounts, path: Path, file_seconds: float, save_again: float) -> None:
        """`path`: the grant file; `file_seconds`: limit for a call of it; `save_again`: until a write is repeated."""
        self._accounts = accounts
        self._path = path
        self._file_seconds = file_seconds
        self._save_again = save_again
        self._thread = WorkerThreads("grant-file")
        self._file: GrantFile | None = None
        self._file_keys: Sequence[bytes] = ()
        self._unsaved: dict[str, str] = {}  # refresh tokens that are not on disk yet, by grant
        self._hanging: asyncio.Future[Any] | None = None  # a call of the grant file that took too long
        self._saving_again: asyncio.Task[None] | None = None
        self._sealing: asyncio.Task[None] | None = None

    async def renew(self, grant: StoredGrant, spend: Spend) -> Tokens | TokenRefusal:
        """See RefreshTokens."""
        refresh = await self.newest(grant)
        if isinstance(refresh, TokenRefusal):
            return refresh
        found = await spend(refresh)
        if isinstance(found, Tokens) and found.refresh:
            await self._store(grant, found.refresh)
        return found

    def retain(self, in_use: Collection[str]) -> None:
        """See RefreshTokens."""
        self._unsaved = {grant_id: token for grant_id, token in self._unsaved.items() if grant_id in in_use}

    def follow_keys(self) -> None:
        """See RefreshTokens."""
        if self._file is not None and self._accounts.grant_keys() != self._file_keys and self._sealing is None:
            self._sealing = asyncio.create_task(self._seal())

    async def close(self) -> None:
        """See RefreshTokens."""
        self.follow_keys()
        if self._sealing is not None:
            await asyncio.wait([self._sealing])
        if self._saving_again is not None:
            self._saving_again.cancel()
        if self._unsaved:
            await self._save()
        if (file := self._file) is not None:
            self._file = None
            with suppress(WorkerThreadsError):
                await self._thread.do(file.close)

    def stop(self) -> None:
        """See RefreshTokens."""
        if self._saving_again is not None:
            self._saving_again.cancel()
        self._thread.stop()

    async def _seal(self) -> None:
        try:
            await self._on_file(lambda _file: None)
        except (AccountsError, WorkerThreadsError) as error:  # tried again at the next use of the file
            event(_log, log_events.GRANT_FILE_NOT_SEALED, why=words_of(error))
        finally:
            self._sealing = None

    async def newest(self, grant: StoredGrant) -> str | TokenRefusal:
        """Return the newest refresh token of a grant: in memory, in the grant file, or in the vault."""
        if grant.id in self._unsaved:
            return self._unsaved[grant.id]
        try:
            newest = await self._on_file(lambda file: file.token(grant.id))
        except (AccountsError, WorkerThreadsError) as error:
            # Without the file the newest token is unknown: an older one would end the grant at some servers.
            return TokenRefusal(RefusalCause.GRANT_FILE, "", words_of(error))
        return newest or grant.refresh_token.reveal() or _NO_REFRESH_TOKEN

    async def _store(self, grant: StoredGrant, refresh: str) -> None:
        """Store a rotated refresh token. If the disk refuses, it stays in memory, and the log says so."""
        self._unsaved[grant.id] = refresh
        if not (why := await self._save()):
            return
        event(_log, log_events.GRANT_NOT_STORED, account=grant.account, why=why)
        if self._saving_again is None:
            self._saving_again = asyncio.create_task(self._save_until_stored())

    async def _save_until_stored(self) -> None:
        try:
            while self._unsaved:
                await asyncio.sleep(self._save_again)
                if self._unsaved and not await self._save():
                    event(_log, log_events.GRANTS_STORED)
        finally:
            self._saving_again = None

    async def _save(self) -> str:
        """Store the refresh tokens that are only in memory. Returns why they could not be; empty: they are on disk."""
        tokens = dict(self._unsaved)
        in_use = {*tokens, *(one.id for one in self._accounts.grants())}
        try:
            await self._on_file(lambda file: file.put(tokens, in_use))
        except (AccountsError, WorkerThreadsError) as error:
            return words_of(error)
        self._unsaved = {id_: token for id_, token in self._unsaved.items() if tokens.get(id_) != token}
        return ""

    async def _on_file(self, call: Callable[[GrantFile], _T]) -> _T:
        """Use the grant file, on its thread. Raises AccountsError, also if the disk does not respond in time.

        A call that took too long goes on; until it ends, no further one waits behind it.
        """
        if self._hanging is not None and not self._hanging.done():
            raise self._no_response()
        running = self._thread.do(self._use_file, call)
        running.add_done_callback(_note_result)
        await wait_done(running, self._file_seconds)
        if not running.done():
            self._hanging = running
            raise self._no_response()
        return running.result()

    def _no_response(self) -> VaultDiskError:
        return VaultDiskError(
            _("The disk with the grant file does not respond within {seconds} s.").format(
                seconds=f"{self._file_seconds:g}"
            ),
            hint=_("Look for disk errors in the kernel log: dmesg"),
        )

    def _use_file(self, call: Callable[[GrantFile], _T]) -> _T:
        """Called on the thread. After an error the file is opened again for the next call."""
        try:
            return call(self._opened())
        except BaseException:
            if (file := self._file) is not None:
                self._file = None
                file.close()
            raise

    def _opened(self) -> GrantFile:
        """The grant file, opened with the keys in force. Called on the thread."""
        keys = self._accounts.grant_keys()
        if (file := self._file) is not None and keys and keys != self._file_keys:
            file.seal(keys[0])  # whatever the keys were in between
            self._file_keys = keys
        if self._file is None:
            self._file, self._file_keys = GrantFile.open(self._path, keys), keys
        return self._file


def words_of(error: AccountsError | WorkerThreadsError) -> str:
    """The words of an error in the log."""
    return in_english(error.message) if isinstance(error, AccountsError) else str(error)


def _note_result(done: "asyncio.Future[Any]") -> None:
    """A call that nobody waits for any more has had its error noted."""
    if not done.cancelled():
        done.exception()
