"""A key and its certificate, made for a test."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa


@dataclass(frozen=True, slots=True)
class CertifiedKey:
    """A private key and its certificate in PEM, and the public key."""

    key: str
    certificate: str
    public: rsa.RSAPublicKey


def certified_key(bits: int = 2048, until: datetime | None = None) -> CertifiedKey:
    """Return a new RSA key with a certificate of its own, valid until that time (in two years)."""
    private = rsa.generate_private_key(65537, bits)
    now = datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "senderproxy")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(until or now + timedelta(days=730))
        .sign(private, hashes.SHA256())
    )
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return CertifiedKey(
        pem.decode(), certificate.public_bytes(serialization.Encoding.PEM).decode(), private.public_key()
    )
