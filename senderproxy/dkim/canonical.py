"""Canonicalization of header fields and bodies, and the hash of a body. PURE.

Guarantees: time in proportion to the octets. Memory for one block of a body, whatever its size and the length of its
lines; the hash does not depend on the boundaries of the blocks.
Not here: the fields that are signed (dkim.signature). RFC 6376 section 3.4.
"""

import hashlib
from collections.abc import Iterable
from typing import Final

_TAB_AS_BLANK: Final = bytes.maketrans(b"\t", b" ")
_CRLF: Final = b"\r\n"
_LINES_AT_ONCE: Final = 8192  # empty lines that are hashed in one piece


def relaxed_field(name: bytes, value: bytes) -> bytes:
    """One field in canonical form, with its CRLF. `value`: as written, folded, without the last CRLF.

    RFC 6376 section 3.4.2. Its WSP is blank and tab only; other control characters stay.
    """
    unfolded = value.replace(_CRLF, b"").translate(_TAB_AS_BLANK)
    return name.lower() + b":" + b" ".join(filter(None, unfolded.split(b" "))) + _CRLF


def simple_field(name: bytes, value: bytes) -> bytes:
    """One field as written, with its CRLF; blanks before the colon are lost. RFC 6376 section 3.4.1."""
    return name + b":" + value + _CRLF


class RelaxedBodyHash:
    """SHA-256 of one body in canonical form, fed in blocks. RFC 6376 section 3.4.4."""

    __slots__ = ("_empty_lines", "_hash", "_is_empty", "_rest")

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._rest = b""  # the start of what may be the end of a line: a blank, a CR, or both
        self._empty_lines = 0  # ends of lines that count only if text follows
        self._is_empty = True

    def feed(self, block: bytes) -> None:
        """The next octets of the body, without dot-stuffing."""
        text = self._rest + block
        if b"\t" in text:
            text = text.translate(_TAB_AS_BLANK)
        while b"  " in text:  # each pass halves the runs of blanks, so all passes together are linear
            text = text.replace(b"  ", b" ")
        text = text.replace(b" \r\n", _CRLF)
        end = len(text) - text.endswith(b"\r")
        end -= text.endswith(b" ", 0, end)
        self._rest = text[end:]
        kept = len(text[:end].rstrip(_CRLF))
        lines = (end - kept) // 2
        if kept + 2 * lines != end or text[kept:end] != _CRLF * lines:  # a bare CR or LF, which the listener refuses
            kept, lines = end, 0
        if kept:
            self._add_lines()
            self._hash.update(memoryview(text)[:kept])
            self._is_empty = False
        self._empty_lines += lines

    def digest(self) -> bytes:
        """The 32 octets of the hash, at the end of the body."""
        if self._rest.endswith(b"\r"):
            self._add_lines()
            self._hash.update(self._rest)
            self._is_empty = False
        if self._is_empty:
            return self._hash.digest()
        ended = self._hash.copy()
        ended.update(_CRLF)
        return ended.digest()

    def _add_lines(self) -> None:
        """The ends of lines before a text that follows."""
        while self._empty_lines:
            count = min(self._empty_lines, _LINES_AT_ONCE)
            self._hash.update(_CRLF * count)
            self._empty_lines -= count


class SimpleBodyHash:
    """SHA-256 of one body in the form `simple`, fed in blocks: without empty lines at its end. RFC 6376 3.4.3."""

    __slots__ = ("_ends", "_hash", "_held_cr")

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._held_cr = b""
        self._ends = 0  # ends of lines at the end so far

    def feed(self, block: bytes) -> None:
        """The next octets of the body, without dot-stuffing."""
        text = self._held_cr + block
        end = len(text) - text.endswith(b"\r")
        self._held_cr = text[end:]
        kept = len(text[:end].rstrip(_CRLF))
        ends = (end - kept) // 2
        if kept + 2 * ends != end or text[kept:end] != _CRLF * ends:
            kept, ends = end, 0
        if kept:
            while self._ends:
                count = min(self._ends, _LINES_AT_ONCE)
                self._hash.update(_CRLF * count)
                self._ends -= count
            self._hash.update(memoryview(text)[:kept])
        self._ends += ends

    def digest(self) -> bytes:
        """The 32 octets of the hash, at the end of the body."""
        ended = self._hash.copy()
        ended.update(_CRLF)
        return ended.digest()


def body_hash(blocks: Iterable[bytes]) -> bytes:
    """The hash of a body without dot-stuffing."""
    hashed = RelaxedBodyHash()
    for block in blocks:
        hashed.feed(block)
    return hashed.digest()
