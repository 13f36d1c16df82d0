"""The report as a message: multipart/report with a part for people, one for programs, and what came back.

Guarantees: nothing that an upstream said, an author wrote or an address holds can bring in a field, a part or a line of
its own; every line ends in CRLF and has at most 998 octets. It is 7-bit, except where the whole message is returned and
has octets above 127: MIME allows no other encoding for message/rfc822, so then `eight_bit` says so. A message that
cannot be returned whole within these rules comes back as its header alone.
Leaves out: Original-Envelope-Id and Original-Recipient, for no client can name them (the listener offers no DSN).
RFC 3464, RFC 6522, RFC 3834, RFC 2045 section 6.4.
"""

import re
import textwrap
from binascii import b2a_qp
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from email.utils import format_datetime
from functools import partial
from typing import Final

from senderproxy.dsn.report_policy import ReportKind
from senderproxy.dsn.wording import (
    ADVICE,
    ANSWER,
    CLOSING,
    OPENING,
    OWN_WORDS,
    RETURNED_HEADER,
    RETURNED_WHOLE,
    SIGNATURE,
    SUBJECT,
    TO_DO,
    Bilingual,
    cause_of,
    format_duration,
    status_of,
    what_to_do,
)
from senderproxy.mail.address import Address, ForwardPath
from senderproxy.mail.display import decode_words, encode_phrase, encode_unstructured
from senderproxy.mail.header import Edit, HeaderSection
from senderproxy.mail.message import Message
from senderproxy.mail.reply import Reply

_LINE_LIMIT: Final = 998  # octets without CRLF; RFC 5322 section 2.1.1
_TEXT_WIDTH: Final = 72  # characters; RFC 5322 section 2.1.1 recommends at most 78, quotations need some
_SUBJECT_SHOWN: Final = 100  # characters
_FROM: Final = "Mail Delivery System"


@dataclass(frozen=True, slots=True)
class ReportedRecipient:
    """One recipient and the last that was said about it.

    `remote` is the host that said it; None where the reply is in our own words (no connection, no account).
    """

    path: ForwardPath
    reply: Reply | None = None
    remote: str | None = None
    last_attempt: datetime | None = None


@dataclass(frozen=True, slots=True)
class Original:
    """The message that is reported on, as it came."""

    id: str
    message: Message
    received_at: datetime


@dataclass(frozen=True, slots=True)
class ReportContext:
    """Who reports, when, and how.

    `zone` is the office's own time, `returned_size` the size of the largest message that is sent back whole.
    """

    hostname: str
    address: Address
    id: str  # the report's own
    now: datetime
    zone: tzinfo = UTC
    returned_size: int = 0  # octets; 0: the header alone, always
    retry_until: datetime | None = None  # for what is delayed


@dataclass(frozen=True, slots=True)
class MemoryBody:
    """mail.message.Body in memory. `stuffed` has CRLF line ends only and ends in one, or is empty."""

    stuffed: bytes
    is_ascii: bool = field(init=False)
    has_long_lines: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_ascii", self.stuffed.isascii())
        object.__setattr__(self, "has_long_lines", _has_long_lines(self.stuffed))

    @property
    def size(self) -> int:
        """Octets, as stuffed."""
        return len(self.stuffed)

    def blocks(self) -> Iterator[bytes]:
        """All of it at once: a report is bounded."""
        yield self.stuffed

    def retain(self) -> None:
        """There is nothing to give up: it is a value."""

    def close(self) -> None:
        """There is nothing to give up."""


@dataclass(frozen=True, slots=True)
class Report:
    """The report and whether its envelope must declare BODY=8BITMIME."""

    message: Message
    eight_bit: bool


