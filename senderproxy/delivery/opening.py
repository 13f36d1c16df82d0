"""Opening of a session: connection, TLS, greeting, EHLO and login, at the first smarthost that is reachable.

Guarantees: AUTH is sent only under verified TLS (or to loopback, if the settings allow it), with one mechanism, once; a
second one is tried, once, if the server refuses the first as such. The password appears in no reply and no log line. An
exception closes the connection. After several failed logins at a server, delivery.login_gate says who tries next.
Not here: the steps before the login (delivery.handshake), transactions (delivery.session), when a session is opened
(delivery.pool). RFC 4954, RFC 8314.
"""

import asyncio
import base64
import ipaddress
import logging
import secrets
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import aiosmtplib

from senderproxy import log_events
from senderproxy.aio import forget_traceback
from senderproxy.clock import SystemClock
from senderproxy.delivery import open_failures
from senderproxy.delivery.account_health import in_doubt, login_failed_reply, login_failed_words
from senderproxy.delivery.causes import Cause, Stage
from senderproxy.delivery.classify import SessionEnded
from senderproxy.delivery.handshake import Handshake, abort
from senderproxy.delivery.hints import Login, hint
from senderproxy.delivery.login_gate import LoginGate, LoginGates
from senderproxy.delivery.login_mechanisms import (
    FOR_TOKENS,
    LoginSecret,
    MechanismError,
    begin,
    decode_challenge,
    secrets_in,
)
from senderproxy.delivery.open_failures import FailureKind, OpenFailed
from senderproxy.delivery.resolver import Resolver
from senderproxy.delivery.session import Session, SessionTimeouts
from senderproxy.delivery.tls_contexts import TlsContexts
from senderproxy.log import event
from senderproxy.mail.reply import reply
from senderproxy.relay.ports import AccessTokens, NoToken
from senderproxy.routing.account import AccessToken, Account, Credential
from senderproxy.routing.provider import Provider, Security, Smarthost

_log: Final = logging.getLogger("senderproxy.delivery")

_NONCE: Final = 18  # random octets of a nonce
_LONGEST_COMMAND: Final = 512  # octets of an AUTH command; some servers accept no more (RFC 5321 section 4.5.3.1.4)


_NO_TOKENS: Final = reply(451, "4.7.0", "This command cannot get access tokens")


