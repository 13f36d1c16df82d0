"""Changes to one message that its provider requires, and the reason of each. PURE.

Guarantees: same inputs, same plan. A message changed by its plan satisfies the provider's rules for the reverse-path
and for From, and has a null reverse-path only if the provider accepts one; otherwise the message is refused or
discarded, with the reason. If nothing has to change, the plan is empty and the message is sent byte for byte as
received. The plan for an already changed message is empty.

Not here: the account (routing.route), the upstream's reply (delivery).
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from typing import Final

from senderproxy.mail import reasons
from senderproxy.mail.address import Address, ReversePath
from senderproxy.mail.author import AuthorFields, Mailbox
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.header import Cut, Edit, HeaderSection
from senderproxy.mail.message import Message
from senderproxy.mail.reply import Reply, reply
from senderproxy.rewriting.content_change import ContentChange
from senderproxy.rewriting.edited_header import Change, EditedHeader, format_mailbox
from senderproxy.rewriting.long_lines import LINE_LIMIT
from senderproxy.rewriting.repair import RepairContext, find_repairs
from senderproxy.rewriting.srs import SigningKeys, make_srs, make_sub_address
from senderproxy.rewriting.transfer_encoding import Reencode
from senderproxy.routing.account import lists_address
from senderproxy.routing.author_policy import AuthorPolicy, ForeignAuthorPolicy
from senderproxy.routing.directory import MatchTier
from senderproxy.routing.provider import NullPolicy, SenderRule
from senderproxy.routing.route import Refusal, Route
from senderproxy.translation import N_
from senderproxy.value_class import value_class

_ROUNDS: Final = 2  # rounds of repairs: repeated fields first, then the remaining one
LOOP_FIELD: Final = (
    "X-Senderproxy-Loop"  # field of automatic mail whose null reverse-path was replaced; names this host
)


@dataclass(frozen=True, slots=True)
class RewriteContext:
    """Inputs of a plan besides the message and its route."""

    policy: AuthorPolicy
    hostname: str
    now: datetime
    message_id: str  # with angle brackets, for a message without one
    bounces_to: Address | None = None  # the address of the bounce account
    has_long_lines: bool = False  # the body of the message has long lines
    zone: tzinfo = UTC  # of a date without one
    keys: SigningKeys | None = None
    makes_srs: bool = False  # a redirect's reverse-path becomes an SRS address


@value_class
class RewritePlan:
    """The envelope to send, the edits of the header in rounds, and their reasons."""

    envelope: Envelope
    rounds: tuple[tuple[Edit, ...], ...] = ()
    changes: tuple[Change, ...] = ()
    content_changes: tuple[ContentChange, ...] = ()  # to be made after all others, in this order
    cuts: tuple[Cut, ...] = ()  # of the header section, before the edits


@dataclass(frozen=True, slots=True)
class Discard:
    """The message is accepted from its client and discarded, as configured."""

    reply: Reply


def plan_rewrite(
    route: Route, authors: AuthorFields, envelope: Envelope, edited: EditedHeader, context: RewriteContext
) -> RewritePlan | Refusal | Discard:
    """Plan the changes to reverse-path, From and invalid header fields.

    Returns a Refusal, whose reply goes to the client, if the provider's rules and the configuration permit no change.
    """
    if result := _unsupported_null_path(route, envelope.reverse_path):
        return result
    fitted = _fit_from(route, authors, edited, context.policy)
    if isinstance(fitted, Refusal):
        return fitted
    path, changes = _fit_reverse_path(route, authors, envelope.reverse_path, context)
    if path != envelope.reverse_path and not isinstance(envelope.reverse_path, Address):
        fitted = _marked_as_automatic(fitted, context.hostname)
    author = route.author if permits(route, route.provider.from_rule, route.author) else route.account.address
    if authors.local is not None:
        named = [Mailbox(author, authors.local.display_name)]
        fitted = fitted.with_mailboxes("From", named, N_("it named a local user, not an address"))
    repair_context = RepairContext(context.now, context.message_id, author, context.policy.remove_bcc, context.zone)
    for _ in range(_ROUNDS):
        repairs = find_repairs(fitted.header, repair_context)
        if not repairs:
            break
        fitted = fitted.with_edits([repair.edit for repair in repairs], [repair.change for repair in repairs])
    if context.has_long_lines:
        reason = reasons.LINE_LIMITED.format(limit=LINE_LIMIT)
        changes = (*changes, Change("body", "", N_("parts with long lines re-encoded, unless signed"), reason))
    return RewritePlan(
        envelope.with_reverse_path(path),
        fitted.rounds,
        (*changes, *fitted.changes),
        (Reencode(),) if context.has_long_lines else (),
        fitted.cuts,
    )


def permits(route: Route, rule: SenderRule, address: Address) -> bool:
    """True if a rule of the provider permits this address to the account of the route."""
    match rule:
        case SenderRule.ANY:
            return True
        case SenderRule.DOMAIN:
            return address.domain == route.account.address.domain
        case SenderRule.ADDRESS:
            if lists_address(route.account, address):
                return True
            base = address.without_tag if route.provider.takes_sub_addresses else None
            return base is not None and lists_address(route.account, base)


def describe_rule(route: Route, rule: SenderRule) -> str:
    """A rule of the provider as a sentence without a period."""
    match rule:
        case SenderRule.ANY:
            return reasons.ACCEPTS_ANY.format(provider=route.provider.name)
        case SenderRule.DOMAIN:
            return reasons.ACCEPTS_DOMAIN.format(provider=route.provider.name, domain=route.account.address.domain)
        case SenderRule.ADDRESS:
            return reasons.ACCEPTS_OWN.format(provider=route.provider.name)


# ---- the reverse-path ----


def _unsupported_null_path(route: Route, path: ReversePath) -> Refusal | Discard | None:
    """The result for a null reverse-path that cannot be sent, None if it can be sent or replaced."""
    provider = route.provider
    if isinstance(path, Address) or provider.takes_null_reverse_path:
        return None
    match provider.null_policy:
        case NullPolicy.DISCARD:
            return Discard(reply(250, "2.0.0", f"Discarded: {provider.name} does not accept a null reverse-path"))
        case NullPolicy.REJECT:
            return Refusal(
                reply(
                    550, "5.7.1", f"{provider.name} does not accept a null reverse-path (bounces, automatic replies)."
                ),
                f'to send them from an own address: on_null_reverse_path = "rewrite" in [providers.{provider.name}]',
            )
        case NullPolicy.REWRITE | NullPolicy.ACCOUNT:
            return None


def _fit_reverse_path(
    route: Route, authors: AuthorFields, path: ReversePath, context: RewriteContext
) -> tuple[ReversePath, tuple[Change, ...]]:
    """Replace a reverse-path that the provider would refuse with an address of the account, which gets the bounces."""
    rule = route.provider.sender_rule
    if isinstance(path, Address):
        if context.makes_srs and _is_redirect(route, authors) and (signed := _srs_path(route, rule, path, context)):
            reason = N_("its bounces go to this server, which sends them on to the original reverse-path (SRS)")
            return signed, (Change("reverse-path", str(path), str(signed), reason),)
        if permits(route, rule, path):
            return path, ()
        mailbox = _own_author(route, rule) if _is_redirect(route, authors) else _untagged(route, rule, path)
        own = mailbox or route.account.address
        reason = reasons.BOUNCES_TO.format(reason=describe_rule(route, rule), address=own)
    else:
        if route.provider.takes_null_reverse_path:
            return path, ()
        preferred = context.bounces_to
        if preferred is None or not permits(route, rule, preferred):
            preferred = _own_author(route, rule) if rule is not SenderRule.ADDRESS else _sub_address(route, context)
        own = preferred or route.account.address
        reason = reasons.BOUNCES_TO.format(
            reason=reasons.REFUSES_NULL_PATH.format(provider=route.provider.name), address=own
        )
    return own, (Change("reverse-path", str(path), str(own), reason),)


def _srs_path(route: Route, rule: SenderRule, path: Address, context: RewriteContext) -> Address | None:
    """The SRS address of the redirecting mailbox's domain, else of the account's; None if none is possible."""
    if context.keys is None or not _is_foreign(route, path):
        return None
    mailbox = _own_author(route, rule) or route.account.address
    for domain in dict.fromkeys((mailbox.domain, route.account.address.domain)):
        signed = make_srs(path, domain, context.keys, context.now)
        if signed is not None and permits(route, rule, signed):
            return signed
    return None


def _sub_address(route: Route, context: RewriteContext) -> Address | None:
    """A signed sub-address of the author's mailbox, where the provider takes it: our server recognises an answer."""
    if not route.provider.takes_sub_addresses or context.keys is None:
        return None
    mailbox = _own_author(route, SenderRule.ADDRESS) or route.account.address
    return make_sub_address(mailbox.without_tag or mailbox, context.keys, context.now)


