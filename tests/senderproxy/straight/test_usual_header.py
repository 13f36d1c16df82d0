"""The strict check of a header section: what passes leaves as it is, and nothing in it but two lines decides."""

import random
from datetime import UTC, datetime

import pytest

from senderproxy.mail.header import HeaderSection
from senderproxy.rewriting.repair import RepairContext, find_repairs
from senderproxy.straight.usual_header import HEADER_LIMIT, author_lines
from tests.senderproxy.straight.conversations import draw_mail

USUAL = (
    b"From: Anna <anna@firma.example>\r\nTo: <kunde@kunde.example>\r\nSubject: Angebot\r\n"
    b"Date: Sat, 31 Jan 2026 08:15:00 +0100\r\nMessage-ID: <1@firma.example>\r\n\r\n"
)
FIELDS = 100


def with_line(line: bytes) -> bytes:
    return line + b"\r\n" + USUAL


@pytest.mark.parametrize(
    "line",
    [
        b"X-Mailer: x", b"References: <1@x>\r\n\t<2@x>", b"Reply-To: bert@firma.example", b"Cc: a@x.example, B <b@x.example>",
        b"Received: from a by b; Sat, 31 Jan 2026 08:15:00 +0100", b"Sender: bert@firma.example", b"MIME-Version: 1.0",
    ],
)  # fmt: skip
def test_a_usual_section_passes(line: bytes) -> None:
    found = author_lines(with_line(line), FIELDS)
    assert found == (b" Anna <anna@firma.example>", b" bert@firma.example" if line.startswith(b"Sender") else b"")


@pytest.mark.parametrize(
    "raw",
    [
        with_line(b"From: bert@firma.example"), with_line(b"Date: Sat, 31 Jan 2026 08:15:00 +0100"), with_line(b"Bcc: a@x.example"),
        with_line(b"Subject: zwei"), with_line(b"To: a@x.example"), with_line(b"Resent-From: bert@firma.example"),
        with_line(b"resent-sender: bert@firma.example"), with_line(b"Auto-Submitted: auto-replied"),
        with_line(b"Delivered-To: bert@firma.example"), with_line(b"X-Sieve-Redirected-From: bert@firma.example"),
        with_line(b"X-Senderproxy-Loop: relay.firma.example"), with_line(b"Received: by x (senderproxy) with ESMTP id 1"),
        with_line(b"Sender: bert@firma.example\r\nReceived: from a by b"), with_line(b"Cc: broken@"), with_line(b"Reply-To:"),
        with_line(b"not a field"), with_line(b"X : y"), with_line(b" continues nothing"), with_line(b".dotted: 1"),
        with_line(b"X-Umlaut: \xc3\xa4"), with_line(b"X-Long: " + b"x" * 1000),
        USUAL.replace(b"Date: Sat, 31 Jan 2026", b"Date: Sat, 31 Jan 1970"), USUAL.replace(b"08:15:00", b"25:15:00"),
        USUAL.replace(b"Date: ", b"X-Date: "), USUAL.replace(b"Message-ID", b"X-ID"), USUAL.replace(b"From", b"X-From"),
        USUAL[:-2], b"X: y\r\n" * (FIELDS - 4) + USUAL, b"X: y\r\n" * HEADER_LIMIT + USUAL,
        b"Received: a\r\n" * 41 + USUAL,
    ],
)  # fmt: skip
def test_a_section_with_anything_else_does_not(raw: bytes) -> None:
    assert author_lines(raw, FIELDS) is None


def test_what_passes_needs_no_repair() -> None:
    """For each section that the generated conversations have."""
    draw = random.Random("headers")
    context = RepairContext(datetime(2026, 1, 31, tzinfo=UTC), "<1@relay.example>", None, remove_bcc=True)
    passed = 0
    for _ in range(2_000):
        octets = draw_mail(draw, 0.4, 0.0).octets
        raw = octets[: octets.find(b"\r\n\r\n") + 4]
        if author_lines(raw, FIELDS) is not None:
            passed += 1
            assert find_repairs(HeaderSection(raw), context) == ()
    assert 500 < passed < 1_900
