"""Line numbers of the sections and settings in a TOML text. PURE.

Guarantees: for a text that tomllib accepts, the line of each section and of each `name = value`; for any text, no
exception.
Not here: the values (tomllib).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeAlias

SettingPath: TypeAlias = tuple[str | int, ...]

_HEADING: Final = re.compile(r"\s*+(\[\[?)([^\]#]*+)\]")
_ENTRY: Final = re.compile(r"""\s*+((?>(?:[A-Za-z0-9_\-.\s]++|"[^"]*+"|'[^']*+')+))=(.*)""", re.DOTALL)
_KEY_PART: Final = re.compile(r"""\s*+(?:"([^"]*+)"|'([^']*+)'|([A-Za-z0-9_\-]++))\s*+(?:\.|\Z)""")
# An unclosed string runs to the end of its line, so that each octet is looked at once.
_STRING: Final = re.compile(r'"(?>(?:[^"\\]++|\\.)*)(?:"|\\?\Z)|' + r"'[^']*+(?:'|\Z)")
_COMMENT: Final = re.compile(r"#.*")


def locate_settings(text: str) -> Mapping[SettingPath, int]:
    """The line on which each section and setting begins, from 1."""
    lines: dict[SettingPath, int] = {}
    last: dict[SettingPath, int] = {}  # the index of the current section of each [[list]]
    section: SettingPath = ()
    scanner = _ValueScanner()
    for number, line in enumerate(text.splitlines(), 1):
        if scanner.inside_value:
            scanner.feed(line)
        elif heading := _HEADING.match(line):
            section = _enter(_parts(heading.group(2)), last, listed=heading.group(1) == "[[")
            lines.setdefault(section, number)
        elif entry := _ENTRY.match(line):
            lines.setdefault(section + tuple(_parts(entry.group(1))), number)
            scanner.feed(entry.group(2))
    return lines


def last_line_of_value(lines: Sequence[str], first: int) -> int | None:
    """The last line of the setting that begins on the line `first`, both from 0; None if its value does not end."""
    entry = _ENTRY.match(lines[first])
    scanner = _ValueScanner()
    if entry is not None:
        scanner.feed(entry.group(2))
    last = first
    while scanner.inside_value:
        last += 1
        if last == len(lines):
            return None
        scanner.feed(lines[last])
    return last


def line_of(path: SettingPath, lines: Mapping[SettingPath, int]) -> int | None:
    """The line of the setting, or of the section to which it belongs; None if neither is in the text."""
    return next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), None)


def _enter(parts: list[str], last: dict[SettingPath, int], *, listed: bool) -> SettingPath:
    section: SettingPath = ()
    for index, part in enumerate(parts):
        section += (part,)
        if listed and index == len(parts) - 1:
            last[section] = last.get(section, -1) + 1
        if section in last:
            section += (last[section],)
    return section


def _parts(dotted: str) -> list[str]:
    return list(_each_part(dotted))


def _each_part(dotted: str) -> Iterator[str]:
    position = 0
    while found := _KEY_PART.match(dotted, position):
        yield next(group for group in found.groups() if group is not None)
        position = found.end()
        if position == len(dotted):
            return


class _ValueScanner:
    """Scanner of values over several lines: lists in brackets, and text in three quotation marks."""

    def __init__(self) -> None:
        self._open_brackets = 0
        self._open_quotes: str | None = None

    @property
    def inside_value(self) -> bool:
        return self._open_brackets > 0 or self._open_quotes is not None

    def feed(self, line: str) -> None:
        while line:
            if self._open_quotes is not None:
                _, closed, line = line.partition(self._open_quotes)
                if closed:
                    self._open_quotes = None
                continue
            begin = re.search(r"\"\"\"|'''", line)
            self._count_brackets(line[: begin.start()] if begin else line)
            self._open_quotes = begin.group() if begin else None
            line = line[begin.end() :] if begin else ""

    def _count_brackets(self, line: str) -> None:
        bare = _COMMENT.sub("", _STRING.sub("", line))
        self._open_brackets = max(
            0, self._open_brackets + sum(bare.count(c) for c in "[{") - sum(bare.count(c) for c in "]}")
        )
