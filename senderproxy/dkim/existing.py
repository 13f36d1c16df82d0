"""Signatures that a message has already: is one of them valid and of the author's domain? PURE.

Guarantees: a signature by a key of ours is verified. One by another key of the domain, such as that of an internal
server, counts if its body hash is right and none of its fields has changed since the message came in: its key is not
looked up. At most SIGNATURES signatures are read. Time in proportion to the header section.
Not here: our own signature (dkim.signature). RFC 6376 sections 3.5 and 6.1, RFC 8301 (no SHA-1).
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from senderproxy.dkim.key import SigningKey
from senderproxy.dkim.signature import NAME, header_octets
from senderproxy.mail.header import HeaderSection

SIGNATURES: Final = 10  # of the domain; a message has one or two
_ALGORITHMS: Final = (b"rsa-sha256", b"ed25519-sha256")
_BLANKS: Final = b" \t\r\n"


@dataclass(frozen=True, slots=True)
class ExistingSignature:
    """A signature of the author's domain, as far as it can be read."""

    field: str  # the name of its field, as written
    value: bytes  # with an empty b=
    selector: str
    algorithm: bytes
    is_header_relaxed: bool
    is_body_relaxed: bool
    names: tuple[str, ...]
    body_digest: bytes
    signature: bytes

    def is_valid(
        self, body_digest: bytes, header: HeaderSection, received: HeaderSection, keys: Sequence[SigningKey]
    ) -> bool:
        """True if it fits the body's hash and the header. `received`: as it came in; `keys`: ours of the domain."""
        if body_digest != self.body_digest:
            return False
        own = next((key for key in keys if key.selector == self.selector), None)
        if own is None:
            return all(header.values(name) == received.values(name) for name in dict.fromkeys(self.names))
        octets = header_octets(header, self.names, self.field, self.value, is_relaxed=self.is_header_relaxed)
        return self.algorithm == b"rsa-sha256" and own.verify(self.signature, b"".join(octets))


def find_signatures(header: HeaderSection, domain: str, now: datetime) -> list[ExistingSignature]:
    """The signatures of this domain that can be read and have not expired."""
    fields = header.split()[0]
    found: list[ExistingSignature] = []
    for index in header.indexes().get(NAME.lower(), ()):
        if (one := _read(fields[index].name, fields[index].value, domain, now)) is not None:
            found.append(one)
        if len(found) >= SIGNATURES:
            break
    return found


def _read(field: str, value: bytes, domain: str, now: datetime) -> ExistingSignature | None:
    tags = _tags(value)
    names = tuple(name.decode("ascii", "replace") for name in tags.get(b"h", b"").split(b":"))
    head, _slash, body = tags.get(b"c", b"simple/simple").partition(b"/")
    body = body or b"simple"
    is_usable = (
        tags.get(b"v") == b"1"
        and tags.get(b"a") in _ALGORITHMS
        and tags.get(b"d", b"").lower() == domain.encode("ascii")
        and {head, body} <= {b"simple", b"relaxed"}
        and b"l" not in tags
        and "from" in (name.lower() for name in names)
        and not _is_past(tags.get(b"x", b""), now)
    )
    if not is_usable:
        return None
    try:
        digest, signature = (base64.b64decode(tags.get(tag, b""), validate=True) for tag in (b"bh", b"b"))
    except (binascii.Error, ValueError):
        return None
    if not signature or len(digest) != hashlib.sha256().digest_size:
        return None
    return ExistingSignature(
        field,
        _without_signature(value),
        tags.get(b"s", b"").decode("ascii", "replace").lower(),
        tags[b"a"],
        head == b"relaxed",
        body == b"relaxed",
        names,
        digest,
        signature,
    )


def _tags(value: bytes) -> Mapping[bytes, bytes]:
    """The values by their tags, without any blanks. Of a repeated tag the first one."""
    tags: dict[bytes, bytes] = {}
    for part in value.translate(None, _BLANKS).split(b";"):
        name, _equals, text = part.partition(b"=")
        tags.setdefault(name, text)
    return tags


def _without_signature(value: bytes) -> bytes:
    """The value with an empty `b=`. RFC 6376 section 3.7."""
    parts = value.split(b";")
    for number, part in enumerate(parts):
        name, equals, _text = part.partition(b"=")
        if name.strip(_BLANKS) == b"b":
            parts[number] = name + equals
    return b";".join(parts)


def _is_past(text: bytes, now: datetime) -> bool:
    return text.isdigit() and len(text) <= 12 and int(text) < now.timestamp()
