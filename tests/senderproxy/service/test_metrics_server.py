"""The server for metrics: what it answers, and what hostile clients cannot do to it."""

import asyncio
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path

import pytest

from senderproxy.config.model import MetricsSettings
from senderproxy.service import metrics_server
from senderproxy.service.metrics_server import CONNECTIONS_LIMIT, MetricsError, MetricsServer, MetricsUnavailable

TEXT = b"senderproxy_accounts 3.0\n"
DEADLINE = 60.0


async def text() -> bytes:
    return TEXT


@asynccontextmanager
async def running(listen: str = "127.0.0.1:0", answer=text, **settings) -> AsyncIterator[MetricsServer]:
    server = MetricsServer(MetricsSettings(listen=listen, **settings), answer, "text/plain; version=0.0.4")
    server.start()
    try:
        yield server
    finally:
        await server.stop()


async def connect(server: MetricsServer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if server.address.startswith("unix:"):
        return await asyncio.open_unix_connection(server.address.removeprefix("unix:"))
    host, _, port = server.address.rpartition(":")
    return await asyncio.open_connection(host.strip("[]"), int(port))


async def ask(server: MetricsServer, request: bytes) -> bytes:
    """The whole answer to these octets; empty if the connection is closed without one."""
    reader, writer = await connect(server)
    try:
        async with asyncio.timeout(DEADLINE):
            writer.write(request)
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def get(path: str = "/metrics", host: str = "127.0.0.1:9464") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: Prometheus/3.5.0\r\n\r\n".encode()


async def test_a_request_for_the_metrics_gets_them_and_the_connection_ends() -> None:
    async with running() as server:
        answer = await ask(server, get())
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 200 OK",
        b"Content-Type: text/plain; version=0.0.4",
        b"Content-Length: 25",
        b"Connection: close",
        b"X-Content-Type-Options: nosniff",
    ]
    assert body == TEXT


async def test_the_octets_of_a_request_may_come_one_by_one() -> None:
    async with running() as server:
        reader, writer = await connect(server)
        for octet in get():
            writer.write(bytes([octet]))
            await writer.drain()
            await asyncio.sleep(0)
        async with asyncio.timeout(DEADLINE):
            assert (await reader.read()).endswith(TEXT)
        writer.close()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (get("/metrics?name=x"), b"200 OK"),
        (get("/"), b"404 Not Found"),
        (get("/metrics/"), b"404 Not Found"),
        (get("//metrics"), b"404 Not Found"),
        (get("/../metrics"), b"404 Not Found"),
        (get().replace(b"GET", b"POST"), b"405 Method Not Allowed"),
        (get().replace(b"GET", b"DELETE"), b"405 Method Not Allowed"),
        (b"EHLO me.example\r\n\r\n", b"400 Bad Request"),
        (b"\r\n\r\n", b"400 Bad Request"),
        (b"GET /metrics HTTP/2\r\n\r\n", b"400 Bad Request"),
        (b"GET  /metrics HTTP/1.1\r\n\r\n", b"400 Bad Request"),
        (b"GET http://127.0.0.1/metrics HTTP/1.1\r\n\r\n", b"400 Bad Request"),
        (b"\x16\x03\x01\x02\x00" + bytes(200) + b"\r\n\r\n", b"400 Bad Request"),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", b"400 Bad Request"),
        (b"GET /metrics HTTP/1.0\r\n\r\n", b"200 OK"),
        (get(host="localhost"), b"200 OK"),
        (get(host="LOCALHOST:9464"), b"200 OK"),
        (get(host="[::1]:9464"), b"200 OK"),
        (get(host="192.168.1.7"), b"200 OK"),
        (get(host="rebound.attacker.example:9464"), b"403 Forbidden"),
        (get(host="127.0.0.1.attacker.example"), b"403 Forbidden"),
        (get(host="127.0.0.1@attacker.example"), b"403 Forbidden"),
        (get(host=""), b"403 Forbidden"),
        (get().replace(b"User-Agent", b"Host"), b"403 Forbidden"),
        (get().replace(b"Host", b"\r\n host"), b"200 OK"),  # the header ends before
    ],
)
async def test_each_other_request_gets_its_status(request_: bytes, status: bytes) -> None:
    async with running() as server:
        answer = await ask(server, request_)
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert (TEXT in answer) is (status == b"200 OK")


async def test_head_gets_the_header_alone() -> None:
    async with running() as server:
        answer = await ask(server, get().replace(b"GET", b"HEAD"))
    assert b"Content-Length: 25" in answer
    assert answer.endswith(b"\r\n\r\n")


