"""Decision about one message: the account, the rewritten message, and the client's permission to send it. PURE.

Guarantees: deterministic; `senderproxy explain` prints exactly the reply that a client would get. The permitted senders
of a client are enforced in the reverse-path, in From, Sender and all Resent- fields, and for the address that selected
the account; a restricted client may not hide such a field from some programs.
Not here: account selection (routing.route), the rewriting rules (rewriting.plan), the ways of single recipients
(relay.ways), the upstream offer (relay.attempt).
RFC 6409 section 6.1, RFC 5321 section 6.3.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, tzinfo
from functools import partial
from typing import Final

from senderproxy.footer.add_footer import AddFooter
from senderproxy.footer.footer import FooterTable
from senderproxy.mail.address import Address, ForwardPath, ReversePath
from senderproxy.mail.author import (
    AuthorFields,
    Mailbox,
    MailboxError,
    UnreadableAuthor,
    find_hidden_sender,
    read_authors,
    read_mailboxes,
    read_senders,
)
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.reply import reply
from senderproxy.mail.submission import Client
from senderproxy.relay.loop_guard import is_automatic_response
from senderproxy.relay.signed_recipients import refuse_answer, undo_recipients
from senderproxy.relay.ways import NoWay, Way, WayContext, choose_ways
from senderproxy.rewriting.edited_header import Change, EditedHeader
from senderproxy.rewriting.effective_author import EffectiveAuthor, determine_author
from senderproxy.rewriting.plan import LOOP_FIELD, Discard, RewriteContext, RewritePlan, apply_edits, plan_rewrite
from senderproxy.rewriting.received_field import HOP_LIMIT, hop_count, is_own_loop, own_ids
from senderproxy.rewriting.srs import SigningKeys, is_srs
from senderproxy.rewriting.stray_lines import StrayLine, without_stray_lines
from senderproxy.routing.account import Account
from senderproxy.routing.author_policy import AuthorPolicy, ForeignAuthorPolicy, is_public_domain
from senderproxy.routing.directory import AccountDirectory, MatchTier
from senderproxy.routing.hops import Hop
from senderproxy.routing.provider import NullPolicy, Provider, SenderRule, Smarthost
from senderproxy.routing.recipient_routes import RecipientRoutes
from senderproxy.routing.redirect import redirect_candidates
from senderproxy.routing.route import (
    AddressSource,
    Refusal,
    Route,
    RoutingPolicy,
    candidate_addresses,
    choose_route,
    refuse_unreadable,
    route_by_account,
    route_by_candidates,
)
from senderproxy.translation import N_
from senderproxy.value_class import value_class

_NAMED: Final = 3  # recipients in a reply
_SENT_BY: Final = (AddressSource.FROM, AddressSource.REVERSE_PATH, AddressSource.SENDER)  # the others: who redirects


@dataclass(frozen=True, slots=True)
class Rules:
    """Settings for the decision; replaced as a whole when the configuration is reloaded."""

    hostname: str
    providers: Mapping[str, Provider]
    routing: RoutingPolicy
    senders: AuthorPolicy = field(default_factory=AuthorPolicy)
    report_server: Smarthost | None = None  # the internal server for delivery reports; None: sent by account
    zone: tzinfo = UTC  # of this machine, for a Date field without one
    footers: FooterTable | None = None  # None: no message gets a footer
    returned_size: int = 50_000  # octets; of a larger message a report returns only the header
    recipient_routes: RecipientRoutes = field(default_factory=RecipientRoutes)


@value_class
class MessageFacts:
    """Input of the decision: a message's header, envelope, client, id and time of reception or attempt."""

    header: HeaderSection
    envelope: Envelope
    client: Client
    id: str
    now: datetime
    has_long_lines: bool = False  # in its body
    carrier: str | None = None  # the account that sends it, for any author: set for reports of ours
    keys: SigningKeys | None = None  # for SRS addresses and signed sub-addresses


