"""One signature on one message: the body is read once, for our signature and for those that are there. PURE.

Guarantees: a message with a valid signature of the author's domain gets no second one. The header section is the given
one with one field on top; the body is not changed.
Not here: the threads and the body's disk (relay.dkim_signing).
"""

from collections.abc import Iterable
from datetime import datetime

from senderproxy.dkim.canonical import RelaxedBodyHash, SimpleBodyHash
from senderproxy.dkim.choice import KeyRing
from senderproxy.dkim.existing import find_signatures
from senderproxy.dkim.key import SigningKey
from senderproxy.dkim.signature import NAME, make_signature
from senderproxy.mail.header import HeaderSection


def sign(
    key: SigningKey,
    ring: KeyRing,
    header: HeaderSection,
    received: HeaderSection,
    body: Iterable[bytes],
    now: datetime,
) -> HeaderSection:
    """The header section with a signature on top, or as it is if a valid one is there.

    `received`: the header section as it came in; `body`: its blocks, without dot-stuffing.
    """
    existing = find_signatures(header, key.domain, now)
    hashes: dict[bool, RelaxedBodyHash | SimpleBodyHash] = {True: RelaxedBodyHash()}
    if not all(one.is_body_relaxed for one in existing):
        hashes[False] = SimpleBodyHash()
    for block in body:
        for each in hashes.values():
            each.feed(block)
    keys = ring.known.get(key.domain, ())
    if any(one.is_valid(hashes[one.is_body_relaxed].digest(), header, received, keys) for one in existing):
        return header
    return header.with_first_field(NAME, make_signature(header, hashes[True].digest(), key, now))
