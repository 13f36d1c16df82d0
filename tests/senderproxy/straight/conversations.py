"""Generated conversations of clients: what they send, in which pieces, and what else happens meanwhile."""

import random
from dataclasses import dataclass, field

DATE = "Date: Sat, 31 Jan 2026 08:15:00 +0100\r\n"
KUNDEN = ("kunde@kunde.example", "chef@kunde.example", "info@firma2.example", "nobody@else.example")
FIELDS = (
    "Sender: Bert <bert@firma.example>\r\n", "Sender: anna@firma.example\r\n", "Sender: x <fremd@elsewhere.example>\r\n",
    "Reply-To: anna@firma.example\r\n", "Resent-From: bert@firma.example\r\n", "Auto-Submitted: auto-replied\r\n",
    "Bcc: geheimrat@kunde.example\r\n", "From: bert@firma.example\r\n", "Cc: broken@\r\n", "Delivered-To: bert@firma.example\r\n",
    "Received: from a by b; Sat, 31 Jan 2026 08:15:00 +0100\r\n", "Received: by x (senderproxy) with ESMTP\r\n",
    "X-Senderproxy-Loop: relay.firma.example\r\n", "Subject: zweiter\r\n", "not a field\r\n", "X-Long: " + "x" * 1200 + "\r\n",
    "X-Umlaut: \u00e4\r\n", ".dotted: 1\r\n", "References: <1@x>\r\n\t<2@x>\r\n", "Auto-Submitted: no\r\n",
)  # fmt: skip
AUTHORS = (
    "Anna <anna@firma.example>", "anna@firma.example", "Bert <bert@firma.example>", "Anna+x <anna+tag@firma.example>",
    "carl@firma.example, anna@firma.example", "fremd@elsewhere.example", "nobody@firma.example", "root", "",
    "ANNA@FIRMA.EXAMPLE", "dora@andere.example",
)  # fmt: skip
PATHS = (
    "anna@firma.example",
    "bert@firma.example",
    "",
    "fremd@elsewhere.example",
    "anna+tag@firma.example",
    "dora@andere.example",
)
HAPPENINGS = (
    "reload", "no-account", "new-password", "map", "queue-mode", "keep-deferrals", "footers-off", "stop", "stop-at-once", "reset",
    "half-close", "switch", "pause-account",
)  # fmt: skip
# Without a message: most of these need the conversation of the general path; "!" is something that happens.
COMMANDS = (
    "NOOP", "RSET", "VRFY x", "XYZZY", "MAIL FROM:<bad", "EHLO other.example", "DATA", "HELP", "EHLO", "NOOP\r\nNO|OP\r\nRSET",
    "pause", "STARTTLS", "AUTH PLAIN", "AUTH PLAIN AGEAYg==", "BDAT 3", "\x16\x03\x01", "GET / HTTP/1.1", "X" * 13_000, "QUIT now",
    "QUIT\r\nNOOP", "RSET\r\nQUIT\r\nMAIL FROM:<>", "long pause", "!reset", "!half-close", "!stop", "!stop-at-once", "!switch",
)  # fmt: skip
EARLY = (b"EHLO early.example\r\n", b"\x16\x03\x01\x00", b"E", b"(end)", b"(reset)", b"(stop)")  # before the greeting


@dataclass
class Mail:
    """One message of a client."""

    path: str
    recipients: list[str]
    parameters: str
    octets: bytes
    pieces: list[int]  # lengths of the first pieces of the data
    pipelined: bool
    pause: float = 0.0  # seconds between two pieces
    happening: str = ""
    happens_after: float = 0.0  # seconds after the data


@dataclass
class ClientPlan:
    """One client."""

    host: str
    greeting: str
    way: float  # seconds to the listener; no two are the same, so that seldom two things happen at the same time
    early: bytes = b""
    steps: list[Mail | str] = field(default_factory=list)


def draw_clients(seed: int) -> list[ClientPlan]:
    """The clients of one case."""
    draw = random.Random(f"clients/{seed}")
    unusual = draw.choice((0.03, 0.1, 0.3))
    happens = draw.choice((0.0, 0.1, 0.3))
    clients = []
    for _index in range(draw.choice((1, 1, 2, 3))):
        host = draw.choice(("192.168.1.20", "192.168.1.20", "192.168.1.21", "192.168.1.66"))
        greeting = draw.choice(("EHLO pc.firma.example", "EHLO pc.firma.example", "HELO pc", "EHLO [192.168.1.20]"))
        client = ClientPlan(host, greeting, 0.001 + 0.00001 * draw.randrange(90))
        if draw.random() < 0.05:
            client.early = draw.choice(EARLY)
        if draw.random() < 0.05:
            client.host = "192.168.2.1"  # not allowed
        for _ in range(draw.randrange(0, 12) or draw.randrange(12)):
            if draw.random() < 0.1:
                client.steps.append(draw.choice(COMMANDS))
            client.steps.append(draw_mail(draw, unusual, happens))
        if draw.random() < 0.7:
            client.steps.append("QUIT")
        clients.append(client)
    return clients


def draw_mail(draw: random.Random, unusual: float, happens: float) -> Mail:
    """One message: mostly usual, with one or two things that are not."""

    def odd() -> bool:
        return draw.random() < unusual

    author = draw.choice(AUTHORS) if odd() else draw.choice(AUTHORS[:2] if draw.random() < 0.8 else AUTHORS[2:3])
    path = draw.choice(PATHS) if odd() else author.rpartition("<")[2].rstrip(">").lower() or "anna@firma.example"
    recipients = draw.sample(KUNDEN, draw.choice((1, 1, 1, 2, 3)))
    header = f"From: {author}\r\n" + f"To: <{recipients[0]}>\r\nSubject: Angebot\r\n"
    header += "" if odd() and odd() else DATE
    header += "" if odd() and odd() else f"Message-ID: <{draw.randrange(1000)}@firma.example>\r\n"
    extra = [draw.choice(FIELDS)] if odd() else []
    for text in extra:
        header = text + header if draw.random() < 0.5 else header + text
    body = "\r\n".join(
        draw.choice(("Guten Tag", "..", "..x", "x" * 70, "", "Gr\u00fc\u00dfe", "From here"))
        for _ in range(draw.randrange(0, 12))
    )
    octets = (header + "\r\n" + body + "\r\n").encode()
    if odd() and odd():
        octets = draw.choice(
            (
                octets.replace(b"\r\n", b"\n", 3),
                octets.replace(b"Tag", b"T\0g"),
                octets.replace(b"Tag", b"\rTag"),
                b"",
                b".\r\n" + octets,
                octets + b"x" * 900 + b"\r\n",
            )
        )
    if octets and not octets.endswith(b"\r\n"):
        octets += b"\r\n"
    pieces: list[int] = []
    while draw.random() < 0.3:
        pieces.append(draw.randrange(1, max(2, len(octets))))
    mail = Mail(
        path, recipients, draw.choice(("", "", " SIZE=500", " BODY=8BITMIME")), octets, pieces, draw.random() < 0.3
    )
    if pieces and draw.random() < 0.2:
        mail.pause = draw.choice((0.01, 1.0, 4.0, 6.0, 170.0, 190.0))
    if draw.random() < happens:
        mail.happening = draw.choice(HAPPENINGS)
        mail.happens_after = (
            0.0005
            + draw.choice((-1, 0, 1, 2, 5, 7, 9, 13, 17, 21, 25, 29, 33, 37, 45)) * 0.001
            + draw.choice((0, 0, 0, 0, 100, 242))
        )
    return mail
