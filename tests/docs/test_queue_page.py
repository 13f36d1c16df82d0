"""The example on docs/queue.md, in either language, is what `senderproxy track` prints."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from senderproxy.mail.address import parse_address
from senderproxy.mail.reply import reply
from senderproxy.tracking.record import Event, EventKind, MessageRecord, RecipientState, RecipientStatus
from senderproxy.tracking.timeline import headline, timeline_lines
from senderproxy.translation import language

PAGES = Path(__file__).parents[2] / "docs"
ZONE = ZoneInfo("Europe/Berlin")
START = datetime(2026, 11, 24, 7, 15, 2, tzinfo=UTC)
CARL, DORA = parse_address("carl@kunde.de"), parse_address("dora@amt.de")


def _example() -> list[str]:
    waiting = RecipientState(RecipientStatus.WAITING, timedelta(seconds=66), 1, reply(450, "4.2.0", "Greylisted"))
    record = MessageRecord(
        id="Abc23defGHJK",
        received_at=START,
        client="192.168.1.20",
        listener="office",
        reverse_path="anna@firma.de",
        author="anna@firma.de",
        account="anna",
        size=24_310,
        message_id="<4711@firma.de>",
        report_on=None,
        recipients={CARL: RecipientState(RecipientStatus.DELIVERED), DORA: waiting},
        as_of=START,
    )
    taken = {"outcome": "delivered", "account": "anna", "reply": "250 2.0.0 OK id=1MxDp3-1xqQ2Y"}
    grey = {"outcome": "deferred", "account": "anna", "reply": "450 4.2.0 Greylisted"}
    events = [
        Event(START, EventKind.ACCEPTED, (), {"client": "192.168.1.20", "listener": "office", "account": "anna"}),
        Event(START + timedelta(seconds=1), EventKind.ATTEMPTED, (str(CARL),), taken),
        Event(START + timedelta(seconds=1), EventKind.ATTEMPTED, (str(DORA),), grey),
    ]
    lines = timeline_lines(record, events, ZONE, START + timedelta(seconds=26))
    return [headline(record, ZONE), *(f"  {line}" for line in lines)]


@pytest.mark.parametrize(("page", "code"), [("queue.md", "en"), ("queue.de.md", "de")])
def test_the_example_is_what_track_prints(page: str, code: str) -> None:
    text = (PAGES / page).read_text(encoding="utf-8")
    [example] = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    with language(code):
        assert example.splitlines() == _example()


@pytest.mark.parametrize(("page", "code"), [("queue.md", "en"), ("queue.de.md", "de")])
def test_the_quoted_words_for_a_missing_report_are_those_of_track(page: str, code: str) -> None:
    event = Event(START, EventKind.UNREPORTED)
    record = MessageRecord("a", START, "", "", "", "", "", 1, "", None, {}, START)
    with language(code):
        [line] = timeline_lines(record, [event], ZONE, START)[:1]
    assert f"`{line.words}`" in (PAGES / page).read_text(encoding="utf-8")
