"""One authenticated session with an upstream, and one transaction on it.

Guarantees: no AUTH but under verified TLS (or to loopback, where that was asked for), with exactly one mechanism,
once. A message goes to those recipients whom the upstream takes. Whatever breaks a dialogue, a cancellation too,
closes the session, so its replies can never be taken for those of the next message. Once the final dot is written the
answer is waited for, cancelled or not.
Not here: which session carries which message (pool), what follows from the answer (courier).
RFC 4954, RFC 5321 section 4.5.3.2, RFC 6409, RFC 8314.
"""

import asyncio
import base64
import ipaddress
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import aiosmtplib

from senderproxy.aio import PIECE_OCTETS, fair_share
from senderproxy.delivery import classify
from senderproxy.delivery.classify import NotOpened, SessionLost, Stage
from senderproxy.delivery.connect import TlsContexts, dial, look_up
from senderproxy.delivery.protocol import UpstreamProtocol
from senderproxy.mail.address import ForwardPath, ReversePath
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.message import Message
from senderproxy.mail.outcome import Failed, Outcome
from senderproxy.mail.reply import Reply
from senderproxy.routing.account import Credential
from senderproxy.routing.provider import Security, Smarthost

_SPOKEN: Final = ("PLAIN", "LOGIN")
_BLOCK: Final = PIECE_OCTETS  # smaller blocks are gathered up to this: a small message leaves in one write


@dataclass(frozen=True, slots=True)
class SessionTimeouts:
    """Seconds to wait at each stage; the defaults are RFC 5321 section 4.5.3.2's, but nine minutes at the end."""

    connect: float = 30.0  # one address look-up, one connection, one TLS handshake: each
    greeting: float = 300.0
    ehlo: float = 300.0
    auth: float = 120.0
    mail: float = 300.0
    rcpt: float = 300.0
    data: float = 120.0
    block: float = 180.0  # without any progress
    final_dot: float = 540.0  # less than the ten minutes after which the client gives up on us
    quit: float = 5.0
    free_session: float = 120.0  # while all sessions of an account are busy


@dataclass(frozen=True, slots=True)
class Offer:
    """What the upstream's last EHLO answer offered."""

    pipelining: bool
    eight_bit: bool
    size: bool
    size_limit: int | None


@dataclass(frozen=True, slots=True)
class Answered:
    """An outcome for each recipient. `said`: the replies that decided, in the upstream's own words."""

    outcomes: Mapping[ForwardPath, Outcome]
    said: tuple[Reply, ...] = ()


@dataclass(frozen=True, slots=True)
class Broken:
    """The session ended before there was an answer. `dot_written`: the upstream may have the message.

    `not_taken`: who had been refused or deferred before that, so certainly has not got it.
    """

    reply: Reply
    said: tuple[Reply, ...]
    dot_written: bool
    not_taken: Mapping[ForwardPath, Outcome] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Inquired:
    """What was said of a sender, and where: a positive answer to RCPT means that both were taken."""

    stage: Stage
    said: Reply


