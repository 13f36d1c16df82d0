"""Editors of one text part: in place, or re-encoded as UTF-8. PURE.

Guarantees: in place, the octets before and behind the footer stay as they are, as far as the transfer encoding
permits (footer.transfer); re-encoded, a reader decodes the same text. Memory is bounded by the pieces and by what may
stand behind the place of the footer.
Not here: the place and the text of the footer (footer.text_view).
"""

import codecs
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from senderproxy.footer.charsets import UTF_8, Charset
from senderproxy.footer.reasons import BOUNDARY, CHARSET_DAMAGED, Declined
from senderproxy.footer.text_view import TextView
from senderproxy.footer.transfer import TextEncoder, Transfer, Unencoded

Write = Callable[[bytes], None]

_TAG: Final = 64  # octets that are held back: the start of a tag
_TEXT_PIECE: Final = 64 * 1024  # octets of re-encoded text that are gathered before they are written


class PartEditor(Protocol):
    """An editor of the content of one part."""

    def feed(self, piece: bytes) -> None:
        """More of the content, as encoded. Raises Declined."""
        ...

    def end(self) -> None:
        """The end of the content. Raises Declined."""
        ...


class EditInPlace:
    """The octets of the part, with the footer inserted."""

    def __init__(self, transfer: Transfer, view: TextView, write: Write, boundaries: tuple[bytes, ...]) -> None:
        self._transfer = transfer
        self._view = view
        self._write = write
        self._boundaries = boundaries
        self._held: deque[tuple[bytes, bytes]] = deque()  # the last unit, and those from the place of the footer on
        self._start = 0  # offset of the first of them in the content
        self._size = 0  # octets of the content so far

    def feed(self, piece: bytes) -> None:
        """See PartEditor."""
        for raw, content in self._transfer.units(piece):
            self._add(raw, content)

    def _add(self, raw: bytes, content: bytes) -> None:
        self._held.append((raw, content))
        if content:
            self._size += len(content)
            self._view.feed(content)
        place = self._place
        while len(self._held) > 1 and self._start + len(self._held[0][1]) <= place:
            raw, content = self._held.popleft()
            self._start += len(content)
            self._write(raw)

    def end(self) -> None:
        """See PartEditor."""
        for raw, content in self._transfer.end():
            self._add(raw, content)
        octets = self._view.insertion()
        if isinstance(self._transfer, Unencoded):
            self._check(octets)
        raw = b"".join(unit[0] for unit in self._held)
        content = b"".join(unit[1] for unit in self._held)
        self._write(self._transfer.insert(raw, content, self._place - self._start, octets))

    @property
    def _place(self) -> int:
        """The place of the footer; the end for one that is written already (the start of a tag of many pieces)."""
        place = self._view.place
        return place if place is not None and place >= self._start else self._size

    def _check(self, octets: bytes) -> None:
        """Raise Declined if a line of the footer would be a boundary for some reader."""
        dashed = [line[2:] for line in octets.split(b"\r\n") if line.startswith(b"--")]
        if any(line.startswith(self._boundaries) for line in dashed):
            raise Declined(BOUNDARY)


class EditReencoded:
    """The text of the part as UTF-8, with the footer inserted, in another transfer encoding."""

    def __init__(self, transfer: Transfer, charset: Charset, view: TextView, writer: TextEncoder) -> None:
        """`view` reads UTF-8."""
        self._transfer = transfer
        self._decode = codecs.getincrementaldecoder(charset.reading)("strict").decode
        self._view = view
        self._writer = writer
        self._held = bytearray()  # from the place of the footer on, or less than a piece
        self._start = 0  # offset of its first octet

    def feed(self, piece: bytes) -> None:
        """See PartEditor."""
        for _raw, content in self._transfer.units(piece):
            self._add(content, is_last=False)

    def _add(self, content: bytes, *, is_last: bool) -> None:
        try:
            text = self._decode(content, is_last)
        except UnicodeError as error:
            raise Declined(CHARSET_DAMAGED) from error
        octets = text.encode(UTF_8.writing)
        self._view.feed(octets)
        self._held += octets
        free = self._place if self._view.place is not None else len(self._held) - _TAG
        if free >= _TEXT_PIECE:
            self._writer.write(bytes(self._held[:free]))
            del self._held[:free]
            self._start += free

    def end(self) -> None:
        """See PartEditor."""
        for _raw, content in self._transfer.end():
            self._add(content, is_last=False)
        self._add(b"", is_last=True)
        octets = self._view.insertion()
        place = self._place
        self._writer.write(bytes(self._held[:place]) + octets + bytes(self._held[place:]))
        self._writer.end()

    @property
    def _place(self) -> int:
        """The place of the footer in the held text; the end for one that is written already."""
        place = self._view.place
        return place - self._start if place is not None and place >= self._start else len(self._held)
