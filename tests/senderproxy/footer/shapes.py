"""Shapes of MIME messages, each with the number of its texts that get a footer, or the reason why none does."""

import quopri
from base64 import encodebytes
from collections.abc import Iterator
from dataclasses import dataclass

from senderproxy.footer import reasons

HEAD = (
    b"From: =?utf-8?q?Anna_M=C3=BCller?= <anna@firma.example>\r\nTo: kunde@kunde.example\r\nSubject: Angebot\r\n"
    b"Date: Sat, 31 Jan 2026 08:15:00 +0100\r\nMessage-ID: <1@firma.example>\r\n"
)
GERMAN = "Grüße aus Köln,\r\nAnna\r\n"
HTML = "<html><head><title>x</title></head><body><p>Grüße aus Köln</p></body></html>\r\n"
PDF = b"%PDF-1.7\r\n" + bytes(range(256)) * 20


@dataclass(frozen=True)
class Shape:
    """One message."""

    name: str
    raw: bytes
    expected: int | str = 1


def b64(octets: bytes) -> bytes:
    return encodebytes(octets).replace(b"\n", b"\r\n")


def qp(text: str, charset: str = "utf-8") -> bytes:
    return b"\r\n".join(
        quopri.encodestring(line.encode(charset)).replace(b"\n", b"\r\n") for line in text.split("\r\n")
    )


def entity(kind: str, content: bytes, *fields: str) -> bytes:
    return "".join(f"{field}\r\n" for field in (f"Content-Type: {kind}", *fields)).encode("latin-1") + b"\r\n" + content


def text(
    value: str = GERMAN, charset: str = "utf-8", encoding: str = "8bit", kind: str = "plain", more: str = ""
) -> bytes:
    octets = {"quoted-printable": lambda: qp(value, charset), "base64": lambda: b64(value.encode(charset))}.get(
        encoding, lambda: value.encode(charset)
    )()
    return entity(f"text/{kind}; charset={charset}{more}", octets, f"Content-Transfer-Encoding: {encoding}")


def html(value: str = HTML, charset: str = "utf-8", encoding: str = "8bit") -> bytes:
    return text(value, charset, encoding, "html")


def attached(content: bytes = PDF, kind: str = "application/pdf", name: str = "angebot.pdf") -> bytes:
    return entity(
        f'{kind}; name="{name}"',
        b64(content),
        "Content-Transfer-Encoding: base64",
        f'Content-Disposition: attachment; filename="{name}"',
    )


def image() -> bytes:
    return entity(
        "image/png", b64(PDF), "Content-Transfer-Encoding: base64", "Content-ID: <logo>", "Content-Disposition: inline"
    )


_numbers = iter(range(10**6))


def multi(
    subtype: str, *parts: bytes, more: str = "", boundary: str = "", before: bytes = b"", after: bytes = b""
) -> bytes:
    boundary = boundary or f"----=_Part_{next(_numbers):06}_x"
    dashes = b"--" + boundary.encode()
    content = before + b"".join(dashes + b"\r\n" + part + b"\r\n" for part in parts) + dashes + b"--\r\n" + after
    return entity(f'multipart/{subtype}; boundary="{boundary}"{more}', content)


def letter(body: bytes, *fields: str) -> bytes:
    return HEAD + "".join(f"{field}\r\n" for field in ("MIME-Version: 1.0", *fields)).encode() + body


def bare(content: bytes, *fields: str) -> bytes:
    """Without MIME."""
    return HEAD + "".join(f"{field}\r\n" for field in fields).encode() + b"\r\n" + content


def alternative(encoding: str = "quoted-printable") -> bytes:
    return multi("alternative", text(encoding=encoding), html(encoding=encoding))


