"""Search for a line in a text that quotes and re-wraps it. PURE.

Guarantees: only letters and digits count, so marks of quoting, blanks and line ends inside the line do not matter;
the line must begin and end where a line of the text does. Time is linear, memory bounded.
"""

import re
from typing import Final

_NEEDLE_LIMIT: Final = 100  # letters and digits of the line that are compared
_BLOCK: Final = 4096  # characters that are gathered before a search

_IGNORED: Final = re.compile(r"[^\w\n]++|_++")
_LINE_ENDS: Final = re.compile(r"\n++")


def first_line(text: str) -> str:
    """The first line with a letter or digit; empty without one."""
    return next((line for line in text.splitlines() if _IGNORED.sub("", line)), "")


class LineSearch:
    """One search. `found` is True as soon as the line was there."""

    def __init__(self, line: str) -> None:
        needle = _IGNORED.sub("", line.replace("\n", " "))
        self._needle = needle[:_NEEDLE_LIMIT]
        self._is_cut = len(needle) > _NEEDLE_LIMIT
        self._tail = "\n"
        self._waiting: list[str] = []
        self._size = 0
        self.found = False

    def feed(self, text: str) -> None:
        """More of the text; a line ends in a line feed."""
        self._waiting.append(text)
        self._size += len(text)
        if self._size >= _BLOCK:
            self._search()

    def end(self) -> None:
        """The end of the text."""
        self._waiting.append("\n")
        self._search()

    def _search(self) -> None:
        text = _LINE_ENDS.sub("\n", self._tail + _IGNORED.sub("", "".join(self._waiting)))
        self._waiting.clear()
        self._size = 0
        plain = text.replace("\n", "")
        if self._needle and self._needle in plain:
            self.found = self.found or self._is_line(text, plain)
        self._tail = text[-2 * len(self._needle) - 2 :]

    def _is_line(self, text: str, plain: str) -> bool:
        """True if the needle is a line in `text`, not only a part of one. `plain` is without line ends."""
        edges, position = set[int](), 0
        for line in text.split("\n")[:-1]:
            position += len(line)
            edges.add(position)
        at = plain.find(self._needle)
        while at >= 0:
            if at in edges and (self._is_cut or at + len(self._needle) in edges):
                return True
            at = plain.find(self._needle, at + 1)
        return False
