"""Route of a message: the account that sends it, or the reply for a message without one. PURE.

Guarantees: same inputs, same result. The reply of a Refusal can be sent to the client unchanged. A match in a higher
tier takes precedence over all lower tiers, for any candidate; within a tier the earlier candidate does. The default
account is used only if the configuration names one.

Not here: changes to the message (rewriting.plan), the client's permissions (relay.decide), the login (delivery).

RFC 6409 section 6.1, RFC 5322 sections 3.6.2 and 3.6.6.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from enum import Enum
from typing import Final

from senderproxy.mail.address import Address, ReversePath
from senderproxy.mail.author import AuthorFields, UnreadableAuthor
from senderproxy.mail.reply import Reply, reply
from senderproxy.routing.account import Account
from senderproxy.routing.author_policy import is_public_domain
from senderproxy.routing.directory import AccountDirectory, MatchTier
from senderproxy.routing.provider import Provider

_MAX_NAMED: Final = 3  # addresses in a reply; a reply line has limited space


class AddressSource(Enum):
    """Place of an address in a message."""

    FROM = "From"
    REVERSE_PATH = "reverse-path"
    SENDER = "Sender"
    RESENT_FROM = "Resent-From"
    # Not for the setting author_order: fields that name the mailbox that redirected a foreign message.
    SIEVE_REDIRECT = "X-Sieve-Redirected-From"
    DELIVERED_TO = "Delivered-To"


ORDERED_SOURCES: Final = (
    AddressSource.FROM,
    AddressSource.REVERSE_PATH,
    AddressSource.SENDER,
    AddressSource.RESENT_FROM,
)
REDIRECT_SOURCES: Final = (AddressSource.SIEVE_REDIRECT, AddressSource.DELIVERED_TO)


@dataclass(frozen=True, slots=True)
class RoutingPolicy:
    """Settings of routing."""

    author_order: tuple[AddressSource, ...] = ORDERED_SOURCES
    default_account: str | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """The account that sends a message, and the candidate address by which it was found."""

    account: Account
    provider: Provider
    author: Address
    source: AddressSource
    tier: MatchTier


@dataclass(frozen=True, slots=True)
class Refusal:
    """The message is refused; the reply gives the reason.

    `hint` is the remedy for the operator, without a period; it may name commands and settings. `explained` adds it to
    the reply.
    """

    reply: Reply
    hint: str = ""

    @property
    def unexplained_hint(self) -> str:
        """The hint, if it is not in the reply; else empty."""
        return "" if self.reply.lines[-1].startswith(_TO_FIX) else self.hint

    @property
    def names_command(self) -> bool:
        """True if the hint names one of our commands, of which a stranger has no use."""
        return "senderproxy " in self.hint

    @property
    def explained(self) -> "Refusal":
        """The refusal with the hint in its reply, for a sender in the office."""
        if not self.unexplained_hint:
            return self
        return replace(self, reply=replace(self.reply, lines=(*self.reply.lines, f"{_TO_FIX}{self.hint}")))


_TO_FIX: Final = "To fix: "


@dataclass(frozen=True, slots=True)
class CandidateAddress:
    """An address by which an account may be found."""

    address: Address
    source: AddressSource


def choose_route(
    authors: AuthorFields | UnreadableAuthor,
    reverse_path: ReversePath,
    directory: AccountDirectory,
    providers: Mapping[str, Provider],
    policy: RoutingPolicy,
    *,
    rewrites_foreign: bool = False,
) -> Route | Refusal:
    """Choose the account for a message, or return a Refusal. `rewrites_foreign`: for its hint."""
    if isinstance(authors, UnreadableAuthor):
        return refuse_unreadable(authors)
    candidates = list(candidate_addresses(authors, reverse_path, policy))
    if not candidates:
        return Refusal(_no_author(policy))
    if route := route_by_candidates(candidates, directory, providers):
        return route
    if policy.default_account is None:
        return _no_account(candidates, directory, rewrites_foreign=rewrites_foreign)
    default = directory.by_id(policy.default_account)
    if default is None:
        return _missing_account(policy.default_account, "routing.default_account")
    return _route(default, candidates[0], MatchTier.DEFAULT, providers)


def route_by_candidates(
    candidates: Sequence[CandidateAddress], directory: AccountDirectory, providers: Mapping[str, Provider]
) -> Route | Refusal | None:
    """Route by the closest match of any candidate; None if no account has any of them."""
    for tier in (MatchTier.EXACT, MatchTier.UNTAGGED, MatchTier.DOMAIN):
        for candidate in candidates:
            if account := directory.find(candidate.address, tier):
                return _route(account, candidate, tier, providers)
    return None


def route_by_account(
    account_id: str,
    setting: str,
    candidates: Sequence[CandidateAddress],
    directory: AccountDirectory,
    providers: Mapping[str, Provider],
) -> Route | Refusal:
    """Route by the account that a setting names, for any author. Without a candidate the account's address is used."""
    account = directory.by_id(account_id)
    if account is None:
        return _missing_account(account_id, setting)
    author = candidates[0] if candidates else CandidateAddress(account.address, AddressSource.FROM)
    return _route(account, author, MatchTier.NAMED, providers)


