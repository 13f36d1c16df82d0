"""Re-encoding of content that a server may refuse."""

import tracemalloc
from collections.abc import Iterator
from email import message_from_bytes
from email.message import EmailMessage, Message
from email.policy import SMTP, default
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senderproxy.mail.header import HeaderSection
from senderproxy.rewriting.content_change import Unchanged
from senderproxy.rewriting.transfer_encoding import Reencode

CORPUS = sorted((Path(__file__).parents[2] / "corpus" / "messages").glob("*.eml"))
LONG = b"x" * 700 + b" =y " + "ä".encode() * 700


def split(raw: bytes) -> tuple[HeaderSection, bytes]:
    header, empty, body = raw.partition(b"\r\n\r\n")
    return HeaderSection(header + empty), body


def pieces(octets: bytes, size: int) -> Iterator[bytes]:
    return (octets[at : at + size] for at in range(0, len(octets), size))


def reencoded(raw: bytes, *, seven_bit: bool = True, cut: int = 1 << 20) -> bytes | Unchanged:
    header, body = split(raw)
    out: list[bytes] = []
    result = Reencode(seven_bit).apply(header, pieces(body, cut), out.append)
    if isinstance(result, Unchanged):
        return result
    return result.raw + b"".join(out)


def changed(raw: bytes, *, seven_bit: bool = True) -> bytes:
    """The re-encoded message, checked: independent of the cut, fit to be sent, and stable."""
    results = {reencoded(raw, seven_bit=seven_bit, cut=cut) for cut in (1, 7, 4096, 1 << 20)}
    [result] = results
    assert isinstance(result, bytes), result
    assert result.isascii() or not seven_bit
    assert max(map(len, result.split(b"\r\n"))) <= 998
    assert result.endswith(b"\r\n")
    assert reencoded(result, seven_bit=seven_bit) == result
    return result


def contents(message: Message) -> list[tuple[str, bytes]]:
    """What a reader decodes: type and octets of each leaf, without the line end before a boundary."""
    found = []
    for part in message.walk():
        if not part.is_multipart():
            payload = part.get_payload(decode=True)
            assert isinstance(payload, bytes)
            found.append((part.get_content_type(), payload.rstrip(b"\r\n")))
    return found


def assert_same(raw: bytes, result: bytes) -> None:
    assert contents(message_from_bytes(result)) == contents(message_from_bytes(raw))


def plain(body: bytes, *fields: bytes) -> bytes:
    return b"\r\n".join((b"From: anna@firma.example", *fields)) + b"\r\n\r\n" + body