def _own_author(route: Route, rule: SenderRule) -> Address | None:
    """The author, or the mailbox that redirected the message, if it is of this account and the rule permits it.

    Its bounces are for it, not for the account's owner.
    """
    is_own = route.tier not in (MatchTier.DEFAULT, MatchTier.NAMED)
    if route.tier is MatchTier.DEFAULT:
        is_own = route.author.domain == route.account.address.domain
    return route.author if is_own and permits(route, rule, route.author) else None


def _marked_as_automatic(edited: EditedHeader, hostname: str) -> EditedHeader:
    """Mark the message as automatic in its header, because the null reverse-path is gone (RFC 3834 section 5)."""
    reason = N_("its reverse-path was null: it must not be answered automatically")
    edited = edited.with_field("Auto-Submitted", "auto-replied", reason)
    edited = edited.with_field("X-Auto-Response-Suppress", "All", reason)
    return edited.with_edits([Edit(LOOP_FIELD, hostname.encode("ascii"))], [Change(LOOP_FIELD, "", hostname, reason)])


# ---- From ----

# Signatures include From (RFC 6376 section 5.4), so a foreign author's is broken; a broken one counts against the mail.
_SIGNATURES: Final = ("DKIM-Signature", "DomainKey-Signature")


def _fit_from(
    route: Route, authors: AuthorFields, edited: EditedHeader, policy: AuthorPolicy
) -> EditedHeader | Refusal:
    rule = route.provider.from_rule
    unfit = [mailbox for mailbox in authors.from_ if not permits(route, rule, mailbox.address)]
    if not unfit:
        return edited
    foreign = [mailbox for mailbox in unfit if not _is_own(route, mailbox.address)]
    # Mail routed by a configured account (bounces of the own server) is own mail, for any From field.
    if foreign and route.tier is not MatchTier.NAMED and policy.foreign is not ForeignAuthorPolicy.REWRITE:
        return _refuse_foreign_author(route, foreign[0].address)
    author = unfit[0] if foreign == [] else foreign[0]
    own = _replacement_address(route, rule, author.address)
    name = author.display_name or author.address.local_part
    if foreign and policy.foreign is not ForeignAuthorPolicy.REJECT:
        name = f"{name} via {route.account.display_name or route.account.address.domain}"
    reason = describe_rule(route, rule)
    before = edited
    edited = edited.with_mailboxes("From", [Mailbox(own, name)], reason)
    reply_to = [mailbox for mailbox in authors.from_ if mailbox.address.key != own.key]
    if reply_to and not edited.indexes("Reply-To"):
        edited = edited.with_mailboxes("Reply-To", reply_to, N_("replies go to the original author"))
    if foreign:
        if not before.indexes("X-Original-From"):
            reason = reasons.PRESERVES_AUTHOR.format(author=format_mailbox(author))
            edited = edited.with_mailboxes("X-Original-From", authors.from_, reason)
        if authors.sender is not None and not permits(route, rule, authors.sender.address):
            edited = edited.without_fields(("Sender",), describe_rule(route, rule))
        edited = edited.without_fields(_SIGNATURES, N_("the signature is invalid after the change of From"))
    return edited


