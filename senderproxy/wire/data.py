"""What follows 354: find its end, check its line ends, split the header section from the body.

Guarantees: only CRLF.CRLF ends a message. What comes out is clean whatever came in: every line ends in CRLF, there is
no bare CR, bare LF or NUL, no line that is a lone dot, and nothing of it depends on how the stream was cut into pieces.
A clean stream is passed on octet by octet, dot-stuffed as it came.
Not here: where the body is kept (listener.body), what a refusal is called (wire.dialogue).
RFC 5321 sections 2.3.8, 4.1.1.4 and 4.5.2.
"""

import re
from enum import Enum
from typing import Final

from senderproxy.mail.header import HeaderSection

HEADER_LIMIT: Final = 512 * 1024  # octets; more is no header section but an attack or a fault

_END: Final = b"\r\n.\r\n"


class BareLf(Enum):
    """What a line feed without its carriage return is taken for."""

    NORMALIZE = "normalize"  # a line end: old printers and scripts send nothing else
    REJECT = "reject"


class DataFault(Enum):
    """Why a message is refused once its end has come."""

    BARE_CR = "bare CR"
    BARE_LF = "bare LF"
    NUL = "NUL"


class DataDecoder:
    """Takes the stream behind 354 in pieces of any size, gives back the message in its wire form without the last dot.

    Holds back what may be the start of the end (at most four octets) or what the next octet decides about, so that
    each piece it gives back can be judged alone: no CRLF is ever cut in two.
    """

    def __init__(self, bare_lf: BareLf = BareLf.NORMALIZE) -> None:
        self.done = False
        self.rest = b""  # what came behind the end: the next commands
        self.octets = 0  # of the message so far, as it came, dot-stuffed
        self.fault: DataFault | None = None  # the first one found; nothing more is given back then
        self.mended = False  # a bare LF was made a line end
        self._bare_lf = bare_lf
        self._held = b"\r\n"  # the line end before the message, so that its first line is like all others
        self._skip = len(self._held)

    def feed(self, piece: bytes) -> bytes:
        """Take the next piece of the stream; give back what is certain now (may be empty)."""
        window = self._held + piece
        end = window.find(_END)
        if end >= 0:
            self.done = True
            self.rest = window[end + len(_END) :]
            window = window[: end + 2]  # the CRLF before the last dot belongs to the message
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
        """The same octets, with a bare LF made a line end where that is wanted; nothing once there is a fault."""
        if self.fault is not None:
            return b""
        text = window.replace(b"\r\n", b"")  # Python counts single octets three times more slowly
        if b"\r" in text:
            self.fault = DataFault.BARE_CR
        elif b"\0" in text:
            self.fault = DataFault.NUL
        elif b"\n" not in text:
            return window
        elif self._bare_lf is BareLf.REJECT:
            self.fault = DataFault.BARE_LF
        else:
            self.mended = True
            return _normalized(window)
        return b""


# A line that begins after a bare LF with one dot: its sender did not stuff it. Two dots: its sender did.
_UNSTUFFED = re.compile(rb"(?<!\r)\n\.(?!\.)")
# A line that is a lone dot but ends in a bare LF: it must not become the end of the message.
_LONE_DOT = re.compile(rb"\r\n\.\n")


def _normalized(window: bytes) -> bytes:
    if b"\n." in window:
        window = _UNSTUFFED.sub(b"\n..", window)
        window = _LONE_DOT.sub(b"\r\n..\n", window)
    return window.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


# What only the next octet decides about: the start of CRLF.CRLF, a bare LF (a dot may follow), and a dot on its own
# line before one (were the two parted, each would look harmless and together they would end the message upstream).
_UNDECIDED: Final = re.compile(rb"(?:\r(?:\n(?:\.\r?)?)?|(?:\r\n\.)?\n\.?)\Z")
_LONGEST_UNDECIDED: Final = 5


def _undecided(window: bytes) -> int:
    """How many octets at the end of the window must wait for the next piece."""
    found = _UNDECIDED.search(window[-_LONGEST_UNDECIDED:])
    return len(found[0]) if found else 0


class HeaderCollector:
    """Splits clean pieces at the first empty line: header section here, body there (RFC 5322 section 2.1)."""

    def __init__(self, limit: int = HEADER_LIMIT) -> None:
        self.too_long = False
        self._limit = limit
        self._gathered = bytearray()
        self._searched = 0
        self._complete = False

    def feed(self, piece: bytes) -> bytes:
        """Take a piece; give back what of it belongs to the body."""
        if self._complete or self.too_long:
            return piece if self._complete else b""
        self._gathered += piece
        end = self._find_end()
        if end < 0:
            self._searched = max(0, len(self._gathered) - 3)
            self.too_long = len(self._gathered) > self._limit
        else:
            self.too_long = end > self._limit
            self._complete = not self.too_long
        if self.too_long:
            self._gathered.clear()
        if not self._complete:
            return b""
        body = bytes(self._gathered[end:])
        del self._gathered[end:]
        return body

    def section(self) -> HeaderSection:
        """The header section as it is without its stuffing, with the empty line if there was one."""
        raw = bytes(self._gathered).replace(b"\r\n.", b"\r\n")
        return HeaderSection(raw.removeprefix(b"."))

    def _find_end(self) -> int:
        """Where the body begins, or -1. A message may begin with its empty line: it has no header then."""
        if self._gathered.startswith(b"\r\n"):
            return 2
        found = self._gathered.find(b"\r\n\r\n", self._searched)
        return found + 4 if found >= 0 else -1
