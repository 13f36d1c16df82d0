"""RSA keys: the functions of signing.rsa_key, which is loaded with the first key.

A vault without a DKIM key, and without an OAuth application that signs, needs no asymmetric cryptography and no X.509,
which take 4 MB. The keys of a service are read where its vault is read: before it is ready, later on a thread.
Guarantees: the module is loaded whole; reading more keys imports nothing. Each function raises ProgramReplaced if an
upgrade came before the first key.
Not here: the keys themselves (signing.rsa_key).
"""

from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING

from senderproxy.late_import import late_import

if TYPE_CHECKING:
    from senderproxy.signing.rsa_key import Certificate, RsaKey


@lru_cache(maxsize=1)
def _rsa_key() -> ModuleType:
    with late_import():
        from senderproxy.signing import rsa_key
    return rsa_key


def make_key() -> "RsaKey":
    """See signing.rsa_key."""
    made: RsaKey = _rsa_key().make_key()
    return made


def load_own_key(pem: str) -> "RsaKey":
    """See signing.rsa_key."""
    read: RsaKey = _rsa_key().load_own_key(pem)
    return read


def load_key(pem: str) -> "RsaKey":
    """See signing.rsa_key."""
    read: RsaKey = _rsa_key().load_key(pem)
    return read


def load_certificate(pem: str) -> "Certificate":
    """See signing.rsa_key."""
    read: Certificate = _rsa_key().load_certificate(pem)
    return read
