"""Try an account's login at its provider, once, without the running service."""

import asyncio
from dataclasses import fields

from senderproxy.accounts.keeper import VaultAccounts
from senderproxy.clock import SystemClock
from senderproxy.config.model import Config
from senderproxy.delivery.courier import LoginOk, LoginRefused, LoginVerdict, SmtpCourier
from senderproxy.delivery.session import Patience
from senderproxy.errors import SenderproxyError
from senderproxy.routing.account import Account, Credential

_STAGE_SECONDS = 20.0  # a person waits; a server that takes longer is as good as away


def try_login(config: Config, accounts: VaultAccounts, account: Account, credential: Credential) -> LoginVerdict:
    """One AUTH on a fresh session. Raises SenderproxyError where the account's provider is not known."""
    provider = config.provider_table().get(account.provider)
    if provider is None:
        raise SenderproxyError(
            f"Account {account.id} is at provider {account.provider}, which the configuration does not know.",
            hint=f"Add [providers.{account.provider}] to the configuration.",
        )
    patience = Patience(**{stage.name: _STAGE_SECONDS for stage in fields(Patience)})
    courier = SmtpCourier(accounts, patience, config.identity.hostname, SystemClock())
    return asyncio.run(courier.verify(account, provider, credential))


def in_words(verdict: LoginVerdict) -> str:
    """The verdict for a person."""
    match verdict:
        case LoginOk():
            return f"the login works ({verdict.smarthost}, {verdict.mechanism})"
        case LoginRefused():
            return f"the login is refused: {verdict.reply}"
        case _:
            return f"the login could not be tried: {verdict.reply}"
