"""Conversion between the values of the program and the rows of the database. PURE.

Guarantees: what is read equals what was written, times to the millisecond; a row that was altered on the disk is
detected by its seal and never read as something else.
Not here: the statements that write the rows (spool.sqlite.statements), the content (spool.sqlite.content).
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, TypeAlias
from zlib import crc32

from senderproxy.mail.address import (
    NULL_PATH,
    Address,
    ForwardPath,
    ReversePath,
    parse_address,
    parse_pattern,
)
from senderproxy.mail.reply import EnhancedStatus, Reply
from senderproxy.mail.subject import subject_of, subject_words
from senderproxy.mail.submission import Client
from senderproxy.relay.ports import Arrival
from senderproxy.spool.sqlite.upstream_id import upstream_id
from senderproxy.tracking.record import Event, EventKind, Lane, RecipientState, RecipientStatus
from senderproxy.value_class import value_class

Row: TypeAlias = tuple[Any, ...]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)  # the unit of all times in the database
_MESSAGE_ID: Final = re.compile(rb"^message-id[ \t]*:((?>(?:\r\n[ \t]|[^\r\n]++)*))", re.IGNORECASE | re.MULTILINE)
_MESSAGE_ID_LIMIT: Final = 998  # octets of a line (RFC 5322 section 2.1.1)
_WHY_LIMIT: Final = 2000  # characters; an error text with several lines of a reply fits
_SUBJECT_OCTETS: Final = 100  # of a word in the database, with its index

# The columns of a row in the order of its values.
MESSAGE_COLUMNS: Final = (
    "number, id, received_at, listener, client, reverse_path, eight_bit, author, account, carrier, size, message_id,"
    " report_on, seal"
)
SUMMARY_COLUMNS: Final = "waiting, held, due_at, undelayed, finished_at"
STATE_COLUMNS: Final = "fate, due_at, tries, reply, why, delay_reported"

# ASCII only: SQLite takes no lone surrogate, which a header may contain.
json_text = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), check_circular=False).encode


class UnreadableRow(Exception):
    """A row or a body is not as it was written. The text is the reason, for the operator."""


# ---- times ----


def to_ms(time: datetime) -> int:
    """Milliseconds since 1970."""
    return (time - _EPOCH) // _MILLISECOND


def from_ms(milliseconds: int) -> datetime:
    """The time, aware, UTC."""
    return _EPOCH + timedelta(milliseconds=milliseconds)


def span_ms(step: timedelta) -> int:
    """Milliseconds of a span of time."""
    return step // _MILLISECOND


# ---- search keys of addresses ----


def key_of(address: Address) -> str:
    """The key of an address in an index: sorted by domain, the local part in lower case."""
    return f"{address.domain} {address.local_part.lower()}"


def range_of(text: str) -> tuple[str, str]:
    """The first key of an address or `@domain`, and the first key after its last. Raises AddressError."""
    pattern = parse_pattern(text)
    if pattern.local_part is None:
        return f"{pattern.domain} ", f"{pattern.domain}!"
    key = key_of(Address(pattern.local_part, pattern.domain))
    return key, f"{key}\0"


# ---- values to rows ----


@dataclass(slots=True)
class ArrivalRows:
    """The rows of one arrival without its content."""

    message: Row
    recipients: list[Row]
    events: list[Row]
    octets: int  # estimated size in the database
    subject: Row | None = None  # None: it is not kept
    words: Sequence[Row] = ()  # of the subject


def rows_of(arrival: Arrival, number: int, now: int, *, keeps_subject: bool = False) -> ArrivalRows:
    """The rows of a new message. `now`: milliseconds since 1970."""
    submission = arrival.submission
    envelope = submission.envelope
    received_at = to_ms(submission.received_at)
    home = lane_text(Lane.of_account(arrival.account))
    lanes = {path: lane_text(lane) for path, lane in arrival.lanes.items()} if arrival.lanes else {}
    recipients = [
        (*_recipient_row(number, position, path, arrival.states[path], received_at, now), lanes.get(path, home))
        for position, path in enumerate(envelope.recipients)
    ]
    summary = summarise(tuple(row[4:10] for row in recipients))
    reverse_path = str(envelope.reverse_path)
    key = author_key(arrival.author)
    reverse_key = author_key(reverse_path) if reverse_path and reverse_path != arrival.author else None
    fixed = (
        submission.id,
        submission.listener,
        client_text(submission.client),
        reverse_path,
        int(envelope.eight_bit),
        arrival.author,
        submission.carrier,
        submission.message.size,
        submission.report_on,
    )
    ident, listener, client, _, eight_bit, author, carrier, size, report_on = fixed
    message = (
        number,
        ident,
        received_at,
        listener,
        client,
        reverse_path,
        eight_bit,
        author,
        arrival.account,
        carrier,
        size,
        message_id(submission.message.header.raw),
        report_on,
        seal(fixed, [row[2] for row in recipients]),
        key,
        reverse_key if reverse_key != key else None,
        0,
        *summary.columns(now),
    )
    made = ArrivalRows(
        message, recipients, [event_row(number, event) for event in arrival.events], 1000 + 300 * len(recipients)
    )
    if keeps_subject and (text := clean(subject_of(submission.message.header))):
        made.subject, made.words = (number, text), [(word, number) for word in subject_words(text)]
        made.octets += 4 * len(text) + _SUBJECT_OCTETS * len(made.words)
    return made


def _recipient_row(
    number: int, position: int, path: ForwardPath, state: RecipientState, received_at: int, now: int
) -> Row:
    due_at = received_at if state.status is RecipientStatus.WAITING else None
    return (number, position, str(path), key_of(path), *state_columns(state, now, due_at))


def state_columns(state: RecipientState, now: int, due_at: int | None = None) -> Row:
    """STATE_COLUMNS, upstream_id. `due_at`: the due time of a state without a delay. Milliseconds since 1970."""
    if state.due_in is not None and state.status is RecipientStatus.WAITING:
        due_at = now + span_ms(state.due_in)
    return (
        state.status.value,
        due_at,
        state.tries,
        None if state.reply is None else _reply_text(state.reply, state.remote),
        clean(state.why[:_WHY_LIMIT]),
        int(state.delay_reported),
        upstream_id(state.reply) if state.status is RecipientStatus.DELIVERED and state.reply is not None else None,
    )


@value_class
class Summary:
    """The columns of a message's row that are derived from its recipients."""

    waiting: int
    held: int
    due_at: int | None
    undelayed: int | None

    @property
    def is_finished(self) -> bool:
        return not self.waiting and not self.held

    def columns(self, now: int) -> Row:
        """SUMMARY_COLUMNS."""
        return (self.waiting, self.held, self.due_at, self.undelayed, now if self.is_finished else None)


