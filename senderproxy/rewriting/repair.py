"""find_repairs: what providers refuse in a header at the end of DATA, and how it is mended. PURE.

Guarantees: a header that providers take gets no repair; a field that is in order keeps every byte; after the repairs
nothing is left to repair. Lines that are no field at all stay: what they hide is not ours to guess.
Refused are (postmaster.web.de, the help pages of IONOS): Date, From, Sender, To that RFC 5322 does not print; Bcc, Cc,
Date, From, Sender, Subject, To that stand twice; an empty To; octets above 127.
RFC 6409 section 8, RFC 5322 sections 2.1.1 and 3.6, RFC 2047.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime, parsedate_tz
from functools import lru_cache
from typing import Final

from senderproxy.mail.address import Address, AddressError, parse_address
from senderproxy.mail.author import Mailbox, MailboxError, read_mailboxes
from senderproxy.mail.display import decode_words, encode_unstructured, guess
from senderproxy.mail.header import Edit, Field, HeaderSection
from senderproxy.rewriting.draft import Change, render_mailboxes
from senderproxy.rewriting.long_lines import LINE_LIMIT
from senderproxy.rewriting.scanners import find_loose_mailbox, replace_quoted, split_list


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
    """Everything that has to be mended, in the order of the fields; what is missing comes last.

    One round: a field that stood twice and was mended into one may need another.
    """
    fields, places = header.split()[0], header.places()
    repairs: list[Repair] = []
    doubled: set[int] = set()
    for name, found in places.items():
        if len(found) > 1 and name in _SINGLE and not (name == "bcc" and context.remove_bcc):
            repairs += _single_out(fields, found)
            doubled |= set(found)
    for index in _suspects(header):
        field = fields[index]
        if index in doubled:
            continue
        if field.name.lower() == "bcc" and context.remove_bcc:
            repairs.append(_removed(field, index, "the configuration says so (remove_bcc)"))
        elif (mended := _mend(field, context)) is not None:
            repairs.append(_of(field, index, *mended))
    repairs += _missing(places, context)
    return tuple(repairs)


def _suspects(header: HeaderSection) -> Sequence[int]:
    """The fields worth a look: those with a grammar of their own; all, where octets or lines are not as they should."""
    fields, places = header.split()[0], header.places()
    if not header.raw.isascii() or _LONG_LINE.search(header.raw):
        return range(len(fields))
    return sorted(place for name, found in places.items() if name in _WITH_GRAMMAR for place in found)


def mend_for_reading(header: HeaderSection) -> tuple[Repair, ...]:
    """What makes From and Sender readable that a device wrote, where they can be read in one way only."""
    fields = header.split()[0]
    repairs: list[Repair] = []
    for name in ("from", "sender"):
        found = header.places().get(name, ())
        if len(found) != 1 or _reads(fields[found[0]].value):
            continue
        mailbox = _mend_mailbox(fields[found[0]].value)
        if mailbox is not None:
            repairs.append(_of(fields[found[0]], found[0], render_mailboxes([mailbox]), "it could not be read"))
    return tuple(repairs)


# ---- fields that may stand once ----

_LISTS: Final = frozenset({"to", "cc", "bcc"})
_SINGLE: Final = _LISTS | {"date", "subject", "message-id"}


def _single_out(fields: Sequence[Field], places: Sequence[int]) -> Iterator[Repair]:
    """The first of several, with the recipients of all; the others go."""
    first, *others = places
    name = fields[first].name
    reason = f"it stood {len(places)} times"
    if name.lower() in _LISTS:
        values = [fields[place].value for place in places if fields[place].value.strip()]
        joined = b",\r\n ".join(_tidy(value).rstrip(b", ") for value in values)
        field = Field(name, joined)
        value = _mend_addresses(field) or (_tidy(joined) if joined else b"undisclosed-recipients:;")
        yield _of(fields[first], first, value, reason)
    else:
        value = _tidy(fields[first].value)
        if not value.isascii():
            value = _encode(value)
        yield _of(fields[first], first, value, reason)
    for place in others:
        yield _removed(fields[place], place, reason)


# ---- one field ----

_ADDRESSES: Final = frozenset({"from", "sender", "reply-to", "to", "cc", "bcc"})
_WITH_GRAMMAR: Final = _ADDRESSES | {"date"}
_LONG_LINE: Final = re.compile(rb"^[^\r\n]{%d}" % (LINE_LIMIT + 1), re.MULTILINE)
_REPEATED: Final = 300  # octets up to which a value is remembered: the same people write to the same people all day


def _mend(field: Field, context: RepairContext) -> tuple[bytes | None, str] | None:
    """The value that takes the field's place, and the reason; None where the field is in order."""
    if len(field.value) <= _REPEATED and field.name.lower() in _ADDRESSES and _is_in_order(field):
        return None
    return _mended(field, context)


