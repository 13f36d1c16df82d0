"""Re-encoding of content that a server may refuse: lines above 998 octets, and octets above 127 without 8BITMIME. PURE.

Guarantees: afterwards no line is too long and, with `seven_bit`, every octet is ASCII; what a reader decodes is the
same. Nothing signed is changed: neither a multipart/signed nor a message with a DKIM signature. Text becomes
quoted-printable, all else base64. One pass, bounded memory.
Not here: the structure of the body (rewriting.mime_walker), the choice of messages (relay.decide, relay.attempt).
RFC 2045 sections 5 and 6, RFC 6152 section 3, RFC 1428 (unknown-8bit).
"""

import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from senderproxy.mail.header import Edit, HeaderSection
from senderproxy.rewriting.content_change import Unchanged, Write
from senderproxy.rewriting.long_lines import LINE_LIMIT
from senderproxy.rewriting.mime_walker import ContentType, Leaf, MimeLimitExceeded, MimeWalker, content_type
from senderproxy.rewriting.repair import encode_value

_UNDECIDED_LIMIT: Final = 64 * 1024  # octets of a part that are read before its encoding is decided
_BASE64_LINE: Final = 57  # octets; 76 characters
_ENCODED: Final = frozenset({"quoted-printable", "base64"})
_CTE: Final = "Content-Transfer-Encoding"


@dataclass(frozen=True, slots=True)
class Reencode:
    """A content change: re-encode long lines and, with `seven_bit`, octets outside ASCII.

    `spares_signed`: not if any part may be signed, by S/MIME, PGP or the DKIM signature of an enclosed message.
    """

    seven_bit: bool = False
    spares_signed: bool = False

    def apply(self, header: HeaderSection, body: Iterator[bytes], write: Write) -> HeaderSection | Unchanged:
        """See rewriting.content_change.ContentChange."""
        if header.rest not in (b"", b"\r\n"):
            return Unchanged("text of the message is in its header section")
        if header.values("DKIM-Signature"):
            return Unchanged("the message has a DKIM signature, which a change of its encoding would break")
        if (kind := content_type(header)).kind == "multipart" and kind.subtype == "signed":
            return Unchanged("the message is signed, so its encoding cannot be changed")
        encoder = _Encoder(header, write, seven_bit=self.seven_bit)
        try:
            MimeWalker(encoder).walk(header, _unsigned(header, body) if self.spares_signed else body)
        except MimeLimitExceeded as error:
            return Unchanged(f"its structure cannot be read: {error}")
        except _SignedPart:
            return Unchanged("a part of it may be signed, so its encoding cannot be changed")
        encoder.finish()
        return encoder.message_header


class _SignedPart(Exception):
    """A part of the body may be signed."""


# In lower case. Text that only mentions one of them stays as it is, too.
_SIGNED_MARKS: Final = (b"multipart/signed", b"pkcs7-", b"-----begin pgp signed", b"\ndkim-signature:")
_LONGEST_MARK: Final = max(map(len, _SIGNED_MARKS))


def _unsigned(header: HeaderSection, body: Iterator[bytes]) -> Iterator[bytes]:
    """The blocks of the body. Raises _SignedPart at the first mark of a signature."""
    before = b"\n".join(header.values("Content-Type")).lower() + b"\n"
    for block in body:
        text = before + block.lower()
        if any(mark in text for mark in _SIGNED_MARKS):
            raise _SignedPart
        before = text[-_LONGEST_MARK:]
        yield block


