"""Private keys and certificates from PEM files: what is accepted, and the words for everything else."""

from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from senderproxy.signing.errors import SigningKeyError
from senderproxy.signing.rsa_key import RsaKey, load_certificate, load_key
from tests.senderproxy.signing.keys import CertifiedKey, certified_key

_KEY = certified_key(until=datetime(2031, 1, 1, tzinfo=UTC))


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, passphrase: bytes | None = None) -> str:
    protection = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection).decode()


def test_a_key_and_its_certificate() -> None:
    key, certificate = load_key(_KEY.key), load_certificate(_KEY.certificate)
    assert isinstance(key, RsaKey)
    assert key.fits(certificate)
    assert certificate.valid_until == datetime(2031, 1, 1, tzinfo=UTC)
    assert len(certificate.thumbprint) == 32


def test_another_key() -> None:
    other: CertifiedKey = certified_key()
    assert not load_key(other.key).fits(load_certificate(_KEY.certificate))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no private key"),
        ("geheim-nonsense", "no private key"),
        ("ü", "no private key"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "no private key"),
        ("x" * 70_000, "no private key"),
        (_KEY.certificate, "no private key"),
        (pem(rsa.generate_private_key(65537, 1024)), "2048 bits"),
        (pem(ec.generate_private_key(ec.SECP256R1())), "no RSA key"),
        (pem(rsa.generate_private_key(65537, 2048), b"geheim-passphrase"), "passphrase"),
    ],
    ids=["empty", "text", "letter", "damaged", "long", "certificate", "1024 bits", "elliptic", "passphrase"],
)
def test_a_key_that_is_not_usable(text: str, words: str) -> None:
    with pytest.raises(SigningKeyError, match=words) as caught:
        load_key(text)
    assert caught.value.hint
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"), [("", "no certificate"), (_KEY.key, "no certificate")], ids=["empty", "key"]
)
def test_a_certificate_that_is_not_usable(text: str, words: str) -> None:
    with pytest.raises(SigningKeyError, match=words):
        load_certificate(text)
