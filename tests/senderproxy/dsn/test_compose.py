"""Reports as bytes: golden files, structure, and hostile replies that must not change the structure."""

import email
import email.policy
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from senderproxy.dsn.compose import MemoryBody, Original, ReportContext, ReportedRecipient, compose_report
from senderproxy.dsn.report_policy import ReportKind
from senderproxy.mail.address import Address, AddressError, parse_address
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.message import Message
from senderproxy.mail.reply import EnhancedStatus, Reply, parse_reply
from tests.senderproxy.dsn.cases import ANNA, CARL, CASES, CONTEXT, CORPUS, DORA, NOW, PLAIN, Case, original, said


def read(octets: bytes) -> EmailMessage:
    message = email.message_from_bytes(octets, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def parts(octets: bytes) -> tuple[str, list[Any], EmailMessage]:
    """The text part, the field groups of the delivery-status part, and the returned message."""
    report = read(octets)
    assert report.get_content_type() == "multipart/report"
    assert report.get_param("report-type") == "delivery-status"
    text, status, returned = report.iter_parts()
    assert text.get_content_type() == "text/plain"
    assert status.get_content_type() == "message/delivery-status"
    assert isinstance(returned, EmailMessage)
    return text.get_content().replace("\r\n", "\n"), list(status.get_payload()), returned


def _messages(part: email.message.Message) -> list[email.message.Message]:
    payload = part.get_payload()
    assert isinstance(payload, list)
    assert all(isinstance(inner, email.message.Message) for inner in payload)
    return [inner for inner in payload if isinstance(inner, email.message.Message)]


def _inner(part: email.message.Message) -> email.message.Message:
    [inner] = _messages(part)
    return inner


def the_report(
    *, header: bytes = PLAIN, body: bytes = b"x\r\n", reply: Reply | None = None, limit: int = 50_000
) -> bytes:
    recipient = ReportedRecipient(CARL, reply or said(b"550 no"), "smtp.example", NOW)
    context = replace(CONTEXT, returned_size=limit)
    return Case(ReportKind.FAILED, (recipient,), original(header, body), context).octets()


@pytest.mark.parametrize("name", CASES)
def test_a_report_reads_as_in_the_corpus(name: str) -> None:
    assert CASES[name]().octets() == (CORPUS / f"{name}.eml").read_bytes()


@pytest.mark.parametrize("name", CASES)
def test_every_report_is_whole_and_fit_for_the_wire(name: str) -> None:
    case = CASES[name]()
    report = case.report()
    wire = b"".join(report.message.blocks())
    assert wire.endswith(b"\r\n")
    assert b"\n" not in wire.replace(b"\r\n", b"")
    assert b"\r" not in wire.replace(b"\r\n", b"")
    assert not any(len(line) > 998 for line in wire.split(b"\r\n"))
    assert not any(line.startswith(b".") and not line.startswith(b"..") for line in wire.split(b"\r\n"))
    assert report.eight_bit is not wire.isascii()
    assert report.message.header.raw.isascii()
    assert report.message.size == len(wire)
    assert (report.message.body.is_ascii, report.message.body.has_long_lines) == (not report.eight_bit, False)
    _, fields, _ = parts(case.octets())
    assert len(fields) == 1 + len(case.recipients)
    assert not read(case.octets()).defects


def test_the_header_says_what_it_is_and_answers_the_original() -> None:
    report = read(the_report())
    assert str(report["From"]) == "Mail Delivery System <mailer-daemon@firma.example>"
    assert report["To"] == str(ANNA)
    assert report["Subject"] == "Nicht zugestellt / Not delivered: Angebot für März"
    assert report["Auto-Submitted"] == "auto-replied"
    assert report["Message-ID"] == "<Rep23xyzABCD@proxy.firma.example>"
    assert report["In-Reply-To"] == report["References"] == "<4711@firma.example>"
    assert report["Date"].datetime == NOW


@pytest.mark.parametrize(
    "header",
    [
        PLAIN.replace(b"<4711@firma.example>", b"4711"),
        PLAIN + b"Message-ID: <another@firma.example>\r\n",
        PLAIN.replace(b"<4711@firma.example>", b"<4711@firma.example> <4712@firma.example>"),
        PLAIN.replace(b"<4711@firma.example>", b"<" + b"x" * 900 + b"@firma.example>"),
        PLAIN.replace(b"<4711@firma.example>", b"<4711\xfc@firma.example>"),
    ],
)
def test_an_odd_message_id_is_answered_by_none(header: bytes) -> None:
    report = read(the_report(header=header))
    assert report["In-Reply-To"] is None
    assert report["References"] is None


def test_programs_read_who_what_when_and_the_whole_answer() -> None:
    answer = said(b"550-Requested action not taken: mailbox unavailable", b"550 Unknown User")
    _, (message, recipient), _ = parts(the_report(reply=answer))
    assert dict(message) == {
        "Reporting-MTA": "dns; proxy.firma.example",
        "X-Senderproxy-ID": "Abc23defGHJK",
        "Arrival-Date": "Tue, 24 Nov 2026 09:30:00 +0000",
    }
    assert {name: " ".join(value.split()) for name, value in recipient.items()} == {
        "Final-Recipient": "rfc822; carl@kunde.example",
        "Action": "failed",
        "Status": "5.1.1",
        "Remote-MTA": "dns; smtp.example",
        "Diagnostic-Code": "smtp; 550-Requested action not taken: mailbox unavailable 550 Unknown User",
        "Last-Attempt-Date": "Tue, 24 Nov 2026 09:30:00 +0000",
    }


def test_what_no_server_said_is_not_called_an_smtp_answer() -> None:
    _, (_, recipient), _ = parts(CASES["expired-unreachable"]().octets())
    assert recipient["Diagnostic-Code"].startswith("X-senderproxy; 451 4.4.1 There is no route")
    assert recipient["Remote-MTA"] is None
    assert (recipient["Action"], recipient["Status"]) == ("failed", "4.4.1")


def test_a_delay_says_until_when_it_is_tried() -> None:
    text, (_, recipient, _), _ = parts(CASES["delayed-greylisted"]().octets())
    assert recipient["Action"] == "delayed"
    assert recipient["Will-Retry-Until"] == "Thu, 26 Nov 2026 05:30:00 +0000"
    assert "26.11.2026, 06:30 Uhr (CET)" in text
    assert "should not send it again" in " ".join(text.split())


def test_those_of_whom_the_same_was_said_stand_together() -> None:
    text, _, _ = parts(CASES["delayed-greylisted"]().octets())
    assert text.count("    carl@kunde.example\n    dora@amt.example\n") == 2
    assert text.count("Greylisted") == 2  # once in each language


def test_the_whole_message_comes_back_as_it_was_dots_and_all() -> None:
    _, _, returned = parts(the_report(body=b"..\r\n...hidden\r\n"))
    assert returned.get_content_type() == "message/rfc822"
    inner = _inner(returned)
    assert inner["Message-ID"] == "<4711@firma.example>"
    assert (
        inner.get_payload() == ".\r\n..hidden\r\n".replace("\r\n", "\n") or inner.get_payload() == ".\r\n..hidden\r\n"
    )


@pytest.mark.parametrize(
    ("header", "body", "limit"),
    [
        (PLAIN, b"x" * 70 + b"\r\n", 200),  # too large
        (PLAIN, b"x" * 1200 + b"\r\n", 50_000),  # a line that neither 7bit nor 8bit allows
        (PLAIN + b"X-Bare: a\rb\r\n", b"x\r\n", 50_000),
        (PLAIN + b"X-Nul: a\0b\r\n", b"x\r\n", 50_000),
    ],
)
def test_what_cannot_travel_whole_comes_back_as_its_header(header: bytes, body: bytes, limit: int) -> None:
    octets = the_report(header=header, body=body, limit=limit)
    text, _, returned = parts(octets)
    assert returned.get_content_type() == "text/rfc822-headers"
    payload = returned.get_payload(decode=True)
    assert isinstance(payload, bytes)
    assert payload.rstrip(b"\r\n") == header.rstrip(b"\r\n")
    assert "its text and attachments are not" in " ".join(text.split())
    assert octets.isascii()


class _Lost(MemoryBody):
    def blocks(self) -> Iterator[bytes]:
        yield b"the first "
        raise OSError("the rest is not there")


def test_a_body_that_the_disk_lost_does_not_stop_the_report() -> None:
    sent = Original("Abc23defGHJK", Message(HeaderSection(PLAIN + b"\r\n"), _Lost(b"")), NOW)
    recipients = (ReportedRecipient(CARL, said(b"550 no"), "smtp.example", NOW),)
    _, _, returned = parts(Case(ReportKind.FAILED, recipients, sent).octets())
    assert returned.get_content_type() == "text/rfc822-headers"


def test_a_message_without_a_header_section_is_reported_too() -> None:
    bare = Original("Abc23defGHJK", Message(HeaderSection(b""), MemoryBody(b"just text\r\n")), NOW)
    recipients = (ReportedRecipient(CARL, said(b"550 no"), "smtp.example", NOW),)
    for limit in (0, 50_000):
        octets = Case(ReportKind.FAILED, recipients, bare, replace(CONTEXT, returned_size=limit)).octets()
        text, _, _ = parts(octets)
        assert "Ihre Nachricht vom 24.11.2026" in text


def test_a_boundary_that_the_original_knew_beforehand_is_not_used() -> None:
    body = b"--=_Rep23xyzABCD_report--\r\nContent-Type: message/delivery-status\r\n"
    _, fields, returned = parts(the_report(body=body))
    assert len(fields) == 2
    assert "=_Rep23xyzABCD_report--" in str(_inner(returned).get_payload())


def test_a_subject_that_looks_encoded_once_decoded_is_shown_as_it_reads() -> None:
    twice = b"=?utf-8?b?" + b"PT91dGYtOD9iP1lURTk/PQ==" + b"?="  # =?utf-8?b?YTE9?=
    report = read(the_report(header=PLAIN.replace(b"=?utf-8?q?Angebot_f=C3=BCr_M=C3=A4rz?=", twice)))
    assert report["Subject"].endswith(": = ?utf-8?b?YTE9?=")


# ---- hostile input ----

_HOSTILE = st.one_of(
    st.text(max_size=200),
    st.sampled_from(
        [
            "\r\nBcc: x@y.example",
            "\r\n\r\n--=_Rep23xyzABCD_report\r\nContent-Type: text/html\r\n\r\n<b>",
            "\n.\n",
            "{subject} {0}",
            "\u2028Action: delivered",
            "x" * 3000,
        ]
    ),
)


@st.composite
def _replies(draw: st.DrawFn) -> Reply:
    """Parsed replies, and unparsed ones that no parser would return."""
    code = draw(st.integers(200, 599))
    lines = tuple(draw(st.lists(_HOSTILE, min_size=1, max_size=4)))
    if draw(st.booleans()):
        return parse_reply([f"{code}-{line}".encode("utf-8", "surrogatepass") for line in lines])
    status = draw(
        st.none() | st.builds(EnhancedStatus, st.sampled_from((2, 4, 5)), st.integers(0, 999), st.integers(0, 999))
    )
    return Reply(code, status, lines)


@st.composite
def _addresses(draw: st.DrawFn) -> Address:
    """Addresses that parse_address accepts, also quoted ones."""
    quoted = draw(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=30))
    escaped = quoted.replace("\\", "\\\\").replace('"', '\\"')
    try:
        return parse_address(
            f'"{escaped}"@{draw(st.sampled_from(("kunde.example", "[192.0.2.1]", "[IPv6:2001:db8::1]")))}'
        )
    except AddressError:
        return CARL


