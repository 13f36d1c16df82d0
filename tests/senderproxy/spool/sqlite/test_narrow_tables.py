"""Usual messages are in a narrow table until they are finished, and in a pack of history afterwards."""

import asyncio
import ctypes
import itertools
import mmap
import sqlite3
from collections.abc import Coroutine, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from senderproxy.mail.address import parse_address
from senderproxy.mail.reply import reply
from senderproxy.relay.ports import Arrival, NewJob, SpoolError, SpoolUpdate
from senderproxy.spool.sqlite import database, new_messages, recent_ids, rows, statements
from senderproxy.spool.sqlite.store import SqliteSpool, Tuning
from senderproxy.tracking.record import Event, EventKind, Lane, Query, RecipientState, RecipientStatus
from tests.fakes.arrivals import DELIVERED, WAITING, arrival
from tests.fakes.memory_spool import MemorySpool
from tests.fakes.still_clock import START, StillClock
from tests.senderproxy.spool.sqlite.open_spool import claimed, ids, opened, records, sql, written
from tests.senderproxy.spool.sqlite.test_store import _busy

CARL, DORA = "carl@elsewhere.example", "dora@elsewhere.example"
ANNA = Lane.of_account("anna")
LATER = RecipientState(RecipientStatus.WAITING, timedelta(hours=1), tries=1, reply=reply(450, "4.2.0", "busy"))
TAKEN = RecipientState(
    RecipientStatus.DELIVERED, tries=1, reply=reply(250, "2.0.0", "queued as A1B2C3D4"), remote="mx.elsewhere.example"
)
GENERAL = ("message", "recipient", "event", "content")


def counts(folder: Path, *tables: str) -> list[int]:
    found = [sql(folder, f"SELECT count(*) FROM {table}")[0][0] for table in tables]
    return [int(str(count)) for count in found]


async def deliver(spool: SqliteSpool, account: str = "anna") -> None:
    claim = await claimed(spool, account)
    event = Event(START, EventKind.ATTEMPTED, (), {"outcome": "delivered"})
    await spool.settle(claim, SpoolUpdate(dict.fromkeys(claim.due, TAKEN), events=(event,)))


