"""find_repairs: what a header lacks that providers refuse at the end of DATA. PURE.

RFC 6409 section 8, RFC 5322 section 3.6.
"""

from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime

from senderproxy.mail.address import Address
from senderproxy.mail.header import Edit, HeaderSection
from senderproxy.rewriting.draft import Change


@dataclass(frozen=True, slots=True)
class RepairContext:
    """What a repair may write into a header."""

    now: datetime
    message_id: str  # with its angle brackets
    author: Address | None  # for a message without From
    remove_bcc: bool


@dataclass(frozen=True, slots=True)
class Repair:
    """One edit, and why."""

    change: Change
    edit: Edit


def find_repairs(header: HeaderSection, context: RepairContext) -> tuple[Repair, ...]:
    """What is missing."""
    wanted = {"From": str(context.author or ""), "Date": format_datetime(context.now), "Message-ID": context.message_id}
    return tuple(
        Repair(Change(name, "", value, "it was missing"), Edit(name, value.encode("ascii")))
        for name, value in wanted.items()
        if value and not header.values(name)
    )


def mend_for_reading(header: HeaderSection) -> tuple[HeaderSection, tuple[Repair, ...]]:
    """Nothing yet can be read that strict listeners do not read."""
    return header, ()
