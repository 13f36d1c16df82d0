"""The accept loop: without free descriptors, and at its end."""

import asyncio
import errno
import os
import resource
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from senderproxy.listener.acceptor import Acceptor
from senderproxy.listener.event_limiter import EventLimiter
from tests.senderproxy.listener.smtp_client import SmtpClient
from tests.senderproxy.listener.test_event_limiter import StillLoop, listener_log


class Greeting(asyncio.Protocol):
    """Sends one octet, closes."""

    def connection_made(self, transport: Any) -> None:
        transport.write(b"x")
        transport.close()


class ScarceSocket(socket.socket):
    """A listening socket that fails so many times."""

    errors: list[int]
    calls = 0

    def accept(self) -> Any:
        self.calls += 1
        if self.errors:
            code = self.errors.pop()
            raise OSError(code, os.strerror(code))
        return super().accept()


@pytest.fixture
def scarce() -> Iterator[ScarceSocket]:
    with ScarceSocket() as sock:
        sock.errors = []
        sock.bind(("127.0.0.1", 0))
        sock.listen(100)
        sock.setblocking(False)
        yield sock


def connected(sock: socket.socket) -> socket.socket:
    return socket.create_connection(sock.getsockname())


async def octets(client: socket.socket) -> bytes:
    """All that the client gets; waits on a thread."""
    with client:
        return await asyncio.to_thread(client.recv, 10)


async def passes(number: int = 20) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
async def test_without_a_descriptor_the_loop_pauses_and_accepts_later(
    code: int, scarce: ScarceSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    scarce.errors = [code] * 3
    events, clock = EventLimiter(), StillLoop(monkeypatch)
    acceptor = Acceptor(scarce, Greeting, events)
    client = connected(scarce)
    acceptor.start()
    with listener_log() as lines:
        await passes()
        for tries in (1, 2, 3):
            assert scarce.calls == tries, "one attempt a second, whatever the number of passes"
            await clock.pass_by(1.01)
            await passes()
        assert await octets(client) == b"x"
    assert [key for key, _ in lines] == ["accept_paused"]
    acceptor.stop()
    events.flush()


async def test_a_stop_during_the_pause_ends_it(scarce: ScarceSocket, monkeypatch: pytest.MonkeyPatch) -> None:
    scarce.errors = [errno.EMFILE]
    events, clock = EventLimiter(), StillLoop(monkeypatch)
    acceptor = Acceptor(scarce, Greeting, events)
    with connected(scarce):
        acceptor.start()
        await passes()
        acceptor.stop()
        await clock.pass_by(2)
        await passes()
        assert scarce.calls == 1
    events.flush()


async def test_an_error_of_one_connection_does_not_stop_the_others(scarce: ScarceSocket) -> None:
    scarce.errors = [errno.ECONNABORTED, errno.EPERM]
    events = EventLimiter()
    acceptor = Acceptor(scarce, Greeting, events)
    client = connected(scarce)
    with listener_log() as lines:
        acceptor.start()
        assert await octets(client) == b"x"
    assert [key for key, _ in lines] == ["accept_failed"] * 2
    acceptor.stop()
    events.flush()


async def test_without_memory_for_a_connection_its_client_does_not_wait(scarce: ScarceSocket) -> None:
    failures = [MemoryError, MemoryError]

    def protocol() -> Greeting:
        if failures:
            raise failures.pop()
        return Greeting()

    events = EventLimiter()
    acceptor = Acceptor(scarce, protocol, events)
    clients = [connected(scarce) for _ in range(3)]
    with listener_log() as lines:
        acceptor.start()
        assert sorted([await octets(client) for client in clients]) == [b"", b"", b"x"]
    assert [key for key, _ in lines] == ["accept_failed"]
    acceptor.stop()
    events.flush()


async def test_an_accepted_connection_starts_although_the_loop_stops(scarce: ScarceSocket) -> None:
    acceptor = Acceptor(scarce, Greeting, EventLimiter())
    clients = [connected(scarce) for _ in range(70)]
    acceptor.start()
    while not scarce.calls:
        await asyncio.sleep(0)
    acceptor.stop()
    await acceptor.wait_started()
    assert scarce.calls == 16, "a bounded number in one pass"
    assert await octets(clients[0]) == b"x"
    acceptor.start()
    assert await octets(clients[-1]) == b"x", "the others waited in the kernel"
    acceptor.stop()
    await acceptor.wait_started()
    for client in clients:
        client.close()


@pytest.mark.slow
async def test_without_descriptors_the_clients_go_on_and_the_next_ones_wait() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.senderproxy.listener.lone_listener",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        listener: Any = SimpleNamespace(port=int(await process.stdout.readline()))
        used = len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (used + 3, used + 3))
        served = [await SmtpClient.greeted(listener) for _ in range(3)]
        waiting = [await SmtpClient.to(listener) for _ in range(3)]
        assert b"cannot accept" in await process.stderr.readline()
        for client in served:
            assert (await client.mail()).code == 250
            await client.close()
        for client in waiting:
            assert (await client.answer()).code == 220
            await client.close()
        process.stdin.close()
        assert await process.wait() == 0
        assert (await process.stderr.read()).count(b"cannot accept") <= 1, "their number, at the stop"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
