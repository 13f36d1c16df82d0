"""Removal and addition of dot-stuffing in a stream of blocks. PURE.

Guarantees: the result does not depend on the boundaries of the blocks; what is removed and added again is the same.
RFC 5321 section 4.5.2.
"""

from collections.abc import Iterable, Iterator


def remove_dots(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the blocks of a body without dot-stuffing. Line ends are CRLF."""
    at_line_start = True
    for block in blocks:
        if not block:
            continue
        plain = block.replace(b"\n.", b"\n")
        if at_line_start and block.startswith(b"."):
            plain = plain[1:]
        at_line_start = block.endswith(b"\n")
        yield plain


class DotStuffer:
    """Adds dot-stuffing to one body."""

    def __init__(self) -> None:
        self._at_line_start = True

    def add_dots(self, piece: bytes) -> bytes:
        """Return the next piece of the body with dot-stuffing."""
        if not piece:
            return piece
        stuffed = piece.replace(b"\n.", b"\n..")
        if self._at_line_start and piece.startswith(b"."):
            stuffed = b"." + stuffed
        self._at_line_start = piece.endswith(b"\n")
        return stuffed
