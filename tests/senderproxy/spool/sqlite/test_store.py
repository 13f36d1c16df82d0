"""SqliteSpool beyond the port (tests/ports/test_spool.py): files, restarts, history, a slow disk."""

import asyncio
import os
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from senderproxy.listener.body import SpillDirectory
from senderproxy.mail.address import parse_address
from senderproxy.mail.message import Message
from senderproxy.mail.reply import reply
from senderproxy.mail.submission import Client
from senderproxy.relay.ports import Arrival, SpoolError, SpoolFull, SpoolRejected, SpoolUpdate
from senderproxy.spool.sqlite import cleanup, history
from senderproxy.spool.sqlite.limits import SpoolLimits
from senderproxy.spool.sqlite.store import SqliteSpool, Tuning
from senderproxy.spool.sqlite.writer import WriteJob
from senderproxy.tracking.record import Event, EventKind, Lane, Query, RecipientState, RecipientStatus
from tests.fakes.arrivals import DELIVERED, WAITING, arrival
from tests.fakes.buffered_body import buffered_body
from tests.fakes.claims import next_claim
from tests.fakes.still_clock import START, StillClock
from tests.senderproxy.spool.sqlite.open_spool import HISTORY, claimed, files, ids, opened, records, sql

CARL = parse_address("carl@elsewhere.example")
LARGE = b"0123456789abcdef" * 64 * 1024 + b"\r\n"  # a file of its own
DONE = SpoolUpdate({CARL: DELIVERED})
TRIED = RecipientState(RecipientStatus.WAITING, tries=1)  # of a message in the general tables


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


# ---- cache ----


async def test_a_message_is_not_read_for_its_first_claim(folder: Path) -> None:
    given = arrival("a1", body=b"Hallo\r\n")
    async with opened(folder) as spool:
        await spool.accept(given)
        first = await claimed(spool)
        assert first.submission.message.header is given.submission.message.header
        await spool.settle(first, SpoolUpdate({CARL: RecipientState(RecipientStatus.WAITING, tries=1)}))
        second = await claimed(spool)
        assert second.submission.message.header is not given.submission.message.header
        assert second.due == {CARL: RecipientState(RecipientStatus.WAITING, tries=1)}


async def test_a_cached_message_equals_its_rows(folder: Path) -> None:
    given = [
        arrival(
            "a1", "carl@elsewhere.example", "dora@elsewhere.example", client=Client("::1", "x", "ESMTPSA", user="a")
        ),
        arrival("a2", reverse_path=None, carrier="anna", report_on="a0", eight_bit=True, long_lines=True),
    ]
    async with opened(folder) as fresh, opened(folder.with_name("two"), tuning=Tuning(cache_size=0)) as read:
        await fresh.accept(*given)
        await read.accept(*given)
        for _ in given:
            one, two = await claimed(fresh), await claimed(read)
            assert replace(one.submission, message=two.submission.message) == two.submission
            assert list(one.submission.message.blocks()) == list(two.submission.message.blocks())
            assert one.submission.message.size == two.submission.message.size
            assert (one.account, one.author, one.faults) == (two.account, two.author, two.faults)
            assert one.due == two.due


async def test_a_step_of_the_clock_empties_the_cache(folder: Path) -> None:
    clock = StillClock()
    async with opened(folder, clock) as spool:
        await spool.accept(arrival("a1"))
        clock.time += timedelta(days=1)
        assert (await claimed(spool)).submission.received_at == START + timedelta(days=1)


async def test_the_cache_is_bounded(folder: Path) -> None:
    given = [arrival(f"a{number}") for number in range(5)]
    async with opened(folder, tuning=Tuning(cache_size=10_000)) as spool:
        await spool.accept(*given)
        kept = [(await claimed(spool)).submission.message.header for _ in given]
        assert [a is b.submission.message.header for a, b in zip(kept, given, strict=True)] == [True] * 2 + [False] * 3
        await spool.accept(last := arrival("a6"))  # there is space again
        assert (await claimed(spool)).submission.message.header is last.submission.message.header


# ---- restarts ----


