"""Reader of a body: lines, and content up to the next boundary. PURE.

Guarantees: each octet is looked at a fixed number of times, whatever the sizes of the blocks and lines; memory is
bounded by one block and the limits below.
RFC 2046 section 5.1.1.
"""

from collections.abc import Callable, Iterator
from typing import Final

_BLOCK: Final = 64 * 1024  # octets that are gathered before the next look at them, and of one piece of content
BOUNDARY_LINE_LIMIT: Final = 1024  # octets; RFC 2046 permits 70 for a boundary


class BodyReader:
    """One reading, from the start to the end. Lines end in CRLF."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._buffer = b""
        self._at = 0  # of the first unread octet
        self._is_ended = False
        self.line_end = b""  # behind the content that was read last; empty without one

    def line(self, limit: int) -> bytes:
        """The next line with its line end, or the first `limit` octets of a longer one; empty at the end."""
        end = self._buffer.find(b"\r\n", self._at) + 2
        while end < 2 and len(self._buffer) - self._at < limit and self._fill():
            end = self._buffer.find(b"\r\n", self._at) + 2
        if end < 2:
            end = len(self._buffer)
        return self._take(min(end, self._at + limit))

    def header_line(self, is_boundary: Callable[[bytes], bool], limit: int) -> bytes:
        """As `line`, at the start of one; empty at a boundary too."""
        return b"" if self._starts_with_dashes() and is_boundary(self._peek_line()) else self.line(limit)

    def content(self, is_boundary: Callable[[bytes], bool]) -> Iterator[bytes]:
        """The content up to the next boundary or the end, in pieces of at most about _BLOCK octets.

        From the start of a line. The line end before the boundary is not part of it: `line_end` has it afterwards.
        """
        held = b""
        is_at_line_start = True
        while True:
            if is_at_line_start and self._starts_with_dashes() and is_boundary(self._peek_line()):
                break
            end = self._end_of_piece()
            if end == self._at:
                break
            piece = held + self._take(end)
            is_at_line_start = piece.endswith(b"\r\n")
            held = b"\r\n" if is_at_line_start else b""
            if len(piece) > len(held):
                yield piece[: len(piece) - len(held)]
        self.line_end = held

    def _end_of_piece(self) -> int:
        """The end of the next piece: before dashes at the start of a line, else behind a line end, else anywhere."""
        while len(self._buffer) - self._at < _BLOCK and self._fill():
            pass
        limit = min(len(self._buffer), self._at + _BLOCK)
        found = self._buffer.find(b"\r\n--", self._at, limit)
        if found >= 0:
            return found + 2
        end = self._buffer.rfind(b"\r\n", self._at, limit) + 2
        if end >= 2 and end > self._at:
            return end
        is_all = limit == len(self._buffer) and self._is_ended
        return limit if is_all or self._buffer[limit - 1 : limit] != b"\r" else max(limit - 1, self._at + 1)

    def _starts_with_dashes(self) -> bool:
        while len(self._buffer) - self._at < 2 and self._fill():
            pass
        return self._buffer.startswith(b"--", self._at)

    def _peek_line(self) -> bytes:
        """The line that begins here, without its line end; empty for one that is too long for a boundary."""
        while len(self._buffer) - self._at < BOUNDARY_LINE_LIMIT and self._fill():
            pass
        end = self._buffer.find(b"\r\n", self._at, self._at + BOUNDARY_LINE_LIMIT)
        if end < 0 and len(self._buffer) - self._at < BOUNDARY_LINE_LIMIT:
            end = len(self._buffer)
        return self._buffer[self._at : max(end, self._at)]

    def _take(self, end: int) -> bytes:
        taken, self._at = self._buffer[self._at : end], end
        return taken

    def _fill(self) -> bool:
        """Read more; False at the end."""
        if self._is_ended:
            return False
        gathered, size = [self._buffer[self._at :]], 0
        for block in self._blocks:
            gathered.append(block)
            size += len(block)
            if size >= _BLOCK:
                break
        else:
            self._is_ended = True
        self._buffer, self._at = b"".join(gathered), 0
        return size > 0