def compose_report(
    kind: ReportKind,
    to: Address,
    recipients: Sequence[ReportedRecipient],
    original: Original,
    letterhead: ReportContext,
) -> Report:
    """The whole report on recipients to whom the same happened; at least one."""
    returned = _returned(original.message, letterhead.returned_size)
    text = _text(kind, recipients, original, letterhead, whole=returned.whole)
    parts = (_text_part(text), _status_part(kind, recipients, original, letterhead), returned.part)
    boundary = _boundary(letterhead.id, parts)
    body = b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts) + b"--" + boundary + b"--\r\n"
    header = _header(kind, to, original.message.header, letterhead, boundary, eight_bit=returned.eight_bit)
    return Report(Message(header, MemoryBody(_stuff(body))), returned.eight_bit)


# ---- the header ----


def _header(
    kind: ReportKind,
    to: Address,
    original: HeaderSection,
    letterhead: ReportContext,
    boundary: bytes,
    *,
    eight_bit: bool,
) -> HeaderSection:
    about = _subject_of(original)
    subject = f"{SUBJECT[kind]}: {about}" if about else SUBJECT[kind]
    answered = _message_id(original)
    fields = [
        Edit("From", encode_phrase(_FROM) + f" <{letterhead.address}>".encode("ascii")),
        Edit("To", str(to).encode("ascii")),
        # What looks like an encoded word in a decoded subject must not be decoded once more.
        Edit("Subject", encode_unstructured(subject.replace("=?", "= ?"))),
        Edit("Date", format_datetime(letterhead.now).encode("ascii")),
        Edit("Message-ID", f"<{_token(letterhead.id)}@{_token(letterhead.hostname)}>".encode("ascii")),
        Edit("Auto-Submitted", b"auto-replied"),
        *([Edit(name, answered) for name in ("In-Reply-To", "References")] if answered else []),
        Edit("MIME-Version", b"1.0"),
        Edit("Content-Type", b'multipart/report; report-type=delivery-status;\r\n\tboundary="' + boundary + b'"'),
        *([Edit("Content-Transfer-Encoding", b"8bit")] if eight_bit else []),
    ]
    return HeaderSection(b"".join(edit.render() for edit in fields) + b"\r\n")


def _subject_of(header: HeaderSection) -> str:
    values = header.values("Subject")
    subject = decode_words(values[0]) if values else None
    if subject is None:
        return ""
    return subject if len(subject) <= _SUBJECT_SHOWN else subject[: _SUBJECT_SHOWN - 3] + "..."


_MESSAGE_ID: Final = re.compile(rb"<[!-;=?A-~]{1,200}@[!-;=?-~]{1,200}>")


def _message_id(header: HeaderSection) -> bytes | None:
    """The original's Message-ID, where it has exactly one and it looks like one."""
    values = [value.strip() for value in header.values("Message-ID")]
    return values[0] if len(values) == 1 and _MESSAGE_ID.fullmatch(values[0]) else None


# ---- the part for people ----


def _text_part(text: str) -> bytes:
    encoded = b2a_qp(text.replace("\n", "\r\n").encode("utf-8", "replace"), istext=True)
    head = b"Content-Type: text/plain; charset=utf-8\r\nContent-Language: de, en\r\n"
    return head + b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + encoded


def _text(
    kind: ReportKind,
    recipients: Sequence[ReportedRecipient],
    original: Original,
    letterhead: ReportContext,
    *,
    whole: bool,
) -> str:
    """The same letter twice: the office's language first, then English."""
    return f"\n{'*' * _TEXT_WIDTH}\n\n".join(
        _letter(language, kind, recipients, original, letterhead, whole=whole) for language in ("german", "english")
    )