@dataclass(slots=True)
class SessionOpener:
    """The settings for new sessions. A change applies to sessions opened afterwards."""

    timeouts: SessionTimeouts
    hostname: str  # for EHLO
    resolver: Resolver
    contexts: TlsContexts = field(default_factory=TlsContexts)
    gates: LoginGates = field(default_factory=lambda: LoginGates(SystemClock().monotonic))
    tokens: AccessTokens | None = None  # None: accounts that need tokens cannot log in
    # Accounts whose proven login was cut off once. A server that stops does so, too: the second time in a row counts.
    cut_once: set[str] = field(default_factory=set)
    accepted_mechanism: dict[Smarthost, str] = field(default_factory=dict)  # where the first one was refused

    def close(self) -> None:
        """Open no more sessions. Calls that hang are left to their threads, and do not delay the exit."""
        self.resolver.close()
        self.contexts.close()

    async def open(
        self,
        smarthost: Smarthost,
        mechanisms: Sequence[str] = (),
        credential: Credential | None = None,
        *,
        provider: str = "",
        account: str = "",
        proven: bool = False,
    ) -> Session | OpenFailed:
        """Open a session at one smarthost. Never raises for a failure of the network or the upstream.

        `mechanisms` are those of AUTH, in order of preference. Without a credential there is no login, and TLS is not
        required. `provider`: the smarthost's, whose look-ups are bounded together. `account`: the id for the login
        gate. `proven`: this login worked within the last day.
        """
        attempt = _OpeningAttempt(self, smarthost, mechanisms, credential, provider or smarthost.host, account, proven)
        try:
            opened = await attempt.run()
            if isinstance(opened, Session):
                self.cut_once.discard(account)
            return opened
        except (OSError, aiosmtplib.SMTPException) as fault:
            result = open_failures.failure_of(fault, smarthost, attempt.stage)
            forget_traceback(fault)
        except asyncio.CancelledError as cancelled:
            forget_traceback(cancelled)
            raise
        except MechanismError as fault:
            result = open_failures.mechanism_failed(smarthost, str(fault))
        except SessionEnded as end:
            result = open_failures.session_failed(end.reply, end.upstream_reply, attempt.stage)
        finally:
            attempt.leave_gate()
        if result.cause is Cause.CUT and proven and account not in self.cut_once:
            self.cut_once.add(account)
            result = replace(result, kind=FailureKind.UNREACHABLE, cause=None)
        if result.kind is FailureKind.LOGIN:
            self.gates.of(smarthost).failed(account, _version(credential), result.upstream_reply or result.reply)
        return open_failures.without_secrets(result, _encodings(credential))

    async def open_for(
        self, account: Account, provider: Provider, credential: Credential, *, proven: bool = False
    ) -> Session | OpenFailed:
        """Log in at the first reachable smarthost of the account's provider. One log line for each attempt.

        `proven`: a login with this very secret worked within the last day. A login with an access token that the
        server refuses is repeated once, with a new token, if there is reason to think that the token was stale.
        """
        failures: list[OpenFailed] = []
        for number, smarthost in enumerate(provider.smarthosts, 1):
            result = await self._log_in_at(smarthost, account, provider, credential, proven=proven)
            fields = {"account": account.id, "login": credential.login, "smarthost": smarthost}
            if isinstance(result, Session):
                event(_log, log_events.SESSION_OPENED, fault=None, **fields, mechanism=result.mechanism)
                return result
            result = _explained(result, login_of(account, provider, credential, smarthost.host), smarthost, proven)
            reason = result.cause.value if result.cause else result.kind.value
            event(
                _log,
                log_events.SESSION_FAILED,
                fault=None,
                **fields,
                reason=reason,
                reply=result.reply,
                hint=result.hint or None,
            )
            if result.kind is not FailureKind.UNREACHABLE:
                return open_failures.as_unavailable(result, is_last=number == len(provider.smarthosts))
            failures.append(result)
        if not failures:
            return open_failures.no_smarthost(provider.name)
        return open_failures.as_unavailable(open_failures.combined(failures), is_last=True)

    async def _log_in_at(
        self, smarthost: Smarthost, account: Account, provider: Provider, credential: Credential, *, proven: bool
    ) -> Session | OpenFailed:
        def attempt(login: Credential) -> Coroutine[None, None, Session | OpenFailed]:
            return self.open(
                smarthost, provider.mechanisms, login, provider=provider.name, account=account.id, proven=proven
            )

        if not credential.application:
            return await attempt(credential)
        for is_last in (False, True):
            token = await self._token(account)
            if isinstance(token, OpenFailed):
                return token
            result = await attempt(credential.with_token(token))
            stale = isinstance(result, OpenFailed) and result.may_be_stale_token
            if is_last or not stale or self.tokens is None or not self.tokens.refused(account, token):
                return result
        raise AssertionError("the last attempt returns")

    async def _token(self, account: Account) -> AccessToken | OpenFailed:
        if self.tokens is None:
            return open_failures.no_token(NoToken(_NO_TOKENS, needs_person=False))
        token = await self.tokens.token(account)
        return open_failures.no_token(token) if isinstance(token, NoToken) else token


def login_of(account: Account, provider: Provider, credential: Credential, host: str) -> Login:
    """Return the login as hints name it."""
    return Login(
        account.id,
        credential.login,
        provider.name,
        host,
        provider.mechanisms,
        provider.preset,
        credential.application,
    )


def _explained(result: OpenFailed, login: Login, smarthost: Smarthost, proven: bool) -> OpenFailed:
    """Return the failure of a login with the account's name and the fix; other failures as they are."""
    if result.kind is not FailureKind.LOGIN or result.cause is None:
        return result
    cause = in_doubt(result.cause, proven=proven)
    fix = result.hint or hint(cause, login)
    upstream_reply = result.upstream_reply or result.reply
    login = replace(login, host=str(smarthost))
    refused = login_failed_reply(cause, upstream_reply, login, fix)
    words = login_failed_words(cause, upstream_reply, login)
    return replace(result, reply=refused, upstream_reply=upstream_reply, cause=cause, hint=fix, words=words)


