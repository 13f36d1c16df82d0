"""Transfer encodings: reading and editing in place, and writing anew. PURE.

Guarantees: an edit writes the octets before the place of the insertion as they were, but for the line or, in base64,
the piece in which that place is. One pass, memory bounded by the pieces. Damaged encodings are declined where an edit
could change what a reader decodes.
RFC 2045 section 6.
"""

import binascii
import re
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from senderproxy.footer.reasons import ENCODING, Declined

_BASE64_LINE: Final = 57  # octets; 76 characters
_PIECE: Final = 8192  # octets of a line that are encoded at a time
_UNALIGNED_LIMIT: Final = 256 * 1024  # octets of base64 that are kept until a group of four characters ends with them

_NO_BASE64: Final = bytes(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="))
_QUOTED_TOKEN: Final = re.compile(rb"=[0-9A-Fa-f]{2}|=\r\n|[^=]")
_DASHES: Final = re.compile(rb"^--", re.MULTILINE)


class Transfer(Protocol):
    """A transfer encoding that is edited in place."""

    def units(self, piece: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Pieces as they are with the octets that they encode."""
        ...

    def end(self) -> Iterator[tuple[bytes, bytes]]:
        """The pieces that were kept back. Raises Declined."""
        ...

    def insert(self, raw: bytes, content: bytes, place: int, octets: bytes) -> bytes:
        """`raw`, which encodes `content`, with `octets` inserted at a place of the content. Raises Declined.

        `octets` begin with CRLF, or are inserted into nothing; they end with CRLF if something follows.
        """
        ...


class Unencoded:
    """7bit, 8bit and binary."""

    def units(self, piece: bytes) -> Iterator[tuple[bytes, bytes]]:
        yield piece, piece

    def end(self) -> Iterator[tuple[bytes, bytes]]:
        yield from ()

    def insert(self, raw: bytes, content: bytes, place: int, octets: bytes) -> bytes:  # noqa: ARG002  raw is the content
        return raw[:place] + octets + raw[place:]


class QuotedPrintableTransfer:
    """quoted-printable: lines are independent of each other."""

    def __init__(self) -> None:
        self._rest = b""

    def units(self, piece: bytes) -> Iterator[tuple[bytes, bytes]]:
        piece = self._rest + piece
        held = 2 if piece[-2:-1] == b"=" else 1 if piece[-1:] == b"=" else 0
        self._rest = piece[len(piece) - held :]
        if held < len(piece):
            piece = piece[: len(piece) - held]
            yield piece, binascii.a2b_qp(piece)

    def end(self) -> Iterator[tuple[bytes, bytes]]:
        if self._rest:
            yield self._rest, binascii.a2b_qp(self._rest)

    def insert(self, raw: bytes, content: bytes, place: int, octets: bytes) -> bytes:
        at = len(raw) if place == len(content) else _raw_place(raw, content, place)
        before = raw[:at]
        if before.endswith(b"="):  # a soft line break without its line end
            before += b"\r\n"
        elif before.endswith((b" ", b"\t")):  # blanks at the end of a line are not part of the text
            before += b"=\r\n"
        return before + b"\r\n".join(map(_quoted_line, octets.split(b"\r\n"))) + raw[at:]


def _raw_place(raw: bytes, content: bytes, place: int) -> int:
    """The place in quoted-printable that encodes a place of the content."""
    count = at = 0
    for line in raw.splitlines(keepends=True):
        octets = len(binascii.a2b_qp(line))
        if count + octets > place:
            break
        count, at = count + octets, at + len(line)
    for token in _QUOTED_TOKEN.finditer(raw, at):
        if count == place or token.start() != at:
            break
        count, at = count + (token[0] != b"=\r\n"), token.end()
    if count != place or binascii.a2b_qp(raw[:at]) != content[:place] or binascii.a2b_qp(raw[at:]) != content[place:]:
        raise Declined(ENCODING)
    return at


def _quoted_line(line: bytes) -> bytes:
    """A line in quoted-printable. No line of the result looks like a boundary."""
    encoded = binascii.b2a_qp(line, istext=False)
    return _DASHES.sub(b"=2D-", encoded).replace(b"=\n", b"=\r\n")


class Base64Transfer:
    """base64: pieces of whole groups of four characters."""

    def __init__(self) -> None:
        self._raw = b""
        self._characters = b""
        self._is_padded = False

    def units(self, piece: bytes) -> Iterator[tuple[bytes, bytes]]:
        self._raw += piece
        self._characters += piece.translate(None, _NO_BASE64)
        if len(self._raw) > _UNALIGNED_LIMIT:
            raise Declined(ENCODING)
        if self._characters and len(self._characters) % 4 == 0:
            yield self._unit()

    def end(self) -> Iterator[tuple[bytes, bytes]]:
        if self._characters:
            raise Declined(ENCODING)
        if self._raw:
            yield self._raw, b""

    def _unit(self) -> tuple[bytes, bytes]:
        raw, characters = self._raw, self._characters
        self._raw = self._characters = b""
        if self._is_padded:
            raise Declined(ENCODING)
        self._is_padded = b"=" in characters
        try:
            return raw, binascii.a2b_base64(characters, strict_mode=True)
        except binascii.Error as error:
            raise Declined(ENCODING) from error

    def insert(self, raw: bytes, content: bytes, place: int, octets: bytes) -> bytes:
        first = len(raw) - len(raw.lstrip(b"\r\n"))
        last = len(raw.rstrip(b"\r\n")) if content else first
        lines: list[bytes] = []
        writer = Base64Encoder(lines.append)
        writer.write(content[:place] + octets + content[place:])
        writer.end()
        return raw[:first] + b"".join(lines) + raw[max(first, last) :]


class TextEncoder(Protocol):
    """A part that is encoded anew."""

    def write(self, octets: bytes) -> None:
        """More of the content."""
        ...

    def end(self) -> None:
        """The end of the content."""
        ...


class QuotedPrintableEncoder:
    """A text in quoted-printable."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._rest = b""

    def write(self, octets: bytes) -> None:
        *lines, rest = (self._rest + octets).split(b"\r\n")
        if lines:
            self._write(b"\r\n".join([*map(_quoted_line, lines), b""]))
        if len(rest) > _PIECE:
            self._write(_quoted_line(rest[:-1]) + b"=\r\n")
            rest = rest[-1:]  # which may be half of a line end
        self._rest = rest

    def end(self) -> None:
        self._write(_quoted_line(self._rest))


class Base64Encoder:
    """Any content in base64."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._rest = b""
        self._line_end = b""

    def write(self, octets: bytes) -> None:
        octets = self._rest + octets
        whole = len(octets) - len(octets) % _BASE64_LINE
        for at in range(0, whole, _BASE64_LINE):
            self._line(octets[at : at + _BASE64_LINE])
        self._rest = octets[whole:]

    def end(self) -> None:
        if self._rest:
            self._line(self._rest)

    def _line(self, octets: bytes) -> None:
        self._write(self._line_end + binascii.b2a_base64(octets, newline=False))
        self._line_end = b"\r\n"
