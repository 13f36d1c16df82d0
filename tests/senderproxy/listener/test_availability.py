"""No client keeps the others from being served: silent ones make room, and rates are limited."""

import asyncio
import socket
from typing import Any

import pytest

from senderproxy.config.model import ClientSettings
from senderproxy.listener.client_auth import Admission
from senderproxy.listener.connections import LEAVING_LIMIT, ListenerTimeouts
from senderproxy.listener.relay_smtp import RelaySMTP
from senderproxy.listener.server import Listener
from senderproxy.mail.reply import Reply
from tests.fakes.recording_intake import RecordingIntake
from tests.fakes.still_clock import StillClock
from tests.senderproxy.listener.conftest import ServerCertificate
from tests.senderproxy.listener.smtp_client import HOSTNAME, MESSAGE, SmtpClient, listening, settings, until
from tests.senderproxy.listener.test_event_limiter import StillLoop, listener_log

MAIL, RCPT = b"MAIL FROM:<anna@firma.example>\r\n", b"RCPT TO:<bert@kunde.example>\r\n"
OUTSIDE = "192.0.2.7"


async def silent_clients(listener: Listener, hosts: list[str]) -> list[SmtpClient]:
    return [await SmtpClient.to(listener, host=host) for host in hosts]


@pytest.mark.parametrize(
    ("hosts", "before", "after"),
    [(["127.0.0.2"] * 200, 150, 150), ([f"127.0.0.{2 + number % 8}" for number in range(200)], 0, 1)],
    ids=["one host", "eight hosts"],
)
async def test_a_client_is_served_at_once_beside_200_silent_ones(hosts: list[str], before: int, after: int) -> None:
    async with listening(RecordingIntake()) as listener:
        silent = await silent_clients(listener, hosts)
        counters = listener._state.counters
        await until(lambda: counters.connections == 200)
        assert counters.evicted == before
        working = await SmtpClient.greeted(listener)
        assert counters.evicted == after
        for _ in range(3):
            assert (await working.mail()).code == 250
        assert (counters.evicted, counters.turned_away) == (after, 0)
        for client in silent[:after]:
            assert b"421" in (rest := await client.rest()) or after > LEAVING_LIMIT, rest
        for client in [*silent, working]:
            await client.close()


async def test_the_client_at_work_is_served_beside_200_silent_ones_of_its_own_host() -> None:
    async with listening(RecordingIntake()) as listener:
        working = await SmtpClient.greeted(listener)
        assert (await working.ask(MAIL)).code == 250
        silent = await silent_clients(listener, ["127.0.0.1"] * 200)
        counters = listener._state.counters
        await until(lambda: counters.connections == 201)
        for command in (RCPT, b"DATA\r\n"):
            assert (await working.ask(command)).code in {250, 354}
        assert (await working.ask(MESSAGE + b".\r\n")).code == 250
        assert counters.evicted == 151
        for client in [*silent, working]:
            await client.close()


async def test_the_evicted_client_gets_421_and_one_in_a_transaction_finishes_its_message() -> None:
    intake = RecordingIntake()
    async with listening(intake, max_connections=3) as listener:
        sending, idle, last = [await SmtpClient.greeted(listener) for _ in range(3)]
        assert (await sending.ask(MAIL)).code == 250
        with listener_log() as lines:
            new = await SmtpClient.greeted(listener)
            answer = await idle.answer()
        assert (answer.code, answer.status) == (421, "4.7.0")
        assert await idle.closed()
        assert [key for key, _ in lines] == ["client_evicted"]
        assert listener.connections == 3
        assert (await sending.ask(RCPT)).code == 250
        assert (await sending.ask(b"DATA\r\n")).code == 354
        assert (await sending.ask(MESSAGE + b".\r\n")).code == 250
        for client in (last, new):
            assert (await client.mail()).code == 250
        for client in (sending, idle, last, new):
            await client.close()
    assert len(intake.taken) == 3


async def test_a_client_with_the_upstream_is_never_evicted() -> None:
    intake = RecordingIntake()
    intake.hold()
    async with listening(intake, max_connections=2) as listener:
        waiting = [await SmtpClient.greeted(listener) for _ in range(2)]
        answers = [asyncio.ensure_future(client.mail()) for client in waiting]
        await intake.until_started(2)
        refused = await SmtpClient.to(listener)
        assert (await refused.answer()).code == 421
        intake.release()
        assert [answer.code for answer in await asyncio.gather(*answers)] == [250, 250]
        for client in [*waiting, refused]:
            await client.close()
    assert intake.cut_off == 0


