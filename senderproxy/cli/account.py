"""`senderproxy account`: the mailboxes in the vault.

Guarantees: a change is written as a whole or not at all; if the provider refuses a login, nothing changes.
Not here: import and export of a table (cli.account_table), the login check (cli.account_login_check).
"""

import argparse
import sys
from collections.abc import Iterable
from dataclasses import replace
from itertools import compress
from typing import Final

from senderproxy.accounts.editor import AccountEditor
from senderproxy.accounts.errors import UnknownAccount
from senderproxy.accounts.new_account import (
    Description,
    added_in_words,
    new_account,
    new_password_in_words,
    provider_notes,
    require_unused,
)
from senderproxy.accounts.record import StoredAccount
from senderproxy.accounts.unlock import UnlockMethod
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.cli import account_table
from senderproxy.cli.account_fallback import add_fallback_options, fallback_in_words, fallback_notes, with_fallback
from senderproxy.cli.account_login_check import require_login, try_login
from senderproxy.cli.account_names import account_id, names_of, unknown_account
from senderproxy.cli.account_oauth import add_oauth_options, granted, put_granted
from senderproxy.cli.account_sent_copy import (
    FolderCheck,
    add_sent_copy_options,
    agrees,
    check_folder,
    sent_copy_in_words,
    sent_copy_notes,
    with_sent_copy,
)
from senderproxy.cli.common import (
    account_entry,
    open_accounts,
    open_editor,
    pickup_note,
    read_config,
    resume_account,
    try_resume,
    typed_address,
    typed_pattern,
    vault_unlock,
)
from senderproxy.cli.errors import UsageError
from senderproxy.cli.exit_codes import EX_FAILED, EX_OK, EX_UNAVAILABLE
from senderproxy.cli.screen import printable
from senderproxy.cli.terminal import (
    ask_new_secret,
    clear_progress,
    confirm,
    print_field,
    print_hint,
    print_json,
    print_line,
    print_progress,
    print_table,
    progress,
)
from senderproxy.config.model import Config
from senderproxy.delivery.login_check import LoginOk, LoginRefused, describe, login_hint
from senderproxy.mail.address import AddressPattern
from senderproxy.routing.account import Account
from senderproxy.routing.directory import AccountDirectory
from senderproxy.routing.fallback import require_unneeded, require_valid
from senderproxy.routing.provider import Provider
from senderproxy.translation import N_, _

