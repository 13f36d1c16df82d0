"""Connections through a proxy that sends a PROXY header."""

import asyncio
import socket
import ssl
from base64 import b64encode
from ipaddress import IPv4Address
from typing import Any

import pytest

from senderproxy.config.model import ClientSettings
from senderproxy.listener import acceptor, proxy_peers
from senderproxy.listener.client_auth import hash_password
from senderproxy.listener.connections import ListenerPhase, Peer
from senderproxy.listener.login_throttle import ThrottleLimits
from senderproxy.listener.server import Listener
from senderproxy.listener.turned_away import TurnedAwayClients
from tests.fakes.recording_intake import RecordingIntake
from tests.senderproxy.listener.conftest import ServerCertificate
from tests.senderproxy.listener.smtp_client import HOSTNAME, MESSAGE, SmtpClient, listening, until
from tests.senderproxy.listener.test_event_limiter import listener_log
from tests.senderproxy.wire.test_proxy_header import tcp4, tcp6, v2

OFFICE = IPv4Address("192.168.1.20")
STRANGER = IPv4Address("203.0.113.7")
LOCAL = v2(0x20, 0x00, b"")
PROXIED: dict[str, Any] = {"proxy_from": ["127.0.0.1"], "allow": ["192.168.1.0/24", "127.0.0.0/8", "2001:db8::/32"]}


async def through(listener: Listener, header: bytes = tcp4(OFFICE)) -> SmtpClient:
    """A client behind the proxy, greeted."""
    client = await SmtpClient.to(listener, first=header)
    assert (await client.answer()).code == 220
    assert (await client.ask(b"EHLO client.firma.example\r\n")).code == 250
    return client


@pytest.mark.parametrize(
    ("header", "host"),
    [
        (tcp4(OFFICE), "192.168.1.20"),
        (tcp6(), "2001:db8::7"),
        (b"PROXY TCP4 192.168.1.21 192.0.2.1 50000 25\r\n", "192.168.1.21"),
        (tcp4(IPv4Address("127.0.0.1")), "127.0.0.1"),  # of the proxy's machine, which is this one
    ],
)
async def test_the_claimed_address_is_that_of_the_client(header: bytes, host: str) -> None:
    intake = RecordingIntake()
    async with listening(intake, **PROXIED) as listener:
        client = await through(listener, header)
        assert (await client.mail()).code == 250
        assert intake.taken[0].client.host == host
        await client.close()


async def test_a_header_may_arrive_octet_by_octet() -> None:
    intake = RecordingIntake()
    for header in (tcp4(OFFICE), b"PROXY TCP4 192.168.1.21 192.0.2.1 50000 25\r\n"):
        async with listening(intake, **PROXIED) as listener:
            client = await SmtpClient.to(listener)
            for octet in header:
                await client.send(bytes((octet,)))
                await asyncio.sleep(0)
            assert (await client.answer()).code == 220
            await client.close()


async def test_allow_is_for_the_claimed_address() -> None:
    async with listening(RecordingIntake(), **PROXIED) as listener:
        with listener_log() as lines:
            client = await SmtpClient.to(listener, first=tcp4(STRANGER))
            answer = await client.answer()
        assert answer.code == 554
        assert "203.0.113.7" in answer.text
        assert ("client_rejected", "203.0.113.7") in [(key, fields.get("client")) for key, fields in lines]
        assert list(listener._state.auth._turned_away._counts) == [("203.0.113.7",)]
        await client.close()


async def test_limits_and_senders_are_those_of_the_claimed_address() -> None:
    known = ClientSettings.model_validate({"networks": ["192.168.1.20"], "senders": ["bert@firma.example"]})
    async with listening(RecordingIntake(), known, max_messages_per_minute=1, **PROXIED) as listener:
        first, second = tcp4(IPv4Address("192.168.1.30")), tcp4(IPv4Address("192.168.1.31"))
        for header, code in ((first, 250), (first, 450), (second, 250)):
            client = await through(listener, header)
            assert (await client.mail()).code == code
            await client.close()
        client = await through(listener)
        assert client is not None
        [entry] = [one for one in listener._state.table._connections.values() if one.client == "192.168.1.20"]
        assert entry.known
        assert [str(one) for one in entry.senders or ()] == ["bert@firma.example"]
        await client.close()


