"""Replacement of listeners by a reload: no client is refused, none loses a message."""

import asyncio
import socket
import subprocess
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from senderproxy.clock import SystemClock
from senderproxy.config.model import Config
from senderproxy.control.socket_store import SocketStore
from senderproxy.control.systemd import SystemdNotifier
from senderproxy.errors import SenderproxyError
from senderproxy.listener.client_auth import hash_password
from senderproxy.listener.login_throttle import LoginThrottle, ThrottleLimits
from senderproxy.listener.server import Listener
from senderproxy.service import descriptors
from senderproxy.service.listeners import Listeners
from tests.fakes.recording_intake import RecordingIntake
from tests.peers.process import free_port, give_back_ports
from tests.senderproxy.listener.smtp_client import HOSTNAME, MESSAGE, SmtpClient, until
from tests.senderproxy.wire.test_proxy_header import tcp4, v2

MAIL, RCPT = b"MAIL FROM:<anna@firma.example>\r\n", b"RCPT TO:<bert@kunde.example>\r\n"


def config(*listeners: dict[str, Any], stop_seconds: float = 30, **more: Any) -> Config:
    return Config.model_validate(
        {
            "identity": {"hostname": HOSTNAME},
            "vault": {"unlock": "passphrase"},
            "service": {"stop_seconds": stop_seconds},
            "listeners": list(listeners) or [{}],
        }
        | more
    )


@pytest.fixture(autouse=True)
def _ports_are_given_back() -> Iterator[None]:
    yield
    give_back_ports()


def listener_on(port: int, **changed: Any) -> dict[str, Any]:
    return {"address": f"127.0.0.1:{port}"} | changed


@asynccontextmanager
async def listeners_of(first: Config, intake: RecordingIntake) -> AsyncIterator[Listeners]:
    sockets = SocketStore(SystemdNotifier(None, None))
    listeners = Listeners(intake, SystemClock(), lambda: False, LoginThrottle(ThrottleLimits()), sockets)
    await listeners.start(first)
    try:
        yield listeners
    finally:
        await listeners.stop(0)


async def one_session(listener: Listener) -> None:
    client = await SmtpClient.greeted(listener)
    assert (await client.mail()).code == 250
    assert (await client.ask(b"QUIT\r\n")).code == 221
    await client.close()


async def test_no_client_that_connects_during_reloads_is_refused() -> None:
    port, intake = free_port(), RecordingIntake()
    current = config(listener_on(port))
    async with listeners_of(current, intake) as listeners:
        done = asyncio.Event()

        async def connect_again_and_again() -> int:
            sessions = 0
            while not done.is_set():
                await one_session(listeners.open[0])
                sessions += 1
            return sessions

        clients = [asyncio.ensure_future(connect_again_and_again()) for _ in range(4)]
        for number in range(30):
            new = config(listener_on(port, max_recipients=1000 + number))
            await listeners.replace(current, new)
            current = new
            before = len(intake.taken)
            await until(lambda before=before: len(intake.taken) > before)  # type: ignore[misc]  # bound at once
            assert not any(client.done() for client in clients)
        done.set()
        sessions = await asyncio.gather(*clients)
        assert all(sessions)
        assert len(intake.taken) == sum(sessions)
        assert listeners.open[0].status()["connections"] != sum(sessions), "the listeners were replaced"
        assert listeners.open[0].settings.max_recipients == 1029


async def test_the_clients_of_a_replaced_listener_go_on() -> None:
    port, intake = free_port(), RecordingIntake()
    first = config(listener_on(port))
    async with listeners_of(first, intake) as listeners:
        idle, sending = [await SmtpClient.greeted(listeners.open[0]) for _ in range(2)]
        assert (await sending.ask(MAIL)).code == 250
        await listeners.replace(first, config(listener_on(port, max_recipients=5)))
        assert listeners.open[0].connections == 0
        assert (await idle.mail()).code == 250
        assert (await sending.ask(RCPT)).code == 250
        assert (await sending.ask(b"DATA\r\n")).code == 354
        assert (await sending.ask(MESSAGE + b".\r\n")).code == 250
        assert (await sending.mail()).code == 250
        for client in (idle, sending):
            assert (await client.ask(b"QUIT\r\n")).code == 221
            await client.close()
        await until(lambda: not listeners._retiring)