class _OpeningAttempt(Handshake):
    """One attempt to open a session with a login."""

    def __init__(
        self,
        opener: SessionOpener,
        smarthost: Smarthost,
        mechanisms: Sequence[str],
        credential: Credential | None,
        provider: str,
        account: str,
        proven: bool,
    ) -> None:
        super().__init__(smarthost, opener.hostname, opener.timeouts, opener.resolver, provider)
        self._mechanisms = mechanisms
        self._credential = credential
        self._account = account
        self._proven = proven
        self._opener = opener
        self._gate: LoginGate | None = None  # while a login is in progress
        self._contexts = opener.contexts

    async def run(self) -> Session | OpenFailed:
        smarthost = self._smarthost
        context = None
        if smarthost.security is not Security.NONE:
            try:
                context = await self._contexts.context(smarthost.ca_file)
            except OSError as fault:
                return open_failures.ca_file_unreadable(smarthost, fault)
            if not self._contexts.has_authorities(smarthost.ca_file):
                return open_failures.no_authorities(smarthost)
        client = self.client(context)  # aiosmtplib's client never stores the password
        connection = await self.connect()
        try:
            peer = str(connection.getpeername()[0])
            if (
                self._credential is not None
                and smarthost.security is Security.NONE
                and not ipaddress.ip_address(peer.partition("%")[0]).is_loopback
            ):
                connection.close()
                return open_failures.plain_text_refused(smarthost, peer)
            self.name_ourselves(client, connection)
        except BaseException:
            connection.close()
            raise
        try:
            await self.greet(client, connection)
            result = await self._secure_and_log_in(client)
        except BaseException:
            abort(client)
            raise
        if isinstance(result, OpenFailed):
            abort(client)
        return result

    async def _secure_and_log_in(self, client: aiosmtplib.SMTP) -> Session | OpenFailed:
        smarthost = self._smarthost
        await self.ehlo(client)
        if smarthost.security is Security.STARTTLS:
            if not client.supports_extension("starttls"):
                return open_failures.starttls_missing(smarthost)
            await self.start_tls(client)
        if self._credential is None:
            self.require_in_step(client)
            return self.take_over(client, "")
        self._require_tls(client)

        offered = client.server_auth_methods
        wanted = FOR_TOKENS if self._credential.application else self._mechanisms
        usable = [name.upper() for name in wanted if name.lower() in offered]
        if not usable:
            return open_failures.no_usable_mechanism(smarthost, wanted, offered)
        self.require_in_step(client)
        if (waiting := await self._enter_gate()) is not None:
            return waiting
        self.stage = Stage.AUTH
        mechanism = await self._log_in_with_one_of(client, usable, self._credential)
        self.require_in_step(client)
        session = self.take_over(client, mechanism)
        self._opener.gates.of(smarthost).succeeded()
        return session

    async def _enter_gate(self) -> OpenFailed | None:
        """Wait until this login may be tried; returns the failure if another account has to try first."""
        gate = self._opener.gates.of(self._smarthost)
        version = _version(self._credential)
        try:
            async with asyncio.timeout(self._timeouts.auth):
                waiting = await gate.enter(self._account, version, proven=self._proven)
        except TimeoutError:
            return open_failures.login_in_progress(self._smarthost)
        if waiting is not None:
            return open_failures.login_waits(self._smarthost, waiting)
        self._gate = gate
        return None

    def leave_gate(self) -> None:
        """End this login for the gate."""
        if self._gate is not None:
            self._gate.leave()
            self._gate = None

    async def _log_in_with_one_of(
        self, client: aiosmtplib.SMTP, mechanisms: Sequence[str], credential: Credential
    ) -> str:
        """Send AUTH with the preferred mechanism; with the next one, once, if the server refuses the first as such."""
        known = self._opener.accepted_mechanism
        first = known.get(self._smarthost, mechanisms[0])
        if first not in mechanisms:
            first = mechanisms[0]
        others = [name for name in mechanisms if name != first]
        try:
            await self._log_in(client, first, credential)
        except aiosmtplib.SMTPResponseException as refused:
            if not others or not open_failures.is_refused_method(refused) or not client.is_connected:
                raise
            forget_traceback(refused)
            event(_log, log_events.LOGIN_METHOD_REFUSED, smarthost=self._smarthost, method=first, next=others[0])
            await self._log_in(client, others[0], credential)
            known[self._smarthost] = others[0]
            return others[0]
        return first

    async def _log_in(self, client: aiosmtplib.SMTP, mechanism: str, credential: Credential) -> None:
        """Send AUTH, once, with one mechanism."""
        login, secret = _octets(credential.login), _octets(credential.reveal())
        dialogue = begin(mechanism, LoginSecret(login, secret, self._smarthost, secrets.token_urlsafe(_NONCE)))
        command, initial = b"AUTH " + mechanism.encode("ascii"), dialogue.initial
        if initial is not None and len(line := command + b" " + base64.b64encode(initial)) <= _LONGEST_COMMAND - 2:
            command, initial = line, None  # RFC 4954 section 4: without waiting for an empty challenge
        response = await client.execute_command(command, timeout=self._timeouts.auth)
        while response.code == 334:
            if initial is not None:
                answer, initial = initial, None
            else:
                answer = dialogue.answer(decode_challenge(response.message))
            response = await client.execute_command(base64.b64encode(answer), timeout=self._timeouts.auth)
        if response.code != 235:
            raise aiosmtplib.SMTPAuthenticationError(response.code, response.message)
        dialogue.require_complete()

    def _require_tls(self, client: aiosmtplib.SMTP) -> None:
        """Verify once more, before a password is sent, that the connection has TLS."""
        if self._smarthost.security is not Security.NONE and client.get_transport_info("ssl_object") is None:
            raise AssertionError("a session without TLS reached the login")


def _version(credential: Credential | None) -> str:
    return "" if credential is None else credential.version


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _encodings(credential: Credential | None) -> Sequence[bytes]:
    """Return the forms of the secret in a server's echo."""
    if credential is None:
        return ()
    return secrets_in(_octets(credential.login), _octets(credential.reveal()))
