"""One SMTP session of the simulator: greeting, EHLO, STARTTLS, AUTH, command dispatch.

Guarantees: it sends the replies of the simulated provider, in the order that IONOS requires. What a command does is
recorded before its reply is sent. Credentials are never recorded.

Not here: MAIL, RCPT and DATA (simulator.mail_commands), faults (simulator.scripted_replies), octets
(simulator.byte_stream), sockets (simulator.server).

RFC 5321, RFC 3207, RFC 4954, RFC 2920.
"""

import asyncio
import base64
import binascii
import hmac
import re
from collections.abc import Awaitable, Callable
from typing import Final

from senderproxy.simulator.byte_stream import ByteStream, LineTooLong, PeerGone
from senderproxy.simulator.faults import FaultStage
from senderproxy.simulator.mail_commands import MailCommands
from senderproxy.simulator.observations import RecordedLogin
from senderproxy.simulator.provider_replies import ServerReply, server_reply
from senderproxy.simulator.scripted_replies import ScriptedReplies, SimulatedSessionEnd
from senderproxy.simulator.session_state import SessionState, SimulatorView

_COMMAND_LIMIT: Final = 4096  # octets; RFC 5321 section 4.5.3.1.4 requires 512, extensions need more
_CREDENTIAL_LIMIT: Final = 12288  # octets; RFC 4954 section 4
_TOKEN_REFUSED: Final = base64.b64encode(b'{"status":"400","schemes":"Bearer"}').decode("ascii")
_EHLO_NAME: Final = re.compile(r"[A-Za-z0-9._:\[\]-]+")
# A client has to wait for the reply to these even with PIPELINING (RFC 2920 section 3.1, RFC 3207, RFC 4954).
_LAST_OF_A_GROUP: Final = frozenset({"EHLO", "HELO", "STARTTLS", "AUTH", "DATA", "NOOP", "QUIT"})


