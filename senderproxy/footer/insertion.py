"""Insertion of a footer into a message. PURE.

Guarantees: one footer in the text, and one in each alternative of it; every other part and the structure stay octet
by octet. In doubt the message stays as it is, with the reason: never is one changed that is signed, encrypted, an
entry of a calendar, a report or mail of a list, or that has the footer's first line already. Linear time, memory
bounded by the limits below and in footer.body_reader, whatever the size and the depth of the message.
Not here: the choice of the footer (footer.footer), its text (footer.rendered), one part (footer.part_editor),
threads and files (relay.content_changes).
RFC 2046 section 5.1, RFC 2183, RFC 2387 (multipart/related).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from senderproxy.footer import reasons
from senderproxy.footer.body_reader import BOUNDARY_LINE_LIMIT, BodyReader
from senderproxy.footer.footer import Footer
from senderproxy.footer.part_editor import PartEditor
from senderproxy.footer.reasons import Declined
from senderproxy.footer.rendered import RenderedFooter, render
from senderproxy.footer.text_part import edit_part
from senderproxy.mail.header import HeaderSection
from senderproxy.rewriting.content_change import Unchanged, Write
from senderproxy.rewriting.mime_walker import ContentType, content_type

_DEPTH_LIMIT: Final = 20  # nested multiparts; real messages have up to five
_HEADER_LIMIT: Final = 64 * 1024  # octets of the header section of a part

_SIGNATURES: Final = ("DKIM-Signature", "DomainKey-Signature", "ARC-Message-Signature")
_KINDS: Final = {
    ("multipart", "signed"): reasons.SIGNED,
    ("multipart", "encrypted"): reasons.ENCRYPTED,
    ("multipart", "report"): reasons.REPORT,
    ("application", "pkcs7-mime"): reasons.ENCRYPTED,
    ("application", "x-pkcs7-mime"): reasons.ENCRYPTED,
    ("application", "pkcs7-signature"): reasons.SIGNED,
    ("application", "x-pkcs7-signature"): reasons.SIGNED,
    ("application", "pgp-signature"): reasons.SIGNED,
    ("application", "pgp-encrypted"): reasons.ENCRYPTED,
    ("application", "ms-tnef"): reasons.TNEF,
    ("application", "vnd.ms-tnef"): reasons.TNEF,
    ("message", "delivery-status"): reasons.REPORT,
    ("message", "global-delivery-status"): reasons.REPORT,
    ("message", "disposition-notification"): reasons.REPORT,
    ("message", "global-disposition-notification"): reasons.REPORT,
    ("message", "feedback-report"): reasons.REPORT,
    ("text", "rfc822-headers"): reasons.REPORT,
}
# Multiparts whose parts are messages, files or values, not text that a reader shows.
_WITHOUT_TEXT: Final = frozenset({"appledouble", "byteranges", "digest", "form-data", "header-set"})


def insert(
    footer: Footer, name: str, address: str, header: HeaderSection, body: Iterator[bytes], write: Write
) -> HeaderSection | Unchanged:
    """Insert the footer for an author: see rewriting.content_change.ContentChange."""
    try:
        _check_message(header)
        return _FooterWalk(render(footer, name, address), body, write).run(header)
    except Declined as declined:
        return Unchanged(declined.reason, is_expected=True)


def _check_message(header: HeaderSection) -> None:
    """Raise Declined for a message that its header section excludes."""
    names = header.indexes()
    if any(name.lower() in names for name in _SIGNATURES):
        raise Declined(reasons.DKIM)
    if any(name.startswith("list-") for name in names):
        raise Declined(reasons.LIST)
    if b"calendarmessage" in b"".join(header.values("Content-Class")).lower():
        raise Declined(reasons.CALENDAR)
    if "x-ms-journal-report" in names:
        raise Declined(reasons.REPORT)


@dataclass(slots=True)
class _Multipart:
    """An open multipart."""

    boundary: bytes
    subtype: str
    is_text: bool  # the text of the message may be in it
    start: bytes = b""  # multipart/related: Content-ID of its root; empty: the first part is it
    has_root: bool = False  # multipart/related: its root has begun
    is_done: bool = False  # its text has its footer

    def takes(self, part: HeaderSection) -> bool:
        """True if the next part may be, or contain, text of the message."""
        if not self.is_text:
            return False
        if self.subtype == "alternative":
            return True
        if self.subtype == "related":
            ids = [value.strip() for value in part.values("Content-ID")]
            is_root = not self.has_root and (not self.start or ids == [self.start])
            self.has_root = self.has_root or is_root
            return is_root
        return not self.is_done


class _FooterWalk:
    """One walk through a message. `run` is called once."""

    def __init__(self, rendered: RenderedFooter, body: Iterator[bytes], write: Write) -> None:
        self._rendered = rendered
        self._reader = BodyReader(body)
        self._raw_write = write
        self._last = b"\r\n"  # the last octets written
        self._open: list[_Multipart] = []
        self._editor: PartEditor | None = None

    def run(self, header: HeaderSection) -> HeaderSection:
        """Write the new body; returns the header section of the message. Raises Declined."""
        if header.rest not in (b"", b"\r\n"):
            raise Declined(reasons.HEADER)
        has_footer = False
        message_header = self._begin(header, is_text=True)
        while True:
            for piece in self._reader.content(self._is_boundary):
                (self._editor.feed if self._editor is not None else self._write)(piece)
            if self._editor is not None:
                self._editor.end()
                has_footer, self._editor = True, None
            self._write(self._reader.line_end)
            boundary = self._reader.line(BOUNDARY_LINE_LIMIT)
            if not boundary:
                break
            self._write(boundary)
            if self._begins_part(boundary) and (part := self._read_header()) is not None:
                self._write(self._begin(part, is_text=self._open[-1].takes(part)).raw)
        if not has_footer:
            raise Declined(reasons.ATTACHED_ONLY)
        self._write(b"" if self._last == b"\r\n" else b"\r\n")
        return message_header

    def _write(self, octets: bytes) -> None:
        if octets:
            self._last = (self._last + octets[-2:])[-2:]
            self._raw_write(octets)

    # ---- boundaries ----

    def _is_boundary(self, line: bytes) -> bool:
        text = line.rstrip(b" \t")[2:]
        return any(text in (each.boundary, each.boundary + b"--") for each in self._open)

    def _begins_part(self, line: bytes) -> bool:
        """Close the multiparts that end here. True if a part follows."""
        text = line.rstrip(b" \t\r\n")[2:]
        while text not in (self._open[-1].boundary, self._open[-1].boundary + b"--"):
            self._open.pop()
        if text == self._open[-1].boundary:
            return True
        self._open.pop()
        return False

    def _read_header(self) -> HeaderSection | None:
        """The header section of a part; None for a part that ends in it, whose octets are written."""
        lines: list[bytes] = []
        size = 0
        while line := self._reader.header_line(self._is_boundary, _HEADER_LIMIT):
            lines.append(line)
            size += len(line)
            if size > _HEADER_LIMIT or not line.endswith(b"\r\n"):
                raise Declined(reasons.HEADER)
            if line == b"\r\n":
                return HeaderSection(b"".join(lines))
        self._write(b"".join(lines))
        return None

    # ---- parts ----

    def _begin(self, header: HeaderSection, *, is_text: bool) -> HeaderSection:
        """Begin an entity; returns its header section, perhaps changed. Raises Declined."""
        kind = content_type(header)
        if (reason := _KINDS.get((kind.kind, kind.subtype))) is not None:
            raise Declined(reason)
        if (kind.kind, kind.subtype) == ("text", "calendar") and _is_entry(header, kind):
            raise Declined(reasons.CALENDAR)
        if kind.kind == "multipart":
            self._open_multipart(kind, is_text=is_text and not _is_attachment(header, kind))
        elif is_text and kind.kind == "text" and kind.subtype in ("plain", "html") and not _is_attachment(header, kind):
            boundaries = tuple(each.boundary for each in self._open)
            header, self._editor = edit_part(
                header, kind, self._rendered, self._write, boundaries, is_message=not self._open
            )
            for each in self._open:
                each.is_done = True
        return header

    def _open_multipart(self, kind: ContentType, *, is_text: bool) -> None:
        new = kind.boundary
        if len(self._open) >= _DEPTH_LIMIT:
            raise Declined(reasons.NESTED)
        if (
            not new
            or len(new) + 8 > BOUNDARY_LINE_LIMIT
            or any(_is_ambiguous(new, each.boundary) for each in self._open)
        ):
            raise Declined(reasons.BOUNDARIES)
        is_text = is_text and kind.subtype not in _WITHOUT_TEXT
        self._open.append(_Multipart(new, kind.subtype, is_text, kind.parameters.get(b"start", b"").strip()))


def _is_ambiguous(new: bytes, other: bytes) -> bool:
    """True if some readers take one for the other: they compare only the beginning of a line."""
    return new.startswith(other) or other.startswith(new)


def _is_attachment(header: HeaderSection, kind: ContentType) -> bool:
    """True for a part that has a file name or is not to be shown with the text."""
    disposition = b"".join(header.values("Content-Disposition")).strip().lower()
    if disposition and (not disposition.startswith(b"inline") or b"filename" in disposition):
        return True
    return any(name.startswith(b"name") for name in kind.parameters)


def _is_entry(header: HeaderSection, kind: ContentType) -> bool:
    """True for an invitation or an answer to one; False for a file that is attached."""
    return b"method" in kind.parameters or not _is_attachment(header, kind)
