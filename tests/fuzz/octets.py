"""Strategies for remote octets: pieces that parsers treat specially, and any octets between them."""

import re
from base64 import b64encode
from itertools import pairwise

from hypothesis import strategies as st

from senderproxy.mail.header import HeaderSection
from senderproxy.wire.data_decoder import DataDecoder, HeaderCollector

NAMES = st.sampled_from(
    [b"From", b"from", b"Sender", b"Reply-To", b"To", b"TO", b"Cc", b"Bcc", b"Date", b"Subject", b"Message-ID",
     b"Resent-From", b"Resent-Date", b"Received", b"X-Note", b"DKIM-Signature", b"Content-Type", b"Auto-Submitted"]
)  # fmt: skip
_DATES = [
    b"Tue, 24 Nov 2026 10:29:00 +0100", b"24 Nov 26 10:29 GMT", b"2026-11-24T09:29:00Z", b"24.11.2026 10:29:00",
    b"Di, 24 Nov 2026 10:29:00 +0100", b"Tue, 31 Feb 2026 24:61:61 +9999", b"Mon Nov 24 10:29:00 2026", b"0",
    b"99999999999999999999", b"Tue, 24 Nov 2026 10:29:00 -0000 (CET)", b"1 Jan 0000 00:00:00 +0000",
]  # fmt: skip
_SPECIAL = [
    b"\r\n", b"\r\n ", b"\r\n\t", b"\r\n\r\n", b"\n", b".", b"..", b",", b";", b":", b'"', b'\\"', b"\\", b"(", b")", b"<", b">",
    b"@", b"[", b"]", b" ", b"\t", b"=?utf-8?q?=C3=A4?=", b"=?utf-8?b?PGJAeC5leGFtcGxlPg==?=", b"=?", b"?=", b"\xe4", b"\xc3\xa4",
    b"\x01", b"\x7f", b"\x85", b"anna@firma.example", b"<bert@kunde.example>", b"Anna Berg", b"a@b@c.example",
    b"undisclosed-recipients:;", b"Team: a@b.example, c@d.example;", b"<@relay.example:a@b.example>", b"x" * 200,
    b"\xef\xbb\xbf", b"a@[192.0.2.1]", b"a@[IPv6:::1]", b"a@m\xc3\xbcller.example", b"<>", b'"a@b"@c.example',
]  # fmt: skip
VALUES = st.lists(st.one_of(st.sampled_from(_SPECIAL), st.sampled_from(_DATES), st.binary(max_size=8)), max_size=8).map(
    b"".join
)
_WORDS = st.text(max_size=20).map(lambda text: b"=?utf-8?b?" + b64encode(text.encode("utf-8", "replace")) + b"?=")
_FIELDS = st.tuples(NAMES, st.sampled_from([b":", b": ", b" : "]), VALUES | _WORDS).map(
    lambda field: b"".join(field) + b"\r\n"
)
_LONG = st.tuples(NAMES, st.integers(900, 1100)).map(lambda field: field[0] + b": " + b"x" * field[1] + b"\r\n")
_BARE_CR = re.compile(rb"\r(?!\n)")

MESSAGES = st.lists(
    st.one_of(_FIELDS, _FIELDS, _FIELDS, _LONG, st.binary(max_size=30), st.sampled_from(_SPECIAL)), max_size=8
).map(b"".join)


def received(octets: bytes) -> tuple[HeaderSection, bytes]:
    """Header section and dot-stuffed body as DATA yields them: no bare CR, no NUL."""
    decoder, collector = DataDecoder(), HeaderCollector()
    body = collector.feed(decoder.feed(_BARE_CR.sub(b"", octets).replace(b"\0", b"") + b"\r\n.\r\n"))
    section = collector.section()
    assert isinstance(section, HeaderSection), "larger than the limits"
    return section, body


def cut(octets: bytes, places: list[int]) -> list[bytes]:
    """The octets in pieces that begin at these places."""
    edges = sorted({0, len(octets), *(place for place in places if place < len(octets))})
    return [octets[begin:end] for begin, end in pairwise(edges)]