class ServerSession:
    """One client's session."""

    def __init__(self, simulator: SimulatorView, stream: ByteStream, *, implicit_tls: bool) -> None:
        self._stream = stream
        self._state = SessionState(simulator, stream, implicit_tls=implicit_tls)
        self._replies = ScriptedReplies(self._state, stream)
        self._mail_commands = MailCommands(self._state, self._replies, stream)

    async def run(self) -> None:
        """Run the session to its end, and record how it ended."""
        record = self._state.record
        try:
            await self._run()
        except PeerGone:
            record.ended = "lost"
        except SimulatedSessionEnd as end:
            record.ended = str(end)
        finally:
            if record.ended is None:
                record.ended = "closed by the simulator"
            self._state.observations.notify()
            self._stream.close()

    async def _run(self) -> None:
        await self._replies.reach(FaultStage.CONNECT)
        if self._state.record.implicit_tls:
            await self._start_tls()
        self._stream.begin_reading()
        await self._send(FaultStage.BANNER, self._state.replies.banner)
        while True:
            await self._run_command()

    async def _send(self, stage: FaultStage, template: ServerReply) -> ServerReply | None:
        """Send a provider's reply that has no effect on the session."""
        return await self._replies.send(stage, self._state.fill(template))

    # ---- commands ----

    async def _run_command(self) -> None:
        state = self._state
        text = (await self._read_command()).decode("latin-1")
        verb, _, argument = text.partition(" ")
        state.command = verb.upper()
        state.record.commands.append(_without_credentials(text))
        if self._stream.unread and (state.command in _LAST_OF_A_GROUP or not state.settings.pipelining):
            state.report_violation("sent more before the reply")
            if state.command == "STARTTLS":
                raise SimulatedSessionEnd("dropped")  # the rest is clear text and must not be read as text under TLS
        command = self._commands().get(state.command)
        if command is None:
            await self._send(FaultStage.NOOP, state.replies.unknown_command)
        else:
            await command(argument)

    def _commands(self) -> dict[str, Callable[[str], Awaitable[None]]]:
        return {
            "EHLO": self._ehlo,
            "HELO": self._ehlo,
            "STARTTLS": self._starttls,
            "AUTH": self._auth,
            "MAIL": self._mail_commands.mail,
            "RCPT": self._mail_commands.rcpt,
            "DATA": self._mail_commands.data,
            "RSET": self._rset,
            "NOOP": self._noop,
            "QUIT": self._quit,
        }

    async def _read_command(self) -> bytes:
        state = self._state
        while True:
            try:
                async with asyncio.timeout(state.settings.idle_seconds):
                    line = await self._stream.line(_COMMAND_LIMIT)
            except TimeoutError:
                await self._stream.send(state.fill(state.replies.idle_timeout).render())
                raise SimulatedSessionEnd("closed by the simulator") from None
            except LineTooLong:
                state.command = "a command"
                state.report_violation("line too long")
                await self._stream.send(state.fill(state.replies.unknown_command).render())
                raise SimulatedSessionEnd("closed by the simulator") from None
            fault = _fault_in_line(line, eight_bit="SMTPUTF8" in state.extensions())
            if fault is None:
                return line[:-2]
            state.command = "a command"
            state.report_violation(fault)
            await self._send(FaultStage.NOOP, state.replies.syntax_error)

    async def _ehlo(self, argument: str) -> None:
        state, replies = self._state, self._state.replies
        if (state.greeted and state.settings.second_ehlo_refused) or state.login is not None:
            await self._send(FaultStage.EHLO, replies.bad_sequence)
            return
        if _EHLO_NAME.fullmatch(argument) is None:
            await self._send(FaultStage.EHLO, replies.syntax_error)
            return
        state.record.ehlo_names.append(argument)
        first = state.fill(replies.ehlo)
        offered = state.extensions() if state.command == "EHLO" else ()

        def effect() -> None:
            state.greeted = True
            state.transaction = None

        await self._replies.send(FaultStage.EHLO, ServerReply(first.code, first.lines + offered), effect)

    async def _starttls(self, argument: str) -> None:
        state, replies = self._state, self._state.replies
        if argument:
            await self._send(FaultStage.STARTTLS, replies.syntax_error)
            return
        if state.under_tls or not state.greeted or not state.settings.starttls_offered:
            await self._send(FaultStage.STARTTLS, replies.bad_sequence)
            return
        self._stream.stop_reading()  # the first octets of the handshake must not be read as a command
        reply = await self._send(FaultStage.STARTTLS, replies.starttls_ready)
        if reply is None or reply.code != 220:
            self._stream.begin_reading()
            return
        await self._start_tls()

    async def _start_tls(self) -> None:
        await self._replies.reach(FaultStage.HANDSHAKE)
        await self._stream.start_tls(self._state.simulator.tls_context())
        self._state.under_tls = True
        self._state.greeted = False
        self._state.record.tls_version = self._stream.tls_version

    async def _rset(self, _argument: str) -> None:
        def effect() -> None:
            self._state.transaction = None

        await self._replies.send(FaultStage.RSET, self._state.fill(self._state.replies.ok), effect)

    async def _noop(self, _argument: str) -> None:
        await self._send(FaultStage.NOOP, self._state.replies.ok)

    async def _quit(self, _argument: str) -> None:
        await self._send(FaultStage.QUIT, self._state.replies.quit)
        raise SimulatedSessionEnd("quit")

    # ---- AUTH ----

    async def _auth(self, argument: str) -> None:
        state, replies = self._state, self._state.replies
        mechanism, _, initial = argument.partition(" ")
        mechanism = mechanism.upper()
        if not state.under_tls and not state.settings.auth_before_tls:
            state.observations.clear_text_logins.append(mechanism)
            state.report_violation("a login in clear text")
            await self._send(FaultStage.AUTH, replies.tls_required)
            return
        if not state.greeted or state.login is not None or state.transaction is not None:
            await self._send(FaultStage.AUTH, replies.bad_sequence)
            return
        if mechanism not in state.settings.mechanisms:
            await self._send(FaultStage.AUTH, server_reply(504, "Unrecognized authentication type"))
            return
        try:
            login, password = await self._read_credentials(mechanism, initial)
        except (binascii.Error, UnicodeDecodeError, ValueError):
            await self._send(FaultStage.AUTH, replies.syntax_error)
            return
        if not state.under_tls:
            state.observations.clear_text_logins.append(mechanism)
        await self._check_login(mechanism, login, password)

    async def _check_login(self, mechanism: str, login: str, password: str) -> None:
        state = self._state
        mailbox = state.settings.mailboxes.get(login)
        correct = mailbox is not None and hmac.compare_digest(mailbox.password.encode(), password.encode())

        def record(*, accepted: bool) -> None:
            attempt = RecordedLogin(state.record.number, login, mechanism, accepted, state.under_tls)
            state.observations.add_login(state.record, attempt)

        def effect() -> None:
            state.login = login
            record(accepted=True)

        if not correct and mechanism in ("XOAUTH2", "OAUTHBEARER"):
            await self._challenge(_TOKEN_REFUSED)  # the client's answer gets the reply
        due = state.fill(state.replies.auth_accepted if correct else state.replies.auth_rejected)
        await self._replies.send(FaultStage.AUTH, due, effect, lambda _: record(accepted=False))

    async def _read_credentials(self, mechanism: str, initial: str) -> tuple[str, str]:
        """Read login and password with the exchange of the mechanism. Raises ValueError for an invalid response."""
        match mechanism:
            case "LOGIN":
                login = _decode(initial) if initial else await self._challenge("VXNlcm5hbWU6")
                return login, await self._challenge("UGFzc3dvcmQ6")
            case "XOAUTH2" | "OAUTHBEARER":
                return _read_bearer(_decode(initial) if initial else await self._challenge(""))
            case _:
                text = _decode(initial) if initial else await self._challenge("")
                _authorization_identity, login, password = text.split("\0")
                return login, password

    async def _challenge(self, text: str) -> str:
        await self._stream.send(f"334 {text}\r\n".encode("ascii"))
        line = await self._stream.line(_CREDENTIAL_LIMIT)
        if not line.endswith(b"\r\n"):
            self._state.report_violation("bare LF in a line")
        return _decode(line.rstrip(b"\r\n").decode("ascii"))


def _fault_in_line(line: bytes, *, eight_bit: bool) -> str | None:
    if not line.endswith(b"\r\n"):
        return "bare LF in a line"
    if b"\r" in line[:-2]:
        return "bare CR in a line"
    if b"\0" in line:
        return "NUL in a line"
    if not eight_bit and not line.isascii():
        return "octets above 127 in a line"
    return None


def _without_credentials(text: str) -> str:
    """The command line with the initial response of AUTH replaced, for the record."""
    verb, _, argument = text.partition(" ")
    if verb.upper() != "AUTH":
        return text
    mechanism, _, initial = argument.partition(" ")
    return f"{verb} {mechanism}{' ***' if initial else ''}"


def _decode(text: str) -> str:
    if text == "*":
        raise ValueError("the client cancelled the exchange")
    if text == "=":
        return ""
    return base64.b64decode(text, validate=True).decode("utf-8")


def _read_bearer(text: str) -> tuple[str, str]:
    """Parse `user=` or `n,a=` login, and `auth=Bearer ` token, between ^A. The mailbox's password is the token."""
    parts = text.split("\x01")
    login = parts[0].removeprefix("user=").removeprefix("n,a=").removesuffix(",")
    token = next(part.removeprefix("auth=Bearer ") for part in parts if part.startswith("auth=Bearer "))
    return login, token
