"""decide: whose account carries a message, what leaves, and whether this client may send it. PURE.

Guarantees: same inputs, same answer; `senderproxy explain` prints exactly what a client would meet.
A client restricted to some senders is held to them in three places: the reverse-path, the From field, and the address
for which the account was chosen.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from senderproxy.mail.address import Address, ReversePath
from senderproxy.mail.author import Authors, UnreadableAuthor
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.reply import reply
from senderproxy.mail.submission import Client
from senderproxy.rewriting.draft import Draft
from senderproxy.rewriting.effective_author import EffectiveAuthor, stand_in
from senderproxy.rewriting.plan import LOOP_MARK, Discarding, RewritePlan, RewriteTerms, plan_rewrite
from senderproxy.routing.author_policy import AuthorPolicy, ForeignAuthorPolicy
from senderproxy.routing.directory import AccountDirectory, Tier
from senderproxy.routing.provider import NullPolicy, Provider, Smarthost
from senderproxy.routing.route import (
    Refusal,
    Route,
    RoutingPolicy,
    choose_route,
    list_candidates,
    name_route,
    refuse_unreadable,
)


@dataclass(frozen=True, slots=True)
class Rules:
    """What the configuration says about relaying; replaced as a whole when it is read again."""

    hostname: str
    providers: Mapping[str, Provider]
    routing: RoutingPolicy
    senders: AuthorPolicy = field(default_factory=AuthorPolicy)
    reports_to: Smarthost | None = None  # the internal server, where it is the one that tells authors
    returned_size: int = 50_000  # octets; a larger message is returned as its header alone


@dataclass(frozen=True, slots=True)
class MessageFacts:
    """What is decided about: a message's header, its envelope, its id, who submits it, and when."""

    header: HeaderSection
    envelope: Envelope
    client: Client
    id: str
    now: datetime
    has_long_lines: bool = False  # in its body
    carrier: str | None = None  # the account that carries it whoever wrote it: a report of ours


@dataclass(frozen=True, slots=True)
class Decision:
    """Whose account carries a message, and what leaves. `answer_to`: who is told what becomes of it, if anybody."""

    route: Route
    plan: RewritePlan
    answer_to: ReversePath


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision, and what it depends on beside the message: it holds while both are the same."""

    decision: Decision
    directory: AccountDirectory
    rules: Rules


def decide(letter: MessageFacts, directory: AccountDirectory, rules: Rules) -> Decision | Refusal | Discarding:
    """The whole decision about one message, or the reply its client gets."""
    if rules.hostname.encode() in (value.strip() for value in letter.header.values(LOOP_MARK)):
        return Refusal(reply(554, "5.4.6", "A mail loop: this automatic message has left through here before."))
    meant = stand_in(Draft(letter.header), letter.envelope.reverse_path, letter.client, rules.senders.mapped)
    if isinstance(meant.authors, UnreadableAuthor):
        return refuse_unreadable(meant.authors)
    route = _route(letter, meant, meant.authors, directory, rules)
    if isinstance(route, Refusal):
        return route
    for address in _used(meant, meant.authors, route):
        if not letter.client.may_use(address):
            return Refusal(
                reply(
                    550,
                    "5.7.1",
                    f"{letter.client} may not send as {address}.",
                    "The senders it may use are listed under [[clients]] in the configuration.",
                )
            )
    bounce = directory.by_id(rules.senders.bounce_account) if rules.senders.bounce_account else None
    terms = RewriteTerms(
        policy=rules.senders,
        hostname=rules.hostname,
        now=letter.now,
        message_id=f"<{letter.id}@{rules.hostname}>",
        bounces_to=bounce.address if bounce else None,
        has_long_lines=letter.has_long_lines,
    )
    envelope = letter.envelope.with_path(meant.reverse_path)
    plan = plan_rewrite(route, meant.authors, envelope, meant.draft, terms)
    if not isinstance(plan, RewritePlan):
        return plan
    if meant.path_changes:
        plan = replace(plan, changes=(*meant.path_changes, *plan.changes))
    return Decision(route, plan, meant.reverse_path)


def who_is_answered(letter: MessageFacts, rules: Rules) -> ReversePath:
    """Who is told what became of a message, also where nobody can carry it: what stands for its reverse-path."""
    return stand_in(
        Draft(letter.header), letter.envelope.reverse_path, letter.client, rules.senders.mapped
    ).reverse_path


def _route(
    letter: MessageFacts, meant: EffectiveAuthor, authors: Authors, directory: AccountDirectory, rules: Rules
) -> Route | Refusal:
    """The author's account, or the one that is named for mail of this kind."""
    senders, providers = rules.senders, rules.providers

    def named(account: str, setting: str) -> Route | Refusal:
        candidates = list(list_candidates(authors, meant.reverse_path, rules.routing))
        return name_route(account, setting, candidates, directory, providers)

    if letter.carrier is not None:
        return _carried(named(letter.carrier, "this report"))
    route = choose_route(authors, meant.reverse_path, directory, providers, rules.routing)
    has_account = isinstance(route, Route) and route.tier is not Tier.DEFAULT
    is_null = not isinstance(meant.reverse_path, Address)
    if is_null and not has_account and senders.bounce_account is not None:
        return named(senders.bounce_account, "senders.bounce_account")
    if not is_null and senders.foreign is ForeignAuthorPolicy.ACCOUNT and _is_foreign(authors, directory):
        assert senders.foreign_account is not None
        return named(senders.foreign_account, "senders.foreign_author")
    if isinstance(route, Refusal):
        return _with_a_word_on_bounces(route) if is_null and route.reply.code == 550 else route
    provider = route.provider
    if is_null and not provider.takes_null_reverse_path and provider.null_policy is NullPolicy.ACCOUNT:
        assert provider.null_account is not None
        setting = f"providers.{provider.name}.on_null_reverse_path"
        return named(provider.null_account, setting)
    return route


def _with_a_word_on_bounces(refusal: Refusal) -> Refusal:
    """Few would give `postmaster@` a mailbox of its own; the last line stays the one that names the cause."""
    words = "It has a null reverse-path, as bounces have: bounce_account under [senders] names the account for those."
    return Refusal(replace(refusal.reply, lines=(words, *refusal.reply.lines)))


def _carried(route: Route | Refusal) -> Route | Refusal:
    """A report of ours gets an own address where the provider takes no null reverse-path; it is never dropped."""
    if isinstance(route, Refusal):
        return route
    return replace(route, provider=replace(route.provider, null_policy=NullPolicy.REWRITE))


def _is_foreign(authors: Authors, directory: AccountDirectory) -> bool:
    """Nobody who is named in From has an account."""
    tiers = (Tier.EXACT, Tier.UNTAGGED, Tier.DOMAIN)
    return bool(authors.from_) and not any(directory.find(m.address, tier) for m in authors.from_ for tier in tiers)


def _used(meant: EffectiveAuthor, authors: Authors, route: Route) -> Iterator[Address]:
    if isinstance(meant.reverse_path, Address):
        yield meant.reverse_path
    for mailbox in authors.from_:
        yield mailbox.address
    yield route.account.address if route.tier in (Tier.DEFAULT, Tier.NAMED) else route.author
