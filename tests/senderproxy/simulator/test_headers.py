"""Header check of the simulated provider."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senderproxy.simulator.headers import authors_of, header_faults, is_date

DATE = "Date: Mon, 24 Nov 2025 09:00:00 +0100\r\n"
FROM = "From: Anna <anna@firma.example>\r\n"
TO = "To: bert@kunde.example\r\n"


def message(*fields: str) -> bytes:
    return ("".join(fields) + "\r\nBody: is not a header ß\r\n").encode()


@pytest.mark.parametrize(
    "fields",
    [
        (DATE, FROM, TO),
        (DATE, FROM),  # To may be missing, it may not be empty
        (DATE, "From: anna@firma.example\r\n", TO),
        (DATE, "From: =?utf-8?q?Anna_M=C3=BCller?= <anna@firma.example>\r\n", TO),
        (DATE, 'From: "Müller, Anna"'.replace("ü", "ue") + " <anna@firma.example>\r\n", TO),
        (DATE, "From: Anna (in the (front) office) <anna@firma.example> (Ms.)\r\n", TO),
        (DATE, 'From: "a b"@firma.example\r\n', TO),
        (DATE, "From: Dr. Anna J. Mueller <anna@firma.example>\r\n", TO),
        (DATE, "From: <@relay.example,@other.example:anna@firma.example>\r\n", TO),
        (DATE, "From: anna@[192.0.2.1]\r\n", TO),
        (DATE, "From: anna@firma.example, carl@firma.example\r\n", "Sender: carl@firma.example\r\n", TO),
        (DATE, FROM, "To: undisclosed-recipients:;\r\n"),
        (DATE, FROM, "To: Kunden: bert@kunde.example, Dora <dora@kunde.example>; , emil@kunde.example\r\n"),
        (DATE, FROM, "To: bert@kunde.example,\r\n dora@kunde.example\r\n"),
        ("date : 24 Nov 2025 09:00 GMT\r\n", "FROM : anna@firma.example\r\n", TO),
        (DATE, FROM, TO, "Received: from a\r\n", "Received: from b\r\n"),
    ],
)
def test_a_proper_letter_passes(fields: tuple[str, ...]) -> None:
    assert header_faults(message(*fields)) == ()


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ((FROM, TO), "Date is missing"),
        ((DATE, TO), "From is missing"),
        (("Date: yesterday\r\n", FROM, TO), "invalid Date"),
        ((DATE, DATE, FROM, TO), "Date occurs 2 times"),
        ((DATE, FROM, FROM, TO), "From occurs 2 times"),
        ((DATE, FROM, TO, TO), "To occurs 2 times"),
        ((DATE, FROM, TO, "Cc: a@b.example\r\n", "CC: a@b.example\r\n"), "Cc occurs 2 times"),
        ((DATE, FROM, TO, "Subject: a\r\n", "Subject: b\r\n"), "Subject occurs 2 times"),
        ((DATE, FROM, TO, "Bcc: a@b.example\r\n", "Bcc: a@b.example\r\n"), "Bcc occurs 2 times"),
        ((DATE, FROM, "To:\r\n"), "To is empty"),
        ((DATE, FROM, "To: \r\n \r\n"), "To is empty"),
        ((DATE, "From: Straße <a@firma.example>\r\n", TO), "octets above 127"),
        ((DATE, "From: anna\r\n", TO), "From cannot be read"),
        ((DATE, "From: Anna anna@firma.example\r\n", TO), "From cannot be read"),
        ((DATE, "From: Anna <anna@firma.example\r\n", TO), "From cannot be read"),
        ((DATE, "From: boss@firma.example <anna@firma.example>\r\n", TO), "From cannot be read"),
        ((DATE, "From: anna..m@firma.example\r\n", TO), "From cannot be read"),
        ((DATE, "From: anna@firma.example.\r\n", TO), "From cannot be read"),
        ((DATE, "From: Team: anna@firma.example;\r\n", TO), "From cannot be read"),
        ((DATE, 'From: "Anna <anna@firma.example>\r\n', TO), "From cannot be read"),
        ((DATE, "From: (((anna@firma.example\r\n", TO), "a comment is not closed"),
        ((DATE, "From: <>\r\n", TO), "From cannot be read"),
        ((DATE, "From: <@relay.example anna@firma.example>\r\n", TO), "From cannot be read"),
        ((DATE, FROM, "To: bert@kunde.example,\r\n"), "To cannot be read"),
        ((DATE, FROM, "To: Kunden: bert@kunde.example\r\n"), "a group is not closed"),
        ((DATE, FROM, "Sender: a@b.example, c@d.example\r\n", TO), "Sender has more than one mailbox"),
        ((DATE, FROM, "Sender: me\r\n", TO), "Sender cannot be read"),
        ((DATE, "this is no field\r\n", FROM, TO), "not a header field"),
    ],
)
def test_a_letter_that_ionos_refuses_is_refused_with_the_reason(fields: tuple[str, ...], fault: str) -> None:
    faults = header_faults(message(*fields))
    assert any(fault in found for found in faults), faults


def test_a_letter_without_a_header_lacks_date_and_author() -> None:
    assert header_faults(b"\r\nhello\r\n") == ("Date is missing", "From is missing")


def test_the_body_is_none_of_its_business() -> None:
    assert header_faults(message(DATE, FROM, TO) + b"From: x\r\nDate: y\r\n\xff\r\n") == ()


def test_authors_are_read_in_order_and_an_unreadable_from_has_none() -> None:
    assert authors_of(message(DATE, "From: A <a@Firma.Example>, b@x.example\r\n")) == ("a@firma.example", "b@x.example")
    assert authors_of(message(DATE, "From: nobody\r\n")) == ()


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("Mon, 24 Nov 2025 09:00:00 +0100", True),
        (" 1 Jan 2026 00:00:00 -0000 (UTC)", True),
        ("1 Jan 2026 00:00 GMT", True),
        ("Mon 24 Nov 2025 09:00:00 +0100", False),
        ("2025-11-24 09:00:00", False),
        ("32 Jan 2026 00:00:00 +0000", False),
        ("1 Jan 2026 24:00:00 +0000", False),
        ("1 Jänner 2026 10:00:00 +0000", False),
        ("1 Jan 26 10:00:00 +0000", False),
        ("", False),
    ],
)
def test_a_date_is_a_date_of_the_standard(text: str, good: bool) -> None:
    assert is_date(text) is good


@given(st.binary(max_size=200))
def test_no_header_whatever_makes_it_stumble(noise: bytes) -> None:
    header_faults(noise)
    header_faults(b"From: " + noise + b"\r\nTo: " + noise + b"\r\n\r\n")
    authors_of(b"From: " + noise + b"\r\n\r\n")
