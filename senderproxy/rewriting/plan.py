"""plan_rewrite: what is changed so that the provider takes the message, and why. PURE.

Guarantees: same inputs, same plan. What leaves by a plan satisfies the provider's sender rule for the reverse-path, its
rule for From, and has no null reverse-path where it takes none; else the message is refused or discarded, with the
reason. Where nothing has to change the plan is empty and the message leaves byte for byte as it came. A plan for what a
plan has left is empty.
Not here: whose account it is (routing.route), the edits themselves (rewriting.plan), what the upstream says
(delivery).
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from senderproxy.mail.address import Address, ReversePath
from senderproxy.mail.author import Authors, Mailbox
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.header import Edit, HeaderSection
from senderproxy.mail.message import Message
from senderproxy.mail.reply import Reply, reply
from senderproxy.rewriting.draft import Change, Draft, in_words
from senderproxy.rewriting.long_lines import LINE_LIMIT, Folded
from senderproxy.rewriting.repair import RepairContext, find_repairs
from senderproxy.routing.account import carries_by_name
from senderproxy.routing.author_policy import AuthorPolicy, ForeignAuthorPolicy
from senderproxy.routing.directory import Tier
from senderproxy.routing.provider import NullPolicy, SenderRule
from senderproxy.routing.route import Refusal, Route

_ROUNDS: Final = 2  # of repairs: doubled fields first, then the one that is left of them
LOOP_MARK: Final = "X-Senderproxy-Loop"  # on automatic mail that got a reverse-path: the host that gave it one


@dataclass(frozen=True, slots=True)
class RewriteTerms:
    """What a plan depends on beside the message and its route."""

    policy: AuthorPolicy
    hostname: str
    now: datetime
    message_id: str  # with its angle brackets, for a message that has none
    bounces_to: Address | None = None  # the bounce account's address
    has_long_lines: bool = False  # the message's body has


@dataclass(frozen=True, slots=True)
class RewritePlan:
    """The envelope that leaves, the edits of the header in rounds, and what they are for."""

    envelope: Envelope
    rounds: tuple[tuple[Edit, ...], ...] = ()
    changes: tuple[Change, ...] = ()
    folds_body: bool = False


@dataclass(frozen=True, slots=True)
class Discarding:
    """The message is taken from its client and dropped, because the configuration says so."""

    reply: Reply


def plan_rewrite(
    route: Route, authors: Authors, envelope: Envelope, draft: Draft, terms: RewriteTerms
) -> RewritePlan | Refusal | Discarding:
    """Fit the message to its provider: the reverse-path, From, and what a header must look like."""
    if ends := _null_path_ends(route, envelope.reverse_path):
        return ends
    fitted = _fit_from(route, authors, draft, terms.policy)
    if isinstance(fitted, Refusal):
        return fitted
    path, changes = _fit_reverse_path(route, envelope.reverse_path, terms)
    if path != envelope.reverse_path and not isinstance(envelope.reverse_path, Address):
        fitted = _marked_as_automatic(fitted, terms.hostname)
    author = route.author if takes(route, route.provider.from_rule, route.author) else route.account.address
    context = RepairContext(terms.now, terms.message_id, author, terms.policy.remove_bcc)
    for _ in range(_ROUNDS):
        repairs = find_repairs(fitted.header, context)
        if not repairs:
            break
        fitted = fitted.revised([repair.edit for repair in repairs], [repair.change for repair in repairs])
    if terms.has_long_lines:
        reason = f"no line may be longer than {LINE_LIMIT} octets (RFC 5321 section 4.5.3.1.6)"
        changes = (*changes, Change("body", "", "long lines folded", reason))
    return RewritePlan(envelope.with_path(path), fitted.rounds, (*changes, *fitted.changes), terms.has_long_lines)


def takes(route: Route, rule: SenderRule, address: Address) -> bool:
    """True where a rule of the provider lets the route's account name the address."""
    match rule:
        case SenderRule.ANY:
            return True
        case SenderRule.DOMAIN:
            return address.domain == route.account.address.domain
        case SenderRule.ADDRESS:
            return carries_by_name(route.account, address)


def rule_in_words(route: Route, rule: SenderRule) -> str:
    """A provider's rule as a sentence."""
    match rule:
        case SenderRule.ANY:
            return f"{route.provider.name} takes any sender"
        case SenderRule.DOMAIN:
            return f"{route.provider.name} takes senders of the domain {route.account.address.domain} only"
        case SenderRule.ADDRESS:
            return f"{route.provider.name} takes the account's own addresses only"


# ---- the reverse-path ----


