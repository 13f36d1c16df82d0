"""`senderproxy account`: the mailboxes in the vault."""

import argparse
import csv
import io
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from senderproxy.accounts.keeper import AccountEditor
from senderproxy.accounts.record import StoredAccount, own_first
from senderproxy.cli.common import (
    Subparsers,
    UsageError,
    new_secret,
    open_accounts,
    open_editor,
    read_config,
    show_json,
    show_table,
    tell_service,
)
from senderproxy.cli.logins import in_words, try_login
from senderproxy.config.model import Config
from senderproxy.delivery.courier import LoginOk
from senderproxy.errors import SenderproxyError
from senderproxy.mail.address import Address, AddressError, AddressPattern, parse_address, parse_pattern
from senderproxy.routing.account import Account, Credential
from senderproxy.routing.provider import LoginForm

_WRONG: Final = 1
_COLUMNS: Final = {
    "login": "login", "benutzer": "login", "benutzername": "login", "user": "login", "username": "login",
    "password": "secret", "passwort": "secret", "kennwort": "secret",
    "provider": "provider", "anbieter": "provider",
    "address": "address", "adresse": "address", "addresses": "address", "adressen": "address", "email": "address",
    "e-mail": "address",
    "name": "display_name", "display name": "display_name", "anzeigename": "display_name",
}  # fmt: skip


def add_parser(verbs: Subparsers) -> None:
    group = verbs.add_parser("account", help="the mailboxes in the vault")
    actions = group.add_subparsers(required=True, metavar="ACTION")

    add = actions.add_parser("add", help="add a mailbox; asks for its password")
    add.add_argument("address", help="its own address")
    add.add_argument("--id", help="what to call it (else the address)")
    add.add_argument("--provider", required=True, help="a preset, such as ionos-de, or one of the configuration")
    add.add_argument("--login", help="the user name (else what the provider usually has)")
    _carry_options(add)
    _secret_options(add)
    add.set_defaults(run=run_add)

    for name, run, words in (("list", run_list, "all mailboxes"), ("export", run_list, "the same, for a file")):
        action = actions.add_parser(name, help=f"{words}; never a password")
        action.add_argument("--json", action="store_true", help="for programs")
        action.set_defaults(run=run)

    show = actions.add_parser("show", help="one mailbox")
    show.add_argument("id")
    show.add_argument("--json", action="store_true", help="for programs")
    show.set_defaults(run=run_show)

    edit = actions.add_parser("edit", help="change which addresses a mailbox carries")
    edit.add_argument("id")
    _carry_options(edit)
    edit.add_argument("--not", dest="without", action="append", default=[], metavar="ADDRESS|@DOMAIN")
    edit.set_defaults(run=run_edit)

    password = actions.add_parser("set-password", help="a new password; asks for it")
    password.add_argument("id")
    _secret_options(password)
    password.set_defaults(run=run_set_password)

    verify = actions.add_parser("verify", help="try the login of one mailbox, or of all")
    verify.add_argument("id", nargs="*")
    verify.set_defaults(run=run_verify)

    remove = actions.add_parser("remove", help="take a mailbox away")
    remove.add_argument("id")
    remove.add_argument("--yes", action="store_true", help="do not ask")
    remove.set_defaults(run=run_remove)

    imported = actions.add_parser("import", help="many mailboxes from a CSV file: all or nothing")
    imported.add_argument("file", type=Path)
    imported.add_argument("--provider", help="for rows that name none")
    imported.add_argument("--verify", action="store_true", help="try each login first")
    imported.add_argument("--dry-run", action="store_true", help="only say what would happen")
    imported.set_defaults(run=run_import)


def _carry_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--also", action="append", default=[], metavar="ADDRESS", help="one more address it carries")
    parser.add_argument("--catch-all", action="append", default=[], metavar="DOMAIN", help="every address of a domain")
    parser.add_argument("--display-name", help="the name people see")


def _secret_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--password-stdin", action="store_true", help="read the password from standard input")
    parser.add_argument("--no-verify", action="store_true", help="do not try the login")


def run_add(chosen: argparse.Namespace) -> int:
    config = read_config(chosen)
    account = _new_account(config, chosen)
    with open_editor(config) as editor:
        if any(entry.account.id == account.id for entry in editor.all()):
            raise UsageError(
                f"There is an account {account.id} already.", hint=f"senderproxy account edit {account.id} --help"
            )
        stored = StoredAccount(account, new_secret("password", from_stdin=chosen.password_stdin))
        editor.put(stored)
        if not chosen.no_verify:
            verify_or_refuse(config, stored)
        editor.save()
    print(f"Account {account.id} is in the vault. {tell_service(config, account.id)}")
    return 0


