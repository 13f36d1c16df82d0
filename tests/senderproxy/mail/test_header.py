"""A header section is found in, added to, and otherwise left alone."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senderproxy.mail.header import Field, HeaderSection

LETTER = (
    b"Received: from scanner\r\n\tby mail.firma.example; Thu, 1 Jan 2026 08:00:00 +0100\r\n"
    b"From : Anna <anna@firma.example>\r\n"
    b"Subject:\r\n"
    b"X-Empty: \r\n"
    b"subject: again\r\n"
    b"\r\n"
)


def test_fields_are_found_as_they_were_written() -> None:
    section = HeaderSection(LETTER)
    assert [field.name for field in section.fields()] == ["Received", "From", "Subject", "X-Empty", "subject"]
    assert next(section.fields()).value == b" from scanner\r\n\tby mail.firma.example; Thu, 1 Jan 2026 08:00:00 +0100"
    assert section.values("SUBJECT") == [b"", b" again"]
    assert section.rest == b"\r\n"


def test_a_section_without_its_blank_line_is_read_to_its_end() -> None:
    section = HeaderSection(b"From: a@b.example\r\nTo: c@d.example")
    assert list(section.fields()) == [Field("From", b" a@b.example"), Field("To", b" c@d.example")]
    assert section.rest == b""


@pytest.mark.parametrize(
    "line", [b"no field at all", b" begins with a blank: x", b": no name", b"N\xc3\xa4me: x", b"a\x00b: x", b"a b: x"]
)
def test_reading_stops_at_the_first_line_that_is_no_field(line: bytes) -> None:
    section = HeaderSection(b"To: x@y.example\r\n" + line + b"\r\nFrom: a@b.example\r\n\r\n")
    if line.startswith(b" "):
        assert [field.name for field in section.fields()] == ["To", "From"], "it continues the field above"
    else:
        assert [field.name for field in section.fields()] == ["To"]
        assert section.rest == line + b"\r\nFrom: a@b.example\r\n\r\n"


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\r\n"])
def test_another_line_end_than_crlf_ends_the_reading(end: bytes) -> None:
    section = HeaderSection(b"To: x@y.example\r\nSubject: a" + end + b"From: a@b.example\r\n\r\n")
    assert [field.name for field in section.fields()] == ["To"]


def test_a_field_on_top_changes_no_octet_below_it() -> None:
    section = HeaderSection(LETTER).with_field_on_top("Received", "from a\r\n\tby b")
    assert section.raw == b"Received: from a\r\n\tby b\r\n" + LETTER


@given(st.binary(max_size=300))
def test_whatever_it_holds_nothing_is_lost(raw: bytes) -> None:
    section = HeaderSection(raw)
    assert section.raw == raw
    assert raw.endswith(section.rest)
    fields, rest = section.split()
    assert sum(len(field.value) + len(field.name) for field in fields) + len(rest) <= len(raw)


def test_lines_that_begin_with_a_dot_travel_with_one_more() -> None:
    assert HeaderSection(b".a: b\r\n.c\r\n\r\n").stuffed() == b"..a: b\r\n..c\r\n\r\n"
    assert HeaderSection(LETTER).stuffed() == LETTER


@pytest.mark.parametrize("shape", [b"\r\n ", b" ", b"a", b"a:", b"a:\r\n", b":", b"\r\n"])
def test_a_very_long_section_is_read_in_linear_time(shape: bytes) -> None:
    began = time.process_time()
    HeaderSection(b"From:" + shape * 100_000).split()
    assert time.process_time() - began < 2
