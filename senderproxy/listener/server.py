"""Listener: socket, TLS, start and stop of one listening address.

Guarantees: it does not start as an open relay, with an unusable certificate or on an unsupported aiosmtpd. On a stop,
messages in progress are finished within the grace time or answered with 421, and the stop takes a bounded time. A
listener that another one replaces turns no client away.
Not here: the accept loop (listener.acceptor), the conversation (listener.relay_smtp), admission (listener.connections,
listener.client_auth).
RFC 8314 section 3.3, RFC 8996, RFC 9325.
"""

import asyncio
import errno
import logging
import socket
import ssl
import warnings
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Final

from senderproxy import log_events
from senderproxy.clock import Clock
from senderproxy.config.model import ClientSettings, ListenerSettings, covers_everything
from senderproxy.config.values import split_address
from senderproxy.errors import SenderproxyError
from senderproxy.listener.acceptor import Acceptor
from senderproxy.listener.aiosmtpd_adapter import Handler, StraightWays, check_aiosmtpd, silence_aiosmtpd
from senderproxy.listener.body import SpillDirectory
from senderproxy.listener.client_auth import ClientAuth, is_loopback
from senderproxy.listener.connections import Counters, ListenerPhase, ListenerState, ListenerTimeouts
from senderproxy.listener.login_throttle import LoginThrottle
from senderproxy.listener.password_threads import PasswordThreads
from senderproxy.listener.proxy_peers import ProxyPeers
from senderproxy.listener.relay_smtp import RelaySMTP
from senderproxy.listener.turned_away import TurnedAwayClients
from senderproxy.log import event
from senderproxy.monitoring.certificate_times import read_validity
from senderproxy.relay.ports import Intake
from senderproxy.translation import _
from senderproxy.wire import replies

_log = logging.getLogger("senderproxy.listener")

_BACKLOG: Final = 1024  # connections that wait in the kernel; Linux caps it at net.core.somaxconn
_LATE_HEADER_TIMEOUT: Final = 1.0  # seconds for the PROXY headers of the last connections: a packet sent again
_LAST_REPLY_TIMEOUT: Final = 2.0  # seconds for a 421 to reach all clients after the grace time


class ListenerError(SenderproxyError):
    """A listener cannot start with its settings."""


