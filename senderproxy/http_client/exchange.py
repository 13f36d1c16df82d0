"""One exchange of HTTP/1.1 on a thread: look-up, connection, TLS, request, answer, end of the connection.

Guarantees: everything after the look-up ends at the deadline, however slowly the server reads or writes; a bounded
number of octets is received, whatever they are. The certificate is always verified. Plain HTTP reaches loopback and
private addresses only. No redirect is followed, no cookie is stored, nothing is decompressed.
Not here: threads, and a look-up that takes too long (http_client.client), words about a failure (http_client.failures).
RFC 9110, RFC 9112.
"""

import http.client
import io
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import ip_address
from typing import Any, Final

from senderproxy import __version__
from senderproxy.first_connection import connect_first
from senderproxy.http_client.message import Answer, Request
from senderproxy.http_client.url import Url

_WIRE_LIMIT: Final = (
    4  # times the limit of a body: octets that are received for it, header and sizes of chunks included
)
_REASON: Final = 80  # characters of the words after the status that are kept
_READ: Final = 8 * 1024  # octets in one read of the socket
_CONNECT_SECONDS: Final = 10.0  # for each address of a host; then the next one is tried


class Step(Enum):
    """The present step of an exchange."""

    QUEUE = auto()  # waits for a thread
    AUTHORITIES = auto()  # reads the certificates of authorities
    LOOK_UP = auto()
    CONNECTION = auto()
    PROXY = auto()  # the proxy connects
    TLS = auto()
    REQUEST = auto()
    ANSWER = auto()


class PublicAddress(Exception):
    """Plain HTTP would leave the private network."""


class TooLong(Exception):
    """The server sends more than an answer may have."""


class Incomplete(Exception):
    """The answer ended before its announced length."""


class Encoded(Exception):
    """The answer is compressed although the request does not allow it."""


class ProxyRefused(Exception):
    """The proxy does not connect. `args[0]`: status and words."""


@dataclass(slots=True)
class Exchange:
    """The work for one request. `deadline`: on the clock `monotonic`, in seconds. `body_limit`: octets."""

    request: Request
    proxy: Url | None
    ca_file: str | None
    deadline: float
    body_limit: int
    monotonic: Callable[[], float]
    step: Step = Step.QUEUE  # read by the event loop's thread

    def run(self) -> Answer:
        """Make the exchange. Blocks. Raises OSError, http.client.HTTPException, ValueError and the exceptions above."""
        url = self.request.url
        context = self._tls_context() if url.scheme == "https" else None
        with self._connect(self.proxy or url) as sock:
            if self.proxy is not None:
                self._open_tunnel(sock, self.proxy)
            if context is None:
                return self._ask(sock)
            self.step = Step.TLS
            sock.settimeout(self.left())
            with context.wrap_socket(sock, server_hostname=url.host, do_handshake_on_connect=False) as encrypted:
                encrypted.do_handshake()
                return self._ask(encrypted)

    def left(self) -> float:
        """The seconds left. Raises TimeoutError if there are none."""
        if (left := self.deadline - self.monotonic()) <= 0:
            raise TimeoutError
        return left

    # ---- parts ----

    def _tls_context(self) -> ssl.SSLContext:
        self.step = Step.AUTHORITIES
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
        if self.ca_file is not None:
            context.load_verify_locations(self.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    def _connect(self, place: Url) -> socket.socket:
        """A connection to the first address that accepts one."""
        self.step = Step.LOOK_UP
        addresses = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
        self.step = Step.CONNECTION
        if self.request.url.scheme == "http":
            addresses = [one for one in addresses if _is_near(str(one[4][0]))]
            if not addresses:
                raise PublicAddress
        return connect_first(addresses, lambda: min(self.left(), _CONNECT_SECONDS))

    def _open_tunnel(self, sock: socket.socket, proxy: Url) -> None:
        """RFC 9110 section 9.3.6."""
        self.step = Step.PROXY
        url, stream = self.request.url, _Stream(sock, self)
        target = f"[{url.host}]:{url.port}" if ":" in url.host else f"{url.host}:{url.port}"
        head = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"
        if proxy.authorization:
            head += f"Proxy-Authorization: {proxy.authorization}\r\n"
        stream.sendall(f"{head}\r\n".encode("ascii"))
        with http.client.HTTPResponse(stream, method="CONNECT") as response:  # type: ignore[arg-type]
            response.begin()
            if not 200 <= response.status <= 299:
                raise ProxyRefused(f"{response.status} {_printable(response.reason)}".strip())

    def _ask(self, sock: socket.socket) -> Answer:
        """Send the request and read the answer."""
        self.step = Step.REQUEST
        request, url = self.request, self.request.url
        own = {"Host": url.place, "User-Agent": f"senderproxy/{__version__}", "Connection": "close"}
        if url.authorization:
            own["Authorization"] = url.authorization
        connection = http.client.HTTPConnection(url.host, url.port)
        connection.auto_open = 0
        connection.sock = _Stream(sock, self)
        connection.request(request.method, url.target, request.body or None, {**own, **request.headers})
        self.step = Step.ANSWER
        with connection.getresponse() as response:
            if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
                raise Encoded
            return Answer(
                response.status,
                _printable(response.reason),
                {name.lower(): value for name, value in reversed(response.getheaders())},
                self._body(response),
            )

    def _body(self, response: http.client.HTTPResponse) -> bytes:
        if (response.length or 0) > self.body_limit:
            raise TooLong
        body = response.read(self.body_limit + 1)
        if len(body) > self.body_limit:
            raise TooLong
        if response.length:  # what is missing of the announced length
            raise Incomplete
        return body


class _Stream:
    """A socket for http.client: each call ends at the deadline of the exchange, and the octets received are counted."""

    def __init__(self, sock: socket.socket, exchange: Exchange) -> None:
        self._sock = sock
        self._exchange = exchange

    def sendall(self, data: Any) -> None:  # noqa: ANN401  bytes-like, as of socket.sendall
        rest = memoryview(data)
        while rest:
            self._sock.settimeout(self._exchange.left())
            rest = rest[self._sock.send(rest) :]

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Received(self._sock, self._exchange), _READ)

    def close(self) -> None:
        """The exchange closes the socket."""


class _Received(io.RawIOBase):
    """The octets from the server."""

    def __init__(self, sock: socket.socket, exchange: Exchange) -> None:
        self._sock = sock
        self._exchange = exchange
        self._left = _WIRE_LIMIT * exchange.body_limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401  a writable buffer
        if self._left <= 0:
            raise TooLong
        self._sock.settimeout(self._exchange.left())
        count = self._sock.recv_into(buffer)
        self._left -= count
        return count


def _is_near(address: str) -> bool:
    """True for this machine and for networks that are not of the Internet."""
    found = ip_address(address.partition("%")[0])
    return not found.is_global and not found.is_multicast and not found.is_unspecified


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() and c.isascii() else "?" for c in text[:_REASON])