def _letter(
    language: str,
    kind: ReportKind,
    recipients: Sequence[ReportedRecipient],
    original: Original,
    letterhead: ReportContext,
    *,
    whole: bool,
) -> str:
    def say(words: Bilingual) -> str:
        return str(getattr(words, language))

    about = _subject_of(original.message.header)
    german = language == "german"
    quoted = (f" „{about}“" if german else f' "{about}"') if about else ""
    values = {
        "subject": quoted,
        "sent": _moment(original.received_at, letterhead.zone, german=german),
        "waited": say(format_duration((letterhead.now - original.received_at).total_seconds())),
        "until": _moment(letterhead.retry_until or letterhead.now, letterhead.zone, german=german),
    }
    paragraphs = [_filled(say(OPENING[kind]).format(**values))]
    for group in _grouped(recipients):
        cause = cause_of(kind, group[0].reply)
        paragraphs.append("\n".join(f"    {recipient.path}" for recipient in group))
        paragraphs.append(_filled(say(ADVICE[cause].what)))
        paragraphs.append(_filled(f"{say(TO_DO)}: {say(what_to_do(kind, cause))}"))
        if answer := _answer(group[0]):
            title = say(ANSWER).format(who=_token(group[0].remote)) if group[0].remote else say(OWN_WORDS)
            paragraphs.append(f"{title}:\n{answer}")
    returned = RETURNED_WHOLE if whole else RETURNED_HEADER
    paragraphs.append(_filled(say(CLOSING[kind]).format(**values)))
    paragraphs.append(_filled(f"{say(returned)} {say(SIGNATURE).format(host=letterhead.hostname)}"))
    return "\n\n".join(paragraphs) + "\n"


def _grouped(recipients: Sequence[ReportedRecipient]) -> list[list[ReportedRecipient]]:
    """Those of whom the same was said stand together, in the order in which they came."""
    groups: dict[tuple[Reply | None, str | None], list[ReportedRecipient]] = {}
    for recipient in recipients:
        groups.setdefault((recipient.reply, recipient.remote), []).append(recipient)
    return list(groups.values())


def _answer(recipient: ReportedRecipient) -> str:
    """What was said, in its own words, indented."""
    if recipient.reply is None:
        return ""
    lines = recipient.reply.render().decode("ascii").split("\r\n")
    fill = partial(textwrap.fill, width=_TEXT_WIDTH, initial_indent="    ", subsequent_indent="      ")
    return "\n".join(fill(line) for line in lines if line)


def _filled(text: str) -> str:
    return textwrap.fill(text, _TEXT_WIDTH, break_long_words=False, break_on_hyphens=False)


_MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


def _moment(at: datetime, zone: tzinfo, *, german: bool) -> str:
    """As the office writes it; the zone is named, for who reads it elsewhere."""
    local = at.astimezone(zone)
    clock = f"{local:%H:%M}"
    if german:
        return f"{local:%d.%m.%Y}, {clock} Uhr ({local.tzname()})"
    return f"{local.day} {_MONTHS[local.month - 1]} {local.year}, {clock} ({local.tzname()})"


# ---- the part for programs ----


def _status_part(
    kind: ReportKind, recipients: Sequence[ReportedRecipient], original: Original, letterhead: ReportContext
) -> bytes:
    blocks = [
        [
            Edit("Reporting-MTA", f"dns; {_token(letterhead.hostname)}".encode("ascii")),
            Edit("X-Senderproxy-ID", _token(original.id).encode("ascii")),
            Edit("Arrival-Date", format_datetime(original.received_at).encode("ascii")),
        ],
        *(_recipient_fields(kind, recipient, letterhead) for recipient in recipients),
    ]
    rendered = (b"".join(edit.render() for edit in block) for block in blocks)
    return b"Content-Type: message/delivery-status\r\n\r\n" + b"\r\n".join(rendered)


