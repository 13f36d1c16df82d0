"""A spool of format 1 with ten thousand messages is migrated with a backup, used, and refused by the older version.

So are those of formats 2 and 3, with the rows that the last versions with these formats wrote.
"""

import json
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from zlib import crc32

import pytest

from senderproxy.mail.address import parse_address
from senderproxy.relay.ports import NewJob, SpoolError, SpoolUpdate
from senderproxy.spool.sqlite.database import SpoolTooNew, open_database, scripts
from senderproxy.spool.sqlite.spool_folder import SpoolFolder
from senderproxy.tracking.record import Lane, Query, RecipientStatus
from tests.fakes.arrivals import DELIVERED, arrival
from tests.fakes.still_clock import START, StillClock
from tests.senderproxy.spool.sqlite.open_spool import files, opened, records, sql, written

# So many messages of each sort, by account; a report waits as any other message.
SORTS = [("waiting", "anna", 8000), ("waiting", "bert", 1000), ("held", "anna", 300), ("report", "bert", 200)]
HISTORIES = 500
NOW_MS = int(START.timestamp() * 1000)
HEADER = b"From: anna@firma.example\r\nSubject: Angebot\r\n\r\n"
BODY = b"Guten Tag\r\n"
CLIENT = '{"host":"192.0.2.7","name":"pc","protocol":"ESMTP"}'
CARL, DORA = (parse_address(f"{name}@elsewhere.example") for name in ("carl", "dora"))
REPLY = json.dumps([450, [4, 2, 0], ["Greylisted"]], separators=(",", ":"))


def folder_of_format_1(folder: Path) -> None:
    """Written with the first script and plain SQL, as the version of that format did."""
    place = SpoolFolder.open(folder)
    open_database(place, scripts()[:1]).close()
    place.close()
    (folder / "content").mkdir(mode=0o700, exist_ok=True)
    (folder / "content" / "large").write_bytes(BODY)
    with closing(sqlite3.connect(folder / "spool.db")) as connection:
        number = 0
        for sort, account, count in [*SORTS, ("history", "anna", HISTORIES)]:
            for _ in range(count):
                number += 1
                _insert(connection, number, sort, account)
        connection.execute("UPDATE content SET body = NULL, file = 'large' WHERE message = 1")
        connection.commit()


def _insert(connection: sqlite3.Connection, number: int, sort: str, account: str) -> None:
    """Carl waits or is held or was delivered; Dora was delivered before."""
    report_on, path = ("m1", "") if sort == "report" else (None, "anna@firma.example")
    fixed = (f"m{number}", "office", CLIENT, path, 0, "anna@firma.example", None, len(HEADER) + len(BODY), report_on)
    people = ["carl@elsewhere.example", "dora@elsewhere.example"]
    seal = crc32(repr((*fixed, *people)).encode())
    state = {"held": "held", "history": "delivered"}.get(sort, "waiting")
    due_at = NOW_MS + number % 100 - 200 if state == "waiting" else None
    ident, listener, client, _, eight_bit, author, carrier, size, _ = fixed
    connection.execute(
        f"INSERT INTO message VALUES ({', '.join('?' * 22)})",
        (number, ident, NOW_MS - 7_200_000 + number, listener, client, path, eight_bit, author, account, carrier, size,
         f"<{ident}@firma.example>", report_on, seal, "firma.example anna", None, 0,
         int(state == "waiting"), int(state == "held"), due_at, 1 if state == "waiting" else None,
         NOW_MS if state == "delivered" else None),
    )  # fmt: skip
    connection.executemany(
        f"INSERT INTO recipient VALUES ({', '.join('?' * 11)})",
        [(number, 0, people[0], "elsewhere.example carl", state, due_at, 2, REPLY, "look" if state == "held" else "",
          0, None),
         (number, 1, people[1], "elsewhere.example dora", "delivered", None, 1, None, "", 0, None)],
    )  # fmt: skip
    connection.execute(
        "INSERT INTO event VALUES (?, 0, ?, 'accepted', '[]', '{\"client\":\"192.0.2.7\"}')", (number, NOW_MS)
    )
    if state != "delivered":
        checksum = crc32(BODY, crc32(HEADER, crc32(b"%d %d %d" % (len(BODY), 1, 0))))
        connection.execute(
            "INSERT INTO content VALUES (?, ?, ?, NULL, ?, ?, 1, 0)", (number, HEADER, BODY, len(BODY), checksum)
        )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder_of_format_1(tmp_path / "spool")
    return tmp_path / "spool"


