"""Try an account's login at its provider, once, without the running service."""

import asyncio
from collections.abc import Sequence
from dataclasses import fields
from typing import Final

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

_STAGE_SECONDS: Final = 20.0  # a person waits; a server that takes longer is as good as away


class _One(Accounts):
    """The one account whose login is tried: it may not be in the vault yet."""

    def __init__(self, account: Account, credential: Credential) -> None:
        self._directory = AccountDirectory((account,))
        self._credential = credential

    def directory(self) -> AccountDirectory:
        return self._directory

    def credential(self, account: Account) -> Credential | None:
        return self._credential if self._directory.by_id(account.id) else None


def try_login(config: Config, account: Account, credential: Credential) -> LoginVerdict:
    """One AUTH on a fresh session. Raises SenderproxyError where the account's provider is not known."""
    return asyncio.run(_tried(config, provider_of(config, account), account, credential))


async def _tried(config: Config, provider: Provider, account: Account, credential: Credential) -> LoginVerdict:
    courier = SmtpCourier(_One(account, credential), short_timeouts(), config.identity.hostname, SystemClock())
    try:
        return await courier.verify(account, provider, credential)
    finally:
        await courier.close(0)


def try_senders(
    config: Config, account: Account, credential: Credential, senders: Sequence[ReversePath], recipient: ForwardPath
) -> Probed | LoginRefused | Unreachable:
    """One AUTH, and on the same session the question which of these senders are taken; no message is sent."""
    return asyncio.run(_probed(config, account, credential, senders, recipient))


async def _probed(
    config: Config, account: Account, credential: Credential, senders: Sequence[ReversePath], recipient: ForwardPath
) -> Probed | LoginRefused | Unreachable:
    provider = provider_of(config, account)
    courier = SmtpCourier(_One(account, credential), short_timeouts(), config.identity.hostname, SystemClock())
    try:
        return await courier.probe(account, provider, credential, senders, recipient)
    finally:
        await courier.close(0)


def provider_of(config: Config, account: Account) -> Provider:
    """The account's provider. Raises SenderproxyError where the configuration does not know it."""
    provider = config.provider_table().get(account.provider)
    if provider is None:
        raise SenderproxyError(
            f"Account {account.id} is at provider {account.provider}, which the configuration does not know.",
            hint=f"Add [providers.{account.provider}] to the configuration.",
        )
    return provider


def short_timeouts() -> SessionTimeouts:
    """What a person waits for each step."""
    return SessionTimeouts(**{stage.name: _STAGE_SECONDS for stage in fields(SessionTimeouts)})


def in_words(verdict: LoginVerdict) -> str:
    """The verdict for a person."""
    match verdict:
        case LoginOk(smarthost, mechanism):
            return f"the login works ({smarthost}, {mechanism})"
        case LoginRefused(reply):
            return reply.text.partition(" To mend:")[0]  # each command has a mend of its own
        case Unreachable(reply):
            return f"the login could not be tried: {reply.text}"


def to_mend(verdict: LoginRefused | Unreachable, account: Account) -> str:
    """What may be the matter: a password only where one was asked for."""
    if isinstance(verdict, LoginRefused):
        return f"If the password is the reason: senderproxy account set-password {account.id}"
    return (
        "See whether this machine gets out: its network and DNS, a firewall on the provider's port; host, port and"
        f" security in [providers.{account.provider}]"
    )
