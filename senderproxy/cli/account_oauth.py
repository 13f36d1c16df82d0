"""Accounts with an OAuth login: `account add --oauth` and `account consent`.

Guarantees: an account is stored only after a login with its first token has worked, or with --no-verify. A consent that
was given is not lost by a failed login: its refresh token is stored with the account or not at all.
Not here: the consent itself (cli.consent), the applications (cli.oauth).
"""

import argparse
import secrets
from typing import Final

from senderproxy.accounts.editor import AccountEditor
from senderproxy.accounts.grant_key import new_grant_key
from senderproxy.accounts.oauth_application import Flow, UsableApplication
from senderproxy.accounts.record import GRANT_KEY, Grant, StoredAccount
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.cli.account_login_check import require_login_with_token
from senderproxy.cli.consent import ask_for_tokens, consent_by_device, consent_in_browser, present_moment
from senderproxy.cli.oauth_instructions import mailbox_steps
from senderproxy.cli.terminal import is_interactive, print_paragraph, print_progress
from senderproxy.config.model import Config
from senderproxy.oauth import token_request
from senderproxy.oauth.hints import TokenSubject
from senderproxy.oauth.token_answer import Tokens
from senderproxy.routing.account import AccessToken, Account
from senderproxy.translation import _

_GRANT_OCTETS: Final = 16  # random octets of a grant's id


def add_oauth_options(parser: argparse.ArgumentParser) -> None:
    """The options of a login with OAuth."""
    parser.add_argument(
        "--oauth",
        metavar="NAME",
        help=_("log in with OAuth through this application: microsoft, google, or a name of `senderproxy oauth list`"),
    )
    parser.add_argument("--device", action="store_true", help=_("consent by a code; many organizations block that"))


def granted(
    config: Config, account: Account, application: UsableApplication, *, by_device: bool, verify: bool
) -> StoredAccount:
    """The account with a new grant: consent, first token, one login. Raises LoginFailed, HttpError.

    Without `verify` the server is asked for a consent only.
    """
    if is_interactive() and application.application is not None:
        steps = mailbox_steps(
            application.server.name, application.flow, application.application.client_id, str(account.address)
        )
        for step in steps:
            print_paragraph(step)
    refresh = ""
    if verify or application.flow is Flow.CONSENT:
        tokens = _first_tokens(account, application, by_device=by_device)
        if verify:
            require_login_with_token(config, account, AccessToken(tokens.access), application.id)
        refresh = tokens.refresh if application.flow is Flow.CONSENT else ""
    return StoredAccount(account, refresh, Grant(application.id, secrets.token_hex(_GRANT_OCTETS)))


def put_granted(editor: AccountEditor, stored: StoredAccount) -> None:
    """Put an account with its grant, and the key of the grant file if there is none. Raises as `editor.put`."""
    if not editor.records(GRANT_KEY):
        editor.put_record(new_grant_key(()))
    editor.put(stored)


def print_missing_consents(accounts: VaultAccounts, word: str) -> None:
    """The commands for accounts without a refresh token after a restore, if any. `word`: the program's name."""
    for grant in accounts.grants():
        application = accounts.application(grant.application)
        needs_one = isinstance(application, UsableApplication) and application.flow is Flow.CONSENT
        if needs_one and not grant.refresh_token.reveal():
            text = _("Account {id} needs a new consent: {command} account consent {id}")
            print(text.format(id=grant.account, command=word))


def _first_tokens(account: Account, application: UsableApplication, *, by_device: bool) -> Tokens:
    subject = TokenSubject(account.id, application.id, application.server.name)
    moment = present_moment()
    match application.flow:
        case Flow.SERVICE_ACCOUNT if application.service_account is not None:
            request = token_request.by_service_account(
                application.service_account, account.login, application.server.application_scopes, moment.now
            )
        case Flow.APPLICATION if application.application is not None:
            request = token_request.by_application(application.application, moment)
        case _ if application.application is not None:
            consent = consent_by_device if by_device else consent_in_browser
            return consent(application.application, account.login, subject)
        case _:
            raise AssertionError(application.flow)
    print_progress(_("Asking {server} for a token ...").format(server=application.server.name))
    return ask_for_tokens(request, subject, account.login)
