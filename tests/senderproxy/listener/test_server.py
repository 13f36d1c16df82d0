"""The client_auth: who gets in, TLS and logins, and how it closes."""

import asyncio
import contextlib
import json
import socket
import ssl
import threading
from base64 import b64encode
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from senderproxy.clock import SystemClock
from senderproxy.config.model import ClientSettings, ListenerSettings
from senderproxy.listener.body import SpillDirectory
from senderproxy.listener.client_auth import hash_password
from senderproxy.listener.connections import ListenerTimeouts
from senderproxy.listener.password_threads import DERIVATIONS, LOGINS_OF_HOST, PasswordThreads
from senderproxy.listener.server import Listener, ListenerError
from senderproxy.mail.address import parse_pattern
from tests.fakes.recording_intake import RecordingIntake
from tests.senderproxy.listener.conftest import ServerCertificate
from tests.senderproxy.listener.smtp_client import (
    HOSTNAME,
    MESSAGE,
    NO_DELAY,
    TIMEOUTS,
    SmtpClient,
    listening,
    settings,
    until,
)

SECRET = "geheim-scanner"
SCANNER = ClientSettings(
    user="scanner", password=hash_password(SECRET), senders=(parse_pattern("scanner@firma.example"),)
)
MAIL, RCPT = b"MAIL FROM:<anna@firma.example>\r\n", b"RCPT TO:<bert@kunde.example>\r\n"


def plain(user: str = "scanner", password: str = SECRET) -> bytes:
    return b"AUTH PLAIN " + b64encode(f"\0{user}\0{password}".encode()) + b"\r\n"


def unstarted(*clients: ClientSettings, **changed: Any) -> Listener:
    return Listener(settings(**changed), clients, HOSTNAME, RecordingIntake(), SystemClock())


# Start


@pytest.mark.parametrize("allow", [["0.0.0.0/0"], ["::/0"], ["0.0.0.0/1", "128.0.0.0/1"]])
@pytest.mark.parametrize("auth", ["off", "optional"])
async def test_an_open_relay_does_not_start(allow: list[str], auth: str) -> None:
    listener = unstarted(SCANNER, address="0.0.0.0:0", allow=allow, auth=auth)
    with pytest.raises(ListenerError, match="open relay") as error:
        await listener.start()
    assert error.value.hint


async def test_an_inherited_socket_is_checked_by_its_bound_address() -> None:
    sock = socket.create_server(("0.0.0.0", 0))
    with pytest.raises(ListenerError, match="open relay"):
        await unstarted(allow=["0.0.0.0/0"]).start(sock)
    assert sock.fileno() == -1


async def test_a_listener_for_all_networks_starts_where_a_login_is_required() -> None:
    async with listening(
        RecordingIntake(), SCANNER, address="0.0.0.0:0", allow=["0.0.0.0/0"], auth="required"
    ) as listener:
        client = await SmtpClient.greeted(listener)
        assert (await client.mail()).code == 530
        await client.close()


async def test_replies_do_not_wait_for_the_tcp_acknowledgement() -> None:
    async with listening(RecordingIntake()) as listener:
        client = await SmtpClient.greeted(listener)
        [connection] = listener._state.all_connections()
        accepted = connection._stream.transport.get_extra_info("socket")  # type: ignore[attr-defined]
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        await client.close()


async def test_a_port_in_use_is_an_error_with_a_hint() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenerError, match=f"127.0.0.1:{port}") as error:
            await unstarted(address=f"127.0.0.1:{port}").start()
        assert f"sport = :{port}" in error.value.hint


async def test_an_address_of_another_machine_is_an_error_with_a_hint() -> None:
    with pytest.raises(ListenerError, match=r"192\.0\.2\.1") as error:
        await unstarted(address="192.0.2.1:2525", allow=["192.0.2.0/24"]).start()
    assert "ip address" in error.value.hint


async def test_an_unusable_certificate_is_an_error_with_a_hint(
    server_certificate: ServerCertificate, tmp_path: Path
) -> None:
    other = tmp_path / "other.pem"
    other.write_text("nothing of use")
    for certificate, key in (
        (str(other), server_certificate.key),
        (server_certificate.certificate, str(other)),
        ("/nowhere/c.pem", server_certificate.key),
    ):
        with pytest.raises(ListenerError, match="cannot be used") as error:
            await unstarted(tls="starttls", certificate=certificate, key=key).start()
        assert "PEM" in error.value.hint