MULTIPART = b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b 1"'
PART_8BIT = b"--b 1\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n"
SIGNED = (
    b"Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\nContent-Type: text/plain\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n--s\r\nContent-Type: application/pgp-signature\r\n\r\nx\r\n--s--\r\n"
)
# fmt: off
TABLE = [
    ("8-bit text", plain(b"Gr\xc3\xbc\xc3\x9fe\r\n", b"MIME-Version: 1.0", b"Content-Type: text/plain; charset=utf-8", b"Content-Transfer-Encoding: 8bit")),
    ("a long line", plain(LONG + b"\r\nend\r\n", b"MIME-Version: 1.0", b"Content-Type: text/html; charset=utf-8")),
    ("a line of a megabyte", plain(b"a=b " * 250_000 + b"\r\n", b"Content-Type: text/plain")),
    ("spaces at line ends", plain(b"\xc3\xa4 \r\n \t\r\n.\r\n..\r\nFrom x\r\n", b"Content-Type: text/plain; charset=utf-8")),
    ("no MIME at all", plain(b"Gr\xfc\xdfe\r\n")),
    ("no line end at the end", plain(b"Gr\xfc\xdfe")),
    ("binary", plain(bytes(range(1, 256)).replace(b"\r", b"").replace(b"\n", b"") * 9 + b"\r\n", b"Content-Type: application/octet-stream", b"Content-Transfer-Encoding: binary")),
    ("8-bit part", plain(b"preamble\r\n" + PART_8BIT + b"--b 1--\r\nepilogue\r\n", MULTIPART)),
    ("8-bit texts around the parts", plain(b"\xfc\r\n" + PART_8BIT + b"--b 1--\r\n\xfc" + b"x" * 2000 + b"\r\n", MULTIPART)),
    ("declared 8bit multipart", plain(PART_8BIT + b"--b 1--\r\n", MULTIPART, b"Content-Transfer-Encoding: 8bit")),
    ("raw file name", plain(b"--b 1\r\nContent-Type: application/pdf; name=\"Pr\xc3\xbcfung.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\r\nQUJD\r\n--b 1--\r\n", MULTIPART)),
    ("base64 on one line", plain(b"--b 1\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b"QUJD" * 5000 + b"\r\n--b 1--\r\n", MULTIPART)),
    ("quoted-printable on one line", plain(b"--b 1\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" + b"=C3=A4 x" * 3000 + b"=\r\nend=3D\r\n--b 1--\r\n", MULTIPART)),
    ("8-bit in quoted-printable", plain(b"--b 1\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\xc3\xa4=C3=A4\r\n--b 1--\r\n", MULTIPART)),
    ("nested multiparts", plain(b"--b 1\r\nContent-Type: multipart/alternative; boundary=in\r\n\r\n--in\r\n\r\n\xe4\r\n--in\r\nContent-Type: text/html\r\n\r\n<p>\xe4</p>\r\n--in--\r\n\r\n" + PART_8BIT + b"--b 1--\r\n", MULTIPART)),
    ("an inner multipart that is not closed", plain(b"--b 1\r\nContent-Type: multipart/alternative; boundary=in\r\n\r\n--in\r\n\r\n\xe4\r\n" + PART_8BIT + b"--b 1--\r\n", MULTIPART)),
    ("an enclosed message", plain(b"--b 1\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\nFrom: x@y.example\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\xc3\xa4\r\n--b 1--\r\n", MULTIPART)),
    ("an enclosed multipart", plain(b"--b 1\r\nContent-Type: message/rfc822\r\n\r\nContent-Type: multipart/mixed; boundary=in\r\n\r\n--in\r\n\r\n\xe4\r\n--in--\r\n\r\n--b 1--\r\n", MULTIPART)),
    ("a part of 100 KB in ASCII", plain(b"--b 1\r\nContent-Type: text/csv\r\n\r\n" + b"a;b;c\r\n" * 15_000 + PART_8BIT + b"--b 1--\r\n", MULTIPART)),
    ("an attachment of 100 KB", plain(b"--b 1\r\nContent-Type: application/zip\r\nContent-Transfer-Encoding: binary\r\n\r\n" + b"PK\xff\r\n" * 20_000 + PART_8BIT + b"--b 1--\r\n", MULTIPART)),
    ("an empty part", plain(b"--b 1\r\n\r\n\r\n" + PART_8BIT + b"--b 1--\r\n", MULTIPART)),
]
# fmt: on


@pytest.mark.parametrize("raw", [row[1] for row in TABLE], ids=[row[0] for row in TABLE])
def test_a_reader_decodes_the_same(raw: bytes) -> None:
    assert_same(raw, changed(raw))


def test_eight_bit_content_stays_where_only_long_lines_matter() -> None:
    raw = plain(PART_8BIT + b"--b 1\r\n\r\n" + b"x" * 2000 + b"\r\n--b 1--\r\n", MULTIPART)
    result = changed(raw, seven_bit=False)
    assert PART_8BIT in result
    assert_same(raw, result)


@pytest.mark.parametrize("path", CORPUS, ids=[path.stem for path in CORPUS])
def test_real_messages_decode_the_same(path: Path) -> None:
    raw = path.read_bytes()
    result = reencoded(raw)
    if isinstance(result, bytes):
        assert_same(raw, result)
        assert result.isascii() or b"multipart/signed" in raw


def test_a_signed_part_stays_octet_by_octet_and_the_others_change() -> None:
    raw = plain(PART_8BIT + b"--b 1\r\n" + SIGNED + b"--b 1--\r\n", MULTIPART)
    result = reencoded(raw)
    assert isinstance(result, bytes)
    assert SIGNED in result
    assert PART_8BIT not in result
    assert_same(raw, result)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (plain(b"\xe4\r\n", b"DKIM-Signature: v=1"), "DKIM"),
        (plain(b"\xe4\r\n", b"Content-Type: multipart/mixed"), "boundary"),
        (plain(SIGNED.partition(b"\r\n\r\n")[2], b"Content-Type: multipart/signed; boundary=s"), "signed"),
        (plain(b"".join(b"--%d\r\nContent-Type: multipart/mixed; boundary=%d\r\n\r\n" % (n, n + 1) for n in range(30)), b"Content-Type: multipart/mixed; boundary=0"), "nested"),
        (plain(b"--b 1\r\nX: " + b"x" * 70_000, MULTIPART), "header section"),
    ],
)  # fmt: skip
def test_what_cannot_be_changed_is_sent_as_it_is(raw: bytes, reason: str) -> None:
    result = reencoded(raw)
    assert isinstance(result, Unchanged)
    assert reason in result.reason


def test_memory_does_not_grow_with_the_body() -> None:
    line = b"\xe4" * 60 + b"\r\n"
    header = HeaderSection(b"Content-Type: text/plain\r\n\r\n")
    written = 0

    def write(octets: bytes) -> None:
        nonlocal written
        written += len(octets)

    tracemalloc.start()
    Reencode(seven_bit=True).apply(header, (line * 1000 for _ in range(50)), write)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert written > 3_000_000
    assert peak < 1_000_000


@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=300), max_size=8), st.booleans())
def test_any_text_decodes_the_same(lines: list[str], html: bool) -> None:
    message = EmailMessage(policy=SMTP.clone(cte_type="8bit"))
    message["From"] = "anna@firma.example"
    message.set_content("\r\n".join(lines), subtype="html" if html else "plain", cte="8bit")
    message.add_attachment("\r\n".join(lines).encode(), maintype="application", subtype="x-test", cte="base64")
    raw = message.as_bytes(policy=default.clone(linesep="\r\n", cte_type="8bit"))
    result = changed(raw)
    assert contents(message_from_bytes(result)) == contents(message_from_bytes(raw))
