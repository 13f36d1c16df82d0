"""Findings of `check` about copies in Sent folders: the provider, and one login by IMAP for each such account.

Not here: the logins for sending (cli.check), the login by IMAP itself (cli.account_sent_copy).
"""

from collections.abc import Callable, Collection, Iterator

from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.cli.account_sent_copy import check_folder
from senderproxy.cli.exit_codes import EX_OK
from senderproxy.cli.findings import Finding, Level
from senderproxy.config.model import Config
from senderproxy.routing.account import Account
from senderproxy.translation import _


def check_sent_copies(
    config: Config,
    accounts: VaultAccounts,
    without_login: Collection[str],
    progress: Callable[[str], None],
    *,
    logs_in: bool,
) -> Iterator[Finding]:
    """The findings about accounts with copies. `without_login`: accounts whose password is known to be refused."""
    for account in accounts.directory().accounts:
        if account.sent_copy is None:
            continue
        subject = _("copies of account {id}").format(id=account.id)
        provider = config.provider_table().get(account.provider)
        if provider is None:  # another finding says so
            continue
        if provider.stores_sent:
            text = _("{provider} stores each sent message by itself, so each is in the folder twice")
            hint = _("senderproxy account edit {id} --no-sent-copy").format(id=account.id)
            yield Finding(Level.ADVICE, subject, text.format(provider=provider.name), hint)
        if provider.imap is None:
            text = _("no copies: the IMAP server of {provider} is not known").format(provider=provider.name)
            hint = _("Name it: imap_host under [providers.{provider}]").format(provider=provider.name)
            yield Finding(Level.WRONG, subject, text, hint)
        elif logs_in and account.id not in without_login:
            progress(_("Looking for the Sent folder of {login} ...").format(login=account.login))
            yield from _check_folder(config, accounts, account, subject)


def _check_folder(config: Config, accounts: VaultAccounts, account: Account, subject: str) -> Iterator[Finding]:
    found = check_folder(config, accounts, account)
    if found is not None:
        yield Finding(Level.OK if found.code == EX_OK else Level.WRONG, subject, found.words, found.hint)
