"""`senderproxy account import` and `export`: many accounts at once, as a CSV table.

Guarantees: each row gets a result, and all rows are stored or none; each login is tried at most once; a password is
read exactly as it is in its cell and never printed. The export contains no password.
Not here: one account at a time (cli.account).
"""

import argparse
import csv
import io
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from senderproxy.accounts.editor import AccountEditor
from senderproxy.accounts.record import StoredAccount, has_controls
from senderproxy.cli.account_login_check import describe, try_login
from senderproxy.cli.common import account_entry, open_accounts, open_editor, pickup_note, read_config, vault_unlock
from senderproxy.cli.errors import InputError, UsageError
from senderproxy.cli.exit_codes import EX_FAILED, EX_OK
from senderproxy.cli.terminal import print_error, print_json, print_progress, print_table
from senderproxy.config.model import Config
from senderproxy.delivery.login_check import LoginOk, LoginUnchecked
from senderproxy.errors import SenderproxyError
from senderproxy.mail.address import Address, AddressError, AddressPattern, parse_pattern
from senderproxy.routing.account import Account, Credential
from senderproxy.routing.directory import AccountDirectory
from senderproxy.translation import _, ngettext

# Columns that are recognized, in English and German.
_HEADINGS: Final = {
    "id": "id",
    "account": "id",
    "konto": "id",
    "login": "login",
    "user": "login",
    "username": "login",
    "user name": "login",
    "benutzer": "login",
    "benutzername": "login",
    "anmeldename": "login",
    "password": "secret",
    "passwort": "secret",
    "kennwort": "secret",
    "provider": "provider",
    "anbieter": "provider",
    "address": "carries",
    "addresses": "carries",
    "carries": "carries",
    "email": "carries",
    "e-mail": "carries",
    "mail": "carries",
    "adresse": "carries",
    "adressen": "carries",
    "e-mail-adresse": "carries",
    "name": "display_name",
    "display name": "display_name",
    "display_name": "display_name",
    "anzeigename": "display_name",
}
_EXPORTED: Final = ("id", "login", "password", "provider", "addresses", "display name")
_EXAMPLE: Final = "login;password;provider;addresses;display name"
_DELIMITERS: Final = ";,\t"


def add_import_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `account import`."""
    parser.add_argument(
        "file", type=Path, help=_("CSV file with a heading line: login, password, provider, addresses, name")
    )
    parser.add_argument("--provider", help=_("provider of rows that name none"))
    parser.add_argument("--verify", action="store_true", help=_("try each login first, once"))
    parser.add_argument("--replace", action="store_true", help=_("replace existing accounts"))
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

    def invalid(self, result: str) -> "Row":
        """The same row, invalid."""
        return replace(self, stored=None, result=result)


def run_import(chosen: argparse.Namespace) -> int:
    """0 if all rows were stored (with --dry-run: are valid); 1 if one is invalid, and nothing was stored."""
    config = read_config(chosen)
    rows = [_read_row(config, chosen.provider, line, cells) for line, cells in _read_table(chosen.file)]
    if not rows:
        raise UsageError(_("{path} has no rows below its heading.").format(path=chosen.file))
    unlock = vault_unlock(config)
    existing = open_accounts(config, unlock).directory()
    rows = list(_validated(rows, existing, may_replace=chosen.replace))
    if chosen.verify:
        rows = list(_verified(config, rows))
    invalid = sum(row.stored is None for row in rows)
    if not invalid and not chosen.dry_run:
        with open_editor(config, unlock) as editor:
            _store(editor, rows, may_replace=chosen.replace)
    if chosen.json:
        print_json(
            [{"line": r.line, "account": r.name, "right": r.stored is not None, "words": r.result} for r in rows]
        )
    else:
        print_table((_("line"), _("account"), _("result")), [[str(row.line), row.name, row.result] for row in rows])
        print()
        print(_summary(config, len(rows), invalid, dry_run=chosen.dry_run))
    return EX_FAILED if invalid else EX_OK


def _summary(config: Config, count: int, invalid: int, *, dry_run: bool) -> str:
    if invalid:
        text = ngettext(
            "Nothing was imported: {invalid} of {count} row is invalid.",
            "Nothing was imported: {invalid} of {count} rows are invalid.",
            count,
        )
        return text.format(invalid=invalid, count=count)
    if dry_run:
        text = ngettext("{count} row is valid.", "All {count} rows are valid.", count)
        return text.format(count=count) + " " + _("Nothing was imported (--dry-run).")
    text = ngettext("Imported {count} account.", "Imported {count} accounts.", count)
    return text.format(count=count) + " " + pickup_note(config)


# ---- reading the file ----


def _read_table(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Each row with its line number, the cells under our own names. Raises InputError, UsageError."""
    try:
        if path.stat().st_mode & 0o077:
            print_error(
                _("{path} contains passwords, and other users may read it.").format(path=path), f"chmod 600 {path}"
            )
        text = _decoded(path, path.read_bytes())
    except OSError as error:
        raise InputError(_("Cannot read {path}: {error}.").format(path=path, error=error.strerror)) from error
    try:
        yield from _named_rows(path, text)
    except csv.Error as error:
        raise InputError(_("{path} is not a valid table: {error}.").format(path=path, error=error)) from error


