"""Views of the text of a part: search for the footer's first line, and the place of the footer. PURE.

Guarantees: a view reads octets in blocks of any size, in linear time and constant memory.
Not here: the transfer encoding (footer.transfer).
RFC 3676 (format=flowed).
"""

import codecs
import html
import re
from collections.abc import Iterable
from typing import Final, Protocol

from senderproxy.footer.charsets import Charset
from senderproxy.footer.html_scanner import HtmlScanner
from senderproxy.footer.line_search import LineSearch
from senderproxy.footer.reasons import ALREADY_THERE, ENCRYPTED, HTML, Declined

_AFTER_BODY_LIMIT: Final = 16 * 1024  # octets behind an end tag; with more behind it, the footer goes to the very end
_REFERENCE_LIMIT: Final = 32  # characters of a character reference

_PGP: Final = "\n-----BEGIN PGP "  # text that is encrypted or signed in place
_REFERENCE: Final = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});?")


class TextView(Protocol):
    """A view of the content of a text part."""

    @property
    def place(self) -> int | None:
        """The place of the footer, as far as is known; None: the end."""
        ...

    def feed(self, content: bytes) -> None:
        """More octets of the content. Raises Declined."""
        ...

    def insertion(self) -> bytes:
        """The octets of the footer, at the end of the content. Raises Declined."""
        ...


class _Search:
    """Search in the decoded text."""

    def __init__(self, charset: Charset, first_line: str) -> None:
        self._decode = codecs.getincrementaldecoder(charset.reading)("replace").decode
        self._lines = LineSearch(first_line)
        self._tail = "\n"

    def decode(self, content: bytes) -> str:
        return self._decode(content)

    def feed(self, text: str) -> None:
        """More of the text. Raises Declined."""
        if "-BEGIN PGP " in (joined := self._tail + text) and _PGP in joined:
            raise Declined(ENCRYPTED)
        self._tail = joined[-len(_PGP) :]
        self._lines.feed(text)

    def end(self) -> None:
        """The end of the text. Raises Declined if the line was there."""
        self._lines.end()
        if self._lines.found:
            raise Declined(ALREADY_THERE)


class PlainView:
    """text/plain: the footer is at the end, after an empty line."""

    place: Final = None

    def __init__(self, charset: Charset, footer: bytes, first_line: str) -> None:
        """`footer`: the lines in this character set, between CRLFs."""
        self._search = _Search(charset, first_line)
        self._footer = footer
        self._tail = b""  # the last octets, without CR

    def feed(self, content: bytes) -> None:
        """See TextView."""
        self._search.feed(self._search.decode(content).replace("\r\n", "\n"))
        self._tail = (self._tail + content[-4:].replace(b"\r", b""))[-2:]

    def insertion(self) -> bytes:
        """See TextView."""
        self._search.end()
        if not self._tail:
            return self._footer
        line_ends = len(self._tail) - len(self._tail.rstrip(b"\n"))
        return b"\r\n" * (2 - line_ends) + self._footer + (b"\r\n" if line_ends else b"")


class HtmlView:
    """text/html: the footer is before the last `</body>`, else before `</html>`, else at the end."""

    def __init__(self, charset: Charset, footer: bytes, first_line: str) -> None:
        self._search = _Search(charset, first_line)
        self._footer = footer
        self._scanner = HtmlScanner(self._add_text, self._end_line)
        self._size = 0
        self._reference = ""  # the start of a character reference

    @property
    def place(self) -> int | None:
        """See TextView."""
        for end_tag in (self._scanner.body_end, self._scanner.html_end):
            if end_tag is not None and self._size - end_tag <= _AFTER_BODY_LIMIT:
                return end_tag
        return None

    def feed(self, content: bytes) -> None:
        """See TextView."""
        self._scanner.feed(content)
        self._size += len(content)

    def insertion(self) -> bytes:
        """See TextView."""
        self._search.feed(_unescaped(self._reference))
        self._search.end()
        if not self._scanner.is_closed:
            raise Declined(HTML)
        return b"\r\n" + self._footer + b"\r\n"

    def _add_text(self, octets: bytes) -> None:
        text = self._reference + self._search.decode(octets)
        start = text.rfind("&", -_REFERENCE_LIMIT)
        end = len(text) if start < 0 or ";" in text[start:] else start
        self._reference = text[end:]
        self._search.feed(_unescaped(text[:end]).replace("\r", " ").replace("\n", " "))

    def _end_line(self) -> None:
        self._search.feed(_unescaped(self._reference) + "\n")
        self._reference = ""


def _unescaped(text: str) -> str:
    return _REFERENCE.sub(lambda found: html.unescape(found[0]), text) if "&" in text else text


def visible_text(document: str) -> str:
    """The visible text of HTML, a line of it on a line."""
    found: list[str] = []
    scanner = HtmlScanner(lambda octets: found.append(octets.decode("utf-8", "replace")), lambda: found.append("\n"))
    scanner.feed(document.replace("\r", " ").replace("\n", " ").encode("utf-8", "replace"))
    return _unescaped("".join(found))


def flowed_lines(lines: Iterable[str]) -> list[str]:
    """The lines of a text as format=flowed, each fixed (RFC 3676 section 4.2)."""
    return [_flowed(line) for line in lines]


def _flowed(line: str) -> str:
    if line == "-- ":  # the separator of signatures is no flowed line (section 4.3)
        return line
    line = line.rstrip(" ")
    return f" {line}" if line.startswith((" ", ">", "From ")) else line
