"""Strict check of a header section in one pass: is it one that is sent as it is? PURE.

Guarantees: a section that passes needs no repair, is no automatic mail, no loop and nothing that was redirected, and
its decision depends on nothing in it but the lines of From and Sender. Time is linear in its length.
Not here: the decision (relay.decide), the repairs (rewriting.repair): its functions judge addresses and dates.
RFC 5322 sections 2.2 and 3.6.
"""

import re
from collections.abc import Mapping
from typing import Final

from senderproxy.mail.header import Field
from senderproxy.rewriting.long_lines import LINE_LIMIT
from senderproxy.rewriting.repair import is_valid_address_field, is_valid_date

HEADER_LIMIT: Final = 8 * 1024  # octets; the decision about a larger one is made on a thread
_VALUE_LIMIT: Final = 300  # octets of an address field; the judgement of a longer one is not remembered
_HOPS_LIMIT: Final = 40  # Received fields; the general path refuses more than 50
_OWN_MARK: Final = b"(senderproxy)"  # of our Received field: the message may be in a loop

_FIELD: Final = re.compile(rb"^([!-9;-~]++):((?>(?:[^\r\n]*+\r\n[ \t])*)[^\r\n]*+)\r\n", re.MULTILINE)
_LONG_LINE: Final = re.compile(rb"^[^\r\n]{%d}" % (LINE_LIMIT + 1), re.MULTILINE)
_ADDRESSES: Final[Mapping[bytes, str]] = {
    b"from": "From",
    b"sender": "Sender",
    b"reply-to": "Reply-To",
    b"to": "To",
    b"cc": "Cc",
}
_ONCE: Final = frozenset({*_ADDRESSES, b"date", b"subject", b"message-id"})
_REQUIRED: Final = frozenset({b"from", b"date", b"message-id"})
# Fields on which a decision or a repair depends, beside From and Sender.
_UNUSUAL: Final = frozenset(
    {b"bcc", b"auto-submitted", b"delivered-to", b"x-sieve-redirected-from", b"x-senderproxy-loop"}
)


def author_lines(raw: bytes, field_limit: int) -> tuple[bytes, bytes] | None:
    """The values of From and of Sender (empty: none) of a usual section; None if it is not usual.

    `raw` is as received: a section with an octet that DATA would stuff is not usual.
    """
    if len(raw) > HEADER_LIMIT or not raw.isascii() or not raw.endswith(b"\r\n\r\n"):
        return None
    if raw.startswith(b".") or b"\r\n." in raw or _OWN_MARK in raw or _LONG_LINE.search(raw):
        return None
    fields = _FIELD.findall(raw)
    lines = raw.count(b"\r\n") - 1 - raw.count(b"\r\n ") - raw.count(b"\r\n\t")
    if lines != len(fields) or lines > field_limit:
        return None
    found: dict[bytes, bytes] = {}
    hops = 0
    for written, value in fields:
        name = written.lower()
        if name in _ONCE:
            if name in found:
                return None
            found[name] = value
        elif name == b"received":
            hops += 1
        elif name in _UNUSUAL or name[:7] == b"resent-":
            return None
    sender = found.get(b"sender", b"")
    if not found.keys() >= _REQUIRED or hops > _HOPS_LIMIT or (hops and sender):
        return None
    if not is_valid_date(found[b"date"]) or not _have_valid_addresses(found):
        return None
    return found[b"from"], sender


def _have_valid_addresses(found: Mapping[bytes, bytes]) -> bool:
    for name, written in _ADDRESSES.items():
        value = found.get(name)
        if value is not None and (len(value) > _VALUE_LIMIT or not is_valid_address_field(Field(written, value))):
            return False
    return True
