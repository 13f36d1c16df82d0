"""`senderproxy account`: the mailboxes in the vault.

Guarantees: a change is in the vault whole or not at all, and a login that was tried and refused changes nothing.
Not here: many at once from a file (cli.account_table), trying a login (cli.account_login_check).
"""

import argparse
from collections.abc import Iterable
from dataclasses import replace
from difflib import get_close_matches
from typing import NoReturn

from senderproxy.accounts.record import StoredAccount
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.cli import account_table
from senderproxy.cli.account_login_check import in_words, try_login
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
from senderproxy.cli.errors import LoginFailed, LoginRejected, UsageError
from senderproxy.cli.exit_codes import EX_FAILED, EX_OK, EX_UNAVAILABLE
from senderproxy.cli.terminal import ask_new_secret, confirm, print_json, print_progress, print_table
from senderproxy.config.model import Config
from senderproxy.delivery.courier import LoginOk, LoginRefused
from senderproxy.mail.address import Address, AddressPattern
from senderproxy.routing.account import Account, Credential
from senderproxy.routing.directory import AccountDirectory
from senderproxy.routing.provider import LoginForm, Provider, SenderRule


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(required=True, metavar="ACTION")

    add = actions.add_parser("add", help="add a mailbox; asks for its password")
    add.add_argument("address", help="its own address")
    add.add_argument("--id", help="what to call it (else the address)")
    add.add_argument(
        "--provider", help="a preset, such as ionos-de, or one of the configuration (else the one all others are at)"
    )
    add.add_argument("--login", help="the user name (else what the provider usually has)")
    _carry_options(add)
    _secret_options(add)
    add.set_defaults(run=run_add)

    listed = actions.add_parser("list", help="all mailboxes; never a password")
    listed.add_argument("--json", action="store_true", help="for programs")
    listed.set_defaults(run=run_list)

    show = actions.add_parser("show", help="one mailbox; never its password")
    show.add_argument("id")
    show.add_argument("--json", action="store_true", help="for programs")
    show.set_defaults(run=run_show)

    edit = actions.add_parser("edit", help="change which addresses a mailbox carries, its name, its limits")
    edit.add_argument("id")
    _carry_options(edit)
    edit.add_argument("--not", dest="without", action="append", default=[], metavar="ADDRESS|@DOMAIN", help="no longer")
    edit.add_argument("--messages-per-hour", type=int, metavar="N", help="its own limit; 0: as its provider")
    edit.add_argument("--connections", type=int, metavar="N", help="its own limit; 0: as its provider")
    edit.set_defaults(run=run_edit)

    verify = actions.add_parser("verify", help="try the login of some mailboxes, or of all: once each")
    verify.add_argument("id", nargs="*")
    verify.add_argument("--json", action="store_true", help="for programs")
    verify.set_defaults(run=run_verify)

    password = actions.add_parser("set-password", help="a new password; asks for it")
    password.add_argument("id")
    _secret_options(password)
    password.set_defaults(run=run_set_password)

    remove = actions.add_parser("remove", help="take a mailbox away")
    remove.add_argument("id")
    remove.add_argument("--yes", action="store_true", help="do not ask")
    remove.set_defaults(run=run_remove)

    imported = actions.add_parser("import", help="many mailboxes from a CSV file: all or nothing")
    account_table.add_import_arguments(imported)
    exported = actions.add_parser("export", help="all mailboxes as CSV, without their passwords")
    account_table.add_export_arguments(exported)


def _carry_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--also", action="append", default=[], metavar="ADDRESS", help="one more address it carries")
    parser.add_argument("--catch-all", action="append", default=[], metavar="DOMAIN", help="every address of a domain")
    parser.add_argument("--display-name", metavar="NAME", help="the name people see")


def _secret_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--password-stdin", action="store_true", help="read the password from standard input")
    parser.add_argument("--no-verify", action="store_true", help="do not try the login")


def run_add(chosen: argparse.Namespace) -> int:
    config = read_config(chosen)
    way = vault_unlock(config)
    directory = open_accounts(config, way).directory()
    account, provider = _new_account(config, chosen, directory)
    _expect_free(account, directory)
    stored = StoredAccount(account, ask_new_secret(f"Password of {account.login}", from_stdin=chosen.password_stdin))
    if not chosen.no_verify:
        verify_or_refuse(config, stored)
    with open_editor(config, way) as editor:
        _expect_free(account, AccountDirectory(entry.account for entry in editor.all()))
        editor.put(stored)
        editor.save()
        carried = [pattern for entry in editor.all() for pattern in entry.account.carries]
    print(f"Account {account.id} is in the vault and carries {_spoken(account.carries)}.")
    for note in _notes(account, provider, carried):
        print(note)
    print(pickup_note(config))
    return EX_OK


