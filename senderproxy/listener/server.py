"""Listener: the sockets, TLS, start and stop of one door.

Guarantees: it does not open as an open relay, with a certificate that cannot be used, or on an engine that is not the
one we know; when it closes, what is under way is finished within the grace or told to come again, and it is bounded.
Not here: the conversation (listener.relay_smtp), who may enter (listener.connections, listener.client_auth).
RFC 8314 section 3.3, RFC 8996, RFC 9325.
"""

import asyncio
import errno
import logging
import socket
import ssl
import warnings
from dataclasses import asdict
from typing import Final

from senderproxy import log_events
from senderproxy.clock import Clock
from senderproxy.config.model import ClientSettings, ListenerSettings, covers_everything
from senderproxy.config.values import split_address
from senderproxy.errors import SenderproxyError
from senderproxy.listener.aiosmtpd_adapter import Handler, check_aiosmtpd, silence_aiosmtpd
from senderproxy.listener.body import SpillDirectory
from senderproxy.listener.client_auth import ClientAuth, is_loopback
from senderproxy.listener.connections import ListenerState, ListenerTimeouts
from senderproxy.listener.login_throttle import ThrottleLimits
from senderproxy.listener.relay_smtp import RelaySMTP
from senderproxy.log import event
from senderproxy.relay.ports import Intake

_log = logging.getLogger("senderproxy.listener")

_BACKLOG: Final = 1024
_TURNS_TO_ENTER: Final = 3  # of the event loop, from the accepted socket to `connection_made`
_LAST_WORDS: Final = 2.0  # seconds for a 421 to reach everybody once the grace is over


class ListenerError(SenderproxyError):
    """This door cannot be opened as it is configured."""


class Listener:
    """One door: bound to one address, serving until it is stopped."""

    def __init__(
        self,
        settings: ListenerSettings,
        clients: tuple[ClientSettings, ...],
        hostname: str,
        intake: Intake,
        clock: Clock,
        *,
        patience: ListenerTimeouts | None = None,
        login_rules: ThrottleLimits | None = None,
        spill: SpillDirectory | None = None,
    ) -> None:
        self.settings = settings
        self._handler = Handler(intake, settings.name, clock)
        self._house = ListenerState(
            settings,
            hostname,
            ClientAuth(settings, clients, clock, login_rules),
            clock,
            patience or ListenerTimeouts.of(settings),
            spill or SpillDirectory(),
        )
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._bound: tuple[str, int] = ("", 0)

    async def start(self, sock: socket.socket | None = None) -> None:
        """Open the door, on a socket that was handed over if there is one. Raises ListenerError."""
        check_aiosmtpd(self._handler)
        silence_aiosmtpd()
        self.renew_certificate()
        self._socket = sock or _bind(self.settings)
        try:
            self._bound = self._socket.getsockname()[:2]
            self._refuse_open_relay(self._bound[0])
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(
                lambda: RelaySMTP(self._handler, self._house, loop), sock=self._socket, backlog=_BACKLOG
            )
        except BaseException:
            self._socket.close()
            raise

    async def stop(self, grace_seconds: float) -> None:
        """Close the door: nobody new, who is idle is sent away, what is under way has the grace to finish."""
        house = self._house
        house.closing = True
        await self._stop_accepting()
        for guest in house.everybody():
            guest.wind_down()
        if not await house.quiet(grace_seconds):
            self._report_cut_off()
            for guest in house.everybody():
                guest.cut_off()
            for transaction in list(house.transactions):
                transaction.cancel()
            if not await house.quiet(_LAST_WORDS):
                await self._turn_out()
        house.spill.remove()

    def renew_certificate(self) -> None:
        """Read the certificate and key again; new connections are shown them. Raises ListenerError; then as before."""
        if self.settings.tls != "none":
            self._house.tls = _tls_context(self.settings)

    def share_socket(self) -> socket.socket:
        """The socket once more, for the door that takes this one's place: no client finds the place empty."""
        assert self._socket is not None
        return self._socket.dup()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._bound[1]

    @property
    def address(self) -> str:
        """Where it listens: 127.0.0.1:2525, [::1]:2525."""
        host, port = self._bound
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def connections(self) -> int:
        """How many clients are connected now."""
        return len(self._house.guests)

    def status(self) -> dict[str, object]:
        """What `senderproxy status` shows of this door."""
        return {
            "name": self.settings.name,
            "address": self.address,
            "connected": self.connections,
            "under_way": len(self._house.transactions),
            **asdict(self._house.counters),
            "faults": self._house.counters.faults + self._handler.faults,
        }

    def _refuse_open_relay(self, host: str) -> None:
        """The configuration is held to this as well; the door does not rely on it."""
        if is_loopback(host) or self.settings.auth == "required":
            return
        if self.settings.auth == "off" and not self.settings.allow:
            raise ListenerError(
                f"Listener {self.settings.name} would let nobody in.",
                hint="List the networks that may submit under `allow`, or switch `auth` on.",
            )
        if covers_everything(self.settings.allow):
            raise ListenerError(
                f"Listener {self.settings.name} on {host} would be an open relay: anybody could send through it.",
                hint='List only your own networks under `allow`, or set auth = "required".',
            )

    async def _stop_accepting(self) -> None:
        """No new ones; then a few turns for those just accepted to come in: asyncio would drop them unanswered."""
        if self._server is None or self._socket is None:
            return
        asyncio.get_running_loop().remove_reader(self._socket)
        for _ in range(_TURNS_TO_ENTER):
            await asyncio.sleep(0)
        self._server.close()
        self._server = None

    async def _turn_out(self) -> None:
        """What did not even end when it was told to: its clients are told to come again, then dropped."""
        for guest in self._house.everybody():
            guest.dismiss()
        if not await self._house.quiet(_LAST_WORDS):
            for guest in self._house.everybody():
                guest.abort()

    def _report_cut_off(self) -> None:
        event(
            _log,
            log_events.LISTENER_GRACE_EXCEEDED,
            connections=self.connections,
            messages=len(self._house.transactions),
        )