LONG_HTML = "<html><body>" + "<p>Absatz mit Text und <b>Wörtern</b></p>\r\n" * 4000 + "</body></html>\r\n"
OUTLOOK = (
    '<html xmlns:o="urn:schemas-microsoft-com:office:office"><head><!--[if gte mso 9]><xml></xml></body><![endif]-->\r\n'
    '<style><!-- p.MsoNormal {margin:0cm;} --></style></head><body lang=DE link="#0563C1">\r\n'
    "<div class=WordSection1><p class=MsoNormal>Grüße<o:p></o:p></p></div>\r\n</body>\r\n</html>\r\n"
)
REPLY = "<html><body><div>Neu</div><blockquote><html><body><p>Alt</p></body></html></blockquote></body></html>\r\n"
PGP = "-----BEGIN PGP MESSAGE-----\r\n\r\nhQEMA=\r\n-----END PGP MESSAGE-----\r\n"
ICS = entity("text/calendar; charset=utf-8; method=REQUEST", b"BEGIN:VCALENDAR\r\nEND:VCALENDAR\r\n")
FORWARDED = entity("message/rfc822", letter(text()), "Content-Disposition: attachment")


def _encodings() -> Iterator[Shape]:
    for charset in ("utf-8", "iso-8859-1", "windows-1252", "iso-8859-15"):
        for encoding in ("8bit", "quoted-printable", "base64"):
            yield Shape(f"text {charset} {encoding}", letter(text(charset=charset, encoding=encoding)))
            yield Shape(f"html {charset} {encoding}", letter(html(charset=charset, encoding=encoding)))
    for charset, words in (
        ("iso-8859-2", "Łódź"),
        ("koi8-r", "Привет"),
        ("windows-1251", "Привет"),
        ("gb2312", "你好"),
        ("shift_jis", "こんにちは"),
        ("iso-2022-jp", "こんにちは"),
        ("big5", "你好"),
        ("euc-kr", "안녕"),
    ):
        for encoding in ("quoted-printable", "base64"):
            yield Shape(f"text {charset} {encoding}", letter(text(words + "\r\n", charset, encoding)))
            yield Shape(
                f"html {charset} {encoding}",
                letter(html(f"<html><body><p>{words}</p></body></html>\r\n", charset, encoding)),
            )
    for charset in ("utf-16", "utf-16le", "utf-7"):
        yield Shape(f"text {charset}", letter(text(charset=charset, encoding="base64")))
        yield Shape(f"html {charset}", letter(html(charset=charset, encoding="base64")))
    yield Shape("text us-ascii 7bit", letter(text("Hello\r\n", "us-ascii", "7bit")))
    yield Shape("html us-ascii 7bit", letter(html("<p>Hello</p>\r\n", "us-ascii", "7bit")))
    yield Shape("text utf-8 declared 7bit", letter(text(encoding="7bit")))
    yield Shape("no encoding field", letter(entity("text/plain; charset=utf-8", GERMAN.encode())))
    yield Shape("no MIME at all", bare(b"Hello\r\n"))
    yield Shape("no body", bare(b""))
    yield Shape("empty base64", letter(text("", encoding="base64")))
    yield Shape("only MIME-Version", bare(b"Hello\r\n", "MIME-Version: 1.0"))
    yield Shape("quoted charset, comment", letter(entity('text/plain; charset="us-ascii" (plain)', b"Hello\r\n")))
    yield Shape(
        "folded Content-Type",
        letter(entity("text/plain;\r\n\tcharset=us-ascii;\r\n\tformat=flowed", b"Hello \r\nworld \r\n")),
    )
    yield Shape("flowed", letter(text("Hallo \r\nWelt\r\n-- \r\nAnna\r\n", more="; format=flowed; delsp=yes")))
    yield Shape(
        "flowed, quoted-printable",
        letter(text("Hallo \r\nWelt \r\n", "iso-8859-1", "quoted-printable", more="; format=flowed")),
    )
    yield Shape(
        "soft line break at the end",
        letter(entity("text/plain; charset=utf-8", b"Hello=\r\n", "Content-Transfer-Encoding: quoted-printable")),
    )
    yield Shape(
        "blanks at the end",
        letter(entity("text/plain; charset=utf-8", b"Hello =20\r\n", "Content-Transfer-Encoding: quoted-printable")),
    )
    yield Shape(
        "line ends encoded",
        letter(
            entity(
                "text/plain; charset=utf-8",
                b"Hello=0D=0AWorld=0D=0A=\r\n",
                "Content-Transfer-Encoding: quoted-printable",
            )
        ),
    )
    yield Shape(
        "base64 with LF alone",
        letter(entity("text/plain; charset=utf-8", b64(b"Hello\nWorld\n"), "Content-Transfer-Encoding: base64")),
    )
    yield Shape(
        "base64 of uneven lines",
        letter(
            entity(
                "text/plain; charset=utf-8",
                b"SGVs\r\nbG8g\r\nV2\r\n9ybGQ\r\nK\r\n",
                "Content-Transfer-Encoding: BASE64",
            )
        ),
    )
    yield Shape("a text of 300 KB", letter(text(GERMAN * 15_000, encoding="quoted-printable")))
    yield Shape("a text of 300 KB in base64", letter(text(GERMAN * 15_000, encoding="base64")))
    yield Shape("a text of 300 KB in Latin-1", letter(text(GERMAN * 15_000, "iso-8859-1")))
    yield Shape("lines of dashes and dots", letter(text("--\r\n-- \r\n.\r\n..\r\n--=_no\r\n")))
    yield Shape("unknown character set", letter(entity("text/plain; charset=x-firma", b"Hello\r\n")), reasons.CHARSET)
    yield Shape(
        "unknown encoding",
        letter(entity("text/plain", b"Hello\r\n", "Content-Transfer-Encoding: x-uuencode")),
        reasons.ENCODING,
    )
    yield Shape(
        "damaged base64",
        letter(entity("text/plain", b"SGVsbG8\r\n", "Content-Transfer-Encoding: base64")),
        reasons.ENCODING,
    )
    yield Shape(
        "base64 behind its padding",
        letter(entity("text/plain", b"SGVsbA==\r\nSGVs\r\n", "Content-Transfer-Encoding: base64")),
        reasons.ENCODING,
    )
    yield Shape(
        "two Content-Types", letter(entity("text/plain", b"Hello\r\n", "Content-Type: text/html")), reasons.HEADER
    )
    yield Shape(
        "checksum",
        letter(entity("text/plain", b"Hello\r\n", "Content-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==")),
        reasons.CHECKSUM,
    )


