"""Messages for the spool, with defaults for all that a test does not set."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from senderproxy.mail.address import NULL_PATH, ForwardPath, parse_address
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.message import Message
from senderproxy.mail.submission import Client, Submission
from senderproxy.relay.ports import Arrival
from senderproxy.tracking.record import Event, EventKind, RecipientState, RecipientStatus
from tests.fakes.memory_spool import KeptBody
from tests.fakes.still_clock import START

CLIENT = Client("192.0.2.7", "scanner.firma.example", "ESMTP")
WAITING = RecipientState(RecipientStatus.WAITING)
DELIVERED = RecipientState(RecipientStatus.DELIVERED, tries=1)


def arrival(
    ident: str,
    *recipients: str,
    account: str = "anna",
    author: str = "anna@firma.example",
    reverse_path: str | None = "anna@firma.example",
    at: datetime = START,
    state: RecipientState = WAITING,
    states: Mapping[str, RecipientState] | None = None,
    body: bytes = b"Hallo Carl,\r\n..und Tsch\xc3\xbcss\r\n",
    header: bytes | None = None,
    events: Iterable[Event] | None = None,
    report_on: str | None = None,
    carrier: str | None = None,
    client: Client = CLIENT,
    listener: str = "scanner",
    eight_bit: bool = False,
    long_lines: bool = False,
) -> Arrival:
    """One message."""
    paths = tuple(parse_address(text) for text in recipients or ("carl@elsewhere.example",))
    given: dict[ForwardPath, RecipientState] = {parse_address(text): one for text, one in (states or {}).items()}
    if header is None:
        header = b"From: %s\r\nSubject: Angebot\r\nMessage-ID: <%s@firma.example>\r\n\r\n" % (
            author.encode(),
            ident.encode(),
        )
    submission = Submission(
        ident,
        listener,
        client,
        Envelope(parse_address(reverse_path) if reverse_path else NULL_PATH, paths, eight_bit),
        Message(HeaderSection(header), KeptBody(body, body.isascii(), long_lines)),
        at,
        report_on,
        carrier,
    )
    accepted = (Event(at, EventKind.ACCEPTED, (), {"client": str(client)}),) if events is None else tuple(events)
    return Arrival(submission, account, author, {path: given.get(path, state) for path in paths}, accepted)
