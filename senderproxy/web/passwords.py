"""Passwords of the page's users: salted hashes.

Guarantees: a hash needs 16 MiB of memory for a quarter of a second, so that the process stays small; the work is
that of OWASP's recommendation (N=2^14, r=8, p=5). A damaged hash matches no password.
RFC 7914.
"""

import base64
import hashlib
import hmac
import secrets
from typing import Final

_COST: Final = 2**14  # N
_BLOCK_SIZE: Final = 8  # r
_PARALLEL: Final = 5  # p: the work of N=2^16 with less memory
_MEMORY: Final = 128 * _COST * _BLOCK_SIZE * 2  # octets that OpenSSL may use
_SALT: Final = 16  # octets
_DIGEST: Final = 32  # octets
LEAST: Final = 12  # characters of a password


def hash_password(password: str) -> str:
    """The hash, `scrypt$SALT$DIGEST`."""
    salt = secrets.token_bytes(_SALT)
    return "$".join(("scrypt", _encode(salt), _encode(_derive(password, salt))))


def verify_password(password: str, stored: str | None) -> bool:
    """True if the password matches. Without a hash it takes the same time, so that an unknown user is not noticed."""
    kind, _mark, rest = (stored or "").partition("$")
    salt_text, _mark, digest_text = rest.partition("$")
    try:
        salt, digest = base64.b64decode(salt_text, validate=True), base64.b64decode(digest_text, validate=True)
    except ValueError:
        salt, digest = b"", b""
    derived = _derive(password, salt or b"\0" * _SALT)
    return hmac.compare_digest(derived, digest) and kind == "scrypt" and len(digest) == _DIGEST


def _derive(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(
        password.encode("utf-8", "surrogatepass"),
        salt=salt,
        n=_COST,
        r=_BLOCK_SIZE,
        p=_PARALLEL,
        maxmem=_MEMORY,
        dklen=_DIGEST,
    )


def _encode(octets: bytes) -> str:
    return base64.b64encode(octets).decode("ascii")