def run_list(chosen: argparse.Namespace) -> int:
    accounts = open_accounts(read_config(chosen)).directory().accounts
    if chosen.json:
        show_json([_facts(account) for account in accounts])
        return 0
    rows = [
        [account.id, account.login, account.provider, ", ".join(str(p) for p in account.carries)]
        for account in accounts
    ]
    show_table(("account", "login", "provider", "carries"), rows)
    return 0


def run_show(chosen: argparse.Namespace) -> int:
    account = _find(open_accounts(read_config(chosen)).directory().by_id(chosen.id), chosen.id)
    if chosen.json:
        show_json(_facts(account))
        return 0
    for name, value in _facts(account).items():
        print(f"{name.replace('_', ' '):<18} {', '.join(value) if isinstance(value, list) else value or '-'}")
    return 0


def run_edit(chosen: argparse.Namespace) -> int:
    config = read_config(chosen)
    without = {_pattern(text) for text in chosen.without}
    with open_editor(config) as editor:
        stored = editor.find(chosen.id)
        carries = (*stored.account.carries, *_carried(chosen))
        kept = tuple(dict.fromkeys(pattern for pattern in carries if pattern not in without))
        if not any(pattern.matches(stored.account.address) for pattern in kept):
            raise UsageError(f"An account always carries its own address, {stored.account.address}.")
        name = chosen.display_name or stored.account.display_name
        editor.put(replace(stored, account=replace(stored.account, carries=kept, display_name=name)))
        editor.save()
    print(f"Account {chosen.id} carries {', '.join(str(p) for p in kept)}. {tell_service(config, chosen.id)}")
    return 0


def run_set_password(chosen: argparse.Namespace) -> int:
    config = read_config(chosen)
    with open_editor(config) as editor:
        stored = editor.find(chosen.id)
        stored = replace(stored, secret=new_secret("password", from_stdin=chosen.password_stdin))
        if not chosen.no_verify:
            verify_or_refuse(config, stored)
        editor.put(stored)
        editor.save()
    print(f"Account {chosen.id} has its new password. {tell_service(config, chosen.id)}")
    return 0


def run_verify(chosen: argparse.Namespace) -> int:
    config = read_config(chosen)
    accounts = open_accounts(config)
    directory = accounts.directory()
    wanted = [_find(directory.by_id(name), name) for name in chosen.id] or list(directory.accounts)
    wrong = 0
    for account in wanted:
        credential = accounts.credential(account)
        if credential is None:
            continue
        verdict = try_login(config, accounts, account, credential)
        works = isinstance(verdict, LoginOk)
        wrong += not works
        print(
            f"{account.id}: {in_words(verdict)}{f'. {tell_service(config, account.id)}' if works else ''}", flush=True
        )
    return _WRONG if wrong else 0


