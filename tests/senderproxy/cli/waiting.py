"""A spool with messages, for the commands about the queue."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from senderproxy.clock import SystemClock
from senderproxy.dsn.compose import MemoryBody
from senderproxy.mail.address import ForwardPath, parse_address
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.message import Message
from senderproxy.mail.reply import reply
from senderproxy.mail.submission import Client, Submission
from senderproxy.relay.ports import Arrival
from senderproxy.spool.sqlite.limits import SpoolLimits
from senderproxy.spool.sqlite.store import SqliteSpool
from senderproxy.tracking.record import Event, EventKind, RecipientState, RecipientStatus

ANNA, BERT, CARL, DORA = (
    parse_address(text)
    for text in ("anna@firma.example", "bert@firma.example", "carl@kunde.example", "dora@amt.example")
)
NOW = datetime.now(UTC)  # the import; the tests may run an hour later
LATER = timedelta(hours=2)  # no test takes so long
# For a service that runs: the messages are old enough for a report on their delay, half a minute after its start.
NO_DELAY_REPORTS = "[spool]\nreport_delay_hours = 0\n"
GREY = reply(450, "4.2.0", "Greylisted, please come again")
WAITING = RecipientState(RecipientStatus.WAITING, LATER, 2, GREY)
HELD = RecipientState(RecipientStatus.HELD, None, 3, None, "ValueError, 3 times in a row")
DELIVERED = RecipientState(RecipientStatus.DELIVERED, None, 1, reply(250, "2.0.0", "OK: queued as 0Lx4711"))


def message(
    ident: str,
    states: Mapping[ForwardPath, RecipientState],
    *,
    ago: timedelta = timedelta(hours=6),
    author: ForwardPath = ANNA,
    account: str = "anna",
    events: Sequence[Event] = (),
) -> Arrival:
    """A message received so long ago."""
    at = NOW - ago
    header = f"From: {author}\r\nSubject: Angebot {ident}\r\nMessage-ID: <{ident}@firma.example>\r\n\r\n"
    content = Message(HeaderSection(header.encode()), MemoryBody(b"Guten Tag\r\n"))
    client = Client("192.168.1.20", "server", "ESMTP")
    submission = Submission(ident, "office", client, Envelope(author, tuple(states)), content, at)
    taken = Event(at, EventKind.ACCEPTED, (), {"client": "192.168.1.20", "listener": "office", "account": account})
    return Arrival(submission, account, str(author), states, (taken, *events))


def attempted(ago: timedelta, recipient: ForwardPath, outcome: str, said: str) -> Event:
    """The event of one attempt."""
    facts = {"account": "anna", "outcome": outcome, "reply": said, "seconds": "0.2"}
    return Event(NOW - ago, EventKind.ATTEMPTED, (str(recipient),), facts)


QUEUE = (
    message("Old234567890", {CARL: WAITING}, ago=timedelta(hours=30)),
    message(
        "Mixed2345678",
        {CARL: DELIVERED, DORA: WAITING},
        events=(
            attempted(timedelta(hours=5), CARL, "delivered", "250 2.0.0 OK: queued as 0Lx4711"),
            attempted(timedelta(hours=5), DORA, "deferred", str(GREY)),
        ),
    ),
    message("Held23456789", {CARL: HELD}, author=BERT, account="bert"),
)
GONE = message("Gone23456789", {CARL: DELIVERED}, ago=timedelta(minutes=5))


def fill(directory: Path, *arrivals: Arrival, keep_subjects: bool = False) -> None:
    """Store the messages in the spool, as a stopped service leaves them."""

    async def put() -> None:
        spool = SqliteSpool.open(directory, SystemClock(), SpoolLimits(timedelta(days=30), keep_subjects=keep_subjects))
        try:
            for arrival in arrivals:
                await spool.accept(arrival)
        finally:
            await spool.close()

    asyncio.run(put())


def many(count: int) -> list[Arrival]:
    """Waiting messages, all alike."""
    return [replace(message(f"Many{number:08}", {CARL: WAITING})) for number in range(count)]
