"""The door: who gets in, TLS and logins, and how it closes."""

import asyncio
import json
import socket
import ssl
from base64 import b64encode
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from senderproxy.clock import SystemClock
from senderproxy.config.model import ClientSettings, ListenerSettings
from senderproxy.listener.body import SpillDirectory
from senderproxy.listener.client_auth import hash_password
from senderproxy.listener.connections import ListenerTimeouts
from senderproxy.listener.server import Listener, ListenerError
from senderproxy.mail.address import parse_pattern
from tests.fakes.recording_intake import RecordingIntake
from tests.senderproxy.listener.conftest import Papers
from tests.senderproxy.listener.talk import HOSTNAME, LETTER, NO_DELAY, PATIENCE, Talk, listening, settings, until

SECRET = "geheim-scanner"
SCANNER = ClientSettings(
    user="scanner", password=hash_password(SECRET), senders=(parse_pattern("scanner@firma.example"),)
)
MAIL, RCPT = b"MAIL FROM:<anna@firma.example>\r\n", b"RCPT TO:<bert@kunde.example>\r\n"


def plain(user: str = "scanner", password: str = SECRET) -> bytes:
    return b"AUTH PLAIN " + b64encode(f"\0{user}\0{password}".encode()) + b"\r\n"


def door(*clients: ClientSettings, **changed: Any) -> Listener:
    return Listener(settings(**changed), clients, HOSTNAME, RecordingIntake(), SystemClock())


# Opening


@pytest.mark.parametrize("allow", [["0.0.0.0/0"], ["::/0"], ["0.0.0.0/1", "128.0.0.0/1"]])
@pytest.mark.parametrize("auth", ["off", "optional"])
async def test_it_does_not_open_as_an_open_relay(allow: list[str], auth: str) -> None:
    listener = door(SCANNER, address="0.0.0.0:0", allow=allow, auth=auth)
    with pytest.raises(ListenerError, match="open relay") as error:
        await listener.start()
    assert error.value.hint


async def test_a_socket_that_was_handed_over_is_judged_by_where_it_is_bound() -> None:
    sock = socket.create_server(("0.0.0.0", 0))
    with pytest.raises(ListenerError, match="open relay"):
        await door(allow=["0.0.0.0/0"]).start(sock)
    assert sock.fileno() == -1


async def test_a_door_for_the_whole_world_opens_where_everybody_must_log_in() -> None:
    async with listening(
        RecordingIntake(), SCANNER, address="0.0.0.0:0", allow=["0.0.0.0/0"], auth="required"
    ) as listener:
        talk = await Talk.greeted(listener)
        assert (await talk.mail()).code == 530
        await talk.close()


async def test_a_reply_never_waits_for_the_clients_acknowledgement() -> None:
    async with listening(RecordingIntake()) as listener:
        talk = await Talk.greeted(listener)
        [guest] = listener._house.guests
        accepted = guest._wire.get_extra_info("socket")  # type: ignore[attr-defined]
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        await talk.close()


async def test_a_port_that_is_taken_is_said_with_how_to_see_by_whom() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenerError, match=f"127.0.0.1:{port}") as error:
            await door(address=f"127.0.0.1:{port}").start()
        assert f"sport = :{port}" in error.value.hint


async def test_an_address_this_machine_does_not_have_is_said() -> None:
    with pytest.raises(ListenerError, match=r"192\.0\.2\.1") as error:
        await door(address="192.0.2.1:2525", allow=["192.0.2.0/24"]).start()
    assert "ip address" in error.value.hint


