"""Headers that providers refuse at the end of DATA. The header check of the simulator decides."""

import time
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import default

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senderproxy.mail.address import parse_address
from senderproxy.mail.author import AuthorFields, UnreadableAuthor, read_authors
from senderproxy.mail.header import HeaderSection
from senderproxy.rewriting.edited_header import EditedHeader
from senderproxy.rewriting.repair import RepairContext, find_repairs, repair_author_fields
from senderproxy.simulator.headers import header_faults

NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
CONTEXT = RepairContext(NOW, "<new@proxy>", parse_address("scan@firma.example"), remove_bcc=False)
GOOD = {
    "From": "Anna <anna@firma.example>",
    "To": "carl@customer.example",
    "Date": "Tue, 24 Nov 2026 10:00:00 +0100",
    "Message-ID": "<1@firma.example>",
    "Subject": "Angebot",
}


def _section(
    fields: dict[str, str | bytes] | None = None, more: bytes = b"", **changed: str | bytes | None
) -> HeaderSection:
    given_ = {name: changed.get(name.replace("-", "_"), value) for name, value in (fields or GOOD).items()}
    lines = [
        name.encode() + b": " + (value if isinstance(value, bytes) else value.encode())
        for name, value in given_.items()
        if value is not None
    ]
    return HeaderSection(b"".join(line + b"\r\n" for line in lines) + more + b"\r\n")


def _repaired(header: HeaderSection, context: RepairContext = CONTEXT) -> HeaderSection:
    edited = EditedHeader(header)
    for _ in range(2):
        repairs = find_repairs(edited.header, context)
        edited = edited.with_edits([repair.edit for repair in repairs], [repair.change for repair in repairs])
    assert all(change.reason and change.what for change in edited.changes)
    assert find_repairs(edited.header, context) == ()
    return edited.header


def _value(header: HeaderSection, name: str) -> str:
    [value] = header.values(name)
    return value.decode().strip()


def test_a_header_that_is_in_order_is_left_alone() -> None:
    assert find_repairs(_section(), CONTEXT) == ()
    assert header_faults(_section().raw) == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [("Date", "Tue, 24 Nov 2026 09:30:00 +0000"), ("Message-ID", "<new@proxy>"), ("From", "scan@firma.example")],
)
def test_what_is_missing_is_added_below(name: str, value: str) -> None:
    header = _section({other: given_ for other, given_ in GOOD.items() if other != name})
    assert _repaired(header).raw == header.raw[:-2] + f"{name}: {value}\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("came", "meant"),
    [
        ("Tue, 24 Nov 26 10:00:00 +0100", "Tue, 24 Nov 2026 10:00:00 +0100"),
        ("24 Nov 2026 10:00", "Tue, 24 Nov 2026 10:00:00 +0000"),
        ("2026-11-24T10:00:00+01:00", "Tue, 24 Nov 2026 10:00:00 +0100"),
        ("2026-11-24 10:00:00", "Tue, 24 Nov 2026 10:00:00 +0000"),
        ("Di, 24 Nov 2026 10:00:00 +0100", "Tue, 24 Nov 2026 10:00:00 +0100"),
        ("Do., 24. Dez 2026 10:00:00 +0100", "Thu, 24 Dec 2026 10:00:00 +0100"),
        ("Thu, 01 Jan 1970 00:00:00", "Tue, 24 Nov 2026 09:30:00 +0000"),
        ("yesterday", "Tue, 24 Nov 2026 09:30:00 +0000"),
        ("", "Tue, 24 Nov 2026 09:30:00 +0000"),
        ("32 Nov 2026 25:00:00 +0100", "Tue, 24 Nov 2026 09:30:00 +0000"),
    ],
)
def test_a_date_is_read_as_it_is_meant(came: str, meant: str) -> None:
    assert _value(_repaired(_section(Date=came)), "Date") == meant


def test_a_replaced_date_is_kept_in_a_trace_field() -> None:
    for came in ("Sat, 01 Jan 2000 00:07:00 +0100", "yesterday", "1.1.1970 00:00", "übermorgen"):
        repaired = _repaired(_section(Date=came))
        assert _value(repaired, "Date") == "Tue, 24 Nov 2026 09:30:00 +0000"
        assert message_from_bytes(repaired.raw, policy=default)["X-Original-Date"] == came
    assert _repaired(_section(Date="")).values("X-Original-Date") == []