def _recipient_fields(kind: ReportKind, recipient: ReportedRecipient, letterhead: ReportContext) -> list[Edit]:
    said = recipient.reply
    fields = [
        Edit("Final-Recipient", f"rfc822; {recipient.path}".encode("ascii")),
        Edit("Action", b"delayed" if kind is ReportKind.DELAYED else b"failed"),
        Edit("Status", str(status_of(kind, said)).encode("ascii")),
    ]
    if recipient.remote is not None:
        fields.append(Edit("Remote-MTA", f"dns; {_token(recipient.remote)}".encode("ascii")))
    if said is not None:
        # Each further line of a reply stands on a line of its own, behind a blank (RFC 3461 section 9.2).
        spoken = b"\r\n ".join(said.render().rstrip(b"\r\n").split(b"\r\n"))
        fields.append(Edit("Diagnostic-Code", (b"smtp; " if recipient.remote else b"X-senderproxy; ") + spoken))
    if recipient.last_attempt is not None:
        fields.append(Edit("Last-Attempt-Date", format_datetime(recipient.last_attempt).encode("ascii")))
    if kind is ReportKind.DELAYED and letterhead.retry_until is not None:
        fields.append(Edit("Will-Retry-Until", format_datetime(letterhead.retry_until).encode("ascii")))
    return fields


# ---- what came back ----


@dataclass(frozen=True, slots=True)
class _Returned:
    part: bytes
    whole: bool
    eight_bit: bool


def _returned(message: Message, limit: int) -> _Returned:
    """The whole message where it is small enough and may travel as it is, else its header."""
    if message.size <= limit and not message.body.has_long_lines:
        whole = _whole(message)
        if whole is not None and _may_travel(whole):
            eight_bit = not whole.isascii()
            encoding = b"Content-Transfer-Encoding: 8bit\r\n" if eight_bit else b""
            return _Returned(b"Content-Type: message/rfc822\r\n" + encoding + b"\r\n" + whole, True, eight_bit)
    header = message.header.raw.removesuffix(b"\r\n\r\n") + b"\r\n" if message.header.raw else b""
    if _may_travel(header) and header.isascii():
        return _Returned(b"Content-Type: text/rfc822-headers\r\n\r\n" + header, False, False)
    # RFC 6522 section 4: a header that is not legal is encoded, so that it arrives as it was.
    encoded = b"\r\n".join(b2a_qp(line, istext=False) for line in header.split(b"\r\n"))
    head = b"Content-Type: text/rfc822-headers\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    return _Returned(head + encoded.replace(b"=\n", b"=\r\n"), False, False)


def _whole(message: Message) -> bytes | None:
    """All of it, not stuffed; None where a disk has lost some of it."""
    try:
        return _closed(message.header.raw) + _unstuff(b"".join(message.body.blocks()))
    except OSError:
        return None


def _closed(header: bytes) -> bytes:
    """With the blank line that separates it from what follows."""
    if header.endswith(b"\r\n\r\n") or header == b"\r\n":
        return header
    return header + (b"\r\n" if header.endswith(b"\r\n") or not header else b"\r\n\r\n")


_BARE: Final = re.compile(rb"\r(?!\n)|(?<!\r)\n|\0")


def _may_travel(octets: bytes) -> bool:
    """Neither NUL nor bare CR or LF, and no line that is too long: what 7bit and 8bit allow (RFC 2045 section 2)."""
    return not _has_long_lines(octets) and not _BARE.search(octets)


def _has_long_lines(octets: bytes) -> bool:
    return any(len(line) > _LINE_LIMIT for line in octets.split(b"\r\n"))


def _stuff(octets: bytes) -> bytes:
    return (b"\n" + octets).replace(b"\n.", b"\n..")[1:]


def _unstuff(octets: bytes) -> bytes:
    return (b"\n" + octets).replace(b"\n.", b"\n")[1:]


def _boundary(report_id: str, parts: Sequence[bytes]) -> bytes:
    """A line that is in none of the parts. `=_` cannot be in quoted-printable text (RFC 2045 section 6.7)."""
    boundary = f"=_{re.sub('[^A-Za-z0-9]', '', report_id)[:40]}_report".encode("ascii")
    while any(boundary in part for part in parts):
        boundary += b"X"
    return boundary


def _token(text: str) -> str:
    """The visible ASCII characters of it: host names and ids have no others."""
    return re.sub(r"[^!-:=?-~]", "", text)[:255] or "unknown"
