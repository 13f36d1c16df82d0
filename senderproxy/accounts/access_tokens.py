"""Access tokens of accounts with an OAuth login, as relay.ports.AccessTokens over the vault.

Guarantees: one request at a time for each grant; a refresh token that the server rotates is on disk before the access
token of the same answer is used. A disk that refuses it, or does not respond within 5 seconds, costs no mail: the token
is kept in memory, and stored as soon as the disk allows it. Nothing secret is logged; words of a server are one line.
Not here: requests and answers (oauth), their transport (http_client), the grant file (accounts.grant_file).
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from senderproxy import log_events
from senderproxy.accounts.errors import AccountsError, VaultDiskError
from senderproxy.accounts.grant_file import GrantFile, grant_file_of
from senderproxy.accounts.oauth_application import Flow, UsableApplication
from senderproxy.accounts.vault_accounts import StoredGrant, VaultAccounts
from senderproxy.aio import wait_done
from senderproxy.clock import Clock
from senderproxy.http_client.client import HttpClient
from senderproxy.http_client.errors import HttpError
from senderproxy.http_client.message import Request
from senderproxy.http_client.url import parse_url
from senderproxy.log import event
from senderproxy.mail.reply import reply
from senderproxy.oauth import token_request
from senderproxy.oauth.hints import SENTENCES, TokenSubject, hint
from senderproxy.oauth.refusals import RefusalCause, TokenRefusal
from senderproxy.oauth.token_answer import Tokens, read_token_answer
from senderproxy.oauth.token_keeper import TokenKeeper
from senderproxy.oauth.token_request import HEADERS, Moment
from senderproxy.relay.ports import AccessTokens, NoToken
from senderproxy.routing.account import AccessToken, Account
from senderproxy.translation import _, in_english
from senderproxy.worker_threads import WorkerThreads, WorkerThreadsError

_log: Final = logging.getLogger("senderproxy.accounts")

_T = TypeVar("_T")

_FILE_SECONDS: Final = (
    5.0  # for the grant file before a request of 20 s and after it: two requests take a minute at most
)
_SAVE_AGAIN: Final = 30.0  # seconds until a refused write is repeated

_NO_REFRESH_TOKEN: Final = TokenRefusal(
    RefusalCause.GRANT_ENDED, "", "backups leave refresh tokens out, so it is not here"
)


class VaultTokens(AccessTokens):
    """relay.ports.AccessTokens over the vault at `vault`."""

    def __init__(
        self,
        accounts: VaultAccounts,
        http: HttpClient,
        clock: Clock,
        vault: Path,
        *,
        file_seconds: float = _FILE_SECONDS,
        save_again: float = _SAVE_AGAIN,
    ) -> None:
        """`file_seconds`: limit for a call of the grant file; `save_again`: until a refused write is repeated."""
        self._file_seconds = file_seconds
        self._save_again = save_again
        self._accounts = accounts
        self._http = http
        self._clock = clock
        self._keeper = TokenKeeper(clock)
        self._path = grant_file_of(vault)
        self._thread = WorkerThreads("grant-file")
        self._file: GrantFile | None = None
        self._file_keys: Sequence[bytes] = ()
        self._generation = -1  # of the vault, when grants were forgotten last
        self._unsaved: dict[str, str] = {}  # refresh tokens that are not on disk yet, by grant
        self._hanging: asyncio.Future[Any] | None = None  # a call of the grant file that took too long
        self._saving_again: asyncio.Task[None] | None = None
        self._sealing: asyncio.Task[None] | None = None

    # ---- relay.ports.AccessTokens ----

    async def token(self, account: Account) -> AccessToken | NoToken:
        """See relay.ports.AccessTokens."""
        grant = self._accounts.grant(account.id)
        if grant is None:
            return NoToken(reply(451, "4.3.0", "The account does not exist any more"), needs_person=False)
        application = self._accounts.application(grant.application)
        if isinstance(application, str):
            fix = f"senderproxy oauth show {grant.application}"
            return NoToken(reply(535, "5.7.8", application), needs_person=True, hint=fix)

        self._forget_removed()

        async def fetch() -> Tokens | TokenRefusal:
            return await self._fetch(application, grant)

        found = await self._keeper.token(_keeper_id(application, grant), grant.token_version, fetch)
        if isinstance(found, AccessToken):
            return found
        return _refused(found, application, account, grant)

    def refused(self, account: Account, token: AccessToken) -> bool:
        """See relay.ports.AccessTokens."""
        grant = self._accounts.grant(account.id)
        application = None if grant is None else self._accounts.application(grant.application)
        if grant is None or not isinstance(application, UsableApplication):
            return False
        return self._keeper.refused(_keeper_id(application, grant), token)

    # ---- for the service ----

    def resume(self, account_id: str) -> None:
        """Forget the last refusal of this account's server: the operator has acted."""
        grant = self._accounts.grant(account_id)
        application = None if grant is None else self._accounts.application(grant.application)
        if grant is not None and isinstance(application, UsableApplication):
            self._keeper.resume(_keeper_id(application, grant))

    def follow_keys(self) -> None:
        """Seal the open grant file with the vault's newest key, if that has changed."""
        if self._file is not None and self._accounts.grant_keys() != self._file_keys and self._sealing is None:
            self._sealing = asyncio.create_task(self._seal())

    async def _seal(self) -> None:
        try:
            await self._on_file(lambda _file: None)
        except (AccountsError, WorkerThreadsError) as error:  # tried again at the next use of the file
            event(_log, log_events.GRANT_FILE_NOT_SEALED, why=_words(error))
        finally:
            self._sealing = None

    async def close(self, grace: float) -> None:
        """Wait for the requests in progress, for so many seconds, and release the grant file.

        A rotated refresh token whose answer is not waited for is lost: the account then needs a new consent.
        """
        with suppress(TimeoutError, WorkerThreadsError):
            async with asyncio.timeout(grace):
                await self._keeper.close()
                self.follow_keys()
                if self._sealing is not None:
                    await asyncio.wait([self._sealing])
                if self._saving_again is not None:
                    self._saving_again.cancel()
                if self._unsaved:
                    await self._save()
                if (file := self._file) is not None:
                    self._file = None
                    await self._thread.do(file.close)
        if self._saving_again is not None:
            self._saving_again.cancel()
        self._thread.stop()

    def _forget_removed(self) -> None:
        """Forget the tokens of removed grants."""
        if self._accounts.generation == self._generation:
            return
        self._generation = self._accounts.generation
        in_use = set()
        for grant in self._accounts.grants():
            application = self._accounts.application(grant.application)
            if isinstance(application, UsableApplication):
                in_use.add(_keeper_id(application, grant))
        self._keeper.retain(frozenset(in_use))
        ids = {grant.id for grant in self._accounts.grants()}
        self._unsaved = {grant_id: token for grant_id, token in self._unsaved.items() if grant_id in ids}

    # ---- requests ----

    async def _fetch(self, application: UsableApplication, grant: StoredGrant) -> Tokens | TokenRefusal:
        now = int(self._clock.now().timestamp())
        at = Moment(now, secrets.token_urlsafe(24))
        match application.flow:
            case Flow.SERVICE_ACCOUNT if application.service_account is not None:
                request = token_request.by_service_account(
                    application.service_account, grant.login, application.server.application_scopes, now
                )
            case Flow.APPLICATION if application.application is not None:
                request = token_request.by_application(application.application, at)
            case Flow.CONSENT if application.application is not None:
                refresh = await self._refresh_token(grant)
                if isinstance(refresh, TokenRefusal):
                    return refresh
                request = token_request.by_refresh_token(application.application, refresh, at)
            case _:
                raise AssertionError("an application without its data is not usable")
        try:
            answer = await self._http.send(Request("POST", parse_url(request.url), HEADERS, request.body))
        except HttpError as error:
            return TokenRefusal(RefusalCause.AWAY, "", error.message)
        found = read_token_answer(answer.status, answer.body, request.secrets)
        if isinstance(found, Tokens) and found.refresh and application.flow is Flow.CONSENT:
            await self._store(grant, found.refresh)
        return found

    async def _refresh_token(self, grant: StoredGrant) -> str | TokenRefusal:
        """Return the newest refresh token of a grant: in memory, in the grant file, or in the vault."""
        if grant.id in self._unsaved:
            return self._unsaved[grant.id]
        try:
            newest = await self._on_file(lambda file: file.token(grant.id))
        except (AccountsError, WorkerThreadsError) as error:
            # Without the file the newest token is unknown: an older one would end the grant at some servers.
            return TokenRefusal(RefusalCause.GRANT_FILE, "", _words(error))
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
            return _words(error)
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


