"""Opening of a session without a login.

Guarantees: there is no parameter for a credential, and nothing in this package knows one: AUTH is never
sent. Without TLS only a loopback or private address is connected to, unless the server is an MX host. A connection that
leads to a listener of this service is closed.
Not here: the login (delivery.opening), the sessions of a hop (delivery.hops.sessions). RFC 3207, RFC 5321 section 6.3.
"""

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import aiosmtplib

from senderproxy.aio import forget_traceback
from senderproxy.delivery import open_failures
from senderproxy.delivery.causes import CauseOf, cause_of
from senderproxy.delivery.classify import SessionEnded
from senderproxy.delivery.handshake import Handshake, abort
from senderproxy.delivery.hops.tls import HopContext, HopContexts, HopFiles, HopTls
from senderproxy.delivery.open_failures import OpenFailed
from senderproxy.delivery.resolver import AddressInfo, Resolver
from senderproxy.delivery.session import Completed, Interrupted, Session, SessionTimeouts
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.message import Message
from senderproxy.routing.hops import ClientCertificate, is_internal_ip
from senderproxy.routing.provider import Security, Smarthost

_SECURITY: Final = {
    HopTls.NONE: Security.NONE,
    HopTls.OPPORTUNISTIC: Security.STARTTLS,
    HopTls.STARTTLS: Security.STARTTLS,
    HopTls.IMPLICIT: Security.IMPLICIT_TLS,
}
_TLS: Final = {
    Security.NONE: HopTls.NONE,
    Security.STARTTLS: HopTls.STARTTLS,
    Security.IMPLICIT_TLS: HopTls.IMPLICIT,
}


@dataclass(frozen=True, slots=True)
class HopServer:
    """One server, and how to connect to it. `is_public`: an MX host, with optional TLS."""

    host: str
    port: int
    tls: HopTls
    ca_file: str | None = None  # PEM; None: the system's authorities
    client: ClientCertificate | None = None
    is_public: bool = False

    @classmethod
    def of(cls, smarthost: Smarthost, client: ClientCertificate | None = None) -> "HopServer":
        """The server of a configured hop."""
        return cls(smarthost.host, smarthost.port, _TLS[smarthost.security], smarthost.ca_file, client)

    @property
    def smarthost(self) -> Smarthost:
        """Its name in replies and logs."""
        return Smarthost(self.host, self.port, _SECURITY[self.tls], self.ca_file)


class HopSession:
    """A session without a login. One transaction at a time."""

    def __init__(self, session: Session, server: HopServer, peer: str, *, encrypted: bool) -> None:
        self._session = session
        self.server = server
        self.peer = peer  # IP address
        self.encrypted = encrypted
        self.idle_since = 0.0  # monotonic clock; kept by delivery.hops.sessions

    @property
    def usable(self) -> bool:
        """True if the session can carry another message."""
        return self._session.usable

    @property
    def message_count(self) -> int:
        """The number of messages that the server accepted on it."""
        return self._session.message_count

    async def transact(
        self, envelope: Envelope, message: Message, *, warm: bool, cause_of: CauseOf = cause_of
    ) -> Completed | Interrupted:
        """Send the message; see delivery.session."""
        return await self._session.transact(envelope, message, warm=warm, cause_of=cause_of)

    async def quit(self) -> None:
        """Send QUIT and close the connection, in bounded time."""
        await self._session.quit()

    def abort(self) -> None:
        """End the session and abort the connection."""
        self._session.abort()

    async def wait_closed(self) -> None:
        """Wait until the connection is closed."""
        await self._session.wait_closed()


