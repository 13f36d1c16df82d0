"""Lines longer than SMTP allows: found while a message comes in, folded as it leaves. PURE.

Guarantees: no line that leaves `Folded` has more than 998 octets; only lines that had more are touched, each by a CRLF
and a blank in it (what Postfix does with them), and not inside a character of UTF-8 that is there in one piece. Memory
does not grow with the message.
RFC 5321 section 4.5.3.1.6, RFC 5322 section 2.1.1.
"""

from collections.abc import Iterator
from typing import Final

from senderproxy.mail.message import Body

LINE_LIMIT: Final = 998  # octets, without CRLF
_FOLD: Final = b"\r\n "


class LineMeter:
    """Feed it a clean stream (lines end in CRLF) in pieces; `found` says whether there was a line too long."""

    def __init__(self) -> None:
        self.found = False
        self._open = 0  # octets of the line that is not ended yet

    def feed(self, piece: bytes) -> None:
        """Look at one more piece. Jumps from line end to line end, a thousand octets at a time."""
        if self.found:
            return
        start = -self._open
        while (furthest := start + LINE_LIMIT + 2) < len(piece):
            end = piece.rfind(b"\n", max(start, 0), furthest)
            if end < 0:
                self.found = True
                return
            start = end + 1
        end = piece.rfind(b"\n", max(start, 0))
        self._open = len(piece) - (start if end < 0 else end + 1)


class Folded:
    """mail.message.Body: another body with its long lines folded."""

    def __init__(self, body: Body) -> None:
        self._body = body

    @property
    def size(self) -> int:
        """An estimate that is not too small: what SIZE= needs (RFC 1870 section 6.3)."""
        return self._body.size + len(_FOLD) * (self._body.size // (LINE_LIMIT - 4))

    @property
    def is_ascii(self) -> bool:
        """Folding adds ASCII only."""
        return self._body.is_ascii

    @property
    def has_long_lines(self) -> bool:
        """Not any more."""
        return False

    def keep(self) -> None:
        """One more keeps the body below."""
        self._body.keep()

    def close(self) -> None:
        """One less does."""
        self._body.close()

    def blocks(self) -> Iterator[bytes]:
        """The octets from the start."""
        column = 0  # octets in the line so far
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
    """The piece of a line that is here: what fits, a fold, what fits, and so on. A CR belongs to the line end."""
    pieces: list[bytes] = []
    end = len(line) - line.endswith(b"\r")
    position = 0
    while column + end - position > LINE_LIMIT:
        cut = _character_start(line, position, position + LINE_LIMIT - column)
        pieces += (line[position:cut], _FOLD)
        position, column = cut, 1
    return [*pieces, line[position:]]


def _character_start(line: bytes, least: int, cut: int) -> int:
    """Where the character of UTF-8 begins that the cut would go through; the cut itself where it is none."""
    for back in range(cut, max(least, cut - 4), -1):
        if line[back] & 0xC0 != 0x80:
            return back
    return cut
