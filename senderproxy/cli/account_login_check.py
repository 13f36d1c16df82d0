"""Login checks without the running service: one login of one account at its provider."""

import asyncio
from collections.abc import Sequence
from dataclasses import fields
from typing import Final

from senderproxy.accounts.record import StoredAccount
from senderproxy.cli.errors import LoginFailed, LoginRejected
from senderproxy.cli.terminal import print_progress
from senderproxy.clock import SystemClock
from senderproxy.config.model import Config
from senderproxy.delivery.courier import LoginOk, LoginRefused, LoginVerdict, SmtpCourier, Unreachable
from senderproxy.delivery.login_check import Probed
from senderproxy.delivery.session import SessionTimeouts
from senderproxy.errors import SenderproxyError
from senderproxy.mail.address import ForwardPath, ReversePath
from senderproxy.relay.ports import Accounts
from senderproxy.routing.account import Account, Credential
from senderproxy.routing.directory import AccountDirectory
from senderproxy.routing.provider import Provider
from senderproxy.translation import _

_STAGE_TIMEOUT: Final = 20.0  # seconds; a person waits, and a server that takes longer is down in practice


class _SingleAccount(Accounts):
    """The account whose login is tried: it may not be in the vault yet."""

    def __init__(self, account: Account, credential: Credential) -> None:
        self._directory = AccountDirectory((account,))
        self._credential = credential

    def directory(self) -> AccountDirectory:
        return self._directory

    def credential(self, account: Account) -> Credential | None:
        return self._credential if self._directory.by_id(account.id) else None


def try_login(config: Config, account: Account, credential: Credential) -> LoginVerdict:
    """One AUTH on a new session. Raises SenderproxyError if the configuration has no such provider."""
    return asyncio.run(_try_login(config, provider_of(config, account), account, credential))


async def _try_login(config: Config, provider: Provider, account: Account, credential: Credential) -> LoginVerdict:
    accounts = _SingleAccount(account, credential)
    courier = SmtpCourier(accounts, short_timeouts(), config.identity.hostname, SystemClock())
    try:
        return await courier.verify(account, provider, credential)
    finally:
        await courier.close(0)


def require_login(config: Config, stored: StoredAccount) -> None:
    """Try the login of an account that is to be stored. Raises LoginFailed or LoginRejected if it does not work."""
    account = stored.account
    print_progress(_("Trying the login of {login} ...").format(login=account.login))
    result = try_login(config, account, Credential(account.login, stored.secret, version="untried"))
    if not isinstance(result, LoginOk):
        kind = LoginRejected if isinstance(result, LoginRefused) else LoginFailed
        raise kind(describe(result), hint=_("Try again, or store the account without a login test: --no-verify"))


def try_senders(
    config: Config, account: Account, credential: Credential, senders: Sequence[ReversePath], recipient: ForwardPath
) -> Probed | LoginRefused | Unreachable:
    """One AUTH and, on the same session, MAIL and RCPT for each sender; no message is sent."""
    return asyncio.run(_try_senders(config, account, credential, senders, recipient))


async def _try_senders(
    config: Config, account: Account, credential: Credential, senders: Sequence[ReversePath], recipient: ForwardPath
) -> Probed | LoginRefused | Unreachable:
    provider = provider_of(config, account)
    accounts = _SingleAccount(account, credential)
    courier = SmtpCourier(accounts, short_timeouts(), config.identity.hostname, SystemClock())
    try:
        return await courier.probe(account, provider, credential, senders, recipient)
    finally:
        await courier.close(0)


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


def short_timeouts() -> SessionTimeouts:
    """The timeouts of a session that a person waits for."""
    return SessionTimeouts(**{stage.name: _STAGE_TIMEOUT for stage in fields(SessionTimeouts)})


def describe(result: LoginVerdict) -> str:
    """The result as part of a sentence."""
    match result:
        case LoginOk(smarthost, mechanism):
            return _("the login works ({smarthost}, {mechanism})").format(smarthost=smarthost, mechanism=mechanism)
        case LoginRefused(reply):
            return reply.text.partition(" To mend:")[0]  # each command prints a hint of its own
        case Unreachable(reply):
            return _("the login could not be tried: {reply}").format(reply=reply.text)


def login_hint(result: LoginRefused | Unreachable, account: Account) -> str:
    """The likely fix; it concerns the password only if the provider asked for one."""
    if isinstance(result, LoginRefused):
        return _("If the password is wrong: senderproxy account set-password {account}").format(account=account.id)
    return _(
        "Check this machine's network, DNS and firewall, and host, port and security in [providers.{provider}]."
    ).format(provider=account.provider)
