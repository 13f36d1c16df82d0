"""Conversion of damaged line ends in message data, for the listeners of devices. PURE.

Guarantees: the output is clean for any input that is not refused: every line ends in CRLF, there is no bare CR, bare LF
or NUL, and no line is a single dot; it does not depend on how the stream is cut. Memory use is constant, time linear.
The dot-stuffing that the client did is derived from the line ends as received, never from converted ones.
Not here: the end of the data, which is CRLF.CRLF as received (wire.data_decoder).
RFC 5321 sections 2.3.8 and 4.5.2; docs/decisions/0021 and 0036.
"""

import re
from enum import Enum, auto
from typing import Final

_TOKEN: Final = re.compile(rb"[^\r\n]++|\r++\n?|\n")
_DAMAGED: Final = (b"\r", b"\n", b"\0")  # outside CRLF


class BareCr(Enum):
    """Treatment of a carriage return that does not belong to CRLF."""

    CONVERT = "convert"  # in the body it is a line end; before CRLF, also in the header section, it is dropped
    REJECT = "reject"  # the message is refused


class InvalidOctet(Enum):
    """An octet for which a message is refused at its end (RFC 5321 section 2.3.8)."""

    BARE_CR = "bare CR"
    BARE_LF = "bare LF"
    NUL = "NUL"


class _LineEnd(Enum):
    """A line end as received, by the dot-stuffing of the line after it."""

    STUFFED = auto()  # CRLF, also after further CRs: the client stuffed the next line
    BARE_LF = auto()  # perhaps: a line with two dots was stuffed
    BARE_CR = auto()  # never


class LineEndConverter:
    """Converter of the stream before the end of the data, piece by piece.

    `bare_lf_permitted`: a bare LF is a line end; otherwise it is invalid. A bare CR is a line end in the body, and
    invalid in the header section.
    """

    def __init__(self, *, bare_lf_permitted: bool) -> None:
        self.invalid: InvalidOctet | None = None  # the first one found; no output follows
        self.converted_cr = False
        self.converted_lf = False
        self._bare_lf_permitted = bare_lf_permitted
        self._in_header = True
        self._line_start: _LineEnd | None = _LineEnd.STUFFED  # None: within a line
        self._dot = False  # the line so far is one dot, not yet in the output
        self._crs = 0  # CRs at the end of the input so far: what they mean depends on the next octet

    def feed(self, piece: bytes) -> bytes:
        """Convert the next piece; the output that is certain now (may be empty)."""
        if self._is_refused():
            return b""
        if self._is_clean(piece):
            return self._pass_through(piece)
        out: list[bytes] = []
        for token in _TOKEN.findall(piece):
            self._convert(token, out)
            if self._is_refused():
                break
        return b"".join(out)

    def _convert(self, token: bytes, out: list[bytes]) -> None:
        """Convert a text or a line end, which the end of its piece may have cut."""
        if token[0] not in b"\r\n":
            if self._crs:
                self._end_line(b"\r", out)
            if self.invalid is None:
                self._add_text(token, out)
            return
        crs = self._crs + len(token) - token.endswith(b"\n")
        if token.endswith(b"\n"):
            self._end_line(b"\r" * min(crs, 2) + b"\n", out)
        else:
            self._crs = crs

    def _is_refused(self) -> bool:
        return self.invalid is not None

    def _is_clean(self, piece: bytes) -> bool:
        """True if the piece can go through as it is: the usual case, in the body, of a client without damage."""
        return (
            len(piece) > 2
            and not self._in_header
            and self._line_start in (None, _LineEnd.STUFFED)
            and not (self._dot or self._crs)
            and not _has_damage(piece.replace(b"\r\n", b""))
        )

    def _pass_through(self, piece: bytes) -> bytes:
        if piece.endswith(b"\r\n."):
            self._line_start, self._dot = _LineEnd.STUFFED, True
            return piece[:-1]
        self._line_start = _LineEnd.STUFFED if piece.endswith(b"\r\n") else None
        return piece

    def _add_text(self, text: bytes, out: list[bytes]) -> None:
        if b"\0" in text:
            self.invalid = InvalidOctet.NUL
            return
        if self._dot:
            text, self._dot = b"." + text, False
        elif self._line_start is not None and text == b".":
            self._dot = True
            return
        if text[:1] == b"." and (
            self._line_start is _LineEnd.BARE_CR or (self._line_start is _LineEnd.BARE_LF and text[:2] != b"..")
        ):
            out.append(b".")
        self._line_start = None
        out.append(text)

    def _end_line(self, line_end: bytes, out: list[bytes]) -> None:
        """End the line. A line of one dot gets a second one: it must not become the end of the message."""
        self._crs = 0
        kind = _LineEnd.STUFFED
        if line_end == b"\n":
            kind = _LineEnd.BARE_LF
            self.converted_lf = True
            if not self._bare_lf_permitted:
                self.invalid = InvalidOctet.BARE_LF
        elif line_end != b"\r\n":
            kind = _LineEnd.STUFFED if line_end.endswith(b"\n") else _LineEnd.BARE_CR
            self.converted_cr = True
            if kind is _LineEnd.BARE_CR and self._in_header:
                self.invalid = InvalidOctet.BARE_CR
        if self.invalid is not None:
            return
        if self._line_start is not None and not self._dot:
            self._in_header = False  # an empty line
        out.append(b"..\r\n" if self._dot else b"\r\n")
        self._dot = False
        self._line_start = kind


def _has_damage(text: bytes) -> bool:
    return any(octet in text for octet in _DAMAGED)
