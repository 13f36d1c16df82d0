"""Page: output of the demonstration on a terminal.

Guarantees: at most 100 columns; colour only on a terminal that wants it (cli.screen).
"""

import textwrap
from collections.abc import Sequence
from typing import Final

from senderproxy.cli.screen import Style, painted
from senderproxy.cli.terminal import has_colours, output_columns

_MIN_WIDTH: Final = 80  # columns: three columns of addresses fit
_MAX_WIDTH: Final = 100  # columns: longer lines are hard to read


class Page:
    """Lines of text with titles, rows of three columns, and replies."""

    def __init__(self, *, colour: bool, width: int) -> None:
        self._colour = colour
        self._width = width

    @classmethod
    def for_stdout(cls) -> "Page":
        """The page for standard output, terminal or not."""
        return cls(colour=has_colours(), width=min(_MAX_WIDTH, max(_MIN_WIDTH, output_columns() or _MIN_WIDTH)))

    def line(self, text: str = "") -> None:
        print(text, flush=True)

    def title(self, text: str) -> None:
        self.line()
        self.line(self._painted(text, Style.BOLD))
        self.line()

    def row(self, author: str, reverse_path: str, login: str, note: str = "") -> None:
        faint_note = self._painted(note, Style.FAINT) if note else ""
        self.line(f" {author:<24} {reverse_path:<24} {login:<19} {faint_note}".rstrip())

    def heading(self, author: str, reverse_path: str, login: str) -> None:
        text = f" {author:<24} {reverse_path:<24} {login}"
        self.line(self._painted(text, Style.UNDERLINED) if self._colour else text)
        if not self._colour:
            self.line(f" {'-' * 24} {'-' * 24} {'-' * 19}")

    def reply(self, lines: Sequence[str]) -> None:
        """An SMTP reply, green if positive."""
        for line in lines:
            self.wrapped(line, Style.GREEN if line.startswith("2") else Style.RED)

    def wrapped(self, text: str, style: Style) -> None:
        """A text of any length below the row that it belongs to."""
        for line in textwrap.wrap(text, self._width - 4, subsequent_indent="  ", break_on_hyphens=False):
            self.line(f"    {self._painted(line, style)}")

    def good(self, text: str) -> None:
        self.line(f" {self._painted(text, Style.GREEN)}")

    def bad(self, text: str) -> None:
        self.line(f" {self._painted(text, Style.RED)}")

    def _painted(self, text: str, style: Style) -> str:
        return painted(text, style, colour=self._colour)