async def test_after_the_grace_time_a_replaced_listener_closes_idle_clients_and_waits_for_messages() -> None:
    port, intake = free_port(), RecordingIntake()
    intake.hold()
    first = config(listener_on(port))
    async with listeners_of(first, intake) as listeners:
        idle, sending, begun = [await SmtpClient.greeted(listeners.open[0]) for _ in range(3)]
        answer = asyncio.ensure_future(sending.mail())
        await intake.until_started(1)
        assert (await begun.ask(MAIL)).code == 250
        await listeners.replace(first, config(listener_on(port, max_recipients=5), stop_seconds=0))
        closed = await idle.answer()
        assert (closed.code, closed.status) == (421, "4.3.2")
        assert "reconnect" in closed.text
        intake.release()
        assert (await answer).code == 250
        for command, code in ((RCPT, 250), (b"DATA\r\n", 354), (MESSAGE + b".\r\n", 250)):
            assert (await begun.ask(command)).code == code
        for client in (sending, begun):
            assert (await client.answer()).code == 421
        for client in (idle, sending, begun):
            await client.close()
        await until(lambda: not listeners._retiring)
    assert intake.cut_off == 0


async def test_a_stop_ends_the_replaced_listeners_too() -> None:
    port, intake = free_port(), RecordingIntake()
    intake.hold()
    first = config(listener_on(port))
    async with listeners_of(first, intake) as listeners:
        client = await SmtpClient.greeted(listeners.open[0])
        answer = asyncio.ensure_future(client.mail())
        await intake.until_started(1)
        await listeners.replace(first, config(listener_on(port, max_recipients=5)))
        await listeners.stop(0)
        assert (await answer).code == 421
        await client.close()
    assert intake.cut_off == 1
    assert not listeners._retiring


async def test_a_reload_that_fails_changes_nothing_for_any_client() -> None:
    port, intake = free_port(), RecordingIntake()
    first = config(listener_on(port))
    async with listeners_of(first, intake) as listeners:
        open_before, client = listeners.open, await SmtpClient.greeted(listeners.open[0])
        with socket.create_server(("127.0.0.1", 0)) as taken:
            refused = config(listener_on(port, max_recipients=5), listener_on(taken.getsockname()[1], name="other"))
            with pytest.raises(SenderproxyError, match="cannot listen"):
                await listeners.replace(first, refused)
        assert listeners.open == open_before
        assert (await client.mail()).code == 250
        await one_session(listeners.open[0])
        await client.close()


async def test_a_drain_lasts_over_a_reload_and_its_clients_are_counted() -> None:
    port, intake = free_port(), RecordingIntake()
    proxied = {"proxy_from": ["127.0.0.1"], "allow": ["192.168.1.0/24"]}
    first = config(listener_on(port, **proxied))
    async with listeners_of(first, intake) as listeners:
        client = await SmtpClient.to(listeners.open[0], first=tcp4(IPv4Address("192.168.1.20")))
        assert (await client.answer()).code == 220
        listeners.drain(on=True)
        second = config(listener_on(port, max_recipients=5, **proxied))
        await listeners.replace(first, second)
        assert await health_check(listeners) == 421
        assert [listener.connections for listener in listeners.all] == [0, 1]
        listeners.drain(on=False)
        assert await health_check(listeners) == 220
        await listeners.replace(second, config(listener_on(port, max_recipients=6, **proxied)))
        assert await health_check(listeners) == 220
        await client.close()