def _words(error: AccountsError | WorkerThreadsError) -> str:
    return in_english(error.message) if isinstance(error, AccountsError) else str(error)


def _note_result(done: "asyncio.Future[Any]") -> None:
    """A call that nobody waits for any more has had its error noted."""
    if not done.cancelled():
        done.exception()


def _keeper_id(application: UsableApplication, grant: StoredGrant) -> str:
    """The name of a token: an application alone has one for all accounts, a service account one for each user."""
    match application.flow:
        case Flow.APPLICATION:
            return f"application {application.id}"
        case Flow.SERVICE_ACCOUNT:
            return f"user {grant.login} of {application.id}"
        case Flow.CONSENT:
            return f"grant {grant.id}"


def _refused(refusal: TokenRefusal, application: UsableApplication, account: Account, grant: StoredGrant) -> NoToken:
    host = urlsplit(application.server.token_url).hostname or application.server.name
    subject = TokenSubject(account.id, application.id, application.server.name)
    text = f"{host} {SENTENCES[refusal.cause]} {account.id} ({grant.login})"
    said = ", ".join(filter(None, dict.fromkeys((refusal.error, refusal.words))))
    if said:
        text = f"{text}: {said.rstrip('.')}"  # the hint that may follow begins a sentence
    status = (451, "4.7.0") if refusal.is_temporary else (535, "5.7.8")
    return NoToken(reply(*status, text), not refusal.is_temporary, hint(refusal.cause, subject))
