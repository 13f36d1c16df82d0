"""Explanation of a decision: the addresses that were looked up, the account, the changes, in words. PURE.

Guarantees: the decision is that of a message (relay.decide).
Not here: the account's state and limits (cli.explain_state), the right of a client to connect (listener.client_auth).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime

from senderproxy.footer.add_footer import AddFooter
from senderproxy.mail.address import NULL_PATH, Address, ReversePath
from senderproxy.mail.author import AuthorFields, UnreadableAuthor
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.reasons import part_in_words, reason_in_words, value_in_words
from senderproxy.relay.decide import Decision, MessageFacts, Rules
from senderproxy.relay.ways import AccountWay, HopWay, NoWay, Way
from senderproxy.rewriting.edited_header import EditedHeader
from senderproxy.rewriting.effective_author import determine_author
from senderproxy.rewriting.plan import Discard, RewritePlan, describe_rule
from senderproxy.routing.directory import AccountDirectory, MatchTier
from senderproxy.routing.hops import SmarthostHop
from senderproxy.routing.recipient_routes import RecipientRoute, RecipientRoutes
from senderproxy.routing.route import CandidateAddress, Refusal, RoutingPolicy, candidate_addresses
from senderproxy.translation import _, ngettext


@dataclass(frozen=True, slots=True)
class Lookup:
    """One candidate address and the account found for it."""

    candidate: CandidateAddress
    account: str | None
    tier: MatchTier | None

    def __str__(self) -> str:
        if self.tier is None:
            found = _("no account")
        else:
            found = _("account {account}, found by {tier}").format(account=self.account, tier=_(self.tier.description))
        return f"{self.candidate.source.value} {self.candidate.address}: {found}"


# ---- the message ----


def header_of_address(author: Address, now: datetime) -> HeaderSection:
    """The header section of a message with this author."""
    lines = (f"From: {author}", f"Date: {format_datetime(now)}", "Message-ID: <explain@localhost>")
    return HeaderSection("".join(f"{line}\r\n" for line in (*lines, "")).encode("ascii"))


def header_of_file(content: bytes) -> HeaderSection:
    """The header section of a file with a message; its line ends may be those of this system."""
    content = content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    header, blank, _body = content.partition(b"\r\n\r\n")
    return HeaderSection(header + blank)


def usual_reverse_path(authors: AuthorFields | UnreadableAuthor) -> ReversePath:
    """The reverse-path of a usual message: its author."""
    return authors.from_[0].address if isinstance(authors, AuthorFields) and authors.from_ else NULL_PATH


# ---- the decision ----


def look_up(
    facts: MessageFacts, directory: AccountDirectory, rules: Rules
) -> tuple[AuthorFields | UnreadableAuthor, list[Lookup]]:
    """The authors of a message, and the addresses that are looked up for it."""
    found = determine_author(
        EditedHeader(facts.header), facts.envelope.reverse_path, facts.client, rules.senders.mapped
    )
    return found.authors, _lookups(found.authors, found.reverse_path, directory, rules.routing)


def _lookups(
    authors: AuthorFields | UnreadableAuthor, path: ReversePath, directory: AccountDirectory, policy: RoutingPolicy
) -> list[Lookup]:
    """Every address that is looked up, in order, with the closest account."""
    if isinstance(authors, UnreadableAuthor):
        return []
    lookups: list[Lookup] = []
    for candidate in candidate_addresses(authors, path, policy):
        tiers = (MatchTier.EXACT, MatchTier.UNTAGGED, MatchTier.DOMAIN)
        found = ((tier, directory.find(candidate.address, tier)) for tier in tiers)
        tier, account = next(((t, a) for t, a in found if a is not None), (None, None))
        lookups.append(Lookup(candidate, account.id if account else None, tier))
    return lookups


def explained(
    authors: AuthorFields | UnreadableAuthor, lookups: list[Lookup], decision: Decision | Refusal | Discard
) -> Iterator[tuple[str, str]]:
    """The decision as fields: name and text. A field without a name continues the one before."""
    if isinstance(authors, AuthorFields):
        addresses = ", ".join(str(mailbox.address) for mailbox in authors.from_)
        yield _("author"), addresses or _("none in From")
    for lookup in lookups:
        yield _("looked up"), str(lookup)
    if not isinstance(decision, Decision):
        outcome = _("refused") if isinstance(decision, Refusal) else _("discarded")
        yield outcome, f"{decision.reply.code} {decision.reply.status or ''}".strip()
        for line in decision.reply.lines:
            yield _("because"), line
        if isinstance(decision, Refusal) and (hint := decision.unexplained_hint):
            yield _("to fix"), hint
        return
    yield from _route_fields(decision)


def _route_fields(decision: Decision) -> Iterator[tuple[str, str]]:
    route, plan = decision.route, decision.plan
    account = _("{id}, logs in as {login}").format(id=route.account.id, login=route.account.login)
    yield _("account"), account
    yield _("chosen by"), f"{route.source.value} {route.author}: {_(route.tier.description)}"
    yield _("provider"), f"{route.provider.name} ({', '.join(str(host) for host in route.provider.smarthosts)})"
    sent_as = _("{rule}; sent as <{path}>").format(
        rule=reason_in_words(describe_rule(route, route.provider.sender_rule)), path=plan.envelope.reverse_path
    )
    yield "reverse-path", sent_as
    yield "From", reason_in_words(describe_rule(route, route.provider.from_rule))
    yield from _change_fields(plan)


def _change_fields(plan: RewritePlan) -> Iterator[tuple[str, str]]:
    for change in plan.changes:
        value = value_in_words(change.what, change.new) or _("removed")
        yield _("changed"), f"{part_in_words(change.what)}: {value}"
        if change.old:
            yield "", _("instead of {old}").format(old=change.old)
        yield "", _("because {reason}").format(reason=reason_in_words(change.reason))
    if not plan.changes:
        yield _("changed"), _("nothing")
    if plan.content_changes and isinstance(footer := plan.content_changes[0], AddFooter):
        senders = ", ".join(map(str, footer.footer.senders))
        text = _("of {senders}, unless the content of the message excludes it: senderproxy footer try")
        yield _("footer"), text.format(senders=senders)


# ---- the ways of the recipients ----


def ways_explained(
    decision: Decision, routes: RecipientRoutes, recipients: Sequence[Address]
) -> Iterator[tuple[str, str]]:
    """The way of each recipient, and its differences from the author's account, as fields."""
    if routes and not recipients:
        text = ngettext(
            "{count} route by recipient; --to ADDRESS shows the way of a recipient",
            "{count} routes by recipient; --to ADDRESS shows the way of a recipient",
            len(routes.routes),
        )
        yield _("routes"), text.format(count=len(routes.routes))
    if not routes:
        return
    for path in recipients:
        way, route = decision.way_of(path), route_of(decision, routes, path)
        setting = _("no route") if route is None else route.setting
        yield _("way"), f"{path}: {_way_in_words(decision, way)} ({setting})"
        match way:
            case NoWay(refusal):
                yield "", f"{refusal.reply}"
            case AccountWay() | HopWay():
                yield "", _("sent as <{path}>").format(path=way.plan.envelope.reverse_path)
                yield from _change_fields(way.plan)
            case None:
                pass


def route_of(decision: Decision, routes: RecipientRoutes, path: Address) -> RecipientRoute | None:
    """The route of a recipient, of its original if it is an SRS address; None: the author's account sends."""
    return routes.find((decision.undone or {}).get(path, path))


def _way_in_words(decision: Decision, way: Way | None) -> str:
    match way:
        case None:
            return _("account {id}").format(id=decision.route.account.id)
        case AccountWay():
            return _("account {id}").format(id=way.route.account.id)
        case HopWay(SmarthostHop() as hop):
            return f"{hop}, {hop.server}"
        case _:
            return str(way)
