"""Process of the page: the sockets that systemd passes, uvicorn, the end when idle.

Guarantees: an address of another machine is served with TLS only. Connections and the size of a header section are
bounded. After `idle` seconds without a request the process ends; the next connection starts it again, and the failed
logins are not forgotten before their time. A process that has read the password of a mailbox ends after its answer.
SIGTERM ends it at any moment, also while it starts. No core dump, no access by other processes of the same user.
Not here: connections (web.http_connection), requests (web.boundary), pages (web.views).
sd_listen_fds(3).
"""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import uvicorn

from senderproxy import log_events
from senderproxy.clock import SystemClock
from senderproxy.control.client import ask
from senderproxy.control.hardening import protect_memory
from senderproxy.control.protocol import Role, Verb, new_request
from senderproxy.control.socket_store import sockets_of_systemd
from senderproxy.errors import SenderproxyError
from senderproxy.log import event, flush_log, set_up_logging
from senderproxy.translation import _
from senderproxy.web.boundary import Boundary
from senderproxy.web.http_connection import HttpConnection
from senderproxy.web.service_client import ServiceClient
from senderproxy.web.settings import PageSettings
from senderproxy.web.site import Site
from senderproxy.web.store import Store, StoreError
from senderproxy.web.views import new_app

CONNECTIONS: Final = 64  # at once; further ones get 503
_HEADER_OCTETS: Final = 16 * 1024  # octets of a header section; usual ones have 1 KiB
_KEEP_ALIVE: Final = 5  # seconds that an idle connection stays open
_STOP: Final = 5  # seconds that requests in progress have at the end
_ASK_SECONDS: Final = 5.0  # for the settings, at the start
_LAST_REQUESTS: Final = 60  # seconds for those of other browsers after a password was seen; a login test takes 45
_SIGNALS: Final[tuple[signal.Signals, ...]] = (signal.SIGTERM, signal.SIGINT)
_FIRST_PASSED: Final = 3  # SD_LISTEN_FDS_START
_TICK: Final = 1.0  # seconds between two looks at the idle time

_log = logging.getLogger("senderproxy.web")


class PageError(SenderproxyError):
    """The page cannot start."""


