"""Display names and subjects: decoding for people, encoding for header fields. PURE.

Guarantees: never raises. Decoded text is one line of bounded length without control and direction characters; it is for
display only. Encoded text is ASCII and folded.

RFC 2047.
"""

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from binascii import a2b_qp
from typing import Final

_DISPLAY_LIMIT: Final = 200  # characters of a decoded text

# The text of an encoded word has no blank and no question mark. More than 75 characters are invalid but common.
_ENCODED_WORD: Final = re.compile(
    rb"=\?([A-Za-z0-9_:+.\-]{1,40}+)(?:\*[A-Za-z0-9\-]{0,20}+)?\?([BbQq])\?([^?\s]{0,1000}+)\?="
)
_BETWEEN_WORDS: Final = re.compile(rb"(\?=)[ \t]++(?==\?)")
# Python also has codecs that are not character sets, and slow ones.
_CHARSETS: Final = re.compile(
    r"(?i)utf-?8|utf-?7|utf-?16(?:be|le)?|(?:us-)?ascii|iso-?8859-?\d{1,2}|(?:windows|cp)-?\d{3,4}|koi8-[rut]"
    r"|gb2312|gbk|gb18030|hz|big5(?:-hkscs)?|shift[_-]jis|euc-(?:jp|kr)|iso-2022-(?:jp(?:-\d)?|kr)|ks_c_5601-1987|tis-620"
)


def printable(text: str) -> str:
    """Text from outside, safe on a terminal or a page: control characters and changes of direction are escaped."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def decode_words(raw: bytes) -> str | None:
    """Decode encoded words and 8-bit text. Returns None if no printable text is left."""
    joined = _BETWEEN_WORDS.sub(rb"\1", raw)  # blanks between two encoded words are not part of the text (6.2)
    parts: list[str] = []
    position = 0
    for word in _ENCODED_WORD.finditer(joined):
        decoded = _decode(word.group(1).decode("ascii"), word.group(2).lower(), word.group(3))
        if decoded is not None:
            parts += [decode_8bit(joined[position : word.start()]), decoded]
            position = word.end()
    parts.append(decode_8bit(joined[position:]))
    return _printable_line("".join(parts))


def _decode(charset: str, encoding: bytes, text: bytes) -> str | None:
    if not _CHARSETS.fullmatch(charset):
        return None
    try:
        octets = a2b_qp(text, header=True) if encoding == b"q" else b64decode(text + b"=" * (-len(text) % 4))
        return octets.decode(charset, "replace")
    except (LookupError, ValueError, Base64Error):
        return None


def decode_8bit(raw: bytes) -> str:
    """Decode raw 8-bit text as UTF-8, else as Windows-1252."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace")


def _printable_line(text: str) -> str | None:
    """One printable line. `isprintable` is false for control characters and for those that change the direction."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(printable.split())[:_DISPLAY_LIMIT] or None


_PLAIN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_LINE: Final = 70  # octets; leaves space for the name of the field
_OCTETS_IN_WORD: Final = 39  # octets; 52 characters of base64, so that Subject and one encoded word fit on a line


def encode_phrase(name: str) -> bytes:
    """Encode a display name for an address field: words, a quoted string, or folded encoded words.

    The result is one phrase in ASCII for any name. RFC 5322 section 3.2.5, RFC 2047 section 5.
    """
    line = _printable_line(name) or ""
    if line.isascii() and len(line) <= _DISPLAY_LIMIT and "=?" not in line:
        if _PLAIN.fullmatch(line):
            return line.encode("ascii")
        escaped = line.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'.encode("ascii")
    return b"\r\n ".join(encode_words(line))


def encode_words(text: str) -> list[bytes]:
    """Encode text as encoded words; a reader joins them without the blanks between them."""
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
    """Encode text for a field such as Subject: ASCII words unchanged, others as encoded words, folded (RFC 2047)."""
    lines: list[bytes] = []
    words = text.split()
    position = 0
    while position < len(words):
        end = position
        while end < len(words) and words[end].isascii() == words[position].isascii():
            end += 1
        run = words[position:end]
        # The blank between two encoded words is not part of the text.
        lines += [word.encode("ascii") for word in run] if run[0].isascii() else encode_words(" ".join(run))
        position = end
    return _fold(lines)


def _fold(words: list[bytes]) -> bytes:
    """Join words to lines of at most 76 octets, except for longer words."""
    lines: list[bytes] = []
    for word in words:
        if lines and len(lines[-1]) + 1 + len(word) <= _LINE:
            lines[-1] += b" " + word
        else:
            lines.append(word)
    return b"\r\n ".join(lines)
