"""Linear scanners for fields that do not follow the grammar: address lists, loose mailboxes, quoted text. PURE.

Guarantees: time is linear in the length of the field, for any content. A regular expression cannot guarantee that: an
unclosed quotation mark or bracket makes it scan to the end again and again.

Not here: fields that follow the grammar (mail.author), the repairs (rewriting.repair).
"""

import re
from collections.abc import Callable, Iterator
from typing import Final

_UNTIL_MARK: Final = re.compile(rb'[^,"(<]*+')
_UNTIL_MARK_OR_BACKSLASH: Final = {
    b'"': re.compile(rb'(?>(?:[^"\\]++|\\.)*)', re.DOTALL),
    b"(": re.compile(rb"(?>(?:[^()\\]++|\\.)*)", re.DOTALL),
    b"<": re.compile(rb"[^<>]*+"),
}
_CLOSING: Final = {b'"': b'"', b"(": b")", b"<": b">"}


def split_list(value: bytes) -> Iterator[bytes]:
    """Elements of an address list: split at each comma outside quotation marks, comments and angle brackets.

    A mark that is never closed is an ordinary character. Comments do not nest here.
    """
    start = position = 0
    # Where a scan for a closing mark failed: every opening mark before that place fails there too, because the scan
    # passed it as an escaped character and goes on from it in the same step.
    failed_at = dict.fromkeys(_CLOSING, 0)
    while True:
        found = _UNTIL_MARK.match(value, position)
        assert found is not None  # it matches nothing, too
        position = found.end()
        mark = value[position : position + 1]
        if not mark:
            yield value[start:]
            return
        if mark == b",":
            yield value[start:position]
            start = position = position + 1
            continue
        position += 1
        if position > failed_at[mark]:
            end = _closing(value, position, mark)
            if value[end : end + 1] == _CLOSING[mark]:
                position = end + 1
            else:
                failed_at[mark] = end


def _closing(value: bytes, position: int, mark: bytes) -> int:
    """End of the text after an opening mark: the position of its closing mark, or of the last possible one."""
    inside = _UNTIL_MARK_OR_BACKSLASH[mark].match(value, position)
    assert inside is not None
    return inside.end()


def replace_quoted(text: bytes, replacement: Callable[[bytes], bytes]) -> bytes:
    """Replace the inside of each quoted string. The text from an unclosed quotation mark on stays unchanged.
    `text` is one line, without CR and LF.
    """
    parts: list[bytes] = []
    position = 0
    while (opening := text.find(b'"', position)) >= 0:
        end = _closing(text, opening + 1, b'"')
        if end >= len(text) or text[end : end + 1] != b'"':
            break
        parts += (text[position : opening + 1], replacement(text[opening + 1 : end]), b'"')
        position = end + 1
    return b"".join((*parts, text[position:]))


_TRAILING: Final = ";,"  # punctuation that programs leave after an address
_NO_ADDRESS: Final = frozenset('<>@,;:"()')


def find_loose_mailbox(text: str) -> tuple[str, str] | None:
    """Find name and address in `Name <address>`, `Name address` or `address`. Returns None for anything else.

    Blanks inside the brackets, a missing bracket and punctuation after the address are ignored. Neither the name nor
    the text after the address may contain a second bracket.
    """
    return _in_brackets(text) or _at_the_end(text)


def _in_brackets(text: str) -> tuple[str, str] | None:
    name, opened, rest = text.partition("<")
    inside, closed, trailing = rest.partition(">")
    if not (opened and closed) or ">" in name or "<" in inside or not _is_punctuation(trailing):
        return None
    address = inside.strip()
    if len(address.split()) != 1 or "@" not in address[1:-1]:
        return None
    return name, address


def _at_the_end(text: str) -> tuple[str, str] | None:
    words = _stripped(text).removesuffix(">").rsplit(None, 1)
    if not words:
        return None
    address = words[-1].removeprefix("<")
    name = words[0] if len(words) == 2 else ""
    local_part, at, domain = address.partition("@")
    if not (local_part and at and domain) or not _NO_ADDRESS.isdisjoint(local_part + domain):
        return None
    return None if any(mark in name for mark in "<>@") else (name, address)


def _stripped(text: str) -> str:
    """The text without blanks and punctuation at its end."""
    end = len(text)
    while end and (text[end - 1].isspace() or text[end - 1] in _TRAILING):
        end -= 1
    return text[:end]


def _is_punctuation(text: str) -> bool:
    return not _stripped(text)