class _Encoder:
    """The handler of the walk."""

    def __init__(self, header: HeaderSection, write: Write, *, seven_bit: bool) -> None:
        self.seven_bit = seven_bit
        self.message_header = self.container(header) if content_type(header).kind == "multipart" else header
        self._write = write
        self._last = b"\r\n"
        self._between = 0  # octets of the current line around the parts

    def write(self, octets: bytes) -> None:
        if octets:
            self._last = (self._last + octets[-2:])[-2:]
            self._write(octets)

    def between(self, octets: bytes, *, ends: bool) -> None:
        """Text that readers do not show leaves only if it is good."""
        self._between += len(octets)
        if not self.is_bad(self._between, octets):
            self.write(octets)
        if ends:
            self._between = 0
            self.write(b"\r\n")

    def finish(self) -> None:
        """End the body with CRLF, as the end of the data requires."""
        if self._last != b"\r\n":
            self.write(b"\r\n")

    def container(self, header: HeaderSection) -> HeaderSection:
        """With `seven_bit` its declared encoding is 7bit: none of its parts is 8-bit any more."""
        if not self.seven_bit:
            return header
        header = _ascii(header)
        edits = [Edit(_CTE, b"7bit", place) for place in header.indexes().get(_CTE.lower(), ())]
        return header.with_edits(edits)

    def leaf(self, header: HeaderSection | None, kind: ContentType, encoding: str) -> Leaf:
        if encoding == "base64":
            self.begin(header, None)
            return _Base64Lines(self)
        if encoding == "quoted-printable":
            self.begin(header, None)
            return _QuotedLines(self)
        if kind.kind == "message":  # RFC 2046 section 5.2: no other encoding is permitted
            self.begin(header, None)
            return _Verbatim(self)
        return _Undecided(self, header, kind)

    def begin(self, header: HeaderSection | None, encoding: str | None, *, eight_bit: bool = False) -> None:
        """Write the header section of a leaf, with its new encoding; the message's own is returned later."""
        changed = self.message_header if header is None else header
        if self.seven_bit:
            changed = _ascii(changed)
        if encoding is not None:
            changed = _with_encoding(changed, encoding, eight_bit=eight_bit, is_message=header is None)
        if header is None:
            self.message_header = changed
        else:
            self.write(changed.raw)

    def is_bad(self, line_octets: int, octets: bytes) -> bool:
        """True for octets that must not leave as they are."""
        return line_octets > LINE_LIMIT or (self.seven_bit and not octets.isascii())


def _ascii(header: HeaderSection) -> HeaderSection:
    """The header section of a part with encoded words for octets above 127."""
    if header.raw.isascii():
        return header
    fields = header.split()[0]
    edits = [
        Edit(field.name, encode_value(field.value).strip(), index)
        for index, field in enumerate(fields)
        if not field.value.isascii()
    ]
    return header.with_edits(edits)


def _with_encoding(header: HeaderSection, encoding: str, *, eight_bit: bool, is_message: bool) -> HeaderSection:
    places = header.indexes().get(_CTE.lower(), ())
    edits = [Edit(_CTE, encoding.encode("ascii"), places[0] if places else None)]
    edits += [Edit(_CTE, None, place) for place in places[1:]]
    if not header.values("Content-Type"):
        charset = b"unknown-8bit" if eight_bit else b"us-ascii"
        edits.append(Edit("Content-Type", b"text/plain; charset=" + charset))
    if is_message and not header.values("MIME-Version"):
        edits.append(Edit("MIME-Version", b"1.0"))
    return header.with_edits(edits)


class _Verbatim:
    """A part that leaves as it is."""

    def __init__(self, encoder: _Encoder) -> None:
        self._encoder = encoder

    def text(self, octets: bytes) -> None:
        self._encoder.write(octets)

    def line_end(self) -> None:
        self._encoder.write(b"\r\n")

    def end(self) -> None:
        pass


class _Undecided:
    """A part without an encoding: kept until it is clear whether it needs one."""

    def __init__(self, encoder: _Encoder, header: HeaderSection | None, kind: ContentType) -> None:
        self._encoder = encoder
        self._header = header
        self._kind = kind
        self._kept: list[bytes | None] = []  # None: the end of a line
        self._size = 0
        self._line = 0
        self._leaf: Leaf | None = None

    def text(self, octets: bytes) -> None:
        self._line += len(octets)
        self._size += len(octets)
        if self._leaf is not None:
            self._leaf.text(octets)
            return
        self._kept.append(octets)
        if self._encoder.is_bad(self._line, octets) or self._size > _UNDECIDED_LIMIT:
            self._decide(eight_bit=not octets.isascii())

    def line_end(self) -> None:
        self._line = 0
        self._size += 2
        if self._leaf is not None:
            self._leaf.line_end()
        else:
            self._kept.append(None)

    def end(self) -> None:
        if self._leaf is None:
            self._encoder.begin(self._header, None)
            self._replay(_Verbatim(self._encoder))
        assert self._leaf is not None
        self._leaf.end()

    def _decide(self, *, eight_bit: bool) -> None:
        is_text = self._kind.kind == "text"
        eight_bit = eight_bit or any(kept is not None and not kept.isascii() for kept in self._kept)
        self._encoder.begin(self._header, "quoted-printable" if is_text else "base64", eight_bit=eight_bit)
        self._replay(_Quoted(self._encoder) if is_text else _Base64(self._encoder))

    def _replay(self, leaf: Leaf) -> None:
        self._leaf = leaf
        for kept in self._kept:
            if kept is None:
                leaf.line_end()
            else:
                leaf.text(kept)
        self._kept.clear()


