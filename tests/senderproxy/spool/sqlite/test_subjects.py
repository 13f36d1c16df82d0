"""Subjects in the history: kept with the setting alone, found by their words, deleted with the history."""

import time
from datetime import timedelta
from pathlib import Path

import pytest

from senderproxy.relay.ports import SpoolUpdate
from senderproxy.spool.sqlite.limits import SpoolLimits
from senderproxy.spool.sqlite.store import SqliteSpool
from senderproxy.tracking.record import Query, RecipientState, RecipientStatus
from tests.fakes.arrivals import DELIVERED, arrival
from tests.fakes.still_clock import StillClock
from tests.senderproxy.spool.sqlite.open_spool import HISTORY, ids, opened, records, sql, written

ENCODED = b"=?utf-8?q?B=C3=BCro=C3=B6ffnung_Stra=C3=9Fe?= =?iso-8859-1?q?_in_K=F6ln?="


def header(subject: bytes) -> bytes:
    return b"From: anna@firma.example\r\nSubject: %s\r\n\r\n" % subject


async def keep(spool: SqliteSpool, ident: str, subject: bytes, *, queued: bool = False) -> None:
    """A message with this subject, delivered at once or queued."""
    if queued:
        await spool.accept(arrival(ident, header=header(subject)))
    else:
        spool.note(arrival(ident, header=header(subject), state=DELIVERED))
        await written(spool)


async def found(spool: SqliteSpool, text: str) -> list[str]:
    return sorted(record.id for record in await records(spool, Query(subject=text)))


async def test_a_message_is_found_by_words_of_its_subject_in_any_order_and_case(tmp_path: Path) -> None:
    async with opened(tmp_path, keep_subjects=True) as spool:
        await keep(spool, "m1", b"Re: Angebot 4711 (Lager)", queued=True)
        await keep(spool, "m2", b"Angebot 4712")
        await keep(spool, "m3", ENCODED)
        await keep(spool, "m4", b"no words of those")
        assert await found(spool, "angebot") == ["m1", "m2"]
        assert await found(spool, "LAGER angebot") == ["m1"]
        assert await found(spool, "Angebot, 4712!") == ["m2"]
        assert await found(spool, "ange") == ["m1", "m2"]  # the beginning of a word
        assert await found(spool, "r") == []  # too short for that
        assert await found(spool, "re") == ["m1"]
        assert await found(spool, "b\u00fcro\u00f6ffnung STRASSE k\u00f6ln") == ["m3"]
        assert await found(spool, "?!") == await found(spool, "") == await found(spool, "gebot") == []
        (record,) = await records(spool, Query(subject="K\u00f6ln", sender="anna@firma.example"))
        assert record.subject == "B\u00fcro\u00f6ffnung Stra\u00dfe in K\u00f6ln"
        assert await records(spool, Query(subject="K\u00f6ln", sender="bert@firma.example")) == []


async def test_code_points_of_the_same_letters_are_the_same_word(tmp_path: Path) -> None:
    subjects = ["Caf\u00e9", "Cafe\u0301", "\u0130stanbul", "istanbul", "\uff32\uff45\uff1a \ufb01rma"]
    async with opened(tmp_path, keep_subjects=True) as spool:
        for number, subject in enumerate(subjects):
            await keep(spool, f"m{number}", subject.encode(), queued=True)
        assert await found(spool, subjects[0]) == await found(spool, subjects[1]) == ["m0", "m1"]
        assert await found(spool, subjects[2]) == await found(spool, subjects[3]) == ["m2", "m3"]
        assert await found(spool, "re firma") == ["m4"]


async def test_a_long_search_takes_little_time(tmp_path: Path) -> None:
    async with opened(tmp_path, keep_subjects=True) as spool:
        await keep(spool, "m1", b"Angebot 4711", queued=True)
        began = time.process_time()  # on a busy machine the time of day is that of others
        for text in ("a" * 1_000_000, "ange " * 100_000, "a" + "\u0316\u0301" * 500_000, "%", "\0", "\ud800 angebot"):
            assert await found(spool, text) == (["m1"] if "ange" in text else [])
        assert time.process_time() - began < 5


