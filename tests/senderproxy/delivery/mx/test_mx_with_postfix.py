"""The mail servers of a domain made of several Postfix: each recipient has its outcome, and nothing arrives twice."""

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from senderproxy.mail.address import NULL_PATH
from senderproxy.mail.outcome import Deferred, Delivered, Failed, Outcome
from tests.peers.bench import Bench
from tests.peers.exchanger import ExchangerTls, PostfixExchanger
from tests.peers.packages import POSTFIX
from tests.peers.process import why_not_here
from tests.senderproxy.delivery.messages import PATIENT, make_message, to
from tests.senderproxy.delivery.mx.bench import DOMAIN, mx_bench, zone

reason = why_not_here(POSTFIX, root=True)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]

MX1, MX2, MX3 = "mx1.kunde.example", "mx2.kunde.example", "mx3.kunde.example"


def kinds(outcomes: Sequence[Outcome]) -> list[type]:
    return [type(outcome) for outcome in outcomes]


async def received(server: PostfixExchanger) -> list[str]:
    """The recipients of what a server has taken, sorted."""
    found = await asyncio.to_thread(server.received)
    return sorted(recipient for delivery in found for recipient in delivery.recipients)


async def test_each_recipient_has_its_outcome_and_a_session_carries_several_messages(bench: Bench) -> None:
    server = bench.start(PostfixExchanger("mx1"))
    async with mx_bench(zone((10, MX1)), {MX1: server.port}) as o:
        for number in range(3):
            outcomes = await o.send(f"a{number}@{DOMAIN}", f"unknown-b@{DOMAIN}", f"busy-c@{DOMAIN}")
            assert kinds(outcomes) == [Delivered, Failed, Deferred]
            assert (
                str(outcomes[1].reply)
                == "550 5.1.1 <unknown-b@kunde.example>: Recipient address rejected: No such mailbox here"
            )
            assert [outcome.reply.code for outcome in outcomes] == [250, 550, 450]
    assert await received(server) == [f"a{number}@{DOMAIN}" for number in range(3)]
    assert len(server.lines_written("TLS connection established")) == 1
    first = server.received()[0]
    assert (first.login, first.reverse_path) == (None, "anna@firma.example")
    assert first.content == make_message().header.raw + b"Guten Tag,\r\nhier ist es.\r\n"


async def test_tls_is_used_with_a_certificate_that_nobody_vouches_for(bench: Bench) -> None:
    server = bench.start(PostfixExchanger("mx1"))
    async with mx_bench(zone((10, MX1)), {MX1: server.port}) as o:
        assert kinds(await o.send()) == [Delivered]
    assert len(server.lines_written("TLS connection established")) == 1


@pytest.mark.parametrize(
    ("tls", "line"), [(ExchangerTls.BROKEN, "SSL_accept error"), (ExchangerTls.REFUSED, "after STARTTLS")]
)
async def test_tls_that_fails_is_followed_by_a_session_without_it(bench: Bench, tls: ExchangerTls, line: str) -> None:
    server = bench.start(PostfixExchanger("mx1", tls=tls))
    async with mx_bench(zone((10, MX1)), {MX1: server.port}) as o:
        assert kinds(await o.send()) == [Delivered]
        assert len(server.lines_written(line)) == 1
        o.clock.ahead += 60  # the idle session is too old
        assert kinds(await o.send()) == [Delivered]
        assert len(server.log_lines(line)) == 1  # that TLS does not work is remembered
        o.clock.ahead += 600
        assert kinds(await o.send()) == [Delivered]
        assert len(server.lines_written(line, 2)) == 2
    assert len(await received(server)) == 3


async def test_a_server_without_tls_takes_mail(bench: Bench) -> None:
    server = bench.start(PostfixExchanger("mx1", tls=ExchangerTls.NONE))
    async with mx_bench(zone((10, MX1)), {MX1: server.port}) as o:
        assert kinds(await o.send()) == [Delivered]


def killed(bench: Bench) -> int:
    server = bench.start(PostfixExchanger("away"))
    server.stop()
    return server.port


