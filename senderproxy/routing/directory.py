"""AccountDirectory: which account carries an address, tier by tier.

Guarantees: an address is carried by at most one account in each tier; a look-up costs the same with ten accounts and
with ten thousand. Where two accounts claim the same address the directory is not built.
Not here: which addresses are looked up, and in what order (routing.route).
"""

from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher
from enum import Enum
from heapq import nlargest
from typing import Final

from senderproxy.errors import SenderproxyError
from senderproxy.mail.address import Address, AddressPattern
from senderproxy.routing.account import Account

# Comparing spellings is slow and happens while a client waits: so many addresses at the most are looked at.
_COMPARED: Final = 500
_ALIKE: Final = 0.7  # of 1.0; in each half of the address


class DirectoryError(SenderproxyError):
    """The accounts contradict each other."""


class MatchTier(Enum):
    """How closely an account's entry fits an address; the closest first."""

    EXACT = "exact"
    UNTAGGED = "untagged"
    DOMAIN = "domain"
    DEFAULT = "default"
    NAMED = "named"

    @property
    def words(self) -> str:
        """The tier for people: `found by ...`."""
        return _WORDS[self]


_WORDS: Final = {
    MatchTier.EXACT: "the address itself",
    MatchTier.UNTAGGED: "the address without its +tag",
    MatchTier.DOMAIN: "the whole domain",
    MatchTier.DEFAULT: "the default account",
    MatchTier.NAMED: "the account named for such mail in the configuration",
}


class AccountDirectory:
    """All accounts of one moment. Raises DirectoryError where two carry the same address or have the same id."""

    def __init__(self, accounts: Iterable[Account]) -> None:
        self.accounts: Final = tuple(accounts)
        self._by_id: dict[str, Account] = {}
        self._addresses: dict[str, Account] = {}
        self._domains: dict[str, Account] = {}
        clashes: list[str] = []
        mends: list[str] = []
        for account in self.accounts:
            if self._by_id.setdefault(account.id, account) is not account:
                clashes.append(f"Two accounts are called {account.id}.")
                mends.append(f"Take one away: senderproxy account remove {account.id}")
                continue
            for pattern in _entries(account):
                other = self._enter(pattern, account)
                if other is not account:
                    clashes.append(f"Accounts {other.id} and {account.id} both carry {pattern}.")
                    mends.append(f"Take it away from one: senderproxy account edit {account.id} --not {pattern}")
        if clashes:
            raise DirectoryError(" ".join(clashes), hint=mends[0])

    def by_id(self, account_id: str) -> Account | None:
        """The account people call so."""
        return self._by_id.get(account_id)

    def find(self, address: Address, tier: MatchTier) -> Account | None:
        """The account whose entry fits the address in this tier. The last two are a matter of policy: None here."""
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

    def similar_entries(self, address: Address, n: int = 3) -> list[str]:
        """What may have been meant: up to `n` entries that look alike, the most alike first."""
        scored = ((_likeness(address.key, entry), entry) for entry in self._worth_comparing(address))
        return [entry for score, entry in nlargest(n, scored) if score >= _ALIKE]

    def _worth_comparing(self, address: Address) -> list[str]:
        """A slip of the finger is mostly in one half of the address: entries that share a half come first."""
        local_part, domain = address.local_part.lower(), address.domain
        near: list[str] = []
        others: list[str] = []
        for key in self._addresses:
            at = key.rfind("@")
            shares_half = key[at + 1 :] == domain or key[:at] == local_part
            (near if shares_half else others).append(key)
        near += [f"@{known}" for known in self._domains]
        return (near + others)[:_COMPARED]

    def _enter(self, pattern: AddressPattern, account: Account) -> Account:
        """Enter a pattern; the answer is the account that has it now."""
        if pattern.local_part is None:
            return self._domains.setdefault(pattern.domain, account)
        return self._addresses.setdefault(Address(pattern.local_part, pattern.domain).key, account)


def _entries(account: Account) -> Iterator[AddressPattern]:
    yield AddressPattern(account.address.local_part, account.address.domain)
    yield from account.carries


def _likeness(wanted: str, entry: str) -> float:
    """How much alike the less alike halves are; an entry for a whole domain has one half only."""
    (local_part, _, domain), (other_local_part, _, other_domain) = wanted.rpartition("@"), entry.rpartition("@")
    domains = _ratio(domain, other_domain)
    return domains if not other_local_part else min(domains, _ratio(local_part, other_local_part))


def _ratio(one: str, other: str) -> float:
    if one == other:
        return 1.0
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    return matcher.ratio() if matcher.quick_ratio() >= _ALIKE else 0.0
