"""What a person asks of the queue and does to it, with the spool in memory."""

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from senderproxy.dsn.compose import MemoryBody
from senderproxy.errors import SenderproxyError
from senderproxy.mail.address import NULL_PATH, ForwardPath, parse_address
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.message import Message
from senderproxy.mail.reply import reply
from senderproxy.mail.submission import Client, Submission
from senderproxy.relay.dsn_queueing import StatesWithReports
from senderproxy.relay.ports import Arrival, Claim, Spool, SpoolFull
from senderproxy.relay.queue_admin import (
    ALREADY_HELD,
    CHANGED_AT_ONCE,
    IN_PROGRESS,
    IS_HELD,
    NO_SUCH_MESSAGE,
    NOT_HELD,
    NOT_WAITING,
    PAGE,
    QueueAction,
    QueueAdmin,
    States,
)
from senderproxy.tracking.record import Event, EventKind, Query, RecipientState, RecipientStatus
from senderproxy.tracking.serialize import read_event, read_record
from tests.fakes.memory_spool import MemorySpool

NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
ANNA, CARL, DORA, EMIL = (parse_address(f"{name}@firma.example") for name in ("anna", "carl", "dora", "emil"))
WAITING = RecipientState(RecipientStatus.WAITING, NOW + timedelta(minutes=20), 3, reply(450, "4.2.0", "Greylisted"))
HELD = RecipientState(RecipientStatus.HELD, None, 1, None, "three errors in a row")
DELIVERED = RecipientState(RecipientStatus.DELIVERED, None, 1, reply(250, "2.0.0", "OK"))


class FrozenClock:
    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return 0.0

    def new_id(self) -> str:
        return "Fresh2345678"

    def chance(self) -> float:
        return 0.5


def arrival(ident: str, states: dict[ForwardPath, RecipientState], account: str = "anna", **changes: object) -> Arrival:
    message = Message(HeaderSection(b"From: anna@firma.example\r\nSubject: \xc3\xbc\r\n\r\n"), MemoryBody(b"x\r\n"))
    client = Client("192.168.1.20", "server", "ESMTP")
    submission = Submission(ident, "office", client, Envelope(ANNA, tuple(states)), message, NOW - timedelta(hours=1))
    accepted = Event(NOW - timedelta(hours=1), EventKind.ACCEPTED, (), {"client": "192.168.1.20"})
    return Arrival(replace(submission, **changes), account, str(ANNA), states, (accepted,))  # type: ignore[arg-type]


@dataclass
class Desk:
    """The operator at work."""

    spool: MemorySpool = field(default_factory=lambda: MemorySpool(FrozenClock()))
    woken: list[str] = field(default_factory=list)
    answer: StatesWithReports | Exception | None = None

    def __post_init__(self) -> None:
        self.operator = QueueAdmin(lambda: cast("Spool", self.spool), FrozenClock(), self.tell, self.woken.append)

    def tell(self, claim: Claim, states: States) -> StatesWithReports:
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is not None:
            return self.answer
        report = arrival("Report234567", {ANNA: WAITING}, report_on=claim.submission.id)
        report = replace(report, submission=replace(report.submission, envelope=Envelope(NULL_PATH, (ANNA,))))
        facts = {"report": "Report234567", "kind": "cancelled", "to": str(ANNA)}
        return StatesWithReports(states, [Event(NOW, EventKind.REPORTED, tuple(map(str, states)), facts)], [report])

    async def do(self, act: QueueAction, *ids: str, report: bool = True) -> tuple[list[str], dict[str, str]]:
        answer = await self.operator.change(act, ids, "root", report=report)
        return answer["changed"], {one["id"]: one["why"] for one in answer["left"]}

    def states(self, ident: str) -> dict[ForwardPath, RecipientState]:
        return dict(self.spool.entries[ident].states)

    def leased(self) -> set[str]:
        return {ident for ident, entry in self.spool.entries.items() if entry.leased}

    def told(self, ident: str) -> list[tuple[EventKind, tuple[str, ...], dict[str, str]]]:
        return [(e.kind, e.recipients, dict(e.facts)) for e in self.spool.entries[ident].events[1:]]


@pytest.fixture
def desk() -> Desk:
    desk = Desk()
    desk.spool.note(arrival("Mixed2345678", {CARL: WAITING, DORA: HELD, EMIL: DELIVERED}))
    desk.spool.note(arrival("Done23456789", {CARL: DELIVERED}))
    return desk


# ---- acts ----


async def test_what_waits_is_tried_at_once_and_the_runner_is_told(desk: Desk) -> None:
    assert await desk.do(QueueAction.RETRY, "Mixed2345678") == (["Mixed2345678"], {})
    assert desk.states("Mixed2345678") == {CARL: replace(WAITING, due_at=NOW), DORA: HELD, EMIL: DELIVERED}
    assert desk.told("Mixed2345678") == [(EventKind.RETRIED, (str(CARL),), {"by": "root"})]
    assert desk.woken == ["anna"]


