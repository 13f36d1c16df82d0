"""Access tokens of accounts with an OAuth login, as relay.ports.AccessTokens over the vault.

Guarantees: one request at a time for each grant; a refresh token that the server rotates is stored before the access
token of the same answer is used (accounts.refresh_tokens). Nothing secret is logged; words of a server are one line.
Not here: requests and answers (oauth), their transport (http_client), refresh tokens (accounts.refresh_tokens,
accounts.shared_refresh_tokens).
"""

import asyncio
import secrets
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from senderproxy.accounts.grant_file import grant_file_of
from senderproxy.accounts.late_oauth import NO_ACCOUNT
from senderproxy.accounts.oauth_application import Flow, UsableApplication
from senderproxy.accounts.refresh_tokens import LocalRefreshTokens, RefreshTokens
from senderproxy.accounts.vault_accounts import StoredGrant, VaultAccounts
from senderproxy.clock import Clock
from senderproxy.http_client.client import HttpClient
from senderproxy.http_client.errors import HttpError
from senderproxy.http_client.message import Request
from senderproxy.http_client.url import parse_url
from senderproxy.mail.reply import reply
from senderproxy.oauth import token_request
from senderproxy.oauth.hints import SENTENCES, TokenSubject, hint
from senderproxy.oauth.refusals import RefusalCause, TokenRefusal
from senderproxy.oauth.token_answer import Tokens, read_token_answer
from senderproxy.oauth.token_keeper import TokenKeeper
from senderproxy.oauth.token_request import HEADERS, FormRequest, Moment
from senderproxy.relay.ports import AccessTokens, NoToken
from senderproxy.relay.shared_ports import SharedGrants
from senderproxy.routing.account import AccessToken, Account

if TYPE_CHECKING:
    from senderproxy.accounts.shared_refresh_tokens import SharedRefreshTokens

_FILE_SECONDS: Final = (
    5.0  # for the grant file before a request of 20 s and after it: two requests take a minute at most
)
_SAVE_AGAIN: Final = 30.0  # seconds until a refused write is repeated


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
        self._accounts = accounts
        self._http = http
        self._clock = clock
        self._keeper = TokenKeeper(clock)
        self._generation = -1  # of the vault, when grants were forgotten last
        self._local = LocalRefreshTokens(accounts, grant_file_of(vault), file_seconds, save_again)
        self._shared: SharedRefreshTokens | None = None  # None: no other instance uses the accounts

    # ---- relay.ports.AccessTokens ----

    async def token(self, account: Account) -> AccessToken | NoToken:
        """See relay.ports.AccessTokens."""
        grant = self._accounts.grant(account.id)
        if grant is None:
            return NO_ACCOUNT
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

    def share(self, new: "type[SharedRefreshTokens]") -> None:
        """Other instances use the accounts too: use no refresh token until `use_database`. `new` is loaded late."""
        self._shared = new(self._accounts, self._local, self._clock)

    def use_database(self, store: SharedGrants) -> None:
        """The database with the refresh tokens is open."""
        assert self._shared is not None
        self._shared.use(store)

    @property
    def _refresh_tokens(self) -> RefreshTokens:
        return self._local if self._shared is None else self._shared

    def follow_keys(self) -> None:
        """Seal the stored refresh tokens with the vault's newest key, if that has changed."""
        self._refresh_tokens.follow_keys()

    async def close(self, grace: float) -> None:
        """Wait for the requests in progress, for so many seconds, and release the grant file.

        A rotated refresh token whose answer is not waited for is lost: the account then needs a new consent.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._keeper.close()
                await self._refresh_tokens.close()
        self._refresh_tokens.stop()

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
        self._refresh_tokens.retain({grant.id for grant in self._accounts.grants()})

    # ---- requests ----

    async def _fetch(self, application: UsableApplication, grant: StoredGrant) -> Tokens | TokenRefusal:
        now = int(self._clock.now().timestamp())
        at = Moment(now, secrets.token_urlsafe(24))
        match application.flow:
            case Flow.SERVICE_ACCOUNT if application.service_account is not None:
                return await self._ask(
                    token_request.by_service_account(
                        application.service_account, grant.login, application.server.application_scopes, now
                    )
                )
            case Flow.APPLICATION if application.application is not None:
                return await self._ask(token_request.by_application(application.application, at))
            case Flow.CONSENT if (consented := application.application) is not None:
                return await self._refresh_tokens.renew(
                    grant, lambda refresh: self._ask(token_request.by_refresh_token(consented, refresh, at))
                )
            case _:
                raise AssertionError("an application without its data is not usable")

    async def _ask(self, request: FormRequest) -> Tokens | TokenRefusal:
        try:
            answer = await self._http.send(Request("POST", parse_url(request.url), HEADERS, request.body))
        except HttpError as error:
            return TokenRefusal(RefusalCause.AWAY, "", error.message)
        return read_token_answer(answer.status, answer.body, request.secrets)


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
