"""Keys, messages and verification for the tests of DKIM."""

import base64
import functools
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dkim

from senderproxy.dkim.choice import KeyRing
from senderproxy.dkim.key import SigningKey
from senderproxy.dkim.sign import sign
from senderproxy.domain_records.own_key import record_text
from senderproxy.mail.header import HeaderSection
from senderproxy.signing.rsa_key import RsaKey, make_key

DOMAIN = "firma.example"
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
TESTS = Path(__file__).parents[2]


@functools.cache
def private_key(name: str = "sp1") -> RsaKey:
    return make_key()


def signing_key(selector: str = "sp1", domain: str = DOMAIN) -> SigningKey:
    private = private_key(selector)
    return SigningKey(domain, selector, private.public_octets(), private.sign_rs256, private.verify_rs256)


def ring(*keys: SigningKey) -> KeyRing:
    """These keys, of which the first one of each domain signs."""
    signing: dict[str, SigningKey] = {}
    known: dict[str, list[SigningKey]] = {}
    for key in keys:
        signing.setdefault(key.domain, key)
        known.setdefault(key.domain, []).append(key)
    return KeyRing(signing, known)


def split(raw: bytes) -> tuple[HeaderSection, bytes]:
    header, empty, body = raw.partition(b"\r\n\r\n")
    return HeaderSection(header + empty), body


def pieces(octets: bytes, size: int) -> Iterator[bytes]:
    return (octets[at : at + size] for at in range(0, len(octets), size))


def signed(
    raw: bytes, key: SigningKey | None = None, *more: SigningKey, received: bytes | None = None, cut: int = 1 << 19
) -> bytes:
    """The message with a signature, or as it is."""
    key = key or signing_key()
    header, body = split(raw)
    before = header if received is None else split(received)[0]
    return sign(key, ring(key, *more), header, before, pieces(body, cut), NOW).raw + body


def verified(raw: bytes, *keys: SigningKey) -> bool:
    """True if dkimpy verifies the topmost signature."""
    records = {f"{key.name}.".encode(): record_text(key.public).encode() for key in keys or (signing_key(),)}
    return bool(dkim.verify(raw, dnsfunc=lambda name, timeout=5: records.get(name)))


def corpus() -> Iterator[tuple[str, bytes]]:
    """The messages of the corpus and of the field cases, with CRLF, each as one of our domain."""
    for folder in ("corpus/messages", "corpus/dsn", "field/cases"):
        for file in sorted((TESTS / folder).glob("*.eml")):
            raw = file.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
            if b"\r\n\r\n" in raw:
                yield file.stem, raw if raw.endswith(b"\r\n") else raw + b"\r\n"


def public_value(key: SigningKey) -> str:
    return base64.b64encode(key.public).decode()