async def test_what_waits_is_held_and_says_who_held_it(desk: Desk) -> None:
    assert await desk.do(QueueAction.HOLD, "Mixed2345678") == (["Mixed2345678"], {})
    held = desk.states("Mixed2345678")[CARL]
    assert (held.status, held.due_at, held.why, held.tries) == (RecipientStatus.HELD, None, "held by root", 3)
    assert desk.told("Mixed2345678") == [(EventKind.HELD, (str(CARL),), {"by": "root"})]
    assert desk.woken == []


async def test_what_is_held_is_released_with_its_faults_forgiven(desk: Desk) -> None:
    desk.spool.entries["Mixed2345678"].faults = 3
    assert await desk.do(QueueAction.RELEASE, "Mixed2345678") == (["Mixed2345678"], {})
    assert desk.states("Mixed2345678")[DORA] == replace(HELD, status=RecipientStatus.WAITING, due_at=NOW, why="")
    assert desk.states("Mixed2345678")[CARL] == WAITING
    assert desk.spool.entries["Mixed2345678"].faults == 0
    assert desk.woken == ["anna"]


async def test_trying_at_once_does_not_forgive_faults(desk: Desk) -> None:
    desk.spool.entries["Mixed2345678"].faults = 2
    await desk.do(QueueAction.RETRY, "Mixed2345678")
    assert desk.spool.entries["Mixed2345678"].faults == 2


async def test_what_is_cancelled_is_reported_in_the_same_breath(desk: Desk) -> None:
    assert await desk.do(QueueAction.CANCEL, "Mixed2345678") == (["Mixed2345678"], {})
    states = desk.states("Mixed2345678")
    assert (states[CARL].status, states[DORA].status) == (RecipientStatus.CANCELLED, RecipientStatus.CANCELLED)
    assert states[EMIL] == DELIVERED
    assert [what for what, _, _ in desk.told("Mixed2345678")] == [EventKind.CANCELLED, EventKind.REPORTED]
    assert desk.spool.entries["Report234567"].submission.report_on == "Mixed2345678"
    assert desk.woken == ["anna"]  # for the report


async def test_without_a_report_it_is_written_down_that_nobody_was_told(desk: Desk) -> None:
    assert await desk.do(QueueAction.CANCEL, "Mixed2345678", report=False) == (["Mixed2345678"], {})
    assert [what for what, _, _ in desk.told("Mixed2345678")] == [EventKind.CANCELLED, EventKind.UNREPORTED]
    assert "Report234567" not in desk.spool.entries


async def test_where_the_author_cannot_be_told_nothing_is_cancelled_behind_the_back(desk: Desk) -> None:
    desk.answer = StatesWithReports({CARL: replace(HELD, why="the author cannot be notified")})
    changed, left = await desk.do(QueueAction.CANCEL, "Mixed2345678")
    assert changed == []
    assert left["Mixed2345678"] == "the author cannot be notified; to cancel it without a report: --no-report"
    assert desk.states("Mixed2345678")[CARL] == WAITING
    assert desk.leased() == set()


async def test_what_is_being_tried_is_left_alone(desk: Desk) -> None:
    desk.spool.entries["Mixed2345678"].leased = True
    for act in (QueueAction.HOLD, QueueAction.RELEASE, QueueAction.CANCEL):
        assert await desk.do(act, "Mixed2345678") == ([], {"Mixed2345678": IN_PROGRESS})
    assert await desk.do(QueueAction.RETRY, "Mixed2345678") == (["Mixed2345678"], {})  # what is asked for is happening
    assert desk.states("Mixed2345678")[CARL] == WAITING


@pytest.mark.parametrize(
    ("act", "states", "why"),
    [
        (QueueAction.RETRY, {CARL: HELD}, IS_HELD),
        (QueueAction.HOLD, {CARL: HELD}, ALREADY_HELD),
        (QueueAction.RELEASE, {CARL: WAITING}, NOT_HELD),
        (QueueAction.CANCEL, {CARL: DELIVERED}, NOT_WAITING),
    ],
)
async def test_what_cannot_be_done_is_said_and_the_lease_ends(
    act: QueueAction, states: dict[ForwardPath, RecipientState], why: str
) -> None:
    desk = Desk()
    desk.spool.note(arrival("Plain2345678", states))
    desk.spool.entries["Plain2345678"].faults = 2
    assert await desk.do(act, "Plain2345678") == ([], {"Plain2345678": why})
    assert (desk.leased(), desk.spool.entries["Plain2345678"].faults) == (set(), 2)
    assert desk.told("Plain2345678") == []


async def test_many_at_once_are_each_answered_for(desk: Desk) -> None:
    for number in range(120):
        desk.spool.note(arrival(f"Many{number:08}", {CARL: WAITING}))
    ids = [*(f"Many{number:08}" for number in range(120)), "Nothing23456", "Done23456789"]
    changed, left = await desk.do(QueueAction.HOLD, *ids)
    assert changed == ids[:120]
    assert left == {"Nothing23456": NO_SUCH_MESSAGE, "Done23456789": NOT_WAITING}