async def test_certificates_that_cannot_be_used_are_said(papers: Papers, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    other.write_text("nothing of use")
    for certificate, key in (
        (str(other), papers.key),
        (papers.certificate, str(other)),
        ("/nowhere/c.pem", papers.key),
    ):
        with pytest.raises(ListenerError, match="cannot be used") as error:
            await door(tls="starttls", certificate=certificate, key=key).start()
        assert "PEM" in error.value.hint


async def test_it_listens_on_ipv6() -> None:
    async with listening(RecordingIntake(), address="[::1]:0") as listener:
        assert listener.address == f"[::1]:{listener.port}"
        reader, writer = await asyncio.open_connection("::1", listener.port)
        talk = Talk(reader, writer)
        assert (await talk.answer()).code == 220
        assert (await talk.ask(b"EHLO x\r\n")).code == 250
        assert (await talk.mail()).code == 250
        await talk.close()


async def test_another_door_takes_over_the_place_and_no_client_finds_it_empty() -> None:
    first_intake, second_intake = RecordingIntake(), RecordingIntake()
    async with listening(first_intake) as first:
        old = await Talk.greeted(first)
        second = Listener(first.settings, (), HOSTNAME, second_intake, SystemClock(), patience=PATIENCE)
        await second.start(first.share_socket())
        assert second.port == first.port
        stopping = asyncio.ensure_future(first.stop(5))
        assert (await old.answer()).code == 421
        await stopping
        talk = await Talk.greeted(second)
        assert (await talk.mail()).code == 250
        await talk.close()
        await old.close()
        await second.stop(0)
    assert len(second_intake.taken) == 1


# Who gets in


async def test_a_host_outside_the_networks_is_told_so_and_nothing_else() -> None:
    async with listening(RecordingIntake(), allow=["192.0.2.0/24"]) as listener:
        talk = await Talk.to(listener)
        answer = await talk.answer()
        assert (answer.code, answer.status) == (554, "5.7.1")
        assert "127.0.0.1" in answer.text
        assert await talk.closed()
        await talk.close()


@pytest.mark.parametrize(
    ("limits", "words"),
    [({"max_connections": 3}, "Too many connections;"), ({"max_connections_per_client": 3}, "from you")],
)
async def test_one_connection_too_many_is_told_to_come_later(limits: dict[str, Any], words: str) -> None:
    async with listening(RecordingIntake(), **limits) as listener:
        talks = [await Talk.greeted(listener) for _ in range(3)]
        extra = await Talk.to(listener)
        answer = await extra.answer()
        assert (answer.code, answer.status) == (421, "4.7.0")
        assert words in answer.text
        assert await extra.closed()
        assert listener.connections == 3
        await talks.pop().close()
        await until(lambda: listener.connections < 3)
        talks.append(await Talk.greeted(listener))
        for talk in [*talks, extra]:
            await talk.close()


async def test_whoever_decides_is_told_which_senders_a_network_may_use() -> None:
    intake = RecordingIntake()
    client = ClientSettings(networks=(ip_network("127.0.0.0/8"),), senders=(parse_pattern("@firma.example"),))
    async with listening(intake, client) as listener:
        talk = await Talk.greeted(listener)
        assert (await talk.mail(author=b"root@server.local")).code == 250, "what stands for it is not known yet"
        await talk.close()
    assert [str(pattern) for pattern in intake.taken[0].client.senders or ()] == ["@firma.example"]


# TLS


async def test_starttls_and_a_letter_over_it(papers: Papers) -> None:
    intake = RecordingIntake()
    async with listening(intake, **papers.settings("starttls")) as listener:
        talk = await Talk.greeted(listener)
        assert "STARTTLS" in (await talk.ask(b"EHLO x\r\n")).texts
        await talk.secure(papers.client)
        assert "STARTTLS" not in (await talk.ask(b"EHLO x\r\n")).texts
        assert (await talk.mail()).code == 250
        assert (await talk.ask(b"QUIT\r\n")).code == 221
        await talk.close()
    assert intake.taken[0].client.protocol == "ESMTPS"


async def test_tls_from_the_first_octet_on(papers: Papers) -> None:
    intake = RecordingIntake()
    async with listening(intake, SCANNER, auth="optional", **papers.settings("implicit")) as listener:
        talk = await Talk.greeted(listener, context=papers.client)
        offer = await talk.ask(b"EHLO x\r\n")
        assert "AUTH PLAIN LOGIN" in offer.texts
        assert "STARTTLS" not in offer.texts
        assert (await talk.ask(plain())).code == 235
        assert (await talk.mail(author=b"scanner@firma.example")).code == 250
        await talk.close()
        refused = await Talk.to(listener)
        await refused.send(b"EHLO x\r\n")
        with pytest.raises((EOFError, ConnectionError, AssertionError)):
            await refused.answer()
        await refused.close()
    assert intake.taken[0].client.protocol == "ESMTPSA"
    assert intake.taken[0].client.user == "scanner"


async def test_a_host_outside_the_networks_is_told_so_over_tls(papers: Papers) -> None:
    async with listening(RecordingIntake(), allow=["192.0.2.0/24"], **papers.settings("implicit")) as listener:
        talk = await Talk.to(listener, context=papers.client)
        assert (await talk.answer()).code == 554
        await talk.close()


async def test_a_large_letter_over_tls(papers: Papers) -> None:
    intake = RecordingIntake()
    letter = LETTER + (b"x" * 76 + b"\r\n") * 50_000
    async with listening(intake, **papers.settings("starttls")) as listener:
        talk = await Talk.greeted(listener)
        await talk.secure(papers.client)
        assert (await talk.mail(letter)).code == 250
        await talk.close()
    assert intake.taken[0].wire == letter


@pytest.mark.parametrize("injected", [b"NOOP\r\n", b"EHLO evil\r\n" + MAIL + RCPT, b"N"])
async def test_nothing_said_in_the_clear_behind_starttls_is_obeyed(injected: bytes, papers: Papers) -> None:
    async with listening(RecordingIntake(), **papers.settings("starttls")) as listener:
        talk = await Talk.greeted(listener)
        answer = await talk.ask(b"STARTTLS\r\n" + injected)
        assert (answer.code, answer.status) == (503, "5.5.1")
        assert await talk.closed()
        await talk.close()


async def test_commands_in_the_clear_after_the_go_ahead_end_the_connection(papers: Papers) -> None:
    intake = RecordingIntake()
    async with listening(intake, **papers.settings("starttls")) as listener:
        talk = await Talk.greeted(listener)
        assert (await talk.ask(b"STARTTLS\r\n")).code == 220
        await talk.send(MAIL + RCPT + b"DATA\r\n" + LETTER + b".\r\n")
        rest = b""
        try:
            while piece := await talk.reader.read(1000):
                rest += piece
        except ConnectionError:
            pass
        assert b"250" not in rest
        await talk.close()
    assert intake.started == 0


async def test_who_was_greeted_in_the_clear_is_forgotten_after_starttls(papers: Papers) -> None:
    async with listening(RecordingIntake(), **papers.settings("starttls")) as listener:
        talk = await Talk.greeted(listener)
        assert (await talk.ask(MAIL)).code == 250
        assert (await talk.ask(b"STARTTLS\r\n")).code == 220
        await talk.writer.start_tls(papers.client, server_hostname=HOSTNAME)
        assert (await talk.ask(RCPT)).code == 503
        assert (await talk.ask(MAIL)).code == 503
        await talk.close()


def old_client(least: ssl.TLSVersion, most: ssl.TLSVersion) -> ssl.SSLContext:
    """A device that knows no other TLS."""
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        old.minimum_version, old.maximum_version = least, most
    return old


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1], ids=["1.0", "1.1"])
async def test_old_tls_is_spoken_at_the_door_that_asks_for_it_and_at_no_other(
    version: ssl.TLSVersion, papers: Papers
) -> None:
    if not (ssl.HAS_TLSv1 and ssl.HAS_TLSv1_1):
        pytest.skip("this OpenSSL cannot speak old TLS")
    intake, old = RecordingIntake(), old_client(version, version)
    async with (
        listening(intake, old_tls=True, **papers.settings("starttls")) as asks,
        listening(intake, name="office", **papers.settings("starttls")) as does_not,
    ):
        talk = await Talk.greeted(asks)
        await talk.secure(old)
        assert talk.writer.get_extra_info("ssl_object").version() in {"TLSv1", "TLSv1.1"}
        assert (await talk.mail()).code == 250
        await talk.close()
        talk = await Talk.greeted(does_not)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await talk.secure(old)
        await talk.close()
        modern = await Talk.greeted(asks)
        await modern.secure(papers.client)
        assert modern.writer.get_extra_info("ssl_object").version() == "TLSv1.3"
        await modern.close()
    assert len(intake.taken) == 1