async def test_it_listens_on_ipv6() -> None:
    async with listening(RecordingIntake(), address="[::1]:0") as listener:
        assert listener.address == f"[::1]:{listener.port}"
        reader, writer = await asyncio.open_connection("::1", listener.port)
        client = SmtpClient(reader, writer)
        assert (await client.answer()).code == 220
        assert (await client.ask(b"EHLO x\r\n")).code == 250
        assert (await client.mail()).code == 250
        await client.close()


async def test_a_second_listener_takes_over_the_socket_and_no_client_is_refused() -> None:
    first_intake, second_intake = RecordingIntake(), RecordingIntake()
    async with listening(first_intake) as first:
        old = await SmtpClient.greeted(first)
        second = Listener(first.settings, (), HOSTNAME, second_intake, SystemClock(), timeouts=TIMEOUTS)
        await second.start(first.share_socket())
        assert second.port == first.port
        stopping = asyncio.ensure_future(first.stop(5))
        assert (await old.answer()).code == 421
        await stopping
        client = await SmtpClient.greeted(second)
        assert (await client.mail()).code == 250
        await client.close()
        await old.close()
        await second.stop(0)
    assert len(second_intake.taken) == 1


# Admission


async def test_a_host_outside_the_networks_gets_only_a_refusal() -> None:
    async with listening(RecordingIntake(), allow=["192.0.2.0/24"]) as listener:
        client = await SmtpClient.to(listener)
        answer = await client.answer()
        assert (answer.code, answer.status) == (554, "5.7.1")
        assert "127.0.0.1" in answer.text
        assert await client.closed()
        await client.close()


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"max_connections": 3}, "Too many connections;"),
        ({"max_connections_per_client": 3}, "connections from 127.0.0.1"),
    ],
)
async def test_a_connection_over_the_limit_is_deferred_while_all_others_are_in_a_transaction(
    limits: dict[str, Any], words: str
) -> None:
    async with listening(RecordingIntake(), **limits) as listener:
        connected = [await SmtpClient.greeted(listener) for _ in range(3)]
        for client in connected:
            assert (await client.ask(MAIL)).code == 250
        extra = await SmtpClient.to(listener)
        answer = await extra.answer()
        assert (answer.code, answer.status) == (421, "4.7.0")
        assert words in answer.text
        assert await extra.closed()
        assert listener.connections == 3
        await connected.pop().close()
        await until(lambda: listener.connections < 3)
        connected.append(await SmtpClient.greeted(listener))
        for client in [*connected, extra]:
            await client.close()


async def test_the_intake_gets_the_senders_of_the_network() -> None:
    intake = RecordingIntake()
    network = ClientSettings(networks=(ip_network("127.0.0.0/8"),), senders=(parse_pattern("@firma.example"),))
    async with listening(intake, network) as listener:
        client = await SmtpClient.greeted(listener)
        assert (await client.mail(author=b"root@server.local")).code == 250, "the relay decides on the sender"
        await client.close()
    assert [str(pattern) for pattern in intake.taken[0].client.senders or ()] == ["@firma.example"]


# TLS


async def test_a_message_after_starttls(server_certificate: ServerCertificate) -> None:
    intake = RecordingIntake()
    async with listening(intake, **server_certificate.settings("starttls")) as listener:
        client = await SmtpClient.greeted(listener)
        assert "STARTTLS" in (await client.ask(b"EHLO x\r\n")).texts
        await client.secure(server_certificate.client_context)
        assert "STARTTLS" not in (await client.ask(b"EHLO x\r\n")).texts
        assert (await client.mail()).code == 250
        assert (await client.ask(b"QUIT\r\n")).code == 221
        await client.close()
    assert intake.taken[0].client.protocol == "ESMTPS"


