"""Repairs of header fields that providers refuse at the end of DATA. PURE.

Guarantees: a header that providers accept gets no repair. A valid field keeps every byte. A repaired header needs no
further repair. Lines that are not a field stay, because their meaning is unknown.

Refused are (postmaster.web.de, the help pages of IONOS): Date, From, Sender, To not in the syntax of RFC 5322; more
than one Bcc, Cc, Date, From, Sender, Subject, To; an empty To; octets above 127.

RFC 6409 section 8, RFC 5322 sections 2.1.1 and 3.6, RFC 2047.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from email.utils import format_datetime
from functools import lru_cache
from typing import Final

from senderproxy.mail import reasons
from senderproxy.mail.address import Address, AddressError, parse_address
from senderproxy.mail.author import NON_ASCII, Mailbox, MailboxError, read_mailboxes
from senderproxy.mail.display import decode_8bit, decode_words, encode_phrase, encode_unstructured, encode_words
from senderproxy.mail.header import Edit, Field, HeaderSection
from senderproxy.rewriting.dates import is_unset_clock, read_date
from senderproxy.rewriting.edited_header import Change, render_mailboxes
from senderproxy.rewriting.long_lines import LINE_LIMIT
from senderproxy.rewriting.scanners import find_loose_mailbox, replace_quoted, split_list
from senderproxy.translation import N_


@dataclass(frozen=True, slots=True)
class RepairContext:
    """Values that a repair may write into a header."""

    now: datetime
    message_id: str  # with angle brackets
    author: Address | None  # for a message without From
    remove_bcc: bool
    zone: tzinfo = UTC  # of a date without one


@dataclass(frozen=True, slots=True)
class Repair:
    """One edit and its reason."""

    change: Change
    edit: Edit


def find_repairs(header: HeaderSection, context: RepairContext) -> tuple[Repair, ...]:
    """Return the repairs of one round, in the order of the fields; missing fields come last.

    Repeated fields become one field, which may need a repair in another round.
    """
    fields, places = header.split()[0], header.indexes()
    repairs: list[Repair] = []
    doubled: set[int] = set()
    for name, found in places.items():
        if len(found) > 1 and name in _SINGLE and not (name == "bcc" and context.remove_bcc):
            repairs += _single_out(fields, found)
            doubled |= set(found)
    for index in _fields_to_check(header):
        field = fields[index]
        if index in doubled:
            continue
        if field.name.lower() == "bcc" and context.remove_bcc:
            repairs.append(_removed(field, index, N_("required by the configuration (remove_bcc)")))
        elif (repaired := _repair(field, context)) is not None:
            repairs.append(_replacement(field, index, *repaired))
            is_replaced = repaired[1] in (_NOT_SET, _UNREADABLE) and not _is_blank(field.value)
            if is_replaced and _ORIGINAL_DATE.lower() not in places:
                repairs.append(_original_date(field))
    repairs += _missing(places, context)
    return tuple(repairs)


def _fields_to_check(header: HeaderSection) -> Sequence[int]:
    """Indexes of the fields with a grammar of their own; of all fields if the header has 8-bit octets or long lines."""
    fields, places = header.split()[0], header.indexes()
    if not header.raw.isascii() or _LONG_LINE.search(header.raw):
        return range(len(fields))
    return sorted(place for name, found in places.items() if name in _WITH_GRAMMAR for place in found)


def repair_author_fields(header: HeaderSection) -> tuple[Repair, ...]:
    """Repair an unreadable From and Sender of a device, if only one reading is possible."""
    fields = header.split()[0]
    repairs: list[Repair] = []
    for name in ("from", "sender"):
        found = header.indexes().get(name, ())
        if len(found) != 1 or _reads(fields[found[0]].value):
            continue
        mailbox = _repair_mailbox(fields[found[0]].value)
        if mailbox is not None:
            value = render_mailboxes([mailbox])
            repairs.append(_replacement(fields[found[0]], found[0], value, N_("it could not be read")))
    return tuple(repairs)


# ---- fields that may occur once ----

_LISTS: Final = frozenset({"to", "cc", "bcc"})
_SINGLE: Final = _LISTS | {"date", "subject", "message-id"}


def _single_out(fields: Sequence[Field], places: Sequence[int]) -> Iterator[Repair]:
    """Keep the first of several fields, with the recipients of all, and remove the others."""
    first, *others = places
    name = fields[first].name
    reason = reasons.OCCURRED.format(count=len(places))
    if name.lower() in _LISTS:
        values = [fields[place].value for place in places if not _is_blank(fields[place].value)]
        joined = b",\r\n ".join(_tidy(value).rstrip(b", ") for value in values)
        field = Field(name, joined)
        value = _repair_addresses(field) or (_tidy(joined) if joined else b"undisclosed-recipients:;")
        yield _replacement(fields[first], first, value, reason)
    else:
        value = _tidy(fields[first].value)
        if not value.isascii():
            value = encode_value(value)
        yield _replacement(fields[first], first, value, reason)
    for place in others:
        yield _removed(fields[place], place, reason)


# ---- one field ----

_ADDRESSES: Final = frozenset({"from", "sender", "reply-to", "to", "cc", "bcc"})
_WITH_GRAMMAR: Final = _ADDRESSES | {"date"}
_LONG_LINE: Final = re.compile(rb"^[^\r\n]{%d}" % (LINE_LIMIT + 1), re.MULTILINE)
_CACHED_LENGTH: Final = 300  # octets of a value; longer ones are rarely repeated


def _repair(field: Field, context: RepairContext) -> tuple[bytes | None, str] | None:
    """Return the repaired value (None: remove the field) and the reason, None if the field is valid."""
    if len(field.value) <= _CACHED_LENGTH and field.name.lower() in _ADDRESSES and is_valid_address_field(field):
        return None
    return _repaired(field, context)


@lru_cache(maxsize=1024)
def is_valid_address_field(field: Field) -> bool:
    """True if the field gets no repair. Without a message, so cached; only the repaired value depends on it."""
    return _repaired(field, _ANY_CONTEXT) is None


_ANY_CONTEXT: Final = RepairContext(datetime.fromtimestamp(0, UTC), "", None, remove_bcc=False)


def _repaired(field: Field, context: RepairContext) -> tuple[bytes | None, str] | None:
    name = field.name.lower()
    blank = _is_blank(field.value)
    if name == "to" and blank:
        return b"undisclosed-recipients:;", N_("it was empty")
    if name in _ADDRESSES and name != "from" and blank:
        return None, N_("it was empty")
    if name == "date":
        return _repair_date(field.value, context)
    if name in _ADDRESSES:
        repaired = _repair_addresses(field)
        if repaired is not None and _names_no_address(repaired) and name != "from":
            return (b"undisclosed-recipients:;" if name == "to" else None), N_("it had no address")
        if repaired is not None:
            return repaired, N_("it had invalid addresses or characters")
    elif not field.value.isascii():
        return encode_value(field.value), N_("it had octets above 127")
    if any(len(line) > LINE_LIMIT for line in _lines(field)):
        folded = _folded(field)
        return None if folded is None else (folded, reasons.LONG_LINE.format(limit=LINE_LIMIT))
    return None


def _lines(field: Field) -> list[bytes]:
    return (field.name.encode("ascii") + b":" + field.value).split(b"\r\n")


def _missing(places: Mapping[str, Sequence[int]], context: RepairContext) -> Iterator[Repair]:
    missing = [name for name in ("From", "Date", "Message-ID") if name.lower() not in places]
    for name in missing:
        match name:
            case "From":
                value = str(context.author or "")
            case "Date":
                value = format_datetime(context.now)
            case _:
                value = context.message_id
        if value:
            yield Repair(Change(name, "", value, _MISSING), Edit(name, value.encode("ascii")))


# ---- addresses ----

_FOLD: Final = re.compile(rb"\r\n(?=[ \t])")


def _repair_addresses(field: Field) -> bytes | None:
    """Repair unreadable mailboxes and encode octets above 127. Returns None if the list is valid."""
    value = field.value
    if value.isascii() and (_is_final(value) or _is_group(value)):
        return None
    written = [element.strip() for element in split_list(_FOLD.sub(b"", value))]
    # An element of control characters alone holds no address and is dropped, as an empty one is.
    elements = [part.strip() for element in written for part in _split_again(element) if not _is_blank(part)]
    repaired = [_repair_element(element) for element in _with_split_names(elements)]
    if repaired == written and value.isascii():
        return None
    return b",\r\n ".join(repaired) if repaired else None


def _names_no_address(value: bytes) -> bool:
    """True if a repaired list has empty groups alone."""
    return all(element.endswith(b":;") for element in value.split(b",\r\n "))


def _split_again(element: bytes) -> Iterator[bytes]:
    """Split an element that cannot be read at its semicolons or blanks, which many programs write for commas."""
    words = element.split()
    if len(words) > 1 and all(_BARE_ADDRESS.fullmatch(word) for word in words):
        return iter(words)
    if b";" not in element or b":" in element or _reads(element):
        return iter((element,))
    return split_list(element.replace(b";", b","))


_BLANKS_INSIDE: Final = re.compile(rb"(?<![ \t])[ \t]++([@.])[ \t]*+|([@.])[ \t]++")
_BARE_ADDRESS: Final = re.compile(rb"[^\s@<>()\",;:\\]++@[^\s@<>()\",;:\\]++")
_NAME_AND_ADDRESS: Final = re.compile(rb"[^<>@\"]++<[^<>]++>")


def _with_split_names(elements: list[bytes]) -> list[bytes]:
    """Join `Muster` and `Anna <anna@x>`, which an unquoted comma in a name has split."""
    joined: list[bytes] = []
    split: list[bytes] = []
    for element in elements:
        if b"@" not in element and not _MARKS.intersection(element):
            split.append(element)
            continue
        if split and _NAME_AND_ADDRESS.fullmatch(element):
            name, _, rest = b", ".join([*split, element]).partition(b"<")
            split = [_quoted_name(name) + b" <" + rest]
        else:
            split.append(element)
        joined += split
        split = []
    return joined + split


_MARKS: Final = frozenset(b'<>@:;"()')


def _quoted_name(name: bytes) -> bytes:
    return encode_phrase(decode_words(name) or "")


_FINAL_DOT: Final = re.compile(rb"@[^@\s<>,;]*\.(?=[\s>,;(]|\Z)")
_SOURCE_ROUTE: Final = re.compile(rb"(<\s*+)@[^<>:@,]++(?>(?:,\s*+@[^<>:@,]++)*):")  # RFC 5322 section 4.4
# What directories and address books leave around an address.
_WRAPPED: Final = re.compile(rb"(?:\[?(?:smtp|mailto):|')([^\s<>@':\]]++@[^\s<>@':\]]++)[\]']?", re.IGNORECASE)
_EMPTY: Final = bytes(range(0x21)) + b"\x7f,"  # controls, blanks and commas: nothing of an address


def _is_blank(value: bytes) -> bool:
    return not value.translate(None, _EMPTY)


def _repair_element(element: bytes) -> bytes:
    """Repair one mailbox. One that cannot be sent becomes an empty group of that name (RFC 6857 section 3.1.8)."""
    if element.isascii() and (_is_final(element) or _is_group(element)):
        return _tidy(element)
    try:
        return render_mailboxes(read_mailboxes(element))
    except MailboxError as error:
        status = error.status
        wrapped = _WRAPPED.fullmatch(element)
        mailbox = _repair_mailbox(wrapped[1] if wrapped else _SOURCE_ROUTE.sub(rb"\1", element, count=1))
    if mailbox is not None:
        return render_mailboxes([mailbox])
    joined = _BLANKS_INSIDE.sub(rb"\1\2", element)  # RFC 5322 section 4.4, obs-addr-spec
    if status != NON_ASCII and joined != element and _reads(joined):
        return render_mailboxes(read_mailboxes(joined))
    return _quoted_name(element) + b":;"


def _reads(value: bytes) -> bool:
    try:
        return bool(read_mailboxes(value))
    except MailboxError:
        return False


def _is_final(value: bytes) -> bool:
    """True if the mailboxes can be read, and no domain ends in a dot, which providers refuse."""
    return _reads(value) and not _FINAL_DOT.search(value)


def _is_group(value: bytes) -> bool:
    """True for a group such as `undisclosed-recipients:;`, which is left unchanged."""
    return value.rstrip().endswith(b";") and b":" in value


def _repair_mailbox(value: bytes) -> Mailbox | None:
    """Read one mailbox tolerantly. Returns None if its name and address are ambiguous."""
    found = find_loose_mailbox(decode_8bit(_FOLD.sub(b"", value)).strip())
    if found is None:
        return None
    name, address = found
    try:
        # Unbalanced quotation marks are not part of the name.
        display_name = decode_words(name.replace('"', " ").replace("\\", " ").encode("utf-8", "replace"))
        return Mailbox(parse_address(address), display_name)
    except AddressError:
        return None


# ---- text ----

_CONTROLS: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def _tidy(value: bytes) -> bytes:
    """The same value with the same folds, without blank lines and control characters."""
    lines = [_CONTROLS.sub(b" ", line).strip() for line in value.split(b"\r\n")]
    return b"\r\n ".join(line for line in lines if line)


def encode_value(value: bytes) -> bytes:
    """Encode octets above 127 as encoded words, also inside quotation marks: many programs read file names so."""
    text = _tidy(value).replace(b"\r\n", b"")

    def encoded(inside: bytes) -> bytes:
        return inside if inside.isascii() else encode_unstructured(decode_8bit(inside))

    text = replace_quoted(text, encoded)
    if text.isascii():
        return text
    return encode_unstructured(" ".join("".join(c if c.isprintable() else " " for c in decode_8bit(text)).split()))


def _folded(field: Field) -> bytes | None:
    """Fold the value into short lines, between words. A longer word of a text becomes encoded words; returns None for
    one of a field with a grammar.
    """
    limit = LINE_LIMIT - len(field.name) - 2
    is_text = field.name.lower() in _TEXTS or field.name.lower().startswith("x-")
    lines: list[bytes] = []
    before = b""
    for word in _tidy(field.value).split():
        if len(word) > limit:
            if not is_text:
                return None
            # The blank between two encoded words is not part of the text.
            lines += encode_words(" " * (len(before) > limit) + word.decode("ascii"))
        elif lines and len(lines[-1]) + 1 + len(word) <= 76:
            lines[-1] += b" " + word
        else:
            lines.append(word)
        before = word
    return b"\r\n ".join(lines)


_TEXTS: Final = frozenset({"subject", "comments", "thread-topic"})  # unstructured, RFC 5322 section 3.6.5


# ---- dates ----

_DATE: Final = re.compile(
    rb"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[ \t]*,)?\s*(\d{1,2})\s+"
    rb"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\s+(\d{4})\s+"
    rb"(\d{2}):(\d{2})(?::(\d{2}))?\s+(?:[+-]\d{4}|UT|GMT|[ECMP][SD]T|[A-IK-Za-ik-z])\s*(?:\([^()]*\)\s*)?",
    re.IGNORECASE,
)
_MISSING: Final = N_("it was missing")
_NOT_SET: Final = N_("the clock of the device was not set")
_UNREADABLE: Final = N_("no date could be read from it")
_ORIGINAL_DATE: Final = "X-Original-Date"


def _is_date(value: bytes) -> bool:
    found = _DATE.fullmatch(value.strip())
    if found is None:
        return False
    day, _, hour, minute, second = map(int, found.groups(b"0"))
    return 1 <= day <= 31 and hour < 24 and minute < 60 and second <= 60


def is_valid_date(value: bytes) -> bool:
    """True if the value of a Date field gets no repair, as far as the year shows."""
    return value.isascii() and _is_date(value) and not _UNSET_YEAR.search(value)


def _repair_date(value: bytes, context: RepairContext) -> tuple[bytes, str] | None:
    """The date in RFC 5322 format and the reason, None if it is valid. The time of sending replaces no date or an unset
    clock's.
    """
    if is_valid_date(value):
        return None
    valid = value.isascii() and _is_date(value)
    date = read_date(value, context.zone, context.now)
    if date is None:
        return format_datetime(context.now).encode("ascii"), _UNREADABLE
    if is_unset_clock(date):
        return format_datetime(context.now).encode("ascii"), _NOT_SET
    return None if valid else (format_datetime(date).encode("ascii"), N_("not an RFC 5322 date"))


_UNSET_YEAR: Final = re.compile(rb"19(?:69|70|99)|2000")


def _original_date(field: Field) -> Repair:
    """A trace field with the date that was replaced."""
    value = encode_unstructured(_shown(field.value))
    return Repair(
        Change(_ORIGINAL_DATE, "", _shown(value), N_("preserves the original date")), Edit(_ORIGINAL_DATE, value)
    )


# ---- repairs ----


def _replacement(field: Field, index: int, value: bytes | None, reason: str) -> Repair:
    new = "" if value is None else _shown(value)
    return Repair(Change(field.name, _shown(field.value), new, reason), Edit(field.name, value, index))


def _removed(field: Field, index: int, reason: str) -> Repair:
    return _replacement(field, index, None, reason)


def _shown(value: bytes) -> str:
    text = "".join(c if c.isprintable() else " " for c in decode_8bit(value))
    return " ".join(text.split())[:200]