@dataclass(slots=True)
class HopOpener:
    """The settings for new sessions. A change applies to sessions opened afterwards."""

    timeouts: SessionTimeouts
    hostname: str  # for EHLO
    resolver: Resolver
    contexts: HopContexts = field(default_factory=HopContexts)
    own_listeners: frozenset[tuple[str, int]] = frozenset()  # IP addresses and ports

    def close(self) -> None:
        """Open no more sessions."""
        self.contexts.close()

    async def open(
        self, server: HopServer, *, group: str, addresses: Sequence[AddressInfo] | None = None
    ) -> HopSession | OpenFailed:
        """Open a session. Never raises for a failure of the network or the server.

        `group`: the servers whose look-ups are bounded together. `addresses`: known ones, in place of a look-up. If
        opportunistic TLS fails, the caller may try again without.
        """
        handshake = Handshake(server.smarthost, self.hostname, self.timeouts, self.resolver, group)
        try:
            return await self._open(server, handshake, addresses)
        except (OSError, aiosmtplib.SMTPException) as fault:
            result = open_failures.failure_of(fault, server.smarthost, handshake.stage)
            forget_traceback(fault)
        except SessionEnded as end:
            result = open_failures.session_failed(end.reply, end.upstream_reply, handshake.stage)
        return replace(result, stage=handshake.stage)

    async def _open(
        self, server: HopServer, handshake: Handshake, addresses: Sequence[AddressInfo] | None
    ) -> HopSession | OpenFailed:
        context = await self._context(server)
        if isinstance(context, OpenFailed):
            return context
        client = handshake.client(None if context is None else context.for_hop())
        connection = await handshake.connect(addresses)
        try:
            peer = str(connection.getpeername()[0])
            if (refused := self._refused_peer(server, connection, peer)) is not None:
                connection.close()
                return refused
            handshake.name_ourselves(client, connection)
        except BaseException:
            connection.close()
            raise
        try:
            await handshake.greet(client, connection)
            result = await _secure(client, handshake, server, peer)
        except BaseException:
            abort(client)
            raise
        if isinstance(result, OpenFailed):
            abort(client)
        return result

    async def _context(self, server: HopServer) -> HopContext | OpenFailed | None:
        if server.tls is HopTls.NONE:
            return None
        files = HopFiles(server.ca_file, server.client, server.tls is not HopTls.OPPORTUNISTIC)
        try:
            context = await self.contexts.context(files)
        except OSError as fault:
            if server.client is not None:
                return open_failures.client_certificate_unreadable(server.smarthost, server.client, fault)
            return open_failures.ca_file_unreadable(server.smarthost, fault)
        return context if self.contexts.has_authorities(files) else open_failures.no_authorities(server.smarthost)

    def _refused_peer(self, server: HopServer, connection: socket.socket, peer: str) -> OpenFailed | None:
        """The failure if nothing may be sent to this address."""
        address = ipaddress.ip_address(peer.partition("%")[0])
        is_this_machine = address.is_loopback or peer == str(connection.getsockname()[0])
        own = [host for host, port in self.own_listeners if port == server.port]
        if peer in own or (is_this_machine and any(ipaddress.ip_address(host).is_unspecified for host in own)):
            return open_failures.own_listener(server.smarthost)
        if server.tls is HopTls.NONE and not server.is_public and not is_internal_ip(address):
            return open_failures.plain_text_to_public(server.smarthost, peer)
        return None


async def _greet_back(client: aiosmtplib.SMTP, handshake: Handshake, server: HopServer) -> None:
    """Send EHLO, or HELO to an MX host that does not know it: RFC 5321 section 3.2."""
    try:
        await handshake.ehlo(client)
    except aiosmtplib.SMTPHeloError as refused:
        if not server.is_public or refused.code not in (500, 502) or not client.is_connected:
            raise
        await client.helo()


async def _secure(
    client: aiosmtplib.SMTP, handshake: Handshake, server: HopServer, peer: str
) -> HopSession | OpenFailed:
    await _greet_back(client, handshake, server)
    offered = client.supports_extension("starttls")
    if server.tls is HopTls.STARTTLS and not offered:
        return open_failures.starttls_missing(server.smarthost, has_login=False)
    if server.tls in (HopTls.STARTTLS, HopTls.OPPORTUNISTIC) and offered:
        await handshake.start_tls(client)
    encrypted = client.get_transport_info("ssl_object") is not None
    handshake.require_in_step(client)
    return HopSession(handshake.take_over(client, ""), server, peer, encrypted=encrypted)