async def test_implicit_tls(server_certificate: ServerCertificate) -> None:
    intake = RecordingIntake()
    async with listening(intake, SCANNER, auth="optional", **server_certificate.settings("implicit")) as listener:
        client = await SmtpClient.greeted(listener, context=server_certificate.client_context)
        offer = await client.ask(b"EHLO x\r\n")
        assert "AUTH PLAIN LOGIN" in offer.texts
        assert "STARTTLS" not in offer.texts
        assert (await client.ask(plain())).code == 235
        assert (await client.mail(author=b"scanner@firma.example")).code == 250
        await client.close()
        refused = await SmtpClient.to(listener)
        await refused.send(b"EHLO x\r\n")
        with pytest.raises((EOFError, ConnectionError, AssertionError)):
            await refused.answer()
        await refused.close()
    assert intake.taken[0].client.protocol == "ESMTPSA"
    assert intake.taken[0].client.user == "scanner"


async def test_a_host_outside_the_networks_is_refused_over_tls(server_certificate: ServerCertificate) -> None:
    async with listening(
        RecordingIntake(), allow=["192.0.2.0/24"], **server_certificate.settings("implicit")
    ) as listener:
        client = await SmtpClient.to(listener, context=server_certificate.client_context)
        assert (await client.answer()).code == 554
        await client.close()


async def test_a_large_message_over_tls(server_certificate: ServerCertificate) -> None:
    intake = RecordingIntake()
    message = MESSAGE + (b"x" * 76 + b"\r\n") * 50_000
    async with listening(intake, **server_certificate.settings("starttls")) as listener:
        client = await SmtpClient.greeted(listener)
        await client.secure(server_certificate.client_context)
        assert (await client.mail(message)).code == 250
        await client.close()
    assert intake.taken[0].wire == message


@pytest.mark.parametrize("injected", [b"NOOP\r\n", b"EHLO evil\r\n" + MAIL + RCPT, b"N"])
async def test_input_in_clear_after_starttls_ends_the_connection(
    injected: bytes, server_certificate: ServerCertificate
) -> None:
    async with listening(RecordingIntake(), **server_certificate.settings("starttls")) as listener:
        client = await SmtpClient.greeted(listener)
        answer = await client.ask(b"STARTTLS\r\n" + injected)
        assert (answer.code, answer.status) == (503, "5.5.1")
        assert await client.closed()
        await client.close()


async def test_commands_in_clear_after_the_220_end_the_connection(
    server_certificate: ServerCertificate,
) -> None:
    intake = RecordingIntake()
    async with listening(intake, **server_certificate.settings("starttls")) as listener:
        client = await SmtpClient.greeted(listener)
        assert (await client.ask(b"STARTTLS\r\n")).code == 220
        await client.send(MAIL + RCPT + b"DATA\r\n" + MESSAGE + b".\r\n")
        rest = b""
        try:
            while piece := await client.reader.read(1000):
                rest += piece
        except ConnectionError:
            pass
        assert b"250" not in rest
        await client.close()
    assert intake.started == 0


async def test_the_ehlo_in_clear_is_discarded_after_starttls(server_certificate: ServerCertificate) -> None:
    async with listening(RecordingIntake(), **server_certificate.settings("starttls")) as listener:
        client = await SmtpClient.greeted(listener)
        assert (await client.ask(MAIL)).code == 250
        assert (await client.ask(b"STARTTLS\r\n")).code == 220
        await client.writer.start_tls(server_certificate.client_context, server_hostname=HOSTNAME)
        assert (await client.ask(RCPT)).code == 503
        assert (await client.ask(MAIL)).code == 503
        await client.close()


def old_client(least: ssl.TLSVersion, most: ssl.TLSVersion) -> ssl.SSLContext:
    """The TLS context of a device with old versions only."""
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        old.minimum_version, old.maximum_version = least, most
    return old


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1], ids=["1.0", "1.1"])
async def test_old_tls_is_accepted_where_it_is_configured(
    version: ssl.TLSVersion, server_certificate: ServerCertificate
) -> None:
    if not (ssl.HAS_TLSv1 and ssl.HAS_TLSv1_1):
        pytest.skip("this OpenSSL cannot speak old TLS")
    intake, old = RecordingIntake(), old_client(version, version)
    async with (
        listening(intake, old_tls=True, **server_certificate.settings("starttls")) as asks,
        listening(intake, name="office", **server_certificate.settings("starttls")) as does_not,
    ):
        client = await SmtpClient.greeted(asks)
        await client.secure(old)
        assert client.writer.get_extra_info("ssl_object").version() in {"TLSv1", "TLSv1.1"}
        assert (await client.mail()).code == 250
        await client.close()
        client = await SmtpClient.greeted(does_not)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await client.secure(old)
        await client.close()
        modern = await SmtpClient.greeted(asks)
        await modern.secure(server_certificate.client_context)
        assert modern.writer.get_extra_info("ssl_object").version() == "TLSv1.3"
        await modern.close()
    assert len(intake.taken) == 1


