"""`senderproxy account import` and `export`: many accounts at once, as a CSV table.

Guarantees: each row gets a result, and all rows are stored or none; each login is tried at most once; a password is
read exactly as it is in its cell and never printed. A row changes nothing that the table has no column for, and each
change is printed before it is stored. The export contains no password.
Not here: the file (cli.csv_file), its columns and cells (cli.account_columns), one account at a time (cli.account).
"""

import argparse
import csv
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from senderproxy.accounts.editor import AccountEditor
from senderproxy.accounts.new_account import default_login
from senderproxy.accounts.record import StoredAccount, has_controls
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.cli.account_columns import (
    ADDRESS,
    ADDRESSES,
    FALLBACK,
    ID,
    LOGIN,
    NAME,
    PROVIDER,
    SECRET,
    CellAddresses,
    Columns,
    count_known,
    is_hash,
    plain_login,
    read_addresses,
    read_columns,
    with_login,
)
from senderproxy.cli.account_login_check import try_login
from senderproxy.cli.common import (
    account_entry,
    open_accounts,
    open_editor,
    pickup_note,
    read_config,
    vault_unlock,
)
from senderproxy.cli.csv_file import EncodingUnknown, decode_text, parse_table, read_octets
from senderproxy.cli.errors import InputError, UsageError
from senderproxy.cli.exit_codes import EX_FAILED, EX_OK
from senderproxy.cli.ldif import is_ldif, parse_ldif
from senderproxy.cli.screen import printable
from senderproxy.cli.terminal import is_interactive, print_error, print_json, print_progress, print_table, progress
from senderproxy.config.model import Config
from senderproxy.delivery.login_check import LoginOk, LoginUnchecked, describe
from senderproxy.errors import SenderproxyError
from senderproxy.mail.address import Address, AddressError, AddressPattern
from senderproxy.routing.account import Account, Credential
from senderproxy.routing.directory import AccountDirectory
from senderproxy.routing.fallback import invalid_fallbacks
from senderproxy.routing.provider import Provider
from senderproxy.translation import _, ngettext

_EXPORTED: Final = ("id", "login", "password", "provider", "addresses", "display name", "fallback")
_EXAMPLE: Final = "login;password;provider;addresses;display name"


