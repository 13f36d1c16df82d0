"""Policy for authors without an account: foreign authors, bounces, local addresses. PURE.

Not here: the rules of a provider (routing.provider), the changes to a message (rewriting.plan).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from senderproxy.mail.address import Address, AddressPattern

# Top-level names in local use only (RFC 6762 appendix G, RFC 2606).
_LOCAL_NAMES: Final = frozenset(
    {"local", "localdomain", "lan", "intern", "internal", "home", "corp", "invalid", "arpa"}
)


def is_public_domain(domain: str) -> bool:
    """False for the domain of a device or host that no mail from outside reaches.

    (`copier@localhost`, `scan@192.168.1.20`, `x@printer.local`)
    """
    last = domain.rpartition(".")[2]
    return "." in domain and not domain.startswith("[") and not last.isdigit() and last not in _LOCAL_NAMES


class ForeignAuthorPolicy(Enum):
    """Treatment of a message whose From names a foreign author (redirects, mailing lists, root@)."""

    REJECT = "reject"
    REWRITE = "rewrite"  # "Alice Example via Firma", replies go to Alice
    ACCOUNT = "account"  # the same, sent by one configured account


@dataclass(frozen=True, slots=True)
class AuthorMap:
    """Replacements of foreign or local addresses by own ones. An exact entry takes precedence over its domain."""

    exact: Mapping[str, Address] = field(default_factory=dict)  # by Address.key
    domains: Mapping[str, AddressPattern] = field(default_factory=dict)
    names: Mapping[str, Address] = field(default_factory=dict)  # by local name without a domain, in lower case

    @property
    def is_empty(self) -> bool:
        """True without any entry."""
        return not self.exact and not self.domains and not self.names

    def __call__(self, address: Address) -> Address:
        """Return the replacement of an address, or the address itself. Applied once, not repeatedly."""
        if found := self.exact.get(address.key):
            return found
        pattern = self.domains.get(address.domain)
        if pattern is None:
            return address
        return Address(address.local_part if pattern.local_part is None else pattern.local_part, pattern.domain)

    def local(self, name: str | None) -> Address | None:
        """The address that stands for a local name (`root`), None if none is configured."""
        return None if name is None else self.names.get(name)


@dataclass(frozen=True, slots=True)
class AuthorPolicy:
    """The `[senders]` section."""

    foreign: ForeignAuthorPolicy = ForeignAuthorPolicy.REJECT
    foreign_account: str | None = None  # account id; for ACCOUNT, and for REWRITE if no own mailbox has redirected it
    bounce_account: str | None = (
        None  # id of the account for mail with a null reverse-path and no account of its author
    )
    automatic_per_hour: int = 10  # messages; bounces and automatic replies from one author to one recipient
    remove_bcc: bool = False
    srs: bool = False  # SRS address as the reverse-path of redirected mail
    mapped: AuthorMap = AuthorMap()
