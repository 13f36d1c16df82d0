"""Footers in any tree of parts, against a second reading of the rules; memory; hostile structures."""

import tracemalloc
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from html import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senderproxy.footer import reasons
from senderproxy.footer.add_footer import AddFooter
from senderproxy.mail.header import HeaderSection
from senderproxy.rewriting.content_change import Unchanged
from tests.senderproxy.footer.reading import ADDRESS, ASCII, EURO, FOOTERS, LATIN, NAME, assert_footers, with_footer
from tests.senderproxy.footer.shapes import FORWARDED, ICS, attached, html, image, letter, multi, text

words = st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=120), max_size=6).map(
    "\r\n".join
)
latin = st.lists(st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=120), max_size=6).map(
    "\r\n".join
)
encodings = st.sampled_from(["8bit", "quoted-printable", "base64"])


def document(content: str) -> str:
    return f"<html><body><p>{escape(content)}</p></body></html>\r\n"


texts = st.one_of(
    st.builds(text, words, st.just("utf-8"), encodings),
    st.builds(text, latin, st.just("iso-8859-1"), encodings),
    st.builds(lambda content, encoding: html(document(content), "utf-8", encoding), words, encodings),
    st.builds(lambda content, encoding: html(document(content), "windows-1252", encoding), st.just("Grüße"), encodings),
)
others = st.sampled_from([attached(), image(), FORWARDED, attached(b"Notiz\r\n", "text/plain", "notiz.txt")])
trees = st.recursive(
    st.one_of(texts, others),
    lambda inner: st.builds(
        lambda subtype, parts: multi(subtype, *parts),
        st.sampled_from(["alternative", "mixed", "related", "x-firma"]),
        st.lists(inner, min_size=1, max_size=4),
    ),
    max_leaves=8,
)


def count_texts(part: Message) -> int:
    """The number of texts that get a footer, read from Python's tree."""
    subtype = part.get_content_subtype()
    if part.get_content_maintype() == "multipart":
        inner = [count_texts(each) for each in part.get_payload() if isinstance(each, Message)]
        if subtype == "alternative":
            return sum(inner)
        return inner[0] if subtype == "related" else next(filter(None, inner), 0)
    return int(part.get_content_type() in ("text/plain", "text/html") and part.get_filename() is None)


@given(trees, st.sampled_from(sorted(FOOTERS)))
def test_any_tree_stays_and_each_text_gets_the_footer_once(body: bytes, name: str) -> None:
    raw = letter(body)
    expected = count_texts(message_from_bytes(raw))
    result = with_footer(raw, FOOTERS[name])
    assert result == with_footer(raw, FOOTERS[name], cut=11)
    if expected == 0:
        assert isinstance(result, Unchanged)
        assert result.reason == reasons.ATTACHED_ONLY
        return
    assert isinstance(result, bytes), result
    assert_footers(raw, result, FOOTERS[name], expected)
    assert isinstance(with_footer(result, FOOTERS[name]), Unchanged)


@given(st.lists(st.sampled_from([
    b"--b", b"--b--", b"--b2", b"--", b"--b ", b"", b"Content-Type: text/html", b"Content-Type: multipart/mixed; boundary=b2",
    b"Content-Type: text/plain; charset=utf-8", b"Content-Transfer-Encoding: quoted-printable", b"Content-Transfer-Encoding: base64",
    b"text", b"=", b"=C3=", b"QUJD", b"<!--", b"-->", b"</body>", b"<p a='", b"\xfc",
]), max_size=30), st.sampled_from([b"multipart/mixed; boundary=b", b"multipart/alternative; boundary=b", b"text/plain"]))  # fmt: skip
def test_any_lines_leave_as_they_are_or_with_more_lines(lines: list[bytes], kind: bytes) -> None:
    """Without a footer all octets are there, in their order: those of the footer are the only new ones."""
    raw = b"From: anna@firma.example\r\nContent-Type: " + kind + b"\r\n\r\n" + b"\r\n".join([*lines, b""])
    results = {with_footer(raw, ASCII, cut) for cut in (1, 13, 1 << 20)}
    [result] = results
    if isinstance(result, Unchanged):
        assert result.reason != reasons.BOUNDARY
        return
    assert result.endswith(b"\r\n")
    assert len(result) > len(raw)
    boundaries = [line for line in result.split(b"\r\n") if line.startswith(b"--") and line != b"-- "]
    assert boundaries == [line for line in raw.split(b"\r\n") if line.startswith(b"--")]


