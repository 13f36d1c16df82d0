"""Fallback: the account that sends while another one cannot. PURE.

Guarantees: an account names at most one, and a fallback account has none itself: there is no chain and no loop.
Not here: the causes for its use (mail.outcome.Unavailable), the decision about a message (relay.fallback).
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from senderproxy.errors import SenderproxyError
from senderproxy.mail.address import Address, AddressPattern
from senderproxy.routing.account import Account, lists_address
from senderproxy.routing.directory import AccountDirectory
from senderproxy.routing.provider import Provider, SenderRule
from senderproxy.translation import _


class FallbackError(SenderproxyError):
    """The fallback of an account cannot be used."""


@dataclass(frozen=True, slots=True)
class Fallback:
    """The account in the place of the account `of`, and its provider. `rewrites`: it may replace the sender."""

    of: str
    account: Account
    provider: Provider
    rewrites: bool


def fallback_of(account: Account, directory: AccountDirectory, providers: Mapping[str, Provider]) -> Fallback | None:
    """The account's fallback; None if it has none, or none that exists. That one's own fallback is never used."""
    if account.fallback is None or account.fallback == account.id:
        return None
    other = directory.by_id(account.fallback)
    provider = providers.get(other.provider) if other is not None else None
    if other is None or provider is None:
        return None
    return Fallback(account.id, other, provider, account.fallback_rewrites)


def require_valid(accounts: Iterable[Account], changed: Collection[str]) -> None:
    """Check the fallbacks that the changed accounts name, and those that name them. Raises FallbackError.

    An error of others is no reason to refuse a change.
    """
    for _account, error in invalid_fallbacks(accounts, changed):
        raise error


def invalid_fallbacks(accounts: Iterable[Account], changed: Collection[str]) -> Iterator[tuple[Account, FallbackError]]:
    """The accounts with an invalid fallback, as for `require_valid`. Linear in the number of accounts."""
    by_id = {account.id: account for account in accounts}
    for account in by_id.values():
        if account.fallback is not None and (account.id in changed or account.fallback in changed):
            try:
                _require_valid(account, account.fallback, by_id)
            except FallbackError as error:
                yield account, error


def _require_valid(account: Account, fallback: str, by_id: Mapping[str, Account]) -> None:
    if fallback == account.id:
        raise FallbackError(
            _("Account {id} cannot be its own fallback.").format(id=account.id), hint=_("Name another account.")
        )
    other = by_id.get(fallback)
    if other is None:
        raise FallbackError(
            _("There is no account {fallback}, which account {id} has as its fallback.").format(
                fallback=fallback, id=account.id
            ),
            hint=_("List the accounts: senderproxy account list"),
        )
    if other.fallback is not None:
        raise FallbackError(
            _("Account {fallback} cannot be the fallback of {id}: it has a fallback itself, {other}.").format(
                fallback=fallback, id=account.id, other=other.fallback
            ),
            hint=_("Name an account without one, or first: senderproxy account edit {fallback} --no-fallback").format(
                fallback=fallback
            ),
        )


def require_unneeded(accounts: Iterable[Account], account_id: str) -> None:
    """Raise FallbackError if the account is the fallback of another one, so that it cannot be removed."""
    users = [account.id for account in accounts if account.fallback == account_id]
    if users:
        raise FallbackError(
            _("Account {id} is the fallback of {accounts}.").format(id=account_id, accounts=", ".join(users)),
            hint=_("First: senderproxy account edit {account} --no-fallback").format(account=users[0]),
        )


def replaced_senders(account: Account, fallback: Fallback) -> Iterator[AddressPattern]:
    """The addresses and domains of the account that the fallback's provider does not let the fallback account use."""
    provider = fallback.provider
    rules = (provider.sender_rule, provider.from_rule)
    for pattern in account.carries:
        if not all(_permits(rule, fallback.account, pattern) for rule in rules):
            yield pattern


class Share(Enum):
    """Share of an account's mail that its fallback may send."""

    NONE = "none"
    SOME = "some"
    ALL = "all"


def permitted_share(account: Account, fallback: Fallback) -> Share:
    """The share of the account's addresses and domains that the fallback may send as."""
    refused = 0 if fallback.rewrites else sum(1 for _pattern in replaced_senders(account, fallback))
    if not refused:
        return Share.ALL
    return Share.SOME if refused < len(account.carries) else Share.NONE


def _permits(rule: SenderRule, account: Account, pattern: AddressPattern) -> bool:
    match rule:
        case SenderRule.ANY:
            return True
        case SenderRule.DOMAIN:
            return pattern.domain == account.address.domain
        case SenderRule.ADDRESS:
            local_part = pattern.local_part
            return local_part is not None and lists_address(account, Address(local_part, pattern.domain))
