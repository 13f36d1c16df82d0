"""The looks of the running service at the records of its domains, with a clock of the test's own."""

import asyncio
import logging
import threading
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

import pytest

from senderproxy.dns_client.errors import LookupFailed
from senderproxy.domain_records.judgement import RecordProblem
from senderproxy.domain_records.provider_records import PROVIDER_RECORDS
from senderproxy.learned import Instant
from senderproxy.service.domain_watch import DOMAINS, FIRST_WITHIN, DomainWatch
from tests.fakes.still_clock import StillClock
from tests.senderproxy.domain_records.keys import KEY

IONOS = PROVIDER_RECORDS["ionos-de"]
DAY, HOUR = timedelta(days=1.2), timedelta(hours=1.2)  # with the spread


@dataclass
class Dns:
    """Records in memory: a domain is right if it is in `right`."""

    right: set[str]
    fault: Exception | None = None
    asked: list[str] = field(default_factory=list)
    gate: threading.Event | None = None

    def records(self, name: str, kind: str) -> list[str]:
        if self.gate is not None:
            self.gate.wait(60)
        if self.fault is not None:
            raise self.fault
        if kind == "MX":
            return ["mx.example"]
        if name == "_spf-eu.ionos.com":
            return ["v=spf1 ip4:192.0.2.1 -all"]
        if "_domainkey" in name:
            return [f"v=DKIM1; p={KEY}"]
        if name.startswith("_dmarc."):
            return ["v=DMARC1; p=none"]
        if kind == "TXT":
            self.asked.append(name)
            return ["v=spf1 include:_spf-eu.ionos.com -all"] if name in self.right else []
        return []


class Watched:
    """A watch, its clock and its records."""

    def __init__(self, *domains: str) -> None:
        self.clock = StillClock()
        self.dns = Dns(set(domains))
        self.domains = domains
        self.notes: list[str] = []
        self.watch = self.again()

    def again(self) -> DomainWatch:
        watch = DomainWatch(self.clock, lambda: cast("Any", self.dns))
        watch.changed = self.notes.append
        return watch

    def begin(self) -> None:
        self.watch.watch({(domain, "ionos"): IONOS for domain in self.domains})

    async def tick(self, passed: timedelta = timedelta(0)) -> None:
        """Let time pass, then look at all that is due."""
        self.clock.pass_by(passed)
        for _ in range(2 * DOMAINS):
            before = len(self.dns.asked)
            self.watch.tick()
            if not self.is_looking():
                return
            async with asyncio.timeout(60):
                while self.is_looking():
                    await asyncio.sleep(0.001)
            assert self.dns.fault is not None or len(self.dns.asked) == before + 1
        raise AssertionError("it looks for ever")

    def is_looking(self) -> bool:
        return self.watch._look is not None

    def troubles(self) -> list[tuple[str, RecordProblem]]:
        return [(one.domain, one.trouble.judgement.problem) for one in self.watch.facts()]


async def test_domains_are_looked_at_soon_after_the_start_and_daily_then() -> None:
    watched = Watched("a.example", "b.example")
    watched.begin()
    await watched.tick()
    assert watched.dns.asked == []
    await watched.tick(timedelta(seconds=FIRST_WITHIN + 60))
    assert sorted(watched.dns.asked) == ["a.example", "b.example"]
    assert sorted(watched.notes) == ["a.example", "b.example"]
    await watched.tick(timedelta(hours=20))
    assert len(watched.dns.asked) == 2
    await watched.tick(timedelta(hours=7))
    assert len(watched.dns.asked) == 4
    assert watched.troubles() == []
    watched.watch.stop()


async def test_a_changed_record_is_a_trouble_after_two_looks_and_none_when_it_is_repaired() -> None:
    watched = Watched("a.example", "b.example")
    watched.begin()
    await watched.tick(timedelta(seconds=FIRST_WITHIN + 60))
    watched.dns.right = {"b.example"}
    await watched.tick(DAY)
    assert watched.troubles() == []
    changes = watched.watch.changes
    await watched.tick(HOUR)
    assert watched.troubles() == [("a.example", RecordProblem.SPF_NONE)]
    assert watched.watch.changes > changes
    assert watched.dns.asked.count("b.example") == 2
    watched.dns.right = {"a.example", "b.example"}
    await watched.tick(HOUR)
    assert watched.troubles() == []
    watched.watch.stop()


