"""`senderproxy account import` and `export`: many mailboxes at once, as a table.

Guarantees: a verdict for every row, and all rows are in the vault or none is; each login is tried once at the most; a
password is read exactly as it stands in its cell and shown nowhere. What is exported never has a password in it.
Not here: one mailbox at a time (cli.account).
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
from senderproxy.cli.terminal import print_json, print_progress, print_table
from senderproxy.config.model import Config
from senderproxy.delivery.login_check import LoginOk, LoginUnchecked
from senderproxy.errors import SenderproxyError
from senderproxy.mail.address import Address, AddressError, AddressPattern, parse_pattern
from senderproxy.routing.account import Account, Credential
from senderproxy.routing.directory import AccountDirectory

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
_DELIMITERS: Final = ";,\t"


def add_import_arguments(imported: argparse.ArgumentParser) -> None:
    """Options of `account import`."""
    imported.add_argument("file", type=Path, help="columns login, password, provider, addresses, name; a heading line")
    imported.add_argument("--provider", help="for rows that name none")
    imported.add_argument("--verify", action="store_true", help="try each login first, once")
    imported.add_argument("--replace", action="store_true", help="rows may replace accounts that are there")
    imported.add_argument("--dry-run", action="store_true", help="only say what would happen")
    imported.add_argument("--json", action="store_true", help="the verdicts, for programs")
    imported.set_defaults(run=run_import)


def add_export_arguments(exported: argparse.ArgumentParser) -> None:
    """Options of `account export`."""
    exported.add_argument("--json", action="store_true", help="as JSON")
    exported.set_defaults(run=run_export)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the file and what is to be said about it; `stored` is None where it is not right."""

    line: int
    name: str
    stored: StoredAccount | None
    verdict: str

    def wrong(self, verdict: str) -> "Row":
        """The same line, found wrong."""
        return replace(self, stored=None, verdict=verdict)


def run_import(chosen: argparse.Namespace) -> int:
    """0 where all rows are in the vault (or would be, with --dry-run); 1 where one is wrong and nothing changed."""
    config = read_config(chosen)
    rows = [_read_row(config, chosen.provider, line, cells) for line, cells in _read_table(chosen.file)]
    if not rows:
        raise UsageError(f"{chosen.file} has no rows below its heading.")
    way = vault_unlock(config)
    known = open_accounts(config, way).directory()
    rows = list(_judged(rows, known, may_replace=chosen.replace))
    if chosen.verify:
        rows = list(_verified(config, rows))
    wrong = sum(row.stored is None for row in rows)
    if not wrong and not chosen.dry_run:
        with open_editor(config, way) as editor:
            _enter(editor, rows, may_replace=chosen.replace)
    _show(chosen, rows)
    if not chosen.json:
        print(_outcome(config, len(rows), wrong, dry_run=chosen.dry_run))
    return EX_FAILED if wrong else EX_OK


def _show(chosen: argparse.Namespace, rows: list[Row]) -> None:
    if chosen.json:
        print_json(
            [{"line": r.line, "account": r.name, "right": r.stored is not None, "words": r.verdict} for r in rows]
        )
        return
    print_table(("line", "account", "verdict"), [[str(row.line), row.name, row.verdict] for row in rows])
    print()


def _outcome(config: Config, count: int, wrong: int, *, dry_run: bool) -> str:
    if wrong:
        return f"Nothing was imported: {wrong} of {count} rows {'is' if wrong == 1 else 'are'} not right."
    if dry_run:
        return f"All {count} rows are right. Nothing was imported, as asked."
    return f"All {count} rows are in the vault. {pickup_note(config)}"


# ---- reading the file ----