def _html() -> Iterator[Shape]:
    yield Shape("no end of body", letter(html("<p>Grüße")))
    yield Shape("no end of body, end of html", letter(html("<html><p>Grüße</html>\r\n")))
    yield Shape(
        "end tags in capitals", letter(html("<HTML><BODY>Grüße</BODY ></HTML>\r\n", encoding="quoted-printable"))
    )
    yield Shape("end of body in a comment", letter(html("<html><body>Grüße<!-- </body> --></body></html>\r\n")))
    yield Shape(
        "end of body in a script", letter(html("<html><body>Grüße<script>x='</body>'</script></body></html>\r\n"))
    )
    yield Shape(
        "end of body in an attribute", letter(html("<html><body><img alt='</body>' src=\"x\">Grüße</body></html>\r\n"))
    )
    yield Shape("HTML of Outlook", letter(html(OUTLOOK, encoding="quoted-printable")))
    yield Shape("a reply with two bodies", letter(html(REPLY, encoding="base64")))
    yield Shape("text behind the body", letter(html("<html><body>Grüße</body></html>\r\n" + "<p>Werbung</p>\r\n" * 3)))
    yield Shape(
        "much text behind the body", letter(html("<html><body>Grüße</body></html>\r\n" + "<p>Werbung</p>\r\n" * 3000))
    )
    yield Shape(
        "end tag across a soft line break",
        letter(
            entity(
                "text/html; charset=utf-8",
                b"<html><body>Gr=C3=BC=C3=9Fe   </bo=\r\ndy></html>=\r\n",
                "Content-Transfer-Encoding: quoted-printable",
            )
        ),
    )
    yield Shape(
        "end tag with encoded brackets",
        letter(
            entity(
                "text/html; charset=utf-8",
                b"<html><body>x=3D=3C/body=3E</html>\r\n",
                "Content-Transfer-Encoding: quoted-printable",
            )
        ),
    )
    for encoding in ("8bit", "quoted-printable", "base64"):
        yield Shape(f"HTML of 200 KB {encoding}", letter(html(LONG_HTML, encoding=encoding)))
        yield Shape(f"HTML of 200 KB in Latin-1 {encoding}", letter(html(LONG_HTML, "iso-8859-1", encoding)))
    yield Shape(
        "a picture in the HTML",
        letter(
            html(
                '<html><body><img src="data:image/png;base64,' + "QUJD" * 30_000 + '"></body></html>\r\n',
                encoding="quoted-printable",
            )
        ),
    )
    yield Shape("HTML that ends in a comment", letter(html("<html><body>Grüße<!-- ")), reasons.HTML)
    yield Shape("HTML that ends in a tag", letter(html("<html><body>Grüße<img alt='")), reasons.HTML)