async def test_a_usual_message_is_never_in_the_general_tables(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        await spool.accept(arrival("a1", CARL, DORA))
    assert counts(tmp_path, *GENERAL, "new_message", "history_pack") == [0, 0, 0, 0, 1, 0]
    async with opened(tmp_path) as spool:
        await deliver(spool)
        (record,) = await records(spool)
        assert {str(path): state for path, state in record.recipients.items()} == {CARL: TAKEN, DORA: TAKEN}
        assert [event.kind for event in await spool.events("a1")] == [EventKind.ACCEPTED, EventKind.ATTEMPTED]
        assert await spool.header("a1") is None
    assert counts(tmp_path, *GENERAL, "new_message", "history_pack") == [0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize(
    "given",
    [
        arrival("a1", state=replace(WAITING, due_in=timedelta(hours=1))),
        arrival("a1", state=replace(WAITING, tries=1)),
        arrival("a1", state=RecipientState(RecipientStatus.HELD, why="look")),
        arrival("a1", CARL, DORA, states={CARL: TAKEN, DORA: WAITING}),
        replace(arrival("a1", CARL, DORA), lanes={next(iter(arrival("x").states)): Lane("mx", "elsewhere.example")}),
        replace(arrival("a1"), jobs=(NewJob("sent-copy", ANNA),)),
        arrival("a1", body=b"x" * 66_000),
    ],
    ids=["delayed", "tried", "held", "in part delivered", "two lanes", "with a job", "above 64 KiB"],
)
async def test_other_messages_are_in_the_general_tables(tmp_path: Path, given: object) -> None:
    async with opened(tmp_path) as spool:
        await spool.accept(given)  # type: ignore[arg-type]
    assert counts(tmp_path, "message", "content", "new_message") == [1, 1, 0]


async def test_a_deferred_message_moves_to_the_general_tables_and_stays_the_same(tmp_path: Path) -> None:
    clock = StillClock()
    async with opened(tmp_path, clock) as spool:
        await spool.accept(arrival("a1", CARL, DORA), arrival("a2"))
        claim = await claimed(spool)
        carl, dora = claim.due
        await spool.settle(claim, SpoolUpdate({carl: TAKEN, dora: LATER}))
        assert [record.id for record in await records(spool, Query(unfinished=True))] == ["a1", "a2"]
        clock.pass_by(timedelta(hours=2))
        assert [(one.submission.id, list(one.due)) for one in await spool.claim(ANNA, 9)] == [
            ("a2", [carl]), ("a1", [dora]),
        ]  # fmt: skip
    assert counts(tmp_path, "message", "recipient", "content", "new_message") == [1, 2, 1, 1]


@pytest.mark.parametrize(
    "given",
    [
        arrival("a1", CARL, DORA, eight_bit=True, long_lines=True, carrier="anna", report_on="a0"),
        arrival("a1", reverse_path=None, header=b"From: anna@firma.example\r\n\r\n"),
        arrival("a1", reverse_path="news@firma.example", author="Anna@Firma.example", events=()),
        arrival("a1", events=(Event(START, EventKind.CHANGED, (CARL,), {"old": 'a "b"\n', "new": "\udcff\u20ac"}),)),
    ],
)
def test_the_general_rows_of_a_new_message_are_as_if_they_had_been_written(given: object) -> None:
    made = rows.rows_of(given, 7, rows.to_ms(START))  # type: ignore[arg-type]
    header, body = b"h" * 10, b"b" * (made.message[10] - 10)
    content = (7, header, body, None, len(body), 123, 1, 0)
    row = new_messages.row_of(made.message, made.recipients, made.events, content)
    assert row is not None
    found = new_messages.general_rows(row)
    assert (found.message, found.recipients, found.events) == (made.message, made.recipients, made.events)
    assert found.content == content


@pytest.mark.parametrize(
    "given",
    [
        arrival("a1", CARL, DORA, eight_bit=True, long_lines=True, carrier="anna", report_on="a0"),
        arrival("a1", reverse_path=None, header=b"From: anna@firma.example\r\n\r\n"),
        replace(arrival("a1"), lanes={parse_address("carl@elsewhere.example"): Lane("smarthost", "relay")}),
    ],
)
async def test_a_new_message_is_found_as_one_in_the_general_tables(tmp_path: Path, given: Arrival) -> None:
    async with opened(tmp_path) as spool:
        await spool.accept(given)
        before = (await spool.find(Query(id="a1"), limit=1), await spool.events("a1"), await spool.header("a1"))
    with closing(sqlite3.connect(tmp_path / "spool.db")) as connection:
        (number,) = connection.execute("SELECT number FROM new_message").fetchone()
        statements.generalise(connection, number)
        connection.commit()
    assert counts(tmp_path, "message", "new_message") == [1, 0]
    async with opened(tmp_path) as spool:
        assert (await spool.find(Query(id="a1"), limit=1), await spool.events("a1"), await spool.header("a1")) == before


# ---- ids ----


async def test_an_id_of_a_pack_is_refused_until_its_history_is_deleted(tmp_path: Path) -> None:
    clock = StillClock()
    async with opened(tmp_path, clock) as spool:
        await spool.accept(arrival("a1"), arrival("d1", state=DELIVERED))
        await deliver(spool)
    async with opened(tmp_path, clock) as spool:
        for ident in ("a1", "d1"):
            for state in (WAITING, LATER, DELIVERED):
                with pytest.raises(SpoolError):
                    await spool.accept(arrival("a2"), arrival(ident, state=state))
        assert await ids(spool) == ["d1", "a1"]
        clock.pass_by(timedelta(days=40))
        await spool.sweep(clock.now())
        await spool.accept(arrival("a1", at=clock.now()))
        assert await ids(spool) == ["a1"]


@pytest.mark.parametrize("states", list(itertools.product([WAITING, LATER, DELIVERED], repeat=2)))
async def test_two_messages_never_have_one_id(tmp_path: Path, states: tuple[RecipientState, RecipientState]) -> None:
    async with opened(tmp_path) as spool:
        await spool.accept(arrival("a1", state=states[0]))
        with pytest.raises(SpoolError):
            await spool.accept(arrival("a1", state=states[1]))
        with pytest.raises(SpoolError):
            await spool.accept(arrival("b1", state=states[0]), arrival("b1", state=states[1]))
        assert await ids(spool) == ["a1"]


async def test_the_ids_of_late_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent_ids, "_IDS", 4)
    async with opened(tmp_path) as spool:
        for number in range(20):
            await spool.accept(arrival(f"a{number}", state=DELIVERED))
        for number in range(16, 20):
            with pytest.raises(SpoolError):
                await spool.accept(arrival(f"a{number}", state=DELIVERED))


def test_ids_of_late_take_only_the_pages_that_they_are_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent_ids, "_IDS", 100)
    ids_of_late = recent_ids.RecentIds()
    assert _resident(ids_of_late) == (0, 0)
    with closing(sqlite3.connect(":memory:")) as connection:
        for number in range(100):
            ids_of_late.add(connection, [f"a{number}"])
        assert 40 < _resident(ids_of_late)[0] <= 100
        for number in range(100, 201):  # with the last one the bitmap of the first hundred is emptied
            ids_of_late.add(connection, [f"a{number}"])
    assert _resident(ids_of_late)[0] == 1


