"""Signatures that a message has already, and when they are left alone."""

import base64
from datetime import timedelta

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from senderproxy.dkim.existing import SIGNATURES, find_signatures
from senderproxy.mail.header import HeaderSection
from tests.senderproxy.dkim.signing import DOMAIN, NOW, private_key, signed, signing_key, split, verified

PLAIN = (
    b"From: Anna <anna@firma.example>\r\nTo: x@kunde.example\r\nSubject: Hallo\r\n"
    b"Date: Sat, 31 Jan 2026 08:15:00 +0100\r\nMessage-ID: <1@x>\r\n\r\nGuten  Tag \r\n\r\n\r\n"
)


def signed_by_dkimpy(
    selector: str, *, canonical: str = "relaxed/relaxed", length: bool = False, raw: bytes = PLAIN
) -> bytes:
    pem = private_key(selector).reveal_pem().encode()
    forms = tuple(form.encode() for form in canonical.split("/"))
    return bytes(dkim.sign(raw, selector.encode(), DOMAIN.encode(), pem, canonicalize=forms, length=length)) + raw


@pytest.mark.parametrize("canonical", ["relaxed/relaxed", "relaxed/simple", "simple/relaxed", "simple/simple"])
@pytest.mark.parametrize("selector", ["sp1", "of-the-internal-server"])
def test_a_valid_signature_of_the_domain_stays_alone(canonical: str, selector: str) -> None:
    before = signed_by_dkimpy(selector, canonical=canonical)
    assert signed(before) == before


def test_our_own_signature_stays_alone() -> None:
    once = signed(PLAIN)
    assert signed(once) == once
    assert signed(once, signing_key("sp2"), signing_key("sp1")) == once  # after a rotation, and the key is known


@pytest.mark.parametrize("canonical", ["relaxed/relaxed", "simple/simple"])
@pytest.mark.parametrize(
    "change", [(b"Guten", b"Schlechten"), (b"Subject: Hallo", b"Subject: hallo"), (b"bh=", b"bh=AAAA")]
)
def test_a_broken_signature_of_ours_gets_a_valid_one_on_top(canonical: str, change: tuple[bytes, bytes]) -> None:
    broken = signed_by_dkimpy("sp1", canonical=canonical).replace(*change, 1)
    after = signed(broken)
    assert after.endswith(broken)
    assert after != broken
    assert verified(after)


def test_a_signature_of_another_key_is_broken_by_a_change_of_ours() -> None:
    """Its key is not looked up: what counts is whether its fields left as they came in."""
    received = signed_by_dkimpy("of-the-internal-server")
    changed = received.replace(b"Subject: Hallo", b"Subject: Ciao")
    assert signed(received, received=received) == received
    assert signed(changed, received=received) != changed
    other_body = received.replace(b"Guten", b"guten")
    assert signed(other_body, received=other_body) != other_body


@pytest.mark.parametrize(
    "change",
    [
        (b"d=firma.example", b"d=laden.example"),
        (b"d=firma.example", b"d=mail.firma.example"),
        (b"v=1", b"v=2"),
        (b"a=rsa-sha256", b"a=rsa-sha1"),
        (b"c=relaxed/relaxed", b"c=nowsp/relaxed"),
        (b"s=other", b"x=1700000000; s=other"),
        (b"b=", b"b=!"),
        (b" b=", b" l=5; b="),
    ],
    ids=lambda change: change[1].decode(),
)
def test_what_is_no_valid_signature_of_the_domain_does_not_count(change: tuple[bytes, bytes]) -> None:
    before = signed_by_dkimpy("other")
    value_end = before.index(b"From: Anna")
    broken = before[:value_end].replace(*change, 1) + before[value_end:]
    assert broken != before
    assert find_signatures(split(before)[0], DOMAIN, NOW)
    assert not find_signatures(split(broken)[0], DOMAIN, NOW)
    assert verified(signed(broken))


def test_a_signature_with_a_body_length_does_not_count() -> None:
    before = signed_by_dkimpy("sp1", length=True)
    assert signed(before) != before


def test_a_signature_that_has_expired_or_does_not_sign_the_author_does_not_count() -> None:
    value = f"v=1; a=rsa-sha256; d={DOMAIN}; s=x; h=from; bh={base64.b64encode(bytes(32)).decode()}; b=AAAA; x={int(NOW.timestamp())}"
    assert not find_signatures(
        HeaderSection(f"DKIM-Signature: {value.replace('h=from', 'h=to:sender')}\r\n\r\n".encode()), DOMAIN, NOW
    )
    header = HeaderSection(f"DKIM-Signature: {value}\r\n\r\n".encode())
    assert find_signatures(header, DOMAIN, NOW)
    assert not find_signatures(header, DOMAIN, NOW + timedelta(seconds=1))


def test_signatures_are_bounded() -> None:
    once = signed_by_dkimpy("other")
    field = once[: once.index(b"From: Anna")]
    header, _body = split(field * 1000 + PLAIN)
    assert len(find_signatures(header, DOMAIN, NOW)) == SIGNATURES


def test_a_key_of_another_size() -> None:
    """A forged signature of any length is refused, and raises nothing."""
    other = rsa.generate_private_key(65537, 3072)
    pem = other.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    before = bytes(dkim.sign(PLAIN, b"sp1", DOMAIN.encode(), pem)) + PLAIN
    assert verified(signed(before))