def _structures() -> Iterator[Shape]:
    yield Shape("alternative", letter(alternative()), 2)
    yield Shape("alternative in base64", letter(alternative("base64")), 2)
    yield Shape("alternative, only text", letter(multi("alternative", text())))
    yield Shape(
        "alternative with AMP",
        letter(multi("alternative", text(), entity("text/x-amp-html", b"<html>\xe2\x9a\xa1</html>\r\n"), html())),
        2,
    )
    yield Shape("mixed with a PDF", letter(multi("mixed", text(), attached())))
    yield Shape("mixed, PDF first", letter(multi("mixed", attached(), text(encoding="quoted-printable"))))
    yield Shape(
        "mixed, text behind the attachment",
        letter(multi("mixed", text(), attached(), text("Fußnote des Virenscanners\r\n"))),
    )
    yield Shape(
        "mixed with a text file", letter(multi("mixed", text(), attached(b"Notiz\r\n", "text/plain", "notiz.txt")))
    )
    yield Shape(
        "mixed, text file first", letter(multi("mixed", attached(b"Notiz\r\n", "text/plain", "notiz.txt"), text()))
    )
    yield Shape("related with a picture", letter(multi("related", html(), image(), more='; type="text/html"')))
    yield Shape("alternative with related", letter(multi("alternative", text(), multi("related", html(), image()))), 2)
    yield Shape(
        "mixed, related, alternative", letter(multi("mixed", multi("related", alternative(), image()), attached())), 2
    )
    yield Shape(
        "related, mixed, alternative", letter(multi("related", multi("mixed", alternative(), attached()), image())), 2
    )
    yield Shape(
        "alternative, mixed in a branch",
        letter(multi("alternative", text(), multi("mixed", html(), attached(), html("<p>Ende</p>")))),
        2,
    )
    yield Shape("alternative in alternative", letter(multi("alternative", text(), alternative())), 3)
    yield Shape("related with a second text", letter(multi("related", html(), image(), text("Zweiter Text\r\n"))))
    yield Shape(
        "related with a start",
        letter(
            multi(
                "related",
                image(),
                html().replace(b"\r\n\r\n", b"\r\nContent-ID: <root>\r\n\r\n", 1),
                more='; start="<root>"',
            )
        ),
    )
    yield Shape(
        "related whose start is missing",
        letter(multi("related", html(), image(), more='; start="<other>"')),
        reasons.ATTACHED_ONLY,
    )
    yield Shape("an unknown multipart", letter(multi("x-firma", text(), attached())))
    yield Shape("a forwarded message", letter(multi("mixed", text(), FORWARDED)))
    yield Shape(
        "a forwarded signed message",
        letter(multi("mixed", text(), entity("message/rfc822", letter(multi("signed", text(), attached()))))),
    )
    yield Shape(
        "texts around the parts",
        letter(multi("mixed", text(), attached(), before=b"This is MIME.\r\n\r\n", after=b"\r\nend\r\n-- \r\n")),
    )
    yield Shape("a part without a header", letter(multi("mixed", b"\r\nHello\r\n", attached())))
    yield Shape("an empty part", letter(multi("mixed", b"\r\n", attached())))
    yield Shape(
        "an inner multipart that is not closed",
        letter(multi("mixed", alternative().rpartition(b"--\r\n")[0] + b"--nothing", attached())),
        2,
    )
    yield Shape("the last boundary is missing", letter(multi("mixed", text(), attached()).rpartition(b"------=")[0]))
    yield Shape(
        "blanks behind the boundary",
        letter(multi("mixed", text(), attached(), boundary="grenze").replace(b"--grenze\r\n", b"--grenze \t\r\n")),
    )
    yield Shape(
        "the boundary in the text",
        letter(multi("mixed", text("--grenze2\r\n --grenze\r\n"), attached(), boundary="grenze")),
    )
    yield Shape(
        "a calendar file attached",
        letter(multi("mixed", text(), attached(b"BEGIN:VCALENDAR\r\n", "text/calendar", "termin.ics"))),
    )
    yield Shape("15 levels", letter(_nested(15)))
    yield Shape("21 levels", letter(_nested(21)), reasons.NESTED)
    yield Shape("only a PDF", letter(attached()), reasons.ATTACHED_ONLY)
    yield Shape("mixed of pictures", letter(multi("mixed", image(), attached())), reasons.ATTACHED_ONLY)
    yield Shape(
        "only text files",
        letter(multi("mixed", attached(b"x", "text/plain", "x.txt"), attached(b"x", "text/html", "x.html"))),
        reasons.ATTACHED_ONLY,
    )
    yield Shape("digest", letter(multi("digest", b"\r\n" + letter(text()))), reasons.ATTACHED_ONLY)
    yield Shape(
        "boundaries that begin alike",
        letter(multi("mixed", multi("alternative", text(), boundary="grenze2"), boundary="grenze")),
        reasons.BOUNDARIES,
    )
    yield Shape("no boundary", letter(entity("multipart/mixed", b"--x\r\n\r\nHello\r\n--x--\r\n")), reasons.BOUNDARIES)
    yield Shape(
        "a boundary like the footer",
        letter(multi("mixed", text("Hello\r\n", "us-ascii", "7bit"), boundary=" Impressum".strip())),
        1,
    )


