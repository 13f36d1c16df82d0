"""The reports in tests/corpus/dsn from their values; `python -m tests.senderproxy.dsn.cases` writes the files.

A person can read the files: they are the reports as an author receives them.
"""

from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from senderproxy.dsn.compose import MemoryBody, Original, Report, ReportContext, ReportedRecipient, compose_report
from senderproxy.dsn.report_policy import ReportKind
from senderproxy.mail.address import parse_address
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.message import Message
from senderproxy.mail.reply import Reply, parse_reply, reply

CORPUS = Path(__file__).parents[2] / "corpus" / "dsn"
NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
ANNA, CARL, DORA, EMIL = (
    parse_address(f"{name}@{domain}")
    for name, domain in (
        ("anna", "firma.example"),
        ("carl", "kunde.example"),
        ("dora", "amt.example"),
        ("emil", "werk.example"),
    )
)
CONTEXT = ReportContext(
    hostname="proxy.firma.example",
    address=parse_address("mailer-daemon@firma.example"),
    id="Rep23xyzABCD",
    now=NOW,
    zone=ZoneInfo("Europe/Berlin"),
    returned_size=50_000,
    retry_until=NOW + timedelta(hours=44),
)
PLAIN = (
    b"From: Anna Beispiel <anna@firma.example>\r\n"
    b"To: carl@kunde.example\r\n"
    b"Subject: =?utf-8?q?Angebot_f=C3=BCr_M=C3=A4rz?=\r\n"
    b"Date: Tue, 24 Nov 2026 10:29:00 +0100\r\n"
    b"Message-ID: <4711@firma.example>\r\n"
)
IONOS = "smtp.ionos.example"


def said(*lines: bytes) -> Reply:
    return parse_reply(lines)


def original(
    header: bytes = PLAIN, body: bytes = b"Guten Tag,\r\n..zwei Punkte\r\n", ago: timedelta = timedelta()
) -> Original:
    return Original("Abc23defGHJK", Message(HeaderSection(header + b"\r\n"), MemoryBody(body)), NOW - ago)


@dataclass(frozen=True)
class Case:
    kind: ReportKind
    recipients: tuple[ReportedRecipient, ...]
    original: Original
    context: ReportContext = CONTEXT

    def report(self) -> Report:
        return compose_report(self.kind, ANNA, self.recipients, self.original, self.context)

    def octets(self) -> bytes:
        """The report without dot-stuffing."""
        wire = b"".join(self.report().message.blocks())
        return (b"\n" + wire).replace(b"\n.", b"\n")[1:]


_JAPANESE = (
    b"From: Anna Beispiel <anna@firma.example>\r\n"
    b"To: " + b",\r\n ".join(b"person-%03d@kunde.example" % n for n in range(120)) + b"\r\n"
    b"Subject: =?iso-2022-jp?B?" + b64encode("見積もりの件".encode("iso-2022-jp")) + b"?=\r\n"
    b"Date: Tue, 24 Nov 2026 10:29:00 +0100\r\n"
)
_ODD = (
    b"From: anna@firma.example\r\n"
    b"Subject: R\xfcckfrage\r\n"
    b"X-Trailing: blank \r\n"
    b"X-Long: " + b"x" * 1200 + b"\r\n"
    b"Message-ID: no angle brackets here\r\n"
)

CASES: dict[str, Callable[[], Case]] = {
    "failed-unknown-user": lambda: Case(
        ReportKind.FAILED,
        (
            ReportedRecipient(
                CARL, said(b"550-Requested action not taken: mailbox unavailable", b"550 Unknown User"), IONOS, NOW
            ),
        ),
        original(),
    ),
    "failed-three-causes-header-only": lambda: Case(
        ReportKind.FAILED,
        (
            ReportedRecipient(CARL, said(b"552 5.2.2 <carl@kunde.example>: mailbox over quota"), IONOS, NOW),
            ReportedRecipient(DORA, said(b"552 5.3.4 Message size exceeds fixed limit"), IONOS, NOW),
            ReportedRecipient(
                EMIL,
                said(
                    b"554-Transaction failed",
                    b"554-Reject due to policy restrictions.",
                    b"554 For explanation visit https://postmaster.example/554?ip=192.0.2.1",
                ),
                IONOS,
                NOW,
            ),
        ),
        original(_JAPANESE, b"x" * 76 + b"\r\n"),
        replace(CONTEXT, returned_size=2000),
    ),
    "expired-unreachable": lambda: Case(
        ReportKind.EXPIRED,
        (
            ReportedRecipient(
                CARL,
                reply(451, "4.4.1", "There is no route to smtp.ionos.example:465. Check this machine's network"),
                None,
                NOW,
            ),
        ),
        original(ago=timedelta(days=2)),
    ),
    "expired-perhaps-taken": lambda: Case(
        ReportKind.EXPIRED,
        (
            ReportedRecipient(
                CARL,
                reply(
                    451,
                    "4.4.2",
                    "smtp.ionos.example:465 closed the connection (stage: end of message), after the whole message had"
                    " been sent. It is not known whether the message was accepted: a second attempt may deliver it twice",
                ),
                None,
                NOW,
            ),
        ),
        original(ago=timedelta(days=2)),
    ),
    "delayed-greylisted": lambda: Case(
        ReportKind.DELAYED,
        (
            ReportedRecipient(
                CARL, said(b"450 4.2.0 <carl@kunde.example>: Greylisted, see postmaster.example"), IONOS, NOW
            ),
            ReportedRecipient(
                DORA, said(b"450 4.2.0 <carl@kunde.example>: Greylisted, see postmaster.example"), IONOS, NOW
            ),
        ),
        original(ago=timedelta(hours=4)),
    ),
    "cancelled-never-tried": lambda: Case(
        ReportKind.CANCELLED, (ReportedRecipient(CARL),), original(ago=timedelta(hours=1))
    ),
    "failed-eight-bit-returned-whole": lambda: Case(
        ReportKind.FAILED,
        (ReportedRecipient(CARL, said(b"550 5.1.1 <carl@kunde.example>: Recipient address rejected"), IONOS, NOW),),
        original(
            PLAIN
            + b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n",
            "Schöne Grüße\r\n".encode(),
        ),
    ),
    "failed-odd-header": lambda: Case(
        ReportKind.FAILED,
        (ReportedRecipient(CARL, said(b"550 No such user here"), IONOS, NOW),),
        original(_ODD),
    ),
}


def main() -> None:
    CORPUS.mkdir(parents=True, exist_ok=True)
    for name, case in CASES.items():
        (CORPUS / f"{name}.eml").write_bytes(case().octets())


if __name__ == "__main__":
    main()