async def test_old_tls_is_refused_elsewhere(
    server_certificate: ServerCertificate, caplog: pytest.LogCaptureFixture
) -> None:
    old = old_client(ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1)
    async with listening(RecordingIntake(), **server_certificate.settings("implicit")) as listener:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await SmtpClient.to(listener, context=old)
        await until(lambda: not listener.connections)
    [fields] = [
        vars(record)["senderproxy_fields"]
        for record in caplog.records
        if getattr(record, "senderproxy_event", "") == "client_tls_failed"
    ]
    assert fields["why"] == "the client offers TLS 1.1 or older only"
    assert "old_tls = true" in fields["hint"]


async def test_an_endless_handshake_is_aborted(server_certificate: ServerCertificate) -> None:
    timeouts = ListenerTimeouts(idle=30, before_mail=30, block=30, handshake=0.3, linger=0.1)
    async with listening(RecordingIntake(), timeouts=timeouts, **server_certificate.settings("starttls")) as listener:
        client = await SmtpClient.greeted(listener)
        assert (await client.ask(b"STARTTLS\r\n")).code == 220
        assert await client.closed()
        await client.close()
        await until(lambda: not listener.connections)


async def test_a_client_that_leaves_during_the_handshake_leaves_nothing_behind(
    server_certificate: ServerCertificate,
) -> None:
    async with listening(RecordingIntake(), **server_certificate.settings("implicit")) as listener:
        for end in (SmtpClient.reset, lambda client: client.writer.close()):
            client = await SmtpClient.to(listener)
            await client.send(b"\x16\x03\x01")
            end(client)
        await until(lambda: not listener.connections)
        client = await SmtpClient.greeted(listener, context=server_certificate.client_context)
        await client.close()


# Devices


async def test_malformed_commands_of_a_scanner_are_accepted_by_a_lenient_listener() -> None:
    intake = RecordingIntake()
    async with listening(intake, lenient=True, sender="scanner@firma.example") as listener:
        client = await SmtpClient.to(listener)
        await client.answer()
        assert (await client.ask(b"HELO\r\n")).code == 250
        assert (await client.ask(b"MAIL FROM : MFP-3 <scanner>\r\n")).code == 250
        no_address = await client.ask(b"RCPT TO: bert\r\n")
        assert (no_address.code, no_address.status) == (501, "5.1.3")
        assert "address book of the device" in no_address.text
        assert (await client.ask(b"RCPT TO: bert@kunde.example \r\n")).code == 250
        assert (await client.ask(b"DATA\r\n")).code == 354
        assert (await client.ask(b"Subject: Scan\r\n\r\n1\r\n.\r\n")).code == 250
        await client.close()
    [taken] = intake.taken
    assert str(taken.envelope.reverse_path) == "scanner@firma.example"
    assert taken.client.lenient
    assert str(taken.client.forced_sender) == "scanner@firma.example"


async def test_the_forced_sender_holds_after_a_login(
    server_certificate: ServerCertificate,
) -> None:
    intake, short = RecordingIntake(), "geheim-7"
    device = ClientSettings(user="mfp", password=hash_password(short))
    lenient: dict[str, Any] = {"lenient": True, "sender": "scanner@firma.example", "auth": "required", "old_tls": True}
    async with listening(intake, device, **lenient, **server_certificate.settings("starttls")) as listener:
        client = await SmtpClient.greeted(listener)
        await client.secure(server_certificate.client_context)
        assert (await client.ask(b"AUTH LOGIN " + b64encode(b"mfp") + b"\r\n")).texts == ["UGFzc3dvcmQ6"]
        assert (await client.ask(b64encode(short.encode()) + b"\r\n")).code == 235
        assert (await client.mail()).code == 250
        await client.close()
    [taken] = intake.taken
    assert (taken.client.user, taken.client.lenient) == ("mfp", True)
    assert str(taken.client.forced_sender) == "scanner@firma.example"


