"""The report as a message: multipart/report with a text part, a delivery-status part and the returned message. PURE.

Guarantees: no reply, author or address can add a field, a part or a line to a report. All lines end in CRLF and have at
most 998 octets. The report is 7-bit, unless the whole message is returned and has octets above 127: MIME permits no
other encoding for message/rfc822, so `eight_bit` is then True. A message that cannot be returned whole within these
rules is returned as its header only.

Not included: Original-Envelope-Id and Original-Recipient, because the listener offers no DSN extension.

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
    ADVICE_TITLE,
    CAUSE_TEXTS,
    CLOSINGS,
    OPENINGS,
    OWN_REPLY_TITLE,
    REPLY_TITLE,
    RETURNED_HEADER,
    RETURNED_WHOLE,
    SIGNATURE,
    SUBJECTS,
    Bilingual,
    advice_for,
    find_cause,
    format_duration,
    report_status,
)
from senderproxy.mail.address import Address, ForwardPath
from senderproxy.mail.display import decode_words, encode_phrase, encode_unstructured
from senderproxy.mail.header import Edit, HeaderSection
from senderproxy.mail.message import Message
from senderproxy.mail.reply import Reply

_LINE_LIMIT: Final = 998  # octets without CRLF; RFC 5322 section 2.1.1
_TEXT_WIDTH: Final = 72  # characters; leaves space for quoting in a reply
_SUBJECT_SHOWN: Final = 100  # characters of the original subject in the subject of the report
_FROM: Final = "Mail Delivery System"


@dataclass(frozen=True, slots=True)
class ReportedRecipient:
    """One recipient and the last reply for it.

    `remote` is the host that sent the reply; None for a reply of our own (no connection, no account).
    """

    path: ForwardPath
    reply: Reply | None = None
    remote: str | None = None
    last_attempt: datetime | None = None


@dataclass(frozen=True, slots=True)
class Original:
    """The reported message, as received."""

    id: str
    message: Message
    received_at: datetime


@dataclass(frozen=True, slots=True)
class ReportContext:
    """Origin, time and settings of a report.

    `zone` is the time zone of its times, `returned_size` the size of the largest message that is returned as a whole.
    """

    hostname: str
    address: Address
    id: str  # id of the report itself
    now: datetime
    zone: tzinfo = UTC
    returned_size: int = 0  # octets; 0: always the header only
    retry_until: datetime | None = None  # end of the retries of a delayed message


@dataclass(frozen=True, slots=True)
class MemoryBody:
    """A mail.message.Body in memory. `stuffed` has CRLF line ends only and ends in one, or is empty."""

    stuffed: bytes
    is_ascii: bool = field(init=False)
    has_long_lines: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_ascii", self.stuffed.isascii())
        object.__setattr__(self, "has_long_lines", _has_long_lines(self.stuffed))

    @property
    def size(self) -> int:
        """Octets, as dot-stuffed."""
        return len(self.stuffed)

    @property
    def disk(self) -> None:
        """None: it is in memory."""

    def blocks(self) -> Iterator[bytes]:
        """All octets in one block; the size of a report is bounded."""
        yield self.stuffed

    def retain(self) -> None:
        """Nothing to do: the octets are in memory."""

    def close(self) -> None:
        """Nothing to do: the octets are in memory."""


@dataclass(frozen=True, slots=True)
class Report:
    """The report, and True if its envelope must declare BODY=8BITMIME."""

    message: Message
    eight_bit: bool


def compose_report(
    kind: ReportKind,
    to: Address,
    recipients: Sequence[ReportedRecipient],
    original: Original,
    context: ReportContext,
) -> Report:
    """Compose a report of one kind about at least one recipient. `to` is the recipient of the report."""
    returned = _returned(original.message, context.returned_size)
    text = _text(kind, recipients, original, context, whole=returned.whole)
    parts = (_text_part(text), _status_part(kind, recipients, original, context), returned.part)
    boundary = _boundary(context.id, parts)
    body = b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts) + b"--" + boundary + b"--\r\n"
    header = _header(kind, to, original.message.header, context, boundary, eight_bit=returned.eight_bit)
    return Report(Message(header, MemoryBody(_stuff(body))), returned.eight_bit)


# ---- the header ----


def _header(
    kind: ReportKind,
    to: Address,
    original: HeaderSection,
    context: ReportContext,
    boundary: bytes,
    *,
    eight_bit: bool,
) -> HeaderSection:
    about = _subject_of(original)
    subject = f"{SUBJECTS[kind]}: {about}" if about else SUBJECTS[kind]
    message_id = _message_id(original)
    fields = [
        Edit("From", encode_phrase(_FROM) + f" <{context.address}>".encode("ascii")),
        Edit("To", str(to).encode("ascii")),
        # Text of a decoded subject that looks like an encoded word must not be decoded again.
        Edit("Subject", encode_unstructured(subject.replace("=?", "= ?"))),
        Edit("Date", format_datetime(context.now).encode("ascii")),
        Edit("Message-ID", f"<{_token(context.id)}@{_token(context.hostname)}>".encode("ascii")),
        Edit("Auto-Submitted", b"auto-replied"),
        *([Edit(name, message_id) for name in ("In-Reply-To", "References")] if message_id else []),
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
    """The Message-ID of the original, None without exactly one valid one."""
    values = [value.strip() for value in header.values("Message-ID")]
    return values[0] if len(values) == 1 and _MESSAGE_ID.fullmatch(values[0]) else None


# ---- text part ----


def _text_part(text: str) -> bytes:
    encoded = b2a_qp(text.replace("\n", "\r\n").encode("utf-8", "replace"), istext=True)
    head = b"Content-Type: text/plain; charset=utf-8\r\nContent-Language: de, en\r\n"
    return head + b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + encoded


def _text(
    kind: ReportKind,
    recipients: Sequence[ReportedRecipient],
    original: Original,
    context: ReportContext,
    *,
    whole: bool,
) -> str:
    """The text in German, then in English."""
    return f"\n{'*' * _TEXT_WIDTH}\n\n".join(
        _text_in(language, kind, recipients, original, context, whole=whole) for language in ("german", "english")
    )


def _text_in(
    language: str,
    kind: ReportKind,
    recipients: Sequence[ReportedRecipient],
    original: Original,
    context: ReportContext,
    *,
    whole: bool,
) -> str:
    def translated(text: Bilingual) -> str:
        return str(getattr(text, language))

    about = _subject_of(original.message.header)
    german = language == "german"
    quoted = (f" „{about}“" if german else f' "{about}"') if about else ""
    values = {
        "subject": quoted,
        "sent": _format_time(original.received_at, context.zone, german=german),
        "waited": translated(format_duration((context.now - original.received_at).total_seconds())),
        "until": _format_time(context.retry_until or context.now, context.zone, german=german),
    }
    paragraphs = [_wrap(translated(OPENINGS[kind]).format(**values))]
    for group in _grouped(recipients):
        cause = find_cause(kind, group[0].reply)
        paragraphs.append("\n".join(f"    {recipient.path}" for recipient in group))
        paragraphs.append(_wrap(translated(CAUSE_TEXTS[cause].explanation)))
        paragraphs.append(_wrap(f"{translated(ADVICE_TITLE)}: {translated(advice_for(kind, cause))}"))
        if quoted_reply := _quoted_reply(group[0]):
            title = (
                translated(REPLY_TITLE).format(host=_token(group[0].remote))
                if group[0].remote
                else translated(OWN_REPLY_TITLE)
            )
            paragraphs.append(f"{title}:\n{quoted_reply}")
    returned = RETURNED_WHOLE if whole else RETURNED_HEADER
    paragraphs.append(_wrap(translated(CLOSINGS[kind]).format(**values)))
    paragraphs.append(_wrap(f"{translated(returned)} {translated(SIGNATURE).format(host=context.hostname)}"))
    return "\n\n".join(paragraphs) + "\n"


def _grouped(recipients: Sequence[ReportedRecipient]) -> list[list[ReportedRecipient]]:
    """Group recipients with the same reply, in their order."""
    groups: dict[tuple[Reply | None, str | None], list[ReportedRecipient]] = {}
    for recipient in recipients:
        groups.setdefault((recipient.reply, recipient.remote), []).append(recipient)
    return list(groups.values())


def _quoted_reply(recipient: ReportedRecipient) -> str:
    """The lines of the reply, indented."""
    if recipient.reply is None:
        return ""
    lines = recipient.reply.render().decode("ascii").split("\r\n")
    fill = partial(textwrap.fill, width=_TEXT_WIDTH, initial_indent="    ", subsequent_indent="      ")
    return "\n".join(fill(line) for line in lines if line)


def _wrap(text: str) -> str:
    return textwrap.fill(text, _TEXT_WIDTH, break_long_words=False, break_on_hyphens=False)


_MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


def _format_time(at: datetime, zone: tzinfo, *, german: bool) -> str:
    """Date and time in the usual form of the language, with the name of the time zone."""
    local = at.astimezone(zone)
    clock = f"{local:%H:%M}"
    if german:
        return f"{local:%d.%m.%Y}, {clock} Uhr ({local.tzname()})"
    return f"{local.day} {_MONTHS[local.month - 1]} {local.year}, {clock} ({local.tzname()})"


# ---- delivery-status part ----


def _status_part(
    kind: ReportKind, recipients: Sequence[ReportedRecipient], original: Original, context: ReportContext
) -> bytes:
    blocks = [
        [
            Edit("Reporting-MTA", f"dns; {_token(context.hostname)}".encode("ascii")),
            Edit("X-Senderproxy-ID", _token(original.id).encode("ascii")),
            Edit("Arrival-Date", format_datetime(original.received_at).encode("ascii")),
        ],
        *(_recipient_fields(kind, recipient, context) for recipient in recipients),
    ]
    rendered = (b"".join(edit.render() for edit in block) for block in blocks)
    return b"Content-Type: message/delivery-status\r\n\r\n" + b"\r\n".join(rendered)


def _recipient_fields(kind: ReportKind, recipient: ReportedRecipient, context: ReportContext) -> list[Edit]:
    reply = recipient.reply
    fields = [
        Edit("Final-Recipient", f"rfc822; {recipient.path}".encode("ascii")),
        Edit("Action", b"delayed" if kind is ReportKind.DELAYED else b"failed"),
        Edit("Status", str(report_status(kind, reply)).encode("ascii")),
    ]
    if recipient.remote is not None:
        fields.append(Edit("Remote-MTA", f"dns; {_token(recipient.remote)}".encode("ascii")))
    if reply is not None:
        # Each further line of a reply is on a line of its own, after a blank (RFC 3461 section 9.2).
        reply_text = b"\r\n ".join(reply.render().rstrip(b"\r\n").split(b"\r\n"))
        fields.append(Edit("Diagnostic-Code", (b"smtp; " if recipient.remote else b"X-senderproxy; ") + reply_text))
    if recipient.last_attempt is not None:
        fields.append(Edit("Last-Attempt-Date", format_datetime(recipient.last_attempt).encode("ascii")))
    if kind is ReportKind.DELAYED and context.retry_until is not None:
        fields.append(Edit("Will-Retry-Until", format_datetime(context.retry_until).encode("ascii")))
    return fields


# ---- the returned message ----


@dataclass(frozen=True, slots=True)
class _Returned:
    part: bytes
    whole: bool
    eight_bit: bool


def _returned(message: Message, limit: int) -> _Returned:
    """Return the whole message if it is small and valid MIME content, else its header."""
    if message.size <= limit and not message.body.has_long_lines:
        whole = _whole(message)
        if whole is not None and _is_valid_content(whole):
            eight_bit = not whole.isascii()
            encoding = b"Content-Transfer-Encoding: 8bit\r\n" if eight_bit else b""
            return _Returned(b"Content-Type: message/rfc822\r\n" + encoding + b"\r\n" + whole, True, eight_bit)
    header = message.header.raw.removesuffix(b"\r\n\r\n") + b"\r\n" if message.header.raw else b""
    if _is_valid_content(header) and header.isascii():
        return _Returned(b"Content-Type: text/rfc822-headers\r\n\r\n" + header, False, False)
    # RFC 6522 section 4: an invalid header is encoded, so that it arrives unchanged.
    encoded = b"\r\n".join(b2a_qp(line, istext=False) for line in header.split(b"\r\n"))
    head = b"Content-Type: text/rfc822-headers\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    return _Returned(head + encoded.replace(b"=\n", b"=\r\n"), False, False)


def _whole(message: Message) -> bytes | None:
    """The whole message, not dot-stuffed; None if its body is not in memory, or cannot be read completely."""
    if message.body.disk is not None:
        return None
    try:
        return _with_blank_line(message.header.raw) + _unstuff(b"".join(message.body.blocks()))
    except OSError:
        return None


def _with_blank_line(header: bytes) -> bytes:
    """The header with the blank line that ends it."""
    if header.endswith(b"\r\n\r\n") or header == b"\r\n":
        return header
    return header + (b"\r\n" if header.endswith(b"\r\n") or not header else b"\r\n\r\n")


_BARE: Final = re.compile(rb"\r(?!\n)|(?<!\r)\n|\0")


def _is_valid_content(octets: bytes) -> bool:
    """True without NUL, bare CR, bare LF and long lines, as 7bit and 8bit require (RFC 2045 section 2)."""
    return not _has_long_lines(octets) and not _BARE.search(octets)


def _has_long_lines(octets: bytes) -> bool:
    return any(len(line) > _LINE_LIMIT for line in octets.split(b"\r\n"))


def _stuff(octets: bytes) -> bytes:
    return (b"\n" + octets).replace(b"\n.", b"\n..")[1:]


def _unstuff(octets: bytes) -> bytes:
    return (b"\n" + octets).replace(b"\n.", b"\n")[1:]


def _boundary(report_id: str, parts: Sequence[bytes]) -> bytes:
    """A boundary that occurs in no part. `=_` cannot occur in quoted-printable text (RFC 2045 section 6.7)."""
    boundary = f"=_{re.sub('[^A-Za-z0-9]', '', report_id)[:40]}_report".encode("ascii")
    while any(boundary in part for part in parts):
        boundary += b"X"
    return boundary


def _token(text: str) -> str:
    """The visible ASCII characters of a host name or id, at most 255."""
    return re.sub(r"[^!-:=?-~]", "", text)[:255] or "unknown"
