"""Effective author: the forced sender of the listener, the mapped address, or the author as received. PURE.

Guarantees: routing, the client's permissions and the provider's rule use only the effective author. The original author
is not lost: it becomes the Reply-To if a reply could reach it.

Not here: the account (routing.route), the rules of the provider (rewriting.plan).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from senderproxy.mail import reasons
from senderproxy.mail.address import Address, ReversePath
from senderproxy.mail.author import AuthorFields, Mailbox, UnreadableAuthor, read_authors
from senderproxy.mail.header import Edit
from senderproxy.mail.submission import Client
from senderproxy.rewriting.edited_header import Change, EditedHeader
from senderproxy.rewriting.repair import repair_author_fields
from senderproxy.routing.author_policy import AuthorMap, is_public_domain
from senderproxy.translation import N_


@dataclass(frozen=True, slots=True)
class EffectiveAuthor:
    """Effective authors and reverse-path, and the header with the edits that they require."""

    edited: EditedHeader
    authors: AuthorFields | UnreadableAuthor
    reverse_path: ReversePath
    path_changes: tuple[Change, ...] = ()


def determine_author(
    edited: EditedHeader, reverse_path: ReversePath, client: Client, mapped: AuthorMap, hostname: str = ""
) -> EffectiveAuthor:
    """Determine the effective author. In this order: repair (lenient listener), forced sender, `[senders.map]`.

    `hostname`: the domain that a reverse-path without one has got (`root`), so that an entry for the name replaces it.

    A repeated From of one author becomes one field; an unreadable Sender is removed, because From alone decides.
    """
    if client.lenient:
        repairs = repair_author_fields(edited.header)
        edited = edited.with_edits([repair.edit for repair in repairs], [repair.change for repair in repairs])
    authors = read_authors(edited.header)
    if client.forced_sender is not None:
        return _force_author(edited, authors, reverse_path, client.forced_sender)
    if isinstance(authors, UnreadableAuthor) and authors.field == "Sender":
        edited = _without_fields(edited, _is_sender, reasons.NOT_READ.format(fault=authors.reason))
        authors = read_authors(edited.header)
    if isinstance(authors, UnreadableAuthor):
        return EffectiveAuthor(edited, authors, reverse_path)
    edited = _without_repeated_from(edited)
    return _map_authors(edited, authors, reverse_path, mapped, hostname)


def _force_author(
    edited: EditedHeader, authors: AuthorFields | UnreadableAuthor, reverse_path: ReversePath, forced: Address
) -> EffectiveAuthor:
    original = authors.from_ if isinstance(authors, AuthorFields) else ()
    reason = N_("the listener permits this sender only")
    name = original[0].display_name if original else None
    if isinstance(authors, AuthorFields) and authors.local is not None:
        name = authors.local.display_name
    if [mailbox.address.key for mailbox in original] != [forced.key]:
        answerable = [
            mailbox
            for mailbox in original
            if mailbox.address.key != forced.key and is_public_domain(mailbox.address.domain)
        ]
        edited = edited.with_mailboxes("From", [Mailbox(forced, name)], reason)
        if answerable and not edited.indexes("Reply-To"):
            edited = edited.with_mailboxes("Reply-To", answerable, N_("replies go to the original author"))
    edited = _without_fields(edited, _is_other_sender, reason)
    changes: tuple[Change, ...] = ()
    # Bounces to a made-up address of a device would be lost. The null reverse-path has a policy of its own.
    if isinstance(reverse_path, Address) and reverse_path.key != forced.key:
        changes = (Change("reverse-path", str(reverse_path), str(forced), reason),)
        reverse_path = forced
    remaining = read_authors(edited.header)  # a line that is not a field stays and may hide another From
    return EffectiveAuthor(edited, remaining, reverse_path, changes)


def _without_repeated_from(edited: EditedHeader) -> EditedHeader:
    """Keep the first of several From fields, which name the same author."""
    _first, *others = edited.indexes("From") or [0]
    if not others:
        return edited
    fields = edited.header.split()[0]
    reason = reasons.OCCURRED_ALIKE.format(count=len(others) + 1)
    edits = [Edit(fields[index].name, None, index) for index in others]
    return edited.with_edits(edits, [Change("From", edited.text_of("From"), edited.text_of("From"), reason)])


def _without_fields(edited: EditedHeader, is_unwanted: Callable[[str], bool], reason: str) -> EditedHeader:
    """Remove all fields whose name, in lower case, is unwanted. One change for each name."""
    found = {name: places for name, places in edited.header.indexes().items() if is_unwanted(name)}
    edits = [Edit(name, None, place) for name, places in found.items() for place in places]
    changes = [Change(name.title(), edited.text_of(name), "", reason) for name in found]
    return edited.with_edits(edits, changes)


def _is_sender(name: str) -> bool:
    return name == "sender"


def _is_other_sender(name: str) -> bool:
    """Sender, and the fields of an earlier sending (RFC 5322 section 3.6.6): they name others than the forced
    sender.
    """
    return name == "sender" or name.startswith("resent-")


_MAPPED: Final = N_("[senders.map] replaces this address")


def _map_authors(
    edited: EditedHeader, authors: AuthorFields, reverse_path: ReversePath, mapped: AuthorMap, hostname: str
) -> EffectiveAuthor:
    if mapped.is_empty:
        return EffectiveAuthor(edited, authors, reverse_path)
    from_ = tuple(replace(mailbox, address=mapped(mailbox.address)) for mailbox in authors.from_)
    if authors.local is not None and (address := mapped.local(authors.local.name)):
        from_ = (Mailbox(address, authors.local.display_name),)
    if from_ != authors.from_:
        edited = edited.with_mailboxes("From", from_, _MAPPED)
    sender = authors.sender and replace(authors.sender, address=mapped(authors.sender.address))
    if sender is not None and sender != authors.sender:
        edited = edited.with_mailboxes("Sender", [sender], _MAPPED)
    resent = tuple(replace(mailbox, address=mapped(mailbox.address)) for mailbox in authors.resent_from)
    changes: tuple[Change, ...] = ()
    replacement = _mapped_path(reverse_path, mapped, hostname) if isinstance(reverse_path, Address) else reverse_path
    if replacement != reverse_path:
        changes = (Change("reverse-path", str(reverse_path), str(replacement), _MAPPED),)
        reverse_path = replacement
    local = None if from_ else authors.local
    mapped_authors = replace(authors, from_=from_, sender=sender, resent_from=resent, local=local)
    return EffectiveAuthor(edited, mapped_authors, reverse_path, changes)


def _mapped_path(path: Address, mapped: AuthorMap, hostname: str) -> Address:
    replacement = mapped(path)
    if replacement == path and path.domain == hostname:
        return mapped.local(path.local_part.lower()) or path
    return replacement