@lru_cache(maxsize=1024)
def _is_in_order(field: Field) -> bool:
    """That does not depend on the message it stands in, only what would take its place does."""
    return _mended(field, _ANY) is None


_ANY: Final = RepairContext(datetime.fromtimestamp(0, UTC), "", None, remove_bcc=False)


def _mended(field: Field, context: RepairContext) -> tuple[bytes | None, str] | None:
    name = field.name.lower()
    blank = not field.value.strip()
    if name == "to" and blank:
        return b"undisclosed-recipients:;", "it was empty"
    if name in _ADDRESSES and name != "from" and blank:
        return None, "it was empty"
    if name == "date":
        return None if _is_date(field.value) else (_mend_date(field.value, context.now), "it was no date of RFC 5322")
    if name in _ADDRESSES:
        mended = _mend_addresses(field)
        if mended is not None:
            return mended, "it held what is not allowed there"
    elif not field.value.isascii():
        return _encode(field.value), "it held octets above 127"
    if any(len(line) > LINE_LIMIT for line in _lines(field)):
        folded = _folded(field)
        return None if folded is None else (folded, f"a line was longer than {LINE_LIMIT} octets")
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
            yield Repair(Change(name, "", value, "it was missing"), Edit(name, value.encode("ascii")))


# ---- addresses ----

_FOLD: Final = re.compile(rb"\r\n(?=[ \t])")


def _mend_addresses(field: Field) -> bytes | None:
    """The list with each mailbox that cannot be read mended, and what is above 127 encoded; None where all is well."""
    value = field.value
    if value.isascii() and (_reads(value) or _is_group(value)):
        return None
    elements = [element.strip() for element in split_list(_FOLD.sub(b"", value))]
    mended = [_mend_element(element) for element in elements if element]
    if mended == [element for element in elements if element] and value.isascii():
        return None
    return b",\r\n ".join(mended) if mended else None


def _mend_element(element: bytes) -> bytes:
    """One mailbox. What cannot be understood at least has no octet above 127 any more."""
    if element.isascii() and (_reads(element) or _is_group(element)):
        return _tidy(element)
    try:
        return render_mailboxes(read_mailboxes(element))
    except MailboxError:
        mailbox = _mend_mailbox(element)
    if mailbox is not None:
        return render_mailboxes([mailbox])
    return _tidy(guess(element).encode("ascii", "replace"))


def _reads(value: bytes) -> bool:
    try:
        return bool(read_mailboxes(value))
    except MailboxError:
        return False


def _is_group(value: bytes) -> bool:
    """`undisclosed-recipients:;` and its kin: nothing that we would understand better."""
    return value.rstrip().endswith(b";") and b":" in value


def _mend_mailbox(value: bytes) -> Mailbox | None:
    """The one mailbox that a name and an address can be meant to be, however badly they are written."""
    found = find_loose_mailbox(guess(_FOLD.sub(b"", value)).strip())
    if found is None:
        return None
    name, address = found
    try:
        # Quotation marks that did not fit together are no part of the name.
        shown = decode_words(name.replace('"', " ").replace("\\", " ").encode("utf-8", "replace"))
        return Mailbox(parse_address(address), shown)
    except AddressError:
        return None


# ---- text ----

_CONTROLS: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def _tidy(value: bytes) -> bytes:
    """The same value, folded where it was, without blank lines and control characters."""
    lines = [_CONTROLS.sub(b" ", line).strip() for line in value.split(b"\r\n")]
    return b"\r\n ".join(line for line in lines if line)