async def test_accepted_and_settled_messages_survive_a_restart(folder: Path) -> None:
    async with opened(folder) as spool:
        await spool.accept(arrival("a1"), arrival("a2", body=LARGE), arrival("a3"))
        await spool.settle(await claimed(spool), DONE)
        await claimed(spool)  # leased, and never settled
    async with opened(folder) as spool:
        assert [(r.id, *(s.status for s in r.recipients.values())) for r in await records(spool)] == [
            ("a3", RecipientStatus.WAITING),
            ("a2", RecipientStatus.WAITING),
            ("a1", RecipientStatus.DELIVERED),
        ]
        claim = await claimed(spool)
        assert claim.submission.id == "a2"
        assert b"".join(claim.submission.message.body.blocks()) == LARGE
        await spool.accept(arrival("a4"))
        assert await ids(spool) == ["a4", "a3", "a2", "a1"]


async def test_one_process_at_a_time_holds_the_spool(folder: Path) -> None:
    async with opened(folder):
        with pytest.raises(SpoolError, match=rf"in use by .*\(process {os.getpid()}\)"):
            SqliteSpool.open(folder, StillClock(), SpoolLimits(HISTORY))
    async with opened(folder):
        pass


async def test_a_closed_spool_raises_an_error(folder: Path) -> None:
    async with opened(folder) as spool:
        await spool.accept(arrival("a1"))
        claim = await claimed(spool)
    for question in (
        spool.accept(arrival("a2")), spool.accept(arrival("a3", body=LARGE)), spool.claim(Lane.of_account("anna"), 1),
        spool.settle(claim, DONE), spool.find(Query(), limit=1), spool.totals(), spool.due(),
    ):  # fmt: skip
        with pytest.raises(SpoolError, match="closed"):
            await question
    await spool.close()
    assert not (folder / "spool.db-wal").exists()


# ---- content ----


async def test_a_small_body_is_stored_in_a_row_and_a_large_one_in_a_file(folder: Path) -> None:
    limit = Tuning().row_limit
    async with opened(folder) as spool:
        await spool.accept(arrival("small", body=b"x" * limit))
        assert files(folder) == set()
        await spool.accept(arrival("large", body=b"x" * (limit + 1)))
        (name,) = files(folder)
        assert (folder / "content" / name).read_bytes() == b"x" * (limit + 1)
        assert (folder / "content" / name).stat().st_mode & 0o777 == 0o600


async def test_a_file_is_removed_when_its_message_is_finished(folder: Path) -> None:
    dora = parse_address("dora@elsewhere.example")
    async with opened(folder) as spool:
        await spool.accept(arrival("a1", str(CARL), str(dora), body=LARGE))
        await spool.settle(await claimed(spool), DONE)
        assert len(files(folder)) == 1
        claim = await claimed(spool)
        assert b"".join(claim.submission.message.body.blocks()) == LARGE
        await spool.settle(claim, SpoolUpdate({dora: DELIVERED}))
    assert files(folder) == set()
    assert sql(folder, "SELECT count(*) FROM content") == [(0,)]


async def test_a_body_in_an_unnamed_file_is_linked_and_not_copied(folder: Path) -> None:
    async with opened(folder) as spool:
        pieces = (LARGE[start : start + 7000] for start in range(0, len(LARGE), 7000))
        body = await buffered_body(1024, SpillDirectory(folder=spool.spill_folder), pieces)
        file = body.unnamed_file()
        assert file is not None
        assert files(folder) == set()
        inode = os.fstat(file).st_ino
        given = arrival("a1")
        header = given.submission.message.header
        await spool.accept(_with_message(given, Message(header, body)))
        (name,) = files(folder)
        assert (folder / "content" / name).stat().st_ino == inode
        body.close()
        claim = await claimed(spool)
        assert b"".join(claim.submission.message.body.blocks()) == LARGE


async def test_a_body_on_another_file_system_is_copied(folder: Path) -> None:
    shm = Path("/dev/shm")
    assert shm.stat().st_dev != folder.parent.stat().st_dev
    with tempfile.TemporaryDirectory(dir=shm) as elsewhere:
        async with opened(folder) as spool:
            body = await buffered_body(1024, SpillDirectory(folder=Path(elsewhere)), [LARGE])
            assert body.on_disk
            await spool.accept(_with_message(arrival("a1"), Message(arrival("a1").submission.message.header, body)))
            body.close()
            claim = await claimed(spool)
            assert b"".join(claim.submission.message.body.blocks()) == LARGE