_ID: Final = N_("id of the account, or the address of its mailbox")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Actions and options of `senderproxy account`."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")

    add = actions.add_parser("add", help=_("add a mailbox; asks for its password"))
    add.add_argument("address", help=_("address of the mailbox"))
    add.add_argument("--id", help=_("id of the account (default: the address)"))
    add.add_argument(
        "--provider", help=_("a preset, such as ionos-de, or [providers.NAME] (default: that of all other accounts)")
    )
    add.add_argument("--login", help=_("user name (default: as usual at the provider)"))
    _add_sender_options(add)
    add_fallback_options(add)
    add_sent_copy_options(add)
    _add_secret_options(add)
    add_oauth_options(add)
    add.set_defaults(run=run_add)

    listed = actions.add_parser("list", help=_("list all accounts, without passwords"))
    listed.add_argument("--json", action="store_true", help=_("JSON output"))
    listed.set_defaults(run=run_list)

    show = actions.add_parser("show", help=_("show one account, without its password"))
    show.add_argument("id", help=_(_ID))
    show.add_argument("--json", action="store_true", help=_("JSON output"))
    show.set_defaults(run=run_show)

    edit = actions.add_parser(
        "edit", help=_("change the addresses, login, display name, limits, fallback or copies of an account")
    )
    edit.add_argument("id", help=_(_ID))
    _add_sender_options(edit)
    add_fallback_options(edit, removable=True)
    add_sent_copy_options(edit, removable=True)
    edit.add_argument("--login", metavar="USER", help=_("user name at the provider"))
    edit.add_argument(
        "--not",
        dest="without",
        action="append",
        default=[],
        metavar="ADDRESS|@DOMAIN",
        help=_("address or domain to remove"),
    )
    edit.add_argument(
        "--messages-per-hour", type=int, metavar="N", help=_("limit of the account; 0: that of its provider")
    )
    edit.add_argument(
        "--recipients-per-hour", type=int, metavar="N", help=_("limit of the account; 0: that of its provider")
    )
    edit.add_argument("--connections", type=int, metavar="N", help=_("limit of the account; 0: that of its provider"))
    edit.set_defaults(run=run_edit)

    verify = actions.add_parser("verify", help=_("try the login of accounts, once each"))
    verify.add_argument("id", nargs="*", help=_("ids or mailbox addresses of the accounts (default: all)"))
    verify.add_argument("--json", action="store_true", help=_("JSON output"))
    verify.set_defaults(run=run_verify)

    password = actions.add_parser("set-password", help=_("change the stored password; asks for it"))
    password.add_argument("id", help=_(_ID))
    _add_secret_options(password)
    password.set_defaults(run=run_set_password)

    consent = actions.add_parser("consent", help=_("log in with OAuth from now on, or consent to it again"))
    consent.add_argument("id", help=_(_ID))
    add_oauth_options(consent)
    consent.add_argument("--no-verify", action="store_true", help=_("do not try the login"))
    consent.set_defaults(run=run_consent)

    remove = actions.add_parser("remove", help=_("remove an account"))
    remove.add_argument("id", help=_(_ID))
    remove.add_argument("--yes", action="store_true", help=_("do not ask for confirmation"))
    remove.set_defaults(run=run_remove)

    imported = actions.add_parser("import", help=_("import accounts from a CSV file: all rows or none"))
    account_table.add_import_arguments(imported)
    exported = actions.add_parser("export", help=_("export all accounts as CSV, without passwords"))
    account_table.add_export_arguments(exported)


def _add_sender_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--also", action="append", default=[], metavar="ADDRESS", help=_("another address to carry"))
    parser.add_argument(
        "--catch-all",
        action="append",
        default=[],
        metavar="DOMAIN",
        help=_("carry every address of a domain"),
    )
    parser.add_argument("--display-name", metavar="NAME", help=_("display name in From"))


def _add_secret_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--password-stdin", action="store_true", help=_("read the password from a line of standard input")
    )
    parser.add_argument("--no-verify", action="store_true", help=_("do not try the login"))


# ---- add, list, show ----


def run_add(chosen: argparse.Namespace) -> int:
    config = read_config(chosen)
    unlock = vault_unlock(config)
    directory = open_accounts(config, unlock).directory()
    account, provider = _new_account(config, chosen, directory)
    account = with_fallback(account, chosen, directory.accounts)
    _require_unused(account, directory)
    require_valid((*directory.accounts, account), (account.id,))
    account = with_sent_copy(config, account, chosen)
    if not agrees(None, account, chosen):
        print(_("Nothing was changed."))
        return EX_FAILED
    if chosen.oauth:
        stored = _with_grant(config, unlock, account, chosen, chosen.oauth)
    else:
        prompt = _("Password of {login}").format(login=account.login)
        stored = StoredAccount(account, ask_new_secret(prompt, from_stdin=chosen.password_stdin))
        if not chosen.no_verify:
            require_login(config, stored)
    with open_editor(config, unlock) as editor:
        _require_unused(account, AccountDirectory(entry.account for entry in editor.all()))
        put_granted(editor, stored) if stored.grant is not None else editor.put(stored)
        editor.save()
        carried = [pattern for entry in editor.all() for pattern in entry.account.carries]
    print(added_in_words(account))
    for note in provider_notes(account, provider, carried):
        print(note)
    for note in (*fallback_notes(config, account, directory), *sent_copy_notes(None, account)):
        print(note)
    print(pickup_note(config))
    return EX_OK