def _refuse_foreign_author(route: Route, address: Address) -> Refusal:
    account = route.account.id
    if address.domain == route.account.address.domain:
        hint = f"to let the account send as {address}: senderproxy account edit {account} --also {address}"
    else:
        hint = f'set foreign_author = "rewrite" under [senders] for redirected mail, or map {address} in [senders.map]'
    return Refusal(
        reply(
            550,
            "5.7.1",
            f"The From field names {address}, which is not an address of account {account}, and"
            f" {describe_rule(route, route.provider.from_rule)}.",
        ),
        hint,
    )


# ---- addresses of the account ----


def _replacement_address(route: Route, rule: SenderRule, address: Address) -> Address:
    """The account's address that replaces another: the same without its +tag, else the account's first."""
    return _untagged(route, rule, address) or route.account.address


def _untagged(route: Route, rule: SenderRule, address: Address) -> Address | None:
    """The address without its +tag, if the account has that and the rule permits it."""
    base = address.without_tag
    return base if base is not None and lists_address(route.account, base) and permits(route, rule, base) else None


def _is_own(route: Route, address: Address) -> bool:
    """True if the account has this address, also by its domain or without the +tag."""
    if any(pattern.matches(address) for pattern in route.account.carries) or lists_address(route.account, address):
        return True
    base = address.without_tag
    return base is not None and lists_address(route.account, base)


def _is_redirect(route: Route, authors: AuthorFields) -> bool:
    """True if all authors are foreign."""
    return bool(authors.from_) and all(_is_foreign(route, mailbox.address) for mailbox in authors.from_)


def _is_foreign(route: Route, address: Address) -> bool:
    return address.domain != route.account.address.domain and not _is_own(route, address)


def apply_edits(plan: RewritePlan, header: HeaderSection) -> HeaderSection:
    """Apply the edits of a plan, round by round."""
    for cut in plan.cuts:
        header = header.with_cut(cut)
    for edits in plan.rounds:
        header = header.with_edits(edits)
    return header


def apply_plan(plan: RewritePlan, message: Message) -> Message:
    """Apply a plan to a message, except its content changes. Returns the message to send."""
    header = apply_edits(plan, message.header)
    return message if header is message.header else replace(message, header=header)
