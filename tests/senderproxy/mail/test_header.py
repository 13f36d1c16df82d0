"""Header sections: fields, edits, and unchanged other bytes."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senderproxy.mail.header import Edit, Field, HeaderSection

MESSAGE = (
    b"Received: from scanner\r\n\tby mail.firma.example; Thu, 1 Jan 2026 08:00:00 +0100\r\n"
    b"From : Anna <anna@firma.example>\r\n"
    b"Subject:\r\n"
    b"X-Empty: \r\n"
    b"subject: again\r\n"
    b"\r\n"
)


def test_fields_are_found_as_they_were_written() -> None:
    section = HeaderSection(MESSAGE)
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
    section = HeaderSection(MESSAGE).with_first_field("Received", "from a\r\n\tby b")
    assert section.raw == b"Received: from a\r\n\tby b\r\n" + MESSAGE


@given(st.binary(max_size=300))
def test_whatever_it_holds_nothing_is_lost(raw: bytes) -> None:
    section = HeaderSection(raw)
    assert section.raw == raw
    assert raw.endswith(section.rest)
    fields, rest = section.split()
    assert sum(len(field.value) + len(field.name) for field in fields) + len(rest) <= len(raw)


def test_lines_that_begin_with_a_dot_travel_with_one_more() -> None:
    assert HeaderSection(b".a: b\r\n.c\r\n\r\n").dot_stuffed() == b"..a: b\r\n..c\r\n\r\n"
    assert HeaderSection(MESSAGE).dot_stuffed() == MESSAGE


@pytest.mark.parametrize("shape", [b"\r\n ", b" ", b"a", b"a:", b"a:\r\n", b":", b"\r\n"])
def test_a_very_long_section_is_read_in_linear_time(shape: bytes) -> None:
    began = time.process_time()
    HeaderSection(b"From:" + shape * 100_000).split()
    assert time.process_time() - began < 2


def test_an_edit_changes_the_field_it_names_and_no_other_octet() -> None:
    section = HeaderSection(b"A: 1\r\nSubject : old\r\n folded\r\nb:2\r\n\r\n")
    assert section.with_edits([Edit("Subject", b"new", 1)]).raw == b"A: 1\r\nSubject: new\r\nb:2\r\n\r\n"
    assert section.with_edits([Edit("Subject", None, 1)]).raw == b"A: 1\r\nb:2\r\n\r\n"
    added = section.with_edits([Edit("C", b"x,\r\n y")]).raw
    assert added == b"A: 1\r\nSubject : old\r\n folded\r\nb:2\r\nC: x,\r\n y\r\n\r\n"


def test_no_edits_leave_the_section_itself() -> None:
    section = HeaderSection(MESSAGE)
    assert section.with_edits([]) is section


@pytest.mark.parametrize("raw", [b"", b"A: 1", b"A: 1\r\n", b"\r\n", b"no field\r\n\r\n"])
def test_a_new_field_is_read_whatever_the_section_was(raw: bytes) -> None:
    assert HeaderSection(raw).with_edits([Edit("Date", b"x")]).values("Date") == [b" x"]


@pytest.mark.parametrize(
    "value", [b"a\r\nBcc: x@y.example", b"a\r\n", b"a\n b", b"a\r\n \r\n b", b"a\x00", "ä".encode(), b"a\r\n\r\nb"]
)
def test_no_edit_brings_in_a_line_of_its_own(value: bytes) -> None:
    with pytest.raises(ValueError, match="invalid value"):
        Edit("Subject", value)


@pytest.mark.parametrize("name", ["", "a b", "a:", "ä", "a\r\nb"])
def test_no_edit_makes_a_name_that_is_none(name: str) -> None:
    with pytest.raises(ValueError, match="invalid field name"):
        Edit(name, b"x")


def test_an_edit_of_a_field_that_is_not_there_is_a_fault() -> None:
    with pytest.raises(IndexError):
        HeaderSection(b"A: 1\r\n\r\n").with_edits([Edit("A", b"x", 1)])
    with pytest.raises(ValueError, match="two edits"):
        HeaderSection(b"A: 1\r\n\r\n").with_edits([Edit("A", b"x", 0), Edit("A", None, 0)])


def test_a_first_line_that_begins_with_a_blank_does_not_continue_an_added_field() -> None:
    header = HeaderSection(b" , mallory@evil.example\r\n\r\n").with_edits([Edit("From", b"anna@firma.example")])
    assert header.values("From") == [b" anna@firma.example"]
    assert header.rest == b"\r\n , mallory@evil.example\r\n\r\n"
