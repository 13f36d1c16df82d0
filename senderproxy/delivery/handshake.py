"""Beginning of a session, up to the login: connection, TLS, greeting and EHLO.

Guarantees: each step has its own timeout; an exception closes the connection; what the server sent before TLS is not
used after it.
Not here: the login (delivery.opening), sessions without one (delivery.hops.opening), transactions (delivery.session).
RFC 3207, RFC 5321 section 4.5.3.2, RFC 8314.
"""

import asyncio
import socket
import ssl
from collections.abc import Sequence
from typing import Final

import aiosmtplib

from senderproxy.delivery import classify, open_failures
from senderproxy.delivery.aiosmtplib_adapter import has_unread_octets
from senderproxy.delivery.causes import Stage
from senderproxy.delivery.classify import SessionEnded
from senderproxy.delivery.connect import connect_first
from senderproxy.delivery.protocol import UpstreamProtocol
from senderproxy.delivery.resolver import AddressInfo, Resolver
from senderproxy.delivery.session import EhloExtensions, Session, SessionTimeouts
from senderproxy.routing.provider import Security, Smarthost

_DIGITS: Final = 20  # of a SIZE, at most: 2**64 has as many


class Handshake:
    """The steps with one server. `stage`: the present one, or the one that failed."""

    def __init__(
        self, smarthost: Smarthost, hostname: str, timeouts: SessionTimeouts, resolver: Resolver, group: str
    ) -> None:
        """`hostname`: for EHLO; `group`: the servers whose look-ups are bounded together."""
        self.stage = Stage.LOOK_UP
        self._smarthost = smarthost
        self._hostname = hostname
        self._timeouts = timeouts
        self._resolver = resolver
        self._group = group

    def client(self, context: ssl.SSLContext | None) -> aiosmtplib.SMTP:
        """A client of aiosmtplib that is not connected. start_tls=False: STARTTLS is sent by us, never by itself."""
        smarthost = self._smarthost
        return aiosmtplib.SMTP(
            hostname=smarthost.host,
            local_hostname=self._hostname,  # replaced below where it is no full name
            use_tls=smarthost.security is Security.IMPLICIT_TLS,
            start_tls=False,
            tls_context=context,
            timeout=self._timeouts.greeting,
        )

    async def connect(self, addresses: Sequence[AddressInfo] | None = None) -> socket.socket:
        """Connect to the first address that answers. `addresses`: known ones, in place of a look-up."""
        smarthost = self._smarthost
        if addresses is None:
            async with asyncio.timeout(self._timeouts.connect):
                addresses = await self._resolver.resolve(smarthost.host, smarthost.port, self._group)
        self.stage = Stage.CONNECT
        async with asyncio.timeout(self._timeouts.connect):
            return await connect_first(addresses)

    def name_ourselves(self, client: aiosmtplib.SMTP, connection: socket.socket) -> None:
        """Use our address for EHLO if our name is no full one."""
        if not is_full_name(self._hostname):
            client.local_hostname = address_literal(str(connection.getsockname()[0]))

    async def greet(self, client: aiosmtplib.SMTP, connection: socket.socket) -> None:
        """Wait for the TLS handshake, if TLS is implicit, and for the greeting; each with its own timeout."""
        loop = asyncio.get_running_loop()
        implicit = self._smarthost.security is Security.IMPLICIT_TLS
        self.stage = Stage.HANDSHAKE if implicit else Stage.GREETING
        async with asyncio.timeout(None) as limit:

            def end_of_handshake() -> None:
                if client.transport is None:  # set after the handshake
                    limit.reschedule(loop.time())

            timer = loop.call_later(self._timeouts.connect, end_of_handshake)
            try:
                await client.connect(sock=connection)
            except aiosmtplib.SMTPException as fault:
                about_greeting = isinstance(fault, aiosmtplib.SMTPResponseException)
                if about_greeting or isinstance(fault.__cause__, aiosmtplib.SMTPException):
                    self.stage = Stage.GREETING
                raise
            finally:
                timer.cancel()

    async def ehlo(self, client: aiosmtplib.SMTP) -> None:
        """Send EHLO."""
        self.stage = Stage.EHLO
        await client.ehlo(timeout=self._timeouts.ehlo)

    async def start_tls(self, client: aiosmtplib.SMTP) -> None:
        """Send STARTTLS, and EHLO again: the extensions received before TLS are discarded."""
        self.stage = Stage.STARTTLS
        await client.starttls(timeout=self._timeouts.connect)
        await self.ehlo(client)  # RFC 3207 section 4.2

    def require_in_step(self, client: aiosmtplib.SMTP) -> None:
        """Raise SessionEnded if the server sent more than was asked: the next reply would be to the last command."""
        if has_unread_octets(client):
            raise SessionEnded(open_failures.invalid_reply(self._smarthost, self.stage))

    def take_over(self, client: aiosmtplib.SMTP, mechanism: str) -> Session:
        """Give the transport to our protocol. aiosmtplib's client is not used any further, and freed."""
        transport = client.transport
        if not isinstance(transport, asyncio.Transport) or transport.is_closing():
            raise SessionEnded(classify.connection_closed(self._smarthost, self.stage, None))
        size = client.esmtp_extensions.get("size", "").strip()
        extensions = EhloExtensions(
            pipelining=client.supports_extension("pipelining"),
            eight_bit=client.supports_extension("8bitmime"),
            size=client.supports_extension("size"),
            size_limit=int(size) or None if size.isascii() and size.isdigit() and len(size) <= _DIGITS else None,
        )
        protocol = UpstreamProtocol(transport, self._smarthost)
        client.protocol = client.transport = None  # client and protocol refer to each other
        return Session(protocol, self._smarthost, extensions, self._timeouts, mechanism)


def abort(client: aiosmtplib.SMTP) -> None:
    """Abort the connection. abort() before close(): Python 3.11.2 cannot abort a TLS connection closed twice."""
    if isinstance(client.transport, asyncio.Transport):
        client.transport.abort()
    client.close()


def is_full_name(hostname: str) -> bool:
    """True if the name is a fully qualified one, or an address literal."""
    return "." in hostname.strip(".") or hostname.startswith("[")


def address_literal(address: str) -> str:
    """Return the address literal for EHLO: `[192.0.2.7]`, `[IPv6:2001:db8::7]`. RFC 5321 section 4.1.3."""
    plain = address.partition("%")[0]
    return f"[IPv6:{plain}]" if ":" in plain else f"[{plain}]"