async def test_a_claim_on_a_new_message_reads_the_spools_own_content(folder: Path) -> None:
    async with opened(folder) as spool:
        for ident, octets in (("a1", b"klein\r\n"), ("a2", LARGE)):
            body = await buffered_body(1 << 30, SpillDirectory(), [octets])
            given = _with_message(arrival(ident), Message(arrival(ident).submission.message.header, body))
            (claim,) = await spool.accept(given, leased=True)
            body.close()
            assert b"".join(claim.submission.message.body.blocks()) == octets
            await spool.settle(claim, DONE)
    assert files(folder) == set()


async def test_without_its_row_a_file_is_removed(folder: Path) -> None:
    async with opened(folder) as spool:
        await spool.accept(arrival("a1"))
        with pytest.raises(SpoolError):
            await spool.accept(arrival("a1", body=LARGE))
        claim = await claimed(spool)
        with pytest.raises(SpoolError):
            await spool.settle(claim, SpoolUpdate({CARL: DELIVERED}, reports=(arrival("a1", body=LARGE),)))
    assert files(folder) == set()


class SlowBody:
    """A body that stops after its first block until `go_on` is set."""

    is_ascii, has_long_lines, disk = True, False, None

    def __init__(self, octets: bytes) -> None:
        self.octets, self.size, self.users = octets, len(octets), 1
        self.begun, self.go_on, self.ended = threading.Event(), threading.Event(), threading.Event()

    def blocks(self) -> Iterator[bytes]:
        self.begun.set()
        try:
            yield self.octets[:1000]
            assert self.go_on.wait(30)
            yield self.octets[1000:]
        finally:
            self.ended.set()

    def retain(self) -> None:
        self.users += 1

    def close(self) -> None:
        self.users -= 1


async def test_a_cancelled_accept_of_a_large_body_ends_at_once_and_leaves_no_file(
    folder: Path,
) -> None:
    async with opened(folder) as spool:
        body = SlowBody(LARGE)
        given = _with_message(arrival("a1"), Message(arrival("a1").submission.message.header, body))
        accepting = asyncio.create_task(spool.accept(given))
        await asyncio.to_thread(body.begun.wait, 30)
        accepting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(accepting, 20)
        assert body.users == 2  # it is still being read
        body.go_on.set()
        async with asyncio.timeout(20):
            while body.users > 1:
                await asyncio.sleep(0.005)
        assert body.ended.is_set()
        assert await ids(spool) == []
    assert files(folder) == set()


def _with_message(given: Arrival, message: Message) -> Arrival:
    return replace(given, submission=replace(given.submission, message=message))


# ---- unreadable messages are held and never deleted (more tests in tests/crash) ----