def _named_rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of the text. Raises UsageError, csv.Error."""
    heading = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(_DELIMITERS, key=heading.count))
    columns = [_HEADINGS.get(cell.strip().lower()) for cell in next(reader, [])]
    if "login" not in columns or "secret" not in columns:
        raise UsageError(
            _("The first line of {path} must name the columns, login and password among them.").format(path=path),
            hint=_("Write it like {example}").format(example=_EXAMPLE),
        )
    for cells in reader:
        if any(cell.strip() for cell in cells):
            yield reader.line_num, _named(columns, cells)


def _decoded(path: Path, content: bytes) -> str:
    """The text in the encodings of spreadsheets: UTF-8 with or without a mark, UTF-16 with one, Windows-1252."""
    encodings = ("utf-16",) if content.startswith((b"\xff\xfe", b"\xfe\xff")) else ("utf-8-sig", "cp1252")
    for encoding in encodings:
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise InputError(_("{path} is not a text file.").format(path=path), hint=_("Save the table as CSV in UTF-8."))


def _named(columns: list[str | None], cells: list[str]) -> dict[str, str]:
    """A password keeps its blanks; other cells lose theirs. Several columns may hold addresses."""
    row: dict[str, str] = {}
    for column, cell in zip(columns, cells, strict=False):
        if column == "secret":
            row[column] = cell
        elif column is not None:
            row[column] = f"{row.get(column, '')} {cell}".strip()
    return row


def _read_row(config: Config, default_provider: str | None, line: int, cells: dict[str, str]) -> Row:
    login, secret = cells.get("login", ""), cells.get("secret", "")
    row = Row(line, login or "-", None, "")
    if not login or not secret:
        return row.invalid(_("the password is empty") if login else _("the login is empty"))
    if has_controls(secret) or has_controls(login):
        return row.invalid(_("the login or the password contains a control character"))
    provider = cells.get("provider") or default_provider or ""
    if not provider:
        return row.invalid(_("the provider is missing"))
    if provider not in config.provider_table():
        return row.invalid(_("there is no provider {name}").format(name=provider))
    try:
        own, carries = _addresses(login, cells.get("carries", ""))
    except AddressError as error:
        return row.invalid(str(error))
    account = Account(cells.get("id") or own.key, login, provider, own, carries, cells.get("display_name") or None)
    return Row(line, account.id, StoredAccount(account, secret), _("valid"))


def _addresses(login: str, text: str) -> tuple[Address, tuple[AddressPattern, ...]]:
    """The account's own address (the first address, else the login), and all it carries. Raises AddressError."""
    patterns = [parse_pattern(part) for part in re.split(r"[\s,;|]+", text) if part]
    if not any(pattern.local_part for pattern in patterns):
        patterns.insert(0, parse_pattern(login))
    first = next((p for p in patterns if p.local_part is not None), None)
    if first is None or first.local_part is None:
        raise AddressError(_("{login} is not an address, and none is given").format(login=login))
    return Address(first.local_part, first.domain), tuple(dict.fromkeys((first, *patterns)))


