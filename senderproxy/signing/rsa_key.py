"""RSA keys: signatures for OAuth's signed requests and for DKIM, new keys, and the certificate of a key.

Guarantees: no error, repr or pickle contains the key. A key below 2048 bits is refused: no server accepts it.
Not here: the requests and messages that are signed (oauth.assertion, dkim). RFC 7518 sections 3.3 and 3.5.
"""

import binascii
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.backends.openssl import backend as _backend
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from senderproxy.signing.errors import SigningKeyError
from senderproxy.translation import _

assert _backend.name == "openssl"  # loaded here, and not by the first key: an upgrade replaces the files meanwhile

_SMALLEST: Final = 2048  # bits; RFC 7518 section 3.3
_EXPONENT: Final = 65537  # the usual one; RFC 6376 section 3.3.1 names no other
_LONGEST_PEM: Final = 65536  # characters; a key of 16384 bits has 13,000


class RsaKey:
    """A private RSA key. It is not shown by repr, and cannot be pickled."""

    __slots__ = ("__key",)

    def __init__(self, key: rsa.RSAPrivateKey) -> None:
        self.__key = key

    def sign_rs256(self, octets: bytes) -> bytes:
        """The signature RS256: PKCS #1 v1.5 with SHA-256. RFC 7518 section 3.3."""
        return self.__key.sign(octets, padding.PKCS1v15(), hashes.SHA256())

    def verify_rs256(self, signature: bytes, octets: bytes) -> bool:
        """True if this is the signature RS256 of these octets by this key."""
        try:
            self.__key.public_key().verify(signature, octets, padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            return False
        return True

    def public_octets(self) -> bytes:
        """The public key: SubjectPublicKeyInfo in DER. RFC 5280 section 4.1."""
        return self.__key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def reveal_pem(self) -> str:
        """The private key in PEM, for the vault."""
        octets = self.__key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return octets.decode("ascii")

    def sign_ps256(self, octets: bytes) -> bytes:
        """The signature PS256: PSS with SHA-256 and a salt of 32 octets. RFC 7518 section 3.5."""
        pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=hashes.SHA256.digest_size)
        return self.__key.sign(octets, pss, hashes.SHA256())

    def fits(self, certificate: "Certificate") -> bool:
        """True if the certificate is about this key."""
        return self.__key.public_key().public_numbers() == certificate.public_numbers

    def __repr__(self) -> str:
        return "RsaKey(***)"

    def __reduce__(self) -> str:
        raise TypeError("a private key cannot be copied or pickled")


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate, as far as a signed request needs it."""

    thumbprint: bytes  # SHA-256, 32 octets
    valid_until: datetime
    public_numbers: rsa.RSAPublicNumbers


def make_key() -> RsaKey:
    """Make a new key of 2048 bits. Takes some 100 ms."""
    return RsaKey(rsa.generate_private_key(_EXPONENT, _SMALLEST))


def load_own_key(pem: str) -> RsaKey:
    """Read a key of `reveal_pem` that the vault has kept. Raises SigningKeyError. Takes 0.02 ms.

    Its numbers are not checked, which takes 50 ms: the vault's seal has shown that they are unchanged.
    """
    try:
        key = serialization.load_pem_private_key(_octets(pem), password=None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm, binascii.Error):
        raise SigningKeyError(_("The private key is damaged."), hint=_("Make a new one.")) from None
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < _SMALLEST:
        raise SigningKeyError(_("The private key is damaged."), hint=_("Make a new one."))
    return RsaKey(key)


def load_key(pem: str) -> RsaKey:
    """Read a private key without a passphrase, in PEM. Raises SigningKeyError. May take 50 ms."""
    try:
        key = serialization.load_pem_private_key(_octets(pem), password=None)
    except TypeError:
        raise SigningKeyError(
            _("The private key has a passphrase."),
            hint=_("Remove it, the vault protects the key: openssl pkey -in KEY.pem -out KEY-open.pem"),
        ) from None
    except (ValueError, UnsupportedAlgorithm, binascii.Error):
        raise SigningKeyError(
            _("This is no private key in PEM."), hint=_("It begins with -----BEGIN PRIVATE KEY-----.")
        ) from None
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < _SMALLEST:
        raise SigningKeyError(
            _("The private key is no RSA key of {bits} bits or more.").format(bits=_SMALLEST),
            hint=_("Make one: openssl req -x509 -newkey rsa:3072 -nodes -days 730 -subj /CN=senderproxy"),
        )
    return RsaKey(key)


def load_certificate(pem: str) -> Certificate:
    """Read the first certificate of a PEM text. Raises SigningKeyError."""
    try:
        certificate = x509.load_pem_x509_certificate(_octets(pem))
        public = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm, binascii.Error):
        raise SigningKeyError(
            _("This is no certificate in PEM."), hint=_("It begins with -----BEGIN CERTIFICATE-----.")
        ) from None
    if not isinstance(public, rsa.RSAPublicKey):
        raise SigningKeyError(
            _("The certificate is not about an RSA key."),
            hint=_("Make one: openssl req -x509 -newkey rsa:3072 -nodes -days 730 -subj /CN=senderproxy"),
        )
    return Certificate(
        certificate.fingerprint(hashes.SHA256()), certificate.not_valid_after_utc, public.public_numbers()
    )


def _octets(pem: str) -> bytes:
    if len(pem) > _LONGEST_PEM:
        raise ValueError("longer than any key")
    return pem.encode("ascii", "replace")
