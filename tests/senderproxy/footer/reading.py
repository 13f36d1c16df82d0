"""Messages with and without their footer, as readers see them."""

from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from html import unescape
from re import sub

from senderproxy.footer.add_footer import AddFooter
from senderproxy.footer.footer import Footer
from senderproxy.footer.rendered import render
from senderproxy.mail.header import HeaderSection
from senderproxy.rewriting.content_change import Unchanged

NAME, ADDRESS = "Anna Müller", "anna@firma.example"
ASCII = Footer((), "-- \nFirma GmbH, Koeln\nGeschaeftsfuehrer: {address}")
LATIN = Footer((), "Firma GmbH · Köln\n\n Geschäftsführer: {name} <{address}>\n> HRB 1")
EURO = Footer((), "Firma GmbH – Köln\nKapital 25 000 €", "<p>Firma GmbH – Köln<br>Kapital 25&nbsp;000 €</p>")
FOOTERS = {"ASCII": ASCII, "Latin": LATIN, "Euro": EURO}
MARK = "Firma GmbH"


def split(raw: bytes) -> tuple[HeaderSection, bytes]:
    header, empty, body = raw.partition(b"\r\n\r\n")
    return HeaderSection(header + empty), body


def pieces(octets: bytes, size: int) -> Iterator[bytes]:
    return (octets[at : at + size] for at in range(0, len(octets), size))


def with_footer(raw: bytes, footer: Footer = LATIN, cut: int = 1 << 20, name: str = NAME) -> bytes | Unchanged:
    """The whole message, as it leaves."""
    header, body = split(raw)
    out: list[bytes] = []
    result = AddFooter(footer, name, ADDRESS).apply(header, pieces(body, cut), out.append)
    return result if isinstance(result, Unchanged) else result.raw + b"".join(out)


@dataclass(frozen=True)
class Leaf:
    """One part without parts of its own."""

    kind: str
    raw: str | None  # its content as encoded
    fields: list[tuple[str, str]]
    part: Message

    @property
    def text(self) -> str:
        payload = self.part.get_payload(decode=True)
        assert isinstance(payload, bytes)
        return payload.decode(self.charset)

    @property
    def charset(self) -> str:
        """Without the comment that Python's parser takes for a part of it."""
        return self.part.get_content_charset("us-ascii").lstrip('"').partition('"')[0]


def tree(raw: bytes) -> list[tuple[int, str]]:
    """The structure: depth and type of each part."""

    def walk(part: Message, depth: int) -> Iterator[tuple[int, str]]:
        yield depth, part.get_content_type()
        if part.is_multipart():
            for inner in part.get_payload():
                assert isinstance(inner, Message)
                yield from walk(inner, depth + 1)

    return list(walk(message_from_bytes(raw), 0))


def leaves(raw: bytes) -> list[Leaf]:
    found = []
    for part in message_from_bytes(raw).walk():
        if not part.is_multipart():
            payload = part.get_payload()
            assert isinstance(payload, str)
            found.append(Leaf(part.get_content_type(), payload, part.items(), part))
    return found


def visible(text: str) -> str:
    """The text of HTML without tags."""
    return unescape(sub(r"<[^>]*>", "", text))


def assert_footers(raw: bytes, result: bytes, footer: Footer, count: int) -> None:
    """The same tree; `count` parts with the footer once, in which a reader decodes the rest as before; the others as they were."""
    assert tree(result) == tree(raw)
    before, after = leaves(raw), leaves(result)
    changed = [pair for pair in zip(before, after, strict=True) if pair[0].raw != pair[1].raw]
    assert len(changed) == count
    for old, new in zip(before, after, strict=True):
        if (old, new) not in changed:
            assert old.fields == new.fields
            continue
        labels = ("content-type", "content-transfer-encoding", "mime-version")
        assert [x for x in old.fields if x[0].lower() not in labels] == [
            x for x in new.fields if x[0].lower() not in labels
        ]
        assert_text(old, new, footer)


def assert_text(old: Leaf, new: Leaf, footer: Footer) -> None:
    """The footer is there once, and the rest of the text as it was."""
    rendered = render(footer, NAME, ADDRESS)
    before, after = old.text, new.text
    if old.kind == "text/html":
        assert visible(after).count(MARK) == 1
        charsets = ("utf-8", "us-ascii", old.charset)
        spellings = {rendered.html.encode(name, "xmlcharrefreplace").decode(name) for name in charsets}
        [inserted] = [spelling for spelling in spellings if spelling in after]
        left, _, right = after.partition(f"\r\n{inserted}\r\n")
        assert (left + right).rstrip("\r\n") == before.rstrip("\r\n")
        return
    assert after.count(MARK) == 1
    lines = rendered.lines
    if old.part.get_param("format") == "flowed":
        lines = tuple(f" {line}" if line[:1] in (" ", ">") else line for line in lines)
    kept = before.rstrip("\r\n")
    assert after.startswith(kept)
    assert after.removeprefix(kept).replace("\r\n", "\n").strip("\n") == "\n".join(lines)
