"""Effective author: the forced sender of the listener, the mapped address, or the author as received. PURE.

Guarantees: routing, the client's permissions and the provider's rule use only the effective author. The original author
is not lost: it becomes the Reply-To if a reply could reach it.

Not here: the account (routing.route), the rules of the provider (rewriting.plan).
"""

from dataclasses import dataclass, replace
from typing import Final

from senderproxy.mail.address import Address, ReversePath
from senderproxy.mail.author import AuthorFields, Mailbox, UnreadableAuthor, read_authors
from senderproxy.mail.header import Edit
from senderproxy.mail.submission import Client
from senderproxy.rewriting.edited_header import Change, EditedHeader
from senderproxy.rewriting.repair import repair_author_fields
from senderproxy.routing.author_policy import AuthorMap

# Top-level names in local use only (RFC 6762 appendix G, RFC 2606).
_LOCAL_NAMES: Final = frozenset(
    {"local", "localdomain", "lan", "intern", "internal", "home", "corp", "invalid", "arpa"}
)


@dataclass(frozen=True, slots=True)
class EffectiveAuthor:
    """Effective authors and reverse-path, and the header with the edits that they require."""

    edited: EditedHeader
    authors: AuthorFields | UnreadableAuthor
    reverse_path: ReversePath
    path_changes: tuple[Change, ...] = ()


def determine_author(
    edited: EditedHeader, reverse_path: ReversePath, client: Client, mapped: AuthorMap
) -> EffectiveAuthor:
    """Determine the effective author. In this order: repair (lenient listener), forced sender, `[senders.map]`."""
    if client.lenient:
        repairs = repair_author_fields(edited.header)
        edited = edited.with_edits([repair.edit for repair in repairs], [repair.change for repair in repairs])
    authors = read_authors(edited.header)
    if client.forced_sender is not None:
        return _force_author(edited, authors, reverse_path, client.forced_sender)
    if isinstance(authors, UnreadableAuthor):
        return EffectiveAuthor(edited, authors, reverse_path)
    return _map_authors(edited, authors, reverse_path, mapped)


def _force_author(
    edited: EditedHeader, authors: AuthorFields | UnreadableAuthor, reverse_path: ReversePath, forced: Address
) -> EffectiveAuthor:
    original = authors.from_ if isinstance(authors, AuthorFields) else ()
    reason = "the listener permits this sender only"
    name = original[0].display_name if original else None
    if [mailbox.address.key for mailbox in original] != [forced.key]:
        answerable = [
            mailbox for mailbox in original if mailbox.address.key != forced.key and _accepts_replies(mailbox)
        ]
        edited = edited.with_mailboxes("From", [Mailbox(forced, name)], reason)
        if answerable and not edited.indexes("Reply-To"):
            edited = edited.with_mailboxes("Reply-To", answerable, "replies go to the original author")
        edited = _without_sender(edited, reason)
    changes: tuple[Change, ...] = ()
    # Bounces to a made-up address of a device would be lost. The null reverse-path has a policy of its own.
    if isinstance(reverse_path, Address) and reverse_path.key != forced.key:
        changes = (Change("reverse-path", str(reverse_path), str(forced), reason),)
        reverse_path = forced
    remaining = read_authors(edited.header)  # a line that is not a field stays and may hide another From
    return EffectiveAuthor(edited, remaining, reverse_path, changes)


def _without_sender(edited: EditedHeader, reason: str) -> EditedHeader:
    """Remove Sender fields, which would name an address other than the forced one."""
    indexes = edited.indexes("Sender")
    change = Change("Sender", edited.text_of("Sender"), "", reason)
    return edited.with_edits([Edit("Sender", None, index) for index in indexes], [change])


def _accepts_replies(mailbox: Mailbox) -> bool:
    """False for the made-up domain of a device (`copier@localhost`, `scan@192.168.1.20`, `x@printer.local`)."""
    domain = mailbox.address.domain
    last = domain.rpartition(".")[2]
    return "." in domain and not domain.startswith("[") and last.isalpha() and last not in _LOCAL_NAMES


def _map_authors(
    edited: EditedHeader, authors: AuthorFields, reverse_path: ReversePath, mapped: AuthorMap
) -> EffectiveAuthor:
    reason = "[senders.map] replaces this address"
    if mapped.is_empty:
        return EffectiveAuthor(edited, authors, reverse_path)
    from_ = tuple(replace(mailbox, address=mapped(mailbox.address)) for mailbox in authors.from_)
    if from_ != authors.from_:
        edited = edited.with_mailboxes("From", from_, reason)
    sender = authors.sender and replace(authors.sender, address=mapped(authors.sender.address))
    if sender is not None and sender != authors.sender:
        edited = edited.with_mailboxes("Sender", [sender], reason)
    resent = tuple(replace(mailbox, address=mapped(mailbox.address)) for mailbox in authors.resent_from)
    changes: tuple[Change, ...] = ()
    if isinstance(reverse_path, Address) and (replacement := mapped(reverse_path)) != reverse_path:
        changes = (Change("reverse-path", str(reverse_path), str(replacement), reason),)
        reverse_path = replacement
    return EffectiveAuthor(edited, AuthorFields(from_, sender, resent), reverse_path, changes)
