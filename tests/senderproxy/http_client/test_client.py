"""HttpClient against a server with a certificate: answers, proxies, and every way in which a server fails."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

import pytest

from senderproxy.clock import SystemClock
from senderproxy.http_client.client import BODY_LIMIT, HttpClient
from senderproxy.http_client.errors import HttpError
from senderproxy.http_client.message import Request
from senderproxy.http_client.url import parse_url
from senderproxy.simulator.certificates import Authority as SimulatorAuthority
from senderproxy.simulator.settings import CertificateKind
from tests.fakes.http_server import Behaviour, HttpServer, Received, answer, dripping, http_server, octets, silence
from tests.peers.certificates import Authority
from tests.peers.process import reserved_ports

SHORT = 0.5  # seconds for a request that is to run out of time, wherever it is then
LONGER = 10.0  # seconds in which it reaches the step that does not end, on any machine
PATH = "/geheim-path?token=geheim-query"


def request(port: int, method: str = "GET", host: str = "localhost", scheme: str = "https") -> Request:
    url = parse_url(f"{scheme}://user:geheim-pass@{host}:{port}{PATH}")
    return Request(method, url, {"X-Key": "geheim-field"}, b"geheim-body" if method == "POST" else b"")


@asynccontextmanager
async def a_server(authority: Authority, *behaviours: Behaviour) -> AsyncIterator[HttpServer]:
    async with http_server(authority) as server:
        server.behaviours = list(behaviours)
        yield server


async def refused(client: HttpClient, wanted: Request, authority: Authority, seconds: float = 20) -> str:
    """The words about a request that fails; they and their causes contain no secret."""
    with pytest.raises(HttpError) as caught:
        await client.send(wanted, ca_file=str(authority.ca_file), seconds=seconds)
    assert "geheim" not in f"{caught.value.message} {caught.value.hint} {caught.value!r}"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return caught.value.message


async def test_a_request_and_its_answer(client: HttpClient, authority: Authority) -> None:
    async with a_server(authority, answer("201 Created", b'{"id": 1}', "X-One: 1", "X-One: 2")) as server:
        got = await client.send(request(server.port, "POST"), ca_file=str(authority.ca_file))
    assert (got.status, got.reason, got.body, got.is_success) == (201, "Created", b'{"id": 1}', True)
    assert got.headers["x-one"] == "1"
    (received,) = server.requests
    assert (received.method, received.target, received.body) == ("POST", PATH, b"geheim-body")
    assert received.headers["host"] == f"localhost:{server.port}"
    assert received.headers["authorization"] == "Basic dXNlcjpnZWhlaW0tcGFzcw=="
    assert received.headers["x-key"] == "geheim-field"
    assert received.headers["accept-encoding"] == "identity"
    assert received.headers["connection"] == "close"
    assert received.headers["user-agent"].startswith("senderproxy/")


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("raw", "status", "body"),
    [
        (CHUNKED + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: x\r\n\r\n", 200, b"abcde"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabcd", 200, b"ab"),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", 200, b"until the end"),
        (b"HTTP/1.1 204\r\n\r\n", 204, b""),
        (b"HTTP/1.1 200 OK\r\nX:", 200, b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabc", 200, b"abc"),
        (b"HTTP/1.1 503 Busy\x1b[31m\r\nContent-Length: 0\r\n\r\n", 503, b""),
        (b"HTTP/1.1 302 Found\r\nLocation: https://elsewhere.example/\r\nContent-Length: 0\r\n\r\n", 302, b""),
    ],
    ids=["chunked", "continue", "until close", "no reason", "half a head", "negative length", "control", "redirect"],
)
async def test_answers_of_other_forms(
    client: HttpClient, authority: Authority, raw: bytes, status: int, body: bytes
) -> None:
    async with a_server(authority, octets(raw)) as server:
        got = await client.send(request(server.port), ca_file=str(authority.ca_file))
    assert (got.status, got.body) == (status, body)
    assert got.reason.isprintable()
    assert len(server.requests) == 1


async def test_the_largest_answer(client: HttpClient, authority: Authority) -> None:
    async with a_server(authority, answer("200 OK", b"x" * BODY_LIMIT)) as server:
        assert len((await client.send(request(server.port), ca_file=str(authority.ca_file))).body) == BODY_LIMIT


_NO_HTTP = "does not answer as HTTP demands"
_BROKEN = "closed the connection in the middle of its answer"
HOSTILE = {
    "too long": (answer("200 OK", b"x" * (BODY_LIMIT + 1)), "is too long"),
    "endless body": (dripping(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 60_000, 0), "is too long"),
    "endless chunks": (dripping(CHUNKED, b"1\r\nx\r\n" * 5_000, 0), "is too long"),
    "huge chunk": (octets(CHUNKED + b"FFFFFFFFFFFFFFFF\r\nabc"), _BROKEN),
    "negative chunk": (octets(CHUNKED + b"-5\r\nabc"), _NO_HTTP),
    "all that follows": (dripping(CHUNKED + b"-1\r\n", b"x" * 60_000, 0), "is too long"),
    "no chunk size": (octets(CHUNKED + b"zz\r\nabc"), _BROKEN),
    "endless trailer": (dripping(CHUNKED + b"0\r\n", b"T: x\r\n" * 5_000, 0), "is too long"),
    "endless header": (dripping(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 50, 0), _NO_HTTP),
    "endless line": (dripping(b"HTTP/1.1 200 OK\r\nX: ", b"y" * 60_000, 0), _NO_HTTP),
    "endless status": (dripping(b"HTTP/1.1 200 ", b"y" * 60_000, 0), _NO_HTTP),
    "endless continue": (dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000, 0), "is too long"),
    "announced length": (octets(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\nabc"), "is too long"),
    "wrong length": (octets(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"), _BROKEN),
    "gzip": (answer("200 OK", b"\x1f\x8b", "Content-Encoding: gzip"), "sent a compressed answer"),
    "not HTTP": (octets(b"220 mail.example ESMTP\r\n"), _NO_HTTP),
    "HTTP/2": (octets(b"HTTP/2.0 200 OK\r\n\r\n"), _NO_HTTP),
    "no octet": (octets(b""), "without an answer"),
}


@pytest.mark.parametrize("kind", HOSTILE)
async def test_hostile_answers_end_in_words(client: HttpClient, authority: Authority, kind: str) -> None:
    behaviour, words = HOSTILE[kind]
    async with a_server(authority, behaviour) as server:
        message = await refused(client, request(server.port), authority)
        assert words in message
        assert f"https://localhost:{server.port}" in message


@pytest.mark.slow
async def test_slow_servers_end_with_the_time(authority: Authority) -> None:
    behaviours = (
        silence,
        dripping(b"", b"H"),
        dripping(b"HTTP/1.1 200 OK\r\n", b"X"),
        dripping(b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
    )
    clients = [HttpClient(SystemClock(), {}) for _ in range(5)]
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(a_server(authority, one)) for one in behaviours]
        ports = [*(server.port for server in servers), stack.enter_context(listening())[0]]
        messages = await asyncio.gather(
            *(refused(client, request(port), authority, LONGER) for client, port in zip(clients, ports, strict=True))
        )
    for client in clients:
        client.close()
    *answers, handshake = messages
    assert answers == [f"https://localhost:{port} did not answer within {LONGER:g} s." for port in ports[:-1]]
    assert handshake == f"https://localhost:{ports[-1]} did not finish the TLS handshake within {LONGER:g} s."


@pytest.mark.slow
async def test_a_server_that_reads_nothing(client: HttpClient) -> None:
    with listening() as (port, _sock):
        url = parse_url(f"http://127.0.0.1:{port}/")
        with pytest.raises(HttpError, match="did not read the request within"):
            await client.send(Request("POST", url, {}, b"x" * 20_000_000), seconds=LONGER)


@pytest.mark.slow
async def test_look_ups_that_hang_delay_neither_others_nor_the_end(client: HttpClient, authority: Authority) -> None:
    released = threading.Event()
    real = socket.getaddrinfo

    def hang(host: str, *rest: object, **named: object) -> object:
        if host == "hanging.example":
            released.wait(60)
            raise socket.gaierror(socket.EAI_AGAIN, "too late")
        return real(host, *rest, **named)  # type: ignore[arg-type]

    with patch("socket.getaddrinfo", hang):
        try:
            hanging = [refused(client, request(1, host="hanging.example"), authority, LONGER) for _ in range(6)]
            messages = await asyncio.gather(*hanging)
            assert f"The look-up of https://hanging.example:1 did not end within {LONGER:g} s." in messages
            async with a_server(authority, answer("200 OK")) as server:
                assert (await client.send(request(server.port), ca_file=str(authority.ca_file))).status == 200
            client.close()
        finally:
            released.set()


async def test_failed_look_ups_and_connections(client: HttpClient, authority: Authority) -> None:
    for code, words in ((socket.EAI_NONAME, "there is no such host"), (socket.EAI_AGAIN, "failed: no server")):
        with patch("socket.getaddrinfo", side_effect=socket.gaierror(code, "no server")):
            assert words in await refused(client, request(1, host="some.example"), authority)
    with reserved_ports(1) as (port,):
        assert "Connection refused" in await refused(client, request(port), authority)


async def test_the_next_address_is_tried(client: HttpClient, authority: Authority) -> None:
    with reserved_ports(1) as (closed,):
        async with a_server(authority, answer("200 OK")) as server:
            found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in (closed, server.port)]
            with patch("socket.getaddrinfo", return_value=found):
                assert (await client.send(request(server.port), ca_file=str(authority.ca_file))).status == 200


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (CertificateKind.EXPIRED, "has expired"),
        (CertificateKind.NOT_YET_VALID, "is not valid yet"),
        (CertificateKind.OTHER_NAME, "is for another name"),
        (CertificateKind.OTHER_AUTHORITY, "is not signed by an authority that"),
    ],
)
async def test_a_certificate_that_does_not_hold(
    client: HttpClient, authority: Authority, tmp_path: Path, kind: CertificateKind, words: str
) -> None:
    now = datetime.now(UTC)
    issuer, chain = SimulatorAuthority.create(now), tmp_path / "chain.pem"
    chain.write_bytes(issuer.issue("localhost", kind, now))
    authority.ca_file.write_bytes(issuer.pem)
    async with http_server(chain=chain) as server:
        assert words in await refused(client, request(server.port), authority)
        assert server.requests == []


async def test_the_system_s_authorities_are_the_default(client: HttpClient, authority: Authority) -> None:
    async with a_server(authority, answer("200 OK")) as server:
        with pytest.raises(HttpError, match="that this machine trusts") as caught:
            await client.send(request(server.port))
        assert "ca_file" in caught.value.hint
        assert server.requests == []


async def test_files_of_authorities_that_cannot_be_used(client: HttpClient, authority: Authority) -> None:
    authority.ca_file.write_text("no certificate\n")
    assert "contains no certificate in PEM form" in await refused(client, request(1), authority)
    authority.ca_file.unlink()
    assert "cannot be read: No such file" in await refused(client, request(1), authority)


async def test_a_port_without_tls(client: HttpClient, authority: Authority) -> None:
    async with http_server() as server:
        server.first = b"HTTP/1.1 400 Bad Request\r\n\r\n"
        assert "does not speak TLS" in await refused(client, request(server.port), authority)


async def test_plain_http_stays_in_the_private_network(client: HttpClient, authority: Authority) -> None:
    async with http_server() as server:
        assert (await client.send(request(server.port, scheme="http"))).status == 204
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("203.0.114.5", server.port))]
        with patch("socket.getaddrinfo", return_value=found):
            message = await refused(client, request(server.port, scheme="http"), authority)
        assert "would travel unencrypted" in message


# ---- proxy ----

CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"


@asynccontextmanager
async def a_proxy(reply: bytes = CONNECTED) -> AsyncIterator[tuple[int, list[Received]]]:
    """A proxy that connects to 127.0.0.1, whatever host it is asked for."""
    asked: list[Received] = []

    async def connect(wanted: Received, writer: asyncio.StreamWriter) -> None:
        asked.append(wanted)
        writer.write(reply)
        if reply is CONNECTED:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", int(wanted.target.rpartition(":")[2]))
            await asyncio.gather(_copy(wanted.rest, to_server), _copy(from_server, writer))

    async with http_server() as server:
        server.behaviours = [connect]
        yield server.port, asked


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while received := await reader.read(65536):
            writer.write(received)
    finally:
        writer.close()


@contextmanager
def listening() -> Iterator[tuple[int, socket.socket]]:
    """A port that accepts connections and never reads."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock.getsockname()[1], sock


