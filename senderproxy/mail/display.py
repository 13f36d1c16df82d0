"""Display names and subjects: decoded as people read them, encoded as they travel.

Guarantees: never raises. What is decoded is one line without control or direction characters, of bounded length; it is
for eyes only and decides nothing. What is encoded is ASCII, and folded.
RFC 2047.
"""

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from binascii import a2b_qp
from typing import Final

_SHOWN: Final = 200  # characters

# The text of an encoded word has no blank and no question mark in it; longer than 75 characters is wrong and common.
_ENCODED_WORD: Final = re.compile(
    rb"=\?([A-Za-z0-9_:+.\-]{1,40}+)(?:\*[A-Za-z0-9\-]{0,20}+)?\?([BbQq])\?([^?\s]{0,1000}+)\?="
)
_BETWEEN_WORDS: Final = re.compile(rb"(\?=)[ \t]++(?==\?)")
# Python knows codecs that are no character sets, and some that take their time.
_CHARSETS: Final = re.compile(
    r"(?i)utf-?8|utf-?7|utf-?16(?:be|le)?|(?:us-)?ascii|iso-?8859-?\d{1,2}|(?:windows|cp)-?\d{3,4}|koi8-[rut]"
    r"|gb2312|gbk|gb18030|hz|big5(?:-hkscs)?|shift[_-]jis|euc-(?:jp|kr)|iso-2022-(?:jp(?:-\d)?|kr)|ks_c_5601-1987|tis-620"
)


def decode_words(raw: bytes) -> str | None:
    """The name, or None where nothing readable is left."""
    joined = _BETWEEN_WORDS.sub(rb"\1", raw)  # blanks between two encoded words are not part of the text (6.2)
    parts: list[str] = []
    position = 0
    for word in _ENCODED_WORD.finditer(joined):
        decoded = _decode(word.group(1).decode("ascii"), word.group(2).lower(), word.group(3))
        if decoded is not None:
            parts += [decode_8bit(joined[position : word.start()]), decoded]
            position = word.end()
    parts.append(decode_8bit(joined[position:]))
    return _presentable("".join(parts))


def _decode(charset: str, encoding: bytes, text: bytes) -> str | None:
    if not _CHARSETS.fullmatch(charset):
        return None
    try:
        octets = a2b_qp(text, header=True) if encoding == b"q" else b64decode(text + b"=" * (-len(text) % 4))
        return octets.decode(charset, "replace")
    except (LookupError, ValueError, Base64Error):
        return None


def decode_8bit(raw: bytes) -> str:
    """Raw 8-bit text: UTF-8, else what Windows machines in western Europe send."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace")


def _presentable(text: str) -> str | None:
    """`isprintable` is false for controls, and for the characters that change the direction of writing."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(printable.split())[:_SHOWN] or None


_PLAIN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_LINE: Final = 70  # octets; leaves room for a field's name
_OCTETS_IN_WORD: Final = 39  # base64 of so many is 52 characters: Subject and one encoded word fit on a line


def encode_phrase(name: str) -> bytes:
    """A display name as it stands before an address: words, a quoted string, or encoded words, folded.

    One phrase whatever the name holds: no control characters, ASCII only. RFC 5322 section 3.2.5, RFC 2047 section 5.
    """
    shown = _presentable(name) or ""
    if shown.isascii() and len(shown) <= _SHOWN and "=?" not in shown:
        if _PLAIN.fullmatch(shown):
            return shown.encode("ascii")
        escaped = shown.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'.encode("ascii")
    return b"\r\n ".join(_encoded_words(shown))


def _encoded_words(text: str) -> list[bytes]:
    words: list[bytes] = []
    octets = b""
    for character in text:
        more = character.encode("utf-8", "replace")
        if len(octets) + len(more) > _OCTETS_IN_WORD:
            words.append(octets)
            octets = b""
        octets += more
    return [b"=?utf-8?b?" + b64encode(word) + b"?=" for word in (*words, octets)]


def encode_unstructured(text: str) -> bytes:
    """Text for a field such as Subject: ASCII words as they are, the others as encoded words, folded (RFC 2047)."""
    lines: list[bytes] = []
    words = text.split()
    position = 0
    while position < len(words):
        end = position
        while end < len(words) and words[end].isascii() == words[position].isascii():
            end += 1
        run = words[position:end]
        # The blank after an encoded word that another one follows is no part of the text: nothing to keep here.
        lines += [word.encode("ascii") for word in run] if run[0].isascii() else _encoded_words(" ".join(run))
        position = end
    return _filled(lines)


def _filled(words: list[bytes]) -> bytes:
    """Words on lines of at most 76 octets, where they are shorter than that."""
    lines: list[bytes] = []
    for word in words:
        if lines and len(lines[-1]) + 1 + len(word) <= _LINE:
            lines[-1] += b" " + word
        else:
            lines.append(word)
    return b"\r\n ".join(lines)
