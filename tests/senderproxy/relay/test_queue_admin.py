"""Queue queries and changes by an operator, with the spool in memory."""

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
    QueueAdmin,
    States,
)
from senderproxy.tracking.queue_words import QueueAction
from senderproxy.tracking.record import Event, EventKind, Lane, Query, RecipientState, RecipientStatus
from senderproxy.tracking.serialize import read_event, read_record
from tests.fakes.memory_spool import MemorySpool

NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
ANNA, CARL, DORA, EMIL = (parse_address(f"{name}@firma.example") for name in ("anna", "carl", "dora", "emil"))
WAITING = RecipientState(RecipientStatus.WAITING, timedelta(minutes=20), 3, reply(450, "4.2.0", "Greylisted"))
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
class Admin:
    """The queue administration with a spool in memory, and a report builder that a test sets."""

    spool: MemorySpool = field(default_factory=lambda: MemorySpool(FrozenClock()))
    woken: list[Lane] = field(default_factory=list)
    answer: StatesWithReports | Exception | None = None

    def __post_init__(self) -> None:
        self.queue = QueueAdmin(lambda: cast("Spool", self.spool), FrozenClock(), self.report, self.woken.append)

    async def report(self, claim: Claim, states: States) -> StatesWithReports:
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is not None:
            return self.answer
        report = arrival("Report234567", {ANNA: WAITING}, report_on=claim.submission.id)
        report = replace(report, submission=replace(report.submission, envelope=Envelope(NULL_PATH, (ANNA,))))
        facts = {"report": "Report234567", "kind": "cancelled", "to": str(ANNA)}
        return StatesWithReports(states, [Event(NOW, EventKind.REPORTED, tuple(map(str, states)), facts)], [report])

    async def do(self, act: QueueAction, *ids: str, report: bool = True) -> tuple[list[str], dict[str, str]]:
        answer = await self.queue.change(act, ids, "root", report=report)
        return answer["changed"], {one["id"]: one["why"] for one in answer["left"]}

    def states(self, ident: str) -> dict[ForwardPath, RecipientState]:
        entry = self.spool.entries[ident]
        return {
            path: replace(state, due_in=entry.due[path] - NOW) if path in entry.due else state
            for path, state in entry.states.items()
        }

    def leased(self) -> set[str]:
        return {ident for ident, entry in self.spool.entries.items() if entry.leases}

    def new_events(self, ident: str) -> list[tuple[EventKind, tuple[str, ...], dict[str, str]]]:
        return [(e.kind, e.recipients, dict(e.facts)) for e in self.spool.entries[ident].events[1:]]


@pytest.fixture
def admin() -> Admin:
    admin = Admin()
    admin.spool.note(arrival("Mixed2345678", {CARL: WAITING, DORA: HELD, EMIL: DELIVERED}))
    admin.spool.note(arrival("Done23456789", {CARL: DELIVERED}))
    return admin


# ---- acts ----


async def test_retry_makes_a_message_due_now_and_calls_the_runner(admin: Admin) -> None:
    assert await admin.do(QueueAction.RETRY, "Mixed2345678") == (["Mixed2345678"], {})
    assert admin.states("Mixed2345678") == {CARL: replace(WAITING, due_in=timedelta()), DORA: HELD, EMIL: DELIVERED}
    assert admin.new_events("Mixed2345678") == [(EventKind.RETRIED, (str(CARL),), {"by": "root"})]
    assert admin.woken == [Lane.of_account("anna")]


async def test_hold_records_the_operator(admin: Admin) -> None:
    assert await admin.do(QueueAction.HOLD, "Mixed2345678") == (["Mixed2345678"], {})
    held = admin.states("Mixed2345678")[CARL]
    assert (held.status, held.due_in, held.why, held.tries) == (RecipientStatus.HELD, None, "held by root", 3)
    assert admin.new_events("Mixed2345678") == [(EventKind.HELD, (str(CARL),), {"by": "root"})]
    assert admin.woken == []


async def test_release_resets_the_count_of_internal_errors(admin: Admin) -> None:
    admin.spool.entries["Mixed2345678"].faults = 3
    assert await admin.do(QueueAction.RELEASE, "Mixed2345678") == (["Mixed2345678"], {})
    assert admin.states("Mixed2345678")[DORA] == replace(
        HELD, status=RecipientStatus.WAITING, due_in=timedelta(), why=""
    )
    assert admin.states("Mixed2345678")[CARL] == WAITING
    assert admin.spool.entries["Mixed2345678"].faults == 0
    assert admin.woken == [Lane.of_account("anna")]


async def test_retry_does_not_reset_the_count_of_internal_errors(admin: Admin) -> None:
    admin.spool.entries["Mixed2345678"].faults = 2
    await admin.do(QueueAction.RETRY, "Mixed2345678")
    assert admin.spool.entries["Mixed2345678"].faults == 2