async def test_ten_thousand_messages_are_migrated_with_a_backup_and_used(folder: Path) -> None:
    clock = StillClock()
    anna, bert = Lane.of_account("anna"), Lane.of_account("bert")
    async with opened(folder, clock) as spool:
        assert sql(folder, "PRAGMA user_version") == [(len(scripts()),)]
        totals = {one.account: (one.waiting, one.held) for one in await spool.totals()}
        assert totals == {"anna": (8000, 300), "bert": (1200, 0)}
        assert await spool.due() == {anna: timedelta(milliseconds=-200), bert: timedelta(milliseconds=-200)}
        assert len(await spool.find(Query(status=RecipientStatus.HELD), limit=1000)) == 300
        (record,) = await spool.find(Query(id="m8001"), limit=1)
        assert (record.account, record.lanes, record.recipients[CARL].tries) == ("bert", {}, 2)
        assert [event.kind.value for event in await spool.events("m9999")] == ["accepted"]

        claims = await spool.claim(anna, 10_000)  # the one due longest first, of those the one submitted first
        expected = sorted(range(1, 8001), key=lambda number: (number % 100, number))
        assert [claim.submission.id for claim in claims] == [f"m{number}" for number in expected]
        assert all(list(claim.due) == [CARL] and claim.lane == anna for claim in claims)
        (large,) = (claim for claim in claims if claim.submission.id == "m1")
        assert b"".join(large.submission.message.body.blocks()) == BODY
        copy = NewJob("sent-copy", anna, holds_content=True)
        await spool.settle(large, SpoolUpdate({CARL: DELIVERED}, jobs=(copy,)))
        assert files(folder) == {"large"}
        (job,) = await spool.claim_jobs("sent-copy", anna, 1)
        await spool.settle_job(job)

        held = await spool.claim_one("m9001")
        assert held is not None
        assert (held.lane, held.due[CARL].why) == (anna, "look")
        report = next(claim for claim in await spool.claim(bert, 2000) if claim.submission.report_on == "m1")
        await spool.settle(report, SpoolUpdate({CARL: DELIVERED}))
    assert files(folder) == set()
    assert sql(folder, "PRAGMA integrity_check") == [("ok",)]
    assert sql(folder, "SELECT count(*) FROM message WHERE finished_at IS NULL") == [(9498,)]


async def test_the_older_version_refuses_the_migrated_spool_in_words_and_takes_the_backup(folder: Path) -> None:
    async with opened(folder):
        pass
    before = (folder / "spool.db").read_bytes()
    place = SpoolFolder.open(folder)
    try:
        with pytest.raises(
            SpoolTooNew, match=r"later version of senderproxy \(format 4; .* up to format 1\)"
        ) as caught:
            open_database(place, scripts()[:1])
        assert "The mail in the spool is safe" in caught.value.hint
        assert (folder / "spool.db").read_bytes() == before
        (folder / "spool.db.format-1").rename(folder / "spool.db")
        open_database(place, scripts()[:1]).close()
    finally:
        place.close()
    assert sql(folder, "SELECT count(*), max(number) FROM message") == [(10_000, 10_000)]
    with pytest.raises(sqlite3.OperationalError):
        sql(folder, "SELECT lane FROM recipient")


async def test_the_backup_of_the_last_migration_alone_is_kept(folder: Path) -> None:
    async with opened(folder):
        pass
    later = [*scripts(), "CREATE TABLE of_a_later_version (number INTEGER PRIMARY KEY);\n"]
    place = SpoolFolder.open(folder)
    try:
        open_database(place, later).close()
        open_database(place, later).close()
    finally:
        place.close()
    assert [path.name for path in folder.glob("*.format-*")] == ["spool.db.format-4"]


async def test_a_migration_leaves_no_recipient_that_waits_without_a_lane(folder: Path) -> None:
    async with opened(folder):
        pass
    assert sql(folder, "SELECT count(*) FROM recipient WHERE fate IN ('waiting', 'held') AND lane IS NULL") == [(0,)]
    assert sql(folder, "SELECT DISTINCT lane FROM recipient WHERE due_at IS NOT NULL ORDER BY lane") == [
        ("account:anna",), ("account:bert",),
    ]  # fmt: skip


ANNA, BERT, RELAY = Lane.of_account("anna"), Lane.of_account("bert"), Lane("mx", "elsewhere.example")
LARGE = b"Guten Tag\r\n" * 20_000
LARGE_FILES = {2: "m1-id0000000001", 3: "w1-id0000000001"}


def leave_spool(folder: Path, number: int) -> None:
    """A spool of that format: rows that the last version with it wrote, in the tables of the scripts so far."""
    place = SpoolFolder.open(folder)
    open_database(place, scripts()[:number]).close()
    place.close()
    written_rows = (Path(__file__).parent / f"format_{number}.sql").read_text()
    with closing(sqlite3.connect(folder / "spool.db")) as connection:
        connection.executescript(written_rows)
    (folder / "content").mkdir(mode=0o700, exist_ok=True)
    (folder / "content" / LARGE_FILES[number]).write_bytes(LARGE)
    assert sql(folder, "PRAGMA user_version") == [(number,)]


