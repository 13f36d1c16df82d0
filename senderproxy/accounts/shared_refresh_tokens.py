"""Refresh tokens that several instances use, over a database: each is spent once.

Guarantees: one instance at a time spends the refresh token of a grant, under a lease; the others take its new access
token from the database, or wait for it. The new tokens are in the database, sealed, before the access token is used. If
the database refuses them, they are kept in memory, under the lease, and stored as soon as it allows that: the access
token is used meanwhile, and no other instance spends the old refresh token as long as this one lives.
Not here: requests (accounts.access_tokens), seals (accounts.sealed_tokens), leases (relay.shared_ports).
"""

import asyncio
import logging
from collections.abc import Awaitable, Collection, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from senderproxy import log_events
from senderproxy.accounts.errors import AccountsError
from senderproxy.accounts.refresh_tokens import LocalRefreshTokens, RefreshTokens, Spend
from senderproxy.accounts.sealed_tokens import StoredTokens, seal_again, seal_tokens, unseal_tokens
from senderproxy.accounts.vault_accounts import StoredGrant, VaultAccounts
from senderproxy.aio import wait_done
from senderproxy.clock import Clock
from senderproxy.log import event
from senderproxy.oauth.refusals import RefusalCause, TokenRefusal
from senderproxy.oauth.token_answer import Tokens
from senderproxy.oauth.token_keeper import EARLY
from senderproxy.relay.ports import SpoolError
from senderproxy.relay.shared_ports import GrantRow, SharedGrants
from senderproxy.translation import in_english

_T = TypeVar("_T")

_DATABASE: Final = 5.0  # seconds for a question to the database, before a request of 20 s and after it
_WAIT: Final = 25.0  # seconds for the request of another instance: in all, a token takes a minute at most
_LOOK_AGAIN: Final = 2.0  # seconds after which the database is asked again, if no instance has told of an end
_DIFFERENCE: Final = 5.0  # seconds between what two instances take for the database server's time
_AGAIN: Final = 10.0  # seconds until a call is repeated that the database refused

_log: Final = logging.getLogger("senderproxy.accounts")


@dataclass(frozen=True, slots=True)
class _Unsaved:
    """New tokens that the database has not stored, and the lease under which they were requested."""

    lease: int
    sealed: bytes = field(repr=False)