def test_an_old_date_stays() -> None:
    assert find_repairs(_section(Date="Sat, 1 Jan 2022 10:00:00 +0100"), CONTEXT) == ()
    assert _value(_repaired(_section(Date="2022-01-01T10:00:00+01:00")), "Date") == "Sat, 01 Jan 2022 10:00:00 +0100"


def test_no_octet_above_127_stays_in_a_date() -> None:
    came = "Thu, 1 Oct 2026 14:40:57 +0200 (Mitteleuropäische Sommerzeit)".encode("latin-1")
    assert _value(_repaired(_section(Date=came)), "Date") == "Thu, 01 Oct 2026 14:40:57 +0200"


@pytest.mark.parametrize(
    "came", ["24 Nov 2026 10:00 +0100", "Tue, 24 Nov 2026 10:00:00 GMT", "Tue,  1 Dec 2026 01:02:03 +0100 (CET)"]
)
def test_a_date_that_rfc_5322_prints_stays(came: str) -> None:
    assert find_repairs(_section(Date=came), CONTEXT) == ()


@pytest.mark.parametrize(
    ("came", "left"),
    [
        ("", "undisclosed-recipients:;"),
        ("KONICA @2. Etage <scan@firma.example>", '"KONICA @2. Etage" <scan@firma.example>'),
        ("carl@a.example, Büro: Nord <b@b.example>", 'carl@a.example,\r\n "B\u00fcro: Nord" <b@b.example>'),
        ("Müller <m@a.example>", "=?utf-8?b?TcO8bGxlcg==?= <m@a.example>"),
        ("<carl@a.example", "carl@a.example"),
        ("Carl carl@a.example", "Carl <carl@a.example>"),
        ("carl@a.example;", "carl@a.example"),
        ('"Berg, Anna" <a@a.example>, b@b.example', None),
        ("undisclosed-recipients:;", None),
        ("Undisclosed recipients", "undisclosed-recipients:;"),
        ("<undisclosed-recipients>", "undisclosed-recipients:;"),
        ('"Undisclosed-Recipients"', "undisclosed-recipients:;"),
        ("root", "undisclosed-recipients:;"),
        ("a@b@c.example", "undisclosed-recipients:;"),
        ("kunde@", "undisclosed-recipients:;"),
        ("Kunde [kunde@a.example]", "undisclosed-recipients:;"),
        ("kunde@a.example, a@b@c.example", 'kunde@a.example,\r\n "a@b@c.example":;'),
        ("kunde@a.example,", "kunde@a.example"),
        ("kunde@a.example,,bert@a.example", "kunde@a.example,\r\n bert@a.example"),
        ("kunde@a.example bert@a.example", "kunde@a.example,\r\n bert@a.example"),
        ("Kunde <kunde @ a.example>", "Kunde <kunde@a.example>"),
        ("<>", "undisclosed-recipients:;"),
        ("müller@a.example", "undisclosed-recipients:;"),
        ("root, carl@a.example", "root:;,\r\n carl@a.example"),
        ("müller@a.example, carl@a.example", "=?utf-8?b?bcO8bGxlckBhLmV4YW1wbGU=?=:;,\r\n carl@a.example"),
        ("Berg, Anna <a@a.example>, carl@a.example", '"Berg, Anna" <a@a.example>,\r\n carl@a.example'),
        ("carl@a.example; b@b.example;", "carl@a.example,\r\n b@b.example"),
        ("Carl <carl@a.example>; Berg <b@b.example>", "Carl <carl@a.example>,\r\n Berg <b@b.example>"),
        ("carl@a.example.", "carl@a.example"),
        ("Carl <carl@a.example.>, b@b.example", "Carl <carl@a.example>,\r\n b@b.example"),
        ("<@relay.example:carl@a.example>", "carl@a.example"),
        ("Carl <@r.example, @s.example:carl@a.example>", "Carl <carl@a.example>"),
        ("'carl@a.example'", "carl@a.example"),
        ("mailto:carl@a.example", "carl@a.example"),
        ("[SMTP:carl@a.example]", "carl@a.example"),
        ("carl@büro.example", "carl@xn--bro-hoa.example"),
        ("Team: a@a.example, b@b.example;", None),
    ],
)
def test_recipients_stay_readable(came: str, left: str | None) -> None:
    header = _section(To=came)
    repaired = _repaired(header)
    if left is None:
        assert repaired is header
    elif left.isascii():
        assert _value(repaired, "To") == left
    assert header_faults(repaired.raw) == ()