async def test_without_the_setting_no_subject_is_stored_and_a_change_counts_from_then_on(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        await keep(spool, "m1", b"Angebot", queued=True)
        await keep(spool, "m2", b"Angebot")
        spool.apply_limits(SpoolLimits(HISTORY, keep_subjects=True))
        await keep(spool, "m3", b"Angebot", queued=True)
        await keep(spool, "m4", b"Angebot")
        spool.apply_limits(SpoolLimits(HISTORY))
        await keep(spool, "m5", b"Angebot")
        assert await found(spool, "Angebot") == ["m3", "m4"]
        assert {record.id: record.subject for record in await records(spool)}["m1"] == ""
    assert sql(tmp_path, "SELECT count(*) FROM subject") == [(2,)]
    assert sql(tmp_path, "SELECT count(*) FROM subject_word") == [(2,)]


async def test_a_report_and_its_message_have_their_own_subjects(tmp_path: Path) -> None:
    async with opened(tmp_path, keep_subjects=True) as spool:
        await keep(spool, "m1", b"Angebot", queued=True)
        claim = await spool.claim_one("m1")
        assert claim is not None
        failed = RecipientState(RecipientStatus.FAILED)
        report = arrival("r1", header=header(b"Nicht zugestellt: Angebot"), report_on="m1", reverse_path=None)
        await spool.settle(claim, SpoolUpdate(dict.fromkeys(claim.due, failed), reports=(report,)))
        assert await found(spool, "angebot") == ["m1", "r1"]
        assert await found(spool, "zugestellt") == ["r1"]


async def test_a_damaged_subject_is_shown_as_far_as_it_can_be_read(tmp_path: Path) -> None:
    async with opened(tmp_path, keep_subjects=True) as spool:
        await keep(spool, "m1", b"Angebot", queued=True)
    sql(tmp_path, "UPDATE subject SET text = CAST(X'416e67ff1b5b33316d' AS TEXT)")
    async with opened(tmp_path, keep_subjects=True) as spool:
        (record,) = await records(spool, Query(subject="Angebot"))
        assert record.subject == "Ang\ufffd\\x1b[31m"


async def test_a_subject_is_deleted_with_its_history(tmp_path: Path) -> None:
    clock = StillClock()
    async with opened(tmp_path, clock, keep_subjects=True) as spool:
        await keep(spool, "m1", b"Angebot 4711")
        clock.pass_by(HISTORY + timedelta(hours=1))
        await spool.sweep(clock.now())
        assert await ids(spool) == []
    for table in ("subject", "subject_word"):
        assert sql(tmp_path, f"SELECT count(*) FROM {table}") == [(0,)]


@pytest.mark.parametrize(
    "subject",
    [
        b"",
        b" ",
        b"\xff\xfe\x00\x80",
        b"=?utf-8?b?////?= =?utf-16?b?2AA=?= =?utf-8?q?=ED=A0=80?=",
        b"=?x-unknown?q?abc?= =?utf-8?b?",
        b"a" * 100_000,
        b"a " * 50_000,
        b"=?utf-8?q?" + b"=C3=BC" * 20_000 + b"?=",
        b"\x1b[31mred \xe2\x80\xaegnp.exe <script>alert(1)</script>",
        b"'; DROP TABLE subject; --",
        b"%s %n {0} _ * \\",
        "\u4f60\u597d \u0130stanbul \U0001f4a9".encode(),
    ],
)
async def test_a_hostile_subject_is_stored_bounded_and_harmless(tmp_path: Path, subject: bytes) -> None:
    async with opened(tmp_path, keep_subjects=True) as spool:
        began = time.process_time()
        await keep(spool, "m1", subject, queued=True)
        assert time.process_time() - began < 5
        (record,) = await records(spool)
        assert len(record.subject) <= 200
        assert record.subject.isprintable()
        words = sql(tmp_path, "SELECT word FROM subject_word")
        assert len(words) <= 30
        for (word,) in words:
            assert await found(spool, str(word)) == ["m1"]