@value_class
class Decision:
    """Account and rewrite plan of a message that may be sent."""

    route: Route
    plan: RewritePlan
    report_to: ReversePath  # the address for delivery reports; the null path: no reports
    is_internal: bool = True  # no stranger reads a bounce of it: replies may name commands
    undone: Mapping[ForwardPath, ForwardPath] | None = None  # SRS addresses among the recipients, and their originals
    ways: Mapping[ForwardPath, Way] | None = None  # of the recipients that do not go by the account; None: of none
    hop: Hop | None = None  # a server without a login that sends in place of the account, for a part of the recipients
    is_copied: bool = False  # into the Sent folder of the account, whatever way it leaves

    def way_of(self, path: ForwardPath) -> Way | None:
        """The way of a recipient; None: by the account."""
        return None if self.ways is None else self.ways.get(path)


@value_class
class CachedDecision:
    """A decision with the accounts and rules that it depends on; valid while both are the same objects."""

    decision: Decision
    directory: AccountDirectory
    rules: Rules


def decide(
    facts: MessageFacts,
    directory: AccountDirectory,
    rules: Rules,
    other_account: Callable[[Route], Route] | None = None,
) -> Decision | Refusal | Discard:
    """Decide about one message.

    A Refusal or Discard has the complete reply to the client. `other_account`: exchanges the account of a route that is
    permitted to the client; the message is rewritten for that one. No message is permitted because of it.
    """
    received = facts.header
    edited = without_stray_lines(received, lenient=facts.client.lenient)
    if isinstance(edited, StrayLine):
        return _refuse_stray_line(edited)
    if edited.cuts:
        facts = replace(facts, header=edited.header)
    if hop_count(facts.header) > HOP_LIMIT:  # RFC 5321 6.3
        return Refusal(reply(554, "5.4.6", f"Mail loop: the message has more than {HOP_LIMIT} Received fields."))
    if rules.hostname.encode() in (value.strip() for value in facts.header.values(LOOP_FIELD)):
        return Refusal(reply(554, "5.4.6", "Mail loop: this automatic message was already sent by this server."))
    if is_own_loop(ids := own_ids(facts.header, rules.hostname)):
        return _refuse_loop(facts, ids, directory)
    effective = determine_author(
        edited, facts.envelope.reverse_path, facts.client, rules.senders.mapped, rules.hostname
    )
    is_internal = _is_internal(effective.reverse_path, directory)
    if isinstance(effective.authors, UnreadableAuthor):
        return refuse_unreadable(effective.authors)
    undone = _signed_recipients(facts, effective, directory, rules)
    if isinstance(undone, Refusal):
        return _for_reader(undone, is_internal=is_internal)
    route = _route(facts, effective, effective.authors, directory, rules)
    if isinstance(route, Refusal):
        return _for_reader(route, is_internal=is_internal)
    if facts.client.senders is not None:
        known = directory if _leaves_as_account(effective.authors, route, directory) else None
        if refusal := _refuse_senders(facts.client, effective, route, known):
            return _for_reader(refusal, is_internal=is_internal)
    if other_account is not None:
        route = other_account(route)
    bounce = directory.by_id(rules.senders.bounce_account) if rules.senders.bounce_account else None
    terms = RewriteContext(
        policy=rules.senders,
        hostname=rules.hostname,
        now=facts.now,
        message_id=f"<{facts.id}@{rules.hostname}>",
        bounces_to=bounce.address if bounce else None,
        has_long_lines=facts.has_long_lines,
        zone=rules.zone,
        keys=facts.keys,
        makes_srs=rules.senders.srs and not is_internal,
    )
    envelope = facts.envelope.with_reverse_path(effective.reverse_path)
    plan = plan_rewrite(route, effective.authors, envelope, effective.edited, terms)
    if isinstance(plan, Refusal):
        return _for_reader(plan, is_internal=is_internal)
    if isinstance(plan, Discard):
        return plan
    finish: Callable[[RewritePlan], RewritePlan] = _unchanged
    if rules.footers is not None and facts.carrier is None:
        finish = partial(
            _with_footer,
            received=received,
            authors=effective.authors,
            reverse_path=facts.envelope.reverse_path,
            footers=rules.footers,
        )
        plan = finish(plan)
    if effective.path_changes or undone:
        restored = [Change("recipient", str(old), str(new), _UNDONE) for old, new in undone.items()]
        plan = replace(plan, changes=(*effective.path_changes, *restored, *plan.changes))
    decision = Decision(
        route,
        plan,
        _report_to(effective, facts.client, directory),
        is_internal,
        undone or None,
        is_copied=route.account.sent_copy is not None and _is_copied(facts, route),
    )
    if not rules.recipient_routes or facts.carrier is not None or other_account is not None:
        return decision
    context = WayContext(
        route,
        effective.authors,
        envelope,
        effective.edited,
        terms,
        directory,
        rules.providers,
        partial(_refuse_way, facts.client, effective, directory),
        finish,
    )
    return _with_ways(decision, envelope.recipients, rules.recipient_routes, context)


