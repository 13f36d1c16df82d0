"""Decoder for message data: end of data, line ends, header section and body. PURE.

Guarantees: only CRLF.CRLF ends a message. The output is clean for any input: every line ends in CRLF, there is no bare
CR, bare LF or NUL and no line with a single dot; it does not depend on how the stream is cut into pieces. A clean
stream comes out unchanged, dot-stuffed as received.
Not here: storage of the body (listener.body), replies (wire.replies).
RFC 5321 sections 2.3.8, 4.1.1.4 and 4.5.2.
"""

import re
from enum import Enum
from typing import Final

from senderproxy.mail.header import HeaderSection

HEADER_LIMIT: Final = 512 * 1024  # octets; far above any real header section, a bound on memory

_END: Final = b"\r\n.\r\n"


class BareLf(Enum):
    """Treatment of a line feed without a carriage return."""

    NORMALIZE = "normalize"  # it is a line end: old printers and scripts send nothing else
    REJECT = "reject"  # the message is refused


class InvalidOctet(Enum):
    """An octet for which a message is refused at its end (RFC 5321 section 2.3.8)."""

    BARE_CR = "bare CR"
    BARE_LF = "bare LF"
    NUL = "NUL"


class DataDecoder:
    """Decoder of the stream after 354 into the message in its wire form, without the final dot.

    Octets whose meaning depends on the next one, such as the start of CRLF.CRLF, are held back (at most five), so that
    each piece of output can be checked alone: no CRLF is ever cut in two.
    """

    def __init__(self, bare_lf: BareLf = BareLf.NORMALIZE) -> None:
        self.done = False
        self.rest = b""  # input after the end of data: the next commands
        self.octets = 0  # of the message so far, as received, dot-stuffed
        self.invalid: InvalidOctet | None = None  # the first one found; no output follows
        self.normalized = False  # a bare LF was converted to CRLF
        self._bare_lf = bare_lf
        self._held = b"\r\n"  # the line end before the message: its first line then is like all others
        self._skip = len(self._held)

    def feed(self, piece: bytes) -> bytes:
        """Decode the next piece of the stream; the output that is certain now (may be empty)."""
        window = self._held + piece
        end = window.find(_END)
        if end >= 0:
            self.done = True
            self.rest = window[end + len(_END) :]
            window = window[: end + 2]  # the CRLF before the final dot belongs to the message
            self._held = b""
        else:
            kept = len(window) - _undecided(window)
            self._held = window[kept:]
            window = window[:kept]
        if self._skip and window:
            clean = self._clean(window)[self._skip :]
            self.octets += len(window) - self._skip
            self._skip = 0
            return clean
        self.octets += len(window)
        return self._clean(window)

    def _clean(self, window: bytes) -> bytes:
        """The same octets with each bare LF converted or refused; nothing after an invalid octet."""
        if self.invalid is not None:
            return b""
        text = window.replace(b"\r\n", b"")  # Python counts single octets three times more slowly
        if b"\r" in text:
            self.invalid = InvalidOctet.BARE_CR
        elif b"\0" in text:
            self.invalid = InvalidOctet.NUL
        elif b"\n" not in text:
            return window
        elif self._bare_lf is BareLf.REJECT:
            self.invalid = InvalidOctet.BARE_LF
        else:
            self.normalized = True
            return _normalized(window)
        return b""


# A line after a bare LF that begins with one dot: the client did not dot-stuff it. Two dots: it did.
_UNSTUFFED = re.compile(rb"(?<!\r)\n\.(?!\.)")
# A line with a single dot that ends in a bare LF: it must not become the end of the message.
_LONE_DOT = re.compile(rb"\r\n\.\n")


def _normalized(window: bytes) -> bytes:
    if b"\n." in window:
        window = _UNSTUFFED.sub(b"\n..", window)
        window = _LONE_DOT.sub(b"\r\n..\n", window)
    return window.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


# Octets whose meaning depends on the next one: the start of CRLF.CRLF, a bare LF (a dot may follow), and a single dot
# on a line before one (in separate pieces each would look harmless, and together they would end the message upstream).
_UNDECIDED: Final = re.compile(rb"(?:\r(?:\n(?:\.\r?)?)?|(?:\r\n\.)?\n\.?)\Z")
_LONGEST_UNDECIDED: Final = 5  # octets: CR LF . LF .


def _undecided(window: bytes) -> int:
    """The number of octets at the end of the window that must wait for the next piece."""
    found = _UNDECIDED.search(window[-_LONGEST_UNDECIDED:])
    return len(found[0]) if found else 0


class HeaderCollector:
    """Collector of the header section: splits decoded pieces at the first empty line (RFC 5322 section 2.1)."""

    def __init__(self, limit: int = HEADER_LIMIT) -> None:
        self.too_long = False
        self._limit = limit
        self._collected = bytearray()
        self._searched = 0
        self._complete = False

    def feed(self, piece: bytes) -> bytes:
        """Add a piece; the part of it that belongs to the body."""
        if self._complete or self.too_long:
            return piece if self._complete else b""
        self._collected += piece
        end = self._find_end()
        if end < 0:
            self._searched = max(0, len(self._collected) - 3)
            self.too_long = len(self._collected) > self._limit
        else:
            self.too_long = end > self._limit
            self._complete = not self.too_long
        if self.too_long:
            self._collected.clear()
        if not self._complete:
            return b""
        body = bytes(self._collected[end:])
        del self._collected[end:]
        return body

    def section(self) -> HeaderSection:
        """The header section without dot-stuffing, with its empty line if there was one."""
        raw = bytes(self._collected).replace(b"\r\n.", b"\r\n")
        return HeaderSection(raw.removeprefix(b"."))

    def _find_end(self) -> int:
        """The start of the body, or -1. A message that begins with an empty line has no header section."""
        if self._collected.startswith(b"\r\n"):
            return 2
        found = self._collected.find(b"\r\n\r\n", self._searched)
        return found + 4 if found >= 0 else -1
