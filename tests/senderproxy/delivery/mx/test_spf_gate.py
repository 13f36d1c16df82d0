"""Mail of a domain leaves from here only after its SPF record was seen to name our address."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from senderproxy.delivery.mx import spf_gate as module
from senderproxy.delivery.mx.spf_gate import KEPT, SpfGate
from senderproxy.dns_client.client import DnsClient
from senderproxy.dns_client.errors import LookupFailed
from senderproxy.domain_records.spf_address import SpfResult
from tests.senderproxy.delivery.office import MovedClock
from tests.senderproxy.domain_records.name_server import NameServer, name_server

OURS = "203.0.113.7"
GOOD, WRONG = ["v=spf1 ip4:203.0.113.7 -all"], ["v=spf1 include:_spf-eu.ionos.com -all"]
RECORDS = {
    ("firma.example", "TXT"): GOOD,
    ("falsch.example", "TXT"): WRONG,
    ("_spf-eu.ionos.com", "TXT"): ["v=spf1 ip4:198.51.100.0/24 -all"],
    ("ohne.example", "A"): ["203.0.113.7"],
}


@asynccontextmanager
async def gate_at(addresses: tuple[str, ...] = (OURS,)) -> AsyncIterator[tuple[SpfGate, NameServer, MovedClock]]:
    clock = MovedClock()
    with name_server(dict(RECORDS)) as names:
        gate = SpfGate(clock, addresses, names.client)
        try:
            yield gate, names, clock
        finally:
            gate.close()


async def test_a_record_that_names_us_lets_mail_pass_and_is_looked_up_once_an_hour() -> None:
    async with gate_at() as (gate, names, clock):
        assert await asyncio.gather(*(gate.refusal("firma.example") for _ in range(10))) == [None] * 10
        assert names.asked["firma.example"] == 1
        clock.ahead += 3599
        assert await gate.refusal("firma.example") is None
        assert names.asked["firma.example"] == 1
        clock.ahead += 2
        assert await gate.refusal("firma.example") is None
        assert names.asked["firma.example"] == 2
        assert not gate.stopped()


@pytest.mark.parametrize("domain", ["falsch.example", "ohne.example", "fehlt.example"])
async def test_a_record_that_does_not_name_us_stops_the_domain(domain: str) -> None:
    async with gate_at() as (gate, _, _clock):
        refusal = await gate.refusal(domain)
        assert refusal is not None
        assert refusal.code == 451
        assert domain in refusal.text
        assert OURS in refusal.text
        assert list(gate.stopped()) == [domain]


async def test_a_changed_record_stops_the_domain_and_a_repaired_one_frees_it() -> None:
    async with gate_at() as (gate, names, clock):
        assert await gate.refusal("firma.example") is None
        names.records[("firma.example", "TXT")] = WRONG  # type: ignore[index]
        clock.ahead += 3601
        assert await gate.refusal("firma.example") is not None
        names.records[("firma.example", "TXT")] = GOOD  # type: ignore[index]
        clock.ahead += 301
        assert await gate.refusal("firma.example") is None


async def test_nothing_passes_before_the_first_answer_and_a_later_failure_stops_nothing() -> None:
    async with gate_at() as (gate, names, clock):
        names.failing.add("firma.example")
        refusal = await gate.refusal("firma.example")
        assert refusal is not None
        assert "could not be evaluated yet" in refusal.text
        names.failing.clear()
        clock.ahead += 61
        assert await gate.refusal("firma.example") is None
        names.failing.add("firma.example")
        clock.ahead += KEPT - 10
        assert await gate.refusal("firma.example") is None
        clock.ahead += 20
        assert await gate.refusal("firma.example") is not None


async def test_a_machine_without_name_servers_stops_everything() -> None:
    def none() -> DnsClient:
        raise LookupFailed("this machine has no name servers configured")

    gate = SpfGate(MovedClock(), (OURS,), none)
    try:
        refusal = await gate.refusal("firma.example")
        assert refusal is not None
        assert "no name servers" in refusal.text
        assert (await gate.verdict("firma.example")).result is SpfResult.UNKNOWN
    finally:
        gate.close()
    late = await gate.refusal("other.example")
    assert late is not None


async def test_other_addresses_are_judged_anew() -> None:
    async with gate_at() as (gate, names, _):
        assert await gate.refusal("firma.example") is None
        gate.configure((OURS,))
        assert await gate.refusal("firma.example") is None
        assert names.asked["firma.example"] == 1
        gate.configure(("203.0.113.8",))
        assert await gate.refusal("firma.example") is not None


async def test_domains_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DOMAINS", 20)
    async with gate_at() as (gate, _, _clock):
        for number in range(50):
            await gate.refusal(f"{number}.example")
        assert len(gate._known) == 20
        assert not gate._running


async def test_without_a_public_address_nothing_passes() -> None:
    async with gate_at(()) as (gate, names, _):
        refusal = await gate.refusal("firma.example")
        assert refusal is not None
        assert "[mx] public_address" in refusal.text
        assert not names.asked


async def test_a_stopped_domain_is_looked_at_again_without_mail() -> None:
    async with gate_at() as (gate, names, clock):
        assert await gate.refusal("falsch.example") is not None
        gate.tick()
        assert not gate._again
        names.records[("falsch.example", "TXT")] = GOOD  # type: ignore[index]
        clock.ahead += 301
        changes = gate.changes
        gate.tick()
        gate.tick()
        assert len(gate._again) == 1
        await asyncio.gather(*gate._again)
        assert not gate.stopped()
        assert gate.changes > changes


async def test_addresses_that_change_during_a_look_up_decide() -> None:
    async with gate_at(("203.0.113.8",)) as (gate, _, _clock):
        looking = asyncio.create_task(gate.refusal("firma.example"))
        await asyncio.sleep(0)
        gate.configure((OURS,))
        assert await looking is None