async def test_another_listener_stays_strict() -> None:
    async with listening(RecordingIntake()) as listener:
        client = await SmtpClient.to(listener)
        await client.answer()
        assert (await client.ask(MAIL)).code == 503
        assert (await client.ask(b"HELO\r\n")).code == 501
        assert (await client.ask(b"HELO mfp\r\n")).code == 250
        assert (await client.ask(b"MAIL FROM:scan@firma.example\r\n")).code == 501
        await client.close()


# Logins


@pytest.mark.parametrize("verb", [b"AUTH PLAIN", b"auth plain", b"Auth Plain"])
async def test_the_intake_gets_the_user_that_logged_in(verb: bytes) -> None:
    intake = RecordingIntake()
    async with listening(intake, SCANNER, auth="required") as listener:
        client = await SmtpClient.greeted(listener)
        assert (await client.mail()).code == 530
        assert (await client.ask(plain().replace(b"AUTH PLAIN", verb))).code == 235
        assert (await client.ask(plain())).code == 503
        assert (await client.mail(author=b"scanner@firma.example")).code == 250
        await client.close()
    assert intake.taken[0].client.user == "scanner"
    assert [str(pattern) for pattern in intake.taken[0].client.senders or ()] == ["scanner@firma.example"]
    assert intake.taken[0].client.protocol == "ESMTPA"


async def test_a_user_logs_in_step_by_step() -> None:
    async with listening(RecordingIntake(), SCANNER, auth="required") as listener:
        client = await SmtpClient.greeted(listener)
        assert (await client.ask(b"AUTH LOGIN\r\n")).texts == ["VXNlcm5hbWU6"]
        assert (await client.ask(b64encode(b"scanner") + b"\r\n")).texts == ["UGFzc3dvcmQ6"]
        assert (await client.ask(b64encode(SECRET.encode()) + b"\r\n")).code == 235
        await client.close()
        client = await SmtpClient.greeted(listener)
        await client.send(b"AUTH PLAIN\r\n")
        assert await client.reader.readline() == b"334 \r\n"
        assert (await client.ask(b"*\r\n")).code == 501
        assert (await client.ask(b"AUTH LOGIN %%%\r\n")).code == 501
        assert (await client.ask(b"NOOP\r\n")).code == 250
        await client.close()


async def test_the_third_failed_login_ends_the_connection() -> None:
    async with listening(RecordingIntake(), SCANNER, auth="required") as listener:
        client = await SmtpClient.greeted(listener)
        words = set()
        for user, password in (("scanner", "geheim-falsch"), ("nobody", SECRET)):
            answer = await client.ask(plain(user, password))
            assert (answer.code, answer.status) == (535, "5.7.8")
            words.add(answer.text)
        assert len(words) == 1
        assert (await client.ask(plain("scanner", "geheim-falsch"))).code == 421
        assert await client.closed()
        await client.close()


async def test_after_five_failed_logins_the_right_password_is_locked_on_any_connection() -> None:
    async with listening(RecordingIntake(), SCANNER, auth="required") as listener:
        for attempts in (2, 2, 1):
            client = await SmtpClient.greeted(listener)
            for _ in range(attempts):
                assert (await client.ask(plain("scanner", "geheim-falsch"))).code == 535
            await client.close()
        client = await SmtpClient.greeted(listener)
        answer = await client.ask(plain())
        assert (answer.code, answer.status) == (454, "4.7.0")
        await client.close()


