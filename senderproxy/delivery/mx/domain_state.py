"""State of one domain: its sessions, the servers that failed, and the pause while none takes mail.

Guarantees: a server that failed is tried last for some minutes, so that a dead preferred one costs its timeout once; in
a pause no connection is made; a success ends both.
Not here: the transactions (delivery.mx.courier), the sessions' limits and end (delivery.hops.sessions).
"""

import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from senderproxy.clock import Clock
from senderproxy.delivery.causes import Stage
from senderproxy.delivery.hops.opening import HopOpener, HopServer, HopSession
from senderproxy.delivery.hops.sessions import HopSessions
from senderproxy.delivery.hops.tls import HopTls
from senderproxy.delivery.mx.hosts import MailHost
from senderproxy.delivery.open_failures import FailureKind, OpenFailed
from senderproxy.delivery.resolver import AddressInfo
from senderproxy.mail.reply import Reply
from senderproxy.routing.provider import Limits

LIMITS: Final = Limits(connections=2, messages_per_connection=50, idle_seconds=5.0, recipients_per_message=100)
_OPENING: Final = 180.0  # seconds after which no further server is tried; a client waits for 600
_SET_BACK: Final = 300.0  # seconds for which a server that failed is tried last
_FIRST_PAUSE: Final = 60.0  # seconds; doubled with each further attempt without a session
LONGEST_PAUSE: Final = 1800.0  # seconds; RFC 5321 section 4.5.4.1
_TLS_STAGES: Final = frozenset({Stage.STARTTLS, Stage.HANDSHAKE})


class DomainState:
    """One domain with mail since the start, or within the last ones."""

    def __init__(self, way: str, domain: str, opener: HopOpener, clock: Clock, port: Callable[[str], int]) -> None:
        """`port` returns the port of a server by its name: 25, unless a test has others."""
        self.way = way  # as in the log: `mx kunde.example`
        self.domain = domain
        self.hosts: Sequence[MailHost] = ()  # of the last look-up, in the order in which they are tried
        self.sessions = HopSessions(way, LIMITS, clock, self._open)
        self.reason: Reply | None = None  # why no server takes mail
        self.since = clock.now()  # of the reason
        self.attempts = 0  # in progress
        self._opener = opener
        self._clock = clock
        self._port = port
        self._set_back: dict[str, float] = {}  # names of servers, monotonic seconds; of those in `hosts`
        self._without_tls: dict[str, float] = {}  # as above: the handshake failed
        self._pause = 0.0  # seconds
        self._paused_until = 0.0  # monotonic seconds

    def use(self, hosts: Sequence[MailHost]) -> None:
        """Try these servers from now on."""
        self.hosts = hosts
        names, now = {host.name for host in hosts}, self._clock.monotonic()
        self._set_back, self._without_tls = (
            {name: until for name, until in known.items() if name in names and until > now}
            for known in (self._set_back, self._without_tls)
        )

    def set_back(self, host: str) -> None:
        """Try this server last for a while: it failed, or takes nothing now."""
        self._set_back[host] = self._clock.monotonic() + _SET_BACK

    def seconds_left(self) -> float:
        """The rest of the pause; 0 without one."""
        return max(0.0, self._paused_until - self._clock.monotonic())

    def failed(self, reason: Reply, longest: float = LONGEST_PAUSE) -> None:
        """No server takes mail: pause, for `longest` seconds at most."""
        now = self._clock.monotonic()
        if self.reason is None:
            self.since = self._clock.now()
        self.reason = reason
        self._pause = min(self._pause * 2 or _FIRST_PAUSE, longest)
        self._paused_until = now + self._pause * (0.9 + 0.2 * self._clock.chance())

    def worked(self) -> bool:
        """A session is open. True if none could be opened before."""
        was_failing, self.reason = self.reason is not None, None
        self._pause = self._paused_until = 0.0
        return was_failing

    def resume(self) -> None:
        """End the pause."""
        self._paused_until = 0.0

    @property
    def is_unused(self) -> bool:
        """True without an attempt, a session, and a failure that is worth remembering."""
        return not self.attempts and not self.sessions.idle and not self.seconds_left()

    # --- sessions ---

    async def _open(self) -> HopSession | OpenFailed:
        """Open a session with the first server that takes one; those set back come last, the last one at the end."""
        failures: list[OpenFailed] = []
        end = self._clock.monotonic() + _OPENING
        for host in sorted(self.hosts, key=lambda host: self._set_back.get(host.name, 0.0)):
            if failures and self._clock.monotonic() >= end:
                break
            result = await self._open_at(host)
            if isinstance(result, HopSession):
                self._set_back.pop(host.name, None)
                return result
            self.set_back(host.name)
            failures.append(result)
        first = failures[0]
        if len(failures) > 1:
            text = f"{first.reply.text} (and {len(failures) - 1} more mail servers of {self.domain} failed)"
            first = replace(first, reply=replace(first.reply, lines=(text,)))
        return replace(first, kind=FailureKind.UNREACHABLE, hint="", words="")

    async def _open_at(self, host: MailHost) -> HopSession | OpenFailed:
        """Open a session: with TLS if the server offers it and its handshake works, else without. RFC 7435."""
        port = self._port(host.name)
        addresses = [info for address in host.addresses for info in _address_info(address, port)]
        if host.name not in self._without_tls:
            server = self._server(host, port, HopTls.OPPORTUNISTIC)
            result = await self._opener.open(server, group="", addresses=addresses)
            if isinstance(result, HopSession) or result.stage not in _TLS_STAGES:
                return result
            self._without_tls[host.name] = self._clock.monotonic() + _SET_BACK
        return await self._opener.open(self._server(host, port, HopTls.NONE), group="", addresses=addresses)

    def _server(self, host: MailHost, port: int, tls: HopTls) -> HopServer:
        return HopServer(host.name, port, tls, is_public=True)


def _address_info(address: str, port: int) -> Sequence[AddressInfo]:
    return socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
