"""What went wrong between us and an upstream, as a reply; what an upstream said, as an outcome.

Guarantees: whatever the network, TLS or an upstream's manners do becomes a 4xx whose last line says what happened,
where, and what a person can do about it; only what the upstream said about the message or a recipient becomes a 5xx.
Not here: which replies slow an account down (delivery.health).
Pure: it looks at exceptions and replies, and touches nothing. RFC 3463 section 3, RFC 5321 section 4.2.
"""

import errno
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from aiosmtplib import SMTPException, SMTPResponseException, SMTPServerDisconnected, SMTPTimeoutError

from senderproxy.delivery.health import is_account_limit, softened
from senderproxy.mail.address import ForwardPath
from senderproxy.mail.outcome import Deferred, Delivered, Failed, Outcome, RefusedSenderField
from senderproxy.mail.reply import Reply, parse_reply, reply
from senderproxy.routing.provider import Smarthost


class Stage(Enum):
    """Where in a session we are; the value is how a person calls it."""

    LOOK_UP = "address look-up"
    CONNECT = "connection"
    HANDSHAKE = "TLS handshake"
    GREETING = "greeting"
    EHLO = "EHLO"
    STARTTLS = "STARTTLS"
    AUTH = "login"
    MAIL = "MAIL FROM"
    RCPT = "RCPT TO"
    DATA = "DATA"
    BODY = "message"
    FINAL_DOT = "end of message"
    RSET = "RSET"
    QUIT = "QUIT"
    IDLE = "between messages"


class Trouble(Enum):
    """Why no session could be opened, as far as what follows differs."""

    UNREACHABLE = "unreachable"  # another smarthost of the provider may be tried
    UNFIT = "unfit"  # no TLS, wrong certificate, no AUTH that we speak: a person must look
    LIMIT = "limit"  # it asked for less
    PASSWORD = "password"  # the one that suspends
    LOCAL = "local"  # we ourselves did not want to


@dataclass(frozen=True, slots=True)
class NotOpened:
    """No session, and why. `said` is the upstream's own reply where there was one."""

    trouble: Trouble
    reply: Reply
    said: Reply | None = None


class SessionLost(Exception):
    """The session cannot go on. `said`: the upstream's own last word, where it had one."""

    def __init__(self, answer: Reply, said: Reply | None = None) -> None:
        super().__init__(str(answer))
        self.reply = answer
        self.said = said


# --- opening a session ---------------------------------------------------------------------------------------------

_STRICT_HINT: Final = (
    "Python 3.13 and newer check certificates more strictly: the authority's needs the extensions "
    "keyUsage, basicConstraints (critical) and subjectKeyIdentifier, the server's authorityKeyIdentifier"
)


def not_opened(fault: BaseException, smarthost: Smarthost, stage: Stage) -> NotOpened:
    """Whatever stopped us between looking up the address and the login, put into words."""
    cause = fault.__cause__ if isinstance(fault, SMTPException) and fault.__cause__ is not None else fault
    if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return _tls_fault(cause, smarthost)
    if isinstance(fault, SMTPResponseException):
        return _answered(Reply(fault.code, None, tuple(fault.message.split("\n"))), smarthost, stage)
    if isinstance(cause, TimeoutError | SMTPTimeoutError):
        words = f"{smarthost} did not answer in time (stage: {stage.value})"
        return NotOpened(Trouble.UNREACHABLE, reply(451, "4.4.1", words))
    if isinstance(cause, socket.gaierror):
        words = (
            f"The name {smarthost.host} could not be looked up ({cause.strerror}); is DNS working, is it spelt right?"
        )
        return NotOpened(Trouble.UNREACHABLE, reply(451, "4.4.3", words))
    if isinstance(cause, OSError) and stage in (Stage.LOOK_UP, Stage.CONNECT):
        return NotOpened(Trouble.UNREACHABLE, reply(451, "4.4.1", _no_connection(cause, smarthost)))
    if isinstance(fault, SMTPServerDisconnected) or isinstance(cause, OSError):
        words = f"{smarthost} closed the connection (stage: {stage.value})"
        if stage in (Stage.HANDSHAKE, Stage.STARTTLS):
            words += "; if it always does, it may want a TLS older than 1.2, which is not spoken here"
        return NotOpened(Trouble.UNREACHABLE, reply(451, "4.4.2", words))
    raise fault