class SharedRefreshTokens(RefreshTokens):
    """The refresh tokens of this instance and the others. `local`: those from before the database."""

    def __init__(
        self, accounts: VaultAccounts, local: LocalRefreshTokens, clock: Clock, *, again: float = _AGAIN
    ) -> None:
        """`again`: seconds until a call is repeated that the database refused."""
        self._accounts = accounts
        self._local = local
        self._clock = clock
        self._again = again
        self._store: SharedGrants | None = None  # None: the database is not open
        self._seen: dict[str, int] = {}  # versions whose access tokens are known, by grant
        self._unsaved: dict[str, _Unsaved] = {}  # by grant
        self._returning: dict[str, int] = {}  # leases that are to be given back, by grant
        self._waiting: dict[str, asyncio.Event] = {}  # calls for the lease of another instance, by grant
        self._keys: Sequence[bytes] = ()  # with the newest one all rows are sealed
        self._tasks: set[asyncio.Task[None]] = set()
        self._repeating: asyncio.Task[None] | None = None

    def use(self, store: SharedGrants) -> None:
        """The database is open."""
        self._store = store
        store.on_change(self._changed)
        self.follow_keys()

    # ---- RefreshTokens ----

    async def renew(self, grant: StoredGrant, spend: Spend) -> Tokens | TokenRefusal:
        """See RefreshTokens. The tokens may be those that another instance has requested."""
        if self._store is None:
            return _refusal("it is not open yet")
        if grant.id in self._unsaved and (why := await self._save(grant.id)):
            return _refusal(why)  # the refresh token in the database is spent
        self._waiting[grant.id] = asyncio.Event()
        try:
            found = await self._newest(self._store, grant)
        except (SpoolError, AccountsError) as error:
            return _refusal(in_english(error.message))
        finally:
            del self._waiting[grant.id]
        return await self._spend(grant, *found, spend) if isinstance(found, tuple) else found

    def retain(self, in_use: Collection[str]) -> None:
        """See RefreshTokens."""
        self._local.retain(in_use)
        gone = self._seen.keys() - in_use
        for grant in gone:
            del self._seen[grant]
            self._unsaved.pop(grant, None)
        if gone and self._store is not None:
            self._start(self._remove(self._store, gone))

    def follow_keys(self) -> None:
        """See RefreshTokens."""
        if self._store is not None and self._accounts.grant_keys() != self._keys:
            self._keys = self._accounts.grant_keys()
            self._start(self._seal_again(self._store, self._keys))

    async def close(self) -> None:
        """See RefreshTokens."""
        if self._repeating is not None:
            self._repeating.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._repeat()
        await self._local.close()

    def stop(self) -> None:
        """See RefreshTokens."""
        for task in (*self._tasks, *([self._repeating] if self._repeating is not None else [])):
            task.cancel()
        self._local.stop()

    # ---- the newest tokens ----

    async def _newest(self, store: SharedGrants, grant: StoredGrant) -> Tokens | TokenRefusal | tuple[int, str]:
        """Return new tokens of another instance; or a lease, and the refresh token to be spent.

        Raises SpoolError, AccountsError.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + _WAIT
        changed = self._waiting[grant.id]
        while True:
            changed.clear()
            row = await self._take(store, grant.id)
            if row.lease is not None:
                try:
                    refresh = await self._refresh_token(grant, row)
                except AccountsError:
                    self._give_back(grant.id, row.lease)
                    raise
                if isinstance(refresh, TokenRefusal):
                    self._give_back(grant.id, row.lease)
                    return refresh
                return row.lease, refresh
            if row.version != self._seen.get(grant.id, 0):
                tokens = self._unsealed(grant, row) if row.sealed else None
                self._seen[grant.id] = row.version
                if tokens is not None and (left := _left(tokens, row.age)) > 0:
                    return Tokens(tokens.access, left)
                continue
            if loop.time() >= end:
                return _refusal("another instance is asking for a token, and has no answer yet")
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_AGAIN):
                    await changed.wait()

    async def _take(self, store: SharedGrants, grant: str) -> GrantRow:
        """Raises SpoolError, also if the answer comes too late for a request under the lease."""
        begun = self._clock.monotonic()
        taking = asyncio.create_task(_bounded(store.take(grant, self._seen.get(grant, 0))))
        await wait_done(taking, _DATABASE)
        if taking.done() and (self._clock.monotonic() - begun <= _DATABASE or taking.exception() is not None):
            return taking.result()

        def taken(late: "asyncio.Task[GrantRow]") -> None:
            if not late.cancelled() and late.exception() is None and (lease := late.result().lease) is not None:
                self._give_back(grant, lease)

        taking.add_done_callback(taken)
        raise SpoolError(f"it did not answer within {_DATABASE:g} s")

    async def _refresh_token(self, grant: StoredGrant, row: GrantRow) -> str | TokenRefusal:
        """Raises AccountsError: an older one would end the grant at some servers."""
        if not row.sealed:
            return await self._local.newest(grant)
        return self._unsealed(grant, row).refresh

    def _unsealed(self, grant: StoredGrant, row: GrantRow) -> StoredTokens:
        return unseal_tokens(grant.id, row.sealed, self._accounts.grant_keys())

    # ---- the request, and its tokens ----

    async def _spend(self, grant: StoredGrant, lease: int, refresh: str, spend: Spend) -> Tokens | TokenRefusal:
        found = await spend(refresh)
        if isinstance(found, TokenRefusal):
            self._give_back(grant.id, lease)
            return found
        tokens = StoredTokens(found.refresh or refresh, found.access, found.lifetime)
        try:
            sealed = seal_tokens(grant.id, tokens, self._accounts.grant_keys())
        except AccountsError as error:  # the vault has lost its key meanwhile
            self._give_back(grant.id, lease)
            event(_log, log_events.GRANT_NOT_STORED, account=grant.account, why=in_english(error.message))
            return found
        self._unsaved[grant.id] = _Unsaved(lease, sealed)
        if why := await self._save(grant.id):
            event(_log, log_events.GRANT_NOT_STORED, account=grant.account, why=why)
            self._repeat_later()
        return found

    async def _save(self, grant: str) -> str:
        """Store new tokens. Returns why they could not be; empty: they are in the database, or not the newest."""
        unsaved = self._unsaved[grant]
        assert self._store is not None
        saving = asyncio.create_task(_bounded(self._store.put(grant, unsaved.lease, unsaved.sealed)))
        await wait_done(saving, _DATABASE)
        if not saving.done():
            saving.add_done_callback(_note_result)
            return f"the database did not answer within {_DATABASE:g} s"
        try:
            version = saving.result()
        except SpoolError as error:
            return in_english(error.message)
        self._unsaved.pop(grant, None)
        if version is None:
            event(_log, log_events.GRANT_LEASE_ENDED, grant=grant)
        else:
            self._seen[grant] = version
        return ""

    # ---- beside the callers ----

    def _changed(self, grant: str) -> None:
        if (waiting := self._waiting.get(grant)) is not None:
            waiting.set()

    def _give_back(self, grant: str, lease: int) -> None:
        self._returning[grant] = lease
        self._start(self._return(grant))

    async def _return(self, grant: str) -> None:
        lease = self._returning.get(grant)
        if lease is None or self._store is None:
            return
        try:
            await self._store.give_back(grant, lease)
        except SpoolError:
            self._repeat_later()
        else:
            if self._returning.get(grant) == lease:
                del self._returning[grant]

    def _repeat_later(self) -> None:
        if self._repeating is None:
            self._repeating = asyncio.create_task(self._repeat_until_done())

    async def _repeat_until_done(self) -> None:
        try:
            while self._unsaved or self._returning:
                await asyncio.sleep(self._again)
                had_unsaved = bool(self._unsaved)
                await self._repeat()
                if had_unsaved and not self._unsaved:
                    event(_log, log_events.GRANTS_STORED)
        finally:
            self._repeating = None

    async def _repeat(self) -> None:
        for grant in list(self._unsaved):
            if grant in self._unsaved and await self._save(grant):
                break  # so do the others
        for grant in list(self._returning):
            await self._return(grant)

    async def _seal_again(self, store: SharedGrants, keys: Sequence[bytes]) -> None:
        try:
            for grant, sealed in await store.read_all([grant.id for grant in self._accounts.grants()]):
                with suppress(AccountsError):  # of another vault
                    if (anew := seal_again(grant, sealed, keys)) is not None:
                        await store.reseal(grant, sealed, anew)
        except SpoolError as error:
            self._keys = ()  # at the next change of the vault, or the next start
            event(_log, log_events.GRANT_FILE_NOT_SEALED, why=in_english(error.message))

    async def _remove(self, store: SharedGrants, grants: Collection[str]) -> None:
        with suppress(SpoolError):
            await store.remove(grants)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _left(tokens: StoredTokens, age: float) -> float:
    """Seconds until the access token ends; 0 if it is to be renewed, or its age is uncertain."""
    left = tokens.lifetime - max(age, 0.0)
    return left if age >= -_DIFFERENCE and left > min(EARLY, tokens.lifetime / 2) else 0.0


def _refusal(why: str) -> TokenRefusal:
    return TokenRefusal(RefusalCause.GRANT_DATABASE, "", why)


async def _bounded(call: Awaitable[_T]) -> _T:
    """A call as a coroutine, for a task."""
    return await call


def _note_result(done: "asyncio.Task[Any]") -> None:
    """A call that nobody waits for any more has had its error noted."""
    if not done.cancelled():
        done.exception()