@pytest.mark.parametrize("kind", ["text/plain", "text/html"])
@pytest.mark.parametrize("encoding", ["8bit", "quoted-printable", "base64", "re-encoded"])
def test_memory_does_not_grow_with_the_message(kind: str, encoding: str) -> None:
    line = b"QUJD" * 19 + b"\r\n" if encoding == "base64" else b"Gr=C3=BC " * 8 + b"\r\n"
    charset = "iso-8859-2" if encoding == "re-encoded" else "utf-8"
    field = "8bit" if encoding == "re-encoded" else encoding
    header = HeaderSection(
        f"Content-Type: {kind}; charset={charset}\r\nContent-Transfer-Encoding: {field}\r\n\r\n".encode()
    )
    written = 0

    def write(octets: bytes) -> None:
        nonlocal written
        written += len(octets)

    def blocks() -> Iterator[bytes]:
        for _ in range(60):
            yield line * 2000

    tracemalloc.start()
    result = AddFooter(EURO, NAME, ADDRESS).apply(header, blocks(), write)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert not isinstance(result, Unchanged)
    assert written > 8_000_000
    assert peak < 3_000_000


def test_a_line_of_the_footer_that_looks_like_a_boundary_is_not_added() -> None:
    for boundary, expected in (("- Firma", False), ("Firma", True)):
        part = text("Hello\r\n", "us-ascii", "7bit")
        footer = type(ASCII)((), "Firma\n--- Firma GmbH\n")
        result = with_footer(letter(multi("mixed", part, boundary=boundary)), footer)
        assert isinstance(result, bytes) is expected
        quoted = with_footer(
            letter(multi("mixed", text("Hello\r\n", encoding="quoted-printable"), boundary=boundary)), footer
        )
        assert isinstance(quoted, bytes)


@pytest.mark.parametrize(
    ("content", "is_there"),
    [
        ("Firma GmbH · Köln", True),
        ("> > Firma GmbH · Köln\r\n> mehr", True),
        ("> Firma GmbH ·\r\n> Köln\r\n", True),
        ("Die Firma GmbH · Köln schreibt", False),
        ("Firma GmbH · Köln-Deutz", False),
        ("Firma GmbH, Bonn", False),
        ("x" * 5000 + "\r\nFirma GmbH · Köln\r\n" + "y" * 5000, True),
    ],
)
@pytest.mark.parametrize("is_html", [False, True])
def test_the_first_line_counts_as_a_line_of_its_own_also_quoted_and_wrapped(
    content: str, is_there: bool, is_html: bool
) -> None:
    lines = [escape(line).replace("GmbH", "<b>Gmb</b>H").replace("ö", "&ouml;") for line in content.split("\r\n")]
    part = html("<body><p>" + "<br>".join(lines) + "</p></body>\r\n") if is_html else text(content + "\r\n")
    result = with_footer(letter(part), LATIN)
    assert isinstance(result, Unchanged) is is_there


def test_a_name_is_text_in_html() -> None:
    result = with_footer(letter(html()), LATIN, name='<script>"{address}"&')
    assert isinstance(result, bytes)
    assert b"&lt;script&gt;&quot;{address}&quot;&amp; &lt;anna@firma.example&gt;" in result


def test_a_footer_in_an_invitation_that_is_the_last_part_is_not_sent() -> None:
    result = with_footer(letter(multi("mixed", multi("alternative", text(), html(), ICS), attached())))
    assert isinstance(result, Unchanged)
    assert result.reason == reasons.CALENDAR
