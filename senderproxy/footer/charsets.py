"""Character sets of text parts. PURE.

Guarantees: only known character sets are decoded: Python also has codecs that are none, and slow ones.
RFC 2045 section 5.2, RFC 2046 section 4.1.2; WHATWG Encoding (labels of Windows character sets).
"""

import codecs
import re
from dataclasses import dataclass
from typing import Final

_SUPERSETS: Final = re.compile(
    r"utf-?8|us-ascii|ascii|iso-?8859-?[0-9]{1,2}|(?:windows|cp)-?125[0-8]|windows-874|koi8-[ru]|tis-620"
    r"|gb2312|gbk|gb18030|big5(?:-hkscs)?|shift[_-]jis|euc-(?:jp|kr)|ks_c_5601-1987"
)
_OTHERS: Final = re.compile(r"utf-?(?:7|16(?:le|be)?|32(?:le|be)?)|iso-2022-(?:jp(?:-[123])?|kr)|hz(?:-gb-2312)?")
# Readers take each as the larger one that Windows programs mean by it.
_READ_AS: Final = {
    "iso-8859-1": "cp1252",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "shift-jis": "cp932",
    "euc-kr": "cp949",
    "ks_c_5601-1987": "cp949",
    "windows-874": "cp874",
    "hz-gb-2312": "hz",
}


@dataclass(frozen=True, slots=True)
class Charset:
    """A known character set: the codecs that write and read it."""

    writing: str
    reading: str
    is_superset: bool  # of ASCII: an octet below 128 is always that character


UTF_8: Final = Charset("utf-8", "utf-8", is_superset=True)


def charset_of(label: str) -> Charset | None:
    """The character set of a label in a Content-Type field; None for an unknown one."""
    name = label.strip().lower()
    is_superset = _SUPERSETS.fullmatch(name) is not None
    if not is_superset and not _OTHERS.fullmatch(name):
        return None
    reading = _READ_AS.get(name, name)
    writing = reading if name in ("windows-874", "ks_c_5601-1987", "hz-gb-2312") else name
    try:
        codecs.lookup(writing)
        codecs.lookup(reading)
    except LookupError:  # such as ISO-8859-12
        return None
    return Charset(writing, reading, is_superset)