def by_proxy(port: int) -> HttpClient:
    return HttpClient(SystemClock(), {"https_proxy": f"http://office:geheim-proxy@127.0.0.1:{port}"})


async def test_the_proxy_connects_and_sees_no_request(authority: Authority) -> None:
    async with a_server(authority, answer("200 OK")) as server, a_proxy() as (port, asked):
        client = by_proxy(port)
        assert (await client.send(request(server.port), ca_file=str(authority.ca_file))).status == 200
        client.close()
    assert [(one.method, one.target) for one in asked] == [("CONNECT", f"localhost:{server.port}")]
    assert asked[0].headers["proxy-authorization"] == "Basic b2ZmaWNlOmdlaGVpbS1wcm94eQ=="
    assert "authorization" not in asked[0].headers


async def test_a_proxy_that_refuses(authority: Authority) -> None:
    async with a_proxy(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n") as (port, _asked):
        client = by_proxy(port)
        message = await refused(client, request(1), authority)
        client.close()
    assert message == f"The proxy http://127.0.0.1:{port} refuses the connection: 407 Proxy Authentication Required"


async def test_too_many_requests(client: HttpClient, authority: Authority) -> None:
    async with a_server(authority, silence) as server:
        wanted = request(server.port)
        results = await asyncio.gather(
            *(client.send(wanted, ca_file=str(authority.ca_file), seconds=SHORT) for _ in range(60)),
            return_exceptions=True,
        )
    assert all(isinstance(one, HttpError) for one in results)
    assert "Too many requests wait for an answer." in {str(one) for one in results}
