"""Opening of a session: connection, TLS, greeting, EHLO and login, at the first smarthost that is reachable.

Guarantees: AUTH is sent only under verified TLS (or to loopback, if the settings allow it), with exactly one mechanism,
once. The password appears in no reply and no log line. An exception closes the connection.
Not here: transactions (delivery.session), when a session is opened (delivery.pool).
RFC 3207, RFC 4954, RFC 5321 section 4.5.3.2, RFC 8314.
"""

import asyncio
import base64
import ipaddress
import logging
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import aiosmtplib

from senderproxy import log_events
from senderproxy.aio import forget_traceback
from senderproxy.delivery import classify
from senderproxy.delivery.account_health import login_refused_reply
from senderproxy.delivery.aiosmtplib_adapter import has_unread_octets
from senderproxy.delivery.classify import FailureKind, OpenFailed, SessionEnded, Stage
from senderproxy.delivery.connect import connect_first
from senderproxy.delivery.protocol import UpstreamProtocol
from senderproxy.delivery.resolver import Resolver
from senderproxy.delivery.session import EhloExtensions, Session, SessionTimeouts
from senderproxy.delivery.tls_contexts import TlsContexts
from senderproxy.log import event
from senderproxy.mail.reply import reply
from senderproxy.routing.account import Account, Credential
from senderproxy.routing.provider import Provider, Security, Smarthost

_log: Final = logging.getLogger("senderproxy.delivery")

_SUPPORTED: Final = ("PLAIN", "LOGIN")


@dataclass(slots=True)
class SessionOpener:
    """The settings for new sessions. A change applies to sessions opened afterwards."""

    timeouts: SessionTimeouts
    hostname: str  # for EHLO
    resolver: Resolver
    contexts: TlsContexts = field(default_factory=TlsContexts)

    def close(self) -> None:
        """Open no more sessions. Calls that hang are left to their threads, which do not delay the exit."""
        self.resolver.close()
        self.contexts.close()

    async def open(
        self,
        smarthost: Smarthost,
        mechanisms: Sequence[str] = (),
        credential: Credential | None = None,
        *,
        provider: str = "",
    ) -> Session | OpenFailed:
        """Open a session at one smarthost. Never raises for what the network or the upstream does.

        `mechanisms` are those of AUTH, in order of preference. Without a credential there is no login, and TLS is not
        required. `provider`: the smarthost's, whose look-ups are bounded together.
        """
        attempt = _OpeningAttempt(self, smarthost, mechanisms, credential, provider or smarthost.host)
        try:
            return await attempt.run()
        except (OSError, aiosmtplib.SMTPException) as fault:
            result = classify.open_failure(fault, smarthost, attempt.stage)
            forget_traceback(fault)
        except asyncio.CancelledError as cancelled:
            forget_traceback(cancelled)
            raise
        except SessionEnded as end:
            result = OpenFailed(FailureKind.UNREACHABLE, end.reply, end.upstream_reply)
        return classify.without_secrets(result, _encodings(credential))

    async def open_for(self, account: Account, provider: Provider, credential: Credential) -> Session | OpenFailed:
        """Log in at the first reachable smarthost of the account's provider. One log line for each attempt."""
        failures: list[OpenFailed] = []
        for smarthost in provider.smarthosts:
            result = await self.open(smarthost, provider.mechanisms, credential, provider=provider.name)
            fields = {"account": account.id, "login": credential.login, "smarthost": smarthost}
            if isinstance(result, Session):
                event(_log, log_events.SESSION_OPENED, fault=None, **fields, mechanism=result.mechanism)
                return result
            event(_log, log_events.SESSION_FAILED, fault=None, **fields, reason=result.kind.value, reply=result.reply)
            if result.kind is FailureKind.PASSWORD and result.upstream_reply is not None:
                refused = login_refused_reply(result.upstream_reply, account.id, credential.login, str(smarthost))
                return OpenFailed(result.kind, refused, result.upstream_reply)
            if result.kind is not FailureKind.UNREACHABLE:
                return result
            failures.append(result)
        if not failures:
            text = f"Provider {provider.name} has no smarthost. To fix: set host in [providers.{provider.name}]"
            return OpenFailed(FailureKind.INCOMPATIBLE, reply(451, "4.3.5", text))
        return classify.combined(failures)