class Listener:
    """One listening address, served from `start` to `stop`."""

    def __init__(
        self,
        settings: ListenerSettings,
        clients: tuple[ClientSettings, ...],
        hostname: str,
        intake: Intake,
        clock: Clock,
        *,
        timeouts: ListenerTimeouts | None = None,
        throttle: LoginThrottle | None = None,
        spill: SpillDirectory | None = None,
        passwords: PasswordThreads | None = None,
        turned_away: TurnedAwayClients | None = None,
        straight: StraightWays | None = None,
    ) -> None:
        self.settings = settings
        self._handler = Handler(intake, settings.name, clock, straight)
        self._state = ListenerState(
            settings,
            hostname,
            ClientAuth(settings, clients, clock, throttle, passwords, turned_away),
            clock,
            timeouts or ListenerTimeouts.of(settings),
            spill or SpillDirectory(),
        )
        self._socket: socket.socket | None = None
        self._acceptor: Acceptor | None = None
        self._bound: tuple[str, int] = ("", 0)
        self.certificate_validity: tuple[datetime, datetime] | None = None  # of the one in use; None: none, or unknown

    async def start(self, sock: socket.socket | None = None) -> None:
        """Open and accept connections. Raises ListenerError, UnsupportedAiosmtpd."""
        self.open(sock)
        self.accept()

    def open(self, sock: socket.socket | None = None) -> None:
        """Bind and listen, or listen on an inherited socket. Raises ListenerError, UnsupportedAiosmtpd.

        Connections wait in the kernel until `accept`.
        """
        check_aiosmtpd(self._handler)
        silence_aiosmtpd()
        self.renew_certificate()
        self._socket = sock or _bind(self.settings)
        try:
            self._bound = self._socket.getsockname()[:2]
            self._refuse_open_relay(self._bound[0])
            self._socket.setblocking(False)
            self._socket.listen(_BACKLOG)
        except BaseException:
            self._socket.close()
            raise

    def accept(self) -> None:
        """Accept connections from now on."""
        assert self._socket is not None
        loop = asyncio.get_running_loop()
        handler, state = self._handler, self._state
        proxies = None
        if self.settings.proxy_from:
            proxies = ProxyPeers(
                self.settings.proxy_from, state, lambda client: RelaySMTP(handler, state, loop, client)
            )
        self._acceptor = Acceptor(self._socket, lambda: RelaySMTP(handler, state, loop), state.events, proxies)
        self._acceptor.start()

    def stop_accepting(self) -> None:
        """Accept no more connections, at once; those in the kernel's queue wait for a listener on the same socket."""
        if self._acceptor is not None:
            self._acceptor.stop()

    async def retire(self, grace_seconds: float) -> None:
        """End after another listener took over: clients go on for `grace_seconds`, then to the end of their message.

        Returns when the last one has left; `stop` ends it sooner. No client is turned away.
        """
        state = self._state
        await self._close_socket()
        if not await state.wait_idle(grace_seconds):
            for connection in state.all_connections():
                connection.finish(replies.reconnect(state.hostname))
            await state.wait_idle(None)
        state.events.flush()
        await state.spill.remove()

    async def stop(self, grace_seconds: float) -> None:
        """Accept no more clients, close idle connections, give messages in progress `grace_seconds` to finish."""
        state = self._state
        state.phase = ListenerPhase.CLOSING
        await self._close_socket(min(grace_seconds, _LATE_HEADER_TIMEOUT))
        for connection in state.all_connections():
            connection.finish(replies.stopping(state.hostname))
        if not await state.wait_idle(grace_seconds):
            self._log_grace_exceeded()
            for connection in state.all_connections():
                connection.interrupt()
            for transaction in list(state.transactions):
                transaction.cancel()
            if not await state.wait_idle(_LAST_REPLY_TIMEOUT):
                await self._force_close()
        state.events.flush()
        await state.spill.remove()

    def drain(self, *, on: bool) -> None:
        """Refuse a proxy's health checks from now on, or answer them again. Clients are served as before."""
        if self._state.phase is not ListenerPhase.CLOSING:
            self._state.phase = ListenerPhase.DRAINING if on else ListenerPhase.SERVING

    def renew_certificate(self) -> None:
        """Read certificate and key again, for new connections. Raises ListenerError; the old ones stay in use then."""
        if self.settings.tls != "none":
            self._state.tls = _tls_context(self.settings)
            self.certificate_validity = _validity(self.settings)

    def share_socket(self) -> socket.socket:
        """A duplicate of the socket for the listener that replaces this one: no client is refused in between."""
        assert self._socket is not None
        return self._socket.dup()

    @property
    def port(self) -> int:
        """The port."""
        return self._bound[1]

    @property
    def place(self) -> tuple[str, int]:
        """The numeric address and the port."""
        return self._bound

    @property
    def address(self) -> str:
        """The address with its port: 127.0.0.1:2525, [::1]:2525."""
        host, port = self._bound
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def connections(self) -> int:
        """The number of connected clients."""
        return len(self._state.table)

    @property
    def in_progress(self) -> int:
        """The number of messages whose reply is not known yet."""
        return len(self._state.transactions)

    @property
    def counters(self) -> Counters:
        """Its counters since the start."""
        return self._state.counters

    @property
    def faults(self) -> int:
        """Internal errors in conversations since the start."""
        return self._state.counters.faults + self._handler.faults

    def status(self) -> dict[str, object]:
        """The state and counters of the listener for `senderproxy status`."""
        return {
            "name": self.settings.name,
            "address": self.address,
            "connected": self.connections,
            "under_way": self.in_progress,
            **asdict(self.counters),
            "faults": self.faults,
        }

    def _refuse_open_relay(self, host: str) -> None:
        """Refuse to start as an open relay, though the configuration is checked for that too."""
        if (is_loopback(host) and not self.settings.proxy_from) or self.settings.auth == "required":
            return
        if self.settings.auth == "off" and not self.settings.allow:
            raise ListenerError(
                _("Listener {name} would admit no client.").format(name=self.settings.name),
                hint=_("List the networks that may submit under `allow`, or set `auth`."),
            )
        if covers_everything(self.settings.allow):
            raise ListenerError(
                _("Listener {name} on {host} would be an open relay: any client could send through it.").format(
                    name=self.settings.name, host=host
                ),
                hint=_('List only your own networks under `allow`, or set auth = "required".'),
            )

    async def _close_socket(self, header_seconds: float | None = None) -> None:
        """Stop accepting; connections just accepted still start, so that their clients get a reply.

        `header_seconds`: for the PROXY headers that have not arrived yet; None: the usual time.
        """
        self.stop_accepting()
        if self._acceptor is not None:
            await self._acceptor.wait_started(header_seconds)
            self._acceptor = None
        if self._socket is not None:
            self._socket.close()

    async def _force_close(self) -> None:
        """Reply 421 to connections that did not end when interrupted, then drop them."""
        for connection in self._state.all_connections():
            connection.force_close()
        if not await self._state.wait_idle(_LAST_REPLY_TIMEOUT):
            for connection in self._state.all_connections():
                connection.abort()

    def _log_grace_exceeded(self) -> None:
        event(
            _log,
            log_events.LISTENER_GRACE_EXCEEDED,
            connections=self.connections,
            messages=len(self._state.transactions),
        )