async def test_old_tls_is_not_spoken(papers: Papers, caplog: pytest.LogCaptureFixture) -> None:
    old = old_client(ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1)
    async with listening(RecordingIntake(), **papers.settings("implicit")) as listener:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await Talk.to(listener, context=old)
        await until(lambda: not listener.connections)
    [why] = [
        vars(record)["senderproxy_fields"]["why"]
        for record in caplog.records
        if getattr(record, "senderproxy_event", "") == "client_tls_failed"
    ]
    assert why == "UNSUPPORTED_PROTOCOL"


async def test_a_handshake_that_does_not_come_to_an_end_is_given_up(papers: Papers) -> None:
    patience = ListenerTimeouts(idle=30, block=30, handshake=0.3, linger=0.1)
    async with listening(RecordingIntake(), patience=patience, **papers.settings("starttls")) as listener:
        talk = await Talk.greeted(listener)
        assert (await talk.ask(b"STARTTLS\r\n")).code == 220
        assert await talk.closed()
        await talk.close()
        await until(lambda: not listener.connections)


async def test_a_client_that_leaves_in_the_middle_of_the_handshake_leaves_nothing_behind(papers: Papers) -> None:
    async with listening(RecordingIntake(), **papers.settings("implicit")) as listener:
        for end in (Talk.reset, lambda talk: talk.writer.close()):
            talk = await Talk.to(listener)
            await talk.send(b"\x16\x03\x01")
            end(talk)
        await until(lambda: not listener.connections)
        talk = await Talk.greeted(listener, context=papers.client)
        await talk.close()


