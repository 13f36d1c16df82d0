"""Results of attempts that the spool does not take at once."""

import asyncio
from datetime import timedelta

import pytest

from senderproxy.relay.ports import Claim, SpoolError, SpoolFull, SpoolRejected, SpoolUpdate
from senderproxy.relay.settling import ResultWriter
from senderproxy.tracking.record import EventKind, Lane, Query, RecipientStatus
from tests.fakes.arrivals import DELIVERED, arrival
from tests.fakes.memory_spool import MemorySpool
from tests.fakes.still_clock import StillClock


class CountingSpool(MemorySpool):
    """A spool that counts the results that it does not take."""

    refused = 0

    async def settle(self, claim: Claim, update: SpoolUpdate) -> None:
        try:
            await super().settle(claim, update)
        except SpoolError:
            self.refused += 1
            raise

    async def refuse(self, more: int) -> None:
        """Wait until so many more results were refused."""
        until = self.refused + more
        async with asyncio.timeout(20):
            while self.refused < until:
                await asyncio.sleep(0.001)


class RefusingSpool(CountingSpool):
    """A spool that refuses the results of some messages, and of others even that they are held."""

    def __init__(self, clock: StillClock) -> None:
        super().__init__(clock)
        self.refuses: set[str] = set()
        self.refuses_all: set[str] = set()

    async def settle(self, claim: Claim, update: SpoolUpdate) -> None:
        ident = claim.submission.id
        holds = any(state.status is RecipientStatus.HELD for state in update.states.values())
        if ident in self.refuses_all or (ident in self.refuses and not holds):
            self.refused += 1
            raise SpoolRejected("UNIQUE constraint failed")
        await super().settle(claim, update)


class Results:
    """A ResultWriter with its spool and clock."""

    def __init__(self) -> None:
        self.clock = StillClock()
        self.clock.pass_by(timedelta(hours=1))  # since the machine's start
        self.spool = RefusingSpool(self.clock)
        self.resumed = 0
        self.writer = ResultWriter(lambda: self.spool, self.clock, lambda *_: None, self._resume)

    def _resume(self) -> None:
        self.resumed += 1

    async def claim(self, ident: str) -> Claim:
        await self.spool.accept(arrival(ident))
        (claim,) = await self.spool.claim(Lane.of_account("anna"), 1)
        return claim


def logged(caplog: pytest.LogCaptureFixture, key: str) -> list[dict[str, object]]:
    return [
        record.__dict__["senderproxy_fields"]
        for record in caplog.records
        if record.__dict__["senderproxy_event"] == key
    ]


async def test_a_full_spool_is_logged_once_for_each_message_and_once_a_minute_for_all(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("senderproxy.relay.settling._RETRY", 0.001)
    results = Results()
    claims = [await results.claim(f"m{number}") for number in range(3)]
    results.spool.full = SpoolFull("There is no room.")
    update = SpoolUpdate(dict.fromkeys(claims[0].due, DELIVERED))
    writing = [asyncio.create_task(results.writer.write(claim, update)) for claim in claims]

    def for_all() -> int:
        return sum("messages" in fields for fields in logged(caplog, "spool_write_failed"))

    await results.spool.refuse(30)
    assert for_all() == 1
    results.clock.pass_by(timedelta(seconds=59.9))
    await results.spool.refuse(30)
    assert for_all() == 1
    results.clock.pass_by(timedelta(seconds=0.2))
    await results.spool.refuse(30)
    assert for_all() == 2
    assert sorted(str(f["id"]) for f in logged(caplog, "spool_write_failed") if "id" in f) == ["m0", "m1", "m2"]
    assert (results.writer.is_blocked, results.resumed) == (True, 0)
    results.spool.full = None
    await asyncio.gather(*writing)
    assert (results.writer.is_blocked, results.resumed) == (False, 1)


async def test_a_result_that_is_refused_for_ever_holds_its_message_and_stops_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("senderproxy.relay.settling._RETRY", 0.001)
    results = Results()
    claim, other = await results.claim("m1"), await results.claim("m2")
    results.spool.refuses = {"m1"}
    async with asyncio.timeout(20):
        await results.writer.write(claim, SpoolUpdate(dict.fromkeys(claim.due, DELIVERED)))
    assert results.spool.refused == 3
    assert (results.writer.is_blocked, results.resumed) == (False, 1)
    [record] = await results.spool.find(Query(status=RecipientStatus.HELD), limit=9)
    [state] = record.recipients.values()
    assert (record.id, record.leased) == ("m1", False)
    assert state.why == (
        "the spool refuses the result of the last attempt (UNIQUE constraint failed): carl@elsewhere.example delivered"
    )
    assert [event.facts["why"] for event in await results.spool.events("m1") if event.kind is EventKind.HELD] == [
        state.why
    ]
    assert [fields["id"] for fields in logged(caplog, "result_refused")] == ["m1"]
    await results.writer.write(other, SpoolUpdate(dict.fromkeys(other.due, DELIVERED)))
    assert [r.id for r in await results.spool.find(Query(status=RecipientStatus.DELIVERED), limit=9)] == ["m2"]


async def test_of_messages_that_cannot_even_be_held_three_are_left_alone_and_the_next_one_stops_the_queue(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("senderproxy.relay.settling._RETRY", 0.001)
    results = Results()
    claims = [await results.claim(f"m{number}") for number in range(4)]
    results.spool.refuses_all = {claim.submission.id for claim in claims}
    update = SpoolUpdate(dict.fromkeys(claims[0].due, DELIVERED))
    async with asyncio.timeout(20):
        for claim in claims[:3]:
            await results.writer.write(claim, update)
    assert (results.writer.is_blocked, results.resumed) == (False, 3)
    assert [fields["id"] for fields in logged(caplog, "result_abandoned")] == ["m0", "m1", "m2"]
    last = asyncio.create_task(results.writer.write(claims[3], update))
    await results.spool.refuse(20)
    assert (results.writer.is_blocked, last.done()) == (True, False)
    results.spool.refuses_all.clear()
    async with asyncio.timeout(20):
        await last
    assert (results.writer.is_blocked, results.resumed) == (False, 4)


async def test_trouble_of_the_disk_is_never_taken_for_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("senderproxy.relay.settling._RETRY", 0.001)
    results = Results()
    claim = await results.claim("m1")
    results.spool.full = SpoolFull("There is no room.")
    writing = asyncio.create_task(results.writer.write(claim, SpoolUpdate(dict.fromkeys(claim.due, DELIVERED))))
    await results.spool.refuse(20)
    assert results.writer.is_blocked
    results.spool.full = None
    await writing
    assert [r.id for r in await results.spool.find(Query(status=RecipientStatus.DELIVERED), limit=9)] == ["m1"]
