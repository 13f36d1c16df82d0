"""Replies: code, enhanced status and words in three pockets; the only parser and printer of reply lines.

Guarantees: what is printed is one well-formed reply (RFC 5321 section 4.2) whatever the words contain; what is parsed
has no control characters left and a bounded size. The last line of a multi-line reply is the one that decides
(United Internet servers begin every refusal with the same generic first line).
RFC 5321 sections 4.2 and 4.5.3.1.5, RFC 2034, RFC 3463.
"""

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

REPLY_LINE_LIMIT: Final = 512  # octets with code and CRLF, RFC 5321 section 4.5.3.1.5
_KEPT_LINES: Final = 100  # of one reply; the last ones, which name the cause
_KEPT_OCTETS: Final = 2000  # of one line
_WRAP = 400  # our own words per line; leaves room for the code, and Exchange shows the lines joined

_STATUS = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?:\s+|$)")


@dataclass(frozen=True, slots=True)
class EnhancedStatus:
    """RFC 3463: class 2, 4 or 5, then subject, then detail."""

    klass: int
    subject: int
    detail: int

    def __str__(self) -> str:
        return f"{self.klass}.{self.subject}.{self.detail}"


@dataclass(frozen=True, slots=True)
class Reply:
    """One SMTP reply. `status` is None where none was given or none belongs (EHLO, banner, 354, AUTH challenge)."""

    code: int
    status: EnhancedStatus | None
    lines: tuple[str, ...]

    def __str__(self) -> str:
        status = f"{self.status} " if self.status else ""
        return f"{self.code} {status}{' / '.join(self.lines)}"

    @property
    def text(self) -> str:
        """The last line: the one that tells the cause."""
        return self.lines[-1] if self.lines else ""

    @property
    def is_positive(self) -> bool:
        return 200 <= self.code < 400

    @property
    def is_transient(self) -> bool:
        return 400 <= self.code < 500

    @property
    def is_permanent(self) -> bool:
        return self.code >= 500

    def with_default_status(self, subject: int, detail: int) -> "Reply":
        """The same reply, with an enhanced status of ours where the server gave none (or one of another class)."""
        klass = self.code // 100
        if klass not in (2, 4, 5) or (self.status is not None and self.status.klass == klass):
            return self
        return replace(self, status=EnhancedStatus(klass, subject, detail))

    def render(self) -> bytes:
        """The reply as bytes for a client: ASCII, CRLF, every line within the limit, never empty."""
        prefix = f"{self.status} " if self.status else ""
        *first, last = [part for line in self.lines for part in _wrapped(_printable(line))] or [""]
        rendered = [f"{self.code}-{prefix}{line}" for line in first] + [f"{self.code} {prefix}{last}".rstrip()]
        return "".join(f"{line}\r\n" for line in rendered).encode("ascii")


def reply(code: int, status: str | None, *lines: str) -> Reply:
    """Write a reply of ours: `reply(550, "5.7.1", "No account here may send as ...")`."""
    parsed = _read_status(status) if status else None
    return Reply(code, parsed, lines)


def parse_reply(lines: Sequence[bytes]) -> Reply:
    """Read the lines of one complete reply, without their CRLF.

    Raises ValueError where they are no reply (no code, or a code that changes between lines).
    """
    codes = {line[:3] for line in lines}
    if len(codes) != 1:
        raise ValueError("the lines carry different codes" if codes else "no lines")
    code = codes.pop()
    if not re.fullmatch(rb"[2-5][0-9]{2}", code):
        raise ValueError("no reply code")
    texts = [_printable(line[4:_KEPT_OCTETS].decode("utf-8", "replace")).strip() for line in lines[-_KEPT_LINES:]]
    status: EnhancedStatus | None = None
    for index, text in enumerate(texts):
        found = _STATUS.match(text)
        if found and found.group(1) == chr(code[0]):
            status = EnhancedStatus(int(found.group(1)), int(found.group(2)), int(found.group(3)))
            texts[index] = text[found.end() :]
    return Reply(int(code), status, tuple(texts))


def _read_status(text: str) -> EnhancedStatus:
    klass, subject, detail = (int(part) for part in text.split("."))
    return EnhancedStatus(klass, subject, detail)


def _printable(text: str) -> str:
    """ASCII without controls; umlauts are written out so that a German sentence stays readable."""
    if text.isascii() and text.isprintable():
        return text
    text = text.translate(_SPELLED_OUT)
    return "".join(c if " " <= c <= "~" else " " if c in "\t\r\n" else "?" for c in text)


def _wrapped(text: str) -> list[str]:
    if len(text) <= _WRAP:
        return [text]
    return textwrap.wrap(text, _WRAP, break_long_words=True, break_on_hyphens=False) or [""]


_SPELLED_OUT: Final = str.maketrans(
    {
        "ä": "ae",
        "ö": "oe",
        "ü": "ue",
        "Ä": "Ae",
        "Ö": "Oe",
        "Ü": "Ue",
        "ß": "ss",
        "–": "-",
        "’": "'",
        "„": '"',
        "“": '"',
    }
)