def run_list(chosen: argparse.Namespace) -> int:
    accounts = open_accounts(read_config(chosen))
    listed = accounts.directory().accounts
    if chosen.json:
        print_json([account_entry(account) for account in listed])
        return EX_OK
    if listed:
        rows = [[account.id, account.login, account.provider, _spoken(account.carries)] for account in listed]
        print_table(("account", "login", "provider", "carries"), rows)
    else:
        print("There is no account yet. To add one: senderproxy account add ADDRESS --provider NAME")
    for problem in accounts.unreadable:
        print(problem)
    return EX_OK


def run_show(chosen: argparse.Namespace) -> int:
    account = _find(open_accounts(read_config(chosen)), chosen.id)
    if chosen.json:
        print_json(account_entry(account))
        return EX_OK
    for name, value in account_entry(account).items():
        print(f"{name.replace('_', ' '):<18} {', '.join(value) if isinstance(value, list) else value or '-'}")
    return EX_OK


def run_edit(chosen: argparse.Namespace) -> int:
    config = read_config(chosen)
    with open_editor(config) as editor:
        stored = editor.find(chosen.id)
        changed = _edited(stored.account, chosen)
        if changed == stored.account:
            raise UsageError("That changes nothing.", hint="senderproxy account edit --help")
        editor.put(replace(stored, account=changed))
        editor.save()
    print(f"Account {chosen.id} carries {_spoken(changed.carries)}. {pickup_note(config)}")
    return EX_OK


def run_set_password(chosen: argparse.Namespace) -> int:
    config = read_config(chosen)
    way = vault_unlock(config)
    account = _find(open_accounts(config, way), chosen.id)
    secret = ask_new_secret(f"New password of {account.login}", from_stdin=chosen.password_stdin)
    if not chosen.no_verify:
        verify_or_refuse(config, StoredAccount(account, secret))
    with open_editor(config, way) as editor:
        editor.put(replace(editor.find(chosen.id), secret=secret))
        editor.save()
    print(f"Account {chosen.id} has its new password. {resume_account(config, chosen.id)}")
    return EX_OK


def run_verify(chosen: argparse.Namespace) -> int:
    """0 where every login works, 1 where one is refused, 69 where none is but one could not be tried."""
    config = read_config(chosen)
    accounts = open_accounts(config)
    wanted = [_find(accounts, name) for name in chosen.id] or list(accounts.directory().accounts)
    worst, verdicts = EX_OK, []
    for account in wanted:
        code, words = _verified(config, accounts, account)
        worst = EX_FAILED if EX_FAILED in (worst, code) else max(worst, code)
        verdicts.append({"account": account.id, "works": code == EX_OK, "words": words})
        if not chosen.json:
            print(f"{account.id}: {words}", flush=True)
    if chosen.json:
        print_json(verdicts)
    return worst


def _verified(config: Config, accounts: VaultAccounts, account: Account) -> tuple[int, str]:
    credential = accounts.credential(account)
    if credential is None:
        return EX_FAILED, "it was taken away at this moment"
    print_progress(f"Trying the login of {account.login} ...")
    verdict = try_login(config, account, credential)
    match verdict:
        case LoginOk():
            return EX_OK, in_words(verdict) + (
                "; the running service uses it" if try_resume(config, account.id) else ""
            )
        case LoginRefused():
            return EX_FAILED, f"{in_words(verdict)} To mend: senderproxy account set-password {account.id}"
        case _:
            return EX_UNAVAILABLE, in_words(verdict)


def run_remove(chosen: argparse.Namespace) -> int:
    config = read_config(chosen)
    with open_editor(config) as editor:
        editor.expect(chosen.id)
        if not chosen.yes and not confirm(f"Take away account {chosen.id}? Mail of its senders is refused then."):
            print("Nothing was changed.")
            return EX_FAILED
        editor.remove(chosen.id)
        editor.save()
    print(f"Account {chosen.id} is gone. {pickup_note(config)}")
    if config.routing.default_account == chosen.id:
        print("It was routing.default_account: name another one in the configuration, or take the setting out.")
    return EX_OK


def verify_or_refuse(config: Config, stored: StoredAccount) -> None:
    """Try the login; raise LoginFailed where it does not work, so that nothing is changed."""
    account = stored.account
    print_progress(f"Trying the login of {account.login} ...")
    verdict = try_login(config, account, Credential(account.login, stored.secret, version="untried"))
    if not isinstance(verdict, LoginOk):
        kind = LoginRejected if isinstance(verdict, LoginRefused) else LoginFailed
        raise kind(f"Nothing was changed: {in_words(verdict)}", hint="Try again, or keep it untried with --no-verify.")


