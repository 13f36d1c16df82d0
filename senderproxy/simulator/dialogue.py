"""One session of the simulator, told from the banner to the end.

Guarantees: says what simulator.phrases hold, in the order IONOS insists on; writes down what it saw before it answers;
never writes down a credential; does what the script says where the script says so.
Not here: deciding (simulator.rules, simulator.headers, simulator.data), octets (simulator.wire), sockets
(simulator.server).
RFC 5321, RFC 3207, RFC 4954, RFC 2920.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import re
import ssl
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from senderproxy.simulator import rules
from senderproxy.simulator.data import DataReader
from senderproxy.simulator.headers import authors_of, header_faults
from senderproxy.simulator.ledger import (
    Ledger,
    ReceivedMessage,
    RecordedLogin,
    RefusedMessage,
    SessionRecord,
    Violation,
)
from senderproxy.simulator.phrases import Answer, answer
from senderproxy.simulator.rules import NULL, Held, OwnershipRule, PathCommand, SimulatedMailbox
from senderproxy.simulator.script import (
    Action,
    Append,
    Drop,
    Endless,
    FaultStage,
    Occasion,
    Raw,
    ReplyWith,
    Script,
    Silence,
    Slow,
    Trickle,
)
from senderproxy.simulator.settings import SimulatorSettings
from senderproxy.simulator.wire import LineTooLong, PeerGone, Wire

_COMMAND_LIMIT: Final = 4096
_CREDENTIAL_LIMIT: Final = 12288  # RFC 4954 section 4
_SLOW_BLOCK: Final = 1024
_EHLO_NAME: Final = re.compile(r"[A-Za-z0-9._:\[\]-]+")
# After these a client waits even where PIPELINING is offered (RFC 2920 section 3.1, RFC 3207, RFC 4954).
_LAST_OF_A_GROUP: Final = frozenset({"EHLO", "HELO", "STARTTLS", "AUTH", "DATA", "NOOP", "QUIT"})
_BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class ServerContext(Protocol):
    """What a session needs of the simulator it belongs to; settings and script may change at any time."""

    settings: SimulatorSettings
    script: Script

    @property
    def ledger(self) -> Ledger: ...

    def tls_context(self) -> ssl.SSLContext: ...


class _HangUp(Exception):
    """The simulator ends this session; the text says how it ended, for the record."""


class _ServerTransaction:
    """From MAIL FROM to the final dot."""

    def __init__(self, reverse: PathCommand) -> None:
        self.reverse = reverse
        self.recipients: list[str] = []


class ServerSession:
    """One client's session."""

    def __init__(self, house: ServerContext, wire: Wire, *, implicit_tls: bool) -> None:
        self._house = house
        self._wire = wire
        self._now = asyncio.get_running_loop().time
        self._record: SessionRecord = house.ledger.open_session(implicit_tls=implicit_tls, at=self._now())
        self._under_tls = False
        self._greeted = False
        self._login: str | None = None
        self._transaction: _ServerTransaction | None = None
        self._transaction_number = 0
        self._verb = "banner"

    async def run(self) -> None:
        """Hold the session until it ends, and write down how it did."""
        try:
            await self._hold()
        except PeerGone:
            self._record.ended = "lost"
        except _HangUp as end:
            self._record.ended = str(end)
        finally:
            if self._record.ended is None:
                self._record.ended = "closed by the simulator"
            self._house.ledger.entered()
            self._wire.close()

    async def _hold(self) -> None:
        await self._pass(FaultStage.CONNECT)
        if self._record.implicit_tls:
            await self._secure()
        self._wire.begin_reading()
        await self._give(FaultStage.BANNER, self._phrase(self._settings.phrases.banner))
        while True:
            await self._one_command()

    # The session's surroundings

    @property
    def _settings(self) -> SimulatorSettings:
        return self._house.settings

    @property
    def _ledger(self) -> Ledger:
        return self._house.ledger

    @property
    def _mailbox(self) -> SimulatedMailbox | None:
        return self._settings.mailboxes.get(self._login) if self._login is not None else None

    def _phrase(self, template: Answer, **values: str) -> Answer:
        known = {"host": self._settings.host, "peer": self._wire.peer, "login": self._login or ""}
        known |= {"ehlo": self._record.ehlo_names[-1] if self._record.ehlo_names else ""}
        known |= {"path": "", "recipient": "", "id": ""}
        return template.fill(**(known | values))

    def _complain(self, what: str) -> None:
        self._ledger.violations.append(Violation(self._record.number, self._verb, what))
        self._ledger.entered()

    def _occasion(self, stage: FaultStage, octets: int = 0) -> Occasion:
        return Occasion(stage, self._record.number, self._transaction_number, self._login, octets)

    # Answering, and the faults that stand in the way of it

    async def _pass(self, stage: FaultStage) -> None:
        """A stage at which nothing is said unless the script says so."""
        action = self._house.script.strike(self._occasion(stage))
        match action:
            case None:
                return
            case Slow(seconds):
                await asyncio.sleep(seconds)
            case Trickle() | Append():
                raise ValueError(f"{action} makes no sense at {stage.value}")
            case _:
                await self._instead(action)
                raise _HangUp("dropped")

    async def _give(self, stage: FaultStage, due: Answer, effect: Callable[[], None] | None = None) -> Answer | None:
        """Answer, or do what the script says; the effect comes first, so that it is there when the client reads.

        Returns the reply that the client got, None where it got none that means anything.
        """
        action = self._house.script.strike(self._occasion(stage))
        said = action.answer if isinstance(action, ReplyWith) else due
        silent = isinstance(action, Raw | Endless) or (isinstance(action, Silence | Drop) and not action.after_storing)
        if said.positive and not silent and effect is not None:
            effect()
        if silent or isinstance(action, Silence | Drop):
            await self._instead(action)
            return None
        self._record.replies.append(str(said))
        self._ledger.entered()
        await self._utter(said.render(), action)
        if isinstance(action, ReplyWith) and action.then_drop:
            raise _HangUp("dropped")
        return said

    async def _utter(self, octets: bytes, action: Action | None) -> None:
        match action:
            case Slow(seconds):
                await asyncio.sleep(seconds)
                await self._wire.send(octets)
            case Trickle(seconds_each):
                for at in range(len(octets)):
                    await self._wire.send(octets[at : at + 1])
                    await asyncio.sleep(seconds_each)
            case Append(more):
                await self._wire.send(octets + more)
            case _:
                await self._wire.send(octets)

    async def _instead(self, action: Action | None) -> None:
        """What takes the place of a reply."""
        match action:
            case Silence():
                self._wire.ignore()
                await self._wire.gone()
                raise PeerGone
            case Drop():
                self._wire.abort()
                raise _HangUp("dropped")
            case ReplyWith(said, _):
                await self._wire.send(said.render())
            case Raw(octets, then_drop):
                await self._wire.send(octets)
                if then_drop:
                    raise _HangUp("dropped")
            case Endless(octets):
                while True:
                    await self._wire.send(octets)
                    await asyncio.sleep(0)
            case Append() | Slow() | Trickle() | None:
                raise ValueError(f"{action} does not take a reply's place")

    # Commands

    async def _one_command(self) -> None:
        line = await self._read_command()
        text = line.decode("latin-1")
        verb, _, argument = text.partition(" ")
        self._verb = verb.upper()
        self._record.commands.append(_without_credentials(text))
        if self._wire.unread and (self._verb in _LAST_OF_A_GROUP or not self._settings.pipelining):
            self._complain("went on talking before the reply")
            if self._verb == "STARTTLS":
                raise _HangUp("dropped")  # what follows in clear text must not be taken for text under TLS
        command = self._commands().get(self._verb)
        if command is None:
            await self._give(FaultStage.NOOP, self._phrase(self._settings.phrases.unknown_command))
        else:
            await command(argument)

    def _commands(self) -> dict[str, Callable[[str], Awaitable[None]]]:
        return {
            "EHLO": self._ehlo,
            "HELO": self._ehlo,
            "STARTTLS": self._starttls,
            "AUTH": self._auth,
            "MAIL": self._mail,
            "RCPT": self._rcpt,
            "DATA": self._data,
            "RSET": self._rset,
            "NOOP": self._noop,
            "QUIT": self._quit,
        }

    async def _read_command(self) -> bytes:
        while True:
            try:
                async with asyncio.timeout(self._settings.idle_seconds):
                    line = await self._wire.line(_COMMAND_LIMIT)
            except TimeoutError:
                await self._wire.send(self._phrase(self._settings.phrases.idle).render())
                raise _HangUp("closed by the simulator") from None
            except LineTooLong:
                self._verb = "a command"
                self._complain("a line without end")
                await self._wire.send(self._phrase(self._settings.phrases.unknown_command).render())
                raise _HangUp("closed by the simulator") from None
            fault = _fault_in_line(line, eight_bit="SMTPUTF8" in self._extensions())
            if fault is None:
                return line[:-2]
            self._verb = "a command"
            self._complain(fault)
            await self._give(FaultStage.NOOP, self._phrase(self._settings.phrases.bad_syntax))

    async def _ehlo(self, argument: str) -> None:
        phrases = self._settings.phrases
        if (self._greeted and self._settings.second_ehlo_refused) or self._login is not None:
            await self._give(FaultStage.EHLO, self._phrase(phrases.bad_sequence))
            return
        if _EHLO_NAME.fullmatch(argument) is None:
            await self._give(FaultStage.EHLO, self._phrase(phrases.bad_syntax))
            return
        self._record.ehlo_names.append(argument)
        hello = self._phrase(phrases.hello)
        offered = self._extensions() if self._verb == "EHLO" else ()

        def effect() -> None:
            self._greeted = True
            self._transaction = None

        await self._give(FaultStage.EHLO, Answer(hello.code, hello.lines + offered), effect)

    def _extensions(self) -> tuple[str, ...]:
        """What is on offer now, in alphabetical order as the platform lists it."""
        settings = self._settings
        offered = list(settings.further_extensions)
        if settings.eight_bit_mime:
            offered.append("8BITMIME")
        if settings.mechanisms and (self._under_tls or settings.auth_before_tls):
            offered.append(f"AUTH {' '.join(settings.mechanisms)}")
        if settings.pipelining:
            offered.append("PIPELINING")
        if settings.size_limit is not None:
            offered.append(f"SIZE {settings.size_limit}")
        if settings.starttls_offered and not self._under_tls:
            offered.append("STARTTLS")
        return tuple(sorted(offered))

    async def _starttls(self, argument: str) -> None:
        phrases = self._settings.phrases
        if argument:
            await self._give(FaultStage.STARTTLS, self._phrase(phrases.bad_syntax))
            return
        if self._under_tls or not self._greeted or not self._settings.starttls_offered:
            await self._give(FaultStage.STARTTLS, self._phrase(phrases.bad_sequence))
            return
        self._wire.stop_reading()  # the handshake's first octets must not end up among the commands
        said = await self._give(FaultStage.STARTTLS, self._phrase(phrases.go_ahead_with_tls))
        if said is None or said.code != 220:
            self._wire.begin_reading()
            return
        await self._secure()

    async def _secure(self) -> None:
        await self._pass(FaultStage.HANDSHAKE)
        await self._wire.start_tls(self._house.tls_context())
        self._under_tls = True
        self._greeted = False
        self._record.tls_version = self._wire.tls_version

    # AUTH

    async def _auth(self, argument: str) -> None:
        phrases = self._settings.phrases
        mechanism, _, initial = argument.partition(" ")
        mechanism = mechanism.upper()
        if not self._under_tls and not self._settings.auth_before_tls:
            self._ledger.clear_text_logins.append(mechanism)
            self._complain("a login in clear text")
            await self._give(FaultStage.AUTH, self._phrase(phrases.tls_needed))
            return
        if not self._greeted or self._login is not None or self._transaction is not None:
            await self._give(FaultStage.AUTH, self._phrase(phrases.bad_sequence))
            return
        if mechanism not in self._settings.mechanisms:
            await self._give(FaultStage.AUTH, answer(504, "Unrecognized authentication type"))
            return
        try:
            login, password = await self._take_credentials(mechanism, initial)
        except (binascii.Error, UnicodeDecodeError, ValueError):
            await self._give(FaultStage.AUTH, self._phrase(phrases.bad_syntax))
            return
        if not self._under_tls:
            self._ledger.clear_text_logins.append(mechanism)
        await self._judge_login(mechanism, login, password)

    async def _judge_login(self, mechanism: str, login: str, password: str) -> None:
        phrases = self._settings.phrases
        mailbox = self._settings.mailboxes.get(login)
        right = mailbox is not None and hmac.compare_digest(mailbox.password.encode(), password.encode())

        def log(*, accepted: bool) -> None:
            attempt = RecordedLogin(self._record.number, login, mechanism, accepted, self._under_tls)
            self._ledger.log_login(self._record, attempt)

        def effect() -> None:
            self._login = login
            log(accepted=True)

        due = self._phrase(phrases.logged_in if right else phrases.bad_credentials)
        said = await self._give(FaultStage.AUTH, due, effect)
        if self._login is None and said is not None:
            log(accepted=False)

    async def _take_credentials(self, mechanism: str, initial: str) -> tuple[str, str]:
        """Login and password, by whichever exchange; raises where what comes is no such thing."""
        match mechanism:
            case "LOGIN":
                login = _decode(initial) if initial else await self._challenge("VXNlcm5hbWU6")
                return login, await self._challenge("UGFzc3dvcmQ6")
            case "XOAUTH2":
                return _read_xoauth2(_decode(initial) if initial else await self._challenge(""))
            case _:
                text = _decode(initial) if initial else await self._challenge("")
                _acting_for, login, password = text.split("\0")
                return login, password

    async def _challenge(self, text: str) -> str:
        await self._wire.send(f"334 {text}\r\n".encode("ascii"))
        line = await self._wire.line(_CREDENTIAL_LIMIT)
        if not line.endswith(b"\r\n"):
            self._complain("bare LF in a line")
        return _decode(line.rstrip(b"\r\n").decode("ascii"))

    # MAIL, RCPT, RSET, NOOP, QUIT

    async def _mail(self, argument: str) -> None:
        if self._transaction is None:
            self._transaction_number += 1
        command = rules.read_path_command(argument, "FROM")
        due = self._due_for_mail(command)

        def effect() -> None:
            if command is not None:
                self._transaction = _ServerTransaction(command)

        said = await self._give(FaultStage.MAIL, due, effect)
        if said is not None and not said.positive:
            self._note_refusal(said)

    def _due_for_mail(self, command: PathCommand | None) -> Answer:
        settings, phrases = self._settings, self._settings.phrases
        if not self._greeted or self._transaction is not None:
            return self._phrase(phrases.bad_sequence)
        if command is None:
            return self._phrase(phrases.bad_syntax)
        if self._lacks_login and settings.held is not Held.AT_RCPT:
            return self._phrase(phrases.login_needed)
        if unknown := self._unknown_parameter(command, frozenset({"SIZE", "BODY", "AUTH", "RET", "ENVID", "SMTPUTF8"})):
            self._complain(f"the parameter {unknown} was not offered")
            return self._phrase(phrases.unknown_parameter)
        if settings.messages_per_session is not None and self._record.messages >= settings.messages_per_session:
            return self._phrase(phrases.session_limit)
        if settings.size_limit is not None and int(command.parameters.get("SIZE") or 0) > settings.size_limit:
            return self._phrase(phrases.too_large)
        if settings.held is Held.AT_MAIL and not self._may_send_as(command.path):
            return self._phrase(phrases.path_refused, path=command.path)
        return self._phrase(phrases.path_taken)

    @property
    def _lacks_login(self) -> bool:
        return bool(self._settings.mailboxes) and self._login is None

    def _may_send_as(self, address: str) -> bool:
        if address == NULL:
            return self._settings.null_reverse_path_taken
        if self._mailbox is None or self._login is None:
            return not self._settings.mailboxes or self._settings.rule is OwnershipRule.ANY
        return rules.may_send_as(address, self._login, self._mailbox, self._settings.rule)

    def _unknown_parameter(self, command: PathCommand, belonging: frozenset[str]) -> str | None:
        """A parameter that was not offered or has no such value; None where all is well."""
        offered = rules.parameters_offered(self._extensions()) & belonging
        for name, value in command.parameters.items():
            if name not in offered:
                return name
            if name == "SIZE" and not (value.isdecimal() and value.isascii()):
                return f"SIZE={value}"
            if name == "BODY" and value.upper() not in ("7BIT", "8BITMIME"):
                return f"BODY={value}"
        return None

    async def _rcpt(self, argument: str) -> None:
        command = rules.read_path_command(argument, "TO")
        due = self._due_for_rcpt(command)

        def effect() -> None:
            if command is not None and self._transaction is not None:
                self._transaction.recipients.append(command.path)
                self._ledger.count_recipient(self._login or "", self._now())

        said = await self._give(FaultStage.RCPT, due, effect)
        if said is not None and not said.positive:
            self._note_refusal(said)

    def _due_for_rcpt(self, command: PathCommand | None) -> Answer:
        settings, phrases = self._settings, self._settings.phrases
        if self._transaction is None:
            return self._phrase(phrases.bad_sequence)
        if command is None:
            return self._phrase(phrases.bad_syntax)
        if self._lacks_login:
            return self._phrase(phrases.login_needed, recipient=command.path)
        if unknown := self._unknown_parameter(command, frozenset({"NOTIFY", "ORCPT"})):
            self._complain(f"the parameter {unknown} was not offered")
            return self._phrase(phrases.unknown_parameter)
        if settings.held is Held.AT_RCPT and not self._may_send_as(self._transaction.reverse.path):
            return self._phrase(phrases.path_refused, path=self._transaction.reverse.path, recipient=command.path)
        if len(self._transaction.recipients) >= settings.recipients_per_message:
            return self._phrase(phrases.too_many_recipients)
        if settings.recipients_per_hour is not None:
            so_far = self._ledger.recipients_in_the_last_hour(self._login or "", self._now())
            if so_far >= settings.recipients_per_hour:
                return self._phrase(phrases.send_limit)
        settled = rules.answer_for_recipient(command.path, settings.recipient_answers)
        return settled or self._phrase(phrases.recipient_taken, recipient=command.path)

    async def _rset(self, _argument: str) -> None:
        def effect() -> None:
            self._transaction = None

        await self._give(FaultStage.RSET, self._phrase(self._settings.phrases.fine), effect)

    async def _noop(self, _argument: str) -> None:
        await self._give(FaultStage.NOOP, self._phrase(self._settings.phrases.fine))

    async def _quit(self, _argument: str) -> None:
        await self._give(FaultStage.QUIT, self._phrase(self._settings.phrases.bye))
        raise _HangUp("quit")

    # DATA

    async def _data(self, argument: str) -> None:
        phrases = self._settings.phrases
        if argument:
            await self._give(FaultStage.DATA, self._phrase(phrases.bad_syntax))
            return
        if self._transaction is None or not self._transaction.recipients:
            await self._give(FaultStage.DATA, self._phrase(phrases.bad_sequence))
            return
        said = await self._give(FaultStage.DATA, self._phrase(phrases.start_input))
        if said is None or said.code != 354:
            return
        transaction, self._transaction = self._transaction, None
        await self._take_content(transaction)

    async def _take_content(self, transaction: _ServerTransaction) -> None:
        content = _IncomingContent(self._settings)
        answered_early = await self._read_content(content)
        self._wire.put_back(content.reader.rest or b"")
        self._verb = "the content"
        if self._wire.unread and not answered_early and not self._settings.pipelining:
            self._complain("went on talking before the reply")
        for fault in content.reader.faults:
            self._complain(fault)
        if answered_early:
            return
        due, reasons = self._due_for_content(transaction, content)
        id_ = self._new_id(content)

        def effect() -> None:
            self._record.messages += 1
            self._ledger.received.append(self._receipt(transaction, content, id_))

        said = await self._give(FaultStage.DOT, self._phrase(due, id=id_), effect)
        if said is not None and not said.positive:
            self._note_refusal(said, reasons)

    async def _read_content(self, content: "_IncomingContent") -> bool:
        """Read to the end of the data; says whether the client had its answer before."""
        slow = 0.0
        answered = False
        while content.reader.rest is None:
            action = self._house.script.strike(self._occasion(FaultStage.BODY, content.size))
            match action:
                case None:
                    pass
                case Slow(seconds):
                    slow = seconds
                case Silence():
                    self._wire.stop_reading()
                    await self._wire.gone()
                    raise PeerGone
                case Trickle() | Append():
                    raise ValueError(f"{action} makes no sense while content arrives")
                case _ if not answered:
                    await self._instead(action)
                    answered = True
                    if isinstance(action, ReplyWith):
                        self._record.replies.append(str(action.answer))
                        if action.then_drop:
                            raise _HangUp("dropped")
                case _:
                    pass  # the client has its answer; the rest is only read
            if slow:
                self._wire.stop_reading()
                await asyncio.sleep(slow)
            block = await self._wire.block()
            if slow and len(block) > _SLOW_BLOCK:
                self._wire.put_back(block[_SLOW_BLOCK:])
                block = block[:_SLOW_BLOCK]
            content.take(block)
        return answered

    def _due_for_content(
        self, transaction: _ServerTransaction, content: "_IncomingContent"
    ) -> tuple[Answer, tuple[str, ...]]:
        """The reply to the final dot, and the reasons that the provider would not tell."""
        settings, phrases = self._settings, self._settings.phrases
        if content.too_large:
            return phrases.too_large, ()
        if content.reader.faults:
            return phrases.policy, tuple(content.reader.faults)
        path = transaction.reverse.path
        if settings.held is Held.AT_DATA and not self._may_send_as(path):
            return self._phrase(phrases.path_refused, path=path), (f"reverse-path {path or '<>'}",)
        head = bytes(content.head)
        if settings.header_policy and (faults := header_faults(head)):
            return phrases.policy, faults
        if settings.header_from_held:
            foreign = [author for author in authors_of(head) if not self._may_send_as(author)]
            if foreign:
                return self._phrase(phrases.header_from_refused, path=foreign[0]), (f"header From {foreign[0]}",)
        return phrases.taken, ()

    def _new_id(self, content: "_IncomingContent") -> str:
        """In the platform's shape, never the same twice within one simulator."""
        seed = f"{id(self._house)} {self._record.number} {self._transaction_number} {content.digest.hexdigest()}"
        number = int.from_bytes(hashlib.sha256(seed.encode("ascii")).digest())
        signs = ""
        while len(signs) < 22:
            number, place = divmod(number, len(_BASE62))
            signs += _BASE62[place]
        return f"{signs[:6]}-{signs[6:16]}-{signs[16:]}"

    def _receipt(self, transaction: _ServerTransaction, content: "_IncomingContent", id_: str) -> ReceivedMessage:
        return ReceivedMessage(
            id=id_,
            login=self._login,
            reverse_path=transaction.reverse.path,
            recipients=tuple(transaction.recipients),
            content=bytes(content.kept),
            size=content.size,
            sha256=content.digest.hexdigest(),
            session=self._record.number,
            transaction=self._transaction_number,
            at=self._now(),
            parameters=tuple(
                f"{name}={value}" if value else name for name, value in transaction.reverse.parameters.items()
            ),
        )

    def _note_refusal(self, said: Answer, reasons: tuple[str, ...] = ()) -> None:
        self._ledger.refused.append(RefusedMessage(self._record.number, self._login, str(said), reasons))
        self._ledger.entered()