class _HttpServer(uvicorn.Server):
    """uvicorn that ends when it is told; the process' own handler sees the signals."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """No handlers of uvicorn: between theirs and ours a signal would be lost."""
        yield


class _Stop:
    """SIGTERM and SIGINT, from the start of the process to its end."""

    def __init__(self) -> None:
        self.asked = False
        self._server: uvicorn.Server | None = None
        for number in _SIGNALS:
            signal.signal(number, self._on_signal)

    def ends(self, server: uvicorn.Server) -> None:
        """Let a signal end this server; one that has come already ends it when it has started."""
        self._server = server
        server.should_exit = self.asked

    def _on_signal(self, _number: int, _frame: object) -> None:
        self.asked = True
        if self._server is not None:
            self._server.should_exit = True


class IdleWatch:
    """Counts requests in progress, and remembers the last one."""

    def __init__(self, now: float) -> None:
        self._in_progress = 0
        self._last = now
        self._clock = SystemClock()

    def on_request(self, change: int) -> None:
        """A request begins (1) or ends (-1)."""
        self._in_progress += change
        self._last = self._clock.monotonic()

    def seconds(self, now: float) -> float:
        """The time without a request."""
        return 0.0 if self._in_progress else now - self._last


def run(*, listen: str | None, sockets: Path, state: Path, idle: float, environment: dict[str, str]) -> None:
    """Serve until SIGTERM, or until nobody has asked for `idle` seconds (0: for ever).

    `listen`: address and port; None: the sockets of systemd. Raises SenderproxyError if the page cannot start.
    """
    set_up_logging("info", "text", under_journald="JOURNAL_STREAM" in environment)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # a browser's mistakes are not ours
    protect_memory()
    store = Store(state)
    settings = load_settings(sockets, store)
    listening = _listening(listen, environment)
    check_addresses(listening, settings)
    stop = _Stop()
    kept = [os.dup(sock.fileno()) for sock in listening] if listen is not None else []
    if asyncio.run(_serve(listening, sockets, store, settings, idle, stop)) and kept:
        _start_again(kept, environment, stop)


def _start_again(kept: Sequence[int], environment: dict[str, str], stop: _Stop) -> None:
    """Replace this process by a new one, with its listening sockets: without systemd nobody else would start it."""
    for number in _SIGNALS:  # from here on a signal ends the process, the new one too
        signal.signal(number, signal.SIG_DFL)
    if stop.asked:
        return
    passed = {"LISTEN_FDS": str(len(kept)), "LISTEN_PID": str(os.getpid())}
    for position, file in enumerate(kept):
        os.dup2(file, _FIRST_PASSED + position, inheritable=True)
    flush_log()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**environment, **passed})  # noqa: S606


def load_settings(sockets: Path, store: Store) -> PageSettings:
    """The settings of the service; while it does not run, those of the last time. Raises SenderproxyError."""
    try:
        answer = ask(sockets / Role.READ.value, new_request(Verb.PAGE), seconds=_ASK_SECONDS)
    except SenderproxyError:
        kept = store.settings()
        if not kept:
            raise
        return PageSettings.of_answer(kept)
    settings = PageSettings.of_answer(answer)
    store.keep_settings({name: value for name, value in answer.items() if name != "ok"})
    return settings


def check_addresses(listening: Sequence[socket.socket], settings: PageSettings) -> None:
    """Raise PageError for an address of another machine without TLS."""
    for sock in listening:
        if sock.family in (socket.AF_INET, socket.AF_INET6) and settings.certificate is None:
            address = str(sock.getsockname()[0])
            if not ip_address(address.partition("%")[0]).is_loopback:
                raise PageError(
                    _("The page listens on {address}, which other machines reach, and has no certificate.").format(
                        address=address
                    ),
                    hint=_("Set [web] certificate and key, or let senderproxy-web.socket listen on 127.0.0.1."),
                )


def _listening(listen: str | None, environment: dict[str, str]) -> list[socket.socket]:
    if passed := [sock for found in sockets_of_systemd(environment).values() for sock in found]:
        return passed
    if listen is None:
        raise PageError(
            _("systemd has passed no socket to the page."),
            hint=_("Start it: systemctl start senderproxy-web.socket, or: senderproxy web --listen 127.0.0.1:8525"),
        )
    host, _colon, port = listen.rpartition(":")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((str(ip_address(host.strip("[]"))), int(port)))
    except (OSError, ValueError, OverflowError) as error:
        raise PageError(
            _("The page cannot listen on {address}: {error}.").format(address=listen, error=error),
            hint=_("Write it like 127.0.0.1:8525."),
        ) from error
    return [sock]


async def _serve(
    listening: Sequence[socket.socket], sockets: Path, store: Store, settings: PageSettings, idle: float, stop: _Stop
) -> bool:
    """Serve until the end of the process. True if a password was seen."""
    clock = SystemClock()
    service = ServiceClient(sockets, clock)
    site = Site(settings, service, store, clock)
    watch = IdleWatch(clock.monotonic())
    server = _HttpServer(
        uvicorn.Config(
            Boundary(new_app(site), settings, watch.on_request),
            http=HttpConnection,
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=CONNECTIONS,
            h11_max_incomplete_event_size=_HEADER_OCTETS,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=_STOP,
            **_tls(settings),
        )
    )
    stop.ends(server)
    ending = [
        asyncio.create_task(_end_when_idle(server, site, watch, idle)),
        asyncio.create_task(_end_after_password(server, site)),
    ]
    event(_log, log_events.PAGE_STARTED, address=", ".join(_name(sock) for sock in listening))
    try:
        await server.serve(sockets=list(listening))
    finally:
        for task in ending:
            task.cancel()
        service.close()
    if not site.limits.is_empty(clock.monotonic()):
        with suppress(StoreError):
            store.keep_failures(site.limits.entries(store.users()))
    return site.password_seen.is_set()


async def _end_when_idle(server: uvicorn.Server, site: Site, watch: IdleWatch, idle: float) -> None:
    while idle:
        await asyncio.sleep(min(_TICK, idle))
        now = site.clock.monotonic()
        if watch.seconds(now) >= idle and site.limits.is_empty(now):
            server.should_exit = True
            return


async def _end_after_password(server: uvicorn.Server, site: Site) -> None:
    """End when the answer is sent. Other requests in progress end first; new ones wait for the next process."""
    await site.password_seen.wait()
    event(_log, log_events.PAGE_PROCESS_ENDS)
    server.config.timeout_graceful_shutdown = _LAST_REQUESTS
    server.should_exit = True


def _tls(settings: PageSettings) -> Mapping[str, Any]:
    if settings.certificate is None:
        return {}
    for path in (settings.certificate, settings.key):
        if path is not None and not os.access(path, os.R_OK):
            raise PageError(
                _("The page cannot read {path}.").format(path=path),
                hint=_(
                    "Let the user senderproxy-web read it, for example: setfacl -m u:senderproxy-web:r {path}"
                ).format(path=path),
            )
    return {"ssl_certfile": settings.certificate, "ssl_keyfile": settings.key}


def _name(sock: socket.socket) -> str:
    name = sock.getsockname()
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else str(name)