def _new_account(config: Config, chosen: argparse.Namespace, directory: AccountDirectory) -> tuple[Account, Provider]:
    address = typed_address(chosen.address)
    name = chosen.provider or _the_one_in_use(directory)
    account = Account(chosen.id or address.key, "", name, address, (), chosen.display_name)
    provider = config.provider_table().get(name) or _no_provider(config, name)
    carries = (AddressPattern(address.local_part, address.domain), *_carried(chosen))
    login = chosen.login or usual_login(provider, address)
    return replace(account, login=login, carries=tuple(dict.fromkeys(carries))), provider


def _the_one_in_use(directory: AccountDirectory) -> str:
    """The provider of all accounts there are, for a command that names none. Raises UsageError."""
    match sorted({account.provider for account in directory.accounts}):
        case [only]:
            return only
        case []:
            raise UsageError("At which provider is it?", hint="--provider NAME, such as ionos-de")
        case several:
            raise UsageError("At which provider is it?", hint=f"--provider {' or --provider '.join(several)}")


def _no_provider(config: Config, name: str) -> NoReturn:
    near = get_close_matches(name, config.provider_table(), 3)
    known = f"Did you mean {' or '.join(near)}?" if near else f"There are {', '.join(sorted(config.provider_table()))}."
    raise UsageError(f"There is no provider {name}.", hint=f"{known} Any other: [providers.{name}] with its host.")


def usual_login(provider: Provider, address: Address) -> str:
    """What the provider usually calls a mailbox's user."""
    return address.local_part if provider.login_form is LoginForm.LOCAL_PART else str(address)


def _edited(account: Account, chosen: argparse.Namespace) -> Account:
    without = {typed_pattern(text) for text in chosen.without}
    carries = tuple(dict.fromkeys(p for p in (*account.carries, *_carried(chosen)) if p not in without))
    own = AddressPattern(account.address.local_part, account.address.domain)
    if own in without:
        raise UsageError(f"An account always carries its own address, {account.address}.")
    return replace(
        account,
        carries=carries,
        display_name=account.display_name if chosen.display_name is None else chosen.display_name or None,
        messages_per_hour=_limit(chosen.messages_per_hour, account.messages_per_hour),
        connections=_limit(chosen.connections, account.connections),
    )


def _limit(typed: int | None, before: int | None) -> int | None:
    if typed is not None and typed < 0:
        raise UsageError(f"{typed} is no limit.", hint="Write a number from 1 on; 0 means: as the provider has it.")
    return before if typed is None else typed or None


def _carried(chosen: argparse.Namespace) -> list[AddressPattern]:
    domains = [typed_pattern(f"@{text.lstrip('*').removeprefix('@')}") for text in chosen.catch_all]
    return [typed_pattern(text) for text in chosen.also] + domains


def _expect_free(account: Account, directory: AccountDirectory) -> None:
    """Raises UsageError or DirectoryError where the id is taken or another account carries one of its addresses."""
    if directory.by_id(account.id) is not None:
        raise UsageError(
            f"There is an account {account.id} already.",
            hint=f"senderproxy account set-password {account.id}, or: senderproxy account edit {account.id}",
        )
    AccountDirectory((*directory.accounts, account))


def _notes(account: Account, provider: Provider, carried: Iterable[AddressPattern]) -> list[str]:
    """What the person may not know about the provider's rule."""
    own = account.address.domain
    if provider.sender_rule is SenderRule.DOMAIN and AddressPattern(None, own) not in carried:
        typed = f"senderproxy account edit {account.id} --catch-all {own}"
        return [f"{provider.name} lets it send as every address of {own}; if it should: {typed}"]
    foreign = [str(p) for p in account.carries if p.domain != own]
    if provider.sender_rule is not SenderRule.ANY and foreign:
        return [f"{provider.name} takes senders of {own} only: it will probably refuse {', '.join(foreign)}."]
    return []


def _find(accounts: VaultAccounts, name: str) -> Account:
    account = accounts.directory().by_id(name)
    if account is None:
        broken = next((problem for problem in accounts.unreadable if f" {name} " in problem), None)
        raise UsageError(broken or f"There is no account {name}.", hint="senderproxy account list")
    return account


def _spoken(carries: Iterable[AddressPattern]) -> str:
    return ", ".join(str(pattern) for pattern in carries)
