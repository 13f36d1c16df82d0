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
        start = -self._unfinished
        while (limit := start + LINE_LIMIT + 2) < len(piece):
            end = piece.rfind(b"\n", max(start, 0), limit)
            if end < 0:
                self.found = True
                return
            start = end + 1
        end = piece.rfind(b"\n", max(start, 0))
        self._unfinished = len(piece) - (start if end < 0 else end + 1)
