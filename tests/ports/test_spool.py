"""The contract of relay.ports.Spool, kept by the real spool and by the one in memory alike."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TypeAlias

import pytest

from senderproxy.mail.address import Address, AddressPattern, parse_address
from senderproxy.mail.outcome import Delivered
from senderproxy.mail.reply import reply
from senderproxy.mail.submission import Client
from senderproxy.relay.ports import (
    JOB_PAYLOAD_LIMIT,
    Arrival,
    Claim,
    JobTotals,
    NewJob,
    Spool,
    SpoolError,
    SpoolUpdate,
    Totals,
)
from senderproxy.spool.sqlite.limits import SpoolLimits
from senderproxy.spool.sqlite.store import SqliteSpool, Tuning
from senderproxy.tracking.record import Event, EventKind, Lane, Query, RecipientState, RecipientStatus
from tests.fakes.arrivals import DELIVERED, arrival
from tests.fakes.memory_spool import MemorySpool
from tests.fakes.still_clock import START, StillClock
from tests.senderproxy.spool.postgresql import open_spool
from tests.senderproxy.spool.postgresql.open_spool import Databases

CARL, DORA, EMIL = (parse_address(f"{name}@elsewhere.example") for name in ("carl", "dora", "emil"))
TAKEN = Delivered(reply(250, "2.0.0", "Requested mail action okay, completed: id=1MxDp3-1a2B3c-00Xyz"))
BUSY = reply(451, "4.7.1", "Greylisted, please try again")
HOUR = timedelta(hours=1)
NOW = timedelta()
MILLISECOND = timedelta(milliseconds=1)
AT_ONCE = 10
ANNA, BERT = Lane.of_account("anna"), Lane.of_account("bert")
MX = Lane("mx", "elsewhere.example")  # of a kind that this version does not use

Open: TypeAlias = Callable[[], AbstractAsyncContextManager[Spool]]


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


TUNINGS = {"sqlite": Tuning(), "sqlite from rows": Tuning(cache_size=0), "sqlite with files": Tuning(row_limit=0)}


@pytest.fixture(params=["memory", "postgresql", *TUNINGS])
def opened(request: pytest.FixtureRequest, tmp_path: Path, clock: StillClock) -> Open:
    if request.param == "postgresql":
        databases: Databases = request.getfixturevalue("databases")
        target = databases.new()
        return lambda: open_spool.opened(target, clock)

    @asynccontextmanager
    async def memory() -> AsyncIterator[Spool]:
        yield MemorySpool(clock)

    @asynccontextmanager
    async def sqlite() -> AsyncIterator[Spool]:
        spool = SqliteSpool.open(
            tmp_path / "spool", clock, SpoolLimits(timedelta(days=30)), tuning=TUNINGS[request.param]
        )
        yield spool
        await spool.close()

    return memory if request.param == "memory" else sqlite


async def claimed(spool: Spool, account: str = "anna") -> Claim:
    (claim,) = await spool.claim(Lane.of_account(account), 1)
    return claim


async def states(spool: Spool, ident: str) -> dict[Address, RecipientState]:
    (record,) = await spool.find(Query(id=ident), limit=2)
    return dict(record.recipients)


async def ids(spool: Spool, query: Query, limit: int = 100, after: str | None = None) -> list[str]:
    return [record.id for record in await spool.find(query, limit=limit, after=after)]


async def test_a_message_comes_out_as_it_went_in(opened: Open) -> None:
    client = Client(
        "2001:db8::7",
        "[2001:db8::7]",
        "ESMTPSA",
        user="anna",
        senders=(AddressPattern(None, "firma.example"), AddressPattern("bert", "xn--bro-hoa.example")),
        forced_sender=parse_address('"scan ner"@firma.example'),
        lenient=True,
    )
    body = b"..Zeile\r\n" + "Grüße\r\n".encode() + b"x" * 1200 + b"\r\n"
    given = arrival(
        "a1",
        "carl@elsewhere.example",
        '"dora d"@elsewhere.example',
        reverse_path="bert@firma.example",
        body=body,
        client=client,
        eight_bit=True,
        long_lines=True,
        report_on="a0",
        carrier="bert",
    )
    async with opened() as spool:
        assert list(await spool.accept(given)) == []
        claim = await claimed(spool)
        octets = b"".join(claim.submission.message.body.blocks())
    sent, kept = given.submission, claim.submission
    assert (kept.id, kept.listener, kept.client, kept.envelope) == (sent.id, sent.listener, client, sent.envelope)
    assert (kept.received_at, kept.report_on, kept.carrier) == (START, "a0", "bert")
    assert kept.message.header == sent.message.header
    assert octets == body
    assert (kept.message.body.size, kept.message.body.is_ascii, kept.message.body.has_long_lines) == (
        len(body),
        False,
        True,
    )
    assert (claim.account, claim.author, claim.faults) == ("anna", "anna@firma.example", 0)
    assert list(claim.due) == list(sent.envelope.recipients)
    assert all(state == RecipientState(RecipientStatus.WAITING) for state in claim.due.values())


@pytest.mark.parametrize("path", [None, "carl@elsewhere.example"])
async def test_an_empty_body_and_a_null_reverse_path_are_kept(opened: Open, path: str | None) -> None:
    async with opened() as spool:
        await spool.accept(arrival("a1", reverse_path=path, body=b"", header=b""))
        claim = await claimed(spool)
        assert (await spool.find(Query(), limit=1))[0].message_id == ""
        assert str(claim.submission.envelope.reverse_path) == (path or "")
        assert b"".join(claim.submission.message.blocks()) == b""


async def test_messages_of_an_account_are_claimed_in_the_order_of_their_submission(opened: Open) -> None:
    async with opened() as spool:
        for number in range(5):
            await spool.accept(arrival(f"a{number}"))
        await spool.accept(arrival("b0", account="bert"))
        order = [(await claimed(spool)).submission.id for _ in range(5)]
        assert order == ["a0", "a1", "a2", "a3", "a4"]
        assert await spool.claim(ANNA, 1) == []
        assert (await claimed(spool, "bert")).submission.id == "b0"


async def test_what_is_due_for_longest_comes_first_and_what_is_not_due_does_not_come(
    opened: Open, clock: StillClock
) -> None:
    async with opened() as spool:
        await spool.accept(arrival("late", state=RecipientState(RecipientStatus.WAITING, HOUR)))
        await spool.accept(arrival("now", at=START))
        await spool.accept(arrival("first", at=START - HOUR))
        assert (await claimed(spool)).submission.id == "first"
        assert (await claimed(spool)).submission.id == "now"
        clock.pass_by(HOUR - MILLISECOND)
        assert await spool.claim(ANNA, 1) == []
        assert await spool.due() == {ANNA: MILLISECOND}
        clock.pass_by(MILLISECOND)
        assert (await claimed(spool)).submission.id == "late"


async def test_a_claim_has_the_due_recipients_alone(opened: Open) -> None:
    waits = {
        "carl@elsewhere.example": RecipientState(RecipientStatus.WAITING, NOW, tries=1, reply=BUSY),
        "dora@elsewhere.example": RecipientState(RecipientStatus.WAITING, HOUR),
        "emil@elsewhere.example": DELIVERED,
    }
    async with opened() as spool:
        await spool.accept(arrival("a1", *waits, states=waits))
        claim = await claimed(spool)
        assert claim.due == {CARL: RecipientState(RecipientStatus.WAITING, tries=1, reply=BUSY)}
        assert claim.submission.envelope.recipients == (CARL, DORA, EMIL)


async def test_a_leased_message_is_nobody_elses(opened: Open, clock: StillClock) -> None:
    async with opened() as spool:
        await spool.accept(arrival("a1"))
        claim = await claimed(spool)
        clock.pass_by(HOUR)
        assert await spool.claim(ANNA, 1) == []
        assert await spool.claim_one("a1") is None
        assert await spool.claim_expired(ANNA, NOW, 1) == []
        assert await spool.claim_undelayed(NOW, 1) == []
        assert await spool.due() == {}
        assert (await spool.find(Query(), limit=1))[0].leased
        await spool.settle(claim, SpoolUpdate({}))
        assert await spool.due() == {ANNA: -HOUR}
        assert await spool.due(ANNA) == {ANNA: -HOUR}
        assert await spool.due(BERT) == {}
        assert not (await spool.find(Query(), limit=1))[0].leased
        assert (await claimed(spool)).submission.id == "a1"


async def test_a_message_accepted_as_leased_is_due_to_whoever_brought_it_alone(opened: Open) -> None:
    async with opened() as spool:
        one, two = await spool.accept(arrival("a1"), arrival("a2", body=b"zwei\r\n"), leased=True)
        assert await spool.claim(ANNA, 1) == []
        assert (one.submission.id, two.submission.id) == ("a1", "a2")
        assert b"".join(two.submission.message.body.blocks()) == b"zwei\r\n"
        assert one.due == {CARL: RecipientState(RecipientStatus.WAITING)}
        await spool.settle(
            one, SpoolUpdate({CARL: RecipientState(RecipientStatus.DELIVERED, reply=TAKEN.reply, tries=1)})
        )
        await spool.settle(two, SpoolUpdate({}))
        assert (await claimed(spool)).submission.id == "a2"


async def test_a_verdict_changes_the_recipients_it_names_and_tells_why(opened: Open) -> None:
    later = RecipientState(RecipientStatus.WAITING, HOUR, tries=1, reply=BUSY)
    taken = RecipientState(RecipientStatus.DELIVERED, tries=1, reply=TAKEN.reply)
    events = (
        Event(START, EventKind.ATTEMPTED, (str(CARL),), {"outcome": "delivered", "reply": str(TAKEN.reply)}),
        Event(START, EventKind.ATTEMPTED, (str(DORA),), {"outcome": "deferred", "reply": "451 Gr\udce4"}),
    )
    async with opened() as spool:
        await spool.accept(arrival("a1", str(CARL), str(DORA), str(EMIL)))
        await spool.settle(await claimed(spool), SpoolUpdate({CARL: taken, DORA: later}, events, faults=2))
        assert await states(spool, "a1") == {
            CARL: taken,
            DORA: later,
            EMIL: RecipientState(RecipientStatus.WAITING, NOW),
        }
        assert list(await spool.events("a1")) == [
            Event(START, EventKind.ACCEPTED, (), {"client": "192.0.2.7"}),
            *events,
        ]
        claim = await claimed(spool)
        assert (list(claim.due), claim.faults) == ([EMIL], 2)
        assert await spool.events("nobody") == []


async def test_a_verdict_of_nothing_leaves_everything_as_it_was(opened: Open) -> None:
    async with opened() as spool:
        await spool.accept(arrival("a1"))
        await spool.settle(await claimed(spool), SpoolUpdate({}, faults=2))
        await spool.settle(await claimed(spool), SpoolUpdate({}))
        assert (await claimed(spool)).faults == 2


async def test_when_all_is_final_the_content_goes_and_the_story_stays(opened: Open) -> None:
    async with opened() as spool:
        await spool.accept(arrival("a1"))
        header = await spool.header("a1")
        assert header is not None
        assert header.values("Subject") == [b" Angebot"]
        await spool.settle(await claimed(spool), SpoolUpdate({CARL: DELIVERED}))
        assert await spool.header("a1") is None
        assert await spool.claim_one("a1") is None
        assert await states(spool, "a1") == {CARL: DELIVERED}
        assert await spool.due() == {}
        assert await spool.totals() == []


async def test_a_message_that_leaves_no_history_is_forgotten_when_all_of_it_is_final(opened: Open) -> None:
    async with opened() as spool:
        for _round in range(2):  # its id is free again
            await spool.accept(arrival("a1"), arrival("a2", str(CARL), str(DORA)), arrival("big", body=b"x" * 300_000))
            for claim in await spool.claim(ANNA, AT_ONCE):
                await spool.settle(claim, SpoolUpdate({CARL: DELIVERED}, leaves_history=False))
            assert await ids(spool, Query()) == ["a2"]
            await spool.settle(await claimed(spool), SpoolUpdate({DORA: DELIVERED}, leaves_history=False))
            assert await ids(spool, Query()) == []
            assert await spool.events("a1") == []
        await spool.accept(replace(arrival("a1"), jobs=(copy_job(),)))
        await spool.settle(await claimed(spool), SpoolUpdate({CARL: DELIVERED}, leaves_history=False))
        (job,) = await spool.claim_jobs(COPY, ANNA, AT_ONCE)
        assert job.submission is not None
        assert await ids(spool, Query()) == ["a1"]


async def test_reports_are_there_in_the_moment_in_which_their_message_is_settled(opened: Open) -> None:
    failed = RecipientState(RecipientStatus.FAILED, tries=1, reply=reply(550, "5.1.1", "no such user"))
    report = arrival("r1", "anna@firma.example", reverse_path=None, report_on="a1", body=b"Nicht zustellbar\r\n")
    async with opened() as spool:
        await spool.accept(arrival("a1"))
        await spool.settle(await claimed(spool), SpoolUpdate({CARL: failed}, reports=(report,)))
        claim = await claimed(spool)
        assert (claim.submission.id, claim.submission.report_on) == ("r1", "a1")
        assert b"".join(claim.submission.message.body.blocks()) == b"Nicht zustellbar\r\n"


async def test_a_report_that_cannot_be_kept_leaves_its_message_as_it_was(opened: Open) -> None:
    async with opened() as spool:
        await spool.accept(arrival("a1"), arrival("a2"))
        claim = await claimed(spool)
        with pytest.raises(SpoolError):
            await spool.settle(claim, SpoolUpdate({CARL: DELIVERED}, reports=(arrival("a2"),)))
        assert await states(spool, "a1") == {CARL: RecipientState(RecipientStatus.WAITING, NOW)}
        assert len(await spool.events("a1")) == 1
        await spool.settle(claim, SpoolUpdate({CARL: DELIVERED}))
        assert await states(spool, "a1") == {CARL: DELIVERED}


async def test_an_id_is_accepted_once_and_of_several_arrivals_all_or_none(opened: Open) -> None:
    async with opened() as spool:
        await spool.accept(arrival("a1"))
        with pytest.raises(SpoolError):
            await spool.accept(arrival("a2"), arrival("a1"))
        assert await ids(spool, Query()) == ["a1"]
        await spool.accept(arrival("a2"), arrival("a3"))
        assert await ids(spool, Query()) == ["a3", "a2", "a1"]


async def test_who_settles_what_is_not_leased_is_told(opened: Open) -> None:
    async with opened() as spool:
        await spool.accept(arrival("a1"))
        claim = await claimed(spool)
        await spool.settle(claim, SpoolUpdate({}))
        with pytest.raises(ValueError, match="a1 is not leased"):
            await spool.settle(claim, SpoolUpdate({}))


async def test_a_held_message_is_not_due_and_a_person_can_have_it(opened: Open, clock: StillClock) -> None:
    held = RecipientState(RecipientStatus.HELD, tries=3, why="three faults")
    async with opened() as spool:
        await spool.accept(arrival("a1"))
        await spool.settle(await claimed(spool), SpoolUpdate({CARL: held}))
        clock.pass_by(100 * HOUR)
        assert await spool.claim(ANNA, 1) == []
        assert await spool.claim_expired(ANNA, NOW, 1) == []
        assert await spool.claim_undelayed(NOW, 1) == []
        assert await spool.due() == {}
        claim = await spool.claim_one("a1")
        assert claim is not None
        assert claim.due == {CARL: held}
        await spool.settle(claim, SpoolUpdate({CARL: RecipientState(RecipientStatus.WAITING, NOW)}))
        assert (await claimed(spool)).submission.id == "a1"


async def test_a_message_that_waits_for_another_account_is_that_ones_turn(opened: Open) -> None:
    async with opened() as spool:
        await spool.accept(arrival("a1", str(CARL), str(DORA)))
        await spool.settle(await claimed(spool), SpoolUpdate({CARL: DELIVERED}, account="bert"))
        assert await spool.claim(ANNA, 1) == []
        assert await spool.due() == {BERT: NOW}
        claim = await claimed(spool, "bert")
        assert (claim.account, list(claim.due)) == ("bert", [DORA])


async def test_due_names_each_account_that_has_waiting_mail(opened: Open, clock: StillClock) -> None:
    async with opened() as spool:
        for account in ("", "anna", "bert", "zoe", "Ärzte"):  # "": it is not known yet
            for hours in (2, 1, 3):
                due = RecipientState(RecipientStatus.WAITING, hours * HOUR)
                await spool.accept(arrival(f"{account}{hours}", account=account, state=due))
        await spool.accept(arrival("done", account="carl", state=DELIVERED))
        assert await spool.due() == dict.fromkeys(map(Lane.of_account, ("", "anna", "bert", "zoe", "Ärzte")), HOUR)
        clock.pass_by(HOUR)
        claim = await claimed(spool)
        assert (await spool.due())[ANNA] == HOUR
        await spool.settle(claim, SpoolUpdate({}))
        assert (await spool.due())[ANNA] == NOW


async def test_expired_mail_is_claimed_whether_due_or_not_the_oldest_first(opened: Open, clock: StillClock) -> None:
    later = RecipientState(RecipientStatus.WAITING, 3 * HOUR)
    async with opened() as spool:
        await spool.accept(arrival("young", at=START, state=later))
        await spool.accept(arrival("old", at=START - HOUR, state=later), arrival("older", at=START - 2 * HOUR))
        await spool.accept(arrival("berts", account="bert", at=START - 5 * HOUR))
        clock.pass_by(HOUR)
        found = [await spool.claim_expired(ANNA, HOUR, limit) for limit in (1, AT_ONCE, AT_ONCE)]
        assert [[claim.submission.id for claim in claims] for claims in found] == [["older"], ["old"], []]


async def test_delays_are_reported_for_those_who_were_not_told(opened: Open, clock: StillClock) -> None:
    told = RecipientState(RecipientStatus.WAITING, HOUR, tries=4, delay_reported=True)
    wait = RecipientState(RecipientStatus.WAITING, HOUR, tries=4)
    async with opened() as spool:
        await spool.accept(arrival("a1", str(CARL), str(DORA), states={str(CARL): told, str(DORA): wait}))
        await spool.accept(arrival("young", at=START + HOUR), arrival("told", state=told))
        clock.pass_by(HOUR)
        (claim,) = await spool.claim_undelayed(HOUR - MILLISECOND, AT_ONCE)
        assert (claim.submission.id, dict(claim.due)) == ("a1", {DORA: replace(wait, due_in=None)})
        await spool.settle(claim, SpoolUpdate({DORA: replace(claim.due[DORA], delay_reported=True)}))
        assert await spool.claim_undelayed(HOUR - MILLISECOND, AT_ONCE) == []
        assert (await states(spool, "a1"))[DORA] == replace(told, due_in=NOW)  # due when it was due before


# ---- lanes ----


def mixed_arrival() -> Arrival:
    """Carl and Dora wait for the account, Emil in a lane of his own."""
    given = arrival("a1", str(CARL), str(DORA), str(EMIL), at=START - HOUR)
    return replace(given, lanes={EMIL: MX})


async def test_each_lane_has_its_own_claims_and_one_is_not_delayed_by_another(opened: Open) -> None:
    async with opened() as spool:
        await spool.accept(mixed_arrival(), arrival("a2"))
        assert await spool.due() == {ANNA: -HOUR, MX: -HOUR}
        (slow,) = await spool.claim(ANNA, 1)
        assert (slow.lane, slow.account, list(slow.due)) == (ANNA, "anna", [CARL, DORA])
        assert await spool.due() == {ANNA: NOW, MX: -HOUR}
        (other,) = await spool.claim(MX, AT_ONCE)  # while the first one goes on
        assert (other.lane, other.account, list(other.due)) == (MX, "anna", [EMIL])
        assert other.submission.envelope.recipients == (CARL, DORA, EMIL)
        assert await spool.due() == {ANNA: NOW}
        assert await spool.claim_one("a1") is None
        await spool.settle(other, SpoolUpdate({EMIL: DELIVERED}))
        assert await spool.due() == {ANNA: NOW}
        await spool.settle(slow, SpoolUpdate({CARL: DELIVERED, DORA: RecipientState(RecipientStatus.WAITING, HOUR)}))
        assert await spool.due() == {ANNA: NOW}
        assert await spool.due(MX) == {}
        assert {path: state.status.value for path, state in (await states(spool, "a1")).items()} == {
            CARL: "delivered", DORA: "waiting", EMIL: "delivered",
        }  # fmt: skip


async def test_the_content_stays_until_the_last_lane_is_done(opened: Open) -> None:
    async with opened() as spool:
        await spool.accept(mixed_arrival())
        (own,), (other,) = await spool.claim(ANNA, 1), await spool.claim(MX, 1)
        await spool.settle(own, SpoolUpdate(dict.fromkeys(own.due, DELIVERED)))
        assert await spool.header("a1") is not None
        assert b"".join(other.submission.message.blocks())
        await spool.settle(other, SpoolUpdate({EMIL: DELIVERED}))
        assert await spool.header("a1") is None


async def test_a_claim_on_the_whole_message_has_the_recipients_of_all_lanes(opened: Open, clock: StillClock) -> None:
    woken: list[Lane | None] = []
    async with opened() as spool:
        spool.on_wake(woken.append)
        await spool.accept(mixed_arrival())
        claim = await spool.claim_one("a1")
        assert claim is not None
        assert (claim.lane, claim.account, list(claim.due)) == (None, "anna", [CARL, DORA, EMIL])
        assert await spool.claim(MX, 1) == []
        assert await spool.due() == {}
        await spool.settle(claim, SpoolUpdate({CARL: DELIVERED, DORA: DELIVERED}))
        (late,) = await spool.claim_undelayed(NOW, 1)
        assert woken == [None]  # who settles it need not know the lanes
        assert (late.lane, list(late.due)) == (MX, [EMIL])
        await spool.settle(late, SpoolUpdate({}))
        clock.pass_by(HOUR)
        assert await spool.claim_expired(ANNA, NOW, 1) == []
        assert [list(claim.due) for claim in await spool.claim_expired(MX, NOW, 1)] == [[EMIL]]


async def test_single_recipients_and_all_of_a_lane_can_be_moved(opened: Open) -> None:
    async with opened() as spool:
        await spool.accept(mixed_arrival())
        (claim,) = await spool.claim(ANNA, 1)
        await spool.settle(claim, SpoolUpdate({}, lanes={CARL: MX}))
        (record,) = await spool.find(Query(id="a1"), limit=1)
        assert (record.account, record.lanes) == ("anna", {CARL: MX, EMIL: MX})
        (claim,) = await spool.claim(ANNA, 1)
        assert list(claim.due) == [DORA]
        await spool.settle(claim, SpoolUpdate({}, account="bert"))
        (record,) = await spool.find(Query(id="a1"), limit=1)
        assert (record.account, record.lanes) == ("bert", {CARL: MX, EMIL: MX})  # what was not leased stays
        (claim,) = await spool.claim(MX, 1)
        assert list(claim.due) == [CARL, EMIL]
        await spool.settle(claim, SpoolUpdate({CARL: DELIVERED}, lanes={EMIL: BERT}))
        (claim,) = await spool.claim(BERT, AT_ONCE)
        assert (claim.account, list(claim.due)) == ("bert", [DORA, EMIL])


async def test_a_message_that_waits_in_one_other_lane_names_it_before_and_after_an_attempt(opened: Open) -> None:
    async with opened() as spool:
        await spool.accept(replace(arrival("a1", str(CARL), str(DORA)), lanes={CARL: MX, DORA: MX}))
        (record,) = await spool.find(Query(id="a1"), limit=1)
        assert (record.account, record.lanes) == ("anna", {CARL: MX, DORA: MX})
        (claim,) = await spool.claim(MX, 1)
        await spool.settle(
            claim, SpoolUpdate({CARL: DELIVERED, DORA: RecipientState(RecipientStatus.WAITING, tries=1)})
        )
        (record,) = await spool.find(Query(id="a1"), limit=1)
        assert record.lanes == {DORA: MX}


async def test_a_leased_arrival_is_one_claim_whatever_its_lanes(opened: Open) -> None:
    async with opened() as spool:
        (claim,) = await spool.accept(mixed_arrival(), leased=True)
        assert (claim.lane, list(claim.due)) == (None, [CARL, DORA, EMIL])
        assert await spool.due() == {}
        await spool.settle(claim, SpoolUpdate(dict.fromkeys(claim.due, DELIVERED)))
        assert await spool.header("a1") is None


# ---- jobs ----

COPY, NOTICE = "sent-copy", "notice"  # kinds


def copy_job(payload: bytes = b"folder", lane: Lane = ANNA, due_in: timedelta = NOW) -> NewJob:
    return NewJob(COPY, lane, payload, due_in, holds_content=True)


async def test_a_job_is_claimed_by_its_kind_and_lane_when_it_is_due(opened: Open, clock: StillClock) -> None:
    late, other = NewJob(COPY, ANNA, b"late", HOUR), NewJob(NOTICE, BERT, b"other")
    async with opened() as spool:
        await spool.accept(replace(arrival("a1"), jobs=(late, copy_job(), other, copy_job(b"bert", BERT))))
        assert await spool.due_jobs(COPY) == {ANNA: NOW, BERT: NOW}
        (claim,) = await spool.claim_jobs(COPY, ANNA, AT_ONCE)
        assert (claim.kind, claim.lane, claim.payload, claim.attempts, claim.why) == (COPY, ANNA, b"folder", 0, "")
        assert claim.submission is not None
        assert claim.submission.id == "a1"
        assert b"".join(claim.submission.message.body.blocks()) == b"Hallo Carl,\r\n..und Tsch\xc3\xbcss\r\n"
        assert await spool.claim_jobs(COPY, ANNA, AT_ONCE) == []
        assert await spool.due_jobs(COPY) == {ANNA: HOUR, BERT: NOW}
        clock.pass_by(HOUR)
        (later,) = await spool.claim_jobs(COPY, ANNA, AT_ONCE)
        assert (later.payload, later.submission) == (b"late", None)
        assert len({claim.lease.id, later.lease.id}) == 2
        assert await spool.due_jobs(NOTICE) == {BERT: -HOUR}
        assert (await claimed(spool)).submission.id == "a1"  # the leases of jobs and of messages are separate


async def test_a_job_is_retried_or_gone(opened: Open, clock: StillClock) -> None:
    async with opened() as spool:
        await spool.accept(replace(arrival("a1"), jobs=(NewJob(NOTICE, ANNA, b"x"),)))
        (claim,) = await spool.claim_jobs(NOTICE, ANNA, 1)
        await spool.settle_job(claim, retry_in=HOUR, why="mailbox full")
        assert await spool.due_jobs(NOTICE) == {ANNA: HOUR}
        with pytest.raises(ValueError, match="is not leased"):
            await spool.settle_job(claim)
        clock.pass_by(HOUR)
        (claim,) = await spool.claim_jobs(NOTICE, ANNA, 1)
        assert (claim.attempts, claim.why, claim.payload) == (1, "mailbox full", b"x")
        await spool.settle_job(claim)
        assert await spool.due_jobs(NOTICE) == {}
        assert await spool.job_totals() == []


async def test_the_end_of_a_job_and_its_events_are_one_commit(opened: Open, clock: StillClock) -> None:
    tried = Event(clock.now(), EventKind.COPY, (), {"state": "waiting", "why": "mailbox full"})
    done = Event(clock.now(), EventKind.COPY, (), {"state": "stored", "folder": "Gesendet"})
    async with opened() as spool:
        await spool.accept(replace(arrival("a1", state=DELIVERED), jobs=(copy_job(),)))
        before = list(await spool.events("a1"))
        clock.pass_by(timedelta(minutes=20))
        (claim,) = await spool.claim_jobs(COPY, ANNA, 1)
        assert claim.age == timedelta(minutes=20)
        await spool.settle_job(claim, retry_in=-timedelta(minutes=20), events=[tried])  # in its old place, due at once
        assert await spool.due_jobs(COPY) == {ANNA: -timedelta(minutes=20)}
        (claim,) = await spool.claim_jobs(COPY, ANNA, 1)
        await spool.settle_job(claim, events=[done])
        assert list(await spool.events("a1")) == [*before, tried, done]


async def test_a_content_stays_until_the_last_recipient_and_the_last_job_are_final(opened: Open) -> None:
    async with opened() as spool:
        await spool.accept(replace(arrival("a1"), jobs=(copy_job(b"1"),)))
        await spool.settle(await claimed(spool), SpoolUpdate({CARL: DELIVERED}, jobs=(copy_job(b"2"),)))
        assert await spool.header("a1") is not None
        assert await spool.totals() == []  # no recipient waits
        (one, two) = await spool.claim_jobs(COPY, ANNA, AT_ONCE)
        await spool.settle_job(one)
        assert await spool.header("a1") is not None
        assert two.submission is not None
        assert b"".join(two.submission.message.blocks())
        await spool.settle_job(two)
        assert await spool.header("a1") is None
        await spool.accept(replace(arrival("a2"), jobs=(copy_job(),)))
        (job,) = await spool.claim_jobs(COPY, ANNA, 1)
        await spool.settle_job(job)
        assert await spool.header("a2") is not None  # its recipient waits
        await spool.settle(await claimed(spool), SpoolUpdate({CARL: DELIVERED}))
        assert await spool.header("a2") is None


async def test_a_message_that_is_final_already_is_stored_with_its_content_for_its_job(opened: Open) -> None:
    async with opened() as spool:
        await spool.accept(replace(arrival("a1", state=DELIVERED), jobs=(copy_job(),)))
        assert await spool.due() == {}
        (job,) = await spool.claim_jobs(COPY, ANNA, 1)
        assert job.submission is not None
        assert b"".join(job.submission.message.blocks())
        await spool.settle_job(job)
        assert await spool.header("a1") is None


async def test_jobs_are_one_commit_with_their_message(opened: Open) -> None:
    async with opened() as spool:
        await spool.accept(arrival("a1"), arrival("a2", account="bert"))
        claim = await claimed(spool)
        with pytest.raises(SpoolError):
            await spool.settle(claim, SpoolUpdate({CARL: DELIVERED}, reports=(arrival("a2"),), jobs=(copy_job(),)))
        with pytest.raises(SpoolError):
            await spool.accept(replace(arrival("a2"), jobs=(copy_job(),)))
        assert await spool.job_totals() == []


async def test_a_job_of_a_kind_that_no_caller_knows_is_kept_and_named(opened: Open, clock: StillClock) -> None:
    new = NewJob("of-a-later-version", MX, b"{}")
    async with opened() as spool:
        await spool.accept(replace(arrival("a1"), jobs=(new, new, copy_job())))
        clock.pass_by(HOUR)
        assert [len(await spool.claim_jobs(COPY, lane, AT_ONCE)) for lane in (ANNA, MX)] == [1, 0]
        assert await spool.job_totals() == [
            JobTotals("of-a-later-version", MX, 2, 0, HOUR), JobTotals(COPY, ANNA, 1, 0, HOUR),
        ]  # fmt: skip


async def test_a_step_of_the_clock_moves_no_job(opened: Open, clock: StillClock) -> None:
    async with opened() as spool:
        await spool.accept(replace(arrival("a1"), jobs=(copy_job(due_in=HOUR),)))
        clock.time += timedelta(days=400)
        assert await spool.due_jobs(COPY) == {ANNA: HOUR}
        assert await spool.job_totals() == [JobTotals(COPY, ANNA, 1, 0, NOW)]


def test_the_payload_of_a_job_is_bounded() -> None:
    NewJob(COPY, ANNA, b"x" * JOB_PAYLOAD_LIMIT)
    with pytest.raises(ValueError, match="16385 octets"):
        NewJob(COPY, ANNA, b"x" * (JOB_PAYLOAD_LIMIT + 1))


# ---- time, leases, wakes ----


async def test_claims_come_in_batches_each_with_a_lease_of_its_own(opened: Open) -> None:
    async with opened() as spool:
        await spool.accept(*(arrival(f"a{number}") for number in range(5)))
        first, rest = await spool.claim(ANNA, 3), await spool.claim(ANNA, AT_ONCE)
        assert [claim.submission.id for claim in (*first, *rest)] == ["a0", "a1", "a2", "a3", "a4"]
        assert len(first) == 3
        assert len({claim.lease.id for claim in (*first, *rest)}) == 5
        await spool.settle(first[0], SpoolUpdate({}))
        (again,) = await spool.claim(ANNA, AT_ONCE)
        assert again.submission.id == "a0"
        assert again.lease.id != first[0].lease.id
        with pytest.raises(ValueError, match="a0 is not leased"):  # the lease of long ago gives no right to it
            await spool.settle(first[0], SpoolUpdate({CARL: DELIVERED}))
        await spool.settle(again, SpoolUpdate({CARL: DELIVERED}))


async def test_a_state_that_is_written_back_as_it_is_leaves_the_due_time_where_it_is(
    opened: Open, clock: StillClock
) -> None:
    async with opened() as spool:
        await spool.accept(arrival("a1"), arrival("a2"))
        clock.pass_by(HOUR)
        claim = await claimed(spool)
        clock.pass_by(HOUR)
        await spool.settle(claim, SpoolUpdate({CARL: replace(claim.due[CARL], reply=BUSY)}))
        assert await states(spool, "a1") == {CARL: RecipientState(RecipientStatus.WAITING, -2 * HOUR, reply=BUSY)}
        assert [claim.submission.id for claim in await spool.claim(ANNA, AT_ONCE)] == ["a1", "a2"]


async def test_a_delay_counts_from_the_change(opened: Open, clock: StillClock) -> None:
    async with opened() as spool:
        await spool.accept(arrival("a1"))
        claim = await claimed(spool)
        clock.pass_by(HOUR)
        await spool.settle(claim, SpoolUpdate({CARL: RecipientState(RecipientStatus.WAITING, 2 * HOUR, tries=1)}))
        assert await spool.due() == {ANNA: 2 * HOUR}
        clock.pass_by(3 * HOUR)
        assert await spool.due() == {ANNA: -HOUR}


@pytest.mark.parametrize("step", [timedelta(days=1), timedelta(days=-1), timedelta(days=400)])
async def test_a_step_of_the_clock_leaves_what_waits_as_far_from_now_as_it_was(
    opened: Open, clock: StillClock, step: timedelta
) -> None:
    mixed = {
        str(CARL): RecipientState(RecipientStatus.WAITING, HOUR),
        str(DORA): RecipientState(RecipientStatus.HELD, why="look"),
        str(EMIL): DELIVERED,
    }
    woken: list[Lane | None] = []
    async with opened() as spool:
        spool.on_wake(woken.append)
        await spool.accept(arrival("a1", *mixed, states=mixed), arrival("done", state=DELIVERED))
        (leased,) = await spool.accept(arrival("leased", account="bert"), leased=True)
        clock.pass_by(HOUR)
        assert spool.age(leased) == HOUR
        clock.time += step  # the machine's clock alone
        assert await spool.due() == {ANNA: NOW}
        assert woken == [None]
        assert await states(spool, "a1") == {
            CARL: RecipientState(RecipientStatus.WAITING, NOW),
            DORA: mixed[str(DORA)],
            EMIL: DELIVERED,
        }
        assert await spool.claim_expired(ANNA, NOW, 1) == []
        assert spool.age(leased) is None  # uncertain: the clock may be set again
        clock.pass_by(HOUR)
        assert spool.age(leased) == 2 * HOUR
        assert await spool.claim_expired(ANNA, 2 * HOUR, 1) == []
        assert len(await spool.claim_expired(ANNA, 2 * HOUR - MILLISECOND, 1)) == 1
        records = {record.id: record.received_at for record in await spool.find(Query(), limit=9)}
        assert records == {"a1": START + step, "done": START, "leased": START + step}


async def test_no_age_is_known_in_the_first_ten_minutes(opened: Open, clock: StillClock) -> None:
    async with opened() as spool:
        (claim,) = await spool.accept(arrival("a1", at=START - 100 * HOUR), leased=True)
        await spool.accept(arrival("a2", at=START - 100 * HOUR))
        assert spool.age(claim) is None
        assert await spool.claim_expired(ANNA, HOUR, 1) == []
        clock.pass_by(timedelta(minutes=10))
        assert spool.age(claim) == 100 * HOUR + timedelta(minutes=10)
        assert len(await spool.claim_expired(ANNA, HOUR, 1)) == 1


# ---- searches ----


async def test_find_answers_by_each_thing_one_may_know_of_a_message(opened: Open) -> None:
    taken = RecipientState(RecipientStatus.DELIVERED, tries=1, reply=TAKEN.reply)
    async with opened() as spool:
        await spool.accept(arrival("m1", "carl@elsewhere.example", author="anna@firma.example"))
        await spool.accept(
            arrival(
                "m2", "Dora@b.example", author="bert@firma.example", reverse_path="news@firma.example", account="bert"
            ),
            arrival("m3", "carl@elsewhere.example", "emil@c.example", reverse_path=None, at=START + HOUR, state=taken),
            arrival("m4", "carl@xelsewhere.example", author="zoe@other.example", reverse_path="ANNA@firma.example"),
        )
        cases = {
            Query(): ["m4", "m3", "m2", "m1"],
            Query(id="m2"): ["m2"],
            Query(id="<m3@firma.example>"): ["m3"],
            Query(id="m3@firma.example"): ["m3"],
            Query(id="m9"): [],
            Query(account="bert"): ["m2"],
            Query(account="nobody"): [],
            Query(sender="Anna@firma.example"): ["m4", "m3", "m1"],
            Query(sender="news@firma.example"): ["m2"],
            Query(sender="@firma.example"): ["m4", "m3", "m2", "m1"],
            Query(sender="@other.example"): ["m4"],
            Query(sender="@irma.example"): [],
            Query(sender="no address"): [],
            Query(recipient="carl@elsewhere.example"): ["m3", "m1"],
            Query(recipient="dora@B.example"): ["m2"],
            Query(recipient="@elsewhere.example"): ["m3", "m1"],
            Query(recipient="*@c.example"): ["m3"],
            Query(upstream_id="1MxDp3-1a2B3c-00Xyz"): ["m3"],
            Query(upstream_id="1MxDp3"): [],
            Query(status=RecipientStatus.DELIVERED): ["m3"],
            Query(status=RecipientStatus.WAITING): ["m4", "m2", "m1"],
            Query(status=RecipientStatus.FAILED): [],
            Query(unfinished=True): ["m1", "m2", "m4"],
            Query(since=START + timedelta(seconds=1)): ["m3"],
            Query(until=START + HOUR): ["m4", "m2", "m1"],
            Query(since=START, until=START): [],
            Query(sender="@firma.example", recipient="carl@elsewhere.example"): ["m3", "m1"],
            Query(sender="@firma.example", status=RecipientStatus.WAITING): ["m4", "m2", "m1"],
            Query(recipient="carl@elsewhere.example", status=RecipientStatus.DELIVERED): ["m3"],
            Query(recipient="emil@c.example", upstream_id="1MxDp3-1a2B3c-00Xyz", id="m3"): ["m3"],
            Query(id="m3", status=RecipientStatus.WAITING): [],
            Query(account="anna", unfinished=True): ["m1", "m4"],
            Query(account="anna", since=START, until=START + HOUR, sender="anna@firma.example"): ["m4", "m1"],
        }
        for query, expected in cases.items():
            assert await ids(spool, query) == expected, query


async def test_find_goes_on_after_the_last_one_that_was_shown(opened: Open) -> None:
    async with opened() as spool:
        await spool.accept(*(arrival(f"m{number}") for number in range(7)))
        for unfinished, expected in ((False, "m6 m5 m4 m3 m2 m1 m0"), (True, "m0 m1 m2 m3 m4 m5 m6")):
            for query in (Query(unfinished=unfinished), Query(unfinished=unfinished, recipient=str(CARL))):
                found: list[str] = []
                while page := await ids(spool, query, 3, found[-1] if found else None):
                    assert len(page) <= 3
                    found += page
                assert " ".join(found) == expected
        assert await ids(spool, Query(), after="nobody") == []


async def test_a_fate_and_a_recipient_mean_one_and_the_same_recipient(opened: Open) -> None:
    mixed = {str(CARL): DELIVERED, str(DORA): RecipientState(RecipientStatus.FAILED)}
    async with opened() as spool:
        await spool.accept(arrival("m1", *mixed, states=mixed))
        assert await ids(spool, Query(recipient=str(CARL), status=RecipientStatus.FAILED)) == []
        assert await ids(spool, Query(recipient=str(DORA), status=RecipientStatus.FAILED)) == ["m1"]
        assert await ids(spool, Query(sender="anna@firma.example", status=RecipientStatus.FAILED)) == ["m1"]


async def test_a_record_says_what_a_list_shows(opened: Open) -> None:
    async with opened() as spool:
        await spool.accept(arrival("m1", reverse_path=None, report_on="m0", header=b"message-id:\r\n <x@y>\r\n\r\n"))
        (record,) = await spool.find(Query(), limit=1)
    assert (record.id, record.received_at, record.client, record.listener) == ("m1", START, "192.0.2.7", "scanner")
    assert (record.reverse_path, record.author, record.account) == ("", "anna@firma.example", "anna")
    assert (record.message_id, record.report_on, record.leased) == ("<x@y>", "m0", False)
    assert record.size == len(b"message-id:\r\n <x@y>\r\n\r\n") + arrival("x").submission.message.body.size
    assert record.recipients == {CARL: RecipientState(RecipientStatus.WAITING, NOW)}


async def test_totals_count_messages_by_account_age_and_reason(opened: Open, clock: StillClock) -> None:
    clock.pass_by(timedelta(minutes=100))
    size = arrival("m1").submission.message.size
    async with opened() as spool:
        await spool.accept(arrival("m1"), arrival("m2", at=START + timedelta(minutes=95)))
        await spool.accept(
            arrival("m3", state=RecipientState(RecipientStatus.HELD, why="three faults"), at=START - 20 * HOUR)
        )
        for number in range(3):
            busy = RecipientState(RecipientStatus.WAITING, HOUR, reply=BUSY)
            await spool.accept(arrival(f"b{number}", "a@b.example", "c@d.example", account="bert", state=busy))
        await spool.accept(arrival("done", state=DELIVERED))
        assert await spool.totals() == [
            Totals(
                "anna", 2, 1, 3 * size, START - 20 * HOUR, (1, 0, 0, 0, 0, 1, 0, 0, 1), {"three faults": 1}
            ),
            Totals(
                "bert", 3, 0, 3 * size, START, (0, 0, 0, 0, 0, 3, 0, 0, 0), {"Greylisted, please try again": 6}
            ),
        ]  # fmt: skip


async def test_a_story_without_content_can_be_found_and_told(opened: Open, clock: StillClock) -> None:
    taken = RecipientState(RecipientStatus.DELIVERED, tries=1, reply=TAKEN.reply)
    async with opened() as spool:
        await spool.accept(arrival("m1", state=taken))
        assert await spool.header("m1") is None
        assert await ids(spool, Query(upstream_id="1MxDp3-1a2B3c-00Xyz")) == ["m1"]
        assert len(await spool.events("m1")) == 1


async def test_many_who_come_at_once_are_all_kept_and_each_is_claimed_once(opened: Open) -> None:
    async with opened() as spool:
        await asyncio.gather(*(spool.accept(arrival(f"m{number}")) for number in range(60)))
        batches = await asyncio.gather(*(spool.claim(ANNA, number % 3 + 1) for number in range(70)))
        claims = [claim for batch in batches for claim in batch]
        found = [claim.submission.id for claim in claims]
        assert sorted(found) == sorted(f"m{number}" for number in range(60))
        await asyncio.gather(*(spool.settle(claim, SpoolUpdate({CARL: DELIVERED})) for claim in claims))
        assert len(await ids(spool, Query(status=RecipientStatus.DELIVERED))) == 60