# Devices


async def test_a_scanner_that_keeps_to_no_rule_gets_its_page_through() -> None:
    intake = RecordingIntake()
    async with listening(intake, lenient=True, sender="scanner@firma.example") as listener:
        talk = await Talk.to(listener)
        await talk.answer()
        assert (await talk.ask(b"HELO\r\n")).code == 250
        assert (await talk.ask(b"MAIL FROM : MFP-3 <scanner>\r\n")).code == 250
        no_address = await talk.ask(b"RCPT TO: bert\r\n")
        assert (no_address.code, no_address.status) == (501, "5.1.3")
        assert "address book of the device" in no_address.text
        assert (await talk.ask(b"RCPT TO: bert@kunde.example \r\n")).code == 250
        assert (await talk.ask(b"DATA\r\n")).code == 354
        assert (await talk.ask(b"Subject: Scan\r\n\r\n1\r\n.\r\n")).code == 250
        await talk.close()
    [taken] = intake.taken
    assert str(taken.envelope.reverse_path) == "scanner@firma.example"
    assert taken.client.lenient
    assert str(taken.client.forced_sender) == "scanner@firma.example"


async def test_a_scanner_with_a_short_password_is_forced_to_its_sender_after_logging_in(papers: Papers) -> None:
    intake, short = RecordingIntake(), "geheim-7"
    device = ClientSettings(user="mfp", password=hash_password(short))
    door: dict[str, Any] = {"lenient": True, "sender": "scanner@firma.example", "auth": "required", "old_tls": True}
    async with listening(intake, device, **door, **papers.settings("starttls")) as listener:
        talk = await Talk.greeted(listener)
        await talk.secure(papers.client)
        assert (await talk.ask(b"AUTH LOGIN " + b64encode(b"mfp") + b"\r\n")).texts == ["UGFzc3dvcmQ6"]
        assert (await talk.ask(b64encode(short.encode()) + b"\r\n")).code == 235
        assert (await talk.mail()).code == 250
        await talk.close()
    [taken] = intake.taken
    assert (taken.client.user, taken.client.lenient) == ("mfp", True)
    assert str(taken.client.forced_sender) == "scanner@firma.example"


async def test_the_door_beside_that_of_the_devices_stays_strict() -> None:
    async with listening(RecordingIntake()) as listener:
        talk = await Talk.to(listener)
        await talk.answer()
        assert (await talk.ask(MAIL)).code == 503
        assert (await talk.ask(b"HELO\r\n")).code == 501
        assert (await talk.ask(b"HELO mfp\r\n")).code == 250
        assert (await talk.ask(b"MAIL FROM:scan@firma.example\r\n")).code == 501
        await talk.close()


# Logins


@pytest.mark.parametrize("verb", [b"AUTH PLAIN", b"auth plain", b"Auth Plain"])
async def test_a_user_logs_in_and_whoever_decides_is_told_who_it_is(verb: bytes) -> None:
    intake = RecordingIntake()
    async with listening(intake, SCANNER, auth="required") as listener:
        talk = await Talk.greeted(listener)
        assert (await talk.mail()).code == 530
        assert (await talk.ask(plain().replace(b"AUTH PLAIN", verb))).code == 235
        assert (await talk.ask(plain())).code == 503
        assert (await talk.mail(author=b"scanner@firma.example")).code == 250
        await talk.close()
    assert intake.taken[0].client.user == "scanner"
    assert [str(pattern) for pattern in intake.taken[0].client.senders or ()] == ["scanner@firma.example"]
    assert intake.taken[0].client.protocol == "ESMTPA"


