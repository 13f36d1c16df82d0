"""The twin as a whole, with a mail client that is not ours."""

import asyncio
import smtplib
from collections.abc import Callable
from dataclasses import replace
from email.message import EmailMessage
from email.utils import localtime

import pytest

from senderproxy.twin.rules import Mailbox
from senderproxy.twin.script import Append, Fault, Script, Silence, Slow, Stage
from senderproxy.twin.server import Twin, TwinError
from senderproxy.twin.settings import TwinSettings
from tests.senderproxy.twin.talk import Talk

ANNA = "anna@firma.example"
PASSWORD = "geheim-anna"
SETTINGS = TwinSettings(mailboxes={ANNA: Mailbox(PASSWORD)})


def letter(text: str = "Guten Tag\n.\n..\n") -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = f"Anna <{ANNA}>", "bert@kunde.example", "Angebot"
    message["Date"] = localtime()
    message.set_content(text)
    return message


def client_over_tls(twin: Twin) -> smtplib.SMTP:
    return smtplib.SMTP_SSL(twin.host, twin.port_tls, timeout=10, context=twin.client_context())


def client_over_starttls(twin: Twin) -> smtplib.SMTP:
    client = smtplib.SMTP(twin.host, twin.port_starttls, timeout=10)
    client.starttls(context=twin.client_context())
    return client


@pytest.mark.parametrize("connect", [client_over_tls, client_over_starttls])
async def test_python_s_own_mail_client_sends_over_it(connect: Callable[[Twin], smtplib.SMTP]) -> None:
    async with Twin(SETTINGS) as twin:

        def send() -> None:
            with connect(twin) as client:
                client.login(ANNA, PASSWORD)
                client.send_message(letter())
                client.send_message(letter())

        await asyncio.to_thread(send)
        await twin.wait_for(2)
        assert b"Guten Tag\r\n.\r\n..\r\n" in twin.received[0].content
        assert {received.session for received in twin.received} == {1}
        assert twin.clear_text_logins == []
        await twin.wait_until(lambda twin: twin.sessions[0].ended is not None)


async def test_python_s_own_mail_client_reports_the_refusal_whole() -> None:
    async with Twin(SETTINGS) as twin:

        def send() -> smtplib.SMTPSenderRefused:
            with client_over_tls(twin) as client:
                client.login(ANNA, PASSWORD)
                with pytest.raises(smtplib.SMTPSenderRefused) as refusal:
                    client.sendmail("carl@andere.example", ["bert@kunde.example"], letter().as_bytes())
                return refusal.value

        refusal = await asyncio.to_thread(send)
        assert refusal.smtp_code == 550
        assert refusal.smtp_error == (
            b"Requested action not taken: mailbox unavailable\nSender address is not allowed."
        )


async def test_a_large_letter_arrives_whole_and_a_twin_for_load_keeps_only_its_digest() -> None:
    async with Twin(replace(SETTINGS, content_kept=False)) as twin:

        def send() -> None:
            with client_over_tls(twin) as client:
                client.login(ANNA, PASSWORD)
                client.send_message(letter(("x" * 70 + "\n") * 60_000))

        await asyncio.to_thread(send)
        (received,) = await twin.wait_for(1)
        assert received.size > 4_000_000
        assert received.content == b""


async def test_a_provider_that_goes_down_refuses_connections_and_comes_back_on_the_same_ports() -> None:
    async with Twin(SETTINGS) as twin:
        async with Talk(twin) as talk:
            await talk.log_in(ANNA, PASSWORD)
            await twin.go_down()
            assert await talk.hear() == []
        assert twin.open_connections == 0
        with pytest.raises(ConnectionRefusedError):
            async with Talk(twin):
                pass
        await twin.come_back()
        async with Talk(twin) as talk:
            assert (await talk.log_in(ANNA, PASSWORD))[0].startswith("235")
        assert twin.sessions[0].ended == "closed by the twin"


async def test_sessions_can_be_cut_while_new_ones_are_welcome() -> None:
    async with Twin(SETTINGS) as twin:
        async with Talk(twin) as talk:
            await talk.log_in(ANNA, PASSWORD)
            await twin.drop_sessions()
            assert await talk.hear() == []
        async with Talk(twin) as talk:
            assert (await talk.log_in(ANNA, PASSWORD))[0].startswith("235")


async def test_a_password_changed_at_the_provider_holds_from_the_next_login_on() -> None:
    async with Twin(SETTINGS) as twin:
        twin.settings = replace(SETTINGS, mailboxes={ANNA: Mailbox("geheim-neu")})
        async with Talk(twin) as talk:
            assert (await talk.log_in(ANNA, PASSWORD))[0].startswith("535")
        async with Talk(twin) as talk:
            assert (await talk.log_in(ANNA, "geheim-neu"))[0].startswith("235")
        assert [attempt.accepted for attempt in twin.logins(ANNA)] == [False, True]


async def test_the_most_sessions_a_login_held_at_once_are_counted() -> None:
    async with Twin(SETTINGS) as twin:
        async with Talk(twin) as one, Talk(twin) as two:
            await one.log_in(ANNA, PASSWORD)
            await two.log_in(ANNA, PASSWORD)
            assert twin.open_connections == 2
        await twin.wait_until(lambda twin: twin.open_connections == 0)
        async with Talk(twin) as three:
            await three.log_in(ANNA, PASSWORD)
        assert twin.ledger.most_sessions_at_once[ANNA] == 2


async def test_a_wait_in_vain_says_what_happened_instead() -> None:
    async with Twin(SETTINGS) as twin, Talk(twin) as talk:
        await talk.log_in(ANNA, "geheim-falsch")
        with pytest.raises(TwinError, match=r"in vain for 1 messages: 0 received.*AUTH PLAIN \*\*\* -> 535") as told:
            await twin.wait_for(1, deadline=0.05)
        assert "geheim" not in str(told.value)


async def test_a_twin_that_is_left_while_sessions_hang_leaves_nothing_behind() -> None:
    script = Script(Fault(Stage.BANNER, Silence(), session=1), Fault(Stage.BANNER, Slow(3600), session=2))
    async with Twin(SETTINGS, script) as twin:
        directory = twin.ca_file.parent
        hanging = [Talk(twin), Talk(twin)]
        for talk in hanging:
            await talk.__aenter__()
        await twin.wait_until(lambda twin: len(twin.script.struck) == 2)
    assert twin.open_connections == 0
    assert not directory.exists()
    for talk in hanging:
        assert await talk.hear() == []
        await talk.__aexit__()


async def test_a_fault_that_makes_no_sense_at_its_stage_is_told_when_the_twin_is_left() -> None:
    twin = Twin(SETTINGS, Script(Fault(Stage.CONNECT, Append(b"?"))))
    await twin.__aenter__()
    with pytest.raises(OSError):
        async with Talk(twin):
            pass
    await twin.wait_until(lambda twin: twin.open_connections == 0)
    with pytest.raises(TwinError, match="broke"):
        await twin.__aexit__(None, None, None)


def test_a_twin_that_is_not_open_has_no_files() -> None:
    with pytest.raises(TwinError, match="not open"):
        _ = Twin(SETTINGS).ca_file