def junk(smarthost: Smarthost, stage: Stage) -> Reply:
    """For what is no reply at all, or answers nothing we asked."""
    return reply(451, "4.5.0", f"{smarthost} sent something that is no SMTP reply (stage: {stage.value})")


def _no_connection(cause: OSError, smarthost: Smarthost) -> str:
    match cause.errno:
        case errno.ECONNREFUSED:
            return f"{smarthost} refused the connection: nothing listens on that port, or a firewall is in between"
        case errno.ENETUNREACH | errno.EHOSTUNREACH | errno.EADDRNOTAVAIL:
            return f"There is no route to {smarthost}: is this machine's network up?"
        case errno.EACCES | errno.EPERM:
            return f"This machine does not let us connect to {smarthost} (a local firewall or IPAddressDeny=)"
        case errno.EMFILE | errno.ENFILE:
            return f"No connection to {smarthost}: this process has too many files open (LimitNOFILE=)"
        case _:
            return f"No connection to {smarthost}: {cause.strerror or type(cause).__name__}"


def _tls_fault(fault: ssl.SSLError, smarthost: Smarthost) -> NotOpened:
    if isinstance(fault, ssl.SSLCertVerificationError):
        return NotOpened(Trouble.UNFIT, reply(451, "4.7.5", _certificate_words(fault, smarthost)))
    reason = str(fault.reason or "")
    if reason in ("UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION", "NO_PROTOCOLS_AVAILABLE"):
        words = f"{smarthost} offers no TLS that is safe today; TLS 1.2 is the least we take"
    elif reason in ("WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"):
        words = (
            f"{smarthost} does not speak TLS from the start. Is it a STARTTLS port? "
            'Then the provider needs security = "starttls"'
        )
    else:
        words = f"No TLS with {smarthost}: {reason.replace('_', ' ').lower() or 'the handshake was broken off'}"
    return NotOpened(Trouble.UNFIT, reply(451, "4.7.5", words))


def _certificate_words(fault: ssl.SSLCertVerificationError, smarthost: Smarthost) -> str:
    # The numbers are OpenSSL's X509_V_ERR_*; they are part of its interface.
    match fault.verify_code:
        case 10:
            return f"The certificate of {smarthost} has expired (or this machine's clock is wrong)"
        case 9:
            return f"The certificate of {smarthost} is not valid yet (or this machine's clock is wrong)"
        case 62 | 64:
            return f"The certificate of {smarthost} is for another name: is the host name in the configuration right?"
        case 18 | 19 | 20 | 21:
            trusted = f"by those in {smarthost.ca_file}" if smarthost.ca_file else "by one this machine knows"
            return (
                f"The certificate of {smarthost} is not signed {trusted}. "
                "If the server is your own, name its authority's certificate with ca_file"
            )
        case _:
            words = f"The certificate of {smarthost} is not accepted: {fault.verify_message}"
            return f"{words}. {_STRICT_HINT}" if _is_strictness(fault.verify_message) else words


def _is_strictness(message: str) -> bool:
    return any(sign in message.lower() for sign in ("key identifier", "key usage", "basic constraints", "pathlen"))


def authorities_unreadable(smarthost: Smarthost, fault: OSError) -> NotOpened:
    """The file with the authorities' certificates is not there, or is none."""
    why = "it holds no certificate" if isinstance(fault, ssl.SSLError) else fault.strerror or type(fault).__name__
    words = f"The authorities for {smarthost} cannot be read from {smarthost.ca_file or 'the system'}: {why}"
    return NotOpened(Trouble.UNFIT, reply(451, "4.7.5", words))


def starttls_missing(smarthost: Smarthost) -> NotOpened:
    """It offers no STARTTLS: somebody may be in between, so nothing more is said to it."""
    words = (
        f"{smarthost} does not offer STARTTLS, so no password was sent. Something on the way may suppress it; "
        "port 465 with TLS from the start is safe from that"
    )
    return NotOpened(Trouble.UNFIT, reply(451, "4.7.4", words))


def mechanism_missing(smarthost: Smarthost, wanted: Sequence[str], offered: Sequence[str]) -> NotOpened:
    """It offers no AUTH, or none that the provider's settings name."""
    there = ", ".join(name.upper() for name in offered)
    words = f"{smarthost} offers {'only AUTH ' + there if there else 'no AUTH'}; we would use {' or '.join(wanted)}"
    return NotOpened(Trouble.UNFIT, reply(451, "4.7.4", words))