async def test_a_user_logs_in_step_by_step() -> None:
    async with listening(RecordingIntake(), SCANNER, auth="required") as listener:
        talk = await Talk.greeted(listener)
        assert (await talk.ask(b"AUTH LOGIN\r\n")).texts == ["VXNlcm5hbWU6"]
        assert (await talk.ask(b64encode(b"scanner") + b"\r\n")).texts == ["UGFzc3dvcmQ6"]
        assert (await talk.ask(b64encode(SECRET.encode()) + b"\r\n")).code == 235
        await talk.close()
        talk = await Talk.greeted(listener)
        await talk.send(b"AUTH PLAIN\r\n")
        assert await talk.reader.readline() == b"334 \r\n"
        assert (await talk.ask(b"*\r\n")).code == 501
        assert (await talk.ask(b"AUTH LOGIN %%%\r\n")).code == 501
        assert (await talk.ask(b"NOOP\r\n")).code == 250
        await talk.close()


async def test_every_refused_login_is_answered_and_the_third_ends_the_connection() -> None:
    async with listening(RecordingIntake(), SCANNER, auth="required") as listener:
        talk = await Talk.greeted(listener)
        words = set()
        for user, password in (("scanner", "geheim-falsch"), ("nobody", SECRET)):
            answer = await talk.ask(plain(user, password))
            assert (answer.code, answer.status) == (535, "5.7.8")
            words.add(answer.text)
        assert len(words) == 1
        assert (await talk.ask(plain("scanner", "geheim-falsch"))).code == 421
        assert await talk.closed()
        await talk.close()


async def test_after_five_refused_logins_the_right_password_has_to_wait_on_any_connection() -> None:
    async with listening(RecordingIntake(), SCANNER, auth="required") as listener:
        for attempts in (2, 2, 1):
            talk = await Talk.greeted(listener)
            for _ in range(attempts):
                assert (await talk.ask(plain("scanner", "geheim-falsch"))).code == 535
            await talk.close()
        talk = await Talk.greeted(listener)
        answer = await talk.ask(plain())
        assert (answer.code, answer.status) == (454, "4.7.0")
        await talk.close()


async def test_a_very_long_login_line_is_taken_and_a_longer_one_is_not() -> None:
    async with listening(RecordingIntake(), SCANNER, auth="required") as listener:
        talk = await Talk.greeted(listener)
        fits = plain("scanner", "geheim-" + "x" * 9000)
        assert 12_000 < len(fits) < 12_288
        assert (await talk.ask(fits)).code == 535
        await talk.send(b"AUTH LOGIN\r\n")
        await talk.answer()
        answer = await talk.ask(b"A" * 13_000 + b"\r\n")
        assert (answer.code, answer.status) == (500, "5.5.6")
        await talk.close()


async def test_nobody_logs_in_where_it_could_be_overheard(papers: Papers) -> None:
    # A client on another machine: its address is what the listener goes by.
    from senderproxy.wire.dialogue import Dialogue

    async with listening(RecordingIntake(), SCANNER, auth="required", **papers.settings("starttls")) as listener:
        house = listener._house
        house.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        admission = house.auth.admit("127.0.0.1")
        remote = Dialogue(house.terms("192.0.2.7", admission), "192.0.2.7")  # type: ignore[arg-type]
        local = Dialogue(house.terms("127.0.0.1", admission), "127.0.0.1")  # type: ignore[arg-type]
        assert not remote.can_log_in
        assert local.can_log_in


# Closing


async def test_a_client_that_connects_while_the_door_closes_is_answered_or_refused_but_never_left_waiting() -> None:
    for turns in range(8):
        async with listening(RecordingIntake()) as listener:
            talk = await Talk.to(listener)
            for _ in range(turns):
                await asyncio.sleep(0)
            stopping = asyncio.ensure_future(listener.stop(5))
            try:
                codes = [(await talk.answer()).code]
                if codes == [220]:
                    codes.append((await talk.answer()).code)
                assert codes[-1] == 421
            except ConnectionError:
                pass  # it was still in the kernel's queue: refused, not left waiting
            await stopping
            await talk.close()