async def test_mail_passes_while_all_places_for_logins_are_taken() -> None:
    passwords, release = PasswordThreads(), threading.Event()
    busy = [asyncio.ensure_future(passwords.derive(lambda: release.wait(30))) for _ in range(DERIVATIONS)]
    async with listening(RecordingIntake(), SCANNER, auth="optional", passwords=passwords) as listener:
        guessing = [await SmtpClient.greeted(listener) for _ in range(LOGINS_OF_HOST)]
        for number, client in enumerate(guessing):
            await client.send(plain(password=f"geheim-{number}"))
        sender = await SmtpClient.greeted(listener)
        assert (await sender.mail()).code == 250
        answer = await sender.ask(plain())
        assert (answer.code, answer.status) == (454, "4.7.0")
        assert (await sender.mail()).code == 250
        release.set()
        codes = {(await client.answer()).code for client in guessing}
        assert codes == {535, 454}, "the first ones are wrong, the others locked"
        for client in (sender, *guessing):
            await client.close()
    await asyncio.gather(*busy)


async def test_a_host_that_logged_in_is_not_locked_by_wrong_passwords_of_another() -> None:
    async with listening(RecordingIntake(), SCANNER, auth="required") as listener:
        scanner = await SmtpClient.greeted(listener)
        assert (await scanner.ask(plain())).code == 235
        await scanner.close()
        for attempts in (2, 2, 1):
            attacker = await SmtpClient.greeted(listener, host="127.0.0.66")
            for _ in range(attempts):
                assert (await attacker.ask(plain("scanner", "geheim-falsch"))).code == 535
            await attacker.close()
        for host, code in (("127.0.0.66", 454), ("127.0.0.67", 454), ("127.0.0.1", 235)):
            client = await SmtpClient.greeted(listener, host=host)
            assert (await client.ask(plain())).code == code
            await client.close()


async def test_an_auth_line_may_have_12288_octets() -> None:
    async with listening(RecordingIntake(), SCANNER, auth="required") as listener:
        client = await SmtpClient.greeted(listener)
        fits = plain("scanner", "geheim-" + "x" * 9000)
        assert 12_000 < len(fits) < 12_288
        assert (await client.ask(fits)).code == 535
        await client.send(b"AUTH LOGIN\r\n")
        await client.answer()
        answer = await client.ask(b"A" * 13_000 + b"\r\n")
        assert (answer.code, answer.status) == (500, "5.5.6")
        await client.close()


async def test_auth_without_tls_is_offered_to_this_machine_only(server_certificate: ServerCertificate) -> None:
    # A client on another machine: its address is what the listener goes by.
    from senderproxy.wire.dialogue import Dialogue

    async with listening(
        RecordingIntake(), SCANNER, auth="required", **server_certificate.settings("starttls")
    ) as listener:
        state = listener._state
        state.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        admission = state.auth.admit("127.0.0.1")
        remote = Dialogue(state.offer("192.0.2.7", admission), "192.0.2.7")  # type: ignore[arg-type]
        local = Dialogue(state.offer("127.0.0.1", admission), "127.0.0.1")  # type: ignore[arg-type]
        assert not remote.can_log_in
        assert local.can_log_in


# Stop


async def test_a_client_that_connects_during_the_stop_gets_a_reply_or_is_refused() -> None:
    for turns in range(8):
        async with listening(RecordingIntake()) as listener:
            client = await SmtpClient.to(listener)
            for _ in range(turns):
                await asyncio.sleep(0)
            stopping = asyncio.ensure_future(listener.stop(5))
            try:
                codes = [(await client.answer()).code]
                if codes == [220]:
                    codes.append((await client.answer()).code)
                assert codes[-1] == 421
            except ConnectionError:
                pass  # it was still in the kernel's queue: refused, not left waiting
            await stopping
            await client.close()


async def test_idle_clients_get_a_421_and_the_stop_is_immediate() -> None:
    async with listening(RecordingIntake()) as listener:
        idle = [await SmtpClient.greeted(listener) for _ in range(5)]
        silent = await SmtpClient.to(listener)
        await silent.answer()
        stopping = asyncio.ensure_future(listener.stop(1000))
        for client in [*idle, silent]:
            answer = await client.answer()
            assert (answer.code, answer.status) == (421, "4.3.2")
            assert await client.closed()
            await client.close()
        await stopping
        with pytest.raises(ConnectionError):
            await SmtpClient.to(listener)