def _encode(value: bytes) -> bytes:
    """Octets above 127 as encoded words; inside quotation marks, as many programs read names of files (RFC 2047)."""
    text = _tidy(value).replace(b"\r\n", b"")

    def encoded(inside: bytes) -> bytes:
        return inside if inside.isascii() else encode_unstructured(guess(inside))

    text = replace_quoted(text, encoded)
    if text.isascii():
        return text
    return encode_unstructured(" ".join("".join(c if c.isprintable() else " " for c in guess(text)).split()))


def _folded(field: Field) -> bytes | None:
    """The value with lines that are short enough; None where there is no blank at which to fold."""
    room = LINE_LIMIT - len(field.name) - 2
    lines: list[bytes] = []
    for word in re.split(rb"[ \t\r\n]+", field.value.strip()):
        if len(word) > room:
            return None
        if lines and len(lines[-1]) + 1 + len(word) <= 76:
            lines[-1] += b" " + word
        else:
            lines.append(word)
    return b"\r\n ".join(lines)


# ---- dates ----

_DATE: Final = re.compile(
    rb"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[ \t]*,)?\s*(\d{1,2})\s+"
    rb"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\s+(\d{4})\s+"
    rb"(\d{2}):(\d{2})(?::(\d{2}))?\s+(?:[+-]\d{4}|UT|GMT|[ECMP][SD]T|[A-IK-Za-ik-z])\s*(?:\([^()]*\)\s*)?",
    re.IGNORECASE,
)
_GERMAN: Final = {
    "mrz": "Mar", "mär": "Mar", "märz": "Mar", "mai": "May", "okt": "Oct", "dez": "Dec", "januar": "Jan",
    "februar": "Feb", "juni": "Jun", "juli": "Jul", "oktober": "Oct", "dezember": "Dec",
}  # fmt: skip
_GERMAN_DAYS: Final = re.compile(r"^(?:mo|di|mi|do|fr|sa|so)[a-z]*\.?,?\s+", re.IGNORECASE)
_DATE_LIMIT: Final = 200  # octets; a longer value holds no date that a person or a device wrote
_LATEST: Final = timedelta(days=366)  # a date further off is a device's unset clock, or a slip


def _is_date(value: bytes) -> bool:
    found = _DATE.fullmatch(value.strip())
    if found is None:
        return False
    day, _, hour, minute, second = (int(number or 0) for number in found.groups())
    return 1 <= day <= 31 and hour < 24 and minute < 60 and second <= 60


def _mend_date(value: bytes, now: datetime) -> bytes:
    """The date that is meant, where it can be read and is not absurd; else this moment."""
    text = _GERMAN_DAYS.sub("", " ".join(guess(value[:_DATE_LIMIT]).split()))
    text = re.sub(r"[^\W\d_]+\.?", lambda word: _GERMAN.get(word.group().rstrip(".").lower(), word.group()), text)
    text = re.sub(r"^(\d{1,2})\.\s", r"\1 ", text)
    meant = _from_iso(text, now) or _from_words(text, now)
    if meant is None or abs(meant - now) > _LATEST:
        meant = now
    return format_datetime(meant).encode("ascii")


def _from_iso(text: str, now: datetime) -> datetime | None:
    try:
        meant = datetime.fromisoformat(text)
    except ValueError:
        return None
    return meant if meant.tzinfo else meant.replace(tzinfo=now.tzinfo or UTC)


def _from_words(text: str, now: datetime) -> datetime | None:
    found = parsedate_tz(text)
    if found is None:
        return None
    try:
        zone = now.tzinfo or UTC if found[9] is None else timezone(timedelta(seconds=found[9]))
        return datetime(*found[:6], tzinfo=zone)
    except (ValueError, TypeError, OverflowError):
        return None


# ---- repairs ----


def _of(field: Field, index: int, value: bytes | None, reason: str) -> Repair:
    new = "" if value is None else _shown(value)
    return Repair(Change(field.name, _shown(field.value), new, reason), Edit(field.name, value, index))


def _removed(field: Field, index: int, reason: str) -> Repair:
    return _of(field, index, None, reason)


def _shown(value: bytes) -> str:
    text = "".join(c if c.isprintable() else " " for c in guess(value))
    return " ".join(text.split())[:200]