async def test_failed_logins_are_counted_for_the_claimed_address(server_certificate: ServerCertificate) -> None:
    user = ClientSettings(user="scanner", password=hash_password("right"))
    right = b64encode(b"\0scanner\0right")
    settings = {**PROXIED, **server_certificate.settings("starttls"), "auth": "optional"}
    limits = ThrottleLimits(first_delay=0, longest_delay=0)
    async with listening(RecordingIntake(), user, throttle_limits=limits, **settings) as listener:

        async def log_in(host: str, response: bytes) -> int:
            client = await through(listener, tcp4(IPv4Address(host)))
            await client.secure(server_certificate.client_context)
            code = (await client.ask(b"AUTH PLAIN " + response + b"\r\n")).code
            await client.close()
            return code

        guesses = [await log_in("192.168.1.66", b64encode(b"\0name%d\0guess" % number)) for number in range(6)]
        assert guesses == [535] * 5 + [454]
        assert await log_in("192.168.1.66", right) == 454, "locked"
        assert await log_in("192.168.1.67", right) == 235


async def test_loopback_in_a_header_of_another_machine_is_that_machine() -> None:
    """127.0.0.1 is admitted everywhere, without limits."""
    peers = proxy_peers.ProxyPeers((), None, lambda _client: asyncio.Protocol())  # type: ignore[arg-type]
    for claimed in (
        b"PROXY TCP4 127.0.0.1 127.0.0.1 1 1\r\n",
        b"PROXY TCP6 ::1 ::1 1 1\r\n",
        tcp4(IPv4Address("127.0.0.9")),
    ):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.sendall(claimed)
            client = await peers.receive(ours, "192.168.1.5")
        assert client == Peer("192.168.1.5")


async def test_from_other_addresses_a_header_is_not_read() -> None:
    """Anyone could claim an address otherwise."""
    intake = RecordingIntake()
    async with listening(intake, **PROXIED) as listener:
        client = await SmtpClient.greeted(listener, host="127.0.0.2")
        assert (await client.ask(b"PROXY TCP4 192.168.1.20 192.0.2.1 50000 25\r\n")).code == 500
        assert (await client.mail()).code == 250
        assert intake.taken[0].client.host == "127.0.0.2"
        await client.close()
        client = await SmtpClient.to(listener, host="127.0.0.2", first=tcp4(OFFICE))
        rest = await client.rest()
        assert b"192.168.1.20" not in rest
        assert listener.counters.accepted == 1
        await client.close()


@pytest.mark.parametrize(
    "octets", [b"EHLO client.firma.example\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00"]
)
async def test_a_connection_without_a_header_is_refused_and_the_log_says_what_to_set(octets: bytes) -> None:
    async with listening(RecordingIntake(), **PROXIED) as listener:
        with listener_log() as lines:
            client = await SmtpClient.to(listener, first=octets)
            await until(lambda: listener.counters.turned_away == 1)
        [(key, fields)] = lines
        assert key == "proxy_header_missing"
        assert fields["proxy"] == "127.0.0.1"
        assert "send-proxy-v2" in fields["hint"]
        assert "proxy_from" in fields["hint"]
        assert listener.connections == 0
        assert listener._state.auth._turned_away.by_reason["proxy_header"] == 1  # type: ignore[index]
        client.reset()


async def test_a_silent_connection_is_refused_after_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_peers.ProxyPeers.__init__, "__defaults__", (0.1,))
    async with listening(RecordingIntake(), **PROXIED) as listener:
        for first in (b"", tcp4(OFFICE)[:20], b"PROXY TCP4 192.168.1.20 "):
            client = await SmtpClient.to(listener, first=first)
            with listener_log() as lines:
                answer = await client.answer()
            assert answer.code == 421
            assert "send-proxy-v2" in answer.text
            assert all("no PROXY header within" in fields["why"] for _, fields in lines)
            assert await client.closed()
            await client.close()
        assert listener.counters.turned_away == 3