async def test_a_cancelled_message_is_reported_in_the_same_commit(admin: Admin) -> None:
    assert await admin.do(QueueAction.CANCEL, "Mixed2345678") == (["Mixed2345678"], {})
    states = admin.states("Mixed2345678")
    assert (states[CARL].status, states[DORA].status) == (RecipientStatus.CANCELLED, RecipientStatus.CANCELLED)
    assert states[EMIL] == DELIVERED
    assert [what for what, _, _ in admin.new_events("Mixed2345678")] == [EventKind.CANCELLED, EventKind.REPORTED]
    assert admin.spool.entries["Report234567"].submission.report_on == "Mixed2345678"
    assert admin.woken == [Lane.of_account("anna")]  # for the report


async def test_cancel_without_a_report_is_recorded_as_unreported(admin: Admin) -> None:
    assert await admin.do(QueueAction.CANCEL, "Mixed2345678", report=False) == (["Mixed2345678"], {})
    assert [what for what, _, _ in admin.new_events("Mixed2345678")] == [EventKind.CANCELLED, EventKind.UNREPORTED]
    assert "Report234567" not in admin.spool.entries


async def test_a_message_whose_author_cannot_be_notified_is_not_cancelled(admin: Admin) -> None:
    admin.answer = StatesWithReports({CARL: replace(HELD, why="the author cannot be notified")})
    changed, left = await admin.do(QueueAction.CANCEL, "Mixed2345678")
    assert changed == []
    assert left["Mixed2345678"] == "the author cannot be notified; to cancel it without a report: --no-report"
    assert admin.states("Mixed2345678")[CARL] == WAITING
    assert admin.leased() == set()


async def test_a_message_in_progress_is_not_changed(admin: Admin) -> None:
    admin.spool.entries["Mixed2345678"].leases["7"] = None
    for act in (QueueAction.HOLD, QueueAction.RELEASE, QueueAction.CANCEL):
        assert await admin.do(act, "Mixed2345678") == ([], {"Mixed2345678": IN_PROGRESS})
    assert await admin.do(QueueAction.RETRY, "Mixed2345678") == (["Mixed2345678"], {})  # what is asked for is happening
    assert admin.states("Mixed2345678")[CARL] == WAITING


@pytest.mark.parametrize(
    ("act", "states", "why"),
    [
        (QueueAction.RETRY, {CARL: HELD}, IS_HELD),
        (QueueAction.HOLD, {CARL: HELD}, ALREADY_HELD),
        (QueueAction.RELEASE, {CARL: WAITING}, NOT_HELD),
        (QueueAction.CANCEL, {CARL: DELIVERED}, NOT_WAITING),
    ],
)
async def test_an_impossible_change_has_a_reason_and_ends_the_lease(
    act: QueueAction, states: dict[ForwardPath, RecipientState], why: str
) -> None:
    admin = Admin()
    admin.spool.note(arrival("Plain2345678", states))
    admin.spool.entries["Plain2345678"].faults = 2
    assert await admin.do(act, "Plain2345678") == ([], {"Plain2345678": why})
    assert (admin.leased(), admin.spool.entries["Plain2345678"].faults) == (set(), 2)
    assert admin.new_events("Plain2345678") == []


async def test_a_change_of_many_messages_has_a_result_for_each(admin: Admin) -> None:
    for number in range(120):
        admin.spool.note(arrival(f"Many{number:08}", {CARL: WAITING}))
    ids = [*(f"Many{number:08}" for number in range(120)), "Nothing23456", "Done23456789"]
    changed, left = await admin.do(QueueAction.HOLD, *ids)
    assert changed == ids[:120]
    assert left == {"Nothing23456": NO_SUCH_MESSAGE, "Done23456789": NOT_WAITING}


async def test_a_full_disk_is_an_error_and_leaves_no_lease(admin: Admin) -> None:
    admin.spool.full = SpoolFull("There is no room.")
    with pytest.raises(SpoolFull):
        await admin.do(QueueAction.HOLD, "Mixed2345678")
    assert admin.leased() == set()
    assert admin.states("Mixed2345678")[CARL] == WAITING


async def test_an_internal_error_in_the_report_leaves_no_lease(admin: Admin) -> None:
    admin.answer = ZeroDivisionError("a fault of ours")
    with pytest.raises(ZeroDivisionError):
        await admin.do(QueueAction.CANCEL, "Mixed2345678")
    assert admin.leased() == set()


# ---- questions ----


async def test_totals_are_plain_values(admin: Admin) -> None:
    (entry,) = (await admin.queue.totals())["accounts"]
    assert (entry["account"], entry["waiting"], entry["held"]) == ("anna", 0, 1)
    assert datetime.fromisoformat(entry["oldest"]) == NOW - timedelta(hours=1)
    assert json.loads(json.dumps(entry)) == entry


