"""Subject of a message for searches: decoded text, and its words. PURE.

Guarantees: never raises, for any octets of a header section; text and words are bounded, and the time is linear. The
text is one printable line. A search and a stored subject have their words from the same function, and different code
points for the same letter are the same word.
RFC 2047, RFC 5322 section 3.6.5.
"""

import re
import unicodedata
from typing import Final

from senderproxy.mail.display import decode_words
from senderproxy.mail.header import HeaderSection

WORD_LIMIT: Final = 40  # characters of a word; longer ones are cut, and found by their beginning
WORDS_LIMIT: Final = 30  # different words of a subject; 200 characters of usual text have fewer
LEAST_BEGINNING: Final = 3  # characters of a search word that also finds longer words
_RAW_LIMIT: Final = 4000  # octets of a field that are decoded; 200 characters as encoded words have fewer
_TEXT_LIMIT: Final = 1000  # characters whose words are looked for; more only a search could have
_WORD: Final = re.compile(r"\w+")


def subject_of(header: HeaderSection) -> str:
    """The decoded subject; empty if there is none."""
    values = header.values("Subject")
    return (decode_words(values[0][:_RAW_LIMIT]) or "") if values else ""


def subject_words(text: str) -> tuple[str, ...]:
    """The different words of a text, in lower case, without accents that are characters of their own."""
    folded = unicodedata.normalize("NFKC", text[:_TEXT_LIMIT]).casefold()
    letters = "".join(each for each in folded if unicodedata.category(each)[0] != "M")
    found = (word[:WORD_LIMIT] for word in _WORD.findall(letters))
    return tuple(dict.fromkeys(found))[:WORDS_LIMIT]
