"""decide: whose account carries a message, what leaves, and whether this client may send it. PURE.

Promises: same inputs, same answer; `senderproxy explain` prints exactly what a client would meet.
A client restricted to some senders is held to them in three places: the reverse-path, the From field, and the address
for which the account was chosen.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from senderproxy.mail.address import Address, ReversePath
from senderproxy.mail.author import Authors, Unreadable
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.reply import reply
from senderproxy.mail.submission import Client
from senderproxy.rewriting.plan import RewritePlan, plan_rewrite
from senderproxy.routing.directory import AccountDirectory, Tier
from senderproxy.routing.provider import Provider
from senderproxy.routing.route import Refusal, Route, RoutingPolicy, choose_route, refuse_unreadable


@dataclass(frozen=True, slots=True)
class Rules:
    """What the configuration says about relaying; replaced as a whole when it is read again."""

    hostname: str
    providers: Mapping[str, Provider]
    routing: RoutingPolicy


@dataclass(frozen=True, slots=True)
class Decision:
    """Whose account carries a message, and what leaves."""

    route: Route
    plan: RewritePlan


def decide(
    authors: Authors | Unreadable, envelope: Envelope, client: Client, directory: AccountDirectory, rules: Rules
) -> Decision | Refusal:
    """The whole decision about one message, or the reply its client gets."""
    if isinstance(authors, Unreadable):
        return refuse_unreadable(authors)
    route = choose_route(authors, envelope.reverse_path, directory, rules.providers, rules.routing)
    if isinstance(route, Refusal):
        return route
    for address in _used(authors, envelope.reverse_path, route):
        if not client.may_use(address):
            return Refusal(
                reply(
                    550,
                    "5.7.1",
                    f"{client} may not send as {address}.",
                    "The senders it may use are listed under [[clients]] in the configuration.",
                )
            )
    plan = plan_rewrite(route, authors, envelope)
    return plan if isinstance(plan, Refusal) else Decision(route, plan)


def _used(authors: Authors, reverse_path: ReversePath, route: Route) -> Iterator[Address]:
    if isinstance(reverse_path, Address):
        yield reverse_path
    for mailbox in authors.from_:
        yield mailbox.address
    yield route.account.address if route.tier is Tier.DEFAULT else route.author