def plain_text_refused(smarthost: Smarthost, peer: str) -> NotOpened:
    """security = "none" towards something that is not this machine."""
    words = f'{smarthost} is at {peer}, which is not this machine: security = "none" is for loopback only'
    return NotOpened(Trouble.UNFIT, reply(451, "4.7.4", words))


def _answered(said: Reply, smarthost: Smarthost, stage: Stage) -> NotOpened:
    """It answered, but not what lets us go on."""
    readable = _readable(said)
    if readable is None:
        return NotOpened(Trouble.UNREACHABLE, junk(smarthost, stage))
    said = readable
    if stage is Stage.AUTH and (said.code in (534, 535, 538) or _is_about_security(said)):
        return NotOpened(Trouble.PASSWORD, reply(451, "4.7.8", f"{smarthost} refused the login: {said}"), said)
    answer = reply(451, "4.7.0" if stage is Stage.AUTH else "4.4.1", f"{smarthost} said (stage: {stage.value}): {said}")
    # A login that failed for another reason was a failed login all the same: not again at once.
    is_limit = is_account_limit(said) or stage is Stage.AUTH
    return NotOpened(Trouble.LIMIT if is_limit else Trouble.UNFIT, answer, said)


def _is_about_security(said: Reply) -> bool:
    return said.is_permanent and said.status is not None and said.status.subject == 7


def _readable(said: Reply) -> Reply | None:
    """aiosmtplib's reply through our own parser: no controls, the status apart. None where it is none."""
    try:
        return parse_reply([f"{said.code} {line}".encode("utf-8", "surrogateescape") for line in said.lines])
    except ValueError:
        return None


def scrubbed(result: NotOpened, secrets: Sequence[bytes]) -> NotOpened:
    """The same without what we must not repeat: some servers send back what they could not read."""
    shown = [parse_reply([b"250 " + secret]).text for secret in secrets]

    def clean(text: Reply) -> Reply:
        lines = text.lines
        for secret in filter(None, shown):
            lines = tuple(line.replace(secret, "***") for line in lines)
        return replace(text, lines=lines)

    return replace(result, reply=clean(result.reply), said=None if result.said is None else clean(result.said))


def several(failures: Sequence[NotOpened]) -> NotOpened:
    """None of a provider's smarthosts could be reached: one answer that names each, and says what is alike once."""
    last, texts = failures[-1], dict.fromkeys(failure.reply.text for failure in failures)
    return last if len(texts) == 1 else replace(last, reply=replace(last.reply, lines=("; ".join(texts),)))


# --- inside a session ----------------------------------------------------------------------------------------------


def silence(smarthost: Smarthost, stage: Stage, seconds: float) -> Reply:
    """No answer within the time RFC 5321 section 4.5.3.2 grants."""
    return reply(451, "4.4.2", f"{smarthost} was silent for {seconds:g} s (stage: {stage.value})")


def cut(smarthost: Smarthost, stage: Stage, cause: BaseException | None) -> Reply:
    """The connection is gone."""
    why = f" ({cause.strerror})" if isinstance(cause, OSError) and cause.strerror else ""
    return reply(451, "4.4.2", f"{smarthost} closed the connection (stage: {stage.value}){why}")


def said_at(smarthost: Smarthost, stage: Stage, said: Reply) -> Reply:
    """It said something that ends the session: 421, or what a server says to somebody it no longer knows."""
    return reply(451, "4.4.2", f"{smarthost} ended the session (stage: {stage.value}): {said}")


def unknown_fate(why: Reply) -> Reply:
    """The dot was sent and no answer came."""
    words = (
        f"{why.text} - after the whole message had been sent. Whether it was taken is not known: "
        "sent again, it may arrive twice"
    )
    return reply(451, "4.4.2", words)


def is_end_of_session(said: Reply) -> bool:
    """True for replies about the session, not about the message: it has lost our login or its place.

    421 says so; 530 and 535 to MAIL mean that the login is forgotten, 503 that replies or commands are out of step.
    """
    if said.code in (421, 503, 530, 535):
        return True
    return (
        said.is_permanent and said.status is not None and (said.status.subject, said.status.detail) == (7, 57)
    )  # Microsoft 365: Client was not authenticated