_FIELDS = st.lists(
    st.tuples(st.sampled_from((b"Subject", b"Message-ID", b"To", b"X-Odd")), st.binary(max_size=300)), max_size=5
)


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from(list(ReportKind)),
    to=_addresses(),
    recipients=st.lists(
        st.builds(
            ReportedRecipient,
            path=_addresses(),
            reply=st.none() | _replies(),
            remote=st.none() | _HOSTILE,
            last_attempt=st.none() | st.just(NOW),
        ),
        min_size=1,
        max_size=4,
    ),
    fields=_FIELDS,
    body=st.binary(max_size=300),
    name=_HOSTILE,
)
def test_nothing_that_was_said_gets_out_of_its_place(
    kind: ReportKind,
    to: Address,
    recipients: list[ReportedRecipient],
    fields: list[tuple[bytes, bytes]],
    body: bytes,
    name: str,
) -> None:
    raw = b"".join(field + b": " + value.replace(b"\r\n", b"") + b"\r\n" for field, value in fields) + b"\r\n"
    stuffed = (b"\n" + body.replace(b"\r", b"").replace(b"\n", b"\r\n") + b"\r\n").replace(b"\n.", b"\n..")[1:]
    sent = Original(name, Message(HeaderSection(raw), MemoryBody(stuffed)), NOW - timedelta(hours=5))
    context = replace(CONTEXT, hostname=name, id=name)
    report = compose_report(kind, to, recipients, sent, context)
    wire = b"".join(report.message.blocks())
    assert b"\r" not in wire.replace(b"\r\n", b"")
    assert b"\n" not in wire.replace(b"\r\n", b"")
    assert not any(len(line) > 998 for line in wire.split(b"\r\n"))
    assert report.eight_bit is not wire.isascii()
    names = [field.name for field in report.message.header.fields()]
    allowed = ["In-Reply-To", "References"] if "In-Reply-To" in names else []
    assert names == [
        *("From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", *allowed, "MIME-Version", "Content-Type"),
        *(["Content-Transfer-Encoding"] if report.eight_bit else []),
    ]
    assert report.message.header.rest == b"\r\n"
    octets = (b"\n" + wire).replace(b"\n.", b"\n")[1:]
    text, status, returned = _messages(email.message_from_bytes(octets))
    assert [part.get_content_type() for part in (text, status)] == ["text/plain", "message/delivery-status"]
    assert returned.get_content_type() in ("message/rfc822", "text/rfc822-headers")
    groups = _messages(status)
    assert len(groups) == 1 + len(recipients)
    for group in groups[1:]:
        assert set(group.keys()) <= {
            *("Final-Recipient", "Action", "Status", "Remote-MTA", "Diagnostic-Code"),
            *("Last-Attempt-Date", "Will-Retry-Until"),
        }
        assert len(group.keys()) == len(set(group.keys()))
        assert not group.get_payload()


def test_the_letterhead_of_a_real_machine_is_taken_as_it_is() -> None:
    context = ReportContext("proxy.firma.example", ANNA, "Rep23xyzABCD", NOW)
    report = compose_report(ReportKind.FAILED, DORA, (ReportedRecipient(CARL),), original(), context)
    assert report.message.header.values("To") == [b" dora@amt.example"]
    text, _, _ = parts(b"".join(report.message.blocks()))
    assert "24.11.2026, 09:30 Uhr (UTC)" in text
