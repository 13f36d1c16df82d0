"""Temporary certificate authority that issues valid and invalid server certificates.

Guarantees: valid certificates have all extensions that the strict verification of Python 3.13 requires (key usage,
subject and authority key identifier). Keys are P-256. Certificates are valid for a week.

Not here: the files (simulator.server), the TLS session (ssl).

RFC 5280 section 4.2.1. The only module of senderproxy that imports cryptography.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from senderproxy.simulator.settings import CertificateKind

_LIFETIME: Final = timedelta(days=7)  # longer than any run of the demo or the tests
_CLOCK_SKEW: Final = timedelta(hours=1)  # between two machines that use the certificate
_LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Authority:
    """Temporary certificate authority."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def create(cls, now: datetime, name: str = "senderproxy temporary authority") -> "Authority":
        """Create an authority with a new key, valid from `now` on."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(name)
        builder = _builder(subject, subject, key, now - _CLOCK_SKEW, now + _LIFETIME)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
        )
        return cls(builder.sign(key, hashes.SHA256()), key)

    @property
    def pem(self) -> bytes:
        """The certificate without its key, for clients that trust it."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, host: str, kind: CertificateKind, now: datetime) -> bytes:
        """Issue a certificate for this host and loopback. Returns certificate and key as PEM for load_cert_chain."""
        names = ("elsewhere.example",) if kind is CertificateKind.OTHER_NAME else (host, *_LOOPBACK_NAMES)
        begins, ends = now - _CLOCK_SKEW, now + _LIFETIME
        if kind is CertificateKind.EXPIRED:
            begins, ends = now - _LIFETIME, now - timedelta(days=1)
        elif kind is CertificateKind.NOT_YET_VALID:
            begins = now + timedelta(days=1)
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = self
        if kind is CertificateKind.OTHER_AUTHORITY:
            issuer = Authority.create(now, "unknown authority")
        elif kind is CertificateKind.SELF_SIGNED:
            issuer = Authority(self.certificate, key)
        subject = _name(names[0])
        issued_by = subject if kind is CertificateKind.SELF_SIGNED else issuer.certificate.subject
        builder = _builder(subject, issued_by, key, begins, ends)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        builder = builder.add_extension(x509.SubjectAlternativeName([_alternative(n) for n in names]), critical=False)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False
        )
        certificate = builder.sign(issuer.key, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, begins: datetime, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