def _resident(ids_of_late: recent_ids.RecentIds) -> tuple[int, int]:
    """The pages of the younger and of the older bitmap that are in memory. mincore(2)."""
    younger, older = (_resident_pages(vars(ids_of_late)[name]) for name in ("_now", "_before"))
    return younger, older


def _resident_pages(bitmap: mmap.mmap) -> int:
    present = (ctypes.c_ubyte * (len(bitmap) // mmap.PAGESIZE))()
    address = ctypes.addressof(ctypes.c_char.from_buffer(bitmap))
    assert ctypes.CDLL(None).mincore(ctypes.c_void_p(address), ctypes.c_size_t(len(bitmap)), present) == 0
    return sum(octet & 1 for octet in present)


# ---- damage ----


async def test_a_damaged_pack_is_left_out_of_searches_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(tmp_path) as spool:
        await spool.accept(arrival("a1", state=TAKEN))
        await spool.accept(arrival("a2", state=TAKEN))
    sql(tmp_path, "UPDATE history_pack SET records = x'789c00', by_hour = '[' WHERE number = 1")
    async with opened(tmp_path) as spool:
        assert await ids(spool) == ["a2"]
        assert [count.recipients for count in await spool.counts_by_hour(START - timedelta(hours=9))] == [1]
        with pytest.raises(SpoolError, match="damaged"):
            await spool.events("a1")
    assert "history_unreadable" in [getattr(record, "senderproxy_event", "") for record in caplog.records]


async def test_a_message_with_a_damaged_page_is_held_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is damaged after the check of the opening: the page after the first one of the body does not exist."""
    monkeypatch.setattr(database, "CHECK_LIMIT", 0)
    body = b"".join(b"line %d\r\n" % number for number in range(3000))
    async with opened(tmp_path) as spool:
        await spool.accept(arrival("a1", body=body), arrival("a2"))
    path = tmp_path / "spool.db"
    harmed = bytearray(path.read_bytes())
    page = harmed.index(b"line 1500\r\n") // 4096 * 4096
    harmed[page : page + 4] = (2**31 - 1).to_bytes(4, "big")
    path.write_bytes(harmed)
    async with opened(tmp_path) as spool:
        assert [claim.submission.id for claim in await spool.claim(ANNA, 9)] == ["a2"]
        (record,) = await records(spool, Query(status=RecipientStatus.HELD))
        assert record.id == "a1"
        assert [total.held for total in await spool.totals()] == [1]
        assert [event.kind for event in await spool.events("a1")] == [EventKind.ACCEPTED, EventKind.HELD]
        claim = await spool.claim_one("a1")
        assert claim is not None
        await spool.settle(claim, SpoolUpdate({path: RecipientState(RecipientStatus.CANCELLED) for path in claim.due}))
        assert [record.id for record in await records(spool, Query(unfinished=True))] == ["a2"]
        assert await spool.claim(ANNA, 9) == []
        assert [record.id for record in await records(spool)] == ["a2", "a1"]


# ---- searches ----


def queries() -> Iterator[Query]:
    """Combinations of criteria, with values that match messages in each table."""
    choices: dict[str, tuple[object, ...]] = {
        "id": (None, "m3", "<m4@firma.example>"),
        "account": (None, "anna"),
        "sender": (None, "anna@firma.example", "@firma.example", "news@other.example"),
        "recipient": (None, CARL, "@elsewhere.example"),
        "upstream_id": (None, "A1B2C3D4"),
        "status": (None, RecipientStatus.DELIVERED, RecipientStatus.WAITING),
        "unfinished": (False, True),
        "since": (None, START - timedelta(minutes=5)),
        "until": (None, START - timedelta(minutes=3)),
    }
    for values in itertools.product(*choices.values()):
        yield Query(**dict(zip(choices, values, strict=True)))  # type: ignore[arg-type]


async def test_each_search_finds_the_same_in_all_tables_as_the_model(tmp_path: Path) -> None:
    clock = StillClock()
    model = MemorySpool(clock)
    async with opened(tmp_path, clock) as spool:
        for number in range(24):
            state = (WAITING, LATER, TAKEN, DELIVERED)[number % 4]
            given = arrival(
                f"m{number}",
                *((CARL, DORA) if number % 3 else ("Emil@b.example",)),
                account=("anna", "bert")[number % 2],
                author=("anna@firma.example", "Bert@firma.example")[number // 2 % 2],
                reverse_path=("anna@firma.example", None, "news@other.example")[number % 3],
                state=state,
                at=START - number % 7 * timedelta(minutes=1),
            )
            for one in (spool, model):
                await one.accept(given)
        for account, count in (("anna", 3), ("bert", 1)):
            for one in (spool, model):
                for claim in await one.claim(Lane.of_account(account), count):
                    await one.settle(claim, SpoolUpdate(dict.fromkeys(claim.due, TAKEN)))
        asked = 0
        for query in queries():
            expected = list(await model.find(query, limit=100))
            assert list(await spool.find(query, limit=100)) == expected, query
            if len(expected) > 2:
                page = await spool.find(query, limit=2, after=expected[0].id)
                assert list(page) == expected[1:3], query
            asked += bool(expected)
        since = START - timedelta(minutes=3)
        assert list(await spool.counts_by_hour(since)) == list(await model.counts_by_hour(since))
    assert asked > 200
    assert min(counts(tmp_path, "message", "new_message", "history_pack")) > 2


async def test_subjects_are_found_in_all_tables(tmp_path: Path) -> None:
    async with opened(tmp_path, keep_subjects=True) as spool:
        await spool.accept(arrival("a1"), arrival("a2", state=LATER), arrival("a3", state=TAKEN))
        await spool.accept(arrival("a4", header=b"Subject: Rechnung\r\n\r\n", state=TAKEN))
        found = await records(spool, Query(subject="angebot"))
        assert [(record.id, record.subject) for record in found] == [(f"a{n}", "Angebot") for n in (3, 2, 1)]
        assert [record.id for record in await records(spool, Query(subject="rech"))] == ["a4"]
        await deliver(spool)
        found = await records(spool, Query(subject="angebot", status=RecipientStatus.DELIVERED))
        assert [record.id for record in found] == ["a3", "a1"]


# ---- octets ----


def log_octets(folder: Path) -> int:
    return (folder / "spool.db-wal").stat().st_size


async def fill(spool: SqliteSpool, count: int) -> None:
    for number in range(count):
        people = f"carl{number * 7919 % 1000}@elsewhere{number * 31 % 300}.example"
        spool.note(arrival(f"s{number:08}", people, state=TAKEN))
    await written(spool)


async def at_once(spool: SqliteSpool, *calls: Coroutine[Any, Any, object]) -> None:
    """Make calls that wait for the writer together, also where its thread would begin before the last of them."""
    go_on = await _busy(spool)
    tasks = [asyncio.create_task(call) for call in calls]
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(*tasks)


async def test_a_history_writes_less_than_a_kilobyte_into_the_log(tmp_path: Path) -> None:
    """The log has each page of each commit; the database gets each of them once for many commits."""
    async with opened(tmp_path, tuning=Tuning(wal_pages=10**6, wal_limit=10**7)) as spool:
        await fill(spool, 2000)
        assert log_octets(tmp_path) / 2000 < 1024


async def test_fifty_messages_at_once_write_less_than_twelve_kilobytes_each_into_the_log(tmp_path: Path) -> None:
    body = b"".join(b"%064d\r\n" % number for number in range(60))  # 4 KB with its header
    async with opened(tmp_path, tuning=Tuning(wal_pages=10**6, wal_limit=10**7)) as spool:
        await fill(spool, 2000)
        before = log_octets(tmp_path)
        await at_once(spool, *(spool.accept(arrival(f"m{number}", body=body)) for number in range(50)))
        claims = await spool.claim(ANNA, 50)
        assert len(claims) == 50
        updates = [SpoolUpdate(dict.fromkeys(claim.due, TAKEN)) for claim in claims]
        await at_once(spool, *map(spool.settle, claims, updates))
        assert (log_octets(tmp_path) - before) / 50 < 12 * 1024


async def test_a_step_of_the_clock_moves_new_messages(tmp_path: Path) -> None:
    clock = StillClock()
    async with opened(tmp_path, clock) as spool:
        await spool.accept(arrival("a1", CARL, DORA))
        clock.time += timedelta(days=1)
        assert await spool.due() == {ANNA: timedelta()}
        (record,) = await records(spool)
        assert record.received_at == START + timedelta(days=1)
        assert {record.due_at(state) for state in record.recipients.values()} == {record.received_at}


def test_a_column_is_in_its_place() -> None:
    """The rows are read by position."""
    with closing(sqlite3.connect(":memory:")) as connection:
        for script in database.scripts():
            connection.executescript(script)
        names = [row[1] for row in connection.execute("PRAGMA table_info(new_message)")]
    columns = new_messages.ADD[new_messages.ADD.index("(") + 1 : new_messages.ADD.index(")")].split(", ")
    assert names == columns