class Session:
    """A session that is logged in. One transaction at a time."""

    def __init__(
        self, protocol: UpstreamProtocol, smarthost: Smarthost, offer: Offer, patience: SessionTimeouts, mechanism: str
    ) -> None:
        self._protocol = protocol
        self._patience = patience
        self._turns = fair_share()
        self.smarthost = smarthost
        self.offer = offer
        self.mechanism = mechanism
        self.carried = 0  # messages that were taken

    @property
    def usable(self) -> bool:
        """Another message may be offered on it."""
        return self._protocol.end is None

    def when_over(self, callback: Callable[[], None]) -> None:
        """Call back once, when the session can carry nothing more."""
        self._protocol.on_end = callback

    async def transact(self, envelope: Envelope, message: Message, *, warm: bool) -> Answered | Broken:
        """Offer the message. `warm`: the session has been idle, so it may be dead and must show life soon."""
        progress = _Progress()
        try:
            return await self._dialogue(envelope, message, warm, progress)
        except SessionLost as lost:
            return Broken(lost.reply, (lost.said,) if lost.said else (), progress.dot_written, progress.not_taken)
        except BaseException:
            self.abort()
            raise
        finally:
            self._protocol.stage = Stage.IDLE

    async def inquire(self, path: ReversePath, recipient: ForwardPath) -> Inquired | Broken:
        """Name a sender and, where that is taken, a recipient; then take both back. No message is ever offered."""
        try:
            said = await self._asked(f"MAIL FROM:<{path}>", self._patience.mail, stage := Stage.MAIL)
            if said.is_positive:
                said = await self._asked(f"RCPT TO:<{recipient}>", self._patience.rcpt, stage := Stage.RCPT)
            await self._take_back(None)
            return Inquired(stage, said)
        except SessionLost as lost:
            return Broken(lost.reply, (lost.said,) if lost.said else (), dot_written=False)
        except BaseException:
            self.abort()
            raise
        finally:
            self._protocol.stage = Stage.IDLE

    async def quit(self) -> None:
        """Say good-bye, in bounded time."""
        try:
            if self.usable:
                (answer,) = self._protocol.send("QUIT")
                await self._protocol.reply(answer, self._patience.quit, Stage.QUIT)
                self._protocol.close()
                async with asyncio.timeout(self._patience.quit):
                    await asyncio.shield(self._protocol.closed)
        except (SessionLost, TimeoutError):
            pass  # it went without a word; gone it is
        finally:
            self.abort()
            self._protocol.cut()

    def abort(self) -> None:
        """Cut the connection."""
        self._protocol.fail(SessionLost(classify.cut(self.smarthost, self._protocol.stage, None)))

    async def wait_closed(self) -> None:
        """Until the transport is gone."""
        await asyncio.shield(self._protocol.closed)

    # --- the dialogue, from top to bottom ---

    async def _dialogue(self, envelope: Envelope, message: Message, warm: bool, progress: "_Progress") -> Answered:
        limit, remote = self.offer.size_limit, self.smarthost.host
        if limit is not None and message.size > limit:
            refusal = classify.too_large(message.size, limit, str(self.smarthost))
            return Answered(dict.fromkeys(envelope.recipients, Failed(refusal)))

        data_sent = self.offer.pipelining  # RFC 2920 section 3.1: DATA may end a group
        mail, rcpts, data = await self._offer_paths(envelope, message, warm, data_sent)
        outcomes = dict(classify.not_taken(envelope.recipients, mail, rcpts, remote))
        said = [said for said in (mail, *rcpts) if said.code // 100 != 2]
        progress.not_taken = dict(outcomes)
        taken = [path for path in envelope.recipients if path not in outcomes]
        if not taken:
            await self._take_back(data)
            return Answered(outcomes, tuple(said))
        answer, stage = await self._offer_message(message, data, progress)
        outcomes |= dict.fromkeys(taken, classify.outcome(answer, stage, remote))
        return Answered({path: outcomes[path] for path in envelope.recipients}, (*said, answer))

    async def _offer_message(
        self, message: Message, data: "asyncio.Future[Reply] | None", progress: "_Progress"
    ) -> tuple[Reply, Stage]:
        """DATA, the message, the final dot: what was said of it, and where."""
        if data is None:
            (data,) = self._protocol.send("DATA")
        go_ahead = self._of_the_message(await self._reply(data, self._patience.data, Stage.DATA), Stage.DATA)
        if go_ahead.code != 354:
            if go_ahead.is_positive:
                raise self._out_of_step(Stage.DATA)
            await self._take_back(None)
            return go_ahead, Stage.DATA

        said = await self._send_content(message, progress)
        if said.code // 100 == 3:
            raise self._out_of_step(Stage.FINAL_DOT)
        if said.is_positive:
            self.carried += 1
        elif not progress.dot_written or classify.is_end_of_session(said):
            self.abort()
        return said, Stage.FINAL_DOT

    async def _offer_paths(
        self, envelope: Envelope, message: Message, warm: bool, with_data: bool
    ) -> tuple[Reply, Sequence[Reply], "asyncio.Future[Reply] | None"]:
        """MAIL and every RCPT; in one write where the upstream offers that."""
        patience = self._patience
        first = min(patience.connect, patience.mail) if warm else patience.mail
        commands = [self._mail_command(envelope, message), *(f"RCPT TO:<{path}>" for path in envelope.recipients)]
        waiting = list(self._protocol.send(*commands, *["DATA"] * with_data)) if self.offer.pipelining else None
        data = waiting.pop() if waiting and with_data else None

        answer = waiting[0] if waiting else self._protocol.send(commands[0])[0]
        mail = self._of_the_message(await self._reply(answer, first, Stage.MAIL), Stage.MAIL)
        rcpts: list[Reply] = []
        if mail.code // 100 != 2:
            return mail, rcpts, data  # what was sent after it is answered, too; those answers find their own way
        for index, command in enumerate(commands[1:], 1):
            answer = waiting[index] if waiting else self._protocol.send(command)[0]
            rcpts.append(self._of_the_message(await self._reply(answer, patience.rcpt, Stage.RCPT), Stage.RCPT))
        return mail, rcpts, data

    async def _take_back(self, data: "asyncio.Future[Reply] | None") -> None:
        """Make the session ready for another message after this one was refused; or cut it. The outcome stands."""
        try:
            if data is not None and (await self._reply(data, self._patience.data, Stage.DATA)).is_positive:
                # It wants a message that nobody is to get (RFC 2920 section 3.1 leaves an empty one, or this).
                self.abort()
                return
            (answer,) = self._protocol.send("RSET")
            if (await self._reply(answer, self._patience.mail, Stage.RSET)).code // 100 != 2:
                self.abort()
        except SessionLost:
            return  # it ended by itself

    async def _send_content(self, message: Message, progress: "_Progress") -> Reply:
        """The message and the final dot; returns the answer, which may come before the dot."""
        protocol = self._protocol
        protocol.stage = Stage.BODY
        answer = protocol.expect()
        for block, last in _blocks(message):
            # No await lies between the last write and this note of it: a cancellation finds one or the other.
            protocol.write(block)
            if last:
                progress.dot_written = True
                break
            await protocol.drain(self._patience.block, answer)
            await self._turns.acquire(_BLOCK)  # others have theirs, and an early answer is seen
            if answer.done():
                return self._early(answer.result())
        # From here the upstream may take the message, and somebody must learn whether it did: docs/decisions/0043.
        return await protocol.certain_reply(answer, self._patience.final_dot, Stage.FINAL_DOT)

    def _early(self, said: Reply) -> Reply:
        """An answer in mid-message: the upstream has seen enough."""
        if said.is_positive:
            raise self._out_of_step(Stage.BODY)
        return self._of_the_message(said, Stage.BODY)

    # --- small parts ---

    async def _asked(self, command: str, seconds: float, stage: Stage) -> Reply:
        (answer,) = self._protocol.send(command)
        return self._of_the_message(await self._reply(answer, seconds, stage), stage)

    async def _reply(self, answer: "asyncio.Future[Reply]", seconds: float, stage: Stage) -> Reply:
        return await self._protocol.reply(answer, seconds, stage)

    def _of_the_message(self, said: Reply, stage: Stage) -> Reply:
        """The reply, where it is about the message; the end of the session, where it is about that."""
        if classify.is_end_of_session(said):
            self.abort()
            raise SessionLost(classify.said_at(self.smarthost, stage, said), said)
        return said

    def _out_of_step(self, stage: Stage) -> SessionLost:
        self.abort()
        return SessionLost(classify.junk(self.smarthost, stage))

    def _mail_command(self, envelope: Envelope, message: Message) -> str:
        command = f"MAIL FROM:<{envelope.reverse_path}>"
        if self.offer.size:
            command += f" SIZE={message.size}"
        if self.offer.eight_bit and (envelope.eight_bit or not _is_ascii(message)):
            command += " BODY=8BITMIME"
        return command


@dataclass(slots=True)
class _Progress:
    dot_written: bool = False
    not_taken: Mapping[ForwardPath, Outcome] = field(default_factory=dict)


def _is_ascii(message: Message) -> bool:
    return message.body.is_ascii and message.header.raw.isascii()


def _blocks(message: Message) -> Iterator[tuple[bytes, bool]]:
    """The message in blocks of a good size; the last one, marked, ends in the final dot."""
    gathered: list[bytes] = []
    size = 0
    tail = b"\r\n"  # DATA's own line end: an empty message needs no other
    for piece in message.blocks():
        if not piece:
            continue
        if size and size + len(piece) > _BLOCK:
            yield b"".join(gathered), False
            gathered, size = [], 0
        gathered.append(piece)
        size += len(piece)
        tail = (tail + piece[-2:])[-2:]
    gathered.append(b".\r\n" if tail == b"\r\n" else b"\r\n.\r\n")
    yield b"".join(gathered), True


# --- opening ---------------------------------------------------------------------------------------------------------


async def open_session(
    smarthost: Smarthost,
    mechanisms: Sequence[str],
    credential: Credential | None,
    *,
    hostname: str,
    patience: SessionTimeouts,
    contexts: TlsContexts,
) -> Session | NotOpened:
    """Connect, secure, log in: once each. Never raises for what the network or the upstream does.

    Without a credential there is no login, so nothing that plain text could give away but the message.
    """
    opening = _Opening(smarthost, mechanisms, credential, hostname, patience, contexts)
    try:
        return await opening.run()
    except (OSError, aiosmtplib.SMTPException) as fault:
        result = classify.not_opened(fault, smarthost, opening.stage)
    except SessionLost as lost:
        result = NotOpened(classify.Trouble.UNREACHABLE, lost.reply, lost.said)
    return classify.scrubbed(result, _forms(credential))


class _Opening:
    """The way from nothing to a session; `stage` tells where it stopped."""

    def __init__(
        self,
        smarthost: Smarthost,
        mechanisms: Sequence[str],
        credential: Credential | None,
        hostname: str,
        patience: SessionTimeouts,
        contexts: TlsContexts,
    ) -> None:
        self.stage = Stage.LOOK_UP
        self._smarthost = smarthost
        self._mechanisms = mechanisms
        self._credential = credential
        self._hostname = hostname
        self._patience = patience
        self._contexts = contexts

    async def run(self) -> Session | NotOpened:
        host = self._smarthost
        context = None
        if host.security is not Security.NONE:
            try:
                context = self._contexts.context(host.ca_file)
            except OSError as fault:
                return classify.authorities_unreadable(host, fault)
        # aiosmtplib's client. It never gets the password to keep; STARTTLS is asked for below, never opportunistic.
        smtp = aiosmtplib.SMTP(
            hostname=host.host,
            local_hostname=self._hostname,
            use_tls=host.security is Security.IMPLICIT_TLS,
            start_tls=False,
            tls_context=context,
            timeout=self._patience.greeting,
        )
        async with asyncio.timeout(self._patience.connect):
            addresses = await look_up(host.host, host.port)
        self.stage = Stage.CONNECT
        async with asyncio.timeout(self._patience.connect):
            connection = await dial(addresses)
        try:
            peer = str(connection.getpeername()[0])
            if (
                self._credential is not None
                and host.security is Security.NONE
                and not ipaddress.ip_address(peer.partition("%")[0]).is_loopback
            ):
                connection.close()
                return classify.plain_text_refused(host, peer)
        except BaseException:
            connection.close()
            raise
        try:
            await self._greet(smtp, connection)
            result = await self._secure_and_log_in(smtp)
        except BaseException:
            _cut(smtp)
            raise
        if isinstance(result, NotOpened):
            _cut(smtp)
        return result

    async def _secure_and_log_in(self, smtp: aiosmtplib.SMTP) -> Session | NotOpened:
        host = self._smarthost
        await self._ehlo(smtp)
        if host.security is Security.STARTTLS:
            if not smtp.supports_extension("starttls"):
                return classify.starttls_missing(host)
            self.stage = Stage.STARTTLS
            await smtp.starttls(timeout=self._patience.connect)
            await self._ehlo(smtp)  # RFC 3207 section 4.2: what was said in the clear is forgotten
        if self._credential is None:
            self._insist_on_step(smtp)
            return self._take_over(smtp, "")
        self._insist_on_tls(smtp)

        offered = smtp.server_auth_methods
        usable = [name.upper() for name in self._mechanisms if name.upper() in _SPOKEN and name.lower() in offered]
        if not usable:
            return classify.mechanism_missing(host, self._mechanisms, offered)
        self._insist_on_step(smtp)
        self.stage = Stage.AUTH
        await self._log_in(smtp, usable[0], self._credential)
        self._insist_on_step(smtp)
        return self._take_over(smtp, usable[0])

    async def _greet(self, smtp: aiosmtplib.SMTP, connection: socket.socket) -> None:
        """The TLS handshake where it comes first, and the greeting; each with its own patience."""
        loop = asyncio.get_running_loop()
        implicit = self._smarthost.security is Security.IMPLICIT_TLS
        self.stage = Stage.HANDSHAKE if implicit else Stage.GREETING
        async with asyncio.timeout(None) as limit:

            def end_of_handshake() -> None:
                if smtp.transport is None:  # set when the handshake is done
                    limit.reschedule(loop.time())

            timer = loop.call_later(self._patience.connect, end_of_handshake)
            try:
                await smtp.connect(sock=connection)
            except aiosmtplib.SMTPException as fault:
                about_greeting = isinstance(fault, aiosmtplib.SMTPResponseException)
                if about_greeting or isinstance(fault.__cause__, aiosmtplib.SMTPException):
                    self.stage = Stage.GREETING
                raise
            finally:
                timer.cancel()

    async def _ehlo(self, smtp: aiosmtplib.SMTP) -> None:
        self.stage = Stage.EHLO
        await smtp.ehlo(timeout=self._patience.ehlo)

    async def _log_in(self, smtp: aiosmtplib.SMTP, mechanism: str, credential: Credential) -> None:
        """One mechanism, once."""
        login, secret = _octets(credential.login), _octets(credential.reveal())
        if mechanism == "PLAIN":
            await smtp.auth_plain(login, secret, timeout=self._patience.auth)
            return
        # Word by word: servers that do not know the user name on the first line would take the password for it.
        for word in (b"", login, secret):
            line = (b"AUTH", b"LOGIN") if not word else (base64.b64encode(word),)
            said = await smtp.execute_command(*line, timeout=self._patience.auth)
            if said.code != (235 if word is secret else 334):
                raise aiosmtplib.SMTPAuthenticationError(said.code, said.message)

    def _insist_on_tls(self, smtp: aiosmtplib.SMTP) -> None:
        """What must be so by now, looked at once more before a password is sent."""
        if self._smarthost.security is not Security.NONE and smtp.get_transport_info("ssl_object") is None:
            raise AssertionError("a session without TLS reached the login")

    def _insist_on_step(self, smtp: aiosmtplib.SMTP) -> None:
        """Nothing more was said than we asked for: else the next reply would answer the last command."""
        if getattr(smtp.protocol, "_buffer", b""):
            raise SessionLost(classify.junk(self._smarthost, self.stage))

    def _take_over(self, smtp: aiosmtplib.SMTP, mechanism: str) -> Session:
        """From here the transport speaks our protocol; aiosmtplib's client has done its work."""
        transport = smtp.transport
        if not isinstance(transport, asyncio.Transport) or transport.is_closing():
            raise SessionLost(classify.cut(self._smarthost, self.stage, None))
        size = smtp.esmtp_extensions.get("size", "").strip()
        offer = Offer(
            pipelining=smtp.supports_extension("pipelining"),
            eight_bit=smtp.supports_extension("8bitmime"),
            size=smtp.supports_extension("size"),
            size_limit=int(size) or None if size.isascii() and size.isdigit() and len(size) <= 20 else None,
        )
        return Session(UpstreamProtocol(transport, self._smarthost), self._smarthost, offer, self._patience, mechanism)


def _cut(smtp: aiosmtplib.SMTP) -> None:
    """Close without a word, at once. Cut first: Python 3.11.2 cannot cut a TLS connection that was closed twice."""
    if isinstance(smtp.transport, asyncio.Transport):
        smtp.transport.abort()
    smtp.close()


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _forms(credential: Credential | None) -> Sequence[bytes]:
    """The secret as it may come back at us: plain, and in the two base64 forms in which it was sent."""
    if credential is None:
        return ()
    login, secret = _octets(credential.login), _octets(credential.reveal())
    if not secret:
        return ()
    plain = base64.b64encode(b"\0" + login + b"\0" + secret)
    return (plain, base64.b64encode(secret), secret)
