"""Display names as people read them: encoded words decoded, raw 8-bit guessed.

Promises: never raises; one line, no control or direction characters, bounded length. The outcome is for eyes only and
decides nothing: it is never parsed.
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
            parts += [_guess(joined[position : word.start()]), decoded]
            position = word.end()
    parts.append(_guess(joined[position:]))
    return _presentable("".join(parts))


def _decode(charset: str, encoding: bytes, text: bytes) -> str | None:
    if not _CHARSETS.fullmatch(charset):
        return None
    try:
        octets = a2b_qp(text, header=True) if encoding == b"q" else b64decode(text + b"=" * (-len(text) % 4))
        return octets.decode(charset, "replace")
    except (LookupError, ValueError, Base64Error):
        return None


def _guess(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace")


def _presentable(text: str) -> str | None:
    """`isprintable` is false for controls, and for the characters that change the direction of writing."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(printable.split())[:_SHOWN] or None


_PLAIN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_OCTETS_IN_WORD: Final = 45  # base64 of so many is 60 characters: with its frame an encoded word stays below 75


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
    words: list[bytes] = []
    octets = b""
    for character in shown:
        more = character.encode("utf-8")
        if len(octets) + len(more) > _OCTETS_IN_WORD:
            words.append(octets)
            octets = b""
        octets += more
    return b"\r\n ".join(b"=?utf-8?b?" + b64encode(word) + b"?=" for word in (*words, octets))
