"""SMTP dialogue with one client: the order of commands and the reply to each. PURE.

Guarantees: each command line leads to exactly one Step, and each Step to exactly one reply, in the order of the
commands. Input that arrives too early (before the greeting, after STARTTLS, AUTH or DATA) ends the connection: what
follows may be a message, a password or an attack, and must not be read as commands.
Not here: the socket, TLS, the check of a password, the message data (listener).
RFC 5321 sections 3.1, 3.3, 4.1.4 and 4.3; RFC 2034, RFC 2920, RFC 3207, RFC 4954.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final, Protocol, TypeAlias

from senderproxy.mail.address import Address, AddressPattern, ForwardPath
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.reply import Reply
from senderproxy.mail.submission import Client
from senderproxy.value_class import value_class
from senderproxy.wire import replies
from senderproxy.wire.auth import AuthExchange, Mechanism
from senderproxy.wire.command import NAME_LIMIT, MailCommand, read_command, read_mail, read_rcpt
from senderproxy.wire.data_decoder import FIELD_LIMIT, HEADER_LIMIT, BareLf

UNKNOWN_LIMIT: Final = 5  # unknown commands on one connection; a mail client sends one or two while it probes
IDLE_COMMAND_LIMIT: Final = 1_000  # commands without a message, RCPT not counted; ends loops, spares every real client
LOGIN_LIMIT: Final = 3  # failed logins on one connection, RFC 4954 section 9

# A browser or proxy that a web page made connect here: lines of its HTTP body must not be read as commands.
_OTHER_PROTOCOLS: Final = frozenset({"GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT"})

# RFC 2920 section 3.1 and RFC 3207 section 4: the last command of a pipelined group, enforced where input after it is
# not a command. EHLO, NOOP, VRFY and QUIT should be the last too, but more commands after them do no harm.
_LAST_IN_GROUP: Final = frozenset({"DATA", "STARTTLS", "AUTH"})
_MECHANISMS: Final[Mapping[str, Mechanism]] = {mechanism.value: mechanism for mechanism in Mechanism}


@dataclass(frozen=True, slots=True)
class SessionOffer:
    """Extensions and limits offered to one client."""

    hostname: str
    size_limit: int  # octets
    recipient_limit: int = 1000  # in one message; RFC 5321 section 4.5.3.1.8: 100 or more
    header_limit: int = HEADER_LIMIT  # octets of a message's header section
    field_limit: int = FIELD_LIMIT  # fields of a message's header section
    starttls: bool = False
    auth: bool = False  # AUTH is configured
    auth_in_clear: bool = False  # AUTH without TLS: the client is on this machine, the connection cannot be overheard
    login_required: bool = False
    bare_lf: BareLf = BareLf.NORMALIZE
    forced_sender: Address | None = None  # replaces any sender of the client
    lenient: bool = False  # malformed commands of devices are corrected


class MessageQuota(Protocol):
    """Limits on the number of messages and recipients of a client, over all of its connections."""

    def message(self) -> Reply | None:
        """Count a message; the reply where the client has too many."""
        ...

    def recipient(self) -> Reply | None:
        """Count a recipient; the reply where the client has too many."""
        ...


@value_class
class SendReply:
    """Send this reply and read the next command."""

    reply: Reply


@value_class
class ReplyAndClose:
    """Send this reply and close the connection; further input is not read as commands."""

    reply: Reply


@value_class
class ReceiveData:
    """Send 354, receive the message, reply to it, then call `message_finished`."""


@dataclass(frozen=True, slots=True)
class StartTls:
    """Send 220, do the TLS handshake, then call `tls_started`."""


@dataclass(frozen=True, slots=True)
class Authenticate:
    """Run this exchange and verify its login attempt, then call `logged_in` or `login_failed`."""

    exchange: AuthExchange
    initial: str | None = field(repr=False)


Step: TypeAlias = SendReply | ReplyAndClose | ReceiveData | StartTls | Authenticate


_SENDER_OK: Final = SendReply(replies.SENDER_OK)
_RECIPIENT_OK: Final = SendReply(replies.RECIPIENT_OK)
_RECEIVE_DATA: Final = ReceiveData()


@dataclass(slots=True)
class _Transaction:
    mail: MailCommand
    recipients: dict[ForwardPath, None] = field(default_factory=dict)  # each once, in order of RCPT


class Dialogue:
    """State of one connection: pass in command lines, perform the steps, report their result.

    `quota`: counts what the client sends until it has logged in; None: not counted.
    """

    def __init__(
        self,
        offer: SessionOffer,
        host: str,
        *,
        senders: tuple[AddressPattern, ...] | None = None,
        secure: bool = False,
        quota: MessageQuota | None = None,
    ) -> None:
        self.offer = offer
        self.mail_seen = False  # an accepted MAIL, on this connection
        self._quota = quota
        self._secure = secure
        self._extended = False
        self._host = host
        self._senders = senders
        self.client = self._new_client()
        self._transaction: _Transaction | None = None
        self._unknown = 0
        self._idle = 0
        self._failed_logins = 0

    @property
    def in_transaction(self) -> bool:
        """True from an accepted MAIL until the reply to its message."""
        return self._transaction is not None

    @property
    def can_log_in(self) -> bool:
        """True where AUTH is offered now: never where a password could be overheard."""
        return self.offer.auth and (self._secure or self.offer.auth_in_clear)

    def envelope(self) -> Envelope:
        """The envelope from MAIL and RCPT; after ReceiveData only."""
        assert self._transaction is not None
        mail = self._transaction.mail
        return Envelope(mail.reverse_path, tuple(self._transaction.recipients), mail.eight_bit)

    def greet(self, *, early_input: bool) -> Step:
        """The greeting. `early_input`: the client sent something before it (RFC 5321 section 4.3.1)."""
        return ReplyAndClose(replies.EARLY_INPUT) if early_input else SendReply(replies.greeting(self.offer.hostname))

    def command(self, line: bytes, *, more_input: bool) -> Step:
        """The step for a command line, given with its LF. `more_input`: further input has arrived already."""
        text = line[:-2] if line.endswith(b"\r\n") else line[:-1]
        if len(text) + 2 != len(line) and self.offer.bare_lf is BareLf.REJECT:
            return ReplyAndClose(replies.BARE_LF_IN_COMMAND)
        self._idle += 1
        if self._idle > IDLE_COMMAND_LIMIT:
            return ReplyAndClose(replies.TOO_MANY_IDLE)
        lenient = self.offer.lenient
        command = read_command(text, extended=self._extended or lenient, lenient=lenient)
        if isinstance(command, Reply):
            return self._count_unknown(command)
        handle = self._HANDLERS.get(command.verb)
        if handle is None:
            return self._unknown_verb(command.verb)
        if more_input and command.verb in _LAST_IN_GROUP:
            return ReplyAndClose(replies.IMPROPER_PIPELINING)
        return handle(self, command.argument)

    def line_too_long(self) -> Step:
        """The step for a line that exceeds every limit."""
        return ReplyAndClose(replies.LINE_TOO_LONG)

    def tls_started(self) -> None:
        """Reset after the TLS handshake: knowledge from the client in clear is discarded (RFC 3207 section 4.2)."""
        self._secure = True
        self._extended = False
        self._transaction = None
        self.client = self._new_client()

    def logged_in(self, user: str, senders: tuple[AddressPattern, ...] | None) -> Step:
        """Record a successful login; the user's senders replace those of the network."""
        self._failed_logins = 0
        self.client = replace(self.client, user=user, senders=senders, protocol=self._protocol(user))
        return SendReply(replies.AUTHENTICATED)

    def login_failed(self, answer: Reply = replies.AUTH_FAILED) -> Step:
        """Record a login that ended with this reply; the third failure closes the connection."""
        if answer.code in {535, 454}:
            self._failed_logins += 1
        return ReplyAndClose(replies.TOO_MANY_LOGINS) if self._failed_logins >= LOGIN_LIMIT else SendReply(answer)

    def message_finished(self) -> None:
        """End the transaction after the reply to its message."""
        self._transaction = None
        self._idle = 0

    def reset(self) -> None:
        """Discard the transaction after an internal error."""
        self._transaction = None

    def _new_client(self) -> Client:
        """The client before its first command."""
        return Client(
            self._host,
            "",
            "SMTP",
            senders=self._senders,
            forced_sender=self.offer.forced_sender,
            lenient=self.offer.lenient,
        )

    def _ehlo(self, name: str) -> Step:
        return self._hello(name, extended=True)

    def _helo(self, name: str) -> Step:
        return self._hello(name, extended=False)

    def _hello(self, name: str, *, extended: bool) -> Step:
        if self.offer.lenient:
            name = name[:NAME_LIMIT]
        elif not name or len(name) > NAME_LIMIT:
            return SendReply(replies.EHLO_SYNTAX)
        self._transaction = None
        self._extended = extended
        self.client = replace(self.client, name=name, protocol=self._protocol(self.client.user))
        return SendReply(replies.hello(self.offer.hostname, *(self._keywords() if extended else ())))

    def _keywords(self) -> list[str]:
        words = ["PIPELINING", f"SIZE {self.offer.size_limit}", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"]
        if self.offer.starttls and not self._secure:
            words.append("STARTTLS")
        if self.can_log_in:
            words.append("AUTH " + " ".join(mechanism.value for mechanism in Mechanism))
        return words

    def _protocol(self, user: str | None) -> str:
        """The protocol for the Received field, RFC 3848."""
        if not self._extended and not user:
            return "SMTP"
        return f"ESMTP{'S' if self._secure else ''}{'A' if user else ''}"

    def _mail(self, argument: str) -> Step:
        if not self.client.name and not self.offer.lenient:
            return SendReply(replies.NEED_EHLO)
        if self.offer.login_required and self.client.user is None:
            return SendReply(replies.NEED_AUTH)
        if self._transaction is not None:
            return SendReply(replies.NESTED_MAIL)
        forced, lenient = self.offer.forced_sender, self.offer.lenient
        origin = self.offer.hostname
        mail = read_mail(argument, self.offer.size_limit, lenient=lenient, forced_sender=forced, origin=origin)
        if isinstance(mail, Reply):
            return SendReply(mail)
        if self._quota is not None and self.client.user is None and (refusal := self._quota.message()) is not None:
            return SendReply(refusal)
        self.mail_seen = True
        self._transaction = _Transaction(mail)
        return _SENDER_OK

    def _rcpt(self, argument: str) -> Step:
        if self._transaction is None:
            return SendReply(replies.NEED_MAIL)
        path = self._transaction.mail.reverse_path
        origin = path.domain if isinstance(path, Address) else self.offer.hostname
        rcpt = read_rcpt(argument, lenient=self.offer.lenient, origin=origin)
        if isinstance(rcpt, Reply):
            return SendReply(rcpt)
        recipients = self._transaction.recipients
        if rcpt.forward_path not in recipients and len(recipients) >= self.offer.recipient_limit:
            return SendReply(replies.too_many_recipients(self.offer.recipient_limit))
        if self._quota is not None and self.client.user is None and (refusal := self._quota.recipient()) is not None:
            return SendReply(refusal)
        recipients[rcpt.forward_path] = None
        self._idle -= 1  # a recipient belongs to a message
        return _RECIPIENT_OK

    def _data(self, argument: str) -> Step:
        if argument:
            return SendReply(replies.no_argument("DATA"))
        if self._transaction is None:
            return SendReply(replies.NEED_MAIL_AND_RCPT)
        if not self._transaction.recipients:
            return SendReply(replies.NO_VALID_RECIPIENTS)
        return _RECEIVE_DATA

    def _rset(self, argument: str) -> Step:
        if argument:
            return SendReply(replies.no_argument("RSET"))
        self._transaction = None
        return SendReply(replies.OK)

    def _noop(self, _argument: str) -> Step:
        return SendReply(replies.OK)

    def _quit(self, argument: str) -> Step:
        if argument:
            return SendReply(replies.no_argument("QUIT"))
        return ReplyAndClose(replies.goodbye(self.offer.hostname))

    def _vrfy(self, argument: str) -> Step:
        if not argument:
            return SendReply(replies.VRFY_SYNTAX)
        return SendReply(replies.NOT_VERIFIED)

    def _help(self, _argument: str) -> Step:
        return SendReply(replies.HELP)

    def _expn(self, _argument: str) -> Step:
        return SendReply(replies.not_supported("EXPN"))

    def _bdat(self, _argument: str) -> Step:
        # The octets after BDAT are message data, not commands (RFC 3030), so the connection cannot go on.
        return ReplyAndClose(replies.BDAT_UNSUPPORTED)

    def _starttls(self, argument: str) -> Step:
        if argument:
            return SendReply(replies.no_argument("STARTTLS"))
        if self._secure:
            return SendReply(replies.TLS_ACTIVE)
        if not self.offer.starttls:
            return SendReply(replies.not_supported("STARTTLS"))
        return StartTls()

    def _auth(self, argument: str) -> Step:
        refusal = self._auth_refusal()
        if refusal is not None:
            return SendReply(refusal)
        name, _, initial = argument.partition(" ")
        if " " in initial.strip():
            return SendReply(replies.AUTH_SYNTAX)
        mechanism = _MECHANISMS.get(name.upper())
        if mechanism is None:
            return SendReply(replies.UNKNOWN_MECHANISM)
        return Authenticate(AuthExchange(mechanism, lenient=self.offer.lenient), initial.strip() or None)

    def _auth_refusal(self) -> Reply | None:
        if not self._extended and not self.offer.lenient:  # devices send HELO, then AUTH
            return replies.NEED_EHLO
        if not self.offer.auth:
            return replies.not_supported("AUTH")
        if not self.can_log_in:
            return replies.NEED_TLS
        if self.client.user is not None:
            return replies.ALREADY_AUTHENTICATED
        if self._transaction is not None:
            return replies.AUTH_DURING_MAIL
        return None

    def _unknown_verb(self, verb: str) -> Step:
        if verb in _OTHER_PROTOCOLS:
            return ReplyAndClose(replies.OTHER_PROTOCOL)
        return self._count_unknown(replies.UNKNOWN_COMMAND)

    def _count_unknown(self, answer: Reply) -> Step:
        self._unknown += 1
        return ReplyAndClose(replies.TOO_MANY_UNKNOWN) if self._unknown >= UNKNOWN_LIMIT else SendReply(answer)

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