_UNFINISHED: Final = frozenset({"waiting", "held"})
_FINISHED: Final = Summary(0, 0, None, None)


def summarise(states: Sequence[Row]) -> Summary:
    """The summary of all recipients; `states` are rows of STATE_COLUMNS."""
    if len(states) == 1 and states[0][0] not in _UNFINISHED:
        return _FINISHED  # nearly every message that passed through
    if len(states) == 1 and states[0][0] == "waiting":  # and nearly every queued one
        return Summary(1, 0, states[0][1], None if states[0][5] else 1)
    waiting = [columns for columns in states if columns[0] == "waiting"]
    return Summary(
        waiting=len(waiting),
        held=sum(columns[0] == "held" for columns in states),
        due_at=min((columns[1] for columns in waiting), default=None),
        undelayed=1 if any(not columns[5] for columns in waiting) else None,
    )


def event_row(number: int, event: Event) -> Row:
    """message, at, what, recipients, facts; the position is added by the statement."""
    recipients = json_text(event.recipients) if event.recipients else "[]"
    return (number, to_ms(event.at), event.kind.value, recipients, json_text(dict(event.facts)))


def events_text(events: Iterable[Row]) -> str:
    """JSON of rows of message, at, what, recipients, facts; the last two are JSON already."""
    return f"[{','.join(f'[{at},{json_text(what)},{people},{facts}]' for _, at, what, people, facts in events)}]"


