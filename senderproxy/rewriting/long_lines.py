"""Lines longer than SMTP permits: detection on receipt. PURE.

Not here: their repair (rewriting.transfer_encoding).

RFC 5321 section 4.5.3.1.6, RFC 5322 section 2.1.1.
"""

from typing import Final

LINE_LIMIT: Final = 998  # octets, without CRLF


class LongLineDetector:
    """Incremental detector of long lines in a stream with CRLF line ends. `found` is True after a long line."""

    def __init__(self) -> None:
        self.found = False
        self._unfinished = 0  # octets of the current line so far

    def feed(self, piece: bytes) -> None:
        """Examine the next piece. Jumps from line end to line end, a thousand octets at a time."""
        if self.found:
            return
        size, start, limit = len(piece), 0, LINE_LIMIT + 2 - self._unfinished
        while limit < size:
            end = piece.rfind(b"\n", start, limit)
            if end < 0:
                self.found = True
                return
            start, limit = end + 1, end + LINE_LIMIT + 3
        end = piece.rfind(b"\n", start)
        self._unfinished = size - end - 1 if end >= 0 else self._unfinished + size if start == 0 else size - start
