"""A broken address does not hold up a good one."""

import asyncio
import socket
import ssl
import time
from pathlib import Path

import pytest
import trustme

from senderproxy.delivery.connect import STAGGER, TlsContexts, connect_first, resolve

TCP = (socket.AF_INET, socket.SOCK_STREAM, 6, "")


def listener(backlog: int = 5) -> socket.socket:
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen(backlog)
    return server


def address_of(server: socket.socket) -> tuple[int, int, int, str, tuple[str, int]]:
    return (*TCP, server.getsockname())


def deaf() -> tuple[socket.socket, list[socket.socket]]:
    """A port that answers nobody: its queue is full."""
    server = listener(0)
    callers = []
    for _ in range(4):
        caller = socket.socket()
        caller.setblocking(False)
        caller.connect_ex(server.getsockname())
        callers.append(caller)
    return server, callers


async def test_an_address_that_answers_wins_over_one_that_does_not() -> None:
    silent, callers = deaf()
    with listener() as good:
        begun = time.monotonic()
        connection = await connect_first([address_of(silent), address_of(good)])
        assert connection.getpeername() == good.getsockname()
        assert STAGGER * 0.8 < time.monotonic() - begun < 2.0
        connection.close()
    for each in (silent, *callers):
        each.close()


async def test_an_address_that_refuses_costs_no_time_at_all() -> None:
    with socket.socket() as dead, listener() as good:
        dead.bind(("127.0.0.1", 0))
        begun = time.monotonic()
        connection = await connect_first([address_of(dead), address_of(good)])
        assert time.monotonic() - begun < STAGGER
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        connection.close()


async def test_where_nobody_answers_the_first_ones_reason_is_told() -> None:
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            await connect_first([address_of(one), address_of(two)])


async def test_whoever_stops_waiting_leaves_no_socket_open() -> None:
    silent, callers = deaf()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(STAGGER * 2):
            await connect_first([address_of(silent), address_of(silent)])
    for each in (silent, *callers):
        each.close()
    # A socket that was forgotten is a ResourceWarning, which fails the test.


async def test_the_families_are_tried_in_turn() -> None:
    found = await resolve("localhost", 465)
    assert found
    assert all(info[4][1] == 465 for info in found)


def test_every_context_verifies_chain_and_name_and_is_new_enough(tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(ca_file)
    for context in (TlsContexts().context(None), TlsContexts().context(str(ca_file))):
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_a_context_is_made_once_and_again_when_its_file_changes(tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(ca_file)
    contexts = TlsContexts()
    first = contexts.context(str(ca_file))
    assert contexts.context(str(ca_file)) is first
    ca_file.write_bytes(trustme.CA().cert_pem.bytes() + b"\n# renewed\n")
    assert contexts.context(str(ca_file)) is not first
    assert contexts.context(None) is contexts.context(None)


def test_only_the_authorities_of_the_file_are_trusted(tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(ca_file)
    assert TlsContexts().context(str(ca_file)).cert_store_stats()["x509_ca"] == 1


def test_a_file_that_is_gone_is_an_error_also_when_it_was_read_before(tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(ca_file)
    contexts = TlsContexts()
    contexts.context(str(ca_file))
    ca_file.unlink()
    with pytest.raises(FileNotFoundError):
        contexts.context(str(ca_file))