def run_remove(chosen: argparse.Namespace) -> int:
    config = read_config(chosen)
    with open_editor(config) as editor:
        account = editor.find(chosen.id).account
        if not chosen.yes and not _agreed(
            f"Take away account {account.id} ({account.login})? Its mail is refused then."
        ):
            print("Nothing was changed.")
            return _WRONG
        editor.remove(chosen.id)
        editor.save()
    print(f"Account {chosen.id} is gone. The running service, if any, notices by itself.")
    return 0


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of the file, and what is to be said about it."""

    number: int
    stored: StoredAccount | None
    verdict: str


def run_import(chosen: argparse.Namespace) -> int:
    config = read_config(chosen)
    if chosen.file.stat().st_mode & 0o077:
        print(f"{chosen.file} holds passwords and others may read it: chmod 600 {chosen.file}", file=sys.stderr)
    rows = [_read_row(config, chosen.provider, number, entry) for number, entry in _table(chosen.file)]
    if not rows:
        raise UsageError(f"{chosen.file} has no rows.")
    with open_editor(config) as editor:
        rows = [_entered(config, editor, row, verify=chosen.verify) for row in rows]
        show_table(("line", "account", "verdict"), [[str(r.number), _named(r), r.verdict] for r in rows])
        wrong = sum(row.stored is None for row in rows)
        if wrong:
            print(f"\nNothing was imported: {wrong} of {len(rows)} rows are not right.")
            return _WRONG
        if chosen.dry_run:
            print(f"\nAll {len(rows)} rows are right; nothing was imported, as asked.")
            return 0
        editor.save()
    print(f"\n{len(rows)} accounts are in the vault. The running service, if any, notices by itself.")
    return 0


def _table(path: Path) -> list[tuple[int, dict[str, str]]]:
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", "replace")
    heading = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text), delimiter=";" if heading.count(";") > heading.count(",") else ",")
    lines = [[cell.strip() for cell in line] for line in reader]
    if not lines:
        return []
    columns = [_COLUMNS.get(name.lower()) for name in lines[0]]
    if "login" not in columns or "secret" not in columns:
        raise UsageError(
            f"{path}: the first line must name the columns, `login` and `password` among them.",
            hint="login,password,provider,address,name",
        )
    return [
        (number, {column: cell for column, cell in zip(columns, line, strict=False) if column})
        for number, line in enumerate(lines[1:], start=2)
        if any(line)
    ]


def _read_row(config: Config, default_provider: str | None, number: int, entry: dict[str, str]) -> _Row:
    login, secret = entry.get("login", ""), entry.get("secret", "")
    provider = entry.get("provider") or default_provider or ""
    if not login or not secret:
        return _Row(number, None, "the login is empty" if not login else "the password is empty")
    if provider not in config.provider_table():
        return _Row(number, None, f"there is no provider {provider}" if provider else "the provider is missing")
    addresses = re.split(r"[\s,;|]+", entry.get("address", "").strip()) if entry.get("address") else [login]
    try:
        own = parse_address(addresses[0])
        carries = own_first(str(own), addresses[1:])
    except AddressError as error:
        return _Row(number, None, str(error))
    account = Account(own.key, login, provider, own, carries, entry.get("display_name") or None)
    return _Row(number, StoredAccount(account, secret), "right")


def _entered(config: Config, editor: AccountEditor, row: _Row, *, verify: bool) -> _Row:
    if row.stored is None:
        return row
    known = any(entry.account.id == row.stored.account.id for entry in editor.all())
    try:
        editor.put(row.stored)
    except SenderproxyError as error:
        return _Row(row.number, None, error.message)
    if verify:
        print(f"trying {row.stored.account.login} ...", file=sys.stderr, flush=True)
        verdict = try_login(config, open_accounts(config), row.stored.account, _credential(row.stored))
        if not isinstance(verdict, LoginOk):
            return _Row(row.number, None, in_words(verdict))
    return replace(row, verdict="right, replaces the one there is" if known else "right")


def _named(row: _Row) -> str:
    return row.stored.account.id if row.stored else "-"


def _new_account(config: Config, chosen: argparse.Namespace) -> Account:
    provider = config.provider_table().get(chosen.provider)
    if provider is None:
        known = ", ".join(sorted(config.provider_table()))
        raise UsageError(f"There is no provider {chosen.provider}.", hint=f"One of: {known}")
    address = _address(chosen.address)
    login = chosen.login or (address.local_part if provider.login_form is LoginForm.LOCAL_PART else str(address))
    carries = tuple(dict.fromkeys((_pattern(str(address)), *_carried(chosen))))
    return Account(chosen.id or address.key, login, chosen.provider, address, carries, chosen.display_name)


def _carried(chosen: argparse.Namespace) -> list[AddressPattern]:
    return [_pattern(text) for text in chosen.also] + [_pattern(f"@{text.lstrip('*@')}") for text in chosen.catch_all]


def verify_or_refuse(config: Config, stored: StoredAccount) -> None:
    """Try the login; raise where it does not work, so that nothing is changed."""
    print(f"Trying the login of {stored.account.login} ...", file=sys.stderr, flush=True)
    verdict = try_login(config, open_accounts(config), stored.account, _credential(stored))
    if not isinstance(verdict, LoginOk):
        raise SenderproxyError(
            f"Nothing was changed: {in_words(verdict)}", hint="Mend it, or keep it untried with --no-verify."
        )


def _credential(stored: StoredAccount) -> Credential:
    return Credential(stored.account.login, stored.secret, version="untried")


def _find(account: Account | None, name: str) -> Account:
    if account is None:
        raise UsageError(f"There is no account {name}.", hint="senderproxy account list")
    return account


def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except AddressError as error:
        raise UsageError(f"That is no address: {error}.") from error


def _pattern(text: str) -> AddressPattern:
    try:
        return parse_pattern(text)
    except AddressError as error:
        raise UsageError(f"That is no address and no @domain: {error}.") from error


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise UsageError("There is no terminal to ask.", hint="Use --yes.")
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes", "j", "ja")


def _facts(account: Account) -> dict[str, object]:
    return {
        "id": account.id,
        "login": account.login,
        "provider": account.provider,
        "address": str(account.address),
        "carries": [str(pattern) for pattern in account.carries],
        "display_name": account.display_name,
        "messages_per_hour": account.messages_per_hour,
        "connections": account.connections,
    }