async def test_a_check_that_waits_for_the_greeting_and_leaves_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """haproxy without send-proxy-v2: its check ends before ours, and no client ever comes."""
    monkeypatch.setattr(proxy_peers, "_WAITED", 0.05)
    async with listening(RecordingIntake(), **PROXIED) as listener:
        with listener_log() as lines:
            for end in (SmtpClient.reset, lambda client: client.writer.write_eof()):
                client = await SmtpClient.to(listener)
                await until(lambda: listener._acceptor is not None and len(listener._acceptor._waiting) == 1)
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await client.reader.read(1)
                end(client)
                await until(lambda: listener._acceptor is not None and not listener._acceptor._waiting)
        assert [key for key, _ in lines] == ["proxy_header_missing"]
        assert listener.counters.turned_away == 2
        client.reset()


async def test_single_octets_do_not_extend_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_peers.ProxyPeers.__init__, "__defaults__", (0.3,))
    async with listening(RecordingIntake(), **PROXIED) as listener:
        client = await SmtpClient.to(listener)

        async def drip() -> None:
            for octet in b"PROXY UNKNOWN " + b"x" * 80:
                await client.send(bytes((octet,)))
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        assert (await client.answer()).code == 421
        dripping.cancel()
        client.reset()


async def test_of_too_many_without_a_header_the_oldest_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor, "WAITING_LIMIT", 3)
    async with listening(RecordingIntake(), **PROXIED) as listener:
        waiting = [await SmtpClient.to(listener) for _ in range(3)]
        await until(lambda: listener._acceptor is not None and len(listener._acceptor._waiting) == 3)
        last = await SmtpClient.to(listener)
        assert await waiting[0].closed()
        await last.send(tcp4(OFFICE))
        assert (await last.answer()).code == 220
        await waiting[1].send(tcp4(OFFICE))
        assert (await waiting[1].answer()).code == 220
        for client in (*waiting, last):
            client.reset()


async def test_a_health_check_is_answered_uncounted_and_unlogged(monkeypatch: pytest.MonkeyPatch) -> None:
    """haproxy's LOCAL command; `option smtpchk` greets, and leaves."""
    monkeypatch.setattr(proxy_peers, "_WAITED", 1000.0)  # a check of the connection alone may be slow to leave
    async with listening(RecordingIntake(), proxy_from=["127.0.0.1"], allow=["192.168.1.0/24"]) as listener:
        with listener_log() as lines:
            for header in (LOCAL, b"PROXY UNKNOWN\r\n"):
                client = await through(listener, header)
                assert (await client.ask(b"NOOP\r\n")).code == 250
                assert (await client.ask(b"QUIT\r\n")).code == 221
                assert await client.closed()
                await client.close()
                (await SmtpClient.to(listener, first=header)).reset()  # a check of the connection alone
                (await SmtpClient.to(listener)).reset()  # without send-proxy
            await until(lambda: listener.connections == 0)
        assert [key for key, _ in lines if key != "client_disconnected"] == []
        assert listener.counters.connections == 0
        assert listener.counters.turned_away == 0


async def test_a_drain_refuses_health_checks_and_serves_clients() -> None:
    intake = RecordingIntake()
    async with listening(intake, **PROXIED) as listener:
        connected = await through(listener)
        with listener_log() as lines:
            listener.drain(on=True)
            for header in (LOCAL, b"PROXY UNKNOWN\r\n"):
                check = await SmtpClient.to(listener, first=header)
                answer = await check.answer()
                assert (answer.code, answer.status) == (421, "4.3.2")
                assert "draining" in answer.text
                assert await check.closed()
                await check.close()
            newcomer = await through(listener)
            for client in (newcomer, connected):
                assert (await client.mail()).code == 250
                await client.close()
            listener.drain(on=False)
            await (await through(listener, LOCAL)).close()
            await until(lambda: listener.connections == 0)
        assert [key for key, _ in lines if key != "client_disconnected"] == []
        assert listener.counters.turned_away == 0
        assert len(intake.taken) == 2


async def test_a_stop_ends_a_drain() -> None:
    async with listening(RecordingIntake(), **PROXIED) as listener:
        listener.drain(on=True)
        await listener.stop(0)
        listener.drain(on=False)
        assert listener._state.phase is ListenerPhase.CLOSING


