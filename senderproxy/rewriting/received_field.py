"""Received field of this relay, the hop count, and loops through this relay.

Guarantees: the added Received field is syntactically valid for any EHLO argument. Existing ones are never changed.

RFC 5321 sections 4.4 and 6.3, RFC 3848.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from email.utils import format_datetime
from functools import lru_cache
from typing import Final

from senderproxy.mail.header import HeaderSection
from senderproxy.mail.submission import Client

HOP_LIMIT: Final = 50  # Received fields; RFC 5321 section 6.3 requires a large number, real paths have fewer than 15
_OWN_LIMIT: Final = 3  # Received fields of this host; a message redirected once and sent again has two
_PRODUCT: Final = b"(senderproxy)"

_NAME_CHARACTERS = re.compile(r"[^A-Za-z0-9.:\[\]-]")


@lru_cache(maxsize=16)
def _formatted(now: datetime) -> str:
    """The time in RFC 5322 format, cached because many messages arrive within one second."""
    return format_datetime(now)


def hop_count(header: HeaderSection) -> int:
    """Number of Received fields of the message."""
    return len(header.values("Received"))


def own_ids(header: HeaderSection, hostname: str) -> list[str]:
    """The ids under which this host has sent the message before, by its own Received fields, the latest first.

    Anyone can write such a field; it can only stop the message in which it is.
    """
    if header.raw.count(_PRODUCT) < _OWN_LIMIT:
        return []
    by = f" by {hostname} {_PRODUCT.decode('ascii')} with ".lower()
    found: list[str] = []
    for value in header.values("Received"):
        _, own, after = " ".join(value.decode("ascii", "replace").split()).lower().partition(by)
        words = after.partition(";")[0].split()
        if own and len(words) == 3 and words[1] == "id":  # the protocol, `id` and the id
            found.append("".join(c for c in words[2] if c.isalnum() or c in "-_.")[:40])
    return found


def is_own_loop(ids: Sequence[str]) -> bool:
    """True if this host has sent the message so often that it will come back again."""
    return len(ids) >= _OWN_LIMIT


def add_received_field(
    header: HeaderSection, client: Client, *, by: str, message_id: str, now: datetime
) -> HeaderSection:
    """Add a Received field on top: the client, this host (`by`), the protocol, the queue id and the time."""
    name = _NAME_CHARACTERS.sub("?", client.name)[:255].replace("?", "") or "unknown"
    host = f"[IPv6:{client.host}]" if ":" in client.host else f"[{client.host}]"
    value = (
        f"from {name} ({host})\r\n"
        f"\tby {by} {_PRODUCT.decode('ascii')} with {client.protocol} id {message_id};\r\n"
        f"\t{_formatted(now.replace(microsecond=0))}"
    )
    return header.with_first_field("Received", value)