async def health_check(listeners: Listeners) -> int:
    """The code of the first reply to haproxy's LOCAL command."""
    check = await SmtpClient.to(listeners.open[0], first=v2(0x20, 0x00, b""))
    code = (await check.answer()).code
    check.reset()
    return code


async def test_replaced_listeners_do_not_pile_up() -> None:
    port, intake = free_port(), RecordingIntake()
    current = config(listener_on(port))
    async with listeners_of(current, intake) as listeners:
        clients = []
        for number in range(14):
            clients.append(await SmtpClient.greeted(listeners.open[0]))
            new = config(listener_on(port, max_recipients=1 + number))
            await listeners.replace(current, new)
            current = new
        for client in clients[:4]:
            assert (await client.answer()).code == 421
        await until(lambda: len(listeners._retiring) == 10)
        for client in clients[4:]:
            assert (await client.mail()).code == 250
        for client in clients:
            await client.close()


async def test_locks_and_trusted_hosts_survive_a_reload() -> None:
    port, clients = free_port(), [{"user": "scanner", "password": hash_password("geheim-scanner")}]
    first = config(listener_on(port, auth="required"), clients=clients)
    async with listeners_of(first, RecordingIntake()) as listeners:
        assert await log_in(listeners.open[0], "geheim-scanner", "127.0.0.1") == 235
        for _ in range(5):
            listeners._throttle.failed("127.0.0.66", "scanner", SystemClock().monotonic())
        await listeners.replace(first, config(listener_on(port, auth="required", max_recipients=5), clients=clients))
        assert await log_in(listeners.open[0], "geheim-scanner", "127.0.0.67") == 454
        assert await log_in(listeners.open[0], "geheim-scanner", "127.0.0.1") == 235


async def log_in(listener: Listener, password: str, host: str) -> int:
    """The code of the reply to a login from this host."""
    client = await SmtpClient.greeted(listener, host=host)
    answer = await client.ask(b"AUTH PLAIN " + b64encode(f"\0scanner\0{password}".encode()) + b"\r\n")
    await client.close()
    return answer.code


# Descriptors


def test_a_configuration_needs_descriptors_for_each_connection() -> None:
    assert descriptors.descriptors_needed(config()) == 3 * 200 + 300
    two = config(listener_on(2525), listener_on(2526, name="other", max_connections=1000))
    assert descriptors.descriptors_needed(two) == 3 * 1200 + 400


CHILD = """
import asyncio, resource, sys
from senderproxy.clock import SystemClock
from senderproxy.control.socket_store import SocketStore
from senderproxy.control.systemd import SystemdNotifier
from senderproxy.errors import SenderproxyError
from senderproxy.listener.login_throttle import LoginThrottle, ThrottleLimits
from senderproxy.service.listeners import Listeners
from tests.fakes.recording_intake import RecordingIntake
from tests.senderproxy.service.test_listeners import config, listener_on

async def main():
    listeners = Listeners(RecordingIntake(), SystemClock(), lambda: False, LoginThrottle(ThrottleLimits()), SocketStore(SystemdNotifier(None, None)))
    first = config(listener_on(0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 899))
    try:
        await listeners.start(first)
    except SenderproxyError as error:
        print(error.message, error.hint)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 899))
    first = config(listener_on(0, max_connections=199))
    await listeners.start(first)
    print(resource.getrlimit(resource.RLIMIT_NOFILE))
    try:
        await listeners.replace(first, config(listener_on(0)))
    except SenderproxyError as error:
        print(len(listeners.open), listeners.open[0].settings.max_connections)
    await listeners.stop(0)

asyncio.run(main())
"""


def test_the_limit_of_descriptors_is_raised_or_the_start_and_the_reload_refused() -> None:
    """In a process of its own, whose limit cannot be raised again."""
    output = subprocess.run(
        [sys.executable, "-c", CHILD], cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert "may need 900 file descriptors, but this process may have 899" in output[0]
    assert "LimitNOFILE=" in output[0]
    assert output[1:] == ["(899, 899)", "1 199"]
