"""Layout of output: width of text, line breaks, tables, colours, and the wishes of the environment. PURE.

Guarantees: a table fits the columns of the terminal, from 40 on, and loses no text of a cell: cells are wrapped, and
where the columns are too many, each row becomes a block of lines. Wide characters count as two columns.
Not here: the output itself (cli.terminal).
Widths are those of Unicode Standard Annex 11, colours those of ECMA-48 section 8.3.117; https://no-color.org,
https://force-color.org, https://bixense.com/clicolors.
"""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Final

from senderproxy.mail.display import printable as printable  # for commands

_LEAST: Final = 40  # columns; no terminal in use is narrower
_MOST: Final = 1000  # columns; more is a mistake in COLUMNS
_TEXT: Final = 8  # columns that a wrapped column has at least
_WORD: Final = 14  # columns; the id of a message has 12
_NUMBER: Final = 5  # columns of a heading above numbers, at least
_GAP: Final = 2  # columns between two columns of a table; one where it does not fit otherwise
_ELLIPSIS: Final = "…"


class Style(StrEnum):
    """Parameters of the control sequence SGR."""

    BOLD = "1"
    FAINT = "2"
    UNDERLINED = "4"
    RED = "31"
    GREEN = "32"
    YELLOW = "33"
    BOLD_RED = "1;31"


# ---- the environment ----


def wants_colour(environment: Mapping[str, str], *, is_terminal: bool) -> bool:
    """True if output may have colours. NO_COLOR comes first, as in Python itself; then the two that force them."""
    if environment.get("NO_COLOR"):
        return False
    if any(environment.get(name, "0") not in ("", "0") for name in ("FORCE_COLOR", "CLICOLOR_FORCE")):
        return True
    return is_terminal and environment.get("TERM") != "dumb" and environment.get("CLICOLOR") != "0"


def columns_of(environment: Mapping[str, str], terminal: int | None) -> int | None:
    """The columns of the output: COLUMNS, else those of the terminal; None for a file or a pipe: no limit."""
    wanted = environment.get("COLUMNS", "")
    columns = int(wanted) if wanted.isascii() and wanted.isdigit() and len(wanted) < 6 and int(wanted) else terminal
    return None if columns is None else min(_MOST, max(_LEAST, columns))


def painted(text: str, style: Style, *, colour: bool) -> str:
    """The text in this style; unchanged without colours."""
    return f"\x1b[{style}m{text}\x1b[0m" if colour and text else text


# ---- text ----


def display_width(text: str) -> int:
    """The columns that the text takes."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def padded(text: str, width: int) -> str:
    """The text with blanks up to the width."""
    return text + " " * (width - display_width(text))


def cut(text: str, width: int) -> str:
    """The text, with an ellipsis at its end if it is wider."""
    return text if display_width(text) <= width else _head(text, width - 1) + _ELLIPSIS


def _head(text: str, width: int) -> str:
    used = 0
    for index, character in enumerate(text):
        used += _columns(character)
        if used > width:
            return text[:index]
    return text


def wrapped(text: str, width: int) -> list[str]:
    """Lines of at most this width, at least 2, broken at blanks; a longer word is broken anywhere."""
    if display_width(text) <= width:
        return [text]
    lines: list[str] = []
    line, *words = text.split(" ")  # blanks at the beginning are empty words, and stay
    for word in [*words, None]:
        if word is not None and display_width(longer := f"{line} {word}") <= width:
            line = longer
            continue
        while display_width(line) > width:
            head = _head(line, width)
            lines.append(head)
            line = line[len(head) :]
        lines.append(line)
        line = word or ""
    return lines


def hanging(text: str, width: int | None, indent: int) -> str:
    """The text on lines of at most this width, all but the first indented; on one line without a width."""
    if width is None or width - indent < _TEXT:
        return text
    first, *others = wrapped(text, width)
    if not others:
        return text
    # The first line is wider than the others by the indentation.
    rest = text[len(first) :].lstrip(" ")
    return "\n".join([first, *(" " * indent + line for line in wrapped(rest, width - indent))])


# ---- tables ----


def table_lines(headings: Sequence[str], rows: Sequence[Sequence[str]], width: int | None) -> Iterator[str]:
    """The lines of a table in at most `width` columns; as wide as its contents without it. Cells are made printable."""
    cells = [[printable(cell) for cell in row] for row in rows]
    natural = [max(map(display_width, column)) for column in zip(headings, *cells, strict=True)]
    if width is None:
        widths, gap = natural, _GAP
    else:
        least = [_least(column, full) for column, full in zip(zip(*cells, strict=True), natural, strict=True)]
        if not cells or len(least) != len(headings):
            least = natural
        gap = _GAP if sum(least) + _GAP * (len(least) - 1) <= width else 1
        space = width - gap * (len(natural) - 1)
        if sum(least) > space:
            yield from _blocks(headings, cells, width)
            return
        widths = _fitted(natural, least, space)
    between = " " * gap
    yield between.join(padded(cut(text, w), w) for text, w in zip(headings, widths, strict=True)).rstrip()
    for row in cells:
        parts = [wrapped(cell, w) for cell, w in zip(row, widths, strict=True)]
        for number in range(max(map(len, parts))):
            line = [
                padded(part[number] if number < len(part) else "", w) for part, w in zip(parts, widths, strict=True)
            ]
            yield between.join(line).rstrip()


def _least(cells: Sequence[str], natural: int) -> int:
    """The columns that a column needs: neither numbers nor short words, such as ids, are wrapped."""
    if all(cell.isdigit() or len(cell) < 2 for cell in cells):
        return min(natural, max(_NUMBER, *(len(cell) for cell in cells)))
    longest = max(map(display_width, cells))
    if longest <= _WORD and not any(" " in cell for cell in cells):
        return min(natural, max(longest, _NUMBER))
    return min(natural, _TEXT)


def _fitted(natural: Sequence[int], least: Sequence[int], space: int) -> list[int]:
    """The widths: the widest columns give way first."""
    widths = list(natural)
    while sum(widths) > space:
        shrinkable = [index for index, width in enumerate(widths) if width > least[index]]
        widest = max(shrinkable, key=lambda index: widths[index])
        widths[widest] -= 1
    return widths


def _blocks(headings: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    """Each row as lines of a heading and a cell."""
    first = min(max(map(display_width, headings)), width // 2)
    for number, row in enumerate(rows):
        if number:
            yield ""
        for heading, cell in zip(headings, row, strict=True):
            name = padded(cut(heading, first), first)
            for line in wrapped(cell, width - first - _GAP):
                yield f"{name}{' ' * _GAP}{line}".rstrip()
                name = " " * first
