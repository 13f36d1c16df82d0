"""SigningKey: a key of one domain, as signatures need it. PURE.

Guarantees: no repr contains a secret: the key itself is behind `sign`.
Not here: making and reading keys (signing.rsa_key), their records in the vault (accounts.dkim_key).
"""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key. `public`: SubjectPublicKeyInfo in DER, as `p=` of its DNS record has it.

    `sign` returns the signature rsa-sha256 of these octets; `verify` is True if the signature fits the octets.
    """

    domain: str  # in lower case, A-labels
    selector: str
    public: bytes = field(repr=False)
    sign: Callable[[bytes], bytes] = field(repr=False, compare=False)
    verify: Callable[[bytes, bytes], bool] = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        """The name of its DNS record. RFC 6376 section 3.6.2.1."""
        return f"{self.selector}._domainkey.{self.domain}"