@pytest.mark.parametrize("harm", ["cut", "gone", "altered"])
async def test_a_message_with_a_damaged_file_is_held_and_the_next_one_is_claimed(
    folder: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(folder) as spool:
        await spool.accept(arrival("a1", body=LARGE), arrival("a2"))
    (name,) = files(folder)
    file = folder / "content" / name
    match harm:
        case "cut":
            os.truncate(file, len(LARGE) - 1)
        case "gone":
            file.unlink()
        case "altered":
            file.write_bytes(LARGE[:-3] + b"e\r\n")
        case _:
            raise AssertionError(harm)
    async with opened(folder) as spool:
        assert (await claimed(spool)).submission.id == "a2"
        (record,) = await records(spool, Query(id="a1"))
        (state,) = record.recipients.values()
        assert state.status is RecipientStatus.HELD
        assert "content" in state.why
        assert not record.leased
        assert (await spool.events("a1"))[-1].kind is EventKind.HELD
        assert (await spool.events("a1"))[-1].facts["why"] == state.why
        assert [total.held for total in await spool.totals()] == [1]
    assert "held" in caplog.text
    assert len(files(folder)) == (harm != "gone")


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE content SET body = x'' WHERE message = 1",
        "UPDATE content SET body = CAST(replace(CAST(body AS TEXT), 'C', 'D') AS BLOB)",
        "UPDATE content SET header = CAST(replace(CAST(header AS TEXT), 'A', 'B') AS BLOB)",
        "UPDATE content SET is_ascii = 1",
        "DELETE FROM content",
        "UPDATE recipient SET address = 'eve@elsewhere.example'",
        "UPDATE recipient SET address = cast(x'ff00fe' AS TEXT)",
        "DELETE FROM recipient WHERE position = 1",
        "UPDATE message SET reverse_path = 'eve@firma.example'",
        "UPDATE message SET author = 'eve@firma.example'",
        "UPDATE message SET client = '{'",
        "UPDATE message SET carrier = 'eve'",
        "UPDATE recipient SET reply = '[1'",
        "UPDATE recipient SET due_at = 9000000000000000 WHERE position = 1",
        "UPDATE new_message SET body = x''",
        "UPDATE new_message SET body = CAST(replace(CAST(body AS TEXT), 'C', 'D') AS BLOB)",
        "UPDATE new_message SET header = CAST(replace(CAST(header AS TEXT), 'A', 'B') AS BLOB)",
        "UPDATE new_message SET is_ascii = 1",
        "UPDATE new_message SET recipients = replace(recipients, 'carl', 'eve')",
        "UPDATE new_message SET recipients = cast(x'ff00fe' AS TEXT)",
        "UPDATE new_message SET recipients = 'carl@elsewhere.example'",
        "UPDATE new_message SET reverse_path = 'eve@firma.example'",
        "UPDATE new_message SET author = 'eve@firma.example'",
        "UPDATE new_message SET client = '{'",
        "UPDATE new_message SET carrier = 'eve'",
        "UPDATE new_message SET size = 7",
    ],
)
async def test_a_message_with_damaged_rows_is_held(folder: Path, harm: str) -> None:
    state = WAITING if "new_message" in harm else TRIED
    async with opened(folder) as spool:
        await spool.accept(arrival("a1", "carl@elsewhere.example", "dora@elsewhere.example", state=state))
    sql(folder, harm)
    async with opened(folder) as spool:
        await spool.accept(arrival("a2"))
        claim = await claimed(spool)
        if "9000000000000000" in harm:  # not due yet, according to its row
            assert list(claim.due) == [CARL]
            return
        assert claim.submission.id == "a2"
        (record,) = await records(spool, Query(id="a1"))
        assert {state.status for state in record.recipients.values()} == {RecipientStatus.HELD}
        assert (await spool.events("a1"))[-1].kind is EventKind.HELD
        assert await spool.due() == {}
    assert sql(folder, "SELECT finished_at FROM message WHERE id = 'a1'") == [(None,)]


@pytest.mark.parametrize(
    ("state", "harm", "why"),
    [
        (TRIED, "DELETE FROM content", "content is missing"),
        (WAITING, "UPDATE new_message SET body = x''", "content is shorter"),
    ],
)
async def test_an_operator_can_cancel_an_unreadable_message(
    folder: Path, state: RecipientState, harm: str, why: str
) -> None:
    async with opened(folder) as spool:
        await spool.accept(arrival("a1", state=state))
    sql(folder, harm)
    async with opened(folder) as spool:
        assert await next_claim(spool) is None
        claim = await spool.claim_one("a1")
        assert claim is not None
        assert claim.due[CARL].status is RecipientStatus.HELD
        with pytest.raises(OSError, match=why):
            list(claim.submission.message.blocks())
        await spool.settle(claim, SpoolUpdate({CARL: RecipientState(RecipientStatus.CANCELLED)}))
        assert [r.recipients[CARL].status for r in await records(spool)] == [RecipientStatus.CANCELLED]


@pytest.mark.parametrize(("state", "table"), [(TRIED, "message"), (WAITING, "new_message")])
async def test_a_message_whose_author_may_have_been_altered_has_no_reverse_path(
    folder: Path, state: RecipientState, table: str
) -> None:
    async with opened(folder) as spool:
        await spool.accept(arrival("a1", state=state))
    sql(folder, f"UPDATE {table} SET reverse_path = 'eve@firma.example'")
    async with opened(folder) as spool:
        claim = await spool.claim_one("a1")
        assert claim is not None
        assert str(claim.submission.envelope.reverse_path) == ""


# ---- leases ----


async def test_a_cancelled_claim_gives_its_lease_back_and_says_so(folder: Path) -> None:
    async with opened(folder) as spool:
        woken: list[Lane | None] = []
        spool.on_wake(woken.append)
        await spool.accept(arrival("a1"))
        claiming = asyncio.create_task(spool.claim(Lane.of_account("anna"), 1))
        await asyncio.sleep(0)
        claiming.cancel()
        with pytest.raises(asyncio.CancelledError):
            await claiming
        while (claim := await next_claim(spool)) is None:
            pass  # until it has been given back
        assert claim.submission.id == "a1"
        assert woken == [Lane.of_account("anna")]


