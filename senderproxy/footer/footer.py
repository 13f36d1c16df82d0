"""Footers of the configuration, and their choice by the author. PURE.

Guarantees: the same author, the same footer. `{name}` and `{address}` are the only placeholders.
Not here: its text for an author (footer.rendered), the insertion (footer.insertion).
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from senderproxy.mail.address import Address, AddressPattern

PLACEHOLDERS: Final = ("name", "address")

_UNKNOWN: Final = re.compile(r"\{[A-Za-z_]++\}")


@dataclass(frozen=True, slots=True)
class Footer:
    """A footer for the mail of some senders. Without `html` that is made from the text."""

    senders: tuple[AddressPattern, ...]
    text: str
    html: str = ""


def unknown_placeholders(text: str) -> Iterator[str]:
    """Words in braces that are no placeholder."""
    known = [f"{{{name}}}" for name in PLACEHOLDERS]
    yield from (found[0] for found in _UNKNOWN.finditer(text) if found[0] not in known)


class FooterTable:
    """The footers by sender: an address has priority over the same without a tag, and this over its domain."""

    def __init__(self, footers: Iterable[Footer]) -> None:
        self._footers = tuple(footers)
        self._by_sender = {
            _key(pattern.local_part, pattern.domain): footer for footer in self._footers for pattern in footer.senders
        }

    def find(self, author: Address) -> Footer | None:
        """The footer for mail of this author; None without one."""
        find: Callable[[str], Footer | None] = self._by_sender.get
        base = author.without_tag
        return find(author.key) or (find(base.key) if base is not None else None) or find(_key(None, author.domain))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FooterTable) and self._footers == other._footers

    def __hash__(self) -> int:
        return hash(self._footers)


def _key(local_part: str | None, domain: str) -> str:
    return f"{(local_part or '').lower()}@{domain}"