def outcome(said: Reply, stage: Stage, remote: str) -> Outcome:
    """What one reply of this host means for one recipient."""
    if is_end_of_session(said):
        return Deferred(replace(softened(said), code=451).with_default_status(3, 2))
    match said.code // 100:
        case 2 if stage is not Stage.DATA:
            return Delivered(said.with_default_status(0, 0))
        case 4:
            return Deferred(_with_status(said, stage), remote=remote)
        case 5 if is_account_limit(said):
            return Deferred(softened(said), remote=remote)
        case 5:
            return Failed(_with_status(said, stage), refused_sender(said, stage), remote)
        case _:
            return Deferred(
                reply(451, "4.5.0", f"the upstream gave an answer that fits nothing (stage: {stage.value}): {said}")
            )


_SENDER_REFUSED: Final = (
    "sender address is not allowed", "envelope sender not allowed", "not owned by", "sendasdenied",
    "not have permissions to send as", "header from does not match", "from header address rejected",
    "invalid mail from",
)  # fmt: skip
# Microsoft 365: `5.7.60 Client does not have permissions to send as this sender`, `5.2.252 SendAsDenied`.
_SENDER_REFUSED_STATUS: Final = frozenset({(7, 60), (2, 252)})


def is_sender_refused(said: Reply) -> bool:
    """True where the provider does not let this account name that sender (said at MAIL, at RCPT or after the dot)."""
    if not said.is_permanent:
        return False
    known = said.status is not None and (said.status.subject, said.status.detail) in _SENDER_REFUSED_STATUS
    return known or any(sign in line.lower() for line in said.lines for sign in _SENDER_REFUSED)


def refused_sender(said: Reply, stage: Stage) -> RefusedSenderField | None:
    """Which sender it is that the provider refuses; None where it is about something else."""
    if not is_sender_refused(said):
        return None
    about_from = stage is Stage.FINAL_DOT or any("header" in line.lower() for line in said.lines)
    return RefusedSenderField.FROM if about_from else RefusedSenderField.REVERSE_PATH


def _with_status(said: Reply, stage: Stage) -> Reply:
    if is_sender_refused(said):
        return said.with_default_status(7, 1)
    subject, detail = {Stage.MAIL: (1, 0), Stage.RCPT: (1, 0), Stage.FINAL_DOT: (6, 0)}.get(stage, (0, 0))
    return said.with_default_status(subject, detail)


def not_taken(
    recipients: Sequence[ForwardPath], mail: Reply, rcpts: Sequence[Reply], remote: str
) -> Mapping[ForwardPath, Outcome]:
    """Whom the message cannot reach in this transaction, and why: everybody where MAIL itself was refused."""
    if mail.code // 100 != 2:
        return dict.fromkeys(recipients, outcome(mail, Stage.MAIL, remote))
    answers = zip(recipients, (outcome(said, Stage.RCPT, remote) for said in rcpts), strict=True)
    return {path: answer for path, answer in answers if not isinstance(answer, Delivered)}


def left_over(outcomes: Mapping[ForwardPath, Outcome]) -> Sequence[ForwardPath]:
    """Who belongs into a transaction of their own, because the upstream takes no more recipients in this one.

    RFC 5321 section 4.5.3.1.10: 452. Nobody, where it took none at all: then the answer means something else.
    """
    if not any(isinstance(answer, Delivered) for answer in outcomes.values()):
        return ()
    return [path for path, answer in outcomes.items() if isinstance(answer, Deferred) and _is_enough(answer.reply)]


def _is_enough(said: Reply) -> bool:
    about_count = said.status is not None and (said.status.subject, said.status.detail) == (5, 3)
    return said.code == 452 and (about_count or "too many recipients" in said.text.lower())


# --- before a session is wanted ------------------------------------------------------------------------------------


def too_large(size: int, limit: int, who: str) -> Reply:
    """Both sizes in words: the person at the other end has to make the message smaller."""
    return reply(
        552,
        "5.3.4",
        f"The message has {megabytes(size)}, {who} takes at most {megabytes(limit)} (attachments grow by a third)",
    )


def megabytes(octets: int) -> str:
    """A size as people say it."""
    return f"{octets / 1_000_000:.1f} MB" if octets >= 100_000 else f"{octets / 1000:.1f} kB"
