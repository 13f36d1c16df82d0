"""The timeline of a message, as it is printed."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from senderproxy.footer.reasons import SIGNED
from senderproxy.mail.address import parse_address
from senderproxy.mail.reply import reply
from senderproxy.relay.sent_copies import copy_event
from senderproxy.routing.provider import ImapServer, Security
from senderproxy.sent_copy.refusals import NegativeAnswer
from senderproxy.sent_copy.results import login_refused
from senderproxy.tracking.record import (
    Blocked,
    CopyState,
    Event,
    EventKind,
    MessageRecord,
    RecipientState,
    RecipientStatus,
)
from senderproxy.tracking.timeline import current_state, headline, size_in_words, time_in_words, timeline_lines
from senderproxy.translation import language

ZONE = ZoneInfo("Europe/Berlin")
START = datetime(2026, 11, 24, 7, 15, 2, tzinfo=UTC)
CARL, DORA, EMIL = (parse_address(f"{name}@kunde.example") for name in ("carl", "dora", "emil"))
GREY = reply(450, "4.2.0", "Greylisted")
TAKEN = "250 2.0.0 Requested mail action okay, completed: id=0Lx4711"


def record(**recipients: RecipientState) -> MessageRecord:
    return MessageRecord(
        id="Abc23defGHJK",
        received_at=START,
        client="192.168.1.20",
        listener="office",
        reverse_path="anna@firma.example",
        author="anna@firma.example",
        account="anna",
        size=24_310,
        message_id="<4711@firma.example>",
        report_on=None,
        recipients={parse_address(f"{name}@kunde.example"): state for name, state in recipients.items()},
        as_of=START,
    )


MIXED = record(
    carl=RecipientState(RecipientStatus.DELIVERED, None, 1, reply(250, "2.0.0", "OK")),
    dora=RecipientState(RecipientStatus.WAITING, timedelta(minutes=6), 2, GREY),
    emil=RecipientState(RecipientStatus.HELD, None, 3, None, "ValueError, 3 times in a row; the log has the details"),
)


def after(seconds: float, kind: EventKind, /, *recipients: object, **facts: str) -> Event:
    return Event(START + timedelta(seconds=seconds), kind, tuple(map(str, recipients)), facts)


def test_a_message_is_shown_from_its_reception_to_its_current_state() -> None:
    events = [
        after(
            0,
            EventKind.ACCEPTED,
            client="192.168.1.20",
            listener="office",
            mode="queue",
            author="anna@firma.example",
            account="anna",
        ),
        after(
            0, EventKind.CHANGED, what="Date", old="", new="Tue, 24 Nov 2026 08:15:02 +0100", reason="there was none"
        ),
        after(1, EventKind.ATTEMPTED, CARL, account="anna", outcome="delivered", reply=TAKEN, seconds="0.412"),
        after(1, EventKind.ATTEMPTED, DORA, EMIL, account="anna", outcome="deferred", reply=str(GREY), seconds="12.5"),
        after(60, EventKind.FAULT, EMIL, why="ValueError"),
        after(61, EventKind.HELD, EMIL, why="ValueError, 3 times in a row; the log has the details"),
        after(90, EventKind.RETRIED, DORA, by="root"),
    ]
    lines = [str(line) for line in timeline_lines(MIXED, events, ZONE, START + timedelta(minutes=2))]
    assert "\n".join(lines) == SHOWN


SHOWN = f"""\
2026-11-24 08:15:02  accepted from 192.168.1.20 at listener office (queue), author anna@firma.example, account anna
2026-11-24 08:15:02  Date changed to Tue, 24 Nov 2026 08:15:02 +0100, because there was none
2026-11-24 08:15:03  accepted by the provider for carl@kunde.example (account anna): {TAKEN}
2026-11-24 08:15:03  deferred by the provider for dora@kunde.example, emil@kunde.example (account anna): {GREY}; took 12.5 s
2026-11-24 08:16:02  internal error in an attempt for emil@kunde.example: ValueError
2026-11-24 08:16:03  held for emil@kunde.example: ValueError, 3 times in a row; the log has the details
2026-11-24 08:16:32  retry requested for dora@kunde.example by root
now                  carl@kunde.example: delivered
now                  dora@kunde.example: waiting, 2 attempts, next attempt 2026-11-24 08:21:02 (in 4 min); last reply: {GREY}
now                  emil@kunde.example: held: ValueError, 3 times in a row; the log has the details (3 attempts)"""


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (after(0, EventKind.ACCEPTED), "accepted"),
        (after(0, EventKind.REFUSED, reply="550 5.7.1 no"), "refused to the client: 550 5.7.1 no"),
        (after(0, EventKind.CHANGED, what="Bcc", new="", old="x@y.example", reason="r"), "Bcc removed, because r"),
        (after(0, EventKind.CHANGED, what="To", new="a", old="b"), "To changed from b to a"),
        (after(0, EventKind.CHANGED, what="Subject", reason="r"), "Subject changed, because r"),
        (
            after(0, EventKind.CHANGED, what="body", new="parts with long lines re-encoded, unless signed", reason="r"),
            "body: parts with long lines re-encoded, unless signed, because r",
        ),
        (after(0, EventKind.CHANGED, what="header section", old="A banner"), "header section removed"),
        (after(0, EventKind.ATTEMPTED, outcome="failed", reply="550 no"), "refused by the provider: 550 no"),
        (after(0, EventKind.ATTEMPTED, outcome="deferred", maybe_taken="yes"), "deferred by the provider; the provider may have accepted it nevertheless"),
        (after(0, EventKind.ATTEMPTED, outcome="deferred", maybe_taken="no", seconds="?"), "deferred by the provider"),
        (after(0, EventKind.DISCARDED, reply="250 x"), "discarded: 250 x"),
        (after(0, EventKind.HELD, CARL, by="anna"), "held for carl@kunde.example by anna"),
        (after(0, EventKind.RELEASED, CARL, by="anna"), "released for carl@kunde.example by anna"),
        (after(0, EventKind.RETRIED), "retry requested"),
        (after(0, EventKind.CANCELLED, CARL, DORA, EMIL, by="anna"), "cancelled for all 3 recipients by anna"),
        (after(0, EventKind.EXPIRED, CARL, reply="450 x"), "expired, given up for carl@kunde.example: 450 x"),
        (after(0, EventKind.REPORTED, CARL, kind="failed", to="a@b.example", report="Rep"), "failure report sent to a@b.example for carl@kunde.example (Rep)"),
        (after(0, EventKind.REPORTED, kind="delayed"), "delay report sent to the author"),
        (after(0, EventKind.REPORTED, kind="one of next year's"), "report sent to the author"),
        (after(0, EventKind.UNREPORTED, why="null reverse-path"), "no report sent: null reverse-path"),
        (after(0, EventKind.FAULT), "internal error in an attempt"),
    ],
)  # fmt: skip
def test_each_event_has_its_sentence(event: Event, words: str) -> None:
    lines = timeline_lines(MIXED, [after(0, EventKind.ACCEPTED), event], ZONE, START)
    assert lines[1].words == words


def test_a_message_that_passed_through_begins_with_its_client() -> None:
    first, second, *_ = timeline_lines(MIXED, [after(0, EventKind.ATTEMPTED, outcome="delivered")], ZONE, START)
    assert first.words == f"received from {MIXED.client} at listener {MIXED.listener}"
    assert second.words == "accepted by the provider"


def test_an_attempt_has_a_note_about_the_footer_in_the_language_of_the_reader() -> None:
    def words(footer: str) -> str:
        event = after(0, EventKind.ATTEMPTED, outcome="delivered", reply="250 2.0.0 ok", footer=footer)
        return timeline_lines(MIXED, [event], ZONE, START)[1].words

    assert words("added") == "accepted by the provider: 250 2.0.0 ok; with its footer"
    assert words(SIGNED) == "accepted by the provider: 250 2.0.0 ok; without its footer: it is signed"
    with language("de"):
        assert words(SIGNED).endswith(": 250 2.0.0 ok; ohne ihre Fußzeile: sie ist signiert")


def test_the_reason_why_a_copy_waits_is_in_the_language_of_the_reader() -> None:
    server = ImapServer("imap.anbieter.example", 993, Security.IMPLICIT_TLS)
    refused = login_refused(server, NegativeAnswer("Wrong password", "AUTHENTICATIONFAILED"))
    event = copy_event(CopyState.WAITING, "anna", START, why=refused.words)

    def words() -> str:
        return timeline_lines(MIXED, [after(0, EventKind.ACCEPTED), event], ZONE, START)[1].words

    assert words().endswith(": imap.anbieter.example:993 refuses the login: Wrong password")
    with language("de"):
        assert words().endswith(": imap.anbieter.example:993 lehnt die Anmeldung ab: Wrong password")


def test_there_is_a_sentence_for_every_kind_of_event() -> None:
    for kind in EventKind:
        assert timeline_lines(MIXED, [after(0, EventKind.ACCEPTED), Event(START, kind)], ZONE, START)[1].words


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (RecipientState(RecipientStatus.WAITING, timedelta()), "waiting, no attempt yet, next attempt now"),
        (
            RecipientState(RecipientStatus.WAITING, timedelta(), reply=reply(451, "4.4.1", "away")),  # the reply of a blocked account
            "waiting, next attempt now; last reply: 451 4.4.1 away",
        ),
        (RecipientState(RecipientStatus.WAITING, None), "waiting, no attempt yet, next attempt unknown"),
        (RecipientState(RecipientStatus.HELD, None, 1, GREY, "held by root"), "held by root (1 attempt); last reply: 450 4.2.0 Greylisted"),
        (RecipientState(RecipientStatus.HELD), "held (no attempt yet)"),
        (RecipientState(RecipientStatus.FAILED, None, 1, reply(550, "5.1.1", "no")), "refused; last reply: 550 5.1.1 no"),
        (RecipientState(RecipientStatus.EXPIRED, None, 1, GREY), "given up after 1 attempt; last reply: 450 4.2.0 Greylisted"),
        (RecipientState(RecipientStatus.EXPIRED, None, 9), "given up after 9 attempts"),
        (RecipientState(RecipientStatus.CANCELLED), "cancelled"),
        (RecipientState(RecipientStatus.DISCARDED), "discarded"),
        (RecipientState(RecipientStatus.DEFERRED, None, 1, GREY), "deferred, and not queued: the client still has it; last reply: 450 4.2.0 Greylisted"),
    ],
)  # fmt: skip
def test_the_state_of_a_recipient(state: RecipientState, words: str) -> None:
    assert current_state(record(carl=state), ZONE, START) == [f"carl@kunde.example: {words}"]


def test_an_attempt_in_progress_is_shown() -> None:
    leased = replace(record(carl=RecipientState(RecipientStatus.WAITING, timedelta())), leased=True)
    assert current_state(leased, ZONE, START) == ["carl@kunde.example: attempt in progress"]


@pytest.mark.parametrize(
    ("until", "words"),
    [
        (None, "when its account can send again"),
        (START + timedelta(minutes=30), "2026-11-24 08:45:02 (in 30 min)"),
        (START - timedelta(minutes=30), "2026-11-24 08:20:02 (in 5 min)"),
    ],
)
def test_the_next_attempt_is_not_before_the_account_can_send(until: datetime | None, words: str) -> None:
    state = RecipientState(RecipientStatus.WAITING, timedelta(minutes=5), 1, GREY)
    blocked = replace(record(carl=state), blocked=Blocked("451 4.7.8 wrong password", until))
    because = "; its account cannot send: 451 4.7.8 wrong password; last reply: 450 4.2.0 Greylisted"
    assert current_state(blocked, ZONE, START) == [
        f"carl@kunde.example: waiting, 1 attempt, next attempt {words}{because}"
    ]
    same_reply = replace(blocked, blocked=Blocked(str(GREY), until))
    assert current_state(same_reply, ZONE, START)[0].endswith(f"{words}; its account cannot send: {GREY}")


def test_recipients_in_the_same_state_share_a_line() -> None:
    one, other = RecipientState(RecipientStatus.DELIVERED), RecipientState(RecipientStatus.CANCELLED)
    assert current_state(record(carl=one, dora=one), ZONE, START) == ["all 2 recipients: delivered"]
    many = record(a=one, b=one, c=one, d=one, e=other)
    assert current_state(many, ZONE, START) == [
        "a@kunde.example, b@kunde.example, c@kunde.example and 1 more: delivered",
        "e@kunde.example: cancelled",
    ]


def test_the_headline_identifies_the_message() -> None:
    one = record(carl=RecipientState(RecipientStatus.DELIVERED))
    assert headline(one, ZONE) == (
        "message Abc23defGHJK: from anna@firma.example, to 1 recipient, 24 kB, 2026-11-24 08:15:02"
    )
    other = replace(one, reverse_path="", report_on="Xyz")
    assert headline(other, ZONE).startswith("report Abc23defGHJK on message Xyz: from <>, author anna@firma.example,")


@pytest.mark.parametrize(("octets", "words"), [(999, "999 bytes"), (1000, "1 kB"), (51_200_000, "51.2 MB")])
def test_a_size_in_words(octets: int, words: str) -> None:
    assert size_in_words(octets) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-3, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (7200, "2 h"), (200_000, "2 days")],
)
def test_a_time_in_words(seconds: float, words: str) -> None:
    assert time_in_words(timedelta(seconds=seconds)) == words