async def test_mail_of_format_2_is_migrated_with_its_lanes_its_job_and_its_content(tmp_path: Path) -> None:
    leave_spool(tmp_path, 2)
    async with opened(tmp_path, keep_subjects=True) as spool:
        assert sql(tmp_path, "PRAGMA user_version") == [(len(scripts()),)]
        assert {record.id: record.subject for record in await records(spool)} == dict.fromkeys(
            ("m1", "m2", "m3", "m4"), ""
        )
        assert set(await spool.due()) == {ANNA, RELAY}
        assert [row.value for row in await spool.read_learned()] == ['{"n":1}']
        (first,), (second,) = await spool.claim(ANNA, 9), await spool.claim(RELAY, 9)
        assert (list(first.due), list(second.due)) == ([CARL], [DORA])
        assert b"".join(first.submission.message.body.blocks()) == LARGE
        for claim, recipient in ((first, CARL), (second, DORA)):
            await spool.settle(claim, SpoolUpdate({recipient: DELIVERED}))
        (job,) = await spool.claim_jobs("sent-copy", ANNA, 9)
        assert job.submission is not None
        assert b"".join(job.submission.message.body.blocks()) == b"small\r\n"
        await spool.settle_job(job)
        held = await spool.claim_one("m2")
        assert held is not None
        assert held.due[CARL].why == "look"
        await spool.accept(arrival("m5"))
        assert [record.id for record in await records(spool, Query(subject="angebot"))] == ["m5"]
    assert files(tmp_path) == set()
    assert sql(tmp_path, "PRAGMA integrity_check") == [("ok",)]


async def test_mail_of_format_3_is_migrated_and_its_history_is_found_beside_the_packs(tmp_path: Path) -> None:
    leave_spool(tmp_path, 3)
    clock = StillClock()
    async with opened(tmp_path, clock, keep_subjects=True) as spool:
        assert [record.id for record in await records(spool)] == ["p1", "j1", "f1", "h1", "d1", "w2", "w1"]
        await spool.accept(arrival("n1"), arrival("n2", state=DELIVERED))
        spool.note(arrival("n3", state=DELIVERED))
        await written(spool)
        everything = ["n3", "n2", "n1", "p1", "j1", "f1", "h1", "d1", "w2", "w1"]
        assert [record.id for record in await records(spool)] == everything
        assert [record.id for record in await records(spool, Query(subject="angebot"))] == everything
        delivered = Query(status=RecipientStatus.DELIVERED, recipient=str(CARL))
        assert [record.id for record in await records(spool, delivered)] == ["n3", "n2", "p1", "j1", "f1"]
        assert [record.id for record in await records(spool, Query(upstream_id="A1B2C3D4"))] == ["p1", "f1"]
        assert [event.kind.value for event in await spool.events("f1")] == ["accepted", "attempted"]
        with pytest.raises(SpoolError):
            await spool.accept(arrival("w2"))
        with pytest.raises(SpoolError):
            await spool.accept(arrival("f1"))
        assert [claim.submission.id for claim in await spool.claim(ANNA, 9)] == ["w1", "w2", "n1"]
        assert await spool.due() == {ANNA: timedelta(hours=1)}
        (job,) = await spool.claim_jobs("sent-copy", ANNA, 9)
        await spool.settle_job(job)
        await spool.sweep(clock.now() + timedelta(days=31))
        assert [record.id for record in await records(spool)] == ["n1", "h1", "d1", "w2", "w1"]
    assert sql(tmp_path, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("number", [2, 3])
async def test_the_earlier_version_refuses_the_migrated_spool_and_takes_the_copy(tmp_path: Path, number: int) -> None:
    leave_spool(tmp_path, number)
    before = sql(tmp_path, "SELECT * FROM message")
    async with opened(tmp_path) as spool:
        await spool.accept(arrival("later"))
    place = SpoolFolder.open(tmp_path)
    try:
        with pytest.raises(SpoolTooNew, match=rf"\(format 4; .* up to format {number}\)"):
            open_database(place, scripts()[:number])
        (tmp_path / f"spool.db.format-{number}").rename(tmp_path / "spool.db")
        open_database(place, scripts()[:number]).close()
    finally:
        place.close()
    assert sql(tmp_path, "PRAGMA user_version") == [(number,)]
    assert sql(tmp_path, "SELECT * FROM message") == before


def test_the_file_alone_shows_the_format_while_the_service_runs(tmp_path: Path) -> None:
    """An earlier version of the package reads it there before it replaces this one (file format of SQLite, 1.3.8)."""
    folder_of_format_1(tmp_path)
    place = SpoolFolder.open(tmp_path)
    with closing(open_database(place, scripts())):
        assert int.from_bytes((tmp_path / "spool.db").read_bytes()[60:64], "big") == len(scripts())
    place.close()