def silent(bench: Bench) -> int:
    """A server that accepts connections, and says nothing."""
    listening = socket.create_server(("127.0.0.1", 0))
    bench._things.enter_context(contextlib.closing(listening))
    return int(listening.getsockname()[1])


def full(bench: Bench) -> int:
    return bench.start(PostfixExchanger("full", full=True)).port


@pytest.mark.parametrize("first", [killed, silent, full])
async def test_the_next_server_takes_what_the_preferred_one_does_not(
    bench: Bench, first: Callable[[Bench], int]
) -> None:
    port, second = first(bench), bench.start(PostfixExchanger("mx2"))
    timeouts = replace(PATIENT, greeting=10.0) if first is silent else PATIENT
    async with mx_bench(zone((10, MX1), (20, MX2)), {MX1: port, MX2: second.port}, timeouts=timeouts) as o:
        assert kinds(await o.send(f"a@{DOMAIN}", f"unknown-b@{DOMAIN}")) == [Delivered, Failed]
        o.clock.ahead += 10  # the idle session is too old; the preferred server is remembered as one that fails
        assert kinds(await o.send(f"c@{DOMAIN}")) == [Delivered]
    assert await received(second) == [f"a@{DOMAIN}", f"c@{DOMAIN}"]


async def test_all_servers_full_defers_and_the_next_attempt_asks_again(bench: Bench) -> None:
    servers = {MX1: full(bench), MX2: bench.start(PostfixExchanger("full2", full=True)).port}
    async with mx_bench(zone((10, MX1), (20, MX2)), servers) as o:
        (outcome,) = await o.send()
        assert isinstance(outcome, Deferred)
        assert not outcome.of_account
        assert str(outcome.reply) == "452 4.3.1 Insufficient system storage"
        good = bench.start(PostfixExchanger("mx3"))
        o.ports[MX2] = good.port
        assert kinds(await o.send()) == [Delivered]
    assert await received(good) == [f"carl@{DOMAIN}"]


async def test_all_servers_away_pause_the_domain_and_it_resumes_by_itself(bench: Bench) -> None:
    ports = {MX1: bench.port(), MX2: bench.port()}
    healthy: list[object] = []
    async with mx_bench(zone((10, MX1), (20, MX2)), ports) as o:
        o.courier.on_healthy = healthy.append
        (outcome,) = await o.send()
        assert isinstance(outcome, Deferred)
        assert outcome.of_account
        blocked = o.courier.availability(DOMAIN)
        assert blocked.reason == outcome.reply
        assert blocked.retry_after is not None
        assert 50 < blocked.retry_after <= 70
        server = bench.start(PostfixExchanger("mx1"))
        o.ports[MX1] = server.port
        (still,) = await o.send()
        assert isinstance(still, Deferred)
        assert not server.log_lines("TLS connection established")
        o.clock.ahead += 70
        assert o.courier.availability(DOMAIN).reason is None
        assert kinds(await o.send()) == [Delivered]
        assert [str(lane.name) for lane in healthy] == [DOMAIN]  # type: ignore[attr-defined]
        assert not o.courier.statuses()


async def test_greylisting_is_waited_out_and_its_delay_is_learned(bench: Bench) -> None:
    server = bench.start(PostfixExchanger("mx1", greylists=True))
    second = bench.start(PostfixExchanger("mx2"))
    ports = {MX1: server.port, MX2: second.port}
    async with mx_bench(zone((10, MX1), (20, MX2)), ports) as o:

        async def wait_of(recipient: str) -> timedelta | None:
            other, grey = await o.send(f"{recipient}-other@{DOMAIN}", f"grey-{recipient}@{DOMAIN}")
            assert isinstance(other, Delivered)
            assert isinstance(grey, Deferred)
            assert not grey.of_account
            return grey.retry_after

        assert await wait_of("a") == timedelta(minutes=5)
        o.clock.ahead += 180
        assert kinds(await o.send(f"grey-a@{DOMAIN}")) == [Delivered]
        learned = await wait_of("b")
        assert learned is not None
        assert timedelta(seconds=180) <= learned < timedelta(minutes=5)  # and the time that the servers took
    assert not await received(second)


