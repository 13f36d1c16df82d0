"""Lines longer than SMTP permits: detection on receipt, folding on delivery. PURE.

Guarantees: no line of a `FoldedBody` has more than 998 octets. Only longer lines are changed, by an inserted CRLF and a
blank (as Postfix does), and never inside a complete UTF-8 character. Memory use is independent of the message size.

RFC 5321 section 4.5.3.1.6, RFC 5322 section 2.1.1.
"""

from collections.abc import Iterator
from typing import Final

from senderproxy.mail.message import Body, Disk

LINE_LIMIT: Final = 998  # octets, without CRLF
_FOLD: Final = b"\r\n "


class LongLineDetector:
    """Incremental detector of long lines in a stream with CRLF line ends. `found` is True after a long line."""

    def __init__(self) -> None:
        self.found = False
        self._unfinished = 0  # octets of the current line so far

    def feed(self, piece: bytes) -> None:
        """Examine the next piece. Jumps from line end to line end, a thousand octets at a time."""
        if self.found:
            return
        start = -self._unfinished
        while (limit := start + LINE_LIMIT + 2) < len(piece):
            end = piece.rfind(b"\n", max(start, 0), limit)
            if end < 0:
                self.found = True
                return
            start = end + 1
        end = piece.rfind(b"\n", max(start, 0))
        self._unfinished = len(piece) - (start if end < 0 else end + 1)


class FoldedBody:
    """A mail.message.Body that folds the long lines of another body."""

    def __init__(self, body: Body) -> None:
        self._body = body

    @property
    def size(self) -> int:
        """Upper bound in octets, as SIZE= requires (RFC 1870 section 6.3)."""
        return self._body.size + len(_FOLD) * (self._body.size // (LINE_LIMIT - 4))

    @property
    def is_ascii(self) -> bool:
        """Folding adds ASCII only."""
        return self._body.is_ascii

    @property
    def has_long_lines(self) -> bool:
        """Always False."""
        return False

    @property
    def disk(self) -> Disk | None:
        """That of the underlying body."""
        return self._body.disk

    def retain(self) -> None:
        """Add a user of the underlying body."""
        self._body.retain()

    def close(self) -> None:
        """Remove a user of the underlying body."""
        self._body.close()

    def blocks(self) -> Iterator[bytes]:
        """The folded octets from the start, in blocks."""
        column = 0  # octets of the current line so far
        for block in self._body.blocks():
            *ended, rest = block.split(b"\n")
            pieces: list[bytes] = []
            for line in ended:
                pieces += _fold(line, column)
                pieces.append(b"\n")
                column = 0
            last = _fold(rest, column)
            pieces += last
            column = (column if len(last) == 1 else 1) + len(last[-1]) - rest.endswith(b"\r")
            yield b"".join(pieces)


def _fold(line: bytes, column: int) -> list[bytes]:
    """Split a piece of a line into parts that fit, with a fold between them. A final CR belongs to the line end."""
    pieces: list[bytes] = []
    end = len(line) - line.endswith(b"\r")
    position = 0
    while column + end - position > LINE_LIMIT:
        cut = _character_start(line, position, position + LINE_LIMIT - column)
        pieces += (line[position:cut], _FOLD)
        position, column = cut, 1
    return [*pieces, line[position:]]


def _character_start(line: bytes, least: int, cut: int) -> int:
    """Return the start of the UTF-8 character that the cut would split, else the cut itself."""
    for back in range(cut, max(least, cut - 4), -1):
        if line[back] & 0xC0 != 0x80:
            return back
    return cut