def _bind(settings: ListenerSettings) -> socket.socket:
    host, port = split_address(settings.address)
    family = socket.AF_INET6 if host.version == 6 else socket.AF_INET
    # Named, or asyncio does not set TCP_NODELAY on what is accepted: a reply would wait forty milliseconds for an ACK.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((str(host), port))
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise ListenerError(
            f"Listener {settings.name} cannot listen on {settings.address}: {error.strerror}.", hint=_mend(error, port)
        ) from error
    return sock


def _mend(error: OSError, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Another program has the port; see which: ss -ltnp 'sport = :{port}'"
    if error.errno == errno.EADDRNOTAVAIL:
        return "This machine does not have that address; see which it has: ip address"
    if error.errno == errno.EACCES:
        return "Ports below 1024 need a privilege (AmbientCapabilities=CAP_NET_BIND_SERVICE); take 2525, or 587."
    return ""


def _tls_context(settings: ListenerSettings) -> ssl.SSLContext:
    if settings.certificate is None:
        raise ListenerError(
            f"Listener {settings.name} offers TLS but has no certificate.", hint="Set `certificate` and `key`."
        )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.old_tls:
        _take_old_tls(context)
    try:
        context.load_cert_chain(settings.certificate, settings.key, password=_no_passphrase)
    except (OSError, ssl.SSLError) as error:
        raise ListenerError(
            f"Listener {settings.name}: the certificate {settings.certificate} or its key cannot be used: {error}",
            hint="Both must be PEM, belong together, have no passphrase and be readable for this service.",
        ) from error
    return context


def _take_old_tls(context: ssl.SSLContext) -> None:
    """TLS 1.0 and 1.1: RFC 8996 forbids them, and old devices know nothing else; it was asked for on this door only."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
    # OpenSSL 3 signs these handshakes with SHA-1 at security level 0 only. Encrypted and authenticated they still are.
    context.set_ciphers("DEFAULT:!aNULL:!eNULL@SECLEVEL=0")


def _no_passphrase() -> str:
    """OpenSSL would ask on the terminal otherwise, and a service would hang."""
    return ""