def run_list(chosen: argparse.Namespace) -> int:
    accounts = open_accounts(read_config(chosen))
    listed = accounts.directory().accounts
    if chosen.json:
        print_json([account_entry(account, accounts) for account in listed])
        return EX_OK
    if listed:
        rows = [_row(account) for account in listed]
        headings = (_("account"), _("login"), _("provider"), _("carries"), _("fallback"), _("copies"))
        is_used = (any(account.fallback for account in listed), any(account.sent_copy for account in listed))
        shown = [True, True, True, True, *is_used]
        print_table(list(compress(headings, shown)), [list(compress(row, shown)) for row in rows])
    else:
        print(_("There is no account yet."))
        print_hint(_("Add one: senderproxy account add ADDRESS --provider NAME"))
    for problem in accounts.unreadable:
        print(problem)
    for record in accounts.unknown:
        print(record.describe())
    return EX_OK


def _row(account: Account) -> list[str]:
    columns = [account.id, account.login, account.provider, _joined(account.carries), account.fallback or "-"]
    return [*columns, sent_copy_in_words(account) or "-"]


def run_show(chosen: argparse.Namespace) -> int:
    accounts = open_accounts(read_config(chosen))
    account = _find(accounts, chosen.id)
    if chosen.json:
        print_json(account_entry(account, accounts))
        return EX_OK
    grant = accounts.grant(account.id)
    for name, value in (
        (_("id"), account.id),
        (_("login"), account.login),
        (_("OAuth"), None if grant is None else grant.application),
        (_("provider"), account.provider),
        (_("address"), account.address),
        (_("carries"), _joined(account.carries)),
        (_("display name"), account.display_name),
        (_("messages per hour"), account.messages_per_hour),
        (_("recipients per hour"), account.recipients_per_hour),
        (_("connections"), account.connections),
        (_("fallback"), fallback_in_words(account)),
        (_("copies"), sent_copy_in_words(account)),
    ):
        print_field(name, value or "-", width=18)
    return EX_OK


# ---- edit, set-password, verify, remove ----


def run_edit(chosen: argparse.Namespace) -> int:
    config = read_config(chosen)
    with open_editor(config) as editor:
        stored = editor.find(_typed_id(editor, chosen.id))
        accounts = [entry.account for entry in editor.all()]
        changed = with_fallback(_edited(stored.account, chosen), chosen, accounts)
        changed = with_sent_copy(config, changed, chosen)
        if changed == stored.account:
            raise UsageError(_("No change."), hint=_("Name what to change: senderproxy account edit --help"))
        if not agrees(stored.account, changed, chosen):
            print(_("Nothing was changed."))
            return EX_FAILED
        editor.put(replace(stored, account=changed))
        editor.save()
    text = _("Account {id} carries {addresses}.").format(id=changed.id, addresses=_joined(changed.carries))
    notes = (*fallback_notes(config, changed, AccountDirectory(accounts)), *sent_copy_notes(stored.account, changed))
    print(text, *notes, pickup_note(config))
    return EX_OK


def run_set_password(chosen: argparse.Namespace) -> int:
    config = read_config(chosen)
    unlock = vault_unlock(config)
    account = _find(open_accounts(config, unlock), chosen.id)
    prompt = _("New password of {login}").format(login=account.login)
    secret = ask_new_secret(prompt, from_stdin=chosen.password_stdin)
    if not chosen.no_verify:
        require_login(config, StoredAccount(account, secret))
    with open_editor(config, unlock) as editor:
        editor.put(replace(editor.find(account.id), secret=secret, grant=None))
        editor.save()
    print(new_password_in_words(account.id), resume_account(config, account.id))
    return EX_OK


