"""Our Received: field, the hop count, and loops.

Guarantees: one syntactically valid Received field whatever the client said in EHLO; existing ones are never touched.
RFC 5321 sections 4.4 and 6.3, RFC 3848.
"""

import re
from datetime import datetime
from email.utils import format_datetime
from functools import lru_cache
from typing import Final

from senderproxy.mail.header import HeaderSection
from senderproxy.mail.submission import Client

HOP_LIMIT: Final = 50  # Received fields; RFC 5321 section 6.3 asks for a large number, real ways have under fifteen

_NAME_CHARACTERS = re.compile(r"[^A-Za-z0-9.:\[\]-]")


@lru_cache(maxsize=16)
def _written(now: datetime) -> str:
    """The time as RFC 5322 writes it; many messages come within one second."""
    return format_datetime(now)


def hop_count(header: HeaderSection) -> int:
    """How many Received fields the message has gathered."""
    return len(header.values("Received"))


def stamp(header: HeaderSection, client: Client, *, by: str, message_id: str, now: datetime) -> HeaderSection:
    """The header section below our Received field: from whom, by whom, how, under which id, when."""
    name = _NAME_CHARACTERS.sub("?", client.name)[:255].replace("?", "") or "unknown"
    host = f"[IPv6:{client.host}]" if ":" in client.host else f"[{client.host}]"
    value = (
        f"from {name} ({host})\r\n"
        f"\tby {by} (senderproxy) with {client.protocol} id {message_id};\r\n"
        f"\t{_written(now.replace(microsecond=0))}"
    )
    return header.with_field_on_top("Received", value)