def _bind(settings: ListenerSettings) -> socket.socket:
    host, port = split_address(settings.address)
    family = socket.AF_INET6 if host.version == 6 else socket.AF_INET
    # With the protocol given, asyncio sets TCP_NODELAY on accepted sockets: else a reply waits 40 ms for an ACK.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((str(host), port))
        sock.listen(_BACKLOG)  # here another program on the port is found, too
    except OSError as error:
        sock.close()
        raise ListenerError(
            _("Listener {name} cannot listen on {address}: {error}.").format(
                name=settings.name, address=settings.address, error=error.strerror
            ),
            hint=_bind_hint(error, port),
        ) from error
    return sock


def _bind_hint(error: OSError, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return _("Another program uses the port; to see which: {command}").format(command=f"ss -ltnp 'sport = :{port}'")
    if error.errno == errno.EADDRNOTAVAIL:
        return _("This machine does not have that address; to see its addresses: ip address")
    if error.errno == errno.EACCES:
        return _(
            "Use a port from 1024, such as 2525, or let systemd open this one (senderproxy.socket): docs/operating.md"
        )
    return ""


def _tls_context(settings: ListenerSettings) -> ssl.SSLContext:
    if settings.certificate is None:
        raise ListenerError(
            _("Listener {name} offers TLS but has no certificate.").format(name=settings.name),
            hint=_("Set `certificate` and `key`."),
        )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.old_tls:
        _allow_old_tls(context)
    try:
        context.load_cert_chain(settings.certificate, settings.key, password=_no_passphrase)
    except (OSError, ssl.SSLError) as error:
        raise ListenerError(
            _("Listener {name}: the certificate {certificate} or its key cannot be used: {error}").format(
                name=settings.name, certificate=settings.certificate, error=error
            ),
            hint=_("Both must be PEM files without a passphrase, belong together and be readable by the service."),
        ) from error
    return context


def _validity(settings: ListenerSettings) -> tuple[datetime, datetime] | None:
    """The beginning and the end of the certificate's validity; None if they cannot be read, though OpenSSL could."""
    try:
        return read_validity(Path(str(settings.certificate)).read_text(encoding="ascii", errors="replace"))
    except (OSError, ValueError):
        return None


def _allow_old_tls(context: ssl.SSLContext) -> None:
    """Allow TLS 1.0 and 1.1, which RFC 8996 forbids: old devices have nothing newer. Only where `old_tls` is set."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
    # OpenSSL 3 signs these handshakes with SHA-1 at security level 0 only. aNULL and eNULL: ciphers without
    # authentication or encryption stay excluded.
    context.set_ciphers("DEFAULT:!aNULL:!eNULL@SECLEVEL=0")


def _no_passphrase() -> str:
    """An empty passphrase: OpenSSL would ask for one on the terminal, and the service would hang."""
    return ""