@pytest.mark.parametrize("name", ["Cc", "Reply-To"])
@pytest.mark.parametrize("value", ["root", "<>", "Scan Station", "müller@a.example"])
def test_another_field_without_an_address_is_removed(name: str, value: str) -> None:
    assert _repaired(_section({**GOOD, name: value})).values(name) == []


def test_latin_1_is_understood_as_well() -> None:
    repaired = _repaired(_section(Subject="Grüße aus Köln".encode("latin-1")))
    assert message_from_bytes(repaired.raw, policy=default)["Subject"] == "Grüße aus Köln"


@pytest.mark.parametrize(
    "subject", ["Grüße", "Angebot für Müller & Söhne Nr. 7", "見積書" * 40, "ä" * 500, "a ä b ö c"]
)
def test_a_raw_subject_reads_the_same_afterwards(subject: str) -> None:
    repaired = _repaired(_section(Subject=subject))
    assert message_from_bytes(repaired.raw, policy=default)["Subject"] == subject
    assert max(map(len, repaired.raw.split(b"\r\n"))) <= 80


def test_the_name_of_an_attachment_stays_inside_its_quotation_marks() -> None:
    header = _section(more='Content-Type: application/pdf; name="Übersicht.pdf"\r\n'.encode())
    value = _value(_repaired(header), "Content-Type")
    assert value.startswith('application/pdf; name="=?utf-8?b?')
    assert value.endswith('?="')


def test_fields_that_stand_twice_become_one() -> None:
    more = b"To: dora@b.example\r\nSubject: other\r\nDate: x\r\nCc: a@a.example\r\nCc: b@b.example\r\n"
    repaired = _repaired(_section(more=more))
    assert _value(repaired, "To") == "carl@customer.example,\r\n dora@b.example"
    assert _value(repaired, "Subject") == "Angebot"
    assert _value(repaired, "Cc") == "a@a.example,\r\n b@b.example"
    assert header_faults(repaired.raw) == ()


def test_an_invalid_date_that_stands_twice_is_mended_too() -> None:
    repaired = _repaired(_section(Date="x", more=b"Date: y\r\n"))
    assert _value(repaired, "Date") == "Tue, 24 Nov 2026 09:30:00 +0000"


def test_bcc_goes_where_the_setting_says_so_and_stays_else() -> None:
    header = _section(more=b"Bcc: boss@firma.example\r\nBcc: x@firma.example\r\n")
    without = RepairContext(NOW, "<new@proxy>", None, remove_bcc=True)
    assert _repaired(header, without).raw == _section().raw
    one = _section(more=b"Bcc: boss@firma.example\r\n")
    assert _repaired(one) is one


def test_a_line_far_too_long_is_folded() -> None:
    references = " ".join(f"<{number}@firma.example>" for number in range(200))
    header = _section(more=f"References: {references}\r\n".encode())
    repaired = _repaired(header)
    assert max(map(len, repaired.raw.split(b"\r\n"))) < 100
    assert _value(repaired, "References").replace("\r\n", "") == references


@pytest.mark.parametrize(
    ("came", "author"),
    [
        ("KONICA @2. Etage <scan@firma.example>", "scan@firma.example"),
        ("scanner@büro <scan@firma.example>", "scan@firma.example"),
        ("scan@firma.example>", "scan@firma.example"),
        ("Etage 2 scan@firma.example", "scan@firma.example"),
        ('"Etage 2 <scan@firma.example>', "scan@firma.example"),
        ("<a@a.example> <b@b.example>", None),
        ("a@a.example b@b.example", None),
    ],
)
def test_a_device_is_understood_where_there_is_one_way_to(came: str, author: str | None) -> None:
    header = _section(From=came)
    assert isinstance(read_authors(header), UnreadableAuthor)
    repairs = repair_author_fields(header)
    if author is None:
        assert repairs == ()
        return
    authors = read_authors(header.with_edits([repair.edit for repair in repairs]))
    assert isinstance(authors, AuthorFields)
    assert str(authors.from_[0].address) == author


