"""HTTP server for `GET /metrics`, on an IP address or a Unix socket.

Guarantees: a bounded number of connections, each with one bounded request, one answer and a bounded time; of more
clients, the one longest without a complete request is disconnected. One pass of the event loop accepts one connection.
A page in a browser cannot read the answer: on a loopback address, names other than localhost are refused (DNS
rebinding). The stale socket file of an ended service is replaced, that of a running one is not.
Not here: the text (service.metrics).
RFC 9112 section 3.
"""

import asyncio
import errno
import os
import re
import socket
import stat
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from senderproxy.config.model import MetricsSettings
from senderproxy.config.values import UNIX, IpNetwork, split_address
from senderproxy.errors import SenderproxyError
from senderproxy.translation import _

CONNECTIONS_LIMIT: Final = 16  # a monitoring system needs one or two
_REQUEST_LIMIT: Final = 8192  # octets; Prometheus sends 300
_TIMEOUT: Final = 10.0  # seconds for request and answer; Prometheus waits for 10
_BACKLOG: Final = 16  # connections that wait in the kernel
_PAUSE: Final = 1.0  # seconds without a free descriptor until the next attempt; asyncio's own value
_PROBE_TIMEOUT: Final = 2.0  # seconds in which a running service accepts a connection
_READ: Final = 4096  # octets

_REQUEST: Final = re.compile(rb"([A-Z]{1,20}) (/[!-~]{0,2000}) HTTP/1\.[01]\Z")
_HOST_PORT: Final = re.compile(r"\[([0-9a-f:.]{2,45})\](?::\d{1,5})?|([^:]{1,253})(?::\d{1,5})?", re.IGNORECASE)


class MetricsError(SenderproxyError):
    """The address for metrics cannot be opened."""


class MetricsUnavailable(Exception):
    """There is no answer now; the client asks again."""


@dataclass(eq=False, slots=True)
class _Client:
    """One connection. `has_request`: its request is complete."""

    socket: socket.socket
    has_request: bool = False
    task: "asyncio.Task[None] | None" = None


@dataclass(slots=True)
class _Answer:
    status: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    def encode(self, *, with_body: bool) -> bytes:
        headers = {"Content-Type": "text/plain; charset=utf-8"} | self.headers
        headers |= {"Content-Length": str(len(self.body)), "Connection": "close", "X-Content-Type-Options": "nosniff"}
        lines = [f"HTTP/1.1 {self.status}", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        return "\r\n".join(lines).encode("latin-1") + (self.body if with_body else b"")


class MetricsServer:
    """The server on one address, from `start` to `stop`. `allow` may be replaced at any time."""

    def __init__(self, settings: MetricsSettings, text: Callable[[], Awaitable[bytes]], content_type: str) -> None:
        """`text` returns the answer or raises MetricsUnavailable. Opens the address; raises MetricsError."""
        assert settings.listen is not None
        self.listen = settings.listen
        self.allow: tuple[IpNetwork, ...] = settings.allow
        self._text = text
        self._content_type = content_type
        self._path = Path(settings.listen.removeprefix(UNIX)) if settings.listen.startswith(UNIX) else None
        self._socket = _bind_path(self._path) if self._path else _bind(settings.listen)
        self._socket.setblocking(False)
        self._inode = None if self._path is None else self._path.lstat().st_ino
        self._local_names_only = self._path is None and split_address(settings.listen)[0].is_loopback
        self._clients: dict[_Client, None] = {}  # the oldest first
        self._accepting: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        """The address with its port, or `unix:` and the path."""
        if self._path is not None:
            return f"{UNIX}{self._path}"
        host, port = self._socket.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def start(self) -> None:
        """Answer requests from now on."""
        self._accepting = asyncio.create_task(self._accept())

    async def stop(self) -> None:
        """Disconnect the clients, close the address, and remove the socket's file."""
        tasks = [client.task for client in self._clients if client.task is not None]
        if self._accepting is not None:
            tasks.append(self._accepting)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self.close()

    def close(self) -> None:
        """Close an address that was not started."""
        self._socket.close()
        if self._path is not None:
            with suppress(OSError):  # removed already, or replaced by that of another service
                if self._path.lstat().st_ino == self._inode:
                    self._path.unlink()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, peer = await loop.sock_accept(self._socket)
            except OSError:  # no descriptor or no memory is free, or the connection has ended already
                await asyncio.sleep(_PAUSE)
                continue
            if self._path is None and not self._is_allowed(peer[0]):
                accepted.close()
                await asyncio.sleep(0)
                continue
            self._make_room()
            client = _Client(accepted)
            self._clients[client] = None
            client.task = asyncio.create_task(self._serve(client))
            await asyncio.sleep(0)  # sock_accept returns at once while connections wait

    def _is_allowed(self, host: str) -> bool:
        address = ip_address(host.partition("%")[0])
        return any(address in network for network in self.allow)

    def _make_room(self) -> None:
        """Disconnect the oldest client without a complete request, or else the oldest one, if there are too many."""
        if len(self._clients) < CONNECTIONS_LIMIT:
            return
        oldest = next((client for client in self._clients if not client.has_request), next(iter(self._clients)))
        del self._clients[oldest]
        if oldest.task is not None:
            oldest.task.cancel()

    async def _serve(self, client: _Client) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_TIMEOUT):
                request = await _read_request(client.socket)
                client.has_request = True
                if request is not None:
                    await loop.sock_sendall(client.socket, await self._answer(request))
                    client.socket.shutdown(socket.SHUT_WR)
        except (OSError, TimeoutError):
            pass  # the client left, sends nothing or reads nothing
        finally:
            client.socket.close()
            self._clients.pop(client, None)

    async def _answer(self, request: bytes) -> bytes:
        found = _REQUEST.match(request.partition(b"\r\n")[0])
        if found is None:
            return _Answer("400 Bad Request", b"Not an HTTP request.\n").encode(with_body=True)
        method, target = found[1], found[2].partition(b"?")[0]
        if self._local_names_only and not _is_local_name(request):
            text = b"Ask for 127.0.0.1, [::1] or localhost.\n"
            return _Answer("403 Forbidden", text).encode(with_body=method != b"HEAD")
        if method not in (b"GET", b"HEAD"):
            allowed = {"Allow": "GET, HEAD"}
            return _Answer("405 Method Not Allowed", b"GET only.\n", allowed).encode(with_body=True)
        if target != b"/metrics":
            return _Answer("404 Not Found", b"There is /metrics only.\n").encode(with_body=method == b"GET")
        try:
            answer = _Answer("200 OK", await self._text(), {"Content-Type": self._content_type})
        except MetricsUnavailable:
            answer = _Answer("503 Service Unavailable", b"No metrics now; the log may have the cause.\n")
        return answer.encode(with_body=method == b"GET")