async def test_a_client_in_its_handshake_is_dropped_to_make_room(server_certificate: ServerCertificate) -> None:
    async with listening(RecordingIntake(), max_connections=1, **server_certificate.settings("implicit")) as listener:
        silent = await SmtpClient.to(listener)
        await until(lambda: listener.connections == 1)
        client = await SmtpClient.greeted(listener, context=server_certificate.client_context)
        assert await silent.closed(), "no reply in clear"
        assert (await client.mail()).code == 250
        await silent.close()
        await client.close()


async def test_clients_that_do_not_read_their_421_are_dropped_beyond_a_number() -> None:
    timeouts = ListenerTimeouts(idle=30, before_mail=30, block=30, linger=30)
    async with listening(RecordingIntake(), max_connections=1, timeouts=timeouts) as listener:
        clients = await silent_clients(listener, ["127.0.0.1"] * (LEAVING_LIMIT + 20))
        await until(lambda: listener._state.counters.connections == len(clients))
        assert len(listener._state.all_connections()) <= LEAVING_LIMIT + 1
        for client in clients:
            await client.close()


async def test_the_first_mail_is_due_sooner_than_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    timeouts = ListenerTimeouts(idle=30, before_mail=10, block=30, linger=0.1)
    async with listening(RecordingIntake(), timeouts=timeouts) as listener:
        served = await SmtpClient.greeted(listener)
        assert (await served.ask(MAIL)).code == 250
        assert (await served.ask(b"RSET\r\n")).code == 250
        silent = await SmtpClient.greeted(listener)
        with monkeypatch.context() as patch:
            await StillLoop(patch).pass_by(11)
            answer = await silent.answer()
        assert (answer.code, answer.status) == (421, "4.4.2")
        assert (await served.mail()).code == 250
        for client in (silent, served):
            await client.close()


def test_the_short_timeout_is_never_longer_than_the_usual_one() -> None:
    assert ListenerTimeouts.of(settings()).before_mail == 30
    assert ListenerTimeouts.of(settings(idle_seconds=20)).before_mail == 20
    assert ListenerTimeouts.of(settings(idle_before_mail_seconds=90)).before_mail == 90


# Rates


class FakeConnection:
    """A connection without a socket."""

    in_transaction = False

    def finish(self, reply: Reply) -> None: ...

    def evict(self) -> None: ...

    def interrupt(self) -> None: ...

    def force_close(self) -> None: ...

    def abort(self) -> None: ...


def unstarted(*clients: ClientSettings, clock: StillClock | None = None, **changed: Any) -> Any:
    """The state of a listener for remote clients."""
    allowed = {"address": "0.0.0.0:0", "allow": ["192.0.2.0/24", "2001:db8::/32", "fe80::/10"]}
    return Listener(settings(**allowed | changed), clients, HOSTNAME, RecordingIntake(), clock or StillClock())._state


async def test_a_client_that_opens_too_many_connections_gets_421_until_its_minute_is_over() -> None:
    state = unstarted(max_connections=400, max_connections_per_client=400)
    with listener_log() as lines:
        admitted = [state.register(FakeConnection(), OUTSIDE) for _ in range(310)]
    assert [type(result) for result in admitted] == [Admission] * 300 + [Reply] * 10
    assert (admitted[-1].code, str(admitted[-1].status)) == (421, "4.7.0")
    assert "limit is 300 a minute" in admitted[-1].text
    assert [key for key, _ in lines].count("client_connection_rate") == 1
    assert isinstance(state.register(FakeConnection(), "192.0.2.8"), Admission)
    state.clock.passed += 60
    assert isinstance(state.register(FakeConnection(), OUTSIDE), Admission)
    state.events.flush()