_TEXT = st.one_of(
    st.text(max_size=60), st.sampled_from(["", "a@b.example", "Ä <x@y.example>", '"', "a,b", "=?x?q?y?="])
)
_BYTES = st.one_of(_TEXT.map(lambda text: text.encode("utf-8", "replace")), st.binary(max_size=40)).map(
    lambda raw: raw.replace(b"\r", b"").replace(b"\n", b"\r\n ").replace(b"\0", b"")
)
_NAMES = st.sampled_from(["To", "Cc", "Bcc", "Subject", "Date", "Reply-To", "Sender", "X-Any", "Message-ID"])


@given(st.lists(st.tuples(_NAMES, _BYTES), max_size=6), st.booleans())
def test_whatever_it_holds_it_is_repaired_once_and_no_field_comes_in(
    more: list[tuple[str, bytes]], remove_bcc: bool
) -> None:
    raw = b"".join(name.encode() + b": " + value + b"\r\n" for name, value in more)
    header = HeaderSection(b"From: anna@firma.example\r\n" + raw + b"\r\n")
    fields, rest = header.split()
    context = RepairContext(NOW, "<new@proxy>", None, remove_bcc)
    repaired = _repaired(header, context)
    left, left_rest = repaired.split()
    assert left_rest == rest
    allowed = {field.name.lower() for field in fields} | {"date", "message-id", "x-original-date"}
    assert {field.name.lower() for field in left} <= allowed
    assert len(left) <= len(fields) + 2
    assert all(field.value.isascii() for field in left)
    faults = [fault for fault in header_faults(repaired.raw) if not fault.startswith(("To cannot", "Sender", "a line"))]
    assert [fault for fault in faults if rest == b"\r\n" and "From" not in fault] == []


@pytest.mark.parametrize("line", [b"X-Long: " + b"x" * 980 + b"\r\n", b"X: y\r\n", b"X:\r\n " + b"x" * 980 + b"\r\n"])
def test_a_very_long_section_is_looked_through_in_linear_time(line: bytes) -> None:
    header = HeaderSection(b"From: anna@firma.example\r\n" + line * (1_000_000 // len(line)))
    header.split()
    began = time.process_time()
    find_repairs(header, CONTEXT)
    assert time.process_time() - began < 2  # CPU seconds; a careless expression takes five


@pytest.mark.parametrize("field", ["To", "Cc", "Bcc", "Reply-To", "Sender", "From"])
@pytest.mark.parametrize(
    "value", [b"a@b.example,\1", b"\1", b",\1,", b"\x7f <\1>", b"a@b.example,\r\n \1,\r\n c@d.example", b";,\2"]
)
def test_control_characters_alone_are_no_address(field: str, value: bytes) -> None:
    """Each such element became an empty line of a folded field, which an edit must not contain."""
    header = HeaderSection(field.encode() + b": " + value + b"\r\n\r\n")
    repairs = find_repairs(header, CONTEXT)
    edited = header.with_edits([repair.edit for repair in repairs])
    # A From without an address is refused elsewhere, with the reason.
    assert b"\1" not in edited.raw or (field, len(value)) in {("From", 1), ("From", 3)}
    assert b",\r\n \r\n" not in edited.raw


@pytest.mark.parametrize("field", ["X-Note", "Subject", "From", "To", "Date", "Message-ID"])
@pytest.mark.parametrize(
    "value", [b"word \1 " * 200, b" " * 1200 + b"\1", b"\1" + b" " * 1200, b"\x7f" * 1200, b"a\2" * 400]
)
def test_a_long_line_with_control_characters_is_folded_without_them(field: str, value: bytes) -> None:
    header = HeaderSection(field.encode() + b": " + value + b"\r\n\r\n")
    edited = _repaired(header)
    unfoldable = field == "From" or b" " not in value
    assert unfoldable or (b"\1" not in edited.raw and max(map(len, edited.raw.split(b"\r\n"))) <= 998)


@pytest.mark.parametrize("name", ["Subject", "X-Report"])
def test_a_word_of_a_text_that_cannot_be_folded_is_encoded(name: str) -> None:
    text = "Bericht https://firma.example/" + "x" * 3000 + " " + "y" * 1200 + " Ende"
    repaired = _repaired(_section({**GOOD, name: text}))
    assert max(map(len, repaired.raw.split(b"\r\n"))) <= 998
    assert message_from_bytes(repaired.raw, policy=default)[name] == text


def test_a_word_of_a_field_with_a_grammar_stays() -> None:
    header = _section({**GOOD, "References": "<" + "x" * 3000 + "@firma.example>"})
    assert find_repairs(header, CONTEXT) == ()
