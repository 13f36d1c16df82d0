"""Scanner of HTML in any blocks: the place of its end tags, and its visible text. PURE.

Guarantees: time is linear, memory constant, for any octets; tags inside comments, scripts and quoted attributes do
not count.
The character set must be a superset of ASCII.
Not here: the tree of elements: an element that is not closed, or hidden by a style, is not noticed.
WHATWG HTML, section 13.2.5.
"""

import re
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

_NAME_LIMIT: Final = 32  # octets of a tag's name; longer names are of no interest

_NAME: Final = re.compile(rb"[^\s/<>]*+")
_IN_TAG: Final = re.compile(rb"[^>=]*+")
_BLANKS: Final = re.compile(rb"\s*+")

# Elements that do not end a line.
_INLINE: Final = frozenset(
    b"a abbr acronym b big cite code del em font i img ins kbd mark o:p q s small span strike strong sub sup tt u"
    b" wbr".split()
)
# Elements whose content is no markup.
_RAW: Final = frozenset(b"iframe noembed noframes script style textarea title xmp".split())


class _State(Enum):
    TEXT = auto()
    OPEN = auto()  # behind "<"
    TAG = auto()
    VALUE = auto()  # behind the equals sign of an attribute
    QUOTED = auto()
    COMMENT = auto()
    DECLARATION = auto()  # up to ">"
    RAW = auto()


class HtmlScanner:
    """One scan. `body_end` and `html_end` are offsets of the last end tags so far; None without one."""

    def __init__(self, text: Callable[[bytes], None], line_end: Callable[[], None]) -> None:
        """`text` gets the visible text, with character references; `line_end` is called between lines of it."""
        self.body_end: int | None = None
        self.html_end: int | None = None
        self._text = text
        self._line_end = line_end
        self._state = _State.TEXT
        self._offset = 0  # of the block in the document
        self._mark = 0  # offset of the "<" of the tag
        self._name = b""
        self._quote = b""
        self._tail = b""  # the last octets of a comment
        self._raw = b""  # name of the element whose content is no markup
        self._steps: dict[_State, Callable[[bytes, int], int]] = {
            _State.TEXT: self._in_text,
            _State.OPEN: self._in_name,
            _State.TAG: self._in_tag,
            _State.VALUE: self._in_value,
            _State.QUOTED: self._in_quoted,
            _State.COMMENT: self._in_comment,
            _State.DECLARATION: self._in_declaration,
            _State.RAW: self._in_raw,
        }

    @property
    def is_closed(self) -> bool:
        """True outside of tags, comments and elements such as scripts."""
        return self._state is _State.TEXT

    def feed(self, octets: bytes) -> None:
        """Scan the next block."""
        at, end = 0, len(octets)
        while at < end:
            at = self._steps[self._state](octets, at)
        self._offset += end

    # ---- one step in each state: returns the next position ----

    def _in_text(self, octets: bytes, at: int) -> int:
        found = octets.find(b"<", at)
        end = len(octets) if found < 0 else found
        if end > at:
            self._text(octets[at:end])
        return self._open(found, end)

    def _in_raw(self, octets: bytes, at: int) -> int:
        found = octets.find(b"<", at)
        return self._open(found, len(octets) if found < 0 else found)

    def _open(self, found: int, end: int) -> int:
        if found < 0:
            return end
        self._mark, self._name, self._state = self._offset + found, b"", _State.OPEN
        return found + 1

    def _in_name(self, octets: bytes, at: int) -> int:
        if not self._name and octets[at : at + 1] == b"/":
            self._name = b"/"
            return at + 1
        before = len(self._name)
        found = _NAME.match(octets, at, at + _NAME_LIMIT)
        assert found is not None  # it matches nothing, too
        self._name += found[0]
        if self._name.startswith(b"!--") and not self._raw:
            self._state, self._tail = _State.COMMENT, b"--"  # "<!-->" is a whole comment
            return at + 3 - before
        if found.end() == len(octets) and len(self._name) < _NAME_LIMIT:
            return found.end()
        return self._named(found.end())

    def _named(self, end: int) -> int:
        """Decide by the complete name."""
        name = self._name = self._name[:_NAME_LIMIT].lower()
        if self._raw:
            self._state = _State.TAG if name == b"/" + self._raw else _State.RAW
        elif name[:1] in (b"!", b"?") or name == b"/":
            self._state = _State.DECLARATION
        elif name.removeprefix(b"/")[:1].isalpha():
            self._state = _State.TAG
        else:  # not a tag
            self._text(b"<" + name)
            self._state = _State.TEXT
        return end

    def _in_tag(self, octets: bytes, at: int) -> int:
        found = _IN_TAG.match(octets, at)
        assert found is not None  # it matches nothing, too
        at = found.end()
        if at == len(octets):
            return at
        if octets[at : at + 1] == b"=":
            self._state = _State.VALUE
        else:
            self._end_tag()
        return at + 1

    def _in_value(self, octets: bytes, at: int) -> int:
        found = _BLANKS.match(octets, at)
        assert found is not None  # it matches nothing, too
        at = found.end()
        if at == len(octets):
            return at
        self._quote = octets[at : at + 1]
        if self._quote in (b'"', b"'"):
            self._state = _State.QUOTED
            return at + 1
        self._state = _State.TAG
        return at

    def _in_quoted(self, octets: bytes, at: int) -> int:
        found = octets.find(self._quote, at)
        if found < 0:
            return len(octets)
        self._state = _State.TAG
        return found + 1

    def _in_comment(self, octets: bytes, at: int) -> int:
        start = self._tail + octets[at : at + 2]
        found = start.find(b"-->")
        if found >= 0:
            end = at + found + 3 - len(self._tail)
        elif (found := octets.find(b"-->", at)) >= 0:
            end = found + 3
        else:
            self._tail = (self._tail + octets[max(at, len(octets) - 2) :])[-2:]
            return len(octets)
        self._state = _State.TEXT
        return end

    def _in_declaration(self, octets: bytes, at: int) -> int:
        found = octets.find(b">", at)
        if found < 0:
            return len(octets)
        self._state = _State.TEXT
        return found + 1

    def _end_tag(self) -> None:
        name, self._state = self._name, _State.TEXT
        if self._raw:
            self._raw = b""
        elif name in _RAW:
            self._raw, self._state = name, _State.RAW
        elif name == b"/body":
            self.body_end = self._mark
        elif name == b"/html":
            self.html_end = self._mark
        elif name == b"plaintext":
            self._state = _State.DECLARATION  # its text has no end
        if name.removeprefix(b"/") not in _INLINE:
            self._line_end()