def run_consent(chosen: argparse.Namespace) -> int:
    config = read_config(chosen)
    unlock = vault_unlock(config)
    accounts = open_accounts(config, unlock)
    account = _find(accounts, chosen.id)
    grant = accounts.grant(account.id)
    name = chosen.oauth or (grant.application if grant is not None else "")
    if not name:
        raise UsageError(
            _("Account {id} logs in with a password.").format(id=account.id),
            hint=_("Name the application: senderproxy account consent {id} --oauth NAME").format(id=account.id),
        )
    stored = _with_grant(config, unlock, account, chosen, name)
    with open_editor(config, unlock) as editor:
        put_granted(editor, replace(editor.find(account.id), secret=stored.secret, grant=stored.grant))
        editor.save()
    text = _("Account {id} logs in with OAuth through {name}.").format(id=account.id, name=name)
    print(text, resume_account(config, account.id))
    return EX_OK


def _with_grant(
    config: Config, unlock: UnlockMethod, account: Account, chosen: argparse.Namespace, name: str
) -> StoredAccount:
    """The account with a new grant. Nothing is locked while a person is at the browser."""
    application = open_accounts(config, unlock).application(name)
    if isinstance(application, str):
        raise UsageError(
            application,
            hint=_("Add it: senderproxy oauth add {name}; or look at it: senderproxy oauth show {name}").format(
                name=name
            ),
        )
    return granted(config, account, application, by_device=chosen.device, verify=not chosen.no_verify)


def run_verify(chosen: argparse.Namespace) -> int:
    """0 if every login works, 1 if one is refused, 69 if none is refused but one could not be tried."""
    config = read_config(chosen)
    accounts = open_accounts(config)
    wanted = [_find(accounts, name) for name in chosen.id] or list(accounts.directory().accounts)
    worst, entries = EX_OK, []
    with progress():
        for number, account in enumerate(wanted, 1):
            step = _("Trying login {number} of {count}: {login} ...")
            print_progress(step.format(number=number, count=len(wanted), login=account.login))
            code, text, hint = _verify(config, accounts, account)
            found = check_folder(config, accounts, account) if code == EX_OK else None
            for one in (code, found.code if found is not None else EX_OK):
                worst = EX_FAILED if EX_FAILED in (worst, one) else max(worst, one)
            copies = None if found is None else _folder_entry(found)
            entries.append({"account": account.id, "works": code == EX_OK, "words": text, "sent_copy": copies})
            if not chosen.json:
                clear_progress()
                print_line(f"{account.id}: {text}")
                print_hint(printable(hint), indent="  ")
                if found is not None:
                    print_line(printable(found.words), indent=2)
                    print_hint(printable(found.hint), indent="  ")
                sys.stdout.flush()
    if chosen.json:
        print_json(entries)
    return worst


def _folder_entry(found: FolderCheck) -> dict[str, object]:
    return {"works": found.code == EX_OK, "folder": found.folder, "words": found.words}


def _verify(config: Config, accounts: VaultAccounts, account: Account) -> tuple[int, str, str]:
    """Exit code, result and fix."""
    credential = accounts.credential(account)
    if credential is None:
        return EX_FAILED, _("the account was removed meanwhile"), ""
    result = try_login(config, account, credential, accounts)
    match result:
        case LoginOk():
            text = _("{result}; the running service uses it") if try_resume(config, account.id) else "{result}"
            return EX_OK, text.format(result=describe(result)), ""
        case LoginRefused():
            return EX_FAILED, describe(result), login_hint(result, account)
        case _other:
            return EX_UNAVAILABLE, describe(result), login_hint(result, account)


def run_remove(chosen: argparse.Namespace) -> int:
    config = read_config(chosen)
    with open_editor(config) as editor:
        id_ = _typed_id(editor, chosen.id)
        require_unneeded((entry.account for entry in editor.all()), id_)
        question = _("Remove account {id}? Mail from its addresses will be refused.").format(id=id_)
        if not chosen.yes and not confirm(question):
            print(_("Nothing was changed."))
            return EX_FAILED
        editor.remove(id_)
        editor.save()
    print(_("Removed account {id}.").format(id=id_), pickup_note(config))
    if config.routing.default_account == id_:
        print(_("routing.default_account still names it."))
        print_hint(_("Name another account there, or delete the setting."))
    return EX_OK


