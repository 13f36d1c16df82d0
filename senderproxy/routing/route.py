"""choose_route: the account that carries a message, or the reply that says why there is none.

Guarantees: same inputs, same answer; a Refusal can be given to the client as it is. A match in a higher tier for any
candidate beats a lower tier for all; within a tier the earlier candidate wins. There is no account by accident: the
default account is taken only where the configuration names one.
Not here: what must be rewritten (rewriting.plan), whether the client may use it (relay.decide), whether the
password works (delivery).
RFC 6409 section 6.1, RFC 5322 sections 3.6.2 and 3.6.6.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from typing import Final

from senderproxy.mail.address import Address, ReversePath
from senderproxy.mail.author import AuthorFields, UnreadableAuthor
from senderproxy.mail.reply import Reply, reply
from senderproxy.routing.account import Account
from senderproxy.routing.directory import AccountDirectory, MatchTier
from senderproxy.routing.provider import Provider

# More are looked up, but not recited.
_NAMED: Final = 3


class AddressSource(Enum):
    """Where in a message an address stood."""

    FROM = "From"
    REVERSE_PATH = "reverse-path"
    SENDER = "Sender"
    RESENT_FROM = "Resent-From"


@dataclass(frozen=True, slots=True)
class RoutingPolicy:
    """What the configuration says about routing."""

    author_order: tuple[AddressSource, ...] = (
        AddressSource.FROM,
        AddressSource.REVERSE_PATH,
        AddressSource.SENDER,
        AddressSource.RESENT_FROM,
    )
    default_account: str | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """The account that carries a message, and the candidate that brought us to it."""

    account: Account
    provider: Provider
    author: Address
    source: AddressSource
    tier: MatchTier


@dataclass(frozen=True, slots=True)
class Refusal:
    """There is no way for this message; the reply says why."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class CandidateAddress:
    """An address that may lead to an account."""

    address: Address
    source: AddressSource


def choose_route(
    authors: AuthorFields | UnreadableAuthor,
    reverse_path: ReversePath,
    directory: AccountDirectory,
    providers: Mapping[str, Provider],
    policy: RoutingPolicy,
) -> Route | Refusal:
    """Whose account carries this message?"""
    if isinstance(authors, UnreadableAuthor):
        return refuse_unreadable(authors)
    candidates = list(candidate_addresses(authors, reverse_path, policy))
    if not candidates:
        return Refusal(_nobody_named(policy))
    for tier in (MatchTier.EXACT, MatchTier.UNTAGGED, MatchTier.DOMAIN):
        for candidate in candidates:
            if account := directory.find(candidate.address, tier):
                return _route(account, candidate, tier, providers)
    if policy.default_account is None:
        return Refusal(_no_account(candidates, directory))
    default = directory.by_id(policy.default_account)
    if default is None:
        return Refusal(_no_named(policy.default_account, "routing.default_account"))
    return _route(default, candidates[0], MatchTier.DEFAULT, providers)


def route_by_account(
    account_id: str,
    setting: str,
    candidates: Sequence[CandidateAddress],
    directory: AccountDirectory,
    providers: Mapping[str, Provider],
) -> Route | Refusal:
    """The account that a setting names for mail of this kind, whoever wrote it; its own address where nobody did."""
    account = directory.by_id(account_id)
    if account is None:
        return Refusal(_no_named(account_id, setting))
    author = candidates[0] if candidates else CandidateAddress(account.address, AddressSource.FROM)
    return _route(account, author, MatchTier.NAMED, providers)


def candidate_addresses(
    authors: AuthorFields, reverse_path: ReversePath, policy: RoutingPolicy
) -> Iterator[CandidateAddress]:
    """The addresses that are looked up, in order, each once."""
    seen: set[str] = set()
    for source in _order(authors, policy):
        for address in _addresses(source, authors, reverse_path):
            if address.key not in seen:
                seen.add(address.key)
                yield CandidateAddress(address, source)


def refuse_unreadable(unreadable: UnreadableAuthor) -> Refusal:
    """The reply to a message of which nobody can say for sure who wrote it."""
    return Refusal(
        reply(
            550,
            "5.6.0",
            f"Who wrote this message cannot be read from its {unreadable.field} field: {unreadable.reason}",
        )
    )


def _order(authors: AuthorFields, policy: RoutingPolicy) -> Sequence[AddressSource]:
    """With several authors the Sender field must say which one sent it (RFC 5322 3.6.2): it follows From at once."""
    order = policy.author_order
    if len(authors.from_) < 2 or AddressSource.SENDER not in order or AddressSource.FROM not in order:
        return order
    others: list[AddressSource] = [source for source in order if source is not AddressSource.SENDER]
    others.insert(others.index(AddressSource.FROM) + 1, AddressSource.SENDER)
    return others


def _addresses(source: AddressSource, authors: AuthorFields, reverse_path: ReversePath) -> Iterator[Address]:
    match source:
        case AddressSource.FROM:
            yield from (mailbox.address for mailbox in authors.from_)
        case AddressSource.REVERSE_PATH:
            if isinstance(reverse_path, Address):
                yield reverse_path
        case AddressSource.SENDER:
            if authors.sender is not None:
                yield authors.sender.address
        case AddressSource.RESENT_FROM:
            yield from (mailbox.address for mailbox in authors.resent_from)


def _route(
    account: Account, candidate: CandidateAddress, tier: MatchTier, providers: Mapping[str, Provider]
) -> Route | Refusal:
    provider = providers.get(account.provider)
    if provider is None:
        return Refusal(_no_provider(account, providers))
    return Route(account, provider, candidate.address, candidate.source, tier)


def _no_account(candidates: Sequence[CandidateAddress], directory: AccountDirectory) -> Reply:
    first = candidates[0].address
    others = [str(candidate.address) for candidate in candidates[1:]]
    more = [f"{len(others) - _NAMED + 1} more"] if len(others) >= _NAMED else []
    names = " or ".join([str(first), *others[: _NAMED - 1], *more])
    near = directory.similar_entries(first)
    known = f" (nearest known: {', '.join(near)})" if near else ""
    return reply(
        550, "5.7.1", f"No account here may send as {names}. To add one: senderproxy account add {first}{known}"
    )


def _nobody_named(policy: RoutingPolicy) -> Reply:
    places = ", ".join(source.value for source in policy.author_order)
    return reply(550, "5.6.0", f"This message names no author: there is no address in any of {places}.")


def _no_named(account_id: str, setting: str) -> Reply:
    # 4xx: a slip in the configuration must not bounce the office's mail.
    return reply(
        451,
        "4.3.5",
        f"The account {account_id} that {setting} names does not exist. Mend {setting} in the configuration,"
        f" or add it: senderproxy account add ADDRESS --id {account_id}",
    )


def _no_provider(account: Account, providers: Mapping[str, Provider]) -> Reply:
    near = get_close_matches(account.provider, providers, 1)
    meant = f" (nearest known: {near[0]})" if near else ""
    return reply(
        451,
        "4.3.5",
        f"Account {account.id} is at provider {account.provider}, which the configuration does not know{meant}.",
    )
