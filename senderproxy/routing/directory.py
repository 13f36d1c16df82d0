"""Directory of accounts by address, in tiers of how closely an entry matches. PURE.

Guarantees: at most one account matches an address in each tier. The cost of a look-up is independent of the number of
accounts. Two accounts with the same address are an error.

Not here: the addresses to look up and their order (routing.route).
"""

from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher
from enum import Enum
from heapq import nlargest
from typing import Final

from senderproxy.errors import SenderproxyError
from senderproxy.mail.address import Address, AddressPattern
from senderproxy.routing.account import Account
from senderproxy.translation import N_, _

_MAX_COMPARED: Final = 500  # addresses; the comparison is slow and the client waits for it
_MIN_SIMILARITY: Final = 0.7  # of 1.0, in each half of the address; a typing error or two in a short word


class DirectoryError(SenderproxyError):
    """Two accounts have the same id or address."""


class MatchTier(Enum):
    """Kind of match between an entry of an account and an address, the closest first."""

    EXACT = "exact"
    UNTAGGED = "untagged"
    DOMAIN = "domain"
    DEFAULT = "default"
    NAMED = "named"

    @property
    def description(self) -> str:
        """The tier in English, to follow `found by`; marked for translation."""
        return _DESCRIPTIONS[self]


_DESCRIPTIONS: Final = {
    MatchTier.EXACT: N_("the address itself"),
    MatchTier.UNTAGGED: N_("the address without its +tag"),
    MatchTier.DOMAIN: N_("the whole domain"),
    MatchTier.DEFAULT: N_("the default account"),
    MatchTier.NAMED: N_("the account configured for such mail"),
}


class AccountDirectory:
    """All accounts. Raises DirectoryError if two have the same address or id."""

    def __init__(self, accounts: Iterable[Account]) -> None:
        self.accounts: Final = tuple(accounts)
        self._by_id: dict[str, Account] = {}
        self._addresses: dict[str, Account] = {}
        self._domains: dict[str, Account] = {}
        self._own_domains: dict[str, Account] = {}  # with the first account that has an address there
        conflicts: list[str] = []
        hints: list[str] = []
        for account in self.accounts:
            if self._by_id.setdefault(account.id, account) is not account:
                conflicts.append(_("Two accounts are called {id}.").format(id=account.id))
                hints.append(_("Remove one of them: senderproxy account remove {id}").format(id=account.id))
                continue
            for pattern in _entries(account):
                other = self._add(pattern, account)
                if other is not account:
                    conflicts.append(
                        _("Accounts {first} and {second} both have {address}.").format(
                            first=other.id, second=account.id, address=pattern
                        )
                    )
                    hints.append(
                        _("Remove it from one of them: senderproxy account edit {id} --not {address}").format(
                            id=account.id, address=pattern
                        )
                    )
        if conflicts:
            raise DirectoryError(" ".join(conflicts), hint=hints[0])

    def by_id(self, account_id: str) -> Account | None:
        """The account with this id."""
        return self._by_id.get(account_id)

    def find(self, address: Address, tier: MatchTier) -> Account | None:
        """The account whose entry matches the address in this tier. DEFAULT and NAMED depend on policy: None here."""
        match tier:
            case MatchTier.EXACT:
                return self._addresses.get(address.key)
            case MatchTier.UNTAGGED:
                base = address.without_tag
                return None if base is None else self._addresses.get(base.key)
            case MatchTier.DOMAIN:
                return self._domains.get(address.domain)
            case MatchTier.DEFAULT | MatchTier.NAMED:
                return None

    def has_domain(self, domain: str) -> bool:
        """True if an account has an address of this domain, or the whole domain."""
        return domain in self._own_domains

    def of_domain(self, domain: str) -> Account | None:
        """The account that has the whole domain, else the first with an address there."""
        return self._domains.get(domain) or self._own_domains.get(domain)

    def has_host(self, domain: str) -> bool:
        """True for a name below a domain of an account, such as that of a machine in it."""
        return any(domain.endswith(f".{own}") for own in self._own_domains)

    def similar_entries(self, address: Address, n: int = 3) -> list[str]:
        """Up to `n` entries with a similar spelling, the most similar first."""
        scored = ((_similarity(address.key, entry), entry) for entry in self._entries_to_compare(address))
        return [entry for score, entry in nlargest(n, scored) if score >= _MIN_SIMILARITY]

    def _entries_to_compare(self, address: Address) -> list[str]:
        """Entries with the same local part or domain first: a typing error is mostly in one half of the address."""
        local_part, domain = address.local_part.lower(), address.domain
        near: list[str] = []
        others: list[str] = []
        for key in self._addresses:
            at = key.rfind("@")
            shares_half = key[at + 1 :] == domain or key[:at] == local_part
            (near if shares_half else others).append(key)
        near += [f"@{known}" for known in self._domains]
        return (near + others)[:_MAX_COMPARED]

    def _add(self, pattern: AddressPattern, account: Account) -> Account:
        """Add a pattern. Returns the account that has it: this one, or an earlier one with the same pattern."""
        self._own_domains.setdefault(pattern.domain, account)
        if pattern.local_part is None:
            return self._domains.setdefault(pattern.domain, account)
        return self._addresses.setdefault(Address(pattern.local_part, pattern.domain).key, account)


def _entries(account: Account) -> Iterator[AddressPattern]:
    yield AddressPattern(account.address.local_part, account.address.domain)
    yield from account.carries


def _similarity(wanted: str, entry: str) -> float:
    """Similarity of the less similar half. An entry for a whole domain has one half only."""
    (local_part, _at, domain), (other_local_part, _at, other_domain) = wanted.rpartition("@"), entry.rpartition("@")
    domains = _ratio(domain, other_domain)
    return domains if not other_local_part else min(domains, _ratio(local_part, other_local_part))


def _ratio(one: str, other: str) -> float:
    if one == other:
        return 1.0
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    return matcher.ratio() if matcher.quick_ratio() >= _MIN_SIMILARITY else 0.0
