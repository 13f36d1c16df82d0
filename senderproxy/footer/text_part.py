"""Choice of the editor for one text part, and the header section that belongs to the result. PURE.

Guarantees: the part is edited in place where its character set and its transfer encoding have all characters of the
footer; else it is re-encoded as UTF-8. In HTML a character that the set does not have becomes a character reference.
Not here: the editors (footer.part_editor), the choice of parts (footer.insertion).
RFC 2045 sections 5 and 6, RFC 3676.
"""

import re
from collections.abc import Callable
from typing import Final

from senderproxy.footer import reasons
from senderproxy.footer.charsets import UTF_8, Charset, charset_of
from senderproxy.footer.part_editor import EditInPlace, EditReencoded, PartEditor
from senderproxy.footer.reasons import Declined
from senderproxy.footer.rendered import RenderedFooter
from senderproxy.footer.text_view import HtmlView, PlainView, TextView, flowed_lines
from senderproxy.footer.transfer import (
    Base64Encoder,
    Base64Transfer,
    QuotedPrintableEncoder,
    QuotedPrintableTransfer,
    Transfer,
    Unencoded,
)
from senderproxy.mail.header import Edit, HeaderSection
from senderproxy.rewriting.mime_walker import ContentType, transfer_encoding

_TYPE: Final = "Content-Type"
_ENCODING: Final = "Content-Transfer-Encoding"

_TRANSFERS: Final[dict[str, Callable[[], Transfer]]] = {
    "7bit": Unencoded,
    "8bit": Unencoded,
    "binary": Unencoded,
    "quoted-printable": QuotedPrintableTransfer,
    "base64": Base64Transfer,
}
_LONG_LINE: Final = 990  # octets; RFC 5322 section 2.1.1 permits 998
_CHARSET: Final = re.compile(rb"(;[ \t\r\n]*+charset[ \t\r\n]*+=[ \t\r\n]*+\"?+)[^\s;\"]++", re.IGNORECASE)


def edit_part(
    header: HeaderSection,
    kind: ContentType,
    footer: RenderedFooter,
    write: Callable[[bytes], None],
    boundaries: tuple[bytes, ...],
    *,
    is_message: bool,
) -> tuple[HeaderSection, PartEditor]:
    """The header section of a text part, perhaps changed, and the editor of its content. Raises Declined.

    `is_message`: the part is the whole message, so the header section is that of the message.
    """
    encoding = transfer_encoding(header)
    charset = charset_of(kind.parameters.get(b"charset", b"us-ascii").decode("ascii", "replace"))
    _check(header, kind, encoding)
    if charset is None:
        raise Declined(reasons.CHARSET)
    transfer = _TRANSFERS[encoding]()
    octets = _in_charset(footer, kind, charset, encoding)
    if octets is not None:
        return header, EditInPlace(transfer, _view(kind, charset, octets, footer), write, boundaries)
    is_base64 = encoding == "base64"
    octets = _utf_8(footer, kind)
    writer = Base64Encoder(write) if is_base64 else QuotedPrintableEncoder(write)
    header = _as_utf_8(header, kind, "base64" if is_base64 else "quoted-printable", is_message=is_message)
    return header, EditReencoded(transfer, charset, _view(kind, UTF_8, octets, footer), writer)


def _check(header: HeaderSection, kind: ContentType, encoding: str) -> None:
    """Raise Declined for a header section that readers may understand differently."""
    if header.rest not in (b"", b"\r\n"):
        raise Declined(reasons.HEADER)
    if (
        len(header.values(_TYPE)) > 1
        or len(header.values(_ENCODING)) > 1
        or (header.values(_TYPE) and not kind.is_read)
    ):
        raise Declined(reasons.HEADER)
    if header.values("Content-MD5"):
        raise Declined(reasons.CHECKSUM)
    if any(name.startswith(b"charset*") for name in kind.parameters):
        raise Declined(reasons.CHARSET)
    if encoding not in _TRANSFERS:
        raise Declined(reasons.ENCODING)


def _in_charset(footer: RenderedFooter, kind: ContentType, charset: Charset, encoding: str) -> bytes | None:
    """The footer in the part's own character set; None if that, or the transfer encoding, lacks a character of it."""
    if not charset.is_superset:
        return None
    is_identity = _TRANSFERS[encoding] is Unencoded
    if kind.subtype == "html":
        octets = footer.html.encode("ascii" if encoding == "7bit" else charset.writing, "xmlcharrefreplace")
    else:
        try:
            octets = _plain(footer, kind).encode(charset.writing)
        except UnicodeError:
            return None
        if encoding == "7bit" and not octets.isascii():
            return None
    return None if is_identity and any(len(line) > _LONG_LINE for line in octets.split(b"\r\n")) else octets


def _utf_8(footer: RenderedFooter, kind: ContentType) -> bytes:
    text = footer.html if kind.subtype == "html" else _plain(footer, kind)
    return text.encode("utf-8", "replace")


def _plain(footer: RenderedFooter, kind: ContentType) -> str:
    is_flowed = kind.parameters.get(b"format", b"").strip().lower() == b"flowed"
    return "\r\n".join(flowed_lines(footer.lines) if is_flowed else footer.lines)


def _view(kind: ContentType, charset: Charset, octets: bytes, footer: RenderedFooter) -> TextView:
    if kind.subtype == "html":
        return HtmlView(charset, octets, footer.first_html_line)
    return PlainView(charset, octets, footer.first_line)


def _as_utf_8(header: HeaderSection, kind: ContentType, encoding: str, *, is_message: bool) -> HeaderSection:
    """The header section with UTF-8 and this transfer encoding. Raises Declined."""
    types = header.values(_TYPE)
    value = types[0].strip() if types else f"text/{kind.subtype}".encode("ascii")
    if b"charset" in kind.parameters:
        value, count = _CHARSET.subn(rb"\1utf-8", value)
        if count != 1:
            raise Declined(reasons.HEADER)
    else:
        value += b"; charset=utf-8"
    places = header.indexes()
    edits: list[Edit] = []
    try:
        for name, new in ((_TYPE, value), (_ENCODING, encoding.encode("ascii"))):
            at = places.get(name.lower(), ())
            edits.append(Edit(header.split()[0][at[0]].name if at else name, new, at[0] if at else None))
        if is_message and "mime-version" not in places:
            edits.append(Edit("MIME-Version", b"1.0"))
        return header.with_edits(edits)
    except ValueError as error:
        raise Declined(reasons.HEADER) from error