def _null_path_ends(route: Route, path: ReversePath) -> Refusal | Discarding | None:
    """The answer where a null reverse-path goes no further."""
    provider = route.provider
    if isinstance(path, Address) or provider.takes_null_reverse_path:
        return None
    match provider.null_policy:
        case NullPolicy.DISCARD:
            return Discarding(reply(250, "2.0.0", f"Discarded: {provider.name} takes no null reverse-path"))
        case NullPolicy.REJECT:
            return Refusal(
                reply(
                    550,
                    "5.7.1",
                    f"{provider.name} takes no null reverse-path, and so no bounces and automatic replies.",
                    f'To send them from the account\'s address: on_null_reverse_path = "rewrite" in'
                    f" [providers.{provider.name}]",
                )
            )
        case NullPolicy.REWRITE | NullPolicy.ACCOUNT:
            return None


def _fit_reverse_path(route: Route, path: ReversePath, terms: RewriteTerms) -> tuple[ReversePath, tuple[Change, ...]]:
    """The reverse-path is where bounces go: an own address takes the place of one the provider would refuse."""
    rule = route.provider.sender_rule
    if isinstance(path, Address):
        if takes(route, rule, path):
            return path, ()
        own = _own_for(route, rule, path)
        reason = f"{rule_in_words(route, rule)}; bounces go to {own}"
    else:
        if route.provider.takes_null_reverse_path:
            return path, ()
        wanted = terms.bounces_to
        own = wanted if wanted is not None and takes(route, rule, wanted) else route.account.address
        reason = f"{route.provider.name} takes no null reverse-path; what comes back goes to {own}"
    return own, (Change("reverse-path", str(path), str(own), reason),)


def _marked_as_automatic(draft: Draft, hostname: str) -> Draft:
    """Nobody can see any more that it must not be answered, so it is said in the header (RFC 3834 section 5)."""
    reason = "it came with a null reverse-path: nobody shall answer it automatically"
    draft = draft.adding("Auto-Submitted", "auto-replied", reason)
    draft = draft.adding("X-Auto-Response-Suppress", "All", reason)
    return draft.revised([Edit(LOOP_MARK, hostname.encode("ascii"))], [Change(LOOP_MARK, "", hostname, reason)])


# ---- From ----


def _fit_from(route: Route, authors: Authors, draft: Draft, policy: AuthorPolicy) -> Draft | Refusal:
    rule = route.provider.from_rule
    unfit = [mailbox for mailbox in authors.from_ if not takes(route, rule, mailbox.address)]
    if not unfit:
        return draft
    foreign = [mailbox for mailbox in unfit if not _is_own(route, mailbox.address)]
    # What the office's own server says about a mail is the office's, whatever it calls itself.
    if foreign and route.tier is not Tier.NAMED and policy.foreign is not ForeignAuthorPolicy.REWRITE:
        return Refusal(_foreign(route, foreign[0].address))
    author = unfit[0] if foreign == [] else foreign[0]
    own = _own_for(route, rule, author.address)
    name = author.display_name or author.address.local_part
    if foreign and policy.foreign is not ForeignAuthorPolicy.REJECT:
        name = f"{name} via {route.account.display_name or route.account.address.domain}"
    reason = rule_in_words(route, rule)
    written = draft
    draft = draft.setting("From", [Mailbox(own, name)], reason)
    answered = [mailbox for mailbox in authors.from_ if mailbox.address.key != own.key]
    if answered and not draft.places("Reply-To"):
        draft = draft.setting("Reply-To", answered, "answers go to whom the message is from")
    if foreign and not written.places("X-Original-From"):
        draft = draft.setting("X-Original-From", authors.from_, f"kept: it was from {in_words(author)}")
    return draft


def _foreign(route: Route, address: Address) -> Reply:
    account = route.account.id
    return reply(
        550,
        "5.7.1",
        f"The From field names {address}, whom account {account} does not carry, and"
        f" {rule_in_words(route, route.provider.from_rule)}.",
        f"If it may send as {address}: senderproxy account edit {account} --also {address}",
        'For redirected mail: foreign_author = "rewrite" under [senders] in the configuration.',
    )


# ---- whose address it is ----


def _own_for(route: Route, rule: SenderRule, address: Address) -> Address:
    """The account's address that stands for another: the one without its +tag, else the account's first."""
    base = address.without_tag
    return (
        base
        if base is not None and carries_by_name(route.account, base) and takes(route, rule, base)
        else (route.account.address)
    )


def _is_own(route: Route, address: Address) -> bool:
    """The account carries it, if only by its domain or without its +tag."""
    if any(pattern.matches(address) for pattern in route.account.carries) or carries_by_name(route.account, address):
        return True
    base = address.without_tag
    return base is not None and carries_by_name(route.account, base)


def edit_header(plan: RewritePlan, header: HeaderSection) -> HeaderSection:
    """The header section with the plan's edits, one round after the other."""
    for edits in plan.rounds:
        header = header.edited(edits)
    return header


def carry_out(plan: RewritePlan, message: Message) -> Message:
    """The message that leaves."""
    header = edit_header(plan, message.header)
    body = Folded(message.body) if plan.folds_body else message.body
    return message if header is message.header and body is message.body else replace(message, header=header, body=body)