def _read_table(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Each row with the number of its line, its cells under our own names. Raises InputError, UsageError."""
    try:
        if path.stat().st_mode & 0o077:
            print(f"{path} holds passwords, and others may read it: chmod 600 {path}", file=sys.stderr)
        text = _decoded(path, path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    heading = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(_DELIMITERS, key=heading.count))
    columns = [_HEADINGS.get(cell.strip().lower()) for cell in next(reader, [])]
    if "login" not in columns or "secret" not in columns:
        raise UsageError(
            f"The first line of {path} must name the columns, with login and password among them.",
            hint="login;password;provider;addresses;display name",
        )
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, _named(columns, cells)
    except csv.Error as error:
        raise InputError(f"{path} cannot be read as a table: {error}.") from error


def _decoded(path: Path, content: bytes) -> str:
    """The text as spreadsheets write it: UTF-8 with or without a mark, UTF-16 with one, or Windows' own."""
    encodings = ("utf-16",) if content.startswith((b"\xff\xfe", b"\xfe\xff")) else ("utf-8-sig", "cp1252")
    for encoding in encodings:
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise InputError(f"{path} is no text.", hint="Save the table as CSV, in UTF-8.")


def _named(columns: list[str | None], cells: list[str]) -> dict[str, str]:
    """A password keeps its blanks; everything else loses those around it. Several columns may hold addresses."""
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
        return row.wrong("the login is empty" if not login else "the password is empty")
    if has_controls(secret) or has_controls(login):
        return row.wrong("the login or the password has a character in it that cannot be sent")
    provider = cells.get("provider") or default_provider or ""
    if provider not in config.provider_table():
        return row.wrong(f"there is no provider {provider}" if provider else "the provider is missing")
    try:
        own, carries = _addresses(login, cells.get("carries", ""))
    except AddressError as error:
        return row.wrong(str(error))
    account = Account(cells.get("id") or own.key, login, provider, own, carries, cells.get("display_name") or None)
    return Row(line, account.id, StoredAccount(account, secret), "right")


def _addresses(login: str, text: str) -> tuple[Address, tuple[AddressPattern, ...]]:
    """The mailbox's own address (the first that is one, else its login), and all it carries. Raises AddressError."""
    patterns = [parse_pattern(part) for part in re.split(r"[\s,;|]+", text) if part]
    if not any(pattern.local_part for pattern in patterns):
        patterns.insert(0, parse_pattern(login))
    first = next((p for p in patterns if p.local_part is not None), None)
    if first is None or first.local_part is None:
        raise AddressError(f"{login} is no address, and none is given")
    return Address(first.local_part, first.domain), tuple(dict.fromkeys((first, *patterns)))


# ---- judging the rows ----


def _judged(rows: list[Row], known: AccountDirectory, *, may_replace: bool) -> Iterator[Row]:
    """Each row against the accounts that are there and against the rows before it."""
    accounts = {account.id: account for account in known.accounts}
    first: dict[str, int] = {}
    for row in rows:
        if row.stored is None:
            yield row
            continue
        account, line = row.stored.account, first.setdefault(row.name, row.line)
        there = known.by_id(account.id) is not None
        if line != row.line:
            yield row.wrong(f"the same account as in line {line}")
        elif there and not may_replace:
            yield row.wrong("is there already (with --replace it is replaced)")
        elif clash := _clash(account, accounts):
            yield row.wrong(clash)
        else:
            accounts[account.id] = account
            yield replace(row, verdict="right, replaces the one there is") if there else row


def _clash(account: Account, accounts: dict[str, Account]) -> str | None:
    """Which other account carries one of its addresses."""
    try:
        AccountDirectory((accounts | {account.id: account}).values())
    except SenderproxyError as error:
        return error.message
    return None


def _verified(config: Config, rows: list[Row]) -> Iterator[Row]:
    """Each login tried once; a provider that cannot be reached is not asked again for every row."""
    away: dict[str, int] = {}
    right = [row for row in rows if row.stored]
    for row in rows:
        if row.stored is None:
            yield row
            continue
        account = row.stored.account
        if account.provider in away:
            yield row.wrong(f"not tried: {account.provider} could not be reached, see line {away[account.provider]}")
            continue
        print_progress(f"Trying login {right.index(row) + 1} of {len(right)}: {account.login} ...")
        verdict = try_login(config, account, Credential(account.login, row.stored.secret, version="untried"))
        if isinstance(verdict, LoginUnchecked):
            away[account.provider] = row.line
        works = isinstance(verdict, LoginOk)
        yield replace(row, verdict=f"{row.verdict}, the login works") if works else row.wrong(describe(verdict))


def _enter(editor: AccountEditor, rows: list[Row], *, may_replace: bool) -> None:
    """All rows, in one save. The vault may have changed since the rows were judged: it is looked at again."""
    there = {entry.account.id for entry in editor.all()}
    for row in rows:
        if row.stored is None:
            continue
        if row.stored.account.id in there and not may_replace:
            raise SenderproxyError(f"Nothing was imported: somebody else added {row.name} at this moment.")
        editor.put(row.stored)
    editor.save()


# ---- writing one ----


def run_export(chosen: argparse.Namespace) -> int:
    """The password column is there, and empty: filled in, the table can be imported elsewhere."""
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
