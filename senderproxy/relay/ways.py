"""Ways of the recipients of one message that do not go by the author's account. PURE.

Guarantees: a way is chosen only for a message that the author's account may send: a route lets nothing out that would
be refused without it. A way by another account obeys the rules of its provider, and the client must be permitted to
send as it. On a way without a login no provider's rule for senders applies: own addresses and the null reverse-path
stay as they are; foreign ones are rewritten as for the author's account, except to the internal server.
Not here: the routes (routing.recipient_routes), the decision about the message (relay.decide), the delivery
(relay.way_delivery).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from senderproxy.mail.address import Address, ForwardPath
from senderproxy.mail.author import AuthorFields
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.outcome import Outcome
from senderproxy.rewriting.edited_header import EditedHeader
from senderproxy.rewriting.plan import Discard, RewriteContext, RewritePlan, plan_rewrite
from senderproxy.routing.directory import AccountDirectory
from senderproxy.routing.hops import Hop, InternalHop, lane_of
from senderproxy.routing.provider import NullPolicy, Provider, SenderRule
from senderproxy.routing.recipient_routes import AccountVia, RecipientRoute, RecipientRoutes, hop_of
from senderproxy.routing.route import CandidateAddress, Refusal, Route, route_by_account
from senderproxy.tracking.record import Lane


@dataclass(frozen=True, slots=True)
class AccountWay:
    """Another account sends, with the changes that its provider requires."""

    route: Route
    plan: RewritePlan

    def __str__(self) -> str:
        return f"account {self.route.account.id}"

    @property
    def lane(self) -> Lane:
        """The lane of its recipients."""
        return Lane.of_account(self.route.account.id)


@dataclass(frozen=True, slots=True)
class HopWay:
    """A server without a login takes the message."""

    hop: Hop
    plan: RewritePlan

    def __str__(self) -> str:
        return str(self.hop)

    @property
    def lane(self) -> Lane:
        """The lane of its recipients."""
        return Lane(*lane_of(self.hop))


@dataclass(frozen=True, slots=True)
class NoWay:
    """The route of the recipient cannot be used for this message."""

    refusal: Refusal

    def __str__(self) -> str:
        return "refused"


Way: TypeAlias = AccountWay | HopWay | NoWay


class RoutedOutcomes(dict[ForwardPath, Outcome]):
    """Outcomes of several ways. `sent_by`: the way of each recipient, `account ID` for an account; empty: none."""

    def __init__(self, outcomes: Mapping[ForwardPath, Outcome], sent_by: Mapping[ForwardPath, str]) -> None:
        super().__init__(outcomes)
        self.sent_by = sent_by


@dataclass(frozen=True, slots=True)
class WayContext:
    """The message and its decision, as the plans of its ways need them.

    `refuse`: the refusal of a restricted client that may not send by a route; None if it may. `finish`: adds to a plan
    what every way has, as a footer.
    """

    route: Route
    authors: AuthorFields
    envelope: Envelope
    edited: EditedHeader
    terms: RewriteContext
    directory: AccountDirectory
    providers: Mapping[str, Provider]
    refuse: Callable[[Route], Refusal | None]
    finish: Callable[[RewritePlan], RewritePlan]


def lanes_of(ways: Mapping[ForwardPath, Way]) -> Mapping[ForwardPath, Lane]:
    """The lanes of the recipients that do not wait in the lane of the author's account."""
    return {path: way.lane for path, way in ways.items() if not isinstance(way, NoWay)}


def choose_ways(
    recipients: Iterable[tuple[ForwardPath, ForwardPath]], routes: RecipientRoutes, context: WayContext
) -> Mapping[ForwardPath, Way]:
    """The ways of the recipients that do not go by the author's account.

    `recipients`: each with the address by which it is routed; another one if an SRS address stands for it.
    """
    planner = _Planner(context)
    found = ((path, routes.find(address), address) for path, address in recipients)
    ways = {path: planner.way(route, address) for path, route, address in found if route is not None}
    return {path: way for path, way in ways.items() if way is not None}


class _Planner:
    """The ways of one message, each planned once."""

    def __init__(self, context: WayContext) -> None:
        self._context = context
        self._accounts: dict[str, Way | None] = {}
        self._plans: dict[bool, RewritePlan | Refusal] = {}  # by whether the internal server takes it

    def way(self, route: RecipientRoute, recipient: Address) -> Way | None:
        """The way of a recipient; None: by the author's account."""
        via = route.via
        if isinstance(via, AccountVia):
            if via.account_id not in self._accounts:
                self._accounts[via.account_id] = self._by_account(via.account_id, route.setting)
            return self._accounts[via.account_id]
        hop = hop_of(via, recipient, self._context.route.provider.name)
        plan = self._hop_plan(is_internal=isinstance(hop, InternalHop))
        return NoWay(plan) if isinstance(plan, Refusal) else HopWay(hop, plan)

    def _by_account(self, account_id: str, setting: str) -> Way | None:
        context, base = self._context, self._context.route
        if account_id == base.account.id:
            return None
        author = CandidateAddress(base.author, base.source)
        route = route_by_account(account_id, setting, [author], context.directory, context.providers)
        if isinstance(route, Refusal):
            return NoWay(route)
        if refusal := context.refuse(route):
            return NoWay(refusal)
        if route.provider.null_policy is not NullPolicy.REJECT:  # it was chosen to send this: nothing is dropped
            route = replace(route, provider=replace(route.provider, null_policy=NullPolicy.REWRITE))
        plan = self._plan(route, context.terms)
        return NoWay(plan) if isinstance(plan, Refusal) else AccountWay(route, plan)

    def _hop_plan(self, *, is_internal: bool) -> RewritePlan | Refusal:
        plan = self._plans.get(is_internal)
        if plan is None:
            terms = replace(self._context.terms, makes_srs=False) if is_internal else self._context.terms
            plan = self._plans[is_internal] = self._plan(self._without_login(is_internal=is_internal), terms)
        return plan

    def _plan(self, route: Route, terms: RewriteContext) -> RewritePlan | Refusal:
        context = self._context
        plan = plan_rewrite(route, context.authors, context.envelope, context.edited, terms)
        assert not isinstance(plan, Discard)  # see the null policies of both callers
        return plan if isinstance(plan, Refusal) else context.finish(plan)

    def _without_login(self, *, is_internal: bool) -> Route:
        """The author's route, with the rules of a server without a login in place of its provider's."""
        route = self._context.route
        path = self._context.envelope.reverse_path
        authors = [mailbox.address for mailbox in self._context.authors.from_]
        provider = replace(
            route.provider,
            name="the server",
            sender_rule=self._rule(route.provider.sender_rule, [path], is_internal),
            from_rule=self._rule(route.provider.from_rule, authors, is_internal),
            takes_null_reverse_path=True,
            takes_sub_addresses=False,
        )
        return replace(route, provider=provider)

    def _rule(self, of_account: SenderRule, addresses: Iterable[object], is_internal: bool) -> SenderRule:
        own = self._context.directory.has_domain
        is_own = all(own(address.domain) for address in addresses if isinstance(address, Address))
        return SenderRule.ANY if is_internal or is_own or of_account is SenderRule.ANY else SenderRule.DOMAIN
