"""Look-ups of mail servers at a real name server."""

import asyncio
from collections.abc import Iterator

import pytest

from senderproxy.clock import SystemClock
from senderproxy.delivery.mx import look_up as module
from senderproxy.delivery.mx.hosts import DomainServers
from senderproxy.delivery.mx.look_up import CACHED, MailServerLookUp, Servers
from senderproxy.dns_client.answers import Exchanger
from senderproxy.dns_client.client import DnsClient
from senderproxy.dns_client.errors import LookupFailed
from senderproxy.mail.outcome import Deferred, Failed
from tests.senderproxy.domain_records.name_server import NameServer, name_server

RECORDS = {
    ("kunde.example", "MX"): ["20 mx2.kunde.example.", "10 MX1.kunde.example."],
    ("mx1.kunde.example", "A"): ["203.0.113.1"],
    ("mx1.kunde.example", "AAAA"): ["2001:db8::1"],
    ("mx2.kunde.example", "A"): ["203.0.113.2"],
    ("null.example", "MX"): ["0 ."],
    ("bare.example", "A"): ["203.0.113.3"],
    ("alias.example", "CNAME"): ["kunde.example."],
    ("points.example", "MX"): ["10 www.points.example."],
    ("www.points.example", "CNAME"): ["mx2.kunde.example."],
    ("empty.example", "TXT"): ["nothing"],
    ("half.example", "MX"): ["10 broken.example.", "20 mx2.kunde.example."],
    ("broken.example", "A"): ["203.0.113.9"],
    ("gone.example", "MX"): ["10 nowhere.example."],
}


class SteppedClock(SystemClock):
    """A clock that a test moves."""

    def __init__(self) -> None:
        super().__init__()
        self.at = 1000.0

    def monotonic(self) -> float:
        return self.at


@pytest.fixture
def names() -> Iterator[NameServer]:
    with name_server(RECORDS) as server:
        server.failing.update({"away.example", "broken.example"})
        yield server


def look_up(names: NameServer, domain: str) -> Servers:
    return module.look_up(domain, names.client)[0]


def test_the_servers_of_a_domain_and_their_addresses(names: NameServer) -> None:
    found = look_up(names, "kunde.example")
    assert isinstance(found, DomainServers)
    assert found.exchangers == (Exchanger(10, "mx1.kunde.example"), Exchanger(20, "mx2.kunde.example"))
    assert found.addresses == {
        "mx1.kunde.example": ("203.0.113.1", "2001:db8::1"),
        "mx2.kunde.example": ("203.0.113.2",),
    }
    assert look_up(names, "alias.example") == found


def test_aliases_of_servers_and_domains_without_mx(names: NameServer) -> None:
    found = look_up(names, "points.example")
    assert isinstance(found, DomainServers)
    assert found.addresses == {"www.points.example": ("203.0.113.2",)}
    bare = look_up(names, "bare.example")
    assert isinstance(bare, DomainServers)
    assert bare.implicit
    assert bare.addresses == {"bare.example": ("203.0.113.3",)}
    assert look_up(names, "empty.example") == DomainServers(
        (Exchanger(0, "empty.example"),), {"empty.example": ()}, implicit=True
    )
    assert look_up(names, "gone.example") == DomainServers((Exchanger(10, "nowhere.example"),), {"nowhere.example": ()})


def test_no_domain_and_no_reply_are_told_apart(names: NameServer) -> None:
    missing, null, away = (look_up(names, name) for name in ("missing.example", "null.example", "away.example"))
    assert isinstance(missing, Failed)
    assert str(missing.reply.status) == "5.1.2"
    assert isinstance(null, Failed)
    assert null.reply.code == 556
    assert isinstance(away, Deferred)
    assert str(away.reply.status) == "4.4.3"


def test_a_server_whose_look_up_fails_is_not_taken_for_one_without_addresses(names: NameServer) -> None:
    found, seconds = module.look_up("half.example", names.client)
    assert isinstance(found, DomainServers)
    assert found.addresses == {"mx2.kunde.example": ("203.0.113.2",)}
    assert seconds == 30.0


def test_a_machine_without_name_servers_defers(names: NameServer) -> None:
    def none() -> DnsClient:
        raise LookupFailed("this machine has no name servers configured")

    found, _ = module.look_up("kunde.example", none)
    assert isinstance(found, Deferred)


async def test_one_look_up_for_all_who_wait_and_none_while_its_answer_holds(names: NameServer) -> None:
    clock = SteppedClock()
    looking = MailServerLookUp(clock, names.client)
    try:
        impatient = asyncio.create_task(looking.servers("kunde.example"))
        await asyncio.sleep(0)
        impatient.cancel()
        found = await asyncio.gather(*(looking.servers("kunde.example") for _ in range(20)))
        assert len(set(map(id, found))) == 1
        assert names.asked["kunde.example"] == 1
        clock.at += 59.0  # the TTL is a minute
        assert looking.cached("kunde.example") is found[0]
        clock.at += 1.0
        assert looking.cached("kunde.example") is None
        await looking.servers("kunde.example")
        assert names.asked["kunde.example"] == 2
    finally:
        looking.close()


async def test_a_failure_is_kept_for_a_short_time_only(names: NameServer) -> None:
    clock = SteppedClock()
    looking = MailServerLookUp(clock, names.client)
    try:
        assert isinstance(await looking.servers("away.example"), Deferred)
        asked = names.asked["away.example"]
        await looking.servers("away.example")
        assert names.asked["away.example"] == asked
        names.failing.clear()
        clock.at += 30.0
        assert isinstance(await looking.servers("away.example"), Failed)  # it does not exist
    finally:
        looking.close()


async def test_the_cache_is_bounded_and_the_domains_in_use_stay(names: NameServer) -> None:
    looking = MailServerLookUp(SteppedClock(), names.client)
    try:
        await looking.servers("null.example")
        for number in range(CACHED + 50):
            await looking.servers(f"{number}.missing.example")
            assert looking.cached("null.example") is not None
        assert len(looking._known) == CACHED
        assert not looking._running
    finally:
        looking.close()


async def test_nothing_is_looked_up_after_the_end(names: NameServer) -> None:
    looking = MailServerLookUp(SteppedClock(), names.client)
    names.is_silent = True
    waiting = asyncio.create_task(looking.servers("kunde.example"))
    await asyncio.sleep(0)
    looking.close()
    assert isinstance(await waiting, Deferred)
    assert isinstance(await looking.servers("kunde.example"), Deferred)
