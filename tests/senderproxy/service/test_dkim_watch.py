"""Which DKIM keys sign, by looks at their records with a clock of the test's own."""

import asyncio
import logging
from datetime import timedelta
from typing import Any, cast

import pytest

from senderproxy.dkim.choice import KeyRing
from senderproxy.dkim.key import SigningKey
from senderproxy.dns_client.errors import LookupFailed
from senderproxy.domain_records.own_key import record_text
from senderproxy.learned import Instant
from senderproxy.service.dkim_watch import KEYS, DkimWatch
from tests.fakes.still_clock import StillClock
from tests.senderproxy.dkim.signing import DOMAIN, signing_key

MINUTE, HOUR, DAY = timedelta(minutes=1.2), timedelta(hours=1.2), timedelta(days=1.2)


class Dns:
    """The keys that are published, by the names of their records."""

    def __init__(self) -> None:
        self.published: dict[str, SigningKey] = {}
        self.fault: Exception | None = None
        self.asked: list[str] = []

    def records(self, name: str, kind: str) -> list[str]:
        if self.fault is not None:
            raise self.fault
        if not name.endswith(f"{DOMAIN}.{DOMAIN}"):
            self.asked.append(name)
        key = self.published.get(name)
        return [record_text(key.public)] if key is not None and kind == "TXT" else []


class Watched:
    """A watch, its clock, its records, and the keys in force."""

    def __init__(self) -> None:
        self.clock, self.dns = StillClock(), Dns()
        self.ring: KeyRing | None = None
        self.notes: list[str] = []
        self.watch = self.again()

    def again(self) -> DkimWatch:
        watch = DkimWatch(self.clock, lambda: cast("Any", self.dns), self._use)
        watch.changed = self.notes.append
        return watch

    def _use(self, ring: KeyRing | None) -> None:
        self.ring = ring

    def signs(self) -> str | None:
        return self.ring.signing[DOMAIN].selector if self.ring is not None and DOMAIN in self.ring.signing else None

    async def tick(self, passed: timedelta = timedelta(0)) -> None:
        self.clock.pass_by(passed)
        for _ in range(100):
            self.watch.tick()
            if self.watch._look is None:
                return
            async with asyncio.timeout(60):
                while self.watch._look is not None:
                    await asyncio.sleep(0.001)
        raise AssertionError("it looks for ever")


async def test_a_new_key_is_looked_at_at_once_and_signs_as_soon_as_the_dns_has_it() -> None:
    watched, key = Watched(), signing_key("sp1")
    watched.watch.watch([key])
    assert watched.ring is None
    await watched.tick()
    assert (watched.dns.asked, watched.signs()) == ([key.name], None)
    await watched.tick()
    assert len(watched.dns.asked) == 1
    watched.dns.published = {key.name: key}
    await watched.tick(MINUTE)
    assert watched.signs() == "sp1"
    assert watched.notes[-1] == key.name
    await watched.tick(timedelta(hours=20))
    assert len(watched.dns.asked) == 2
    await watched.tick(timedelta(hours=8))
    assert len(watched.dns.asked) == 3
    watched.watch.stop()


async def test_a_changed_record_is_a_trouble_and_the_key_goes_on_signing() -> None:
    watched, key = Watched(), signing_key("sp1")
    watched.dns.published = {key.name: key}
    watched.watch.watch([key])
    await watched.tick()
    watched.dns.published = {key.name: signing_key("sp2")}
    await watched.tick(DAY)
    assert list(watched.watch.facts()) == []
    changes = watched.watch.changes
    await watched.tick(HOUR)
    [fact] = watched.watch.facts()
    assert (fact.selector, fact.signs, fact.look.problem.value) == ("sp1", True, "other_key")
    assert watched.signs() == "sp1"
    assert watched.watch.changes > changes
    watched.dns.published = {key.name: key}
    await watched.tick(HOUR)
    assert list(watched.watch.facts()) == []
    watched.watch.stop()


async def test_a_rotation_changes_keys_when_the_dns_has_the_new_one() -> None:
    watched, old, new = Watched(), signing_key("sp1"), signing_key("sp2")
    watched.dns.published = {old.name: old}
    watched.watch.watch([old])
    await watched.tick()
    watched.watch.watch([old, new])
    await watched.tick()
    assert watched.signs() == "sp1"
    watched.dns.published[new.name] = new
    await watched.tick(MINUTE)
    assert watched.signs() == "sp2"
    assert watched.ring is not None
    assert [key.selector for key in watched.ring.known[DOMAIN]] == ["sp1", "sp2"]
    del watched.dns.published[new.name]
    await watched.tick(DAY)
    await watched.tick(HOUR)
    assert watched.signs() == "sp1"  # the one that receivers can verify
    watched.watch.watch([new])
    assert watched.signs() == "sp2"
    watched.watch.watch([])
    assert watched.signs() is None
    assert watched.notes[-1] == new.name
    watched.watch.stop()


async def test_a_key_signs_after_a_restart_without_a_look() -> None:
    watched, key = Watched(), signing_key("sp1")
    watched.dns.published = {key.name: key}
    watched.watch.watch([key])
    await watched.tick()
    at = Instant(watched.clock.now(), watched.clock.monotonic())
    fact = watched.watch.fact(key.name, at)
    assert fact is not None
    watched.watch.stop()

    watched.ring, watched.watch = None, watched.again()
    assert not watched.watch.restore(key.name, fact, at)  # the vault has no such key
    watched.watch.watch([key])
    assert watched.watch.restore(key.name, fact, at)
    assert watched.signs() == "sp1"
    await watched.tick()
    assert len(watched.dns.asked) == 1
    watched.watch.stop()

    other = SigningKey(DOMAIN, "sp1", b"another", key.sign, key.verify)
    watched.ring, watched.watch = None, watched.again()
    watched.watch.watch([other])
    assert not watched.watch.restore(key.name, fact, at)
    assert watched.ring is None
    assert watched.watch.fact(key.name, at) is None
    watched.watch.stop()


async def test_a_failed_look_changes_nothing_and_is_made_again(caplog: pytest.LogCaptureFixture) -> None:
    watched, key = Watched(), signing_key("sp1")
    watched.dns.published = {key.name: key}
    watched.watch.watch([key])
    await watched.tick()
    for fault in (LookupFailed("no reply"), RuntimeError("a fault of ours")):
        watched.dns.fault = fault
        with caplog.at_level(logging.ERROR, "senderproxy.service"):
            await watched.tick(DAY)
        assert watched.signs() == "sp1"
        assert watched.watch.states()[0]["error"] == str(fault)
    assert "internal error while DNS records of a domain are judged" in caplog.text
    watched.dns.fault = None
    await watched.tick(MINUTE)
    assert watched.watch.states()[0]["error"] == ""
    watched.watch.stop()


async def test_a_request_looks_at_the_keys_of_its_domain_now() -> None:
    watched, key, other = Watched(), signing_key("sp1"), signing_key("sp1", "laden.example")
    watched.watch.watch([key, other])
    watched.dns.published = {key.name: key}
    await watched.watch.look_now(DOMAIN)
    assert watched.dns.asked == [key.name]
    [state, _other] = watched.watch.states()
    assert (state["domain"], state["selector"], state["signs"], state["record"]) == (DOMAIN, "sp1", True, "right")
    watched.watch.stop()
    await watched.watch.look_now(DOMAIN)  # while it stops


async def test_the_keys_are_bounded() -> None:
    watched = Watched()
    watched.watch.watch([signing_key("sp1", f"firma{number}.example") for number in range(KEYS + 10)])
    assert len(watched.watch._watched) == KEYS
    watched.watch.stop()
