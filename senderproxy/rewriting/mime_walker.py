"""Walker through the MIME structure of a body, line by line. PURE.

Guarantees: one pass; memory is bounded by the limits below, whatever the size of the body; time is linear. The octets
that the handler does not change come out as they came in. A body that exceeds a limit raises MimeLimitExceeded.
Not here: the changes (rewriting.transfer_encoding).
RFC 2045, RFC 2046 section 5.1, RFC 1847 (multipart/signed).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from senderproxy.mail.header import HeaderSection

_FRAGMENT: Final = 8192  # octets; a longer line is handled in pieces
_HEADER_LIMIT: Final = 64 * 1024  # octets of a part's header section
_DEPTH_LIMIT: Final = 20  # nested multiparts; real messages have up to five

_PARAMETER: Final = re.compile(
    rb";[ \t\r\n]*+([!#$%&'*+.^_`|~A-Za-z0-9-]++)[ \t\r\n]*+=[ \t\r\n]*+(?:\"([^\"\\]*+)\"|([^\s;\"]++))"
)
_TYPE: Final = re.compile(rb"[ \t\r\n]*+([!#$%&'*+.^_`|~A-Za-z0-9-]++)/([!#$%&'*+.^_`|~A-Za-z0-9-]++)")


class MimeLimitExceeded(Exception):
    """The structure of the body exceeds a limit, or cannot be read."""


@dataclass(frozen=True, slots=True)
class ContentType:
    """Content-Type of an entity, in lower case but for the boundary and the values of the parameters."""

    kind: str = "text"
    subtype: str = "plain"
    boundary: bytes = b""
    parameters: Mapping[bytes, bytes] = field(default_factory=dict)
    is_read: bool = False  # False without a readable field


def content_type(header: HeaderSection) -> ContentType:
    """The content type of an entity; text/plain without a readable one (RFC 2045 section 5.2)."""
    values = header.values("Content-Type")
    found = _TYPE.match(values[0]) if values else None
    if found is None:
        return ContentType()
    parameters = {name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(values[0])}
    kind, subtype = (part.decode("ascii").lower() for part in found.groups())
    return ContentType(kind, subtype, parameters.get(b"boundary", b"").rstrip(b" "), parameters, is_read=True)


def transfer_encoding(header: HeaderSection) -> str:
    """Content-Transfer-Encoding of an entity in lower case; 7bit without one."""
    values = header.values("Content-Transfer-Encoding")
    return values[0].strip().decode("ascii", "replace").lower() if values else "7bit"


class Leaf(Protocol):
    """Receiver of the content of one part that has no parts of its own, without the line end before the boundary."""

    def text(self, octets: bytes) -> None:
        """More octets of the current line."""
        ...

    def line_end(self) -> None:
        """The end of a line that is followed by another."""
        ...

    def end(self) -> None:
        """The end of the part."""
        ...


class MimeHandler(Protocol):
    """The changes that a walk makes."""

    def write(self, octets: bytes) -> None:
        """Octets of the structure: boundaries, header sections of multiparts, signed parts."""
        ...

    def between(self, octets: bytes, *, ends: bool) -> None:
        """A piece of the text before, between and after the parts of a multipart; readers do not show it."""
        ...

    def container(self, header: HeaderSection) -> HeaderSection:
        """The header section of a multipart or an enclosed message, perhaps changed."""
        ...

    def leaf(self, header: HeaderSection | None, kind: ContentType, encoding: str) -> Leaf:
        """The receiver of a part. It writes the header section too, except that of the message (None)."""
        ...


class MimeWalker:
    """One walk. `walk` is called once."""

    def __init__(self, handler: MimeHandler) -> None:
        self._handler = handler
        self._boundaries: list[bytes] = []
        self._verbatim = 0  # number of boundaries at which a signed part began; 0: none is open
        self._header: bytearray | None = None  # of the part that begins
        self._leaf: Leaf | None = None
        self._line_end_due = False

    def walk(self, header: HeaderSection, body: Iterator[bytes]) -> None:
        """Send the body through the handler."""
        self._open(header, is_message=True)
        at_start = True
        for fragment, ends in _fragments(body):
            if at_start and fragment.startswith(b"--") and self._is_boundary(fragment):
                self._boundary(fragment, ends=ends)
            elif self._header is not None:
                self._header_line(fragment, ends=ends, at_start=at_start)
            else:
                self._content(fragment, ends=ends)
            at_start = ends
        self._finish()

    def _is_boundary(self, line: bytes) -> bool:
        text = line.rstrip(b" \t")[2:]
        return any(text in (boundary, boundary + b"--") for boundary in self._boundaries)

    def _boundary(self, line: bytes, *, ends: bool) -> None:
        """A boundary of the innermost open multipart, or of an outer one: that ends the inner ones."""
        text = line.rstrip(b" \t")[2:]
        while text not in (self._boundaries[-1], self._boundaries[-1] + b"--"):
            self._boundaries.pop()
        self._end_part()
        closes = text != self._boundaries[-1]
        if closes:
            self._boundaries.pop()
        if self._verbatim > len(self._boundaries):
            self._verbatim = 0
        self._handler.write(line + (b"\r\n" if ends else b""))
        if not closes and not self._verbatim:
            self._header = bytearray()

    def _header_line(self, fragment: bytes, *, ends: bool, at_start: bool) -> None:
        assert self._header is not None
        self._header += fragment + b"\r\n" * ends
        if len(self._header) > _HEADER_LIMIT:
            raise MimeLimitExceeded("the header section of a part is too long")
        if at_start and not fragment and ends:
            header, self._header = HeaderSection(bytes(self._header)), None
            self._open(header, is_message=False)

    def _open(self, header: HeaderSection, *, is_message: bool) -> None:
        """Begin an entity with this header section."""
        kind = content_type(header)
        if kind.kind == "multipart":
            if not kind.boundary:
                raise MimeLimitExceeded("a multipart has no boundary")
            if len(self._boundaries) >= _DEPTH_LIMIT:
                raise MimeLimitExceeded("it has too many nested parts")
            self._boundaries.append(kind.boundary)
            if kind.subtype in ("signed", "encrypted"):
                self._verbatim = self._verbatim or len(self._boundaries)
            if not is_message:
                self._handler.write((header if self._verbatim else self._handler.container(header)).raw)
        elif (kind.kind, kind.subtype) == ("message", "rfc822") and not is_message:
            self._handler.write(self._handler.container(header).raw)
            self._header = bytearray()  # of the enclosed message
        else:
            self._leaf = self._handler.leaf(None if is_message else header, kind, transfer_encoding(header))
            self._line_end_due = False

    def _content(self, fragment: bytes, *, ends: bool) -> None:
        """Content of a leaf, or text around the parts of a multipart."""
        if self._leaf is None:
            if self._verbatim:
                self._handler.write(fragment + b"\r\n" * ends)
            else:
                self._handler.between(fragment, ends=ends)
            return
        if self._line_end_due:
            self._leaf.line_end()
        if fragment:
            self._leaf.text(fragment)
        self._line_end_due = ends

    def _end_part(self) -> None:
        if self._header is not None:  # a part that ended in its header section
            self._handler.write(bytes(self._header))
            self._header = None
        if self._leaf is not None:
            leaf, self._leaf = self._leaf, None
            leaf.end()
            if self._line_end_due:
                self._handler.write(b"\r\n")
            self._line_end_due = False

    def _finish(self) -> None:
        self._end_part()


def _fragments(body: Iterator[bytes]) -> Iterator[tuple[bytes, bool]]:
    """The lines without their CRLF, and True if the line ends there; long lines in pieces."""
    rest = b""
    for block in body:
        *lines, rest = (rest + block).split(b"\r\n")
        for line in lines:
            if len(line) > _FRAGMENT:
                yield from ((line[at : at + _FRAGMENT], False) for at in range(0, len(line), _FRAGMENT))
                line = b""
            yield line, True
        while len(rest) > _FRAGMENT + 1:  # its last octet may be half of a line end
            yield rest[:_FRAGMENT], False
            rest = rest[_FRAGMENT:]
    if rest:
        yield rest, False
