"""Any header section: repairs end, and leave nothing to repair; edits change their fields only; authors are read."""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from hypothesis import example, given
from hypothesis import strategies as st

from senderproxy.mail.address import parse_address
from senderproxy.mail.author import AuthorFields, MailboxError, UnreadableAuthor, read_authors, read_mailboxes
from senderproxy.mail.display import decode_words, encode_phrase, encode_unstructured
from senderproxy.mail.header import Edit, HeaderSection
from senderproxy.rewriting.edited_header import render_mailboxes
from senderproxy.rewriting.repair import RepairContext, find_repairs, repair_author_fields
from tests.fuzz.octets import MESSAGES, NAMES, VALUES, received
from tests.fuzz.profile import fuzzed

NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
CONTEXTS = st.builds(
    RepairContext,
    st.just(NOW),
    st.just("<id@relay.example>"),
    st.sampled_from([None, parse_address("anna@firma.example")]),
    remove_bcc=st.booleans(),
)


def raw_fields(header: HeaderSection) -> list[bytes]:
    """The octets of each field, found without the parser under test: a field begins at a line without a blank."""
    fields, rest = header.split()
    raw = header.raw[: len(header.raw) - len(rest)]
    found = [piece + b"\r\n" for piece in re.split(rb"\r\n(?![ \t])", raw.removesuffix(b"\r\n"))] if raw else []
    assert len(found) == len(fields)
    return found


def applied(header: HeaderSection, edits: list[Edit]) -> list[bytes]:
    """The fields after these edits, by the definition of an edit."""
    fields: list[bytes] = raw_fields(header)
    for edit in edits:
        octets = b"" if edit.value is None else edit.name.encode() + b": " + edit.value + b"\r\n"
        if edit.index is None:
            fields.append(octets)
        else:
            fields[edit.index] = octets
    return [field for field in fields if field]


def rest_after(header: HeaderSection, edits: list[Edit]) -> bytes:
    """The same lines; one that begins with a blank does not continue an added field."""
    added = any(edit.index is None for edit in edits)
    return b"\r\n" + header.rest if added and header.rest[:1] in (b" ", b"\t") else header.rest


@fuzzed(150)
@given(MESSAGES, CONTEXTS)
@example(b"To: \x01,\r\nTo: ;\r\nDate: \xe4\r\nDate:\r\n", RepairContext(NOW, "<id@x>", None, remove_bcc=False))
def test_a_repaired_header_needs_no_repair_and_keeps_its_other_fields(octets: bytes, context: RepairContext) -> None:
    header, _ = received(octets)
    for _ in range(2):  # repeated fields first, then the remaining one
        edits = [repair.edit for repair in find_repairs(header, context)]
        edited = header.with_edits(edits)
        assert raw_fields(edited) == applied(header, edits)
        assert edited.rest == rest_after(header, edits)
        header = edited
    assert find_repairs(header, context) == ()


@fuzzed(150)
@given(MESSAGES)
def test_repaired_author_fields_can_be_read(octets: bytes) -> None:
    header, _ = received(octets)
    edits = [repair.edit for repair in repair_author_fields(header)]
    repaired = header.with_edits(edits)
    assert raw_fields(repaired) == applied(header, edits)
    for edit in edits:
        assert edit.value is not None
        assert len(read_mailboxes(edit.value)) == 1
    assert repair_author_fields(repaired) == ()


@fuzzed(100)
@given(MESSAGES, st.data())
def test_an_edit_changes_its_field_and_no_other_octet(octets: bytes, data: st.DataObject) -> None:
    header, _ = received(octets)
    count = len(header.split()[0])
    values = st.sampled_from([b"", b"new", b"one\r\n two", b"a: b"])
    indexes = data.draw(st.lists(st.integers(0, count - 1), max_size=3, unique=True)) if count else []
    names = NAMES.map(lambda name: name.decode())
    edits = [Edit(data.draw(names), data.draw(values | st.none()), index) for index in indexes]
    edits += [Edit(data.draw(names), value) for value in data.draw(st.lists(values, max_size=2))]
    edited = header.with_edits(edits)
    assert raw_fields(edited) == applied(header, edits)
    assert edited.rest == rest_after(header, edits)


@fuzzed(200)
@given(VALUES)
def test_an_edit_takes_no_value_that_adds_a_field(value: bytes) -> None:
    try:
        edit = Edit("X-Note", value)
    except ValueError:
        return
    header = HeaderSection(b"From: a@b.example\r\n\r\n").with_edits([edit])
    assert [field.name for field in header.fields()] == ["From", "X-Note"]
    assert header.rest == b"\r\n"


@fuzzed(200)
@given(VALUES)
def test_mailboxes_that_were_read_are_read_again_from_what_is_written(value: bytes) -> None:
    try:
        mailboxes = read_mailboxes(value)
    except MailboxError:
        return
    written = Edit("From", render_mailboxes(mailboxes)).value
    assert written is not None
    again = read_mailboxes(written)
    assert [mailbox.address.key for mailbox in again] == [mailbox.address.key for mailbox in mailboxes]


@fuzzed(150)
@given(MESSAGES)
def test_authors_are_read_or_refused(octets: bytes) -> None:
    header, _ = received(octets)
    assert isinstance(read_authors(header), AuthorFields | UnreadableAuthor)


@fuzzed(200)
@given(VALUES)
def test_a_date_is_valid_after_its_repair_and_kept_if_it_was_replaced(value: bytes) -> None:
    header, _ = received(b"From: a@b.example\r\nMessage-ID: <a@b>\r\nDate: " + value.replace(b"\r\n", b"") + b"\r\n")
    repairs = find_repairs(header, RepairContext(NOW, "<id@x>", None, remove_bcc=False))
    values = {repair.edit.name: repair.edit.value for repair in repairs}
    assert set(values) <= {"Date", "X-Original-Date"}
    if not repairs:
        return
    assert all(value is not None and value.isascii() for value in values.values())
    date = parsedate_to_datetime((values["Date"] or b"").decode("ascii"))
    if "X-Original-Date" in values:
        assert date == NOW


@fuzzed(200)
@given(st.text(max_size=120), VALUES)
def test_any_text_becomes_one_field(text: str, value: bytes) -> None:
    shown = decode_words(value) or ""
    printable = "".join(character if character.isprintable() else " " for character in text)
    for written in (
        encode_phrase(text),
        encode_phrase(shown),
        encode_unstructured(printable),
        encode_unstructured(shown),
    ):
        header = HeaderSection(b"From: a@b.example\r\n\r\n").with_edits([Edit("Subject", written)])
        assert len(header.split()[0]) == 2
        assert max(map(len, written.split(b"\r\n"))) <= 998