# ---- validating the rows ----


def _validated(rows: list[Row], existing: AccountDirectory, *, may_replace: bool) -> Iterator[Row]:
    """Each row, compared with the existing accounts and with the rows before it."""
    accounts = {account.id: account for account in existing.accounts}
    first: dict[str, int] = {}
    for row in rows:
        if row.stored is None:
            yield row
            continue
        account, line = row.stored.account, first.setdefault(row.name, row.line)
        exists = existing.by_id(account.id) is not None
        if line != row.line:
            yield row.invalid(_("the same account as in line {line}").format(line=line))
        elif exists and not may_replace:
            yield row.invalid(_("exists already (--replace replaces it)"))
        elif conflict := _conflict(account, accounts):
            yield row.invalid(conflict)
        else:
            accounts[account.id] = account
            yield replace(row, result=_("valid, replaces the existing account")) if exists else row


def _conflict(account: Account, accounts: dict[str, Account]) -> str | None:
    """The conflict with another account that carries one of the addresses."""
    try:
        AccountDirectory((accounts | {account.id: account}).values())
    except SenderproxyError as error:
        return error.message
    return None


def _verified(config: Config, rows: list[Row]) -> Iterator[Row]:
    """Each login tried once; a provider that cannot be reached is not tried again for every row."""
    unreachable: dict[str, int] = {}
    valid = [row for row in rows if row.stored]
    for row in rows:
        if row.stored is None:
            yield row
            continue
        account = row.stored.account
        if account.provider in unreachable:
            text = _("not tried: {provider} cannot be reached, see line {line}")
            yield row.invalid(text.format(provider=account.provider, line=unreachable[account.provider]))
            continue
        progress = _("Trying login {number} of {count}: {login} ...")
        print_progress(progress.format(number=valid.index(row) + 1, count=len(valid), login=account.login))
        result = try_login(config, account, Credential(account.login, row.stored.secret, version="untried"))
        if isinstance(result, LoginUnchecked):
            unreachable[account.provider] = row.line
        if isinstance(result, LoginOk):
            yield replace(row, result=_("{result}, the login works").format(result=row.result))
        else:
            yield row.invalid(describe(result))


def _store(editor: AccountEditor, rows: list[Row], *, may_replace: bool) -> None:
    """Store all rows in one save. The vault may have changed since they were validated, so ids are compared again."""
    existing = {entry.account.id for entry in editor.all()}
    for row in rows:
        if row.stored is None:
            continue
        if row.stored.account.id in existing and not may_replace:
            text = _("Nothing was imported: account {id} was added by another command meanwhile.")
            raise SenderproxyError(text.format(id=row.name), hint=_("Run the import again."))
        editor.put(row.stored)
    editor.save()


# ---- export ----


def run_export(chosen: argparse.Namespace) -> int:
    """The password column is present and empty: once filled in, the table can be imported elsewhere."""
    accounts = open_accounts(read_config(chosen)).directory().accounts
    if chosen.json:
        print_json([account_entry(account) for account in accounts])
        return EX_OK
    table = csv.writer(sys.stdout, delimiter=";", lineterminator="\n")
    table.writerow(_EXPORTED)
    for account in accounts:
        carries = " ".join(str(pattern) for pattern in account.carries)
        table.writerow([account.id, account.login, "", account.provider, carries, account.display_name or ""])
    return EX_OK
