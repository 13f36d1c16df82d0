"""The text of a CSV file, as spreadsheets and tools of Windows write it.

Guarantees: an encoding is taken from the byte order mark or from `--encoding`; without both the text is UTF-8, or
`assumed` says that its non-ASCII characters are not certain. Size and time are bounded by _LIMIT.
Not here: the meaning of the columns (cli.account_columns).
"""

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Final

from senderproxy.cli.errors import InputError, UsageError
from senderproxy.translation import _

ENCODINGS: Final = (
    "utf-8", "utf-16-le", "utf-16-be", "windows-1250", "windows-1252", "iso-8859-1", "iso-8859-2", "iso-8859-15",
    "cp437", "cp850", "cp852", "macintosh",
)  # fmt: skip
_LIMIT: Final = 16 * 1024 * 1024  # octets of a file; a hundred thousand accounts need less
_PREAMBLE: Final = 100  # lines before the heading
_DELIMITERS: Final = ";,\t|"
_MARKS: Final = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_SEPARATOR: Final = re.compile(r'"?sep=([^"\r\n\w])"?[;,\t| ]*', re.IGNORECASE)  # first line of Excel


class EncodingUnknown(UsageError):
    """The encoding must be named."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            _("The encoding of {path} is unknown: {why}.").format(path=path, why=why),
            hint=_("Name it: --encoding {encodings}").format(encodings="|".join(ENCODINGS)),
        )


@dataclass(frozen=True, slots=True)
class Text:
    """A decoded file."""

    content: str
    assumed: bool = False  # True: characters outside ASCII may be wrong


@dataclass(frozen=True, slots=True)
class CsvTable:
    """The heading and the rows below it that are not empty, each with its line number from 1."""

    headings: list[str]
    rows: list[tuple[int, list[str]]]


def read_octets(path: Path) -> bytes:
    """Read the file. Raises OSError, InputError if it is too large."""
    with path.open("rb") as file:
        content = file.read(_LIMIT + 1)
    if len(content) > _LIMIT:
        text = _("{path} is larger than {limit} MiB.").format(path=path, limit=_LIMIT // 1024**2)
        raise InputError(text, hint=_("Split the table."))
    return content


def decode_text(path: Path, content: bytes, encoding: str | None) -> Text:
    """Decode the file; `encoding` is the operator's choice. Raises EncodingUnknown, InputError, UsageError."""
    mark, marked = next(((m, e) for m, e in _MARKS.items() if content.startswith(m)), (b"", None))
    named = _known_encoding(encoding) if encoding is not None else None
    if named and marked and not marked.startswith(named):
        text = _("{path} has the byte order mark of {marked}, not of {encoding}.")
        raise UsageError(text.format(path=path, marked=marked, encoding=named), hint=_("Omit --encoding."))
    chosen = marked or named or "utf-8"
    try:
        decoded = content[len(mark) :].decode(chosen)
    except UnicodeDecodeError:
        if not marked and not named:
            return Text(content.decode("cp1252", "replace"), assumed=True)
        raise InputError(
            _("{path} is not a text file in {encoding}.").format(path=path, encoding=chosen),
            hint=_("Save the table as CSV in UTF-8."),
        ) from None
    if "\0" in decoded:
        raise EncodingUnknown(path, _("it has NUL characters, as UTF-16 without a byte order mark does"))
    return Text(decoded)


def parse_table(text: str, known: Callable[[list[str]], int]) -> CsvTable:
    """Parse the table below `sep=;`, `#TYPE ...`, comments and empty lines.

    `known` counts the headings that have a meaning; without `sep=` the delimiter with the most of them is taken. Blanks
    before a quotation mark are left out if the heading has them. Raises csv.Error, also where a quotation mark is not
    closed: it would hide the rows below it.
    """
    lines = io.StringIO(text.removesuffix("\x1a"), newline="")  # the end of a file of DOS
    delimiter = ""
    before = 0
    heading = ""
    for line in islice(lines, _PREAMBLE):
        if separator := _SEPARATOR.fullmatch(line.rstrip("\r\n")):
            delimiter = separator[1]
        elif line.lstrip(' "').startswith("#") or not line.strip(_DELIMITERS + '" \r\n\ufeff'):
            pass
        else:
            heading = line
            break
        before += 1
    delimiter = delimiter or max(_DELIMITERS, key=lambda each: known(_cells_of(heading, each)))
    blanks = any(cell.lstrip() != cell and cell.lstrip().startswith('"') for cell in _cells_of(heading, delimiter))
    reader = csv.reader(chain([heading], lines), delimiter=delimiter, strict=True, skipinitialspace=blanks)
    headings = [cell.strip("\ufeff \t\r\n") for cell in next(reader, [])]
    return CsvTable(headings, list(_rows(reader, before)))


def _rows(reader: Iterator[list[str]], before: int) -> Iterator[tuple[int, list[str]]]:
    for cells in reader:
        if any(cell.strip() for cell in cells):
            yield before + reader.line_num, cells  # type: ignore[attr-defined]  # the type of csv.reader is private


def _cells_of(heading: str, delimiter: str) -> list[str]:
    return next(csv.reader([heading], delimiter=delimiter), [])


def _known_encoding(name: str) -> str:
    """The name of Python's codec. Raises UsageError."""
    by_codec = {codecs.lookup(each).name: each for each in ENCODINGS}
    try:
        if (codec := codecs.lookup(name.strip()).name.replace("utf-8-sig", "utf-8")) in by_codec:
            return codec
        if codec == "utf-16":
            return codec
    except (LookupError, ValueError):
        pass
    raise UsageError(
        _("Unknown encoding: {name}.").format(name=name),
        hint=_("Use one of: {options}").format(options=", ".join(ENCODINGS)),
    )
