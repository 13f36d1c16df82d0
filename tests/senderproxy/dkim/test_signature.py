"""Signatures on the corpus, verified by dkimpy; and the changes after which none is valid."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senderproxy.dkim.choice import author_domain
from senderproxy.mail.header import HeaderSection
from tests.senderproxy.dkim.signing import DOMAIN, corpus, private_key, signed, signing_key, split, verified

CORPUS = dict(corpus())
# dkimpy refuses blanks before a colon and lines that are no fields; the program sends no such header section.
READABLE = {
    name: raw
    for name, raw in CORPUS.items()
    if split(raw)[0].rest == b"\r\n" and not re.search(rb"(?m)^[!-~]+[ \t]+:", split(raw)[0].raw)
}
LETTER = (
    b"Received: from a by b; Sat, 31 Jan 2026 08:15:00 +0100\r\n"
    b"From: Anna <anna@firma.example>\r\nTo: x@kunde.example\r\nSubject: Hallo  Welt\r\n"
    b"Date: Sat, 31 Jan 2026 08:15:00 +0100\r\nMessage-ID: <1@x>\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nX-Other: y\r\n\r\nGuten  Tag,\t\r\n\r\nAnna\r\n\r\n"
)


def tag(raw: bytes, name: str) -> str:
    """A tag of the topmost signature, without blanks."""
    value = split(raw)[0].values("DKIM-Signature")[0].decode().translate({ord(c): None for c in " \t\r\n"})
    return dict(part.partition("=")[::2] for part in value.split(";"))[name]


@pytest.mark.parametrize("name", READABLE)
def test_dkimpy_verifies_every_message_of_the_corpus(name: str) -> None:
    after = signed(READABLE[name])
    assert after.startswith(b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=firma.example;\r\n s=sp1; ")
    assert after.endswith(READABLE[name])
    assert verified(after)


def test_the_corpus_is_large() -> None:
    assert len(READABLE) >= 50


@pytest.mark.parametrize("cut", [1, 2, 7, 4096])
def test_the_blocks_of_the_body_do_not_matter(cut: int) -> None:
    assert signed(LETTER, cut=cut) == signed(LETTER)


def test_the_signed_fields() -> None:
    after = signed(LETTER)
    assert tag(after, "h").split(":") == [
        *("From", "From", "To", "To", "Subject", "Subject", "Date", "Date"),
        *("Message-ID", "MIME-Version", "Content-Type"),
    ]
    assert tag(after, "t") == "1795953600"
    value = split(after)[0].values("DKIM-Signature")[0]
    assert not re.search(rb"[;\s]l=", value)
    assert max(map(len, (b"DKIM-Signature:" + value).split(b"\r\n"))) <= 78


@pytest.mark.parametrize(
    "change",
    [
        (b"Subject: Hallo", b"Subject: hallo"),
        (b"To: x@", b"To: y@"),
        (b"From: Anna", b"From: Anne"),
        (b"Message-ID: <1@x>", b"Message-ID: <2@x>"),
        (b"charset=utf-8", b"charset=latin-1"),
        (b"Guten", b"guten"),
        (b"\r\nAnna\r\n\r\n", b"\r\nAnna\r\n\r\nNoch etwas\r\n"),
        (b"Tag,\t\r\n\r\nAnna", b"Tag,\t\r\nAnna"),
        (b"X-Other", b"From: <b@firma.example>\r\nX-Other"),
        (b"X-Other", b"To: b@firma.example\r\nX-Other"),
        (b"X-Other", b"Subject: another\r\nX-Other"),
        (b"X-Other", b"Date: Sat, 31 Jan 2026 08:15:01 +0100\r\nX-Other"),
        (b"d=firma.example", b"d=other.example"),
        (b"s=sp1", b"s=sp2"),
        (b"t=1795953600", b"t=1795953601"),
    ],
    ids=lambda change: change[1].decode(),
)
def test_a_change_that_matters_breaks_the_signature(change: tuple[bytes, bytes]) -> None:
    after = signed(LETTER)
    broken = after.replace(*change, 1)
    assert broken != after
    assert verified(after)
    assert not verified(broken)


def test_a_field_added_above_the_others_breaks_the_signature() -> None:
    for field in (b"From: b@x.example\r\n", b"Subject: x\r\n", b"To: b@x.example\r\n", b"Date: x\r\n"):
        assert not verified(field + signed(LETTER))


@pytest.mark.parametrize(
    "change",
    [
        (b"Received: from a by b", b"Received: from c by d"),
        (b"X-Other: y", b"X-Other: z\r\nX-More: x"),
        (b"Hallo  Welt", b"Hallo Welt"),
        (b"Guten  Tag,\t\r\n", b"Guten Tag,\r\n"),
        (b"Anna\r\n\r\n", b"Anna\r\n"),
        (b"Subject: Hallo", b"SUBJECT:   Hallo"),
    ],
    ids=lambda change: change[1].decode(),
)
def test_what_servers_on_the_way_do_leaves_it_valid(change: tuple[bytes, bytes]) -> None:
    after = signed(LETTER)
    passed_on = after.replace(*change, 1)
    assert passed_on != after
    assert verified(b"Received: from us by them; now\r\n" + passed_on)


@given(at=st.integers(0, 10_000), octet=st.integers(33, 126))
def test_any_changed_octet_of_text_breaks_it(at: int, octet: int) -> None:
    after = signed(LETTER)
    start = after.index(b"Guten")
    at = start + at % (len(after) - start)
    if after[at] in b" \t\r\n" or after[at] == octet:
        return
    assert not verified(after[:at] + bytes([octet]) + after[at + 1 :])


def test_a_thousand_fields_are_signed_in_folded_lines() -> None:
    raw = b"From: a@firma.example\r\n" + b"Cc: x@kunde.example\r\n" * 1000 + b"\r\nx\r\n"
    after = signed(raw)
    value = split(after)[0].values("DKIM-Signature")[0]
    assert tag(after, "h").count("Cc") == 1000
    assert max(map(len, value.split(b"\r\n"))) <= 78
    assert verified(after)


def test_no_repr_shows_the_key() -> None:
    assert "PRIVATE" not in repr(signing_key())
    assert "***" in repr(private_key())


@pytest.mark.parametrize(
    ("value", "domain"),
    [
        (b"Anna <anna@firma.example>", DOMAIN),
        (b"anna@FIRMA.example", DOMAIN),
        (b"a@firma.example, b@firma.example", DOMAIN),
        (b"a@firma.example, b@laden.example", None),
        (b"a@mail.firma.example", "mail.firma.example"),
        (b"root", None),
        (b"", None),
    ],
)
def test_the_domain_of_the_authors(value: bytes, domain: str | None) -> None:
    assert author_domain(HeaderSection(b"From: " + value + b"\r\n\r\n")) == domain


def test_two_from_fields_have_no_domain() -> None:
    assert author_domain(HeaderSection(b"From: a@firma.example\r\n" * 2 + b"\r\n")) is None
    assert author_domain(HeaderSection(b"Subject: x\r\n\r\n")) is None
