"""The dialogue with one client: which command may come when, and the one reply each of them gets.

Guarantees: each command line leads to exactly one Step, and each Step to exactly one reply, in the order of the
commands; input that came before it could be meant (before the greeting, behind STARTTLS, AUTH or DATA) is refused
together with the connection, because what follows may be a message, a password or an attack, and none of them are
commands. Not here: the socket, TLS, the truth of a login, the message (listener).
RFC 5321 sections 3.1, 3.3, 4.1.4 and 4.3; RFC 2034, RFC 2920, RFC 3207, RFC 4954.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final, TypeAlias

from senderproxy.mail.address import Address, AddressPattern, ForwardPath
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.reply import Reply, reply
from senderproxy.mail.submission import Client
from senderproxy.wire import replies
from senderproxy.wire.command import NAME_LIMIT, MailCommand, read_command, read_mail, read_rcpt
from senderproxy.wire.data import BareLf
from senderproxy.wire.login import Login, Mechanism

UNKNOWN_LIMIT: Final = 5  # commands nobody knows
IDLE_COMMAND_LIMIT: Final = 1_000  # commands that brought no message nearer
LOGIN_LIMIT: Final = 3  # refused logins on one connection

# A browser, a proxy or a script that was talked into speaking to us: its "headers" must not be tried as commands.
_OTHER_PROTOCOLS: Final = frozenset({"GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT"})

# RFC 2920 section 3.1 and RFC 3207 section 4: these end a group, and here something hangs on it. EHLO, NOOP, VRFY and
# QUIT should as well, but nothing goes wrong where a hasty client does not keep to it.
_LAST_IN_GROUP: Final = frozenset({"DATA", "STARTTLS", "AUTH"})
_MECHANISMS: Final[Mapping[str, Mechanism]] = {mechanism.value: mechanism for mechanism in Mechanism}


@dataclass(frozen=True, slots=True)
class SessionOffer:
    """What is offered to this client, and what it must keep to."""

    hostname: str
    size_limit: int
    recipient_limit: int = 1000
    starttls: bool = False
    auth: bool = False  # AUTH is configured at all
    auth_in_clear: bool = False  # the client is this machine: nobody can listen in
    login_required: bool = False
    bare_lf: BareLf = BareLf.NORMALIZE
    forced_sender: Address | None = None
    lenient: bool = False  # what devices send is taken where it can be understood


@dataclass(frozen=True, slots=True)
class Respond:
    """Give this reply and wait for the next command."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class HangUp:
    """Give this reply and close the connection; what the client still sends is not read as commands."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class ReceiveData:
    """Give 354, take the message, answer it, then say `finished`."""


@dataclass(frozen=True, slots=True)
class StartTls:
    """Give 220, do the handshake, then say `secured`."""


@dataclass(frozen=True, slots=True)
class Authenticate:
    """Run this login, then say `logged_in` or `login_refused`."""

    login: Login
    initial: str | None = field(repr=False)


Step: TypeAlias = Respond | HangUp | ReceiveData | StartTls | Authenticate


@dataclass(slots=True)
class _Transaction:
    mail: MailCommand
    recipients: dict[ForwardPath, None] = field(default_factory=dict)  # each once, in order


class Dialogue:
    """The state of one connection. Feed it command lines, do what its steps say, tell it how that went."""

    def __init__(
        self, terms: SessionOffer, host: str, *, senders: tuple[AddressPattern, ...] | None = None, secure: bool = False
    ) -> None:
        self.terms = terms
        self._secure = secure
        self._extended = False
        self._host = host
        self._senders = senders
        self.client = self._stranger()
        self._transaction: _Transaction | None = None
        self._unknown = 0
        self._idle = 0
        self._refused_logins = 0

    @property
    def in_transaction(self) -> bool:
        """MAIL was taken and its message has not been answered."""
        return self._transaction is not None

    @property
    def can_log_in(self) -> bool:
        """AUTH is open to this client now: never where a password could be overheard."""
        return self.terms.auth and (self._secure or self.terms.auth_in_clear)

    def envelope(self) -> Envelope:
        """What MAIL and RCPT said; after ReceiveData only."""
        assert self._transaction is not None
        mail = self._transaction.mail
        return Envelope(mail.reverse_path, tuple(self._transaction.recipients), mail.eight_bit)

    def greet(self, *, talked: bool) -> Step:
        """The first word. `talked`: the client sent something before it."""
        return HangUp(replies.TALKED_EARLY) if talked else Respond(replies.greeting(self.terms.hostname))

    def command(self, line: bytes, *, more: bool) -> Step:
        """Take one command line with its LF. `more`: further input is already there."""
        text = line[:-2] if line.endswith(b"\r\n") else line[:-1]
        if len(text) + 2 != len(line) and self.terms.bare_lf is BareLf.REJECT:
            return HangUp(replies.BARE_LF_IN_COMMAND)
        self._idle += 1
        if self._idle > IDLE_COMMAND_LIMIT:
            return HangUp(replies.TOO_MANY_IDLE)
        command = read_command(text, extended=self._extended, lenient=self.terms.lenient)
        if isinstance(command, Reply):
            return self._count_unknown(command)
        handle = self._HANDLERS.get(command.verb)
        if handle is None:
            return self._unknown_verb(command.verb)
        if more and command.verb in _LAST_IN_GROUP:
            return HangUp(replies.DID_NOT_WAIT)
        return handle(self, command.argument)

    def overlong(self) -> Step:
        """A line went on and on without an end."""
        return HangUp(replies.LINE_TOO_LONG)

    def secured(self) -> None:
        """The handshake is done: everything the client said before is forgotten (RFC 3207 section 4.2)."""
        self._secure = True
        self._extended = False
        self._transaction = None
        self.client = self._stranger()

    def logged_in(self, user: str, senders: tuple[AddressPattern, ...] | None) -> Step:
        """The claim was true; the user's senders count from now on."""
        self._refused_logins = 0
        self.client = replace(self.client, user=user, senders=senders, protocol=self._protocol(user))
        return Respond(replies.LOGGED_IN)

    def login_refused(self, answer: Reply = replies.LOGIN_REFUSED) -> Step:
        """The attempt ended with this reply; the third refusal ends the connection."""
        if answer.code in {535, 454}:
            self._refused_logins += 1
        return HangUp(replies.TOO_MANY_LOGINS) if self._refused_logins >= LOGIN_LIMIT else Respond(answer)

    def finished(self) -> None:
        """The message was answered, whatever the answer; the next one may come."""
        self._transaction = None
        self._idle = 0

    def forget(self) -> None:
        """Something went wrong in the middle: no half of a transaction is kept."""
        self._transaction = None

    def _stranger(self) -> Client:
        """The client before it has said anything."""
        return Client(
            self._host,
            "",
            "SMTP",
            senders=self._senders,
            forced_sender=self.terms.forced_sender,
            lenient=self.terms.lenient,
        )

    def _ehlo(self, name: str) -> Step:
        return self._greeted(name, extended=True)

    def _helo(self, name: str) -> Step:
        return self._greeted(name, extended=False)

    def _greeted(self, name: str, *, extended: bool) -> Step:
        if self.terms.lenient:
            name = name[:NAME_LIMIT]
        elif not name or len(name) > NAME_LIMIT:
            return Respond(replies.NO_NAME)
        self._transaction = None
        self._extended = extended
        self.client = replace(self.client, name=name, protocol=self._protocol(self.client.user))
        return Respond(
            reply(250, None, *([self.terms.hostname, *self._keywords()] if extended else [self.terms.hostname]))
        )

    def _keywords(self) -> list[str]:
        words = ["PIPELINING", f"SIZE {self.terms.size_limit}", "8BITMIME", "ENHANCEDSTATUSCODES"]
        if self.terms.starttls and not self._secure:
            words.append("STARTTLS")
        if self.can_log_in:
            words.append("AUTH " + " ".join(mechanism.value for mechanism in Mechanism))
        return words

    def _protocol(self, user: str | None) -> str:
        """RFC 3848, for the Received field."""
        if not self._extended:
            return "SMTP"
        return f"ESMTP{'S' if self._secure else ''}{'A' if user else ''}"

    def _mail(self, argument: str) -> Step:
        if not self.client.name and not self.terms.lenient:
            return Respond(replies.GREET_FIRST)
        if self.terms.login_required and self.client.user is None:
            return Respond(replies.LOG_IN_FIRST)
        if self._transaction is not None:
            return Respond(replies.NESTED_MAIL)
        forced, lenient = self.terms.forced_sender, self.terms.lenient
        mail = read_mail(argument, self.terms.size_limit, lenient=lenient, forced_sender=forced)
        if isinstance(mail, Reply):
            return Respond(mail)
        self._transaction = _Transaction(mail)
        return Respond(replies.SENDER_OK)

    def _rcpt(self, argument: str) -> Step:
        if self._transaction is None:
            return Respond(replies.MAIL_FIRST)
        rcpt = read_rcpt(argument, lenient=self.terms.lenient)
        if isinstance(rcpt, Reply):
            return Respond(rcpt)
        recipients = self._transaction.recipients
        if rcpt.forward_path not in recipients and len(recipients) >= self.terms.recipient_limit:
            return Respond(replies.too_many_recipients(self.terms.recipient_limit))
        recipients[rcpt.forward_path] = None
        self._idle -= 1  # each recipient brings the message nearer
        return Respond(replies.RECIPIENT_OK)

    def _data(self, argument: str) -> Step:
        if argument:
            return Respond(replies.stands_alone("DATA"))
        if self._transaction is None:
            return Respond(replies.MAIL_AND_RCPT_FIRST)
        if not self._transaction.recipients:
            return Respond(replies.NO_RECIPIENT)
        return ReceiveData()

    def _rset(self, argument: str) -> Step:
        if argument:
            return Respond(replies.stands_alone("RSET"))
        self._transaction = None
        return Respond(replies.OK)

    def _noop(self, _argument: str) -> Step:
        return Respond(replies.OK)

    def _quit(self, argument: str) -> Step:
        if argument:
            return Respond(replies.stands_alone("QUIT"))
        return HangUp(replies.goodbye(self.terms.hostname))

    def _vrfy(self, argument: str) -> Step:
        if not argument:
            return Respond(replies.VRFY_WHOM)
        return Respond(replies.NOT_VERIFIED)

    def _help(self, _argument: str) -> Step:
        return Respond(replies.HELP)

    def _expn(self, _argument: str) -> Step:
        return Respond(replies.not_offered("EXPN"))

    def _bdat(self, _argument: str) -> Step:
        # What follows BDAT is a message, not commands, and we do not take it: nothing after it can be read.
        return HangUp(replies.NO_BDAT)

    def _starttls(self, argument: str) -> Step:
        if argument:
            return Respond(replies.stands_alone("STARTTLS"))
        if self._secure:
            return Respond(replies.ALREADY_SECURE)
        if not self.terms.starttls:
            return Respond(replies.not_offered("STARTTLS"))
        return StartTls()

    def _auth(self, argument: str) -> Step:
        refusal = self._why_no_login()
        if refusal is not None:
            return Respond(refusal)
        name, _, initial = argument.partition(" ")
        if " " in initial.strip():
            return Respond(replies.AUTH_HOW)
        mechanism = _MECHANISMS.get(name.upper())
        if mechanism is None:
            return Respond(replies.NO_SUCH_MECHANISM)
        return Authenticate(Login(mechanism), initial.strip() or None)

    def _why_no_login(self) -> Reply | None:
        if not self._extended:
            return replies.GREET_FIRST
        if not self.terms.auth:
            return replies.not_offered("AUTH")
        if not self.can_log_in:
            return replies.ENCRYPT_FIRST
        if self.client.user is not None:
            return replies.ALREADY_LOGGED_IN
        if self._transaction is not None:
            return replies.LOG_IN_BEFORE_MAIL
        return None

    def _unknown_verb(self, verb: str) -> Step:
        if verb in _OTHER_PROTOCOLS:
            return HangUp(replies.OTHER_PROTOCOL)
        return self._count_unknown(replies.UNKNOWN_COMMAND)

    def _count_unknown(self, answer: Reply) -> Step:
        self._unknown += 1
        return HangUp(replies.TOO_MANY_UNKNOWN) if self._unknown >= UNKNOWN_LIMIT else Respond(answer)

    _HANDLERS: ClassVar[Mapping[str, Callable[["Dialogue", str], Step]]] = {
        "EHLO": _ehlo,
        "HELO": _helo,
        "MAIL": _mail,
        "RCPT": _rcpt,
        "DATA": _data,
        "RSET": _rset,
        "NOOP": _noop,
        "QUIT": _quit,
        "VRFY": _vrfy,
        "HELP": _help,
        "EXPN": _expn,
        "BDAT": _bdat,
        "STARTTLS": _starttls,
        "AUTH": _auth,
    }
