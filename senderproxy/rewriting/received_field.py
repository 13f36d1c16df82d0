"""Received field of this relay, and the hop count.

Guarantees: the added Received field is syntactically valid for any EHLO argument. Existing ones are never changed.

RFC 5321 sections 4.4 and 6.3, RFC 3848.
"""

import re
from datetime import datetime
from email.utils import format_datetime
from functools import lru_cache
from typing import Final

from senderproxy.mail.header import HeaderSection
from senderproxy.mail.submission import Client

HOP_LIMIT: Final = 50  # Received fields; RFC 5321 section 6.3 requires a large number, real paths have fewer than 15

_NAME_CHARACTERS = re.compile(r"[^A-Za-z0-9.:\[\]-]")


@lru_cache(maxsize=16)
def _formatted(now: datetime) -> str:
    """The time in RFC 5322 format, cached because many messages arrive within one second."""
    return format_datetime(now)


def hop_count(header: HeaderSection) -> int:
    """Number of Received fields of the message."""
    return len(header.values("Received"))


def add_received_field(
    header: HeaderSection, client: Client, *, by: str, message_id: str, now: datetime
) -> HeaderSection:
    """Add a Received field on top: the client, this host (`by`), the protocol, the queue id and the time."""
    name = _NAME_CHARACTERS.sub("?", client.name)[:255].replace("?", "") or "unknown"
    host = f"[IPv6:{client.host}]" if ":" in client.host else f"[{client.host}]"
    value = (
        f"from {name} ({host})\r\n"
        f"\tby {by} (senderproxy) with {client.protocol} id {message_id};\r\n"
        f"\t{_formatted(now.replace(microsecond=0))}"
    )
    return header.with_first_field("Received", value)