async def test_a_message_with_the_intake_gets_its_reply_before_the_stop() -> None:
    intake = RecordingIntake()
    intake.hold()
    async with listening(intake) as listener:
        client = await SmtpClient.greeted(listener)
        answer = asyncio.ensure_future(client.mail())
        await intake.until_started(1)
        stopping = asyncio.ensure_future(listener.stop(30))
        await asyncio.sleep(0)
        assert not stopping.done()
        intake.release()
        assert (await answer).code == 250
        assert (await client.answer()).code == 421
        await stopping
        await client.close()
    assert intake.cut_off == 0


async def test_a_message_being_received_is_accepted_before_the_stop() -> None:
    intake = RecordingIntake()
    async with listening(intake) as listener:
        client = await SmtpClient.greeted(listener)
        await client.send(MAIL + RCPT + b"DATA\r\n")
        await client.answers(3)
        stopping = asyncio.ensure_future(listener.stop(30))
        await asyncio.sleep(0)
        assert (await client.ask(MESSAGE + b".\r\n")).code == 250
        assert (await client.answer()).code == 421
        await stopping
        await client.close()
    assert len(intake.taken) == 1


async def test_an_open_transaction_is_finished_during_the_stop_and_the_next_is_refused() -> None:
    intake = RecordingIntake()
    async with listening(intake) as listener:
        client = await SmtpClient.greeted(listener)
        assert (await client.ask(MAIL)).code == 250
        stopping = asyncio.ensure_future(listener.stop(30))
        await asyncio.sleep(0)
        assert (await client.ask(RCPT)).code == 250
        assert (await client.ask(b"DATA\r\n")).code == 354
        await client.send(MESSAGE + b".\r\n" + MAIL + RCPT)
        assert [answer.code for answer in await client.answers(2)] == [250, 421]
        await stopping
        await client.close()


async def test_at_the_end_of_the_grace_time_all_clients_get_a_421() -> None:
    intake = RecordingIntake()
    intake.hold()
    async with listening(intake) as listener:
        with_upstream = await SmtpClient.greeted(listener)
        coming_in = await SmtpClient.greeted(listener)
        begun = await SmtpClient.greeted(listener)
        answer = asyncio.ensure_future(with_upstream.mail())
        await intake.until_started(1)
        await coming_in.send(MAIL + RCPT + b"DATA\r\n")
        await coming_in.answers(3)
        await begun.ask(MAIL)
        await listener.stop(0.1)
        assert (await answer).code == 421
        assert (await coming_in.answer()).code == 421
        assert (await begun.answer()).code == 421
        for client in (with_upstream, coming_in, begun):
            assert await client.closed()
            await client.close()
    assert intake.cut_off == 1
    assert listener.connections == 0


@pytest.mark.slow
async def test_an_intake_that_ignores_cancellation_does_not_block_the_stop() -> None:
    class Stubborn(RecordingIntake):
        has_given_in = False

        async def accept(self, submission: Any) -> Any:
            self.started += 1
            await self._notify()
            end = asyncio.get_running_loop().time() + 100
            while asyncio.get_running_loop().time() < end and not self._open.is_set():
                try:
                    await asyncio.wait_for(self._open.wait(), 100)
                except asyncio.CancelledError:
                    self.cut_off += 1
            self.has_given_in = True
            return await super().accept(submission)

    intake = Stubborn()
    intake.hold()
    async with listening(intake) as listener:
        client = await SmtpClient.greeted(listener)
        answer = asyncio.ensure_future(client.mail())
        await intake.until_started(1)
        await listener.stop(0.1)
        assert not intake.has_given_in
        assert (await answer).code == 421
        intake.release()
        await client.close()
        await until(lambda: not listener.status()["under_way"])


async def test_a_client_that_does_not_read_its_421_does_not_block_the_stop() -> None:
    async with listening(
        RecordingIntake(), timeouts=ListenerTimeouts(idle=1000, before_mail=1000, block=1000, linger=1000)
    ) as listener:
        client = await SmtpClient.greeted(listener)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await listener.stop(0.1)
        assert listener.connections == 0
        await client.close()


async def test_a_client_in_its_handshake_does_not_block_the_stop(
    server_certificate: ServerCertificate,
) -> None:
    timeouts = replace(TIMEOUTS, handshake=1000)
    async with listening(RecordingIntake(), timeouts=timeouts, **server_certificate.settings("implicit")) as listener:
        client = await SmtpClient.to(listener)
        await client.send(b"\x16\x03\x01")
        await until(lambda: listener.connections == 1)
        await listener.stop(0)
        assert listener.connections == 0
        assert await client.closed(), "no reply in clear on a connection with implicit TLS"
        await client.close()


