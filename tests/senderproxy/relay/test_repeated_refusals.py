"""Equal refusals of one client: recorded ten times a minute, then counted."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from senderproxy.clock import SystemClock
from senderproxy.mail.reply import reply
from senderproxy.mail.submission import Client
from senderproxy.relay import repeated_refusals
from senderproxy.relay.repeated_refusals import RepeatedRefusals
from senderproxy.tracking.record import Query
from tests.fakes.arrivals import arrival
from tests.fakes.still_clock import StillClock
from tests.senderproxy.relay.office import relay_office

REFUSED = reply(550, "5.7.1", "No account here may send as anna@firma.example")
SUBMISSION = arrival("a1").submission


def logged(caplog: pytest.LogCaptureFixture, key: str) -> list[dict[str, object]]:
    return [r.__dict__["senderproxy_fields"] for r in caplog.records if r.__dict__.get("senderproxy_event") == key]


async def test_a_flood_of_equal_refusals_fills_neither_the_history_nor_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with relay_office(tmp_path) as office:

        async def refused(count: int) -> None:
            for _ in range(count):
                _, answer = await office.submit(by="nobody@elsewhere.example")
                assert answer.code == 550

        async def stored(count: int) -> None:
            async def is_stored() -> bool:
                return len(await office.spool.find(Query(), limit=100)) == count

            await office.until(is_stored, f"{count} histories")

        await refused(40)
        await stored(10)
        assert len(logged(caplog, "message_refused")) == 10
        assert logged(caplog, "refusals_repeated") == []
        await office.pass_time(seconds=61)
        await refused(1)
        await stored(11)
        [counted] = logged(caplog, "refusals_repeated")
        assert (counted["client"], counted["count"]) == ("192.168.1.20", 30)
        await office.submit(by="another@elsewhere.example")  # another refusal
        await stored(12)


async def test_the_addresses_of_one_ipv6_network_are_one_client() -> None:
    refusals = RepeatedRefusals(StillClock())
    repeated = [
        refusals.is_repeated(replace(SUBMISSION, client=Client(f"2001:db8::{number:x}", "pc", "ESMTP")), REFUSED)
        for number in range(12)
    ]
    assert repeated == [False] * 10 + [True] * 2
    assert len(refusals) == 1


async def test_only_equal_refusals_are_counted_together() -> None:
    refusals = RepeatedRefusals(StillClock())
    other = replace(SUBMISSION, client=Client("192.0.2.8", "pc", "ESMTP"))
    for _ in range(10):
        for submission in (SUBMISSION, other):
            assert not refusals.is_repeated(submission, REFUSED)
        assert not refusals.is_repeated(SUBMISSION, reply(550, "5.7.1", "Another reason"))
    assert refusals.is_repeated(SUBMISSION, REFUSED)


async def test_the_count_is_logged_at_the_end_of_the_minute_although_no_refusal_follows(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(repeated_refusals, "_RECORDED", 0)
    monkeypatch.setattr(repeated_refusals, "_PERIOD", 0.05)
    refusals = RepeatedRefusals(SystemClock())
    assert refusals.is_repeated(SUBMISSION, REFUSED)
    async with asyncio.timeout(20):
        while not logged(caplog, "refusals_repeated"):
            await asyncio.sleep(0.005)
    assert len(refusals) == 0


async def test_the_kinds_of_refusals_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    refusals = RepeatedRefusals(StillClock())
    for _ in range(12):
        refusals.is_repeated(SUBMISSION, REFUSED)
    for number in range(3000):
        assert not refusals.is_repeated(SUBMISSION, reply(550, "5.7.1", f"Reason {number}"))
    assert len(refusals) == 1000
    assert [fields["count"] for fields in logged(caplog, "refusals_repeated")] == [2]
