"""stand_in: who is meant as the author, before anybody is looked up. PURE.

Guarantees: the address that a listener forces, or the one that stands for a foreign or local address in the map, is
what routing, the client's rights and the provider's rule are asked about from here on; the one that came is never
lost: it becomes the Reply-To where somebody could answer to it.
Not here: whose account it is (routing.route), what the provider takes (rewriting.plan).
"""

from dataclasses import dataclass, replace
from typing import Final

from senderproxy.mail.address import Address, ReversePath
from senderproxy.mail.author import Authors, Mailbox, UnreadableAuthor, read_authors
from senderproxy.mail.header import Edit
from senderproxy.mail.submission import Client
from senderproxy.rewriting.draft import Change, Draft
from senderproxy.rewriting.repair import mend_for_reading
from senderproxy.routing.author_policy import AuthorMap

# Top-level names that are used inside offices and exist nowhere else (RFC 6762 appendix G, RFC 2606).
_NOWHERE: Final = frozenset({"local", "localdomain", "lan", "intern", "internal", "home", "corp", "invalid", "arpa"})


@dataclass(frozen=True, slots=True)
class EffectiveAuthor:
    """The authors and the reverse-path that are meant, and the draft that says so."""

    draft: Draft
    authors: Authors | UnreadableAuthor
    reverse_path: ReversePath
    path_changes: tuple[Change, ...] = ()


def stand_in(draft: Draft, reverse_path: ReversePath, client: Client, mapped: AuthorMap) -> EffectiveAuthor:
    """Mend what a lenient listener may mend, force the sender, or look into the map: in this order."""
    if client.lenient:
        repairs = mend_for_reading(draft.header)
        draft = draft.revised([repair.edit for repair in repairs], [repair.change for repair in repairs])
    authors = read_authors(draft.header)
    if client.forced_sender is not None:
        return _forced(draft, authors, reverse_path, client.forced_sender)
    if isinstance(authors, UnreadableAuthor):
        return EffectiveAuthor(draft, authors, reverse_path)
    return _mapped(draft, authors, reverse_path, mapped)


def _forced(
    draft: Draft, authors: Authors | UnreadableAuthor, reverse_path: ReversePath, forced: Address
) -> EffectiveAuthor:
    came = authors.from_ if isinstance(authors, Authors) else ()
    reason = "the listener lets its clients send as this address only"
    name = came[0].display_name if came else None
    if [mailbox.address.key for mailbox in came] != [forced.key]:
        answerable = [mailbox for mailbox in came if mailbox.address.key != forced.key and _can_be_answered(mailbox)]
        draft = draft.setting("From", [Mailbox(forced, name)], reason)
        if answerable and not draft.places("Reply-To"):
            draft = draft.setting("Reply-To", answerable, "answers go to whom the device named")
        draft = _without_sender(draft, reason)
    changes: tuple[Change, ...] = ()
    # A device has no use for bounces at an address of its own making; the null reverse-path is left to its policy.
    if isinstance(reverse_path, Address) and reverse_path.key != forced.key:
        changes = (Change("reverse-path", str(reverse_path), str(forced), reason),)
        reverse_path = forced
    left = read_authors(draft.header)  # what is no field at all may hide another From, and stays where it is
    return EffectiveAuthor(draft, left, reverse_path, changes)


def _without_sender(draft: Draft, reason: str) -> Draft:
    """A Sender field would name another one than the only one there may be."""
    places = draft.places("Sender")
    change = Change("Sender", draft.shown("Sender"), "", reason)
    return draft.revised([Edit("Sender", None, place) for place in places], [change])


def _can_be_answered(mailbox: Mailbox) -> bool:
    """Not the made-up domain of a device (`copier@localhost`, `scan@192.168.1.20`, `x@printer.local`)."""
    domain = mailbox.address.domain
    last = domain.rpartition(".")[2]
    return "." in domain and not domain.startswith("[") and last.isalpha() and last not in _NOWHERE


def _mapped(draft: Draft, authors: Authors, reverse_path: ReversePath, mapped: AuthorMap) -> EffectiveAuthor:
    reason = "the address stands so in [senders.map]"
    if mapped.is_empty:
        return EffectiveAuthor(draft, authors, reverse_path)
    from_ = tuple(replace(mailbox, address=mapped(mailbox.address)) for mailbox in authors.from_)
    if from_ != authors.from_:
        draft = draft.setting("From", from_, reason)
    sender = authors.sender and replace(authors.sender, address=mapped(authors.sender.address))
    if sender is not None and sender != authors.sender:
        draft = draft.setting("Sender", [sender], reason)
    resent = tuple(replace(mailbox, address=mapped(mailbox.address)) for mailbox in authors.resent_from)
    changes: tuple[Change, ...] = ()
    if isinstance(reverse_path, Address) and (stands := mapped(reverse_path)) != reverse_path:
        changes = (Change("reverse-path", str(reverse_path), str(stands), reason),)
        reverse_path = stands
    return EffectiveAuthor(draft, Authors(from_, sender, resent), reverse_path, changes)
