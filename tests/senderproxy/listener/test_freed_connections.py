"""A connection that ended leaves nothing in memory, without the garbage collector."""

import ssl
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from senderproxy.listener.server import Listener
from tests.fakes.connection_objects import inbound, no_collector, nothing_left
from tests.fakes.recording_intake import RecordingIntake
from tests.senderproxy.listener.conftest import ServerCertificate
from tests.senderproxy.listener.smtp_client import TIMEOUTS, SmtpClient, listening, until

CONNECTIONS = 10  # in each of 50 tests

Visit = Callable[[SmtpClient], Awaitable[None]]


async def mail_and_quit(client: SmtpClient) -> None:
    assert (await client.mail()).code == 250
    assert (await client.ask(b"QUIT\r\n")).code == 221
    await client.close()


async def leave_without_quit(client: SmtpClient) -> None:
    assert (await client.mail()).code == 250
    await client.close()


async def drop_when_idle(client: SmtpClient) -> None:
    assert (await client.mail()).code == 250
    client.reset()


async def drop_in_data(client: SmtpClient) -> None:
    await client.send(b"MAIL FROM:<anna@firma.example>\r\nRCPT TO:<bert@kunde.example>\r\nDATA\r\n")
    await client.answers(3)
    await client.send(b"Subject: Hel")
    client.reset()


async def drop_before_the_reply(client: SmtpClient) -> None:
    await client.send(b"MAIL FROM:<anna@firma.example>\r\nRCPT TO:<bert@kunde.example>\r\nDATA\r\n")
    await client.answers(3)
    await client.send(b"From: anna@firma.example\r\n\r\nHello\r\n.\r\n")
    client.reset()


async def half_a_line(client: SmtpClient) -> None:
    await client.send(b"MAIL FR")
    client.reset()


async def too_many_unknown_commands(client: SmtpClient) -> None:
    for _ in range(200):
        await client.send(b"HALLO\r\n")
    assert await client.reader.read(-1)
    await client.close()


VISITS: list[Visit] = [
    mail_and_quit,
    leave_without_quit,
    drop_when_idle,
    drop_in_data,
    drop_before_the_reply,
    half_a_line,
    too_many_unknown_commands,
]


async def all_gone(listener: Listener) -> None:
    """Hold that nothing is left of the listener's connections."""
    await until(lambda: not listener.connections)
    assert not await nothing_left(lambda: inbound(listener.port))


@pytest.mark.parametrize("visit", VISITS, ids=lambda visit: visit.__name__)
@pytest.mark.parametrize("tls", ["none", "starttls", "implicit"])
async def test_a_connection_that_ended_is_freed(server_certificate: ServerCertificate, tls: str, visit: Visit) -> None:
    context = server_certificate.client_context
    changed = server_certificate.settings(tls) if tls != "none" else {}
    async with listening(RecordingIntake(), **changed) as listener:
        with no_collector():
            for _ in range(CONNECTIONS):
                client = await SmtpClient.greeted(listener, context=context if tls == "implicit" else None)
                if tls == "starttls":
                    await client.secure(context)
                await visit(client)
                del client
            await all_gone(listener)


async def garbage(client: SmtpClient) -> None:
    await client.send(b"this is no handshake\r\n" * 10)
    await client.reader.read()
    await client.close()


async def leave(client: SmtpClient) -> None:
    client.reset()


async def wait_too_long(client: SmtpClient) -> None:
    await client.closed()
    await client.close()


async def distrust(client: SmtpClient) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await client.writer.start_tls(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), server_hostname="relay.firma.example")
    await client.close()


@pytest.mark.parametrize("end", [garbage, leave, wait_too_long, distrust], ids=lambda end: end.__name__)
@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_a_connection_whose_handshake_failed_is_freed(
    server_certificate: ServerCertificate, tls: str, end: Visit
) -> None:
    timeouts = replace(TIMEOUTS, handshake=0.05) if end is wait_too_long else TIMEOUTS
    async with listening(RecordingIntake(), timeouts=timeouts, **server_certificate.settings(tls)) as listener:
        with no_collector():
            for _ in range(CONNECTIONS):
                client = await SmtpClient.to(listener)
                if tls == "starttls":
                    await client.answer()
                    assert (await client.ask(b"STARTTLS\r\n")).code == 220
                await end(client)
                del client
            await all_gone(listener)


