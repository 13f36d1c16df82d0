"""A header section with the edits made so far and the reason of each. PURE.

Edits are made in rounds: the indexes of a round refer to the fields after the previous round.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from senderproxy.mail.author import Mailbox
from senderproxy.mail.display import encode_phrase
from senderproxy.mail.header import Cut, Edit, HeaderSection


@dataclass(frozen=True, slots=True)
class Change:
    """One change and its reason, for the log and `explain`."""

    what: str
    old: str
    new: str
    reason: str


@dataclass(frozen=True, slots=True)
class EditedHeader:
    """The header section after all edits so far."""

    header: HeaderSection
    rounds: tuple[tuple[Edit, ...], ...] = ()
    changes: tuple[Change, ...] = ()
    cuts: tuple[Cut, ...] = ()  # made before the rounds, one after the other (rewriting.stray_lines)

    def with_edits(self, edits: Sequence[Edit], changes: Iterable[Change]) -> "EditedHeader":
        """Make one more round of edits. Indexes refer to the current fields."""
        if not edits:
            return self
        return replace(
            self,
            header=self.header.with_edits(edits),
            rounds=(*self.rounds, tuple(edits)),
            changes=(*self.changes, *changes),
        )

    def with_mailboxes(self, name: str, mailboxes: Sequence[Mailbox], reason: str) -> "EditedHeader":
        """Replace all address fields of this name with one that has these mailboxes."""
        value = render_mailboxes(mailboxes)
        indexes = self.indexes(name)
        if indexes:
            edits = [Edit(name, value, indexes[0]), *(Edit(name, None, index) for index in indexes[1:])]
        else:
            edits = [Edit(name, value)]
        old = self.text_of(name)
        return self.with_edits(edits, [Change(name, old, ", ".join(map(format_mailbox, mailboxes)), reason)])

    def with_field(self, name: str, value: str, reason: str) -> "EditedHeader":
        """Add this field below the others, unless one of its name exists."""
        if self.indexes(name):
            return self
        return self.with_edits([Edit(name, value.encode("ascii"))], [Change(name, "", value, reason)])

    def without_fields(self, names: Iterable[str], reason: str) -> "EditedHeader":
        """Remove all fields of these names. One change for each name that occurs."""
        found = {name: self.indexes(name) for name in names}
        edits = [Edit(name, None, place) for name, places in found.items() for place in places]
        changes = [Change(name, self.text_of(name), "", reason) for name, places in found.items() if places]
        return self.with_edits(edits, changes)

    def indexes(self, name: str) -> list[int]:
        """Indexes of the fields of this name, counted from 0."""
        return list(self.header.indexes().get(name.lower(), ()))

    def text_of(self, name: str) -> str:
        """The first field of this name on one line, for the log and `explain`; empty if there is none."""
        value = next(iter(self.header.values(name)), b"").decode("utf-8", "replace")
        return " ".join("".join(c if c.isprintable() else " " for c in value).split())[:200]


def render_mailboxes(mailboxes: Sequence[Mailbox]) -> bytes:
    """The value of an address field, one mailbox for each line. Addresses are ASCII (mail.address)."""
    return b",\r\n ".join(map(_render, mailboxes))


def format_mailbox(mailbox: Mailbox) -> str:
    """A mailbox as text, for the log and `explain`."""
    return f"{mailbox.display_name} <{mailbox.address}>" if mailbox.display_name else str(mailbox.address)


def _render(mailbox: Mailbox) -> bytes:
    address = f"<{mailbox.address}>".encode("ascii")
    return encode_phrase(mailbox.display_name) + b" " + address if mailbox.display_name else address[1:-1]
