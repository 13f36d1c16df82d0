"""Login checks without the running service: one login of one account at its provider."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from senderproxy.accounts.record import StoredAccount
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.cli.access_tokens import CommandTokens
from senderproxy.cli.errors import LoginFailed, LoginRejected
from senderproxy.cli.terminal import print_progress
from senderproxy.clock import SystemClock
from senderproxy.config.model import Config
from senderproxy.delivery.login_check import (
    LoginOk,
    LoginRefused,
    LoginResult,
    LoginUnchecked,
    Probed,
    check_login,
    describe,
    login_hint,
    probe_senders,
    short_timeouts,
)
from senderproxy.delivery.login_gate import LoginGates
from senderproxy.delivery.opening import SessionOpener
from senderproxy.delivery.resolver import Resolver
from senderproxy.errors import SenderproxyError
from senderproxy.mail.address import ForwardPath, ReversePath
from senderproxy.relay.ports import AccessTokens
from senderproxy.routing.account import AccessToken, Account, Credential
from senderproxy.routing.provider import Provider
from senderproxy.translation import _

_GATES: Final = LoginGates(SystemClock().monotonic)  # of all logins of this command


def try_login(
    config: Config, account: Account, credential: Credential, accounts: VaultAccounts | None = None
) -> LoginResult:
    """One AUTH on a new session. Raises SenderproxyError if the configuration has no such provider.

    `accounts`: for the access token of an account that logs in with OAuth.
    """
    provider = provider_of(config, account)

    async def check() -> LoginResult:
        async with _tokens(config, accounts) as tokens:
            return await check_login(_opener(config, tokens), account, provider, credential)

    return asyncio.run(check())


def require_login(config: Config, stored: StoredAccount) -> None:
    """Try the login of an account that is to be stored. Raises LoginFailed or LoginRejected if it does not work."""
    account = stored.account
    if stored.grant is not None:  # its login with OAuth is not changed
        return
    print_progress(_("Trying the login of {login} ...").format(login=account.login))
    result = try_login(config, account, Credential(account.login, stored.secret, version="untried"))
    if not isinstance(result, LoginOk):
        kind = LoginRejected if isinstance(result, LoginRefused) else LoginFailed
        raise kind(describe(result), hint=_fix_before_storing(result, account))


def _fix_before_storing(result: LoginRefused | LoginUnchecked, account: Account) -> str:
    """The fix of the cause, unless it is a command for an account in the vault, and the way without a test."""
    fix = login_hint(result, account).removesuffix(".")
    if not fix or "senderproxy account" in fix:
        return _("Try again, or store the account without a login test: --no-verify")
    return _("{fix}. Or store the account without a login test: --no-verify").format(fix=fix)


def require_login_with_token(config: Config, account: Account, token: AccessToken, application: str) -> None:
    """Try the login of a new account with a token. Raises LoginFailed or LoginRejected."""
    print_progress(_("Trying the login of {login} ...").format(login=account.login))
    credential = Credential(account.login, "", "untried", application)
    provider = provider_of(config, account)
    result = asyncio.run(check_login(_opener(config, _OneToken(token)), account, provider, credential))
    if not isinstance(result, LoginOk):
        kind = LoginRejected if isinstance(result, LoginRefused) else LoginFailed
        raise kind(describe(result), hint=login_hint(result, account))


def try_senders(
    config: Config,
    accounts: VaultAccounts,
    account: Account,
    credential: Credential,
    senders: Sequence[ReversePath],
    recipient: ForwardPath,
) -> Probed | LoginRefused | LoginUnchecked:
    """One AUTH and, on the same session, MAIL and RCPT for each sender; no message is sent."""
    provider = provider_of(config, account)

    async def probe() -> Probed | LoginRefused | LoginUnchecked:
        async with _tokens(config, accounts) as tokens:
            return await probe_senders(_opener(config, tokens), account, provider, credential, senders, recipient)

    return asyncio.run(probe())


class _OneToken(AccessTokens):
    """relay.ports.AccessTokens with one token, for an account before it is stored."""

    def __init__(self, token: AccessToken) -> None:
        self._token = token

    async def token(self, _account: Account) -> AccessToken:
        """See relay.ports.AccessTokens."""
        return self._token

    def refused(self, _account: Account, _token: AccessToken) -> bool:
        """See relay.ports.AccessTokens."""
        return False


@asynccontextmanager
async def _tokens(config: Config, accounts: VaultAccounts | None) -> AsyncIterator[CommandTokens | None]:
    if accounts is None:
        yield None
        return
    tokens = CommandTokens(config, accounts)
    try:
        yield tokens
    finally:
        await tokens.close()


def _opener(config: Config, tokens: AccessTokens | None) -> SessionOpener:
    resolver = Resolver(SystemClock())
    return SessionOpener(short_timeouts(), config.identity.hostname, resolver, gates=_GATES, tokens=tokens)


def provider_of(config: Config, account: Account) -> Provider:
    """The account's provider. Raises SenderproxyError if the configuration has no such provider."""
    provider = config.provider_table().get(account.provider)
    if provider is None:
        raise SenderproxyError(
            _("Account {account} is at provider {provider}, which the configuration does not know.").format(
                account=account.id, provider=account.provider
            ),
            hint=_("Add [providers.{provider}] to the configuration.").format(provider=account.provider),
        )
    return provider