async def test_a_stop_sends_421_over_tls(server_certificate: ServerCertificate) -> None:
    async with listening(RecordingIntake(), **server_certificate.settings("implicit")) as listener:
        client = await SmtpClient.greeted(listener, context=server_certificate.client_context)
        stopping = asyncio.ensure_future(listener.stop(5))
        assert (await client.answer()).code == 421
        assert await client.closed()
        await client.close()
        await stopping


async def test_temporary_files_and_their_directory_are_gone_after_the_stop(tmp_path: Path) -> None:
    intake = RecordingIntake()
    listener = Listener(
        settings(spill_bytes=1000),
        (),
        HOSTNAME,
        intake,
        SystemClock(),
        timeouts=TIMEOUTS,
        spill=SpillDirectory(tmp_path),
    )
    await listener.start()
    client = await SmtpClient.greeted(listener)
    message = MESSAGE + b"x" * 900 + b"\r\n" * 1000
    assert (await client.mail(message)).code == 250
    assert [list(path.iterdir()) for path in tmp_path.iterdir()] == [[]]
    await client.close()
    await listener.stop(0)
    assert list(tmp_path.iterdir()) == []
    assert intake.taken[0].wire == message


async def test_a_full_disk_is_a_452_and_the_next_message_is_accepted() -> None:
    from tests.senderproxy.listener.test_body import FullDisk

    intake = RecordingIntake()
    listener = Listener(
        settings(spill_bytes=1000), (), HOSTNAME, intake, SystemClock(), timeouts=TIMEOUTS, spill=FullDisk()
    )
    await listener.start()
    client = await SmtpClient.greeted(listener)
    answer = await client.mail(MESSAGE + (b"x" * 900 + b"\r\n") * 1000)
    assert (answer.code, answer.status) == (452, "4.3.1")
    assert (await client.mail()).code == 250
    await client.close()
    await listener.stop(0)
    assert [taken.wire for taken in intake.taken] == [MESSAGE]


async def test_status_counts_messages_and_is_valid_json() -> None:
    async with listening(RecordingIntake()) as listener:
        client = await SmtpClient.greeted(listener)
        await client.mail()
        await client.mail(b"bare \r return\r\n")
        status = listener.status()
        assert json.loads(json.dumps(status)) == {
            "name": "office",
            "address": f"127.0.0.1:{listener.port}",
            "connected": 1,
            "under_way": 0,
            "connections": 1,
            "turned_away": 0,
            "evicted": 0,
            "accepted": 1,
            "deferred": 0,
            "refused": 1,
            "faults": 0,
        }
        await client.close()


def test_the_timeouts_of_a_listener_follow_its_settings() -> None:
    timeouts = ListenerTimeouts.of(ListenerSettings(idle_seconds=660))
    assert (timeouts.idle, timeouts.block) == (660, 180)
    assert NO_DELAY.failures == 5


@pytest.mark.parametrize(
    ("what", "sent"),
    [
        ("senderproxy.listener.relay_smtp.ClientStream.attach", b""),
        ("senderproxy.listener.relay_smtp.Dialogue.greet", b""),
        ("aiosmtpd.smtp.SMTP._create_session", b"HELO before the greeting\r\n"),
    ],
    ids=["connection", "greeting", "conversation"],
)
async def test_a_connection_for_which_there_is_no_memory_is_closed_and_not_counted(
    monkeypatch: pytest.MonkeyPatch, what: str, sent: bytes
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    async with listening(RecordingIntake()) as listener:
        unhandled: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
        with monkeypatch.context() as patch:
            patch.setattr(what, fail)
            sock = socket.create_connection(("127.0.0.1", listener.port))
            sock.sendall(sent)
            reader, writer = await asyncio.open_connection(sock=sock)
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()
        assert [type(context["exception"]) for context in unhandled] == [MemoryError]
        assert listener.connections == 0
        client = await SmtpClient.greeted(listener)
        await client.close()
