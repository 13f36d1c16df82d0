"""What the office has decided about senders who have no mailbox: foreign authors, bounces, local addresses. PURE.

Not here: what a provider takes (routing.provider), what is changed in a message (rewriting.plan).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from senderproxy.mail.address import Address, AddressPattern


class ForeignAuthorPolicy(Enum):
    """What becomes of a message whose From names somebody who is not of this office (redirects, lists, root@)."""

    REJECT = "reject"
    REWRITE = "rewrite"  # "Alice Example via Firma", answers go to Alice
    ACCOUNT = "account"  # the same, carried by one named account


@dataclass(frozen=True, slots=True)
class AuthorMap:
    """Foreign or local addresses, and the own ones that stand for them. An exact entry beats one for the domain."""

    exact: Mapping[str, Address] = field(default_factory=dict)  # by Address.key
    domains: Mapping[str, AddressPattern] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Nothing is set down at all."""
        return not self.exact and not self.domains

    def __call__(self, address: Address) -> Address:
        """The address that stands for this one; itself where nothing is set down. Applied once, not in a chain."""
        if found := self.exact.get(address.key):
            return found
        pattern = self.domains.get(address.domain)
        if pattern is None:
            return address
        return Address(address.local_part if pattern.local_part is None else pattern.local_part, pattern.domain)


@dataclass(frozen=True, slots=True)
class AuthorPolicy:
    """The `[senders]` section."""

    foreign: ForeignAuthorPolicy = ForeignAuthorPolicy.REJECT
    foreign_account: str | None = None  # the account's id, for ForeignPolicy.ACCOUNT
    bounce_account: str | None = None  # carries what has a null reverse-path and an author without an account
    automatic_per_hour: int = 10  # bounces and automatic replies from one author to one recipient
    remove_bcc: bool = False
    mapped: AuthorMap = AuthorMap()
