"""SMTP replies: code, enhanced status and text; the only parser and printer of reply lines. PURE.

Guarantees: a rendered reply is well-formed (RFC 5321 section 4.2) for any text. A parsed reply has no control
characters and a bounded size. The reason of a multi-line reply is neither a generic first line (United Internet's
servers begin every refusal with the same one) nor a line that only refers to a web page.

RFC 5321 sections 4.2 and 4.5.3.1.5, RFC 2034, RFC 3463.
"""

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Final

REPLY_LINE_LIMIT: Final = 512  # octets with code and CRLF, RFC 5321 section 4.5.3.1.5
_MAX_LINES: Final = 100  # last lines of a received reply; no known server sends as many
_MAX_OCTETS: Final = 2000  # octets of one received line; about four times the limit of RFC 5321
_WRAP: Final = 400  # characters of one line of our own; leaves space for the code, and Exchange shows the lines joined

_CONTINUED: Final = 2  # further lines of the text at most
_TEXT_LIMIT: Final = 300  # characters of the text; a cause that is longer is cut at a line

# Lines that give no cause: the phrases of RFC 5321 section 4.2.2, and others without a noun of their own.
_GENERIC: Final = re.compile(
    r"requested (?:mail )?action (?:not taken|aborted)\b.*|(?:the )?transaction (?:has )?failed[.!:]?|error[.!:]?"
    r"|.{0,80}\bservice (?:is )?(?:not available|unavailable)[.!:]?|service closing transmission channel[.!:]?"
    r"|no smtp service[.!:]?"
    r"|(?:your )?(?:message|mail|e-?mail)? ?(?:was |has been )?(?:rejected|refused|denied|not accepted|failed)[.!:]?"
    r"|access denied[.!:]?|sorry[.!:,]?|syntax error[.!:]?",
    re.IGNORECASE,
)
# Lines that refer to a page, and the last line of Google's replies.
_POINTER: Final = re.compile(
    r"\W*(?:https?:|www\.|//).*"
    r"|(?:and |or )?(?:for|see|visit|please|learn|more|read|check|go|refer|details|weitere|siehe|mehr)\b[^.]*"
    r"(?:https?:|www\.|\bat|\bto|\bvisit|\bsee|:)\W*(?:\S*[/.]\S*)?\W*"
    r"|[^.]{0,60}\bgo to|.* - gsmtp|\[[^\]]*\]|",
    re.IGNORECASE,
)
_STATUS = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?:\s+|$)")


@dataclass(frozen=True, slots=True)
class EnhancedStatus:
    """RFC 3463: class 2, 4 or 5, then subject, then detail."""

    klass: int
    subject: int
    detail: int

    def __str__(self) -> str:
        return f"{self.klass}.{self.subject}.{self.detail}"


@dataclass(frozen=True)
class Reply:
    """One SMTP reply. `status` is None if none was given or none applies (EHLO, banner, 354, AUTH challenge)."""

    code: int
    status: EnhancedStatus | None
    lines: tuple[str, ...]

    def __str__(self) -> str:
        status = f"{self.status} " if self.status else ""
        return f"{self.code} {status}{' / '.join(self.lines)}"

    @property
    def telling_lines(self) -> tuple[str, ...]:
        """The lines without generic ones and references to web pages; all lines if none is left."""
        lines = self.lines
        if len(lines) < 2:
            return lines
        lines = tuple(line for line in lines if not _POINTER.fullmatch(line)) or lines
        return tuple(line for line in lines if not _GENERIC.fullmatch(line)) or lines[-1:]

    @property
    def text(self) -> str:
        """The last line."""
        return self.lines[-1] if self.lines else ""

    @property
    def reason(self) -> str:
        """The line that gives the cause, with the lines that continue its sentence."""
        if len(self.lines) < 2:
            return self.lines[0] if self.lines else ""
        first, *others = self.telling_lines
        text = first
        for line in others[:_CONTINUED]:
            if text.endswith((".", "!", ")", "]")) or len(text) + len(line) >= _TEXT_LIMIT or line[:1].isupper():
                break
            text += f" {line}"
        return text

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
        """A copy with this enhanced status if the server gave none, or one of another class."""
        klass = self.code // 100
        if klass not in (2, 4, 5) or (self.status is not None and self.status.klass == klass):
            return self
        return replace(self, status=EnhancedStatus(klass, subject, detail))

    @cached_property
    def octets(self) -> bytes:
        """`render`, once: most replies to clients are constants."""
        return self.render()

    def render(self) -> bytes:
        """The octets to send: ASCII, CRLF, each line within the limit, at least one line."""
        prefix = f"{self.status} " if self.status else ""
        *first, last = [part for line in self.lines for part in _wrapped(_printable(line))] or [""]
        rendered = [f"{self.code}-{prefix}{line}" for line in first] + [f"{self.code} {prefix}{last}".rstrip()]
        return "".join(f"{line}\r\n" for line in rendered).encode("ascii")


def reply(code: int, status: str | None, *lines: str) -> Reply:
    """Shorthand for a reply of our own: `reply(550, "5.7.1", "No account here may send as ...")`."""
    parsed = _read_status(status) if status else None
    return Reply(code, parsed, lines)


def parse_reply(lines: Sequence[bytes]) -> Reply:
    """Parse the lines of one complete reply, without their CRLF.

    Raises ValueError for lines without a code, or with different codes.
    """
    codes = {line[:3] for line in lines}
    if len(codes) != 1:
        raise ValueError("the lines carry different codes" if codes else "no lines")
    code = codes.pop()
    if not re.fullmatch(rb"[2-5][0-9]{2}", code):
        raise ValueError("no reply code")
    texts = [_printable(line[4:_MAX_OCTETS].decode("utf-8", "replace")).strip() for line in lines[-_MAX_LINES:]]
    status: EnhancedStatus | None = None
    for index, text in enumerate(texts):
        found = _STATUS.match(text)
        if found and found.group(1) == chr(code[0]):
            status = EnhancedStatus(int(found.group(1)), int(found.group(2)), int(found.group(3)))
            texts[index] = text[found.end() :]
    return Reply(int(code), status, tuple(texts))


@lru_cache(maxsize=256)
def _read_status(text: str) -> EnhancedStatus:
    klass, subject, detail = (int(part) for part in text.split("."))
    return EnhancedStatus(klass, subject, detail)


def _printable(text: str) -> str:
    """ASCII without control characters. Umlauts are transcribed, so that German text stays readable."""
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
