"""Page: output of the demonstration on a terminal.

Guarantees: at most 100 columns; colour only on a terminal that wants it (NO_COLOR, TERM=dumb).
"""

import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Final

_MIN_WIDTH: Final = 80  # columns: three columns of addresses fit
_MAX_WIDTH: Final = 100  # columns: longer lines are hard to read

# Parameters of the control sequence SGR, ECMA-48 section 8.3.117.
BOLD: Final = "1"
FAINT: Final = "2"
UNDERLINED: Final = "4"
RED: Final = "31"
GREEN: Final = "32"


class Page:
    """Lines of text with titles, rows of three columns, and replies."""

    def __init__(self, *, colour: bool, width: int) -> None:
        self._colour = colour
        self._width = width

    @classmethod
    def for_stdout(cls) -> "Page":
        """The page for standard output, terminal or not."""
        plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
        columns = shutil.get_terminal_size().columns
        return cls(colour=sys.stdout.isatty() and not plain, width=min(_MAX_WIDTH, max(_MIN_WIDTH, columns)))

    def line(self, text: str = "") -> None:
        print(text, flush=True)

    def title(self, text: str) -> None:
        self.line()
        self.line(self._painted(text, BOLD))
        self.line()

    def row(self, author: str, reverse_path: str, login: str, note: str = "") -> None:
        faint_note = self._painted(note, FAINT) if note else ""
        self.line(f" {author:<24} {reverse_path:<24} {login:<19} {faint_note}".rstrip())

    def heading(self, author: str, reverse_path: str, login: str) -> None:
        text = f" {author:<24} {reverse_path:<24} {login}"
        self.line(self._painted(text, UNDERLINED) if self._colour else text)
        if not self._colour:
            self.line(f" {'-' * 24} {'-' * 24} {'-' * 19}")

    def reply(self, lines: Sequence[str]) -> None:
        """An SMTP reply, green if positive."""
        for line in lines:
            self.wrapped(line, GREEN if line.startswith("2") else RED)

    def wrapped(self, text: str, colour: str) -> None:
        """A text of any length below the row that it belongs to."""
        for line in textwrap.wrap(text, self._width - 4, subsequent_indent="  ", break_on_hyphens=False):
            self.line(f"    {self._painted(line, colour)}")

    def good(self, text: str) -> None:
        self.line(f" {self._painted(text, GREEN)}")

    def bad(self, text: str) -> None:
        self.line(f" {self._painted(text, RED)}")

    def _painted(self, text: str, parameter: str) -> str:
        return f"\x1b[{parameter}m{text}\x1b[0m" if self._colour else text