def _with_ways(
    decision: Decision, recipients: Sequence[ForwardPath], routes: RecipientRoutes, context: WayContext
) -> Decision | Refusal:
    """The decision with the ways of its recipients; a refusal if the routes of all refuse the message."""
    undone = decision.undone or {}
    ways = choose_ways([(path, undone.get(path, path)) for path in recipients], routes, context)
    if not ways:
        return decision
    refusals = [way.refusal for way in ways.values() if isinstance(way, NoWay)]
    if len(refusals) == len(recipients) and len({refusal.reply.is_transient for refusal in refusals}) == 1:
        return _for_reader(refusals[0], is_internal=decision.is_internal)
    ways = {
        path: NoWay(_for_reader(way.refusal, is_internal=decision.is_internal)) if isinstance(way, NoWay) else way
        for path, way in ways.items()
    }
    return replace(decision, ways=ways)


def _refuse_way(
    client: Client, effective: EffectiveAuthor, directory: AccountDirectory, route: Route
) -> Refusal | None:
    """The refusal of a restricted client that may not send by the account of a route."""
    if client.senders is None:
        return None
    assert isinstance(effective.authors, AuthorFields)
    known = directory if _leaves_as_account(effective.authors, route, directory) else None
    return _refuse_senders(client, effective, route, known)


def _is_copied(facts: MessageFacts, route: Route) -> bool:
    """True for mail that a person or device sends: not for reports, automatic replies and redirected mail."""
    copies, is_null = route.account.sent_copy, not isinstance(facts.envelope.reverse_path, Address)
    if copies is None or is_null or facts.carrier is not None or route.source not in _SENT_BY:
        return False
    return copies.covers(route.author)


def _unchanged(plan: RewritePlan) -> RewritePlan:
    return plan


_UNDONE: Final = N_("its SRS address stood for it")


def _with_footer(
    plan: RewritePlan, received: HeaderSection, authors: AuthorFields, reverse_path: ReversePath, footers: FooterTable
) -> RewritePlan:
    """The plan with the footer of the message's author. Foreign authors of redirected mail have none."""
    footer = footers.find(authors.from_[0].address) if authors.from_ else None
    if authors.from_ and footer is None:
        return plan
    leaving = read_authors(apply_edits(plan, received))
    if not isinstance(leaving, AuthorFields) or not leaving.from_:
        return plan
    author = leaving.from_[0]
    footer = footer or footers.find(author.address)  # a local user: an address is in the From that leaves only
    if footer is None:
        return plan
    is_automatic = not isinstance(reverse_path, Address)
    change = AddFooter(footer, author.display_name or "", str(author.address), is_automatic)
    return replace(plan, content_changes=(change, *plan.content_changes))


def _signed_recipients(
    facts: MessageFacts, effective: EffectiveAuthor, directory: AccountDirectory, rules: Rules
) -> Mapping[ForwardPath, ForwardPath] | Refusal:
    """The SRS addresses among the recipients with their originals, or a refusal."""
    recipients = facts.envelope.recipients
    if facts.keys is not None and is_automatic_response(effective.reverse_path, facts.header):
        answer = refuse_answer(recipients, directory, facts.keys, facts.now)
        if answer is not None:
            return answer
    return undo_recipients(recipients, directory, facts.keys, facts.now) if rules.senders.srs else {}


def _refuse_loop(facts: MessageFacts, ids: Sequence[str], directory: AccountDirectory) -> Refusal:
    """The refusal of a message that has already passed this server, with its way: mostly a catch-all mailbox."""
    recipients, client = facts.envelope.recipients, facts.client
    shown = ", ".join(map(str, recipients[:_NAMED]))
    if len(recipients) > _NAMED:
        shown += f" and {len(recipients) - _NAMED} more"
    domains = ", ".join(dict.fromkeys(path.domain for path in recipients[:_NAMED]))
    text = (
        f"Mail loop: this server has sent this message {len(ids)} times, and {client} has submitted it again, for"
        f" {shown}."
    )
    hint = (
        f"{client} fetches mail for {domains} from the provider and relays it again: make {domains} local there, or"
        f" remove the forwarding (senderproxy track {ids[0]})"
    )
    is_internal = _is_internal(facts.envelope.reverse_path, directory)
    return _for_reader(Refusal(reply(554, "5.4.6", text), hint), is_internal=is_internal)


