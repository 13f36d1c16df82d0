"""The story as it is read."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from senderproxy.mail.address import parse_address
from senderproxy.mail.reply import reply
from senderproxy.tracking.record import Blocked, Event, EventKind, MessageRecord, RecipientState, RecipientStatus
from senderproxy.tracking.timeline import current_state, headline, size_in_words, time_in_words, timeline_lines

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
    )


MIXED = record(
    carl=RecipientState(RecipientStatus.DELIVERED, None, 1, reply(250, "2.0.0", "OK")),
    dora=RecipientState(RecipientStatus.WAITING, START + timedelta(minutes=6), 2, GREY),
    emil=RecipientState(RecipientStatus.HELD, None, 3, None, "ValueError, 3 times in a row; the log has the details"),
)


def after(seconds: float, kind: EventKind, /, *recipients: object, **facts: str) -> Event:
    return Event(START + timedelta(seconds=seconds), kind, tuple(map(str, recipients)), facts)


def test_a_message_is_told_from_its_arrival_to_this_moment() -> None:
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
    assert "\n".join(lines) == TOLD


TOLD = f"""\
2026-11-24 08:15:02  taken from 192.168.1.20 at listener office (queue), author anna@firma.example, account anna
2026-11-24 08:15:02  Date left as Tue, 24 Nov 2026 08:15:02 +0100, because there was none
2026-11-24 08:15:03  the provider took it for carl@kunde.example (account anna): {TAKEN}
2026-11-24 08:15:03  not now for dora@kunde.example, emil@kunde.example (account anna): {GREY}. That took 12.5 s
2026-11-24 08:16:02  an error here, in the middle of an attempt for emil@kunde.example: ValueError
2026-11-24 08:16:03  held for emil@kunde.example: ValueError, 3 times in a row; the log has the details
2026-11-24 08:16:32  to be tried at once for dora@kunde.example, asked by root
now                  carl@kunde.example: delivered
now                  dora@kunde.example: waiting, tried 2 times, next try 2026-11-24 08:21:02 (in 4 min); the last answer: {GREY}
now                  emil@kunde.example: held: ValueError, 3 times in a row; the log has the details (tried 3 times)"""


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (after(0, EventKind.ACCEPTED), "taken"),
        (after(0, EventKind.REFUSED, reply="550 5.7.1 no"), "not taken from the client: 550 5.7.1 no"),
        (after(0, EventKind.CHANGED, what="Bcc", new="", old="x@y.example", reason="r"), "Bcc left out, because r"),
        (after(0, EventKind.CHANGED, what="To", new="a", old="b"), "To left as a instead of b"),
        (after(0, EventKind.ATTEMPTED, outcome="failed", reply="550 no"), "refused: 550 no"),
        (after(0, EventKind.ATTEMPTED, outcome="deferred", maybe_taken="yes"), "not now. The provider may have it nevertheless"),
        (after(0, EventKind.ATTEMPTED, outcome="deferred", maybe_taken="no", seconds="?"), "not now"),
        (after(0, EventKind.DISCARDED, reply="250 x"), "discarded: 250 x"),
        (after(0, EventKind.HELD, CARL, by="anna"), "held for carl@kunde.example by anna"),
        (after(0, EventKind.RELEASED, CARL, by="anna"), "released for carl@kunde.example by anna"),
        (after(0, EventKind.RETRIED), "to be tried at once, asked by hand"),
        (after(0, EventKind.CANCELLED, CARL, DORA, EMIL, by="anna"), "cancelled for all 3 recipients by anna"),
        (after(0, EventKind.EXPIRED, CARL, reply="450 x"), "given up for carl@kunde.example, tried for as long as the settings say: 450 x"),
        (after(0, EventKind.REPORTED, CARL, kind="failed", to="a@b.example", report="Rep"), "told a@b.example that it could not be delivered for carl@kunde.example (report Rep)"),
        (after(0, EventKind.REPORTED, kind="delayed"), "told the author that it is late"),
        (after(0, EventKind.REPORTED, kind="one of next year's"), "told the author what happened"),
        (after(0, EventKind.UNREPORTED, why="nobody"), "nobody is told: nobody"),
        (after(0, EventKind.FAULT), "an error here, in the middle of an attempt"),
    ],
)  # fmt: skip
def test_everything_that_can_happen_has_a_sentence(event: Event, words: str) -> None:
    told = timeline_lines(MIXED, [after(0, EventKind.ACCEPTED), event], ZONE, START)
    assert told[1].words == words


def test_of_what_only_passed_through_its_story_says_where_it_came_from() -> None:
    first, second, *_ = timeline_lines(MIXED, [after(0, EventKind.ATTEMPTED, outcome="delivered")], ZONE, START)
    assert first.words == f"came from {MIXED.client} at listener {MIXED.listener}"
    assert second.words == "the provider took it"


def test_there_is_a_sentence_for_every_kind_of_event() -> None:
    for what in EventKind:
        assert timeline_lines(MIXED, [after(0, EventKind.ACCEPTED), Event(START, what)], ZONE, START)[1].words


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (RecipientState(RecipientStatus.WAITING, START), "waiting, not tried yet, next try now"),
        (
            RecipientState(RecipientStatus.WAITING, START, reply=reply(451, "4.4.1", "away")),  # its account's trouble
            "waiting, next try now; the last answer: 451 4.4.1 away",
        ),
        (RecipientState(RecipientStatus.WAITING, None), "waiting, not tried yet, next try unknown"),
        (RecipientState(RecipientStatus.HELD, None, 1, GREY, "held by root"), "held by root (tried 1 time); the last answer: 450 4.2.0 Greylisted"),
        (RecipientState(RecipientStatus.HELD), "held (not tried yet)"),
        (RecipientState(RecipientStatus.FAILED, None, 1, reply(550, "5.1.1", "no")), "refused; the last answer: 550 5.1.1 no"),
        (RecipientState(RecipientStatus.EXPIRED, None, 1, GREY), "given up after 1 try; the last answer: 450 4.2.0 Greylisted"),
        (RecipientState(RecipientStatus.EXPIRED, None, 9), "given up after 9 tries"),
        (RecipientState(RecipientStatus.CANCELLED), "cancelled"),
        (RecipientState(RecipientStatus.DISCARDED), "discarded"),
        (RecipientState(RecipientStatus.DEFERRED, None, 1, GREY), "not taken: its client has it still; the last answer: 450 4.2.0 Greylisted"),
    ],
)  # fmt: skip
def test_how_a_recipient_stands(state: RecipientState, words: str) -> None:
    assert current_state(record(carl=state), ZONE, START) == [f"carl@kunde.example: {words}"]


def test_what_is_being_tried_is_said_to_be() -> None:
    leased = replace(record(carl=RecipientState(RecipientStatus.WAITING, START)), leased=True)
    assert current_state(leased, ZONE, START) == ["carl@kunde.example: being tried right now"]


@pytest.mark.parametrize(
    ("until", "words"),
    [
        (None, "as soon as its account can send again"),
        (START + timedelta(minutes=30), "2026-11-24 08:45:02 (in 30 min)"),
        (START - timedelta(minutes=30), "2026-11-24 08:20:02 (in 5 min)"),
    ],
)
def test_nothing_is_tried_before_its_account_can_send(until: datetime | None, words: str) -> None:
    state = RecipientState(RecipientStatus.WAITING, START + timedelta(minutes=5), 1, GREY)
    stopped = replace(record(carl=state), blocked=Blocked("451 4.7.8 wrong password", until))
    because = "; its account cannot send: 451 4.7.8 wrong password; the last answer: 450 4.2.0 Greylisted"
    assert current_state(stopped, ZONE, START) == [
        f"carl@kunde.example: waiting, tried 1 time, next try {words}{because}"
    ]
    told_already = replace(stopped, blocked=Blocked(str(GREY), until))
    assert current_state(told_already, ZONE, START)[0].endswith(f"{words}; its account cannot send: {GREY}")


def test_those_who_stand_alike_stand_together() -> None:
    one, other = RecipientState(RecipientStatus.DELIVERED), RecipientState(RecipientStatus.CANCELLED)
    assert current_state(record(carl=one, dora=one), ZONE, START) == ["all 2 recipients: delivered"]
    many = record(a=one, b=one, c=one, d=one, e=other)
    assert current_state(many, ZONE, START) == [
        "a@kunde.example, b@kunde.example, c@kunde.example and 1 more: delivered",
        "e@kunde.example: cancelled",
    ]


def test_the_headline_says_which_message_it_is() -> None:
    one = record(carl=RecipientState(RecipientStatus.DELIVERED))
    assert headline(one, ZONE) == (
        "message Abc23defGHJK: from anna@firma.example, to 1 recipient, 24 kB, 2026-11-24 08:15:02"
    )
    other = replace(one, reverse_path="", report_on="Xyz")
    assert headline(other, ZONE).startswith(
        "report Abc23defGHJK on message Xyz: from <>, written by anna@firma.example,"
    )


@pytest.mark.parametrize(("octets", "words"), [(999, "999 bytes"), (1000, "1 kB"), (51_200_000, "51.2 MB")])
def test_a_size_in_words(octets: int, words: str) -> None:
    assert size_in_words(octets) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-3, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (7200, "2 h"), (200_000, "2 days")],
)
def test_a_time_in_words(seconds: float, words: str) -> None:
    assert time_in_words(timedelta(seconds=seconds)) == words