@pytest.mark.parametrize(("what", "limit"), [("message", 600), ("recipient", 6000)])
async def test_the_rates_of_a_client_are_limited_over_all_its_connections(what: str, limit: int) -> None:
    state = unstarted()
    quotas = [state.quota(state.register(FakeConnection(), OUTSIDE)) for _ in range(2)]
    with listener_log() as lines:
        counted = [getattr(quotas[number % 2], what)() for number in range(limit + 3)]
    assert counted[:limit] == [None] * limit
    assert {(reply.code, str(reply.status)) for reply in counted[limit:]} == {(450, "4.7.1")}
    assert f"limit is {limit} a minute" in counted[-1].text
    assert [key for key, _ in lines] == [f"client_{what}_rate"]
    state.events.flush()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "192.0.2.7", "2001:db8::7"])
async def test_this_machine_and_named_clients_have_no_limits_on_their_rates(host: str) -> None:
    named = ClientSettings(networks=("192.0.2.7", "2001:db8::7"))  # type: ignore[arg-type]  # parsed by the model
    allow = ["192.0.2.0/24", "2001:db8::/32", "127.0.0.0/8", "::1"]
    state = unstarted(named, max_connections_per_minute=1, allow=allow)
    admitted = [state.register(FakeConnection(), host) for _ in range(3)]
    assert all(isinstance(result, Admission) for result in admitted)
    assert state.quota(admitted[0]) is None


async def test_ipv6_clients_are_counted_by_their_network_of_64_bits() -> None:
    named = ClientSettings(networks=("2001:db8::7",))  # type: ignore[arg-type]  # parsed by the model
    state = unstarted(named, max_connections_per_client=2)
    for host in ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "fe80::1%eth0", "fe80::2%eth0", "::ffff:192.0.2.7"):
        state.register(FakeConnection(), host)
    assert sorted(state.table._of_client.items()) == [
        ("192.0.2.7", 1),
        ("2001:db8:0:1::/64", 1),
        ("2001:db8::/64", 2),
        ("fe80::1", 1),
        ("fe80::2", 1),
    ]
    state.register(FakeConnection(), "2001:db8::3")
    assert state.counters.evicted == 1
    state.register(FakeConnection(), "2001:db8::7")
    assert state.counters.evicted == 1, "a named client has places of its own"
    state.events.flush()


async def test_a_tenth_of_the_connections_is_reserved_where_there_are_named_clients() -> None:
    named = ClientSettings(networks=("192.0.2.7",))  # type: ignore[arg-type]  # parsed by the model
    for clients, reserved, strangers in (((), None, 20), ((named,), None, 18), ((named,), 5, 15), ((named,), 0, 20)):
        state = unstarted(*clients, max_connections=20, reserved_connections=reserved)
        for number in range(30):
            state.register(FakeConnection(), f"192.0.2.{100 + number}")
        assert len(state.table) == strangers
        state.events.flush()


class Remote(RelaySMTP):
    """A connection whose client seems to be on another machine."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport._extra["peername"] = (OUTSIDE, 4711)  # type: ignore[attr-defined]
        super().connection_made(transport)


async def connect_remote(listener: Listener) -> SmtpClient:
    """A client of another machine, on a connection of its own."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    theirs.setblocking(False)
    await loop.connect_accepted_socket(lambda: Remote(listener._handler, listener._state, loop), theirs)
    client = SmtpClient(*await asyncio.open_connection(sock=ours))
    assert (await client.answer()).code == 220
    assert (await client.ask(b"EHLO client.firma.example\r\n")).code == 250
    return client


async def test_a_remote_client_over_its_rates_gets_450_and_its_accepted_recipients_stay() -> None:
    intake = RecordingIntake()
    limits: dict[str, Any] = {"max_messages_per_minute": 2, "max_recipients_per_minute": 3}
    async with listening(intake, allow=["192.0.2.0/24", "127.0.0.0/8"], **limits) as listener:
        client = await connect_remote(listener)
        assert (await client.mail()).code == 250
        assert (await client.ask(MAIL)).code == 250
        codes = [(await client.ask(b"RCPT TO:<a%d@kunde.example>\r\n" % number)).code for number in range(3)]
        assert codes == [250, 250, 450]
        assert (await client.ask(b"DATA\r\n")).code == 354
        assert (await client.ask(MESSAGE + b".\r\n")).code == 250
        answer = await client.ask(MAIL)
        assert (answer.code, answer.status) == (450, "4.7.1")
        local = await SmtpClient.greeted(listener)
        for _ in range(3):
            assert (await local.mail()).code == 250
        await client.close()
        await local.close()
    assert [len(taken.envelope.recipients) for taken in intake.taken[:2]] == [1, 2]
