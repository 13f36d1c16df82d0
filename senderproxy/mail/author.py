"""read_authors: the mailboxes a header section names as its authors, or why that cannot be said."""

from dataclasses import dataclass

from senderproxy.mail.address import Address


@dataclass(frozen=True, slots=True)
class Mailbox:
    """One address and the name people see beside it (decoded, for display only)."""

    address: Address
    display_name: str | None = None


@dataclass(frozen=True, slots=True)
class Authors:
    """Who wrote it and who sent it. No From field at all: `from_` is empty."""

    from_: tuple[Mailbox, ...]
    sender: Mailbox | None = None
    resent_from: tuple[Mailbox, ...] = ()


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Two readers could understand this field differently, or nobody can. Becomes 550 5.6.0."""

    field: str
    reason: str
