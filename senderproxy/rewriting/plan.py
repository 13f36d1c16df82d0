"""plan_rewrite: what is changed so that the provider takes the message, and why.

Promises: same inputs, same plan. A message whose reverse-path the provider takes has an empty plan, and leaves as it
came. A plan names the reason of each change, and what the provider will probably not like although we leave it alone.
Leaves to others: whose account it is (routing.route), what the upstream really says (delivery).
"""

from dataclasses import dataclass, replace

from senderproxy.mail.address import Address
from senderproxy.mail.author import Authors
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.reply import reply
from senderproxy.routing.directory import Tier
from senderproxy.routing.provider import SenderRule
from senderproxy.routing.route import Refusal, Route


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is changed, and the reason in a sentence."""

    what: str
    old: str
    new: str
    reason: str


@dataclass(frozen=True, slots=True)
class RewritePlan:
    """The envelope that leaves; what differs from the one that came; what is left alone with a doubt."""

    envelope: Envelope
    changes: tuple[Change, ...] = ()
    doubts: tuple[str, ...] = ()


def plan_rewrite(route: Route, authors: Authors, envelope: Envelope) -> RewritePlan | Refusal:
    """Fit the message to its provider's sender rule, or refuse an author who is not of this office.

    The reverse-path is where bounces go. Where it is foreign and the author is the account's own, the account's own
    address takes its place: the bounce comes back to the one who wrote. The From field is never touched.
    """
    foreign = [m.address for m in authors.from_ if not _is_own(route, m.address)]
    if foreign and len(foreign) == len(authors.from_) and route.provider.holds_from:
        return Refusal(
            reply(
                550,
                "5.7.1",
                f"The From field names {foreign[0]}, whom account {route.account.id} does not carry, and"
                f" {route.provider.name} takes only senders of the account.",
                f"If it may send as {foreign[0]}: senderproxy account edit {route.account.id} --also {foreign[0]}",
            )
        )
    doubts = tuple(_doubt(route, "From", m.address) for m in authors.from_ if not rule_takes(route, m.address))
    path = envelope.reverse_path
    if not isinstance(path, Address):
        if not route.provider.takes_null_reverse_path:
            doubts += (f"the reverse-path is empty, which {route.provider.name} is known to refuse",)
        return RewritePlan(envelope, doubts=doubts)
    if rule_takes(route, path):
        return RewritePlan(envelope, doubts=doubts)
    if _is_own(route, path):
        return RewritePlan(envelope, doubts=(*doubts, _doubt(route, "the reverse-path", path)))
    own = route.account.address
    reason = f"{rule_in_words(route)}; bounces go to the account's own address"
    change = Change("reverse-path", str(path), str(own), reason)
    return RewritePlan(replace(envelope, reverse_path=own), (change,), doubts)


def rule_takes(route: Route, address: Address) -> bool:
    """True where the provider lets the route's account name the address as a sender."""
    match route.provider.sender_rule:
        case SenderRule.ANY:
            return True
        case SenderRule.DOMAIN:
            return address.domain == route.account.address.domain
        case SenderRule.ADDRESS:
            return any(p.local_part is not None and p.matches(address) for p in route.account.carries)


def rule_in_words(route: Route) -> str:
    """The provider's sender rule as a sentence."""
    match route.provider.sender_rule:
        case SenderRule.ANY:
            return f"{route.provider.name} takes any sender"
        case SenderRule.DOMAIN:
            return f"{route.provider.name} takes senders of the domain {route.account.address.domain} only"
        case SenderRule.ADDRESS:
            return f"{route.provider.name} takes the account's own addresses only"


def _is_own(route: Route, address: Address) -> bool:
    carried = any(pattern.matches(address) for pattern in route.account.carries)
    chosen_for_it = address.key == route.author.key and route.tier is not Tier.DEFAULT
    return carried or chosen_for_it or rule_takes(route, address)


def _doubt(route: Route, place: str, address: Address) -> str:
    return f"{place} is {address}, but {rule_in_words(route)}"