async def test_a_full_disk_is_said_and_leaves_no_lease(desk: Desk) -> None:
    desk.spool.full = SpoolFull("There is no room.")
    with pytest.raises(SpoolFull):
        await desk.do(QueueAction.HOLD, "Mixed2345678")
    assert desk.leased() == set()
    assert desk.states("Mixed2345678")[CARL] == WAITING


async def test_a_fault_while_the_report_is_made_leaves_no_lease(desk: Desk) -> None:
    desk.answer = ZeroDivisionError("a fault of ours")
    with pytest.raises(ZeroDivisionError):
        await desk.do(QueueAction.CANCEL, "Mixed2345678")
    assert desk.leased() == set()


# ---- questions ----


async def test_totals_are_plain_values(desk: Desk) -> None:
    (entry,) = (await desk.operator.totals())["accounts"]
    assert (entry["account"], entry["waiting"], entry["held"]) == ("anna", 0, 1)
    assert datetime.fromisoformat(entry["oldest"]) == NOW - timedelta(hours=1)
    assert json.loads(json.dumps(entry)) == entry


async def test_a_message_is_shown_with_its_story_and_its_header(desk: Desk) -> None:
    answer = json.loads(json.dumps(await desk.operator.show("Mixed2345678")))
    record = read_record(answer["message"])
    assert record.recipients == {CARL: WAITING, DORA: HELD, EMIL: DELIVERED}
    assert [read_event(event).kind for event in answer["message"]["events"]] == [EventKind.ACCEPTED]
    assert answer["header"].startswith("From: anna@firma.example\r\nSubject: ü")


async def test_what_is_over_has_a_story_but_no_header(desk: Desk) -> None:
    answer = await desk.operator.show("Done23456789")
    assert answer["header"] is None
    assert answer["message"]["recipients"][0]["fate"] == "delivered"


async def test_a_message_that_is_not_there_is_none(desk: Desk) -> None:
    assert await desk.operator.show("Nothing23456") == {"message": None}
    # A Message-ID finds messages to choose from, but nothing is shown or done by it.
    assert await desk.operator.show("<Mixed2345678@firma.example>") == {"message": None}


async def test_pages_go_on_where_the_last_one_ended() -> None:
    desk = Desk()
    for number in range(7):
        desk.spool.note(arrival(f"Page{number:08}", {CARL: WAITING}))
    query, found, after = Query(unfinished=True), [], None
    for _ in range(4):
        page = await desk.operator.list_messages(query, limit=3, after=after)
        found += [entry["id"] for entry in page["messages"]]
        after = page["next"]
        if after is None:
            break
    assert found == [f"Page{number:08}" for number in range(7)]
    assert after is None


async def test_an_answer_stays_within_the_line_whatever_servers_said() -> None:
    desk = Desk()
    chatty = replace(WAITING, reply=reply(450, None, *["x" * 2000] * 100))
    paths = [parse_address(f"person{number}@kunde.example") for number in range(100)]
    for number in range(20):
        desk.spool.note(arrival(f"Long{number:08}", dict.fromkeys(paths, chatty)))
    page = await desk.operator.track(Query(unfinished=True))
    assert 0 < len(page["messages"]) < 20
    assert page["next"] == page["messages"][-1]["id"]
    assert len(json.dumps(page)) < 2_000_000


# ---- requests ----


async def test_requests_reach_the_same_functions(desk: Desk) -> None:
    handlers = desk.operator.handlers()
    assert set(handlers) == {"queue.totals", "queue.list", "queue.show", "queue.change", "track"}
    assert (await handlers["queue.totals"]({}))["accounts"]
    listed = await handlers["queue.list"]({"query": {"unfinished": True}, "limit": 10_000})
    assert [entry["id"] for entry in listed["messages"]] == ["Mixed2345678"]
    assert (await handlers["queue.show"]({"id": "Mixed2345678"}))["message"]["id"] == "Mixed2345678"
    tracked = await handlers["track"]({"query": {"status": "delivered", "to": str(EMIL)}, "limit": PAGE})
    assert [entry["id"] for entry in tracked["messages"]] == ["Mixed2345678"]
    request = {"act": "cancel", "ids": ["Mixed2345678"], "by": "anna", "report": False}
    assert (await handlers["queue.change"](request))["changed"] == ["Mixed2345678"]
    assert desk.told("Mixed2345678")[0] == (EventKind.CANCELLED, (str(CARL), str(DORA)), {"by": "anna"})


@pytest.mark.parametrize(
    ("do", "request_"),
    [
        ("queue.change", {"act": "burn", "ids": ["x"]}),
        ("queue.change", {"act": "hold", "ids": ["x"] * (CHANGED_AT_ONCE + 1)}),
        ("queue.list", {"query": {"status": "lost"}}),
        ("track", {"query": {"since": "yesterday"}}),
    ],
)
async def test_a_request_that_cannot_be_meant_is_refused_in_words(
    desk: Desk, do: str, request_: dict[str, object]
) -> None:
    with pytest.raises(SenderproxyError):
        await desk.operator.handlers()[do](request_)