# ---- the account that the options describe ----


def _new_account(config: Config, chosen: argparse.Namespace, directory: AccountDirectory) -> tuple[Account, Provider]:
    description = Description(
        typed_address(chosen.address),
        chosen.provider or _only_provider(directory),
        chosen.id or "",
        chosen.login or "",
        _typed_patterns(chosen),
        chosen.display_name,
    )
    return new_account(description, config.provider_table())


def _require_unused(account: Account, directory: AccountDirectory) -> None:
    hint = _("Change it: senderproxy account set-password {id}, or senderproxy account edit {id}").format(id=account.id)
    require_unused(account, directory, hint=hint)


def _only_provider(directory: AccountDirectory) -> str:
    """The provider of all existing accounts, for a command that names none. Raises UsageError."""
    match sorted({account.provider for account in directory.accounts}):
        case [only]:
            return only
        case []:
            hint = _("Use --provider NAME, such as ionos-de.")
        case several:
            hint = _("Use one of: {options}").format(options=", ".join(f"--provider {name}" for name in several))
    raise UsageError(_("The provider is not named."), hint=hint)


def _edited(account: Account, chosen: argparse.Namespace) -> Account:
    without = {typed_pattern(text) for text in chosen.without}
    carries = tuple(dict.fromkeys(p for p in (*account.carries, *_typed_patterns(chosen)) if p not in without))
    own = AddressPattern(account.address.local_part, account.address.domain)
    if own in without:
        text = _("An account always carries its own address, {address}.")
        raise UsageError(text.format(address=account.address))
    return replace(
        account,
        login=chosen.login or account.login,
        carries=carries,
        display_name=account.display_name if chosen.display_name is None else chosen.display_name or None,
        messages_per_hour=_limit(chosen.messages_per_hour, account.messages_per_hour),
        recipients_per_hour=_limit(chosen.recipients_per_hour, account.recipients_per_hour),
        connections=_limit(chosen.connections, account.connections),
    )


def _limit(typed: int | None, before: int | None) -> int | None:
    if typed is not None and typed < 0:
        raise UsageError(
            _("Invalid limit: {limit}.").format(limit=typed),
            hint=_("Use a number from 1, or 0 for the provider's limit."),
        )
    return before if typed is None else typed or None


def _typed_patterns(chosen: argparse.Namespace) -> list[AddressPattern]:
    domains = [typed_pattern(f"@{text.lstrip('*').removeprefix('@')}") for text in chosen.catch_all]
    return [typed_pattern(text) for text in chosen.also] + domains


def _find(accounts: VaultAccounts, name: str) -> Account:
    directory = accounts.directory()
    found = account_id(name, names_of(directory.accounts))
    account = None if found is None else directory.by_id(found)
    if account is not None:
        return account
    if unreadable := next((problem for problem in accounts.unreadable if f" {name} " in problem), None):
        raise UsageError(unreadable, hint=_("List the accounts: senderproxy account list"))
    raise unknown_account(name, directory.accounts)


def _typed_id(editor: AccountEditor, name: str) -> str:
    """The id of the account that is meant. Raises UnknownAccount; an unreadable one is found by its id alone."""
    accounts = [stored.account for stored in editor.all()]
    if (found := account_id(name, names_of(accounts))) is not None:
        return found
    if editor.has(name):
        return name
    error = unknown_account(name, accounts)
    raise UnknownAccount(error.message, hint=error.hint)


def _joined(carries: Iterable[AddressPattern]) -> str:
    return ", ".join(str(pattern) for pattern in carries)
