"""Look-ups are shared, bounded, and replaced by the last good addresses while the name server is silent or fails."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from senderproxy import log_events
from senderproxy.delivery import resolver as module
from senderproxy.delivery.resolver import (
    ABANDONED,
    DEAD,
    LOOK_UPS,
    LOOK_UPS_OF_PROVIDER,
    MAX_AGE,
    RECHECK,
    REPLY_TIMEOUT,
    AddressInfo,
    Resolver,
    look_up,
)
from tests.fakes.still_clock import StillClock

TEMPORARY = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
NO_SUCH_NAME = socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@pytest.fixture(autouse=True)
def _late_threads_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that the name server has given counts, however late a busy machine lets the look-up's thread begin."""
    monkeypatch.setattr(module, "REPLY_TIMEOUT", 1000.0)


def info(address: str, port: int = 465) -> AddressInfo:
    if ":" in address:
        return (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
    return (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))


@dataclass
class NameServer:
    """A name server with an answer for each host; a host without one hangs until `release`."""

    answers: dict[str, Sequence[AddressInfo] | Exception] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def __call__(self, host: str, port: int) -> Sequence[AddressInfo]:
        self.asked.append(host)
        if host not in self.answers:
            assert self.released.wait(60)
            return [info("192.0.2.99", port)]
        answer = self.answers[host]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def until_asked(self, count: int) -> None:
        async with asyncio.timeout(30):
            while len(self.asked) < count:
                await asyncio.sleep(0.001)


@asynccontextmanager
async def resolver_of(
    server: NameServer, clock: StillClock | None = None, *, dead_seconds: float = DEAD
) -> AsyncIterator[Resolver]:
    resolver = Resolver(clock or StillClock(), server, dead_seconds=dead_seconds)
    try:
        yield resolver
    finally:
        resolver.close()
        server.released.set()


async def addresses(resolver: Resolver, host: str = "smtp.a.example", provider: str = "a") -> list[str]:
    async with asyncio.timeout(30):
        return [str(found[4][0]) for found in await resolver.resolve(host, 465, provider)]