async def test_without_an_answer_now_the_client_is_told_to_ask_again() -> None:
    async def none() -> bytes:
        raise MetricsUnavailable

    async with running(answer=none) as server:
        assert (await ask(server, get())).startswith(b"HTTP/1.1 503 Service Unavailable")


async def test_a_client_outside_the_allowed_networks_gets_no_answer() -> None:
    async with running(allow=(ip_network("127.0.0.2"),)) as server:
        assert await ask(server, get()) == b""
        server.allow = (ip_network("127.0.0.1"),)
        assert (await ask(server, get())).endswith(TEXT)


async def test_ipv6_is_served() -> None:
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists():
        pytest.skip("this machine has no IPv6")
    async with running("[::1]:0") as server:
        assert server.address.startswith("[::1]:")
        assert (await ask(server, get(host="[::1]:9464"))).endswith(TEXT)


# ---- hostile clients ----


async def test_clients_that_send_no_request_make_room_for_one_that_does() -> None:
    async with running() as server:
        silent = [await connect(server) for _ in range(3 * CONNECTIONS_LIMIT)]
        assert (await ask(server, get())).endswith(TEXT)
        assert len(server._clients) <= CONNECTIONS_LIMIT
        async with asyncio.timeout(DEADLINE):
            assert await silent[0][0].read() == b""  # the oldest was disconnected
        for _reader, writer in silent:
            writer.close()


async def test_a_client_that_waits_for_its_answer_is_disconnected_after_those_without_a_request() -> None:
    ready = asyncio.Event()

    async def slow() -> bytes:
        await ready.wait()
        return TEXT

    async with running(answer=slow) as server:
        waiting = asyncio.create_task(ask(server, get()))
        async with asyncio.timeout(DEADLINE):
            while not any(client.has_request for client in server._clients):
                await asyncio.sleep(0)
        silent = [await connect(server) for _ in range(2 * CONNECTIONS_LIMIT)]
        async with asyncio.timeout(DEADLINE):
            assert await silent[0][0].read() == b""
        ready.set()
        assert (await waiting).endswith(TEXT)
        for _reader, writer in silent:
            writer.close()


async def test_a_client_that_sends_or_reads_nothing_is_disconnected_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_server, "_TIMEOUT", 0.2)

    async def large() -> bytes:
        return bytes(50_000_000)

    async with running(answer=large) as server:
        silent, unreading = await connect(server), await connect(server)
        unreading[1].write(get())
        async with asyncio.timeout(DEADLINE):
            assert await silent[0].read() == b""
            while server._clients:
                await asyncio.sleep(0.01)
        for _reader, writer in (silent, unreading):
            writer.close()


async def test_without_a_free_descriptor_the_server_goes_on_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_server, "_PAUSE", 0.01)
    loop, failures = asyncio.get_running_loop(), iter([OSError(24, "Too many open files")] * 3)
    real = loop.sock_accept

    async def accept(sock: socket.socket):
        if (failure := next(failures, None)) is not None:
            raise failure
        return await real(sock)

    monkeypatch.setattr(loop, "sock_accept", accept)
    async with running() as server:
        assert (await ask(server, get())).endswith(TEXT)
    assert next(failures, None) is None


# ---- the address ----


async def test_a_socket_is_for_its_group_and_is_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "metrics.sock"
    async with running(f"unix:{path}") as server:
        assert server.address == f"unix:{path}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert (await ask(server, get(host="anything.example"))).endswith(TEXT)
    assert not path.exists()


async def test_a_stale_socket_is_replaced_and_one_in_use_is_not(tmp_path: Path) -> None:
    path = tmp_path / "metrics.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    async with running(f"unix:{path}") as server:
        with pytest.raises(MetricsError, match="another program answers there"):
            MetricsServer(MetricsSettings(listen=f"unix:{path}"), text, "")
        assert (await ask(server, get())).endswith(TEXT)


async def test_another_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "metrics.sock"
    path.write_text("not a socket", encoding="ascii")
    with pytest.raises(MetricsError, match="it is another file"):
        MetricsServer(MetricsSettings(listen=f"unix:{path}"), text, "")
    assert path.read_text(encoding="ascii") == "not a socket"


async def test_the_file_of_another_service_is_not_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "metrics.sock"
    async with running(f"unix:{path}"):
        path.replace(tmp_path / "moved")
        path.write_text("of another", encoding="ascii")
    assert path.exists()


async def test_an_address_in_use_is_an_error_with_a_command_that_finds_the_program() -> None:
    async with running() as server:
        port = server.address.rpartition(":")[2]
        with pytest.raises(MetricsError, match="Address already in use") as caught:
            MetricsServer(MetricsSettings(listen=server.address), text, "")
        assert caught.value.hint.endswith(f"ss -ltnp 'sport = :{port}'")