class _IncomingContent:
    """What of a message has arrived."""

    def __init__(self, settings: SimulatorSettings) -> None:
        self._limit = settings.size_limit
        self._keep = settings.content_kept
        self.reader = DataReader()
        self.kept = bytearray()
        self.head = bytearray()  # to the end of the header, for the header's rules
        self._head_done = False
        self.size = 0
        self.digest = hashlib.sha256()

    @property
    def too_large(self) -> bool:
        return self._limit is not None and self.size > self._limit

    def take(self, block: bytes) -> None:
        content = self.reader.feed(block)
        self.size += len(content)
        self.digest.update(content)
        if not self._head_done:
            self.head += content
            end = self.head.find(b"\r\n\r\n")
            self._head_done = end >= 0 or self.head.startswith(b"\r\n")
            if end >= 0:
                del self.head[end + 4 :]
        if self._keep and not self.too_large:
            self.kept += content


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
    """A command as it may be written down."""
    verb, _, argument = text.partition(" ")
    if verb.upper() != "AUTH":
        return text
    mechanism, _, initial = argument.partition(" ")
    return f"{verb} {mechanism}{' ***' if initial else ''}"


def _decode(text: str) -> str:
    if text == "*":
        raise ValueError("the client gave up")
    if text == "=":
        return ""
    return base64.b64decode(text, validate=True).decode("utf-8")


def _read_xoauth2(text: str) -> tuple[str, str]:
    """`user=` login ^A `auth=Bearer ` token ^A^A; the mailbox's password stands for the token."""
    parts = text.split("\x01")
    login = next(part.removeprefix("user=") for part in parts if part.startswith("user="))
    token = next(part.removeprefix("auth=Bearer ") for part in parts if part.startswith("auth=Bearer "))
    return login, token
