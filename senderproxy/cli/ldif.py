"""LDIF files, the exports of LDAP servers, as tables of accounts. PURE.

Guarantees: each record with a mailbox or a password becomes one row; no value is guessed, so two passwords of a record
are an error. Linear in the text.
Not here: the meaning of the attributes (cli.account_columns), other tables (cli.csv_file). RFC 2849.
"""

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Final

from senderproxy.cli.account_columns import is_of_account, is_password
from senderproxy.cli.csv_file import CsvTable
from senderproxy.cli.errors import InputError
from senderproxy.translation import _

_START: Final = re.compile(
    r"(?:[ \t\r\n\ufeff]|#[^\r\n]*[\r\n]){0,100}(?:version:[ \t]*1[ \t]*[\r\n]|dn::?[ \t])", re.IGNORECASE
)
_LINE: Final = re.compile(r"([A-Za-z][A-Za-z0-9-]*|[0-9][0-9.]*)(?:;[A-Za-z0-9-]+)*:(?!<)(:?)[ \t]*(.*)")
_MORE: Final = "mailAlternateAddress"  # column of the second and further values of `mail`


def is_ldif(text: str) -> bool:
    """True if the text begins as an LDIF file does."""
    return _START.match(text) is not None


def parse_ldif(text: str) -> CsvTable:
    """Parse the records. Raises InputError with the line."""
    records: list[tuple[int, dict[str, list[str]]]] = []
    names: dict[str, str] = {}  # spelling of each attribute by its name in lower case
    for first, lines in _records(text):
        values: dict[str, list[str]] = {}
        for number, line in lines:
            name, value = _attribute(number, line)
            key = names.setdefault(name.lower(), name)
            if key in values and is_password(key):
                raise InputError(_("Line {line}: a second password in one record.").format(line=number))
            values.setdefault(_MORE if key.lower() == "mail" and key in values else key, []).append(value)
        if any(is_of_account(name) for name in values):
            records.append((first, values))
    headings = list(dict.fromkeys(name for _line, values in records for name in values))
    return CsvTable(
        headings, [(line, [", ".join(values.get(name, ())) for name in headings]) for line, values in records]
    )


def _records(text: str) -> Iterator[tuple[int, list[tuple[int, str]]]]:
    """The unfolded lines of each record, with their numbers, without comments and `version:`."""
    record: list[tuple[int, str]] = []
    in_comment = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith(" "):
            if record and not in_comment:
                start, begun = record[-1]
                record[-1] = (start, begun + line[1:])
            continue
        in_comment = line.startswith("#")
        if line.strip() and not in_comment:
            if not (not record and line.lower().startswith("version:")):
                record.append((number, line))
        elif record and not in_comment:
            yield record[0][0], record
            record = []
    if record:
        yield record[0][0], record


def _attribute(number: int, line: str) -> tuple[str, str]:
    found = _LINE.fullmatch(line)
    if found is None:
        raise InputError(_("Line {line} is not a line of LDIF.").format(line=number))
    name, encoded, value = found.groups()
    if not encoded:
        return name, value
    try:
        return name, base64.b64decode(value, validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        if is_of_account(name):
            raise InputError(
                _("Line {line}: the value of {name} is not a text in UTF-8.").format(line=number, name=name)
            ) from None
        return name, ""
