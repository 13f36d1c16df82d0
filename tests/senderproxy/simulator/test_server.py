"""The simulator as a whole, with Python's own mail client."""

import asyncio
import smtplib
from collections.abc import Callable
from dataclasses import replace
from email.message import EmailMessage
from email.utils import localtime

import pytest

from senderproxy.simulator.faults import AppendOctets, Delay, Fault, FaultScript, FaultStage, Silence
from senderproxy.simulator.rules import SimulatedMailbox
from senderproxy.simulator.server import Simulator, SimulatorError
from senderproxy.simulator.settings import SimulatorSettings
from tests.senderproxy.simulator.raw_client import RawClient

ANNA = "anna@firma.example"
PASSWORD = "geheim-anna"
SETTINGS = SimulatorSettings(mailboxes={ANNA: SimulatedMailbox(PASSWORD)})


def new_message(text: str = "Guten Tag\n.\n..\n") -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = f"Anna <{ANNA}>", "bert@kunde.example", "Angebot"
    message["Date"] = localtime()
    message.set_content(text)
    return message


def client_over_tls(simulator: Simulator) -> smtplib.SMTP:
    return smtplib.SMTP_SSL(simulator.host, simulator.port_tls, timeout=30, context=simulator.client_context())


def client_over_starttls(simulator: Simulator) -> smtplib.SMTP:
    client = smtplib.SMTP(simulator.host, simulator.port_starttls, timeout=30)
    client.starttls(context=simulator.client_context())
    return client


@pytest.mark.parametrize("connect", [client_over_tls, client_over_starttls])
async def test_python_s_own_mail_client_sends_over_it(connect: Callable[[Simulator], smtplib.SMTP]) -> None:
    async with Simulator(SETTINGS) as simulator:

        def send() -> None:
            with connect(simulator) as client:
                client.login(ANNA, PASSWORD)
                client.send_message(new_message())
                client.send_message(new_message())

        await asyncio.to_thread(send)
        await simulator.wait_for(2)
        assert b"Guten Tag\r\n.\r\n..\r\n" in simulator.received[0].content
        assert {received.session for received in simulator.received} == {1}
        assert simulator.clear_text_logins == []
        await simulator.wait_until(lambda simulator: simulator.sessions[0].ended is not None)


async def test_python_s_own_mail_client_reports_the_refusal_whole() -> None:
    async with Simulator(SETTINGS) as simulator:

        def send() -> smtplib.SMTPSenderRefused:
            with client_over_tls(simulator) as client:
                client.login(ANNA, PASSWORD)
                with pytest.raises(smtplib.SMTPSenderRefused) as refusal:
                    client.sendmail("carl@andere.example", ["bert@kunde.example"], new_message().as_bytes())
                return refusal.value

        refusal = await asyncio.to_thread(send)
        assert refusal.smtp_code == 550
        assert refusal.smtp_error == (
            b"Requested action not taken: mailbox unavailable\nSender address is not allowed."
        )


async def test_a_large_letter_arrives_whole_and_a_simulator_for_load_keeps_only_its_digest() -> None:
    async with Simulator(replace(SETTINGS, record_content=False)) as simulator:

        def send() -> None:
            with client_over_tls(simulator) as client:
                client.login(ANNA, PASSWORD)
                client.send_message(new_message(("x" * 70 + "\n") * 60_000))

        await asyncio.to_thread(send)
        (received,) = await simulator.wait_for(1)
        assert received.size > 4_000_000
        assert received.content == b""


async def test_a_provider_that_goes_down_refuses_connections_and_comes_back_on_the_same_ports() -> None:
    async with Simulator(SETTINGS) as simulator:
        async with RawClient(simulator) as client:
            await client.log_in(ANNA, PASSWORD)
            await simulator.go_offline()
            assert await client.read_reply() == []
        assert simulator.open_connections == 0
        with pytest.raises(ConnectionRefusedError):
            async with RawClient(simulator):
                pass
        await simulator.go_online()
        async with RawClient(simulator) as client:
            assert (await client.log_in(ANNA, PASSWORD))[0].startswith("235")
        assert simulator.sessions[0].ended == "closed by the simulator"


async def test_sessions_can_be_cut_while_new_ones_are_welcome() -> None:
    async with Simulator(SETTINGS) as simulator:
        async with RawClient(simulator) as client:
            await client.log_in(ANNA, PASSWORD)
            await simulator.drop_sessions()
            assert await client.read_reply() == []
        async with RawClient(simulator) as client:
            assert (await client.log_in(ANNA, PASSWORD))[0].startswith("235")


async def test_a_password_changed_at_the_provider_holds_from_the_next_login_on() -> None:
    async with Simulator(SETTINGS) as simulator:
        simulator.settings = replace(SETTINGS, mailboxes={ANNA: SimulatedMailbox("geheim-neu")})
        async with RawClient(simulator) as client:
            assert (await client.log_in(ANNA, PASSWORD))[0].startswith("535")
        async with RawClient(simulator) as client:
            assert (await client.log_in(ANNA, "geheim-neu"))[0].startswith("235")
        assert [attempt.accepted for attempt in simulator.logins(ANNA)] == [False, True]


async def test_the_most_sessions_a_login_held_at_once_are_counted() -> None:
    async with Simulator(SETTINGS) as simulator:
        async with RawClient(simulator) as one, RawClient(simulator) as two:
            await one.log_in(ANNA, PASSWORD)
            await two.log_in(ANNA, PASSWORD)
            assert simulator.open_connections == 2
        await simulator.wait_until(lambda simulator: simulator.open_connections == 0)
        async with RawClient(simulator) as three:
            await three.log_in(ANNA, PASSWORD)
        assert simulator.observations.max_concurrent_sessions[ANNA] == 2


async def test_a_wait_in_vain_says_what_happened_instead() -> None:
    async with Simulator(SETTINGS) as simulator, RawClient(simulator) as client:
        await client.log_in(ANNA, "geheim-falsch")
        with pytest.raises(
            SimulatorError, match=r"waiting for 1 messages: 0 received.*AUTH PLAIN \*\*\* -> 535"
        ) as caught:
            await simulator.wait_for(1, deadline=0.05)
        assert "geheim" not in str(caught.value)


async def test_a_simulator_that_is_left_while_sessions_hang_leaves_nothing_behind() -> None:
    script = FaultScript(
        Fault(FaultStage.BANNER, Silence(), session=1), Fault(FaultStage.BANNER, Delay(3600), session=2)
    )
    async with Simulator(SETTINGS, script) as simulator:
        directory = simulator.ca_file.parent
        hanging = [RawClient(simulator), RawClient(simulator)]
        for client in hanging:
            await client.__aenter__()
        await simulator.wait_until(lambda simulator: len(simulator.script.applied) == 2)
    assert simulator.open_connections == 0
    assert not directory.exists()
    for client in hanging:
        assert await client.read_reply() == []
        await client.__aexit__()


async def test_a_fault_that_makes_no_sense_at_its_stage_is_told_when_the_simulator_is_left() -> None:
    simulator = Simulator(SETTINGS, FaultScript(Fault(FaultStage.CONNECT, AppendOctets(b"?"))))
    await simulator.__aenter__()
    with pytest.raises(OSError):
        async with RawClient(simulator):
            pass
    await simulator.wait_until(lambda simulator: simulator.open_connections == 0)
    with pytest.raises(SimulatorError, match="internal error"):
        await simulator.__aexit__(None, None, None)


def test_a_simulator_that_is_not_open_has_no_files() -> None:
    with pytest.raises(SimulatorError, match="not open"):
        _ = Simulator(SETTINGS).ca_file
