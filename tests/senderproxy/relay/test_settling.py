"""Results of attempts that the spool does not take at once."""

import asyncio
from datetime import timedelta

import pytest

from senderproxy.relay.clock_watch import ClockWatch
from senderproxy.relay.dispatch import AccountQueues
from senderproxy.relay.ports import Claim, SpoolError, SpoolFull, SpoolUpdate
from senderproxy.relay.settling import ResultWriter
from tests.fakes.arrivals import DELIVERED, arrival
from tests.fakes.memory_spool import MemorySpool
from tests.fakes.still_clock import START, StillClock


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


class Results:
    """A ResultWriter with its spool and clock."""

    def __init__(self) -> None:
        self.clock = StillClock()
        self.clock.pass_by(timedelta(hours=1))  # since the machine's start
        self.spool = CountingSpool(self.clock)
        self.resumed = 0
        watch = ClockWatch(self.clock, lambda: self.spool, AccountQueues(), asyncio.create_task, lambda: None)
        self.writer = ResultWriter(lambda: self.spool, self.clock, watch, lambda *_: None, self._resume)

    def _resume(self) -> None:
        self.resumed += 1

    async def claim(self, ident: str) -> Claim:
        await self.spool.accept(arrival(ident))
        claim = await self.spool.claim("anna", START)
        assert claim is not None
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