async def test_a_connection_without_a_client_address_sends_no_mail() -> None:
    """The proxy's own address may be one that is admitted: it is nobody's here."""
    known = ClientSettings.model_validate({"networks": ["127.0.0.1"]})
    async with listening(RecordingIntake(), known, **PROXIED) as listener:
        for header in (LOCAL, v2(0x21, 0x00, b""), v2(0x21, 0x31, bytes(216))):
            client = await through(listener, header)
            answer = await client.ask(b"MAIL FROM:<anna@firma.example>\r\n")
            assert (answer.code, answer.status) == (554, "5.7.1")
            assert (await client.ask(b"RCPT TO:<bert@kunde.example>\r\n")).code == 503
            await client.close()
        assert listener.counters.accepted == 0


async def test_tls_may_begin_behind_the_header(server_certificate: ServerCertificate) -> None:
    intake = RecordingIntake()
    async with listening(intake, **PROXIED, **server_certificate.settings("implicit")) as listener:
        sock = socket.create_connection(("127.0.0.1", listener.port))
        sock.sendall(tcp4(OFFICE))
        reader, writer = await asyncio.open_connection(
            sock=sock, ssl=server_certificate.client_context, server_hostname=HOSTNAME
        )
        client = SmtpClient(reader, writer)
        assert (await client.answer()).code == 220
        assert (await client.ask(b"EHLO client.firma.example\r\n")).code == 250
        assert (await client.mail()).code == 250
        assert intake.taken[0].client.host == "192.168.1.20"
        await client.close()


async def test_a_tls_handshake_in_the_packet_of_the_header_is_answered(server_certificate: ServerCertificate) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    hello = server_certificate.client_context.wrap_bio(incoming, outgoing, server_hostname=HOSTNAME)
    with pytest.raises(ssl.SSLWantReadError):
        hello.do_handshake()
    async with listening(RecordingIntake(), **PROXIED, **server_certificate.settings("implicit")) as listener:
        client = await SmtpClient.to(listener, first=tcp4(OFFICE) + outgoing.read())
        while True:
            incoming.write(await client.reader.read(65536))
            try:
                hello.do_handshake()
                break
            except ssl.SSLWantReadError:
                continue
        assert hello.version() == "TLSv1.3"
        client.reset()


async def test_without_a_header_a_listener_with_tls_says_nothing_in_clear(
    server_certificate: ServerCertificate,
) -> None:
    tls = server_certificate.settings("implicit")
    async with listening(RecordingIntake(), **PROXIED, **tls) as listener:
        client = await SmtpClient.to(listener, first=b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00")
        assert await client.rest() == b""
        client.reset()


async def test_a_check_of_a_listener_with_tls_leaves_no_line_in_the_log(server_certificate: ServerCertificate) -> None:
    tls = server_certificate.settings("implicit")
    async with listening(RecordingIntake(), **PROXIED, **tls) as listener:
        with listener_log() as lines:
            for _ in range(2):
                client = await SmtpClient.to(listener, first=LOCAL)
                client.writer.write_eof()
                assert await client.closed()
                await client.close()
            await until(lambda: listener.connections == 0)
        assert [key for key, _ in lines if key != "client_disconnected"] == []
        assert listener._state.auth._turned_away.by_reason["tls_failed"] == 0  # type: ignore[index]


async def test_a_stop_does_not_wait_for_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_peers.ProxyPeers.__init__, "__defaults__", (1000.0,))
    async with listening(RecordingIntake(), **PROXIED) as listener:
        client = await SmtpClient.to(listener)
        await until(lambda: listener._acceptor is not None and len(listener._acceptor._waiting) == 1)
        await listener.stop(0)
        assert await client.closed()
        client.reset()


async def test_a_message_through_a_proxy_is_finished_before_a_stop() -> None:
    intake = RecordingIntake()
    async with listening(intake, grace=30, **PROXIED) as listener:
        client = await through(listener)
        intake.hold()
        for command in (b"MAIL FROM:<anna@firma.example>\r\n", b"RCPT TO:<bert@kunde.example>\r\n", b"DATA\r\n"):
            await client.ask(command)
        await client.send(MESSAGE + b".\r\n")
        await intake.until_started(1)
        stopping = asyncio.create_task(listener.stop(30))
        await asyncio.sleep(0)
        intake.release()
        assert (await client.answer()).code == 250
        await stopping
        await client.close()


def test_the_reason_has_its_place_among_the_counts() -> None:
    assert "proxy_header" in TurnedAwayClients().by_reason