async def test_a_cancelled_leased_accept_gives_its_lease_back(folder: Path) -> None:
    async with opened(folder) as spool:
        accepting = asyncio.create_task(spool.accept(arrival("a1"), leased=True))
        while not spool._incoming.last_number:  # it is on its way to the writer
            await asyncio.sleep(0)
        accepting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await accepting
        while (claim := await next_claim(spool)) is None:
            pass
        assert claim.submission.id == "a1"


# ---- history of messages that passed through ----


async def test_noted_history_is_written_after_a_delay(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = RecipientState(RecipientStatus.DELIVERED, reply=reply(250, "2.0.0", "queued as ABC123"))
    monkeypatch.setattr(history, "_DELAY", 0.01)
    async with opened(folder) as spool:
        assert spool._writer.commits == 0
        for number in range(50):
            spool.note(arrival(f"s{number}", state=taken))
        while len(await ids(spool)) < 50:
            await asyncio.sleep(0.01)
        await spool.due()  # behind the transaction, which is counted after it can be read
        assert spool._writer.commits == 1
        assert [r.id for r in await spool.find(Query(upstream_id="ABC123"), limit=1)] == ["s49"]
    assert sql(folder, "SELECT count(*) FROM content") == [(0,)]


async def test_noted_history_is_written_with_the_next_message_and_at_the_close(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "_DELAY", 600.0)
    async with opened(folder) as spool:
        spool.note(arrival("s1", state=DELIVERED))
        await spool.accept(arrival("a1"))
        assert (await ids(spool), spool._writer.commits) == (["a1", "s1"], 1)
        spool.note(arrival("s2", state=DELIVERED))
    async with opened(folder) as spool:
        assert await ids(spool) == ["s2", "a1", "s1"]


async def test_noted_history_is_bounded_and_its_loss_is_logged_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(history, "_LIMIT", 3 * 1300)
    async with opened(folder) as spool:
        for number in range(9):
            spool.note(arrival(f"s{number}", state=DELIVERED))
        await spool.accept(arrival("a1"))
        assert await ids(spool) == ["a1", "s2", "s1", "s0"]
    assert sum("why" in getattr(record, "senderproxy_fields", {}) for record in caplog.records) == 1


async def test_history_that_cannot_be_written_does_not_affect_a_message(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(folder) as spool:
        spool.note(arrival("s1", state=DELIVERED))
        spool.note(arrival("s1", state=DELIVERED))
        spool.note(arrival("s2", state=DELIVERED))
        await spool.accept(arrival("a1"))
        assert await ids(spool) == ["a1", "s2", "s1"]
    assert "history_lost" in [getattr(record, "senderproxy_event", "") for record in caplog.records]


# ---- sweep ----


async def test_a_sweep_deletes_old_history(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "_DELETED_LEAST", 4)
    clock = StillClock()
    async with opened(folder, clock) as spool:
        await spool.accept(*(arrival(f"old{number}", state=DELIVERED) for number in range(6)), arrival("waits"))
        for number in range(6, 10):  # in the general tables
            await spool.accept(arrival(f"old{number}", account="bert", state=TRIED))
            await spool.settle(await claimed(spool, "bert"), DONE)
        await spool.accept(arrival("tried", state=TRIED))
        clock.pass_by(timedelta(days=1))
        await spool.accept(arrival("young", state=DELIVERED))
        await spool.sweep(START + HISTORY)
        assert len(await ids(spool)) == 13
        await spool.sweep(START + HISTORY + timedelta(seconds=1))
        assert await ids(spool) == ["young", "tried", "waits"]
        assert await spool.events("old1") == await spool.events("old8") == []
        assert (await claimed(spool)).submission.id == "waits"
    for table in ("event", "recipient"):
        assert sql(folder, f"SELECT count(DISTINCT message) FROM {table}") == [(1,)]
    assert sql(folder, "SELECT sum(messages) FROM history_pack") == [(1,)]


async def test_a_sweep_removes_old_files_without_a_message(folder: Path) -> None:
    clock = StillClock()
    async with opened(folder, clock) as spool:
        await spool.accept(arrival("a1", body=LARGE))
        (mine,) = files(folder)
        for name, age in (("old-orphan", 3700), ("young-orphan", 3500), (mine, 100_000)):
            (folder / "content" / name).touch()
            os.utime(folder / "content" / name, (0, START.timestamp() - age))
        await spool.sweep(START)
        assert files(folder) == {mine, "young-orphan"}
        assert (await claimed(spool)).submission.id == "a1"


async def test_a_sweep_leaves_a_file_that_is_being_written(folder: Path) -> None:
    async with opened(folder) as spool:
        body = SlowBody(LARGE)
        given = _with_message(arrival("a1"), Message(arrival("a1").submission.message.header, body))
        accepting = asyncio.create_task(spool.accept(given))
        await asyncio.to_thread(body.begun.wait, 30)
        (name,) = files(folder)
        os.utime(folder / "content" / name, (0, 0))  # or the clock was put forward
        await spool.sweep(START)
        assert files(folder) == {name}
        body.go_on.set()
        await accepting
        assert b"".join((await claimed(spool)).submission.message.body.blocks()) == LARGE


async def test_a_sweep_shrinks_the_database(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleanup, "_FREE_PAGES", 16)
    async with opened(folder) as spool:
        await spool.accept(*(arrival(f"a{number}", body=b"x" * 100_000) for number in range(40)))
        for _ in range(40):
            await spool.settle(await claimed(spool), DONE)
        await spool.sweep(START)
    assert (folder / "spool.db").stat().st_size < 500_000


# ---- the disk is slow, or full ----


async def test_the_event_loop_goes_on_while_the_disk_hangs(folder: Path) -> None:
    async with opened(folder) as spool:
        await spool.accept(arrival("a1"))
        repaired = await _busy(spool)
        waiting = [
            asyncio.create_task(call)
            for call in (spool.accept(arrival("a2")), spool.claim(Lane.of_account("anna"), 1), spool.due())
        ]
        spool.note(arrival("s1", state=DELIVERED))
        for _ in range(100):
            await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        assert await ids(spool) == ["a1"]  # what is read is read
        repaired.set()
        await asyncio.gather(*waiting)
        assert "a2" in await ids(spool)


async def test_with_too_little_free_space_new_messages_are_refused_and_claims_are_settled(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = StillClock()
    free = os.statvfs(folder.parent).f_bavail * os.statvfs(folder.parent).f_frsize
    async with opened(folder, clock, min_free=free // 2) as spool:
        await spool.accept(arrival("a1"))
        monkeypatch.setattr(spool._writer.free_space, "min_free", free * 2)
        clock.pass_by(timedelta(seconds=1))
        for body in (b"x\r\n", LARGE):
            with pytest.raises(SpoolFull, match="Too little space") as full:
                await spool.accept(arrival("a2", body=body))
            assert full.value.hint
        report = arrival("r1", "anna@firma.example", reverse_path=None, report_on="a1", body=LARGE)
        await spool.settle(
            await claimed(spool), SpoolUpdate({CARL: RecipientState(RecipientStatus.FAILED)}, reports=(report,))
        )
        assert await ids(spool) == ["r1", "a1"]
        monkeypatch.setattr(spool._writer.free_space, "min_free", 0)
        clock.pass_by(timedelta(seconds=1))
        await spool.accept(arrival("a2"))
        assert await ids(spool) == ["a2", "r1", "a1"]


async def _busy(spool: SqliteSpool) -> threading.Event:
    """Occupy the writer until the event is set; the jobs that arrive meanwhile are one batch."""
    begun, go_on = threading.Event(), threading.Event()

    def wait(_: sqlite3.Connection) -> None:
        begun.set()
        assert go_on.wait(30)

    spool._writer.enqueue(WriteJob(run=wait, reads_only=True))
    await asyncio.to_thread(begun.wait, 30)
    return go_on


async def test_an_error_of_one_job_does_not_affect_the_others(folder: Path) -> None:
    async with opened(folder) as spool:
        await spool.accept(arrival("a1"), arrival("a2"))
        claims = [await claimed(spool), await claimed(spool)]
        hold = await _busy(spool)
        bad = SpoolUpdate({CARL: DELIVERED}, events=(Event(START, EventKind.ATTEMPTED),), reports=(arrival("a1"),))
        together = [
            spool.accept(arrival("a3")),
            spool.accept(arrival("a1")),
            spool.settle(claims[0], bad),
            spool.settle(claims[1], DONE),
        ]
        tasks = [asyncio.create_task(one) for one in together]
        await asyncio.sleep(0)
        hold.set()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [list, SpoolRejected, SpoolRejected, type(None)]
        statuses = {r.id: r.recipients[CARL].status for r in await records(spool)}
        assert statuses == {
            "a1": RecipientStatus.WAITING,
            "a2": RecipientStatus.DELIVERED,
            "a3": RecipientStatus.WAITING,
        }
        assert [e.kind for e in await spool.events("a1")] == [EventKind.ACCEPTED]


async def test_without_a_thread_for_the_writer_messages_are_refused_until_there_is_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async with opened(folder) as spool:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", fail)
            for number in range(2):
                with pytest.raises(SpoolError, match="no thread"):
                    await spool.accept(arrival(f"a{number}"))
        await spool.accept(arrival("a9"))
        assert await ids(spool) == ["a9"]


async def test_all_messages_that_arrive_during_a_commit_share_the_next_one(folder: Path) -> None:
    async with opened(folder) as spool:
        hold = await _busy(spool)
        tasks = [asyncio.create_task(spool.accept(arrival(f"a{number}"))) for number in range(40)]
        await asyncio.sleep(0)
        hold.set()
        await asyncio.gather(*tasks)
        assert spool._writer.commits == 1
        assert len(await ids(spool)) == 40


async def test_the_write_ahead_log_stays_short(folder: Path) -> None:
    tuning = Tuning(wal_pages=200, wal_limit=2000)
    async with opened(folder, tuning=tuning) as spool:
        longest = 0
        for number in range(150):
            await asyncio.gather(*(spool.accept(arrival(f"a{number}-{n}", body=b"x" * 30_000)) for n in range(4)))
            longest = max(longest, (folder / "spool.db-wal").stat().st_size)
            while (
                not spool._writer.wal._idle.is_set()
            ):  # on a busy machine its thread may get no time beside the commits
                await asyncio.sleep(0.001)
            await spool.due()  # behind the rest that the writer copies
        assert longest < 2500 * 4120
        assert (folder / "spool.db").stat().st_size > 150 * 4 * 30_000 // 2


async def test_a_close_ends_while_the_write_ahead_log_is_at_its_limit(folder: Path) -> None:
    async with opened(folder, tuning=Tuning(wal_pages=1, wal_limit=2)) as spool:
        go_on = await _busy(spool)
        tasks = [asyncio.create_task(spool.accept(arrival(f"a{number}"))) for number in range(1200)]
        for _ in range(10):
            await asyncio.sleep(0)
        closing = asyncio.create_task(spool.close())
        await asyncio.sleep(0)
        go_on.set()
        async with asyncio.timeout(30):
            await closing
        await asyncio.gather(*tasks, return_exceptions=True)


# ---- health of the disk ----


async def test_too_little_free_space_is_reported_before_a_message_is_refused(tmp_path: Path) -> None:
    status = os.statvfs(tmp_path)
    async with opened(tmp_path / "spool", min_free=status.f_blocks * status.f_frsize * 2) as spool:
        trouble = await spool.trouble()
        assert isinstance(trouble, SpoolFull)
        assert trouble.hint


async def test_an_error_is_reported_until_the_next_success_and_a_full_disk_for_ten_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = StillClock()
    async with opened(tmp_path / "spool", clock) as spool:
        assert await spool.trouble() is None
        for refusal in (SpoolError("the disk is read-only"), SpoolFull("the disk is full")):

            async def refuse(*_: object, refusal: SpoolError = refusal) -> None:
                raise refusal

            with monkeypatch.context() as patch:
                patch.setattr(spool._incoming, "store_contents", refuse)
                with pytest.raises(SpoolError):
                    await spool.accept(arrival("a1"))
            assert await spool.trouble() is refusal
            clock.pass_by(timedelta(minutes=11))
            assert await spool.trouble() is (None if isinstance(refusal, SpoolFull) else refusal)
            await spool.accept(arrival(f"after {type(refusal).__name__}"))
            assert await spool.trouble() is None