async def test_idle_clients_are_told_and_the_door_is_closed_at_once() -> None:
    async with listening(RecordingIntake()) as listener:
        idle = [await Talk.greeted(listener) for _ in range(5)]
        silent = await Talk.to(listener)
        await silent.answer()
        loop = asyncio.get_running_loop()
        started = loop.time()
        stopping = asyncio.ensure_future(listener.stop(30))
        for talk in [*idle, silent]:
            answer = await talk.answer()
            assert (answer.code, answer.status) == (421, "4.3.2")
            assert await talk.closed()
            await talk.close()
        await stopping
        assert loop.time() - started < 5
        with pytest.raises(ConnectionError):
            await Talk.to(listener)


async def test_a_message_that_is_with_the_upstream_gets_its_answer_before_the_door_closes() -> None:
    intake = RecordingIntake()
    intake.hold()
    async with listening(intake) as listener:
        talk = await Talk.greeted(listener)
        answer = asyncio.ensure_future(talk.mail())
        await intake.until_started(1)
        stopping = asyncio.ensure_future(listener.stop(30))
        await asyncio.sleep(0)
        assert not stopping.done()
        intake.release()
        assert (await answer).code == 250
        assert (await talk.answer()).code == 421
        await stopping
        await talk.close()
    assert intake.cut_off == 0


async def test_a_message_that_is_still_coming_in_is_taken_before_the_door_closes() -> None:
    intake = RecordingIntake()
    async with listening(intake) as listener:
        talk = await Talk.greeted(listener)
        await talk.send(MAIL + RCPT + b"DATA\r\n")
        await talk.answers(3)
        stopping = asyncio.ensure_future(listener.stop(30))
        await asyncio.sleep(0)
        assert (await talk.ask(LETTER + b".\r\n")).code == 250
        assert (await talk.answer()).code == 421
        await stopping
        await talk.close()
    assert len(intake.taken) == 1


async def test_a_transaction_that_has_begun_may_go_on_and_the_next_one_may_not() -> None:
    intake = RecordingIntake()
    async with listening(intake) as listener:
        talk = await Talk.greeted(listener)
        assert (await talk.ask(MAIL)).code == 250
        stopping = asyncio.ensure_future(listener.stop(30))
        await asyncio.sleep(0)
        assert (await talk.ask(RCPT)).code == 250
        assert (await talk.ask(b"DATA\r\n")).code == 354
        await talk.send(LETTER + b".\r\n" + MAIL + RCPT)
        assert [answer.code for answer in await talk.answers(2)] == [250, 421]
        await stopping
        await talk.close()


async def test_at_the_end_of_the_grace_everybody_is_told_to_come_again() -> None:
    intake = RecordingIntake()
    intake.hold()
    async with listening(intake) as listener:
        with_upstream = await Talk.greeted(listener)
        coming_in = await Talk.greeted(listener)
        begun = await Talk.greeted(listener)
        answer = asyncio.ensure_future(with_upstream.mail())
        await intake.until_started(1)
        await coming_in.send(MAIL + RCPT + b"DATA\r\n")
        await coming_in.answers(3)
        await begun.ask(MAIL)
        await listener.stop(0.1)
        assert (await answer).code == 421
        assert (await coming_in.answer()).code == 421
        assert (await begun.answer()).code == 421
        for talk in (with_upstream, coming_in, begun):
            assert await talk.closed()
            await talk.close()
    assert intake.cut_off == 1
    assert listener.connections == 0


@pytest.mark.slow
async def test_an_upstream_that_cannot_be_interrupted_does_not_hold_up_the_stop_for_ever() -> None:
    class Stubborn(RecordingIntake):
        async def accept(self, submission: Any) -> Any:
            self.started += 1
            await self._notify()
            end = asyncio.get_running_loop().time() + 20
            while asyncio.get_running_loop().time() < end and not self._open.is_set():
                try:
                    await asyncio.wait_for(self._open.wait(), 20)
                except asyncio.CancelledError:
                    self.cut_off += 1
            return await super().accept(submission)

    intake = Stubborn()
    intake.hold()
    async with listening(intake) as listener:
        talk = await Talk.greeted(listener)
        answer = asyncio.ensure_future(talk.mail())
        await intake.until_started(1)
        loop = asyncio.get_running_loop()
        started = loop.time()
        await listener.stop(0.1)
        assert loop.time() - started < 8
        assert (await answer).code == 421
        intake.release()
        await talk.close()
        await until(lambda: not listener.status()["under_way"])