@pytest.mark.parametrize("tls", ["none", "starttls", "implicit"])
async def test_a_connection_that_was_idle_too_long_is_freed(server_certificate: ServerCertificate, tls: str) -> None:
    context = server_certificate.client_context
    changed = server_certificate.settings(tls) if tls != "none" else {}
    async with listening(
        RecordingIntake(), timeouts=replace(TIMEOUTS, idle=0.2, before_mail=0.2), **changed
    ) as listener:
        with no_collector():
            clients = [
                await SmtpClient.to(listener, context=context if tls == "implicit" else None)
                for _ in range(CONNECTIONS)
            ]
            for client in clients:
                await client.reader.read()
                await client.close()
            clients.clear()
            await all_gone(listener)


@pytest.mark.parametrize("grace", [0.0, 30.0], ids=["interrupted", "finished"])
@pytest.mark.parametrize("tls", ["none", "starttls", "implicit"])
async def test_the_connections_of_a_stopped_listener_are_freed(
    server_certificate: ServerCertificate, tls: str, grace: float
) -> None:
    context = server_certificate.client_context
    changed = server_certificate.settings(tls) if tls != "none" else {}
    intake = RecordingIntake()
    with no_collector():
        async with listening(intake, grace=grace, **changed) as listener:
            clients = []
            for _ in range(CONNECTIONS):
                client = await SmtpClient.greeted(listener, context=context if tls == "implicit" else None)
                if tls == "starttls":
                    await client.secure(context)
                clients.append(client)
            intake.hold()
            for client in clients[::2]:
                await client.send(b"MAIL FROM:<anna@firma.example>\r\nRCPT TO:<bert@kunde.example>\r\nDATA\r\n")
                await client.answers(3)
                await client.send(b"From: anna@firma.example\r\n\r\nHello\r\n.\r\n")
            await intake.until_started(len(clients[::2]))
            if grace:
                intake.release()
        for client in clients:
            await client.close()
        clients.clear()
        del client
        await all_gone(listener)


@pytest.mark.parametrize("tls", ["none", "starttls", "implicit"])
async def test_a_connection_that_was_rejected_is_freed(server_certificate: ServerCertificate, tls: str) -> None:
    context = server_certificate.client_context if tls == "implicit" else None
    changed = server_certificate.settings(tls) if tls != "none" else {}
    async with listening(RecordingIntake(), max_connections=1, **changed) as listener:
        with no_collector():
            first = await SmtpClient.greeted(listener, context=context)
            assert (await first.ask(b"MAIL FROM:<anna@firma.example>\r\n")).code == 250
            for _ in range(CONNECTIONS):
                client = await SmtpClient.to(listener, context=context)
                assert (await client.answer()).code == 421
                await client.close()
            await first.close()
            del client, first
            await all_gone(listener)


@pytest.mark.parametrize("tls", ["none", "implicit"])
async def test_an_idle_connection_that_made_room_is_freed(server_certificate: ServerCertificate, tls: str) -> None:
    context = server_certificate.client_context if tls == "implicit" else None
    changed = server_certificate.settings(tls) if tls != "none" else {}
    async with listening(RecordingIntake(), max_connections=1, **changed) as listener:
        with no_collector():
            client = await SmtpClient.greeted(listener, context=context)
            for _ in range(CONNECTIONS):
                earlier, client = client, await SmtpClient.greeted(listener, context=context)
                assert (await earlier.answer()).code == 421
                await earlier.close()
            await client.close()
            del client, earlier
            await all_gone(listener)


@pytest.mark.slow
async def test_three_hundred_tls_connections_leave_nothing(server_certificate: ServerCertificate) -> None:
    visits = VISITS[:-1]  # the last one takes a second
    async with listening(RecordingIntake(), **server_certificate.settings("starttls")) as listener:
        with no_collector():
            for number in range(300):
                client = await SmtpClient.greeted(listener)
                await client.secure(server_certificate.client_context)
                await visits[number % len(visits)](client)
                del client
            await all_gone(listener)