def candidate_addresses(
    authors: AuthorFields, reverse_path: ReversePath, policy: RoutingPolicy
) -> Iterator[CandidateAddress]:
    """The addresses to look up, in order, without repetition."""
    seen: set[str] = set()
    for source in _order(authors, policy):
        for address in _addresses(source, authors, reverse_path):
            if address.key not in seen:
                seen.add(address.key)
                yield CandidateAddress(address, source)


def refuse_unreadable(unreadable: UnreadableAuthor) -> Refusal:
    """Refuse a message whose author field is ambiguous or unreadable."""
    return Refusal(
        reply(
            550,
            unreadable.status,
            f"Cannot read the author from the {unreadable.field} field: {unreadable.reason}",
        )
    )


def _order(authors: AuthorFields, policy: RoutingPolicy) -> Sequence[AddressSource]:
    """Order of the sources. With several authors Sender follows From, because it names the one who sent the message."""
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
            if authors.sender is not None and _counts(authors.sender.address, authors, reverse_path):
                yield authors.sender.address
        case AddressSource.RESENT_FROM:
            yield from (mailbox.address for mailbox in authors.resent_from)
        case AddressSource.SIEVE_REDIRECT | AddressSource.DELIVERED_TO:
            return  # see routing.redirect


def _counts(sender: Address, authors: AuthorFields, reverse_path: ReversePath) -> bool:
    """True if the Sender field may select the account: not one that a stranger wrote into a message redirected here.

    Below the topmost Received field it counts only beside an author or reverse-path of its own domain.
    """
    if authors.sender_is_recent:
        return True
    domains = {mailbox.address.domain for mailbox in authors.from_}
    if isinstance(reverse_path, Address):
        domains.add(reverse_path.domain)
    return sender.domain in domains


def _route(
    account: Account, candidate: CandidateAddress, tier: MatchTier, providers: Mapping[str, Provider]
) -> Route | Refusal:
    provider = providers.get(account.provider)
    if provider is None:
        return Refusal(_missing_provider(account, providers))
    return Route(account, provider, candidate.address, candidate.source, tier)


def _no_account(
    candidates: Sequence[CandidateAddress], directory: AccountDirectory, *, rewrites_foreign: bool
) -> Refusal:
    first = candidates[0].address
    others = [str(candidate.address) for candidate in candidates[1:]]
    more = [f"{len(others) - _MAX_NAMED + 1} more"] if len(others) >= _MAX_NAMED else []
    names = " or ".join([str(first), *others[: _MAX_NAMED - 1], *more])
    near = directory.similar_entries(first)
    known = f" (nearest known: {', '.join(near)})" if near else ""
    hint = _remedy(first, directory, rewrites_foreign=rewrites_foreign) + known
    return Refusal(reply(550, "5.7.1", f"No account here may send as {names}."), hint)


def _remedy(address: Address, directory: AccountDirectory, *, rewrites_foreign: bool) -> str:
    """The remedy for an address without an account: only an own domain can get a new mailbox."""
    if directory.has_domain(address.domain) or (not directory.accounts and is_public_domain(address.domain)):
        return f"senderproxy account add {address}"
    if not is_public_domain(address.domain) or directory.has_host(address.domain):
        return f"map {address} to an own address under [senders.map] in the configuration"
    needed = "foreign_account" if rewrites_foreign else 'foreign_author = "rewrite" and foreign_account'
    return (
        f"set {needed} under [senders] for redirected mail,"
        f" or map {address} to an own address under [senders.map] in the configuration"
    )


def _no_author(policy: RoutingPolicy) -> Reply:
    places = ", ".join(source.value for source in policy.author_order)
    return reply(550, "5.6.0", f"This message names no author: there is no address in any of {places}.")


def _missing_account(account_id: str, setting: str) -> Refusal:
    # 4xx: a mistake in the configuration must not bounce mail.
    return Refusal(
        reply(451, "4.3.5", f"The account {account_id} in {setting} does not exist."),
        f"correct {setting} in the configuration, or: senderproxy account add ADDRESS --id {account_id}",
    )


def _missing_provider(account: Account, providers: Mapping[str, Provider]) -> Reply:
    near = get_close_matches(account.provider, providers, 1)
    suggestion = f" (nearest known: {near[0]})" if near else ""
    return reply(
        451,
        "4.3.5",
        f"Account {account.id} is at provider {account.provider}, which the configuration does not know{suggestion}.",
    )