class _OpeningAttempt:
    """One attempt to open a session. `stage` is where it is, or where it failed."""

    def __init__(
        self,
        opener: SessionOpener,
        smarthost: Smarthost,
        mechanisms: Sequence[str],
        credential: Credential | None,
        provider: str,
    ) -> None:
        self.stage = Stage.LOOK_UP
        self._smarthost = smarthost
        self._mechanisms = mechanisms
        self._credential = credential
        self._provider = provider
        self._hostname = opener.hostname
        self._timeouts = opener.timeouts
        self._contexts = opener.contexts
        self._resolver = opener.resolver

    async def run(self) -> Session | OpenFailed:
        smarthost = self._smarthost
        context = None
        if smarthost.security is not Security.NONE:
            try:
                context = await self._contexts.context(smarthost.ca_file)
            except OSError as fault:
                return classify.ca_file_unreadable(smarthost, fault)
        # aiosmtplib's client never stores the password. start_tls=False: STARTTLS is sent below, never opportunistic.
        client = aiosmtplib.SMTP(
            hostname=smarthost.host,
            local_hostname=self._hostname,
            use_tls=smarthost.security is Security.IMPLICIT_TLS,
            start_tls=False,
            tls_context=context,
            timeout=self._timeouts.greeting,
        )
        async with asyncio.timeout(self._timeouts.connect):
            addresses = await self._resolver.resolve(smarthost.host, smarthost.port, self._provider)
        self.stage = Stage.CONNECT
        async with asyncio.timeout(self._timeouts.connect):
            connection = await connect_first(addresses)
        try:
            peer = str(connection.getpeername()[0])
            if (
                self._credential is not None
                and smarthost.security is Security.NONE
                and not ipaddress.ip_address(peer.partition("%")[0]).is_loopback
            ):
                connection.close()
                return classify.plain_text_refused(smarthost, peer)
        except BaseException:
            connection.close()
            raise
        try:
            await self._greet(client, connection)
            result = await self._secure_and_log_in(client)
        except BaseException:
            _abort(client)
            raise
        if isinstance(result, OpenFailed):
            _abort(client)
        return result

    async def _greet(self, client: aiosmtplib.SMTP, connection: socket.socket) -> None:
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

    async def _secure_and_log_in(self, client: aiosmtplib.SMTP) -> Session | OpenFailed:
        smarthost = self._smarthost
        await self._ehlo(client)
        if smarthost.security is Security.STARTTLS:
            if not client.supports_extension("starttls"):
                return classify.starttls_missing(smarthost)
            self.stage = Stage.STARTTLS
            await client.starttls(timeout=self._timeouts.connect)
            await self._ehlo(client)  # RFC 3207 section 4.2: the extensions received before TLS are discarded
        if self._credential is None:
            self._require_in_step(client)
            return self._take_over(client, "")
        self._require_tls(client)

        offered = client.server_auth_methods
        usable = [name.upper() for name in self._mechanisms if name.upper() in _SUPPORTED and name.lower() in offered]
        if not usable:
            return classify.no_usable_mechanism(smarthost, self._mechanisms, offered)
        self._require_in_step(client)
        self.stage = Stage.AUTH
        await self._log_in(client, usable[0], self._credential)
        self._require_in_step(client)
        return self._take_over(client, usable[0])

    async def _ehlo(self, client: aiosmtplib.SMTP) -> None:
        self.stage = Stage.EHLO
        await client.ehlo(timeout=self._timeouts.ehlo)

    async def _log_in(self, client: aiosmtplib.SMTP, mechanism: str, credential: Credential) -> None:
        """Send AUTH, once, with one mechanism."""
        login, secret = _octets(credential.login), _octets(credential.reveal())
        if mechanism == "PLAIN":
            await client.auth_plain(login, secret, timeout=self._timeouts.auth)
            return
        # One word at a time: a server that ignores the user name on the first line would take the password for it.
        for word in (b"", login, secret):
            line = (b"AUTH", b"LOGIN") if not word else (base64.b64encode(word),)
            response = await client.execute_command(*line, timeout=self._timeouts.auth)
            if response.code != (235 if word is secret else 334):
                raise aiosmtplib.SMTPAuthenticationError(response.code, response.message)

    def _require_tls(self, client: aiosmtplib.SMTP) -> None:
        """Verify once more, before a password is sent, that the connection has TLS."""
        if self._smarthost.security is not Security.NONE and client.get_transport_info("ssl_object") is None:
            raise AssertionError("a session without TLS reached the login")

    def _require_in_step(self, client: aiosmtplib.SMTP) -> None:
        """Raise SessionEnded if the server sent more than was asked: the next reply would be to the last command."""
        if has_unread_octets(client):
            raise SessionEnded(classify.invalid_reply(self._smarthost, self.stage))

    def _take_over(self, client: aiosmtplib.SMTP, mechanism: str) -> Session:
        """Give the transport to our protocol. aiosmtplib's client is not used any further, and freed."""
        transport = client.transport
        if not isinstance(transport, asyncio.Transport) or transport.is_closing():
            raise SessionEnded(classify.connection_closed(self._smarthost, self.stage, None))
        size = client.esmtp_extensions.get("size", "").strip()
        extensions = EhloExtensions(
            pipelining=client.supports_extension("pipelining"),
            eight_bit=client.supports_extension("8bitmime"),
            size=client.supports_extension("size"),
            size_limit=int(size) or None if size.isascii() and size.isdigit() and len(size) <= 20 else None,
        )
        protocol = UpstreamProtocol(transport, self._smarthost)
        client.protocol = client.transport = None  # client and protocol refer to each other
        return Session(protocol, self._smarthost, extensions, self._timeouts, mechanism)


def _abort(client: aiosmtplib.SMTP) -> None:
    """Abort the connection. abort() before close(): Python 3.11.2 cannot abort a TLS connection closed twice."""
    if isinstance(client.transport, asyncio.Transport):
        client.transport.abort()
    client.close()


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _encodings(credential: Credential | None) -> Sequence[bytes]:
    """Return the forms in which a server may repeat the secret: plain, and both base64 forms of AUTH."""
    if credential is None:
        return ()
    login, secret = _octets(credential.login), _octets(credential.reveal())
    if not secret:
        return ()
    plain = base64.b64encode(b"\0" + login + b"\0" + secret)
    return (plain, base64.b64encode(secret), secret)
