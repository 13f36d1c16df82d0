"""The DKIM-Signature field of one message. PURE.

Guarantees: From, To, Subject and Date are named once more than they occur, so that none can be added on the way. No
`l=`, so that nothing can be added to the body. Every line has at most 78 octets, whatever the number of fields. Time in
proportion to the header section.
Not here: the hash of the body (dkim.canonical), whether a message is signed (dkim.choice).
RFC 6376 sections 3.5, 3.7 and 5.4.
"""

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

from senderproxy.dkim.canonical import relaxed_field, simple_field
from senderproxy.dkim.key import SigningKey
from senderproxy.mail.header import HeaderSection

NAME: Final = "DKIM-Signature"
OVERSIGNED: Final = ("From", "To", "Subject", "Date")
# Fields of RFC 2045 and RFC 2183 decide how the body is shown. Received, Return-Path and Bcc change on the way.
SIGNED: Final = (
    *OVERSIGNED,
    *("Cc", "Reply-To", "Message-ID"),
    *("MIME-Version", "Content-Type", "Content-Transfer-Encoding"),
    *("Content-Disposition", "Content-ID", "Content-Description"),
)
_LINE: Final = 72  # octets of a folded line, with its blank; RFC 5322 recommends at most 78


def make_signature(header: HeaderSection, body_digest: bytes, key: SigningKey, now: datetime) -> str:
    """The value of the field: signs the header section and the hash of a body in canonical form."""
    names = list(signed_names(header))
    unsigned = _render(
        (
            "v=1;",
            "a=rsa-sha256;",
            "c=relaxed/relaxed;",
            f"d={key.domain};",
            f"s={key.selector};",
            f"t={int(now.timestamp())};",
            *_list("h=", names, ":"),
            f"bh={base64.b64encode(body_digest).decode('ascii')};",
            "b=",
        )
    )
    signed = b"".join(header_octets(header, names, NAME, unsigned.encode("ascii")))
    signature = base64.b64encode(key.sign(signed)).decode("ascii")
    pieces = [signature[at : at + _LINE - 1] for at in range(0, len(signature), _LINE - 1)]
    return "\r\n ".join((unsigned, *pieces))


def signed_names(header: HeaderSection) -> Iterator[str]:
    """The names for `h=`: once for each field, and once more if it is oversigned."""
    indexes = header.indexes()
    for name in SIGNED:
        yield from (name for _ in indexes.get(name.lower(), ()))
        if name in OVERSIGNED:
            yield name


def header_octets(
    header: HeaderSection, names: Iterable[str], signature_name: str, signature: bytes, *, is_relaxed: bool = True
) -> Iterator[bytes]:
    """The octets that a signature covers: the named fields, from the last of each name up, then the signature itself.

    `signature`: its value with an empty `b=`. RFC 6376 sections 3.7 and 5.4.2.
    """
    canonical = relaxed_field if is_relaxed else simple_field
    fields = header.split()[0]
    left: Mapping[str, list[int]] = {name: list(found) for name, found in header.indexes().items()}
    for name in names:
        if places := left.get(name.lower()):
            field = fields[places.pop()]
            yield canonical(field.name.encode("ascii"), field.value)
    yield canonical(signature_name.encode("ascii"), signature)[:-2]


def _list(tag: str, words: Sequence[str], separator: str) -> Iterator[str]:
    """The words of a list, each with its separator, the last one with a semicolon."""
    for number, word in enumerate(words):
        end = ";" if number == len(words) - 1 else separator
        yield (tag if number == 0 else "") + word + end


def _render(words: Iterable[str]) -> str:
    """The words in folded lines. A blank stands between tags, and none inside of `h=`."""
    lines: list[str] = []
    line, before = "", len(NAME) + 1  # octets before the line
    for word in words:
        blank = "" if not line or line.endswith(":") else " "
        if before + len(line) + len(blank) + len(word) > _LINE:
            lines.append(line)
            line, blank, before = "", "", 1
        line += blank + word
    return "\r\n ".join((*lines, line))