async def test_counts_have_each_recipient_in_its_hour(admin: Admin) -> None:
    answer = json.loads(json.dumps(await admin.queue.counts_by_hour(24)))
    assert sum(number for _hour, _status, number in answer["counts"]) > 0
    hours = {datetime.fromisoformat(hour) for hour, _status, _number in answer["counts"]}
    assert not [hour for hour in hours if (hour.minute, hour.second) != (0, 0)]
    assert {status for _hour, status, _number in answer["counts"]} <= {status.value for status in RecipientStatus}
    assert await admin.queue.counts_by_hour(-5) == await admin.queue.counts_by_hour(1)


async def test_show_has_events_and_header(admin: Admin) -> None:
    answer = json.loads(json.dumps(await admin.queue.show("Mixed2345678")))
    record = read_record(answer["message"])
    assert record.recipients == {CARL: WAITING, DORA: HELD, EMIL: DELIVERED}
    assert [read_event(event).kind for event in answer["message"]["events"]] == [EventKind.ACCEPTED]
    assert answer["header"].startswith("From: anna@firma.example\r\nSubject: ü")


async def test_a_finished_message_has_events_but_no_header(admin: Admin) -> None:
    answer = await admin.queue.show("Done23456789")
    assert answer["header"] is None
    assert answer["message"]["recipients"][0]["fate"] == "delivered"


async def test_an_unknown_message_is_none(admin: Admin) -> None:
    assert await admin.queue.show("Nothing23456") == {"message": None}
    # A Message-ID finds messages to choose from, but nothing is shown or done by it.
    assert await admin.queue.show("<Mixed2345678@firma.example>") == {"message": None}


async def test_a_page_begins_after_the_last_id_of_the_previous_one() -> None:
    admin = Admin()
    for number in range(7):
        admin.spool.note(arrival(f"Page{number:08}", {CARL: WAITING}))
    query, found, after = Query(unfinished=True), [], None
    for _ in range(4):
        page = await admin.queue.list_messages(query, limit=3, after=after)
        found += [entry["id"] for entry in page["messages"]]
        after = page["next"]
        if after is None:
            break
    assert found == [f"Page{number:08}" for number in range(7)]
    assert after is None


async def test_an_answer_fits_into_one_line_of_the_control_socket() -> None:
    admin = Admin()
    chatty = replace(WAITING, reply=reply(450, None, *["x" * 2000] * 100))
    paths = [parse_address(f"person{number}@kunde.example") for number in range(100)]
    for number in range(20):
        admin.spool.note(arrival(f"Long{number:08}", dict.fromkeys(paths, chatty)))
    page = await admin.queue.track(Query(unfinished=True))
    assert 0 < len(page["messages"]) < 20
    assert page["next"] == page["messages"][-1]["id"]
    assert len(json.dumps(page)) < 2_000_000


# ---- requests ----


async def test_request_handlers_call_the_same_functions(admin: Admin) -> None:
    handlers = admin.queue.handlers()
    assert set(handlers) == {"queue.totals", "queue.list", "queue.show", "queue.change", "track", "counts"}
    assert (await handlers["counts"]({"hours": "x"}))["counts"]
    assert (await handlers["queue.totals"]({}))["accounts"]
    listed = await handlers["queue.list"]({"query": {"unfinished": True}, "limit": 10_000})
    assert [entry["id"] for entry in listed["messages"]] == ["Mixed2345678"]
    assert (await handlers["queue.show"]({"id": "Mixed2345678"}))["message"]["id"] == "Mixed2345678"
    tracked = await handlers["track"]({"query": {"status": "delivered", "to": str(EMIL)}, "limit": PAGE})
    assert [entry["id"] for entry in tracked["messages"]] == ["Mixed2345678"]
    request = {"act": "cancel", "ids": ["Mixed2345678"], "by": "anna", "report": False}
    assert (await handlers["queue.change"](request))["changed"] == ["Mixed2345678"]
    assert admin.new_events("Mixed2345678")[0] == (EventKind.CANCELLED, (str(CARL), str(DORA)), {"by": "anna"})


@pytest.mark.parametrize(
    ("do", "request_"),
    [
        ("queue.change", {"act": "burn", "ids": ["x"]}),
        ("queue.change", {"act": "hold", "ids": ["x"] * (CHANGED_AT_ONCE + 1)}),
        ("queue.list", {"query": {"status": "lost"}}),
        ("track", {"query": {"since": "yesterday"}}),
    ],
)
async def test_an_invalid_request_is_an_error(admin: Admin, do: str, request_: dict[str, object]) -> None:
    with pytest.raises(SenderproxyError):
        await admin.queue.handlers()[do](request_)