def keys(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [vars(record)["senderproxy_event"] for record in caplog.records]


async def test_the_system_finds_localhost() -> None:
    resolver = Resolver(StillClock())
    found = await resolver.resolve("localhost", 465, "a")
    resolver.close()
    assert found
    assert all(one[4][1] == 465 for one in found)
    assert {one[4][0] for one in look_up("localhost", 465)} == {one[4][0] for one in found}


async def test_the_address_families_alternate() -> None:
    server = NameServer({"smtp.a.example": [info(a) for a in ("::1", "::2", "::3", "192.0.2.1", "192.0.2.2")]})
    async with resolver_of(server) as resolver:
        assert await addresses(resolver) == ["::1", "192.0.2.1", "::2", "192.0.2.2", "::3"]


async def test_an_ip_address_needs_no_look_up() -> None:
    server = NameServer()
    async with resolver_of(server) as resolver:
        assert await addresses(resolver, "192.0.2.7") == ["192.0.2.7"]
        assert await addresses(resolver, "2001:db8::7") == ["2001:db8::7"]
    assert server.asked == []


async def test_all_who_wait_for_a_host_share_one_look_up() -> None:
    server = NameServer()
    async with resolver_of(server) as resolver:
        waiting = [asyncio.create_task(addresses(resolver)) for _ in range(50)]
        await server.until_asked(1)
        waiting[0].cancel()
        server.released.set()
        assert await asyncio.gather(*waiting[1:]) == [["192.0.2.99"]] * 49
        assert server.asked == ["smtp.a.example"]
        await addresses(resolver)
        assert len(server.asked) == 2, "a later session looks the host up again"


async def test_each_waiter_has_its_own_time_limit() -> None:
    server = NameServer()
    async with resolver_of(server) as resolver:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await resolver.resolve("smtp.a.example", 465, "a")
        other = asyncio.create_task(addresses(resolver))
        server.released.set()
        assert await other == ["192.0.2.99"]
        assert len(server.asked) == 1


@pytest.mark.parametrize("fault", [TEMPORARY, NO_SUCH_NAME, OSError(24, "Too many open files")])
async def test_a_host_that_never_resolved_gives_the_error_of_the_look_up(fault: OSError) -> None:
    async with resolver_of(NameServer({"smtp.a.example": fault})) as resolver:
        with pytest.raises(socket.gaierror, match=fault.strerror):
            await addresses(resolver)
        assert resolver.reused() == []


async def test_a_name_that_cannot_be_encoded_is_an_unknown_name() -> None:
    resolver = Resolver(StillClock())
    with pytest.raises(socket.gaierror, match="not a valid host name"):
        await addresses(resolver, "a" * 64 + ".example")
    resolver.close()


async def test_the_last_good_addresses_are_used_while_look_ups_fail(caplog: pytest.LogCaptureFixture) -> None:
    server, clock = NameServer({"smtp.a.example": [info("192.0.2.1")]}), StillClock()
    caplog.set_level("INFO")
    async with resolver_of(server, clock) as resolver:
        assert await addresses(resolver) == ["192.0.2.1"]
        server.answers["smtp.a.example"] = TEMPORARY
        clock.pass_by(timedelta(hours=1))
        assert await addresses(resolver) == ["192.0.2.1"]
        assert len(server.asked) == 2
        assert await addresses(resolver) == ["192.0.2.1"]
        assert len(server.asked) == 2, "no further look-up within half a minute"
        clock.pass_by(timedelta(seconds=RECHECK))
        assert await addresses(resolver) == ["192.0.2.1"]
        assert len(server.asked) == 3
        assert keys(caplog) == [log_events.LOOK_UP_FAILED.key], "logged once"
        assert vars(caplog.records[0])["senderproxy_fields"]["age_seconds"] == 3600
        (entry,) = resolver.reused()
        assert (entry.host, entry.why) == ("smtp.a.example", TEMPORARY.strerror)
        assert (entry.found, entry.since, entry.tried) == (
            "2026-01-31T08:15:00+00:00",
            "2026-01-31T09:15:00+00:00",
            "2026-01-31T09:15:30+00:00",
        )

        server.answers["smtp.a.example"] = [info("192.0.2.2")]
        clock.pass_by(timedelta(seconds=RECHECK))
        assert await addresses(resolver) == ["192.0.2.2"]
        assert keys(caplog)[1:] == [log_events.LOOK_UP_RECOVERED.key]
        assert resolver.reused() == []


async def test_the_last_good_addresses_are_used_while_the_name_server_is_silent(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REPLY_TIMEOUT", REPLY_TIMEOUT)
    server, clock = NameServer({"smtp.a.example": [info("192.0.2.1")]}), StillClock()
    async with resolver_of(server, clock) as resolver:
        assert await addresses(resolver) == ["192.0.2.1"]
        del server.answers["smtp.a.example"]
        first = asyncio.create_task(addresses(resolver))
        await server.until_asked(2)
        clock.pass_by(timedelta(seconds=2))
        assert await addresses(resolver) == ["192.0.2.1"], "at once: the look-up has had its time"
        assert await first == ["192.0.2.1"], "after 1.8 seconds"
        (entry,) = resolver.reused()
        assert entry.why == "no answer for 2 s"
        assert keys(caplog) == [], "it may only be slow"
        for _ in range(2):
            clock.pass_by(timedelta(seconds=RECHECK))
            assert await addresses(resolver) == ["192.0.2.1"]
        assert keys(caplog) == [log_events.LOOK_UP_FAILED.key]
        assert len(server.asked) == 2, "the hanging look-up is still the only one"
        server.released.set()
        async with asyncio.timeout(30):
            while resolver.reused():
                await asyncio.sleep(0.001)
        monkeypatch.setattr(module, "REPLY_TIMEOUT", 1000.0)
        assert await addresses(resolver) == ["192.0.2.99"]


async def test_old_addresses_are_not_used() -> None:
    server, clock = NameServer({"smtp.a.example": [info("192.0.2.1")]}), StillClock()
    async with resolver_of(server, clock) as resolver:
        await addresses(resolver)
        server.answers["smtp.a.example"] = TEMPORARY
        clock.pass_by(timedelta(seconds=MAX_AGE))
        assert await addresses(resolver) == ["192.0.2.1"]
        clock.pass_by(timedelta(seconds=1))
        with pytest.raises(socket.gaierror):
            await addresses(resolver)


async def test_the_answer_that_a_host_does_not_exist_is_final() -> None:
    server, clock = NameServer({"smtp.a.example": [info("192.0.2.1")]}), StillClock()
    async with resolver_of(server, clock) as resolver:
        await addresses(resolver)
        server.answers["smtp.a.example"] = NO_SUCH_NAME
        for answer in (NO_SUCH_NAME, TEMPORARY):
            server.answers["smtp.a.example"] = answer
            with pytest.raises(socket.gaierror, match=answer.strerror):
                await addresses(resolver)


async def test_a_provider_with_a_silent_name_server_leaves_the_threads_to_the_others() -> None:
    server = NameServer({f"smtp{n}.b.example": [info("192.0.2.2")] for n in range(LOOK_UPS)})
    async with resolver_of(server) as resolver:
        silent = [asyncio.create_task(addresses(resolver, f"smtp{n}.a.example")) for n in range(2 * LOOK_UPS)]
        await server.until_asked(LOOK_UPS_OF_PROVIDER)
        for n in range(LOOK_UPS):
            assert await addresses(resolver, f"smtp{n}.b.example", "b") == ["192.0.2.2"]
        assert sum(host.endswith(".a.example") for host in server.asked) == LOOK_UPS_OF_PROVIDER
        server.released.set()
        assert await asyncio.gather(*silent) == [["192.0.2.99"]] * len(silent)


async def test_look_ups_are_bounded_in_all() -> None:
    server = NameServer()
    async with resolver_of(server) as resolver:
        waiting = [asyncio.create_task(addresses(resolver, f"{n}.example", str(n))) for n in range(LOOK_UPS + 5)]
        await server.until_asked(LOOK_UPS)
        assert len(server.asked) == LOOK_UPS
        server.released.set()
        await asyncio.gather(*waiting)


async def test_a_look_up_that_never_returns_is_given_up_and_does_not_keep_its_place(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """More of them than a provider has places, and than there are threads: each host is looked up all the same."""
    server = NameServer()
    async with resolver_of(server, dead_seconds=0.01) as resolver:
        for n in range(ABANDONED):
            with pytest.raises(socket.gaierror, match="no answer for 0 s"):
                await addresses(resolver, f"smtp{n}.a.example")
        counts = [vars(record)["senderproxy_fields"]["count"] for record in caplog.records]
        assert keys(caplog) == [log_events.LOOK_UP_ABANDONED.key] * ABANDONED
        assert counts == list(range(1, ABANDONED + 1))
        server.answers["smtp.a.example"] = [info("192.0.2.1")]
        resolver._dead_seconds = DEAD  # the thread may start late on a busy machine
        assert await addresses(resolver) == ["192.0.2.1"]
        resolver._dead_seconds = 0.01
        last = asyncio.create_task(addresses(resolver, "last.a.example"))
        await server.until_asked(ABANDONED + 2)
        await asyncio.sleep(0.05)
        assert not last.done(), "no more threads are replaced: it goes on"
        server.released.set()
        assert await last == ["192.0.2.99"]


async def test_after_the_close_a_hanging_look_up_is_no_longer_waited_for() -> None:
    server = NameServer()
    async with resolver_of(server) as resolver:
        waiting = asyncio.create_task(addresses(resolver))
        await server.until_asked(1)
        resolver.close()
        with pytest.raises(socket.gaierror, match="shutting down"):
            await waiting
        with pytest.raises(socket.gaierror, match="shutting down"):
            await addresses(resolver, "smtp.b.example")


async def test_the_addresses_of_the_last_256_hosts_are_known() -> None:
    server, clock = NameServer({f"{n}.example": [info("192.0.2.1")] for n in range(257)}), StillClock()
    async with resolver_of(server, clock) as resolver:
        for n in range(257):
            await addresses(resolver, f"{n}.example")
        server.answers = dict.fromkeys(server.answers, TEMPORARY)
        for n in (1, 256):
            assert await addresses(resolver, f"{n}.example") == ["192.0.2.1"]
        with pytest.raises(socket.gaierror):
            await addresses(resolver, "0.example")