async def test_more_recipients_than_a_server_takes_at_once_go_in_several_transactions(bench: Bench) -> None:
    server = bench.start(PostfixExchanger("mx1", recipient_limit=40))
    many = [f"r{number:03}@{DOMAIN}" for number in range(130)]
    async with mx_bench(zone((10, MX1)), {MX1: server.port}) as o:
        assert set(kinds(await o.send(*many))) == {Delivered}
    assert await received(server) == many


async def test_many_messages_at_once_use_few_connections_and_arrive_once(bench: Bench) -> None:
    server, other = bench.start(PostfixExchanger("mx1")), bench.start(PostfixExchanger("mx2"))
    ports = {MX1: server.port, MX2: other.port}
    async with mx_bench(zone((10, MX1), (10, MX2)), ports) as o:
        sends = [o.send(f"r{number:02}@{DOMAIN}") for number in range(40)]
        assert all(kinds(outcomes) == [Delivered] for outcomes in await asyncio.gather(*sends))
    arrived = Counter(await received(server)) + Counter(await received(other))
    assert arrived == {f"r{number:02}@{DOMAIN}": 1 for number in range(40)}
    assert sum(len(one.log_lines("TLS connection established")) for one in (server, other)) <= 2


async def test_a_server_killed_between_messages_is_replaced_unseen(bench: Bench) -> None:
    first, second = bench.start(PostfixExchanger("mx1")), bench.start(PostfixExchanger("mx2"))
    ports = {MX1: first.port, MX2: second.port}
    async with mx_bench(zone((10, MX1), (20, MX2)), ports) as o:
        assert kinds(await o.send(f"a@{DOMAIN}")) == [Delivered]
        await asyncio.to_thread(first.finish_work)
        await asyncio.to_thread(first.stop)
        assert kinds(await o.send(f"b@{DOMAIN}")) == [Delivered]
    assert await received(second) == [f"b@{DOMAIN}"]


async def test_a_bounce_has_no_reverse_path_there(bench: Bench) -> None:
    server = bench.start(PostfixExchanger("mx1"))
    async with mx_bench(zone((10, MX1)), {MX1: server.port}) as o:
        assert kinds(await o.send(envelope=to(f"carl@{DOMAIN}").with_reverse_path(NULL_PATH))) == [Delivered]
    assert [delivery.reverse_path for delivery in await asyncio.to_thread(server.received)] == [""]


async def test_servers_that_come_and_go_lose_nothing_and_double_only_what_is_not_known(bench: Bench) -> None:
    servers = [bench.start(PostfixExchanger(name)) for name in ("mx1", "mx2")]
    ports = {MX1: servers[0].port, MX2: servers[1].port}
    unknown: Counter[str] = Counter()
    async with mx_bench(zone((10, MX1), (10, MX2)), ports) as o:

        async def send_until_taken(recipient: str) -> None:
            while True:
                (outcome,) = await o.send(recipient)
                if isinstance(outcome, Delivered):
                    return
                assert isinstance(outcome, Deferred), outcome
                unknown[recipient] += outcome.maybe_taken
                if outcome.of_account:
                    o.clock.ahead += 1801  # the longest pause
                await asyncio.sleep(0)

        async def come_and_go() -> None:
            for server in servers * 3:
                await asyncio.to_thread(server.stop)
                await asyncio.to_thread(server.start)

        sent: list[str] = []
        going = asyncio.create_task(come_and_go())
        while not going.done():
            batch = [f"r{len(sent) + number:05}@{DOMAIN}" for number in range(10)]
            await asyncio.gather(*map(send_until_taken, batch))
            sent += batch
        await going
    arrived: Counter[str] = Counter()
    for server in servers:
        await asyncio.to_thread(server.flush)  # what it has deferred because its own processes were being stopped
        await asyncio.to_thread(server.wait_until_nothing_waits)
        arrived.update(await received(server))
    doubled = {recipient: count for recipient, count in arrived.items() if count > 1 + unknown[recipient]}
    assert not doubled
    assert set(arrived) == set(sent)