async def test_a_client_that_does_not_take_its_goodbye_does_not_hold_up_the_stop() -> None:
    async with listening(RecordingIntake(), patience=ListenerTimeouts(idle=60, block=60, linger=60)) as listener:
        talk = await Talk.greeted(listener)
        talk.writer.transport.pause_reading()  # type: ignore[attr-defined]
        loop = asyncio.get_running_loop()
        started = loop.time()
        await listener.stop(0.1)
        assert loop.time() - started < 8
        assert listener.connections == 0
        await talk.close()


async def test_a_client_in_the_middle_of_its_handshake_does_not_hold_up_the_stop(papers: Papers) -> None:
    async with listening(RecordingIntake(), **papers.settings("implicit")) as listener:
        talk = await Talk.to(listener)
        await talk.send(b"\x16\x03\x01")
        await until(lambda: listener.connections == 1)
        loop = asyncio.get_running_loop()
        started = loop.time()
        await listener.stop(0)
        assert loop.time() - started < 8
        assert listener.connections == 0
        assert await talk.closed(), "nothing in the clear on a connection that is to be encrypted"
        await talk.close()


async def test_stopping_over_tls_says_goodbye_as_well(papers: Papers) -> None:
    async with listening(RecordingIntake(), **papers.settings("implicit")) as listener:
        talk = await Talk.greeted(listener, context=papers.client)
        stopping = asyncio.ensure_future(listener.stop(5))
        assert (await talk.answer()).code == 421
        assert await talk.closed()
        await talk.close()
        await stopping


async def test_temporary_files_and_their_directory_are_gone_after_the_stop(tmp_path: Path) -> None:
    intake = RecordingIntake()
    listener = Listener(
        settings(spill_bytes=1000),
        (),
        HOSTNAME,
        intake,
        SystemClock(),
        patience=PATIENCE,
        spill=SpillDirectory(tmp_path),
    )
    await listener.start()
    talk = await Talk.greeted(listener)
    letter = LETTER + b"x" * 900 + b"\r\n" * 1000
    assert (await talk.mail(letter)).code == 250
    assert [list(path.iterdir()) for path in tmp_path.iterdir()] == [[]]
    await talk.close()
    await listener.stop(0)
    assert list(tmp_path.iterdir()) == []
    assert intake.taken[0].wire == letter


async def test_a_full_disk_is_a_452_and_the_next_message_is_taken() -> None:
    from tests.senderproxy.listener.test_body import full_disk

    class FullDisk(SpillDirectory):
        open = staticmethod(full_disk)

    intake = RecordingIntake()
    listener = Listener(
        settings(spill_bytes=1000), (), HOSTNAME, intake, SystemClock(), patience=PATIENCE, spill=FullDisk()
    )
    await listener.start()
    talk = await Talk.greeted(listener)
    answer = await talk.mail(LETTER + (b"x" * 900 + b"\r\n") * 1000)
    assert (answer.code, answer.status) == (452, "4.3.1")
    assert (await talk.mail()).code == 250
    await talk.close()
    await listener.stop(0)
    assert [taken.wire for taken in intake.taken] == [LETTER]


async def test_status_is_what_happened_and_can_be_written_as_json() -> None:
    async with listening(RecordingIntake()) as listener:
        talk = await Talk.greeted(listener)
        await talk.mail()
        await talk.mail(b"bare \r return\r\n")
        status = listener.status()
        assert json.loads(json.dumps(status)) == {
            "name": "office",
            "address": f"127.0.0.1:{listener.port}",
            "connected": 1,
            "under_way": 0,
            "connections": 1,
            "turned_away": 0,
            "accepted": 1,
            "deferred": 0,
            "refused": 1,
            "faults": 0,
        }
        await talk.close()


def test_the_patience_of_a_door_follows_its_settings() -> None:
    patience = ListenerTimeouts.of(ListenerSettings(idle_seconds=660))
    assert (patience.idle, patience.block) == (660, 180)
    assert NO_DELAY.failures == 5