@pytest.mark.parametrize("fault", [LookupFailed("no reply"), ZeroDivisionError()])
async def test_a_silent_name_server_or_an_internal_error_is_no_trouble_and_is_tried_again(
    fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "senderproxy.service")
    watched = Watched("a.example")
    watched.begin()
    watched.dns.fault = fault
    await watched.tick(timedelta(seconds=FIRST_WITHIN + 60))
    for _ in range(3):
        await watched.tick(HOUR)
    assert watched.troubles() == []
    events = {record.__dict__["senderproxy_event"] for record in caplog.records}
    assert events == (set() if isinstance(fault, LookupFailed) else {"domain_look_failed"})
    watched.dns.fault = None
    await watched.tick(HOUR)
    assert watched.dns.asked == ["a.example"]
    watched.watch.stop()


async def test_a_restart_looks_at_nothing_again_and_forgets_nothing() -> None:
    watched = Watched("a.example", "b.example")
    watched.begin()
    await watched.tick(timedelta(seconds=FIRST_WITHIN + 60))
    watched.dns.right = set()
    await watched.tick(DAY)
    await watched.tick(HOUR)
    before = watched.watch.facts()
    assert len(before) == 2
    instant = Instant(watched.clock.now(), watched.clock.monotonic())
    facts = {name: watched.watch.fact(name, instant) for name in watched.domains}
    asked = len(watched.dns.asked)

    watched.watch.stop()
    watched.clock.pass_by(timedelta(minutes=5))
    watched.watch = watched.again()
    for name, fact in facts.items():
        assert fact is not None
        assert watched.watch.restore(name, fact, instant)
    watched.begin()
    assert watched.watch.facts() == before
    await watched.tick(timedelta(minutes=2))
    assert len(watched.dns.asked) == asked
    await watched.tick(HOUR)
    assert len(watched.dns.asked) == asked + 2
    watched.watch.stop()


async def test_facts_that_come_after_the_first_look_up_of_accounts_are_used() -> None:
    """As when the spool opens late."""
    watched = Watched("a.example")
    watched.begin()
    await watched.tick(timedelta(seconds=FIRST_WITHIN + 60))
    instant = Instant(watched.clock.now(), watched.clock.monotonic())
    fact = watched.watch.fact("a.example", instant)
    assert fact is not None
    late = Watched("a.example")
    late.begin()
    assert late.watch.restore("a.example", fact, Instant(late.clock.now(), late.clock.monotonic()))
    assert not late.watch.restore("other.example", fact, instant)
    await late.tick(timedelta(hours=2))
    assert late.dns.asked == []
    watched.watch.stop()
    late.watch.stop()


async def test_a_domain_that_is_no_longer_watched_is_forgotten() -> None:
    watched = Watched("a.example", "b.example")
    watched.begin()
    await watched.tick(timedelta(seconds=FIRST_WITHIN + 60))
    watched.notes.clear()
    watched.domains = ("b.example",)
    watched.begin()
    assert watched.notes == ["a.example"]
    instant = Instant(watched.clock.now(), watched.clock.monotonic())
    assert watched.watch.fact("a.example", instant) is None
    assert watched.watch.fact("b.example", instant) is not None
    watched.watch.watch({})
    await watched.tick(DAY)
    assert len(watched.dns.asked) == 2
    watched.watch.stop()


async def test_domains_are_bounded_and_only_one_is_looked_at_at_a_time() -> None:
    watched = Watched(*(f"d{number}.example" for number in range(DOMAINS + 50)))
    watched.dns.gate = threading.Event()
    watched.begin()
    watched.clock.pass_by(timedelta(seconds=FIRST_WITHIN + 60))
    for _ in range(5):
        watched.watch.tick()
    assert watched.watch._threads._unfinished == 1
    watched.dns.gate.set()
    await watched.tick()
    assert len(watched.dns.asked) <= DOMAINS
    assert len(watched.watch._watched) == DOMAINS
    for number in range(DOMAINS + 50):
        watched.watch.restore(
            f"x{number}.example", {"looked": 1, "unsure": False, "records": {}}, Instant(watched.clock.now(), 0.0)
        )
    assert len(watched.watch._restored) == 0
    empty = watched.again()
    for number in range(DOMAINS + 50):
        empty.restore(
            f"x{number}.example", {"looked": 1, "unsure": False, "records": {}}, Instant(watched.clock.now(), 0.0)
        )
    assert len(empty._restored) == DOMAINS
    watched.watch.stop()


async def test_a_stop_does_not_wait_for_a_look() -> None:
    watched = Watched("a.example")
    watched.dns.gate = threading.Event()
    watched.begin()
    watched.clock.pass_by(timedelta(seconds=FIRST_WITHIN + 60))
    watched.watch.tick()
    assert watched.watch._look is not None
    watched.watch.stop()
    await asyncio.sleep(0)
    watched.watch.tick()
    watched.dns.gate.set()