def _refuse_stray_line(line: StrayLine) -> Refusal:
    return Refusal(
        reply(
            550,
            "5.6.0",
            "To fix: correct the program that writes it; lenient = true for its listener removes such a line.",
            f"A line in the header section is not a header field: {line.text}",
        )
    )


def report_recipient(facts: MessageFacts, directory: AccountDirectory, rules: Rules) -> ReversePath:
    """The address for delivery reports, even if no account can send the message."""
    effective = determine_author(
        EditedHeader(facts.header), facts.envelope.reverse_path, facts.client, rules.senders.mapped, rules.hostname
    )
    return _report_to(effective, facts.client, directory)


def _report_to(effective: EffectiveAuthor, client: Client, directory: AccountDirectory) -> ReversePath:
    """The effective reverse-path; for a forced sender, that is a device, the Reply-To of an own domain."""
    if client.forced_sender is None or not isinstance(effective.reverse_path, Address):
        return effective.reverse_path
    values = effective.edited.header.values("Reply-To")
    try:
        mailboxes = read_mailboxes(values[0]) if len(values) == 1 else ()
    except MailboxError:
        mailboxes = ()
    own = (mailbox.address for mailbox in mailboxes if directory.has_domain(mailbox.address.domain))
    return next(own, effective.reverse_path)


def _route(
    facts: MessageFacts, effective: EffectiveAuthor, authors: AuthorFields, directory: AccountDirectory, rules: Rules
) -> Route | Refusal:
    """The author's account, or the account configured for bounces, foreign authors or reports."""
    senders, providers = rules.senders, rules.providers

    def named(account: str, setting: str) -> Route | Refusal:
        candidates = list(candidate_addresses(authors, effective.reverse_path, rules.routing))
        return route_by_account(account, setting, candidates, directory, providers)

    if facts.carrier is not None:
        return _without_null_refusal(named(facts.carrier, "this report"))
    rewrites = senders.foreign is ForeignAuthorPolicy.REWRITE
    route = choose_route(
        authors, effective.reverse_path, directory, providers, rules.routing, rewrites_foreign=rewrites
    )
    is_null = not isinstance(effective.reverse_path, Address)
    if not is_null and senders.foreign is ForeignAuthorPolicy.ACCOUNT and _is_foreign(authors, directory):
        assert senders.foreign_account is not None
        return named(senders.foreign_account, "senders.foreign_author")
    has_account = isinstance(route, Route) and route.tier is not MatchTier.DEFAULT
    if not has_account and (other := _route_without_account(facts, effective, authors, directory, rules)):
        return other
    if isinstance(route, Refusal):
        return _with_bounce_hint(route) if is_null and route.reply.code == 550 else route
    provider = route.provider
    if is_null and not provider.takes_null_reverse_path and provider.null_policy is NullPolicy.ACCOUNT:
        assert provider.null_account is not None
        setting = f"providers.{provider.name}.on_null_reverse_path"
        return named(provider.null_account, setting)
    return route


def _route_without_account(
    facts: MessageFacts, effective: EffectiveAuthor, authors: AuthorFields, directory: AccountDirectory, rules: Rules
) -> Route | Refusal | None:
    """The route of a message from an author without an account: redirected by an own mailbox, a bounce, or foreign.

    None: by the default account, or not at all.
    """
    senders, providers = rules.senders, rules.providers
    is_null = not isinstance(effective.reverse_path, Address)
    is_redirect = (_is_redirect(authors, directory) or (is_null and not authors.from_)) and (
        facts.client.forced_sender is None
    )
    if is_redirect:
        redirected = redirect_candidates(effective.edited.header, facts.client, senders.mapped)
        if route := route_by_candidates(redirected, directory, providers):
            return route
    if is_null and senders.bounce_account is not None:
        account, setting = senders.bounce_account, "senders.bounce_account"
    elif is_redirect and senders.foreign is ForeignAuthorPolicy.REWRITE and senders.foreign_account is not None:
        account, setting = senders.foreign_account, "senders.foreign_account"
    elif is_redirect and (owner := _srs_owner(facts, directory, rules)) is not None:
        account, setting = owner.id, "senders.srs"
    else:
        return None
    candidates = list(candidate_addresses(authors, effective.reverse_path, rules.routing))
    return route_by_account(account, setting, candidates, directory, providers)