class _Quoted:
    """Encoder to quoted-printable."""

    def __init__(self, encoder: _Encoder) -> None:
        self._encoder = encoder
        self._in_line = False

    def text(self, octets: bytes) -> None:
        self._encoder.write(b"=\r\n" * self._in_line + _quoted(octets))
        self._in_line = True

    def line_end(self) -> None:
        self._encoder.write(b"\r\n")
        self._in_line = False

    def end(self) -> None:
        pass


def _quoted(octets: bytes) -> bytes:
    """A piece of one line. An equals sign before a line feed is a soft line break: one of the text is encoded."""
    return binascii.b2a_qp(octets, istext=False).replace(b"=\n", b"=\r\n")


class _Base64:
    """Encoder to base64."""

    def __init__(self, encoder: _Encoder) -> None:
        self._encoder = encoder
        self._rest = b""
        self._wrote = False

    def text(self, octets: bytes) -> None:
        octets = self._rest + octets
        whole = len(octets) - len(octets) % _BASE64_LINE
        for at in range(0, whole, _BASE64_LINE):
            self._line(octets[at : at + _BASE64_LINE])
        self._rest = octets[whole:]

    def line_end(self) -> None:
        self.text(b"\r\n")

    def end(self) -> None:
        if self._rest:
            self._line(self._rest)

    def _line(self, octets: bytes) -> None:
        self._encoder.write(b"\r\n" * self._wrote + binascii.b2a_base64(octets, newline=False))
        self._wrote = True


class _Base64Lines:
    """A part in base64: long lines are cut, octets that are none of base64 are dropped, as its readers do."""

    def __init__(self, encoder: _Encoder) -> None:
        self._encoder = encoder
        self._column = 0

    def text(self, octets: bytes) -> None:
        if self._column == 0 and not self._encoder.is_bad(len(octets), octets):
            self._column = len(octets)
            self._encoder.write(octets)
            return
        octets = octets.decode("ascii", "ignore").encode("ascii") if self._encoder.seven_bit else octets
        while octets:
            if self._column >= 76:
                self._encoder.write(b"\r\n")
                self._column = 0
            part, octets = octets[: 76 - self._column], octets[76 - self._column :]
            self._encoder.write(part)
            self._column += len(part)

    def line_end(self) -> None:
        self._encoder.write(b"\r\n")
        self._column = 0

    def end(self) -> None:
        pass


class _QuotedLines:
    """A part in quoted-printable: a line that must not leave as it is gets soft line breaks."""

    def __init__(self, encoder: _Encoder) -> None:
        self._encoder = encoder
        self._line = 0
        self._held = b""  # the start of an encoded octet, or a soft line break

    def text(self, octets: bytes) -> None:
        octets = self._held + octets
        held = 2 if octets[-2:-1] == b"=" else 1 if octets[-1:] == b"=" else 0
        self._held = octets[len(octets) - held :]
        octets = octets[: len(octets) - held]
        if not octets:
            return
        if self._line or self._encoder.is_bad(len(octets), octets):
            octets = b"=\r\n" * bool(self._line) + _quoted(binascii.a2b_qp(octets))
        self._line += len(octets)
        self._encoder.write(octets)

    def line_end(self) -> None:
        self._encoder.write(self._held + b"\r\n")
        self._held = b""
        self._line = 0

    def end(self) -> None:
        self._encoder.write(self._held)