def add_import_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `account import`."""
    parser.add_argument(
        "file", type=Path, help=_("CSV file with a heading line: login, password, provider, addresses, name")
    )
    parser.add_argument("--provider", help=_("provider of rows that name none"))
    parser.add_argument("--encoding", help=_("encoding of a file without byte order mark, such as windows-1252"))
    parser.add_argument("--verify", action="store_true", help=_("try each login first, once"))
    parser.add_argument(
        "--replace", action="store_true", help=_("change existing accounts in what the table has columns for")
    )
    parser.add_argument("--dry-run", action="store_true", help=_("print the results, store nothing"))
    parser.add_argument("--json", action="store_true", help=_("JSON output"))
    parser.set_defaults(run=run_import)


def add_export_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `account export`."""
    parser.add_argument("--json", action="store_true", help=_("JSON output"))
    parser.set_defaults(run=run_export)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table and its result; `stored` is None if the row is invalid."""

    line: int
    name: str
    stored: StoredAccount | None
    result: str
    before: StoredAccount | None = None  # the account that it replaces

    def invalid(self, result: str) -> "Row":
        """The same row, invalid."""
        return replace(self, stored=None, result=result)


def run_import(chosen: argparse.Namespace) -> int:
    """0 if all rows were stored (with --dry-run: are valid); 1 if one is invalid, and nothing was stored."""
    config = read_config(chosen)
    table = _read_table(chosen.file, chosen.encoding, may_replace=chosen.replace)
    if not table.rows:
        raise UsageError(_("{path} has no rows below its heading.").format(path=chosen.file))
    for text in table.columns.describe():
        print(printable(text), file=sys.stderr if chosen.json else sys.stdout)
    unlock = vault_unlock(config)
    existing = _Existing(open_accounts(config, unlock))
    rows = [_read_row(config, chosen.provider, line, cells, existing) for line, cells in table.rows]
    rows = list(_validated(rows, existing.directory, may_replace=chosen.replace))
    if chosen.verify:
        with progress():
            rows = list(_verified(config, rows))
    _print_rows(rows, as_json=chosen.json)
    invalid = sum(row.stored is None for row in rows)
    if not invalid and not chosen.dry_run:
        with open_editor(config, unlock) as editor:
            _store(editor, rows)
    if not chosen.json:
        print(_summary(config, len(rows), invalid, dry_run=chosen.dry_run))
    return EX_FAILED if invalid else EX_OK


def read_accounts(
    config: Config, path: Path, provider: str | None, accounts: VaultAccounts | None, *, verify: bool
) -> list[Row]:
    """The rows of a table for `setup`, compared with the accounts in the vault; None: there is none yet.

    With `verify` the login of each new or changed account is tried once. Raises InputError, UsageError.
    """
    table = _read_table(path, may_replace=True)
    if not table.rows:
        raise UsageError(_("{path} has no rows below its heading.").format(path=path))
    existing = _Existing(accounts) if accounts is not None else None
    rows = [_read_row(config, provider, line, cells, existing) for line, cells in table.rows]
    directory = existing.directory if existing is not None else AccountDirectory(())
    rows = list(_validated(rows, directory, may_replace=True))
    if not verify or any(row.stored is None for row in rows):
        return rows
    tried = iter(list(_verified(config, [row for row in rows if row.stored != row.before])))
    return [next(tried) if row.stored != row.before else row for row in rows]


def print_rows(rows: list[Row]) -> None:
    """The rows with their results, as `account import` prints them."""
    _print_rows(rows, as_json=False)


def _print_rows(rows: list[Row], *, as_json: bool) -> None:
    if as_json:
        print_json(
            [{"line": r.line, "account": r.name, "right": r.stored is not None, "words": r.result} for r in rows]
        )
        return
    print()
    print_table((_("line"), _("account"), _("result")), [[str(row.line), row.name, row.result] for row in rows])
    print(flush=True)


def _summary(config: Config, count: int, invalid: int, *, dry_run: bool) -> str:
    if invalid:
        text = ngettext(
            "Nothing was imported: {invalid} of {count} row is invalid.",
            "Nothing was imported: {invalid} of {count} rows are invalid.",
            count,
        )
        return text.format(invalid=invalid, count=count)
    if dry_run:
        text = ngettext("{count} row is right.", "All {count} rows are right.", count)
        return text.format(count=count) + " " + _("Nothing was imported (--dry-run).")
    text = ngettext("Imported {count} account.", "Imported {count} accounts.", count)
    return text.format(count=count) + " " + pickup_note(config)


# ---- reading the file ----


@dataclass(frozen=True, slots=True)
class Table:
    """The columns, and the cells of each row under our own names, with its line number."""

    columns: Columns
    rows: list[tuple[int, dict[str, str]]]


def _read_table(path: Path, encoding: str | None = None, *, may_replace: bool = False) -> Table:
    """Read the table; asks for its encoding on a terminal. Raises InputError, UsageError."""
    try:
        if path.stat().st_mode & 0o077:
            print_error(
                _("{path} contains passwords, and other users may read it.").format(path=path), f"chmod 600 {path}"
            )
        content = read_octets(path)
    except OSError as error:
        raise InputError(_("Cannot read {path}: {error}.").format(path=path, error=error.strerror)) from error
    try:
        return _table(path, content, encoding, may_replace=may_replace)
    except EncodingUnknown as error:
        if not is_interactive():
            raise
        print_error(error.message)
        answer = input(_("Encoding of {path} (such as windows-1252): ").format(path=path))
        return _table(path, content, answer, may_replace=may_replace)


def _table(path: Path, content: bytes, encoding: str | None, *, may_replace: bool) -> Table:
    text = decode_text(path, content, encoding)
    try:
        table = parse_ldif(text.content) if is_ldif(text.content) else parse_table(text.content, count_known)
    except csv.Error as error:
        raise InputError(_("{path} is not a valid table: {error}.").format(path=path, error=error)) from error
    columns = read_columns(table.headings)
    if not (columns.has(LOGIN) or columns.has_addresses) or not (columns.has(SECRET) or may_replace):
        raise UsageError(
            _("The first line of {path} must name the columns, login (or address) and password among them.").format(
                path=path
            ),
            hint=_("Write it like {example}").format(example=_EXAMPLE),
        )
    rows: list[tuple[int, dict[str, str]]] = []
    for line, row in table.rows:
        if any(cell.strip() for cell in row[len(columns.roles) :]):
            raise InputError(
                _("Line {line} of {path} has more cells than the heading.").format(line=line, path=path),
                hint=_("Put a cell that contains the delimiter in quotation marks."),
            )
        cells = columns.cells(row)
        uncertain = next((role for role, cell in cells.items() if role != NAME and not cell.isascii()), None)
        if text.assumed and uncertain:
            why = _("it is not UTF-8, and line {line} has other characters than ASCII outside the display name")
            raise EncodingUnknown(path, why.format(line=line))
        rows.append((line, cells))
    if text.assumed:
        print_error(_("{path} is not UTF-8; display names are read as windows-1252.").format(path=path))
    return Table(columns, rows)


# ---- reading a row ----


class _Existing:
    """The accounts in the vault, by id, address and login."""

    def __init__(self, accounts: VaultAccounts) -> None:
        self.directory = accounts.directory()
        self._accounts = accounts
        self._by_address = {account.address.key: account for account in self.directory.accounts}
        self._by_login = {account.login: account for account in self.directory.accounts}

    def find(self, account_id: str, own: Address | None, login: str) -> StoredAccount | None:
        """The account of this id; without an id that of this address, or without an address of this login."""
        if account_id:
            account = self.directory.by_id(account_id)
        elif own is not None:
            account = self._by_address.get(own.key) or self.directory.by_id(own.key)
        else:
            account = self._by_login.get(login) or self._by_address.get(login.lower())
        return self._accounts.stored(account) if account else None


def _read_row(
    config: Config, default_provider: str | None, line: int, cells: dict[str, str], existing: _Existing | None = None
) -> Row:
    """A row on its own. Fields without a column are those of the existing account."""
    login, secret = plain_login(cells.get(LOGIN, "")), cells.get(SECRET, "")
    row = Row(line, login or cells.get(ADDRESS) or cells.get(ADDRESSES) or "-", None, "")
    if LOGIN in cells and not login:
        return row.invalid(_("the login is empty"))
    if SECRET in cells and not secret:
        return row.invalid(_("the password is empty"))
    if has_controls(secret) or has_controls(login):
        return row.invalid(_("the login or the password contains a control character"))
    if is_hash(secret):
        return row.invalid(_("the password is a hash, and a login needs the password itself"))
    try:
        found = read_addresses(cells.get(ADDRESS, ""), cells.get(ADDRESSES, ""))
        before = existing.find(cells.get(ID, ""), found.own, login) if existing else None
        if found.own is None and before is None:
            found = with_login(found, login)
    except AddressError as error:
        return row.invalid(str(error))
    provider = cells.get(PROVIDER) or default_provider or (before.account.provider if before else "")
    if not provider:
        return row.invalid(_("the provider is missing"))
    if provider not in config.provider_table():
        return row.invalid(_("there is no provider {name}").format(name=provider))
    if before is None and found.own is None:
        return row.invalid(_("the address is empty"))
    if before is None and not secret:
        return row.invalid(_("the password is missing, and there is no such account yet"))
    account = _account(config.provider_table()[provider], cells, found, before.account if before else None)
    stored = replace(before, account=account) if before and not secret else StoredAccount(account, secret)
    blank = stored.secret != stored.secret.strip()
    return Row(
        line, account.id, stored, _("valid; the password begins or ends with a blank") if blank else _("valid"), before
    )


def _account(provider: Provider, cells: dict[str, str], found: CellAddresses, before: Account | None) -> Account:
    """The account of a row; `found` or `before` has an address."""
    own = found.own or (before.address if before else None)
    assert own is not None
    carries = found.patterns
    if before is not None and ADDRESSES not in cells:
        carries = (*carries, *before.carries)
    own_pattern = AddressPattern(own.local_part, own.domain)
    name = cells.get(NAME) or None if NAME in cells else (before.display_name if before else found.name or None)
    fallback = cells.get(FALLBACK) or None if FALLBACK in cells else (before.fallback if before else None)
    login = plain_login(cells.get(LOGIN, "")) or (before.login if before else default_login(provider, own))
    return Account(
        cells.get(ID) or (before.id if before else own.key),
        login,
        provider.name,
        own,
        tuple(dict.fromkeys((own_pattern, *carries))),
        name,
        before.messages_per_hour if before else None,
        before.connections if before else None,
        before.recipients_per_hour if before else None,
        fallback,
        bool(before and before.fallback_rewrites and fallback == before.fallback),
        before.sent_copy if before else None,
    )


# ---- validating the rows ----


def _validated(rows: list[Row], existing: AccountDirectory, *, may_replace: bool) -> Iterator[Row]:
    """Each row, compared with the existing accounts and with the rows before it; fallbacks, with all rows."""
    rows = _with_fallbacks(rows, existing)
    accounts = _after(rows, existing)
    changed = {row.stored.account.id for row in rows if row.stored is not None}
    wrong = {
        account.id if account.id in changed else str(account.fallback): error.message
        for account, error in invalid_fallbacks(accounts.values(), changed)
    }
    for row in _validated_addresses(rows, existing, may_replace=may_replace):
        account_id = row.stored.account.id if row.stored is not None else ""
        yield row.invalid(wrong[account_id]) if account_id in wrong else row


def _after(rows: list[Row], existing: AccountDirectory) -> dict[str, Account]:
    """The accounts after an import, by id."""
    return {
        account.id: account
        for account in (*existing.accounts, *(r.stored.account for r in rows if r.stored is not None))
    }


def _with_fallbacks(rows: list[Row], existing: AccountDirectory) -> list[Row]:
    """The rows with the ids of fallbacks that they name by address."""
    accounts = _after(rows, existing)
    ids = {account.address.key: account.id for account in accounts.values()}
    changed: list[Row] = []
    for row in rows:
        if row.stored is not None and (named := row.stored.account.fallback) is not None and named not in accounts:
            account = replace(row.stored.account, fallback=ids.get(named.lower(), named))
            row = replace(row, stored=replace(row.stored, account=account))
        changed.append(row)
    return changed


def _validated_addresses(rows: list[Row], existing: AccountDirectory, *, may_replace: bool) -> Iterator[Row]:
    """Each row, compared with the existing accounts and with the rows before it."""
    owners: dict[str, Account] = {}
    for account in existing.accounts:
        owners |= dict.fromkeys(_keys(account), account)
    first: dict[str, int] = {}
    for row in rows:
        if row.stored is None:
            yield row
            continue
        account, line = row.stored.account, first.setdefault(row.name, row.line)
        others = [other for key in _keys(account) if (other := owners.get(key)) and other.id != account.id]
        if line != row.line:
            yield row.invalid(_("the same account as in line {line}").format(line=line))
        elif row.before and not may_replace:
            yield row.invalid(_("exists already (--replace replaces it)"))
        elif conflict := _conflict(account, others):
            yield row.invalid(conflict)
        else:
            for key in _keys(row.before.account) if row.before else ():
                owners.pop(key, None)
            owners |= dict.fromkeys(_keys(account), account)
            yield replace(row, result=_changes(row.before, row.stored)) if row.before else row


def _keys(account: Account) -> list[str]:
    """The addresses and whole domains of an account, for comparison."""
    return [
        f"@{pattern.domain}" if pattern.local_part is None else Address(pattern.local_part, pattern.domain).key
        for pattern in account.carries
    ]


def _conflict(account: Account, others: list[Account]) -> str | None:
    """The conflict with another account that carries one of the addresses."""
    try:
        AccountDirectory([*{other.id: other for other in others}.values(), account])
    except SenderproxyError as error:
        return error.message
    return None


def _changes(before: StoredAccount, after: StoredAccount) -> str:
    """The result of a row that replaces an account: each change, without passwords."""
    old, new = before.account, after.account
    values = (
        (_("login"), old.login, new.login),
        (_("provider"), old.provider, new.provider),
        (_("address"), old.address, new.address),
        (_("display name"), old.display_name, new.display_name),
        (_("fallback"), old.fallback, new.fallback),
    )
    changes = [
        _("{name} {new} instead of {old}").format(name=name, new=value or "-", old=was or "-")
        for name, was, value in values
        if was != value
    ]
    kept = set(old.carries) & set(new.carries)
    changes += [f"+{pattern}" for pattern in new.carries if pattern not in kept]
    changes += [f"-{pattern}" for pattern in old.carries if pattern not in kept]
    if before.secret != after.secret:
        changes.append(_("another password"))
    if not changes:
        return _("valid, no change")
    return _("valid, replaces the existing account: {changes}").format(changes=", ".join(changes))


def _verified(config: Config, rows: list[Row]) -> Iterator[Row]:
    """Each login tried once; a provider that cannot be reached is not tried again for every row."""
    unreachable: dict[str, int] = {}
    count, number = sum(row.stored is not None for row in rows), 0
    for row in rows:
        if row.stored is None:
            yield row
            continue
        if row.stored.grant is not None:  # its login with OAuth is not changed
            yield row
            continue
        account, number = row.stored.account, number + 1
        if account.provider in unreachable:
            text = _("not tried: {provider} cannot be reached, see line {line}")
            yield row.invalid(text.format(provider=account.provider, line=unreachable[account.provider]))
            continue
        step = _("Trying login {number} of {count}: {login} ...")
        print_progress(step.format(number=number, count=count, login=account.login))
        result = try_login(config, account, Credential(account.login, row.stored.secret, version="untried"))
        if isinstance(result, LoginUnchecked):
            unreachable[account.provider] = row.line
        if isinstance(result, LoginOk):
            yield replace(row, result=_("{result}, the login works").format(result=row.result))
        else:
            yield row.invalid(describe(result))


def _store(editor: AccountEditor, rows: list[Row]) -> None:
    """Store all rows in one save, if the vault still has the accounts that they were compared with."""
    existing = {entry.account.id: entry for entry in editor.all()}
    for row in rows:
        if row.stored and existing.get(row.stored.account.id) != row.before:
            text = _("Nothing was imported: account {id} was changed by another command meanwhile.")
            raise SenderproxyError(text.format(id=row.name), hint=_("Run the import again."))
    editor.put_all([row.stored for row in rows if row.stored])
    editor.save()


# ---- export ----


def run_export(chosen: argparse.Namespace) -> int:
    """The password column is present and empty: once filled in, the table can be imported elsewhere."""
    vault_accounts = open_accounts(read_config(chosen))
    accounts = vault_accounts.directory().accounts
    if chosen.json:
        print_json([account_entry(account, vault_accounts) for account in accounts])
        return EX_OK
    table = csv.writer(sys.stdout, delimiter=";", lineterminator="\n")
    table.writerow(_EXPORTED)
    for account in accounts:
        carries = " ".join(str(pattern) for pattern in account.carries)
        name, fallback = account.display_name or "", account.fallback or ""
        table.writerow([account.id, account.login, "", account.provider, carries, name, fallback])
    return EX_OK
