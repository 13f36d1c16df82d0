"""Lines in a header section that are no header field."""

import pytest

from senderproxy.mail.header import HeaderSection
from senderproxy.rewriting.edited_header import EditedHeader
from senderproxy.rewriting.stray_lines import StrayLine, without_stray_lines
from senderproxy.simulator.headers import header_faults

FIELDS = (
    b"From: Anna <anna@firma.example>\r\nTo: kunde@customer.example\r\n"
    b"Date: Sun, 29 Nov 2026 10:00:00 +0100\r\nSubject: Test\r\n"
)
BANNER = b"Microsoft Mail Internet Headers Version 2.0\r\n"
MBOX = b"From anna@firma.example Sun Nov 29 10:00:00 2026\r\n"
BOM = b"\xef\xbb\xbf"

# fmt: off
ALWAYS = [
    ("byte order mark", BOM + FIELDS + b"\r\n", FIELDS + b"\r\n"),
    ("mbox line", MBOX + FIELDS + b"\r\n", FIELDS + b"\r\n"),
    ("quoted mbox line", b">" + MBOX + FIELDS + b"\r\n", FIELDS + b"\r\n"),
    ("mark and mbox line", BOM + MBOX + FIELDS + b"\r\n", FIELDS + b"\r\n"),
    ("mbox line and mark", MBOX + BOM + FIELDS + b"\r\n", FIELDS + b"\r\n"),
    (
        "text at once",
        FIELDS + b"Task scan is done\r\nSee it\r\n\r\n",
        FIELDS + b"\r\nTask scan is done\r\nSee it\r\n\r\n",
    ),
    ("text at once, no empty line at all", FIELDS + b"Task scan is done", FIELDS + b"\r\nTask scan is done"),
    ("text with a colon later", FIELDS + b"Done\r\nresult: good\r\n\r\n", FIELDS + b"\r\nDone\r\nresult: good\r\n\r\n"),
    ("text alone", b"Guten Tag\r\nBert\r\n\r\n", b"\r\nGuten Tag\r\nBert\r\n\r\n"),
    ("mark and text", BOM + b"Guten Tag\r\n\r\n", b"\r\nGuten Tag\r\n\r\n"),
    ("mark, text at once", BOM + FIELDS + b"Guten Tag\r\n\r\n", FIELDS + b"\r\nGuten Tag\r\n\r\n"),
    ("text with a dot", FIELDS + b".htaccess\r\n\r\n", FIELDS + b"\r\n.htaccess\r\n\r\n"),
    ("8-bit text", FIELDS + b"Pr\xc3\xbcfung\r\n\r\n", FIELDS + b"\r\nPr\xc3\xbcfung\r\n\r\n"),
]
BANNERS = [
    ("banner", BANNER + FIELDS + b"\r\n", FIELDS + b"\r\n"),
    ("mark and banner", BOM + BANNER + FIELDS + b"\r\n", FIELDS + b"\r\n"),
    ("mbox line and banner", MBOX + BANNER + FIELDS + b"\r\n", FIELDS + b"\r\n"),
    ("line in between", b"Subject: x\r\nHTTP/1.1 200 OK\r\n" + FIELDS + b"\r\n", b"Subject: x\r\n" + FIELDS + b"\r\n"),
    ("mbox line in between", b"X-A: x\r\n" + MBOX + FIELDS + b"\r\n", b"X-A: x\r\n" + FIELDS + b"\r\n"),
    ("mark in between", b"X-A: x\r\n" + BOM + b"X-B: y\r\n" + FIELDS + b"\r\n", b"X-A: x\r\n" + FIELDS + b"\r\n"),
    ("banner, text at once", BANNER + FIELDS + b"Guten Tag\r\n\r\n", FIELDS + b"\r\nGuten Tag\r\n\r\n"),
]
NEVER = [
    ("two banners", BANNER + b"Version 3\r\n" + FIELDS + b"\r\n"),
    ("a folded banner", b"Subject: x\r\nbanner\r\n goes on\r\n" + FIELDS + b"\r\n"),
    ("continuation at the top", b" folded\r\n" + FIELDS + b"\r\n"),
]
# fmt: on


def _run(raw: bytes, *, lenient: bool) -> EditedHeader:
    edited = without_stray_lines(HeaderSection(raw), lenient=lenient)
    assert isinstance(edited, EditedHeader), edited
    header = HeaderSection(raw)
    for cut in edited.cuts:
        header = header.with_cut(cut)
    assert header.raw == edited.header.raw
    assert len(edited.changes) == len(edited.cuts)
    again = without_stray_lines(edited.header, lenient=lenient)
    assert isinstance(again, EditedHeader)
    assert again.cuts == ()
    return edited


@pytest.mark.parametrize("lenient", [True, False])
@pytest.mark.parametrize(("raw", "left"), [row[1:] for row in ALWAYS], ids=[row[0] for row in ALWAYS])
def test_marks_go_and_text_begins_the_body(raw: bytes, left: bytes, lenient: bool) -> None:
    assert _run(raw, lenient=lenient).header.raw == left


@pytest.mark.parametrize(("raw", "left"), [row[1:] for row in BANNERS], ids=[row[0] for row in BANNERS])
def test_a_banner_goes_on_a_lenient_listener_and_is_named_by_others(raw: bytes, left: bytes) -> None:
    header = _run(raw, lenient=True).header
    assert header.raw == left
    assert [fault for fault in header_faults(header.raw) if "not a header field" in fault] == []
    refused = without_stray_lines(HeaderSection(raw), lenient=False)
    assert isinstance(refused, StrayLine)
    assert refused.text


@pytest.mark.parametrize("lenient", [True, False])
@pytest.mark.parametrize("raw", [row[1] for row in NEVER], ids=[row[0] for row in NEVER])
def test_what_could_be_text_or_banner_is_refused(raw: bytes, lenient: bool) -> None:
    assert isinstance(without_stray_lines(HeaderSection(raw), lenient=lenient), StrayLine)


@pytest.mark.parametrize(
    "raw",
    [
        FIELDS + b"\r\n",
        FIELDS,
        b"",
        b"\r\n",
        b"From : anna@firma.example\r\n\r\n",
        b"X: " + BOM + b"\r\n\r\n",
        FIELDS + b"X-Long: a\r\n b\r\n\r\n",
        FIELDS + b"stray\r\n\xc2\xa0From: chef@firma.example\r\n\r\n",  # hidden: read_authors refuses it
        FIELDS + b"stray\r\n from: chef@firma.example\r\n\r\n",
        FIELDS + b"stray\r\nResent-From: chef@firma.example\r\n\r\n",
    ],
)
def test_another_header_stays(raw: bytes) -> None:
    edited = _run(raw, lenient=False)
    assert edited.header.raw == raw


def test_a_named_line_is_printable_and_short() -> None:
    refused = without_stray_lines(HeaderSection(b"\x1b[2J\xff" + b"x" * 500 + b"\r\n" + FIELDS), lenient=False)
    assert isinstance(refused, StrayLine)
    assert refused.text.isascii()
    assert refused.text.isprintable()
    assert len(refused.text) <= 60