def _nested(depth: int) -> bytes:
    part = text()
    for level in range(depth):
        part = multi("mixed" if level % 2 else "related", part, boundary=f"grenze-{level:02}")
    return part


def _excluded() -> Iterator[Shape]:
    yield Shape(
        "S/MIME, signed",
        letter(multi("signed", text(), attached(PDF, "application/pkcs7-signature", "smime.p7s"))),
        reasons.SIGNED,
    )
    yield Shape(
        "signed inside mixed", letter(multi("mixed", text(), multi("signed", text(), attached()))), reasons.SIGNED
    )
    yield Shape("S/MIME, one part", letter(attached(PDF, "application/pkcs7-mime", "smime.p7m")), reasons.ENCRYPTED)
    yield Shape(
        "PGP/MIME",
        letter(
            multi(
                "encrypted",
                entity("application/pgp-encrypted", b"Version: 1\r\n"),
                entity("application/octet-stream", PGP.encode()),
            )
        ),
        reasons.ENCRYPTED,
    )
    yield Shape("PGP in the text", letter(text(PGP)), reasons.ENCRYPTED)
    yield Shape("PGP in quoted text", letter(text("".join(f"> {line}\r\n" for line in PGP.split("\r\n")))), 1)
    yield Shape("invitation", letter(ICS), reasons.CALENDAR)
    yield Shape("invitation with texts", letter(multi("alternative", text(), html(), ICS)), reasons.CALENDAR)
    yield Shape(
        "invitation of Outlook", letter(text(), "Content-Class: urn:content-classes:calendarmessage"), reasons.CALENDAR
    )
    yield Shape(
        "delivery report",
        letter(
            multi(
                "report",
                text(),
                entity("message/delivery-status", b"Reporting-MTA: dns; x\r\n"),
                more="; report-type=delivery-status",
            )
        ),
        reasons.REPORT,
    )
    yield Shape(
        "read receipt",
        letter(multi("mixed", text(), entity("message/disposition-notification", b"x: y\r\n"))),
        reasons.REPORT,
    )
    yield Shape("journal", letter(text(), "X-MS-Journal-Report:"), reasons.REPORT)
    yield Shape("list", letter(text(), "List-Id: <liste.firma.example>"), reasons.LIST)
    yield Shape("newsletter", letter(alternative(), "List-Unsubscribe: <mailto:x@firma.example>"), reasons.LIST)
    yield Shape("DKIM", letter(text(), "DKIM-Signature: v=1; d=firma.example"), reasons.DKIM)
    yield Shape(
        "winmail.dat", letter(multi("mixed", text(), attached(PDF, "application/ms-tnef", "winmail.dat"))), reasons.TNEF
    )


SHAPES = [*_encodings(), *_html(), *_structures(), *_excluded()]