def _srs_owner(facts: MessageFacts, directory: AccountDirectory, rules: Rules) -> Account | None:
    """The account that sends on a bounce to an SRS address of ours; decide has verified the address."""
    if not rules.senders.srs:
        return None
    domains = (path.domain for path in facts.envelope.recipients if is_srs(path))
    return next((owner for domain in domains if (owner := directory.of_domain(domain))), None)


def _with_bounce_hint(refusal: Refusal) -> Refusal:
    """The refusal with a hint about `bounce_account`: `postmaster@` rarely has a mailbox of its own."""
    hint = "the reverse-path is null (a bounce): set bounce_account under [senders] in the configuration"
    return replace(refusal, hint=f"{hint}, or {refusal.hint}" if refusal.hint else hint)


def _is_internal(path: ReversePath, directory: AccountDirectory) -> bool:
    """True if no stranger gets a bounce of the message: its reverse-path is null, local or of an own domain."""
    return not isinstance(path, Address) or directory.has_domain(path.domain) or not is_public_domain(path.domain)


def _for_reader(refusal: Refusal, *, is_internal: bool) -> Refusal:
    """The refusal with its hint in the reply, unless a stranger would read one of our commands in a bounce."""
    return refusal.explained if is_internal or not refusal.names_command else refusal


def _without_null_refusal(route: Route | Refusal) -> Route | Refusal:
    """The route of a report, with the account's address as reverse-path if the provider takes no null one.

    So a report is never dropped.
    """
    if isinstance(route, Refusal):
        return route
    return replace(route, provider=replace(route.provider, null_policy=NullPolicy.REWRITE))


def _is_foreign(authors: AuthorFields, directory: AccountDirectory) -> bool:
    """True if no author in From has an account."""
    tiers = (MatchTier.EXACT, MatchTier.UNTAGGED, MatchTier.DOMAIN)
    return bool(authors.from_) and not any(directory.find(m.address, tier) for m in authors.from_ for tier in tiers)


def _is_redirect(authors: AuthorFields, directory: AccountDirectory) -> bool:
    """True if From names only authors of other domains than ours."""
    return bool(authors.from_) and not any(directory.has_domain(mailbox.address.domain) for mailbox in authors.from_)


def _leaves_as_account(authors: AuthorFields, route: Route, directory: AccountDirectory) -> bool:
    """True for a redirected message whose From and reverse-path the provider's rules replace by the account's."""
    provider = route.provider
    return SenderRule.ANY not in (provider.sender_rule, provider.from_rule) and _is_redirect(authors, directory)


def _refuse_senders(
    client: Client, effective: EffectiveAuthor, route: Route, known: AccountDirectory | None
) -> Refusal | None:
    """The refusal if a restricted client names a sender that it may not use, or hides one; None if all are
    permitted.

    `known`: the message is redirected, so it leaves with From of the account; only addresses of ours are checked.
    """
    header = effective.edited.header
    senders = find_hidden_sender(header) or read_senders(header)
    if isinstance(senders, UnreadableAuthor):
        return refuse_unreadable(senders)
    assert isinstance(effective.authors, AuthorFields)
    for address in _senders_used(effective, effective.authors, senders, route):
        if client.may_use(address) or (known is not None and not known.has_domain(address.domain)):
            continue
        return Refusal(
            reply(550, "5.7.1", f"{client} may not send as {address}."),
            "add the address to this client under [[clients]] in the configuration",
        )
    return None


def _senders_used(
    effective: EffectiveAuthor, authors: AuthorFields, senders: Iterable[Mailbox], route: Route
) -> Iterator[Address]:
    """Every address that the message would be sent as: in the envelope, the header and the login."""
    if isinstance(effective.reverse_path, Address):
        yield effective.reverse_path
    for mailbox in (*authors.from_, *senders):
        yield mailbox.address
    yield route.account.address if route.tier in (MatchTier.DEFAULT, MatchTier.NAMED) else route.author
