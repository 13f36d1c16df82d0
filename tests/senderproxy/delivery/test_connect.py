"""A broken address does not delay a good one."""

import asyncio
import socket
import time

import pytest

from senderproxy.delivery import connect
from senderproxy.delivery.connect import STAGGER, connect_first

TCP = (socket.AF_INET, socket.SOCK_STREAM, 6, "")


def listener(backlog: int = 5) -> socket.socket:
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen(backlog)
    return server


def address_of(server: socket.socket) -> tuple[int, int, int, str, tuple[str, int]]:
    return (*TCP, server.getsockname())


def deaf() -> tuple[socket.socket, list[socket.socket]]:
    """A port that answers no connection: its backlog is full."""
    server = listener(0)
    callers = []
    for _ in range(4):
        caller = socket.socket()
        caller.setblocking(False)
        caller.connect_ex(server.getsockname())
        callers.append(caller)
    return server, callers


async def test_an_address_that_answers_is_preferred_to_a_silent_one() -> None:
    silent, callers = deaf()
    with listener() as good:
        begun = time.monotonic()
        connection = await connect_first([address_of(silent), address_of(good)])
        assert (
            connection.getpeername() == good.getsockname()
        )  # within a minute: the kernel gives up the silent one after two
        assert time.monotonic() - begun > STAGGER * 0.8
        connection.close()
    for each in (silent, *callers):
        each.close()


async def test_an_address_that_refuses_causes_no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "STAGGER", 1000.0)
    with socket.socket() as dead, listener() as good:
        dead.bind(("127.0.0.1", 0))
        connection = await connect_first([address_of(dead), address_of(good)])
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        connection.close()


async def test_without_an_answer_the_first_error_is_raised() -> None:
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            await connect_first([address_of(one), address_of(two)])


async def test_a_cancellation_leaves_no_socket_open() -> None:
    silent, callers = deaf()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(STAGGER * 2):
            await connect_first([address_of(silent), address_of(silent)])
    for each in (silent, *callers):
        each.close()
    # A socket that was forgotten is a ResourceWarning, which fails the test.