async def _read_request(sock: socket.socket) -> bytes | None:
    """The request line and the header, up to the empty line; empty if it is too long; None: the client has left."""
    loop, data = asyncio.get_running_loop(), bytearray()
    while len(data) < _REQUEST_LIMIT:
        octets = await loop.sock_recv(sock, _READ)
        if not octets:
            return None
        searched = max(0, len(data) - 3)
        data += octets
        if (end := data.find(b"\r\n\r\n", searched)) >= 0:
            return bytes(data[: end + 2])
    return b""  # not a request


def _is_local_name(request: bytes) -> bool:
    """True for an IP address or localhost: a page in a browser can only use a name of its own domain."""
    fields = [line.partition(b":") for line in request.split(b"\r\n")[1:]]
    hosts = [value for name, _colon, value in fields if name.strip().lower() == b"host"]
    if not hosts:
        return True  # HTTP/1.0 needs none, and browsers always send one
    found = _HOST_PORT.fullmatch(hosts[0].strip(b" \t").decode("ascii", "replace"))
    if found is None or len(hosts) > 1:
        return False
    name = found[1] or found[2]
    if name.lower() == "localhost":
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _bind(listen: str) -> socket.socket:
    host, port = split_address(listen)
    family = socket.AF_INET6 if host.version == 6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((str(host), port))
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise _cannot_open(listen, error.strerror or str(error), bind_hint(error, port)) from error
    return sock


def bind_hint(error: OSError, port: int) -> str:
    """The fix for an address that cannot be opened."""
    if error.errno == errno.EADDRINUSE:
        return _("Another program uses the port; to see which: {command}").format(command=f"ss -ltnp 'sport = :{port}'")
    if error.errno == errno.EADDRNOTAVAIL:
        return _("This machine does not have that address; to see its addresses: ip address")
    return _("Use another port from 1024, such as 9464.")


def _bind_path(path: Path) -> socket.socket:
    """A socket file with mode 0660, in place of a stale one."""
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o117)
    try:
        sock.bind(str(path))
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        hint = _("Its folder must exist and belong to the service's user: use a path in /run/senderproxy.")
        raise _cannot_open(f"{UNIX}{path}", error.strerror or str(error), hint) from error
    finally:
        os.umask(mask)
    return sock


def _remove_stale(path: Path) -> None:
    try:
        kind = path.lstat().st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(kind):
        raise _cannot_open(f"{UNIX}{path}", _("it is another file"), _("Move it, or use another path."))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_TIMEOUT)
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink(missing_ok=True)
            return
    raise _cannot_open(f"{UNIX}{path}", _("another program answers there"), _("Use another path."))


def _cannot_open(address: str, why: str, hint: str) -> MetricsError:
    return MetricsError(_("cannot listen on {address}: {error}").format(address=address, error=why), hint=hint)
