"""Decoder for message data: end of data, line ends, header section and body. PURE.

Guarantees: only CRLF.CRLF ends a message. The output is clean for any input: every line ends in CRLF, there is no bare
CR, bare LF or NUL and no line with a single dot; it does not depend on how the stream is cut into pieces. A clean
stream comes out unchanged, dot-stuffed as received.
Not here: storage of the body (listener.body), replies (wire.replies).
RFC 5321 sections 2.3.8, 4.1.1.4 and 4.5.2.
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from senderproxy.mail.header import HeaderSection
from senderproxy.wire.line_ends import BareCr, InvalidOctet, LineEndConverter

HEADER_LIMIT: Final = 256 * 1024  # octets; far above any real header section, a bound on memory
FIELD_LIMIT: Final = 1_000  # fields; ten times those of real mail, a bound on the work for each field

_END: Final = b"\r\n.\r\n"


class BareLf(Enum):
    """Treatment of a line feed without a carriage return."""

    NORMALIZE = "normalize"  # it is a line end: old printers and scripts send nothing else
    REJECT = "reject"  # the message is refused


class DataDecoder:
    """Decoder of the stream after 354 into the message in its wire form, without the final dot.

    Octets whose meaning depends on the next one, such as the start of CRLF.CRLF, are held back (at most five), so that
    each piece of output can be checked alone: no CRLF is ever cut in two.
    """

    def __init__(self, bare_lf: BareLf = BareLf.NORMALIZE, bare_cr: BareCr = BareCr.REJECT) -> None:
        self.done = False
        self.rest = b""  # input after the end of data: the next commands
        self.octets = 0  # of the message so far, as received, dot-stuffed
        self.invalid: InvalidOctet | None = None  # the first one found; no output follows
        self.normalized = False  # a bare LF was converted to CRLF
        self.converted_cr = False  # a CR outside CRLF was converted or dropped
        self._bare_lf = bare_lf
        self._converter: LineEndConverter | None = None
        if bare_cr is BareCr.CONVERT:
            self._converter = LineEndConverter(bare_lf_permitted=bare_lf is BareLf.NORMALIZE)
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
            kept = len(window) - (undecided(window) if self._converter is None else _start_of_end(window))
            self._held = window[kept:]
            window = window[:kept]
        if self._converter is not None:
            return self._convert(self._converter, window)
        if self._skip and window:
            clean = self._clean(window)[self._skip :]
            self.octets += len(window) - self._skip
            self._skip = 0
            return clean
        self.octets += len(window)
        return self._clean(window)

    def _convert(self, converter: LineEndConverter, window: bytes) -> bytes:
        """The same octets with damaged line ends converted. The end of the data was found in them as received."""
        if self._skip and window:
            window = window[self._skip :]
            self._skip = 0
        self.octets += len(window)
        clean = converter.feed(window)
        self.invalid, self.converted_cr = converter.invalid, converter.converted_cr
        self.normalized = converter.converted_lf
        return clean if self.invalid is None else b""

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


def undecided(window: bytes) -> int:
    """The number of octets at the end of the window that must wait for the next piece."""
    found = _UNDECIDED.search(window[-_LONGEST_UNDECIDED:])
    return len(found[0]) if found else 0


_START_OF_END: Final = re.compile(rb"\r(?:\n(?:\.\r?)?)?\Z")


def _start_of_end(window: bytes) -> int:
    """The number of octets at the end of the window that may be the start of CRLF.CRLF."""
    found = _START_OF_END.search(window[-len(_END) + 1 :])
    return len(found[0]) if found else 0


# The end of a field: the next line does not continue it (RFC 5322 section 2.2.3).
_FIELD_END: Final = re.compile(rb"\r\n(?![ \t])")
_FIELD_NAME: Final = re.compile(rb"[!-9;-~]{1,76}+(?=[ \t]{0,9}:)")
_FIELD_START: Final = 90  # octets of a field in which its name and colon are looked for
_SHORTEST_FIELD: Final = 3  # octets of a line with its line end


@dataclass(frozen=True, slots=True)
class HeaderTooLarge:
    """A header section over a limit. `largest`: the name of its largest field, `octets`: the size of that field."""

    too_many_fields: bool
    largest: str
    octets: int


class HeaderCollector:
    """Collector of the header section: splits decoded pieces at the first empty line (RFC 5322 section 2.1).

    `limit`: octets of the section. `field_limit`: its fields. Of a section over the limit only sizes are kept.
    """

    def __init__(self, limit: int = HEADER_LIMIT, field_limit: int = FIELD_LIMIT) -> None:
        self._limit = limit
        self._field_limit = field_limit
        self._collected = bytearray()
        self._searched = 0
        self._complete = False
        self._meter: _FieldMeter | None = None  # set where the section has too many octets

    def feed(self, piece: bytes) -> bytes:
        """Add a piece; the part of it that belongs to the body: nothing after a section over the limit."""
        if self._complete:
            return piece
        if self._meter is not None:
            self._meter.feed(piece)
            return b""
        self._collected += piece
        end = self._find_end()
        if (end if end >= 0 else len(self._collected)) > self._limit:
            self._meter = _FieldMeter(self._field_limit)
            self._meter.feed(bytes(self._collected))
            self._collected.clear()
            return b""
        if end < 0:
            self._searched = max(0, len(self._collected) - 3)
            return b""
        self._complete = True
        body = bytes(self._collected[end:])
        del self._collected[end:]
        return body

    def section(self) -> HeaderSection | HeaderTooLarge:
        """The header section without dot-stuffing, with its empty line if there was one; at the end of the message."""
        if self._meter is not None:
            return HeaderTooLarge(False, *self._meter.largest())
        raw = bytes(self._collected).replace(b"\r\n.", b"\r\n")
        if len(raw) > _SHORTEST_FIELD * self._field_limit and self._has_too_many_fields(raw):
            meter = _FieldMeter(self._field_limit)
            meter.feed(raw)
            return HeaderTooLarge(True, *meter.largest())
        return HeaderSection(raw.removeprefix(b"."))

    def _has_too_many_fields(self, raw: bytes) -> bool:
        empty_line = raw.endswith(b"\r\n\r\n")
        lines = raw.count(b"\r\n") - empty_line
        return lines - raw.count(b"\r\n ") - raw.count(b"\r\n\t") > self._field_limit

    def _find_end(self) -> int:
        """The start of the body, or -1. A message that begins with an empty line has no header section."""
        if self._collected.startswith(b"\r\n"):
            return 2
        found = self._collected.find(b"\r\n\r\n", self._searched)
        return found + 4 if found >= 0 else -1


class _FieldMeter:
    """Finds the largest field of a header section that is too large to be kept.

    Only the first `field_limit` fields are measured: a section over both limits takes no more work.
    """

    def __init__(self, field_limit: int) -> None:
        self._left = field_limit
        self._held = b""  # a line end at the end of a piece: the next octet decides whether its field goes on
        self._start = b""
        self._octets = 0
        self._largest = (b"", 0)

    def feed(self, piece: bytes) -> None:
        """Add a piece; what follows the empty line has no effect."""
        if self._left <= 0:
            return
        piece = self._held + piece
        self._held = b"\r\n" if piece.endswith(b"\r\n") else b""
        undecided = len(piece) - len(self._held)
        position = 0
        for found in _FIELD_END.finditer(piece, 0, undecided + 1):
            self._add(piece[position : found.end()])
            position = found.end()
            self._end_field()
            if piece.startswith(b"\r\n", position):
                self._left = 0  # the empty line
            if self._left <= 0:
                return
        self._add(piece[position:undecided])

    def largest(self) -> tuple[str, int]:
        """The name of the largest field, and its octets."""
        last = self._start, self._octets + len(self._held)
        start, octets = max(self._largest, last, key=lambda field: field[1])
        name = _FIELD_NAME.match(start.removeprefix(b"."))  # dot-stuffed
        return (name[0].decode("ascii") if name else "a line without a field name"), octets

    def _add(self, part: bytes) -> None:
        self._octets += len(part)
        if len(self._start) < _FIELD_START:
            self._start = (self._start + part[:_FIELD_START])[:_FIELD_START]

    def _end_field(self) -> None:
        if self._octets > self._largest[1]:
            self._largest = self._start, self._octets
        self._start, self._octets = b"", 0
        self._left -= 1
