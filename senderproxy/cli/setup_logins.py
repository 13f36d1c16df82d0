"""Passwords and logins in the dialogue of `senderproxy setup`.

Guarantees: each login is tried once for each time that the operator asks for it.
Not here: what follows from a choice (cli.setup_questions).
"""

from senderproxy.accounts.record import StoredAccount
from senderproxy.cli.account_login_check import try_login
from senderproxy.cli.errors import UsageError
from senderproxy.cli.questions import ask, explain, one_of
from senderproxy.cli.screen import printable
from senderproxy.cli.setup_answers import MailboxAnswer, password_prompt
from senderproxy.cli.terminal import ask_new_secret, ask_tested_secret, print_progress
from senderproxy.config.model import Config
from senderproxy.delivery.login_check import LoginOk, LoginUnchecked, describe
from senderproxy.routing.account import Credential
from senderproxy.translation import _


def ask_password(mailbox: MailboxAnswer, *, tested: bool) -> str:
    """The password of a mailbox, typed twice if no login will test it."""
    prompt = password_prompt(mailbox)
    while True:
        try:
            return ask_tested_secret(prompt) if tested else ask_new_secret(prompt, from_stdin=False)
        except UsageError as error:
            explain(error.message, error.hint)


def try_or_choose(config: Config, stored: StoredAccount) -> tuple[str, bool]:
    """Try the login. Empty if it works, else the letter that the operator chose; True if no login could be tried."""
    account = stored.account
    if stored.grant is not None:  # its login with OAuth is not changed
        return "", False
    print_progress(_("Trying the login of {login} ...").format(login=account.login))
    result = try_login(config, account, Credential(account.login, stored.secret, version="untried"))
    if isinstance(result, LoginOk):
        print(f"  {printable(describe(result))}")
        return "", False
    reason = describe(result)
    hint = "" if result.hint.startswith("senderproxy account") else result.hint  # there is no account yet
    if isinstance(result, LoginUnchecked):
        hint = hint or _("Check the server's name and this machine's network, DNS and firewall.")
    explain(_("{login}: {reason}.").format(login=account.login, reason=reason.removesuffix(".")), hint)
    unreachable = isinstance(result, LoginUnchecked)
    print(_("  p  type the password again"))
    print(_("  u  type another user name (now {login})").format(login=printable(account.login)))
    print(_("  s  name another provider or server"))
    print(_("  r  try again"))
    print(_("  k  keep it although the login was not successful"))
    default = "r" if unreachable else "p"
    return ask(_("Choice"), lambda text: one_of("pusrk", text), default=default), unreachable