lane_text = lru_cache(maxsize=1024)(str)  # text form of a lane


@lru_cache(maxsize=512)
def client_text(client: Client) -> str:
    """The client as JSON without the facts that have their default."""
    facts = {
        "host": client.host,
        "name": client.name,
        "protocol": client.protocol,
        "user": client.user,
        "senders": None if client.senders is None else [str(pattern) for pattern in client.senders],
        "forced_sender": None if client.forced_sender is None else str(client.forced_sender),
        "lenient": client.lenient or None,
    }
    return json_text({name: value for name, value in facts.items() if value is not None})


def message_id(header: bytes) -> str | None:
    """The first Message-ID of the header section, unfolded; None if there is none."""
    found = _MESSAGE_ID.search(header)
    if found is None:
        return None
    return found.group(1).decode("ascii", "replace").replace("\r\n", "").strip()[:_MESSAGE_ID_LIMIT] or None


def seal(fixed: Sequence[object], addresses: Sequence[str]) -> int:
    """CRC-32 of the facts that never change and of the recipients' addresses; detects an altered row."""
    return crc32(repr((*fixed, *addresses)).encode("utf-8", "backslashreplace"))


def clean(text: str) -> str:
    """The text without lone surrogates, which SQLite does not take."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


@lru_cache(maxsize=1024)
def author_key(text: str) -> str:
    """The search key of an author; text that is not an address is searched for as a whole."""
    try:
        return key_of(parse_address(text))
    except ValueError:
        return clean(text.lower())


@lru_cache(maxsize=512)
def _reply_text(reply: Reply, remote: str) -> str:
    status = None if reply.status is None else [reply.status.klass, reply.status.subject, reply.status.detail]
    return json_text([reply.code, status, reply.lines, *([remote] if remote else [])])


# ---- rows to values ----


@lru_cache(maxsize=512)
def client_of(text: str) -> Client:
    """The client of `client_text`."""
    facts = json.loads(text)
    senders = facts.get("senders")
    forced = facts.get("forced_sender")
    return Client(
        host=facts["host"],
        name=facts["name"],
        protocol=facts["protocol"],
        user=facts.get("user"),
        senders=None if senders is None else tuple(parse_pattern(pattern) for pattern in senders),
        forced_sender=None if forced is None else parse_address(forced),
        lenient=facts.get("lenient", False),
    )


def reverse_path_of(text: str) -> ReversePath:
    """The reverse-path of a row; empty text is the null reverse-path."""
    return parse_address(text) if text else NULL_PATH


def state_of(columns: Row, now: int | None = None) -> RecipientState:
    """The state of a row of STATE_COLUMNS. `now`: milliseconds since 1970, for the time left; None: without it."""
    status, due_at, tries, reply, why, delay_reported = columns[:6]
    return RecipientState(
        status=RecipientStatus(status),
        due_in=None if due_at is None or now is None else timedelta(milliseconds=due_at - now),
        tries=tries,
        reply=None if reply is None else reply_of(reply),
        why=why,
        delay_reported=bool(delay_reported),
        remote="" if reply is None else _remote_of(reply),
    )


@lru_cache(maxsize=512)
def reply_of(text: str) -> Reply:
    """The reply of a recipient's row. Raises ValueError or TypeError if the row is damaged."""
    code, status, lines = json.loads(text)[:3]
    return Reply(code, None if status is None else EnhancedStatus(*status), tuple(lines))


@lru_cache(maxsize=512)
def _remote_of(text: str) -> str:
    """The host that sent the reply; empty for a reply of our own."""
    return "".join(json.loads(text)[3:])


def event_of(columns: Row) -> Event:
    """The event of a row of at, what, recipients, facts."""
    at, kind, recipients, facts = columns
    return Event(from_ms(at), EventKind(kind), tuple(json.loads(recipients)), json.loads(facts))
