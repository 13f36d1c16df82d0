"""Draft: a header section on its way from how it came to how it leaves, with what was changed and why. PURE.

Edits are made in rounds: each round's indexes count the fields that the round before it left.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from senderproxy.mail.author import Mailbox
from senderproxy.mail.display import encode_phrase
from senderproxy.mail.header import Edit, HeaderSection


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is changed, and the reason in a sentence."""

    what: str
    old: str
    new: str
    reason: str


@dataclass(frozen=True, slots=True)
class Draft:
    """The header section as it would leave by now."""

    header: HeaderSection
    rounds: tuple[tuple[Edit, ...], ...] = ()
    changes: tuple[Change, ...] = ()

    def revised(self, edits: Sequence[Edit], changes: Iterable[Change]) -> "Draft":
        """One round more."""
        if not edits:
            return self
        return replace(
            self,
            header=self.header.edited(edits),
            rounds=(*self.rounds, tuple(edits)),
            changes=(*self.changes, *changes),
        )

    def setting(self, name: str, mailboxes: Sequence[Mailbox], reason: str) -> "Draft":
        """With this one address field; others of its name go."""
        value = render_mailboxes(mailboxes)
        places = self.places(name)
        if places:
            edits = [Edit(name, value, places[0]), *(Edit(name, None, place) for place in places[1:])]
        else:
            edits = [Edit(name, value)]
        old = self.shown(name)
        return self.revised(edits, [Change(name, old, ", ".join(map(in_words, mailboxes)), reason)])

    def adding(self, name: str, value: str, reason: str) -> "Draft":
        """With this field below the others, unless there is one of its name."""
        if self.places(name):
            return self
        return self.revised([Edit(name, value.encode("ascii"))], [Change(name, "", value, reason)])

    def places(self, name: str) -> list[int]:
        """Where the fields of this name stand."""
        wanted = name.lower()
        return list(self.header.places().get(wanted, ()))

    def shown(self, name: str) -> str:
        """The first field of this name on one line, for a log and a person; empty where there is none."""
        value = next(iter(self.header.values(name)), b"").decode("utf-8", "replace")
        return " ".join("".join(c if c.isprintable() else " " for c in value).split())[:200]


def render_mailboxes(mailboxes: Sequence[Mailbox]) -> bytes:
    """An address field's value, one mailbox a line. The addresses are ASCII (mail.address)."""
    return b",\r\n ".join(map(_render, mailboxes))


def in_words(mailbox: Mailbox) -> str:
    """A mailbox for a log and a person."""
    return f"{mailbox.display_name} <{mailbox.address}>" if mailbox.display_name else str(mailbox.address)


def _render(mailbox: Mailbox) -> bytes:
    address = f"<{mailbox.address}>".encode("ascii")
    return encode_phrase(mailbox.display_name) + b" " + address if mailbox.display_name else address[1:-1]
