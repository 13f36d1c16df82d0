"""Classification of upstream failures (into replies for clients) and of upstream replies (into outcomes). PURE.

Guarantees: a failure of the network, of TLS or of the SMTP dialogue becomes a 4xx whose last line names what failed, at
which smarthost, and what the operator can do. Only a reply about the message or a recipient becomes a 5xx.
Not here: replies that limit an account (delivery.account_health). RFC 3463 section 3, RFC 5321 section 4.2.
"""

import errno
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from aiosmtplib import SMTPException, SMTPResponseException, SMTPServerDisconnected, SMTPTimeoutError

from senderproxy.delivery.account_health import as_transient, is_account_limit
from senderproxy.mail.address import ForwardPath
from senderproxy.mail.outcome import Deferred, Delivered, Failed, Outcome, RefusedSenderField
from senderproxy.mail.reply import Reply, parse_reply, reply
from senderproxy.routing.provider import Smarthost


class Stage(Enum):
    """The stages of a session. The value is the name in replies and logs."""

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


class FailureKind(Enum):
    """The kinds of failure to open a session, by their consequence. The value is the `reason` in the log."""

    UNREACHABLE = "unreachable"  # the provider's next smarthost is tried
    INCOMPATIBLE = "incompatible"  # no TLS, an invalid certificate or no supported AUTH: the operator must act
    LIMIT = "limit"  # the account is paused
    PASSWORD = "password"  # the account is suspended
    LOCAL = "local"  # no session was requested from the upstream


@dataclass(frozen=True, slots=True)
class OpenFailed:
    """No session could be opened. `reply` is for clients, `upstream_reply` is the upstream's own, if it sent one."""

    kind: FailureKind
    reply: Reply
    upstream_reply: Reply | None = None


class SessionEnded(Exception):
    """The session cannot continue. `reply` is for clients, `upstream_reply` is the upstream's last one, if any."""

    def __init__(self, reply: Reply, upstream_reply: Reply | None = None) -> None:
        super().__init__(str(reply))
        self.reply = reply
        self.upstream_reply = upstream_reply

    def copy(self) -> "SessionEnded":
        """Return the same exception without a traceback: the end of a session is raised at each of its waiters."""
        return SessionEnded(self.reply, self.upstream_reply)


# --- opening a session ---------------------------------------------------------------------------------------------

_STRICT_HINT: Final = (
    "Python 3.13 and newer verify certificates more strictly: the authority's certificate needs the extensions "
    "keyUsage, basicConstraints (critical) and subjectKeyIdentifier, the server's needs authorityKeyIdentifier"
)


def open_failure(fault: BaseException, smarthost: Smarthost, stage: Stage) -> OpenFailed:
    """Classify an exception between the address look-up and the login. Raises it again if it is a bug."""
    cause = fault.__cause__ if isinstance(fault, SMTPException) and fault.__cause__ is not None else fault
    if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return _tls_failure(cause, smarthost)
    if isinstance(fault, SMTPResponseException):
        return _negative_reply(Reply(fault.code, None, tuple(fault.message.split("\n"))), smarthost, stage)
    if isinstance(cause, TimeoutError | SMTPTimeoutError):
        text = f"{smarthost} did not answer in time (stage: {stage.value})"
        return OpenFailed(FailureKind.UNREACHABLE, reply(451, "4.4.1", text))
    if isinstance(cause, socket.gaierror):
        text = f"Cannot look up {smarthost.host} ({cause.strerror}). Check the host name and this machine's DNS"
        return OpenFailed(FailureKind.UNREACHABLE, reply(451, "4.4.3", text))
    if isinstance(cause, OSError) and stage in (Stage.LOOK_UP, Stage.CONNECT):
        return OpenFailed(FailureKind.UNREACHABLE, reply(451, "4.4.1", _connect_failure(cause, smarthost)))
    if isinstance(fault, SMTPServerDisconnected) or isinstance(cause, OSError):
        text = f"{smarthost} closed the connection (stage: {stage.value})"
        if stage in (Stage.HANDSHAKE, Stage.STARTTLS):
            text += "; if this repeats, it may require a TLS version older than 1.2, which is not supported"
        return OpenFailed(FailureKind.UNREACHABLE, reply(451, "4.4.2", text))
    raise fault


def invalid_reply(smarthost: Smarthost, stage: Stage) -> Reply:
    """Reply for clients after data that is not an SMTP reply, or a reply to no command."""
    return reply(451, "4.5.0", f"{smarthost} sent an invalid SMTP reply (stage: {stage.value})")


def _connect_failure(cause: OSError, smarthost: Smarthost) -> str:
    match cause.errno:
        case errno.ECONNREFUSED:
            return f"{smarthost} refused the connection: nothing listens on that port, or a firewall blocks it"
        case errno.ENETUNREACH | errno.EHOSTUNREACH | errno.EADDRNOTAVAIL:
            return f"There is no route to {smarthost}. Check this machine's network"
        case errno.EACCES | errno.EPERM:
            return f"This machine blocks connections to {smarthost} (a local firewall or IPAddressDeny=)"
        case errno.EMFILE | errno.ENFILE:
            return f"No connection to {smarthost}: this process has too many open files (LimitNOFILE=)"
        case _:
            return f"No connection to {smarthost}: {cause.strerror or type(cause).__name__}"


def _tls_failure(fault: ssl.SSLError, smarthost: Smarthost) -> OpenFailed:
    if isinstance(fault, ssl.SSLCertVerificationError):
        return OpenFailed(FailureKind.INCOMPATIBLE, reply(451, "4.7.5", _certificate_failure(fault, smarthost)))
    reason = str(fault.reason or "")
    if reason in ("UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION", "NO_PROTOCOLS_AVAILABLE"):
        text = f"{smarthost} does not support TLS 1.2 or newer"
    elif reason in ("WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"):
        text = (
            f"{smarthost} does not start with TLS. If this is a STARTTLS port, "
            'set security = "starttls" for the provider'
        )
    else:
        text = f"TLS with {smarthost} failed: {reason.replace('_', ' ').lower() or 'handshake aborted'}"
    return OpenFailed(FailureKind.INCOMPATIBLE, reply(451, "4.7.5", text))


def _certificate_failure(fault: ssl.SSLCertVerificationError, smarthost: Smarthost) -> str:
    # The numbers are OpenSSL's X509_V_ERR_*, part of its interface.
    match fault.verify_code:
        case 10:
            return f"The certificate of {smarthost} has expired (or this machine's clock is wrong)"
        case 9:
            return f"The certificate of {smarthost} is not valid yet (or this machine's clock is wrong)"
        case 62 | 64:
            return f"The certificate of {smarthost} is for another name. Check the host name in the configuration"
        case 18 | 19 | 20 | 21:
            trusted = f"in {smarthost.ca_file}" if smarthost.ca_file else "that this machine trusts"
            return (
                f"The certificate of {smarthost} is not signed by an authority {trusted}. "
                "For a server of your own, set ca_file to the certificate of its authority"
            )
        case _:
            text = f"The certificate of {smarthost} is not valid: {fault.verify_message}"
            return f"{text}. {_STRICT_HINT}" if _is_strictness(fault.verify_message) else text


def _is_strictness(message: str) -> bool:
    return any(sign in message.lower() for sign in ("key identifier", "key usage", "basic constraints", "pathlen"))


def ca_file_unreadable(smarthost: Smarthost, fault: OSError) -> OpenFailed:
    """The file of CA certificates is missing or invalid."""
    why = "it contains no certificate" if isinstance(fault, ssl.SSLError) else fault.strerror or type(fault).__name__
    text = f"Cannot read the CA certificates for {smarthost} from {smarthost.ca_file or 'the system'}: {why}"
    return OpenFailed(FailureKind.INCOMPATIBLE, reply(451, "4.7.5", text))


def starttls_missing(smarthost: Smarthost) -> OpenFailed:
    """The upstream does not offer STARTTLS. An attacker may have removed it, so the session ends here."""
    text = (
        f"{smarthost} does not offer STARTTLS, so no password was sent. A device on the way may remove the offer; "
        "port 465 with implicit TLS is safe from that"
    )
    return OpenFailed(FailureKind.INCOMPATIBLE, reply(451, "4.7.4", text))


def no_usable_mechanism(smarthost: Smarthost, wanted: Sequence[str], offered: Sequence[str]) -> OpenFailed:
    """The upstream offers no AUTH, or no mechanism of the provider's settings."""
    names = ", ".join(name.upper() for name in offered)
    text = f"{smarthost} offers {'only AUTH ' + names if names else 'no AUTH'}; usable are {' and '.join(wanted)}"
    return OpenFailed(FailureKind.INCOMPATIBLE, reply(451, "4.7.4", text))


def plain_text_refused(smarthost: Smarthost, peer: str) -> OpenFailed:
    """A login without TLS to a host other than this machine."""
    text = f'{smarthost} is at {peer}, not on this machine: security = "none" is for loopback only'
    return OpenFailed(FailureKind.INCOMPATIBLE, reply(451, "4.7.4", text))


def _negative_reply(unparsed: Reply, smarthost: Smarthost, stage: Stage) -> OpenFailed:
    upstream_reply = _parsed(unparsed)
    if upstream_reply is None:
        return OpenFailed(FailureKind.UNREACHABLE, invalid_reply(smarthost, stage))
    if stage is Stage.AUTH and (upstream_reply.code in (534, 535, 538) or _is_about_security(upstream_reply)):
        refused = reply(451, "4.7.8", f"{smarthost} refused the login: {upstream_reply}")
        return OpenFailed(FailureKind.PASSWORD, refused, upstream_reply)
    status = "4.7.0" if stage is Stage.AUTH else "4.4.1"
    ours = reply(451, status, f"{smarthost} replied (stage: {stage.value}): {upstream_reply}")
    # Any failed login counts as a failed login at the provider: no second one at once.
    is_limit = is_account_limit(upstream_reply) or stage is Stage.AUTH
    return OpenFailed(FailureKind.LIMIT if is_limit else FailureKind.INCOMPATIBLE, ours, upstream_reply)


def _is_about_security(upstream_reply: Reply) -> bool:
    return upstream_reply.is_permanent and upstream_reply.status is not None and upstream_reply.status.subject == 7


def _parsed(unparsed: Reply) -> Reply | None:
    """Parse aiosmtplib's reply with our parser: no control characters, the status separate. None if it is invalid."""
    try:
        return parse_reply([f"{unparsed.code} {line}".encode("utf-8", "surrogateescape") for line in unparsed.lines])
    except ValueError:
        return None


def without_secrets(result: OpenFailed, secrets: Sequence[bytes]) -> OpenFailed:
    """Replace the secrets in both replies: some servers repeat a command that they could not parse."""
    shown = [parse_reply([b"250 " + secret]).text for secret in secrets]

    def clean(text: Reply) -> Reply:
        lines = text.lines
        for secret in filter(None, shown):
            lines = tuple(line.replace(secret, "***") for line in lines)
        return replace(text, lines=lines)

    upstream_reply = None if result.upstream_reply is None else clean(result.upstream_reply)
    return replace(result, reply=clean(result.reply), upstream_reply=upstream_reply)


def combined(failures: Sequence[OpenFailed]) -> OpenFailed:
    """Combine the failures of all smarthosts of a provider in one line, without repetitions."""
    last, texts = failures[-1], dict.fromkeys(failure.reply.text for failure in failures)
    return last if len(texts) == 1 else replace(last, reply=replace(last.reply, lines=("; ".join(texts),)))


# --- inside a session ----------------------------------------------------------------------------------------------


def reply_timeout(smarthost: Smarthost, stage: Stage, seconds: float) -> Reply:
    """Reply for clients after a timeout (RFC 5321 section 4.5.3.2)."""
    return reply(451, "4.4.2", f"{smarthost} did not reply within {seconds:g} s (stage: {stage.value})")


def connection_closed(smarthost: Smarthost, stage: Stage, cause: BaseException | None) -> Reply:
    """Reply for clients after the connection closed."""
    why = f" ({cause.strerror})" if isinstance(cause, OSError) and cause.strerror else ""
    return reply(451, "4.4.2", f"{smarthost} closed the connection (stage: {stage.value}){why}")


def session_ended(smarthost: Smarthost, stage: Stage, upstream_reply: Reply) -> Reply:
    """Reply for clients after a reply that ends the session: see `ends_session`."""
    return reply(451, "4.4.2", f"{smarthost} ended the session (stage: {stage.value}): {upstream_reply}")


def outcome_unknown(why: Reply) -> Reply:
    """Reply for clients if the final dot was sent and no reply came."""
    text = (
        f"{why.text}, after the whole message had been sent. It is not known whether the message was accepted: "
        "a second attempt may deliver it twice"
    )
    return reply(451, "4.4.2", text)


def ends_session(upstream_reply: Reply) -> bool:
    """True for a reply about the session instead of the message.

    421 closes it. 530 and 535 to MAIL mean that the login is lost, 503 that commands and replies are out of step.
    """
    if upstream_reply.code in (421, 503, 530, 535):
        return True
    status = upstream_reply.status
    # Microsoft 365: 5.7.57 Client was not authenticated
    return upstream_reply.is_permanent and status is not None and (status.subject, status.detail) == (7, 57)


def outcome(upstream_reply: Reply, stage: Stage, remote: str) -> Outcome:
    """Return the outcome of one reply for one recipient. `remote` is the host that replied."""
    if ends_session(upstream_reply):
        return Deferred(replace(as_transient(upstream_reply), code=451).with_default_status(3, 2))
    match upstream_reply.code // 100:
        case 2 if stage is not Stage.DATA:
            return Delivered(upstream_reply.with_default_status(0, 0))
        case 4:
            return Deferred(_with_status(upstream_reply, stage), remote=remote)
        case 5 if is_account_limit(upstream_reply):
            return Deferred(as_transient(upstream_reply), remote=remote)
        case 5:
            return Failed(_with_status(upstream_reply, stage), refused_sender(upstream_reply, stage), remote)
        case _:
            text = f"Unexpected reply from the upstream (stage: {stage.value}): {upstream_reply}"
            return Deferred(reply(451, "4.5.0", text))


_SENDER_REFUSED: Final = (
    "sender address is not allowed", "envelope sender not allowed", "not owned by", "sendasdenied",
    "not have permissions to send as", "header from does not match", "from header address rejected",
    "invalid mail from",
)  # fmt: skip
# Microsoft 365: `5.7.60 Client does not have permissions to send as this sender`, `5.2.252 SendAsDenied`.
_SENDER_REFUSED_STATUS: Final = frozenset({(7, 60), (2, 252)})


def is_sender_refused(upstream_reply: Reply) -> bool:
    """True if the provider does not let this account use the sender (in reply to MAIL, RCPT or the final dot)."""
    if not upstream_reply.is_permanent:
        return False
    status = upstream_reply.status
    if status is not None and (status.subject, status.detail) in _SENDER_REFUSED_STATUS:
        return True
    return any(sign in line.lower() for line in upstream_reply.lines for sign in _SENDER_REFUSED)


def refused_sender(upstream_reply: Reply, stage: Stage) -> RefusedSenderField | None:
    """Return which sender the provider refused; None if the reply has another cause."""
    if not is_sender_refused(upstream_reply):
        return None
    about_from = stage is Stage.FINAL_DOT or any("header" in line.lower() for line in upstream_reply.lines)
    return RefusedSenderField.FROM if about_from else RefusedSenderField.REVERSE_PATH


def _with_status(upstream_reply: Reply, stage: Stage) -> Reply:
    if is_sender_refused(upstream_reply):
        return upstream_reply.with_default_status(7, 1)
    subject, detail = {Stage.MAIL: (1, 0), Stage.RCPT: (1, 0), Stage.FINAL_DOT: (6, 0)}.get(stage, (0, 0))
    return upstream_reply.with_default_status(subject, detail)


def rejected_recipients(
    recipients: Sequence[ForwardPath], mail: Reply, rcpts: Sequence[Reply], remote: str
) -> Mapping[ForwardPath, Outcome]:
    """Return the outcomes of the recipients that the upstream rejected: all of them if it rejected MAIL.

    `mail` and `rcpts` are the replies to MAIL and to each RCPT.
    """
    if mail.code // 100 != 2:
        return dict.fromkeys(recipients, outcome(mail, Stage.MAIL, remote))
    outcomes = zip(recipients, (outcome(rcpt, Stage.RCPT, remote) for rcpt in rcpts), strict=True)
    return {path: result for path, result in outcomes if not isinstance(result, Delivered)}


def recipients_over_limit(outcomes: Mapping[ForwardPath, Outcome]) -> Sequence[ForwardPath]:
    """Return the recipients that need another transaction: the upstream reached its limit of recipients.

    RFC 5321 section 4.5.3.1.10: 452. None if it accepted no recipient at all: then 452 has another meaning.
    """
    if not any(isinstance(result, Delivered) for result in outcomes.values()):
        return ()
    return [path for path, result in outcomes.items() if isinstance(result, Deferred) and _is_limit(result.reply)]


def _is_limit(answer: Reply) -> bool:
    about_count = answer.status is not None and (answer.status.subject, answer.status.detail) == (5, 3)
    return answer.code == 452 and (about_count or "too many recipients" in answer.text.lower())


# --- before a session ----------------------------------------------------------------------------------------------


def too_large(size: int, limit: int, name: str) -> Reply:
    """Reply for clients to a message over the limit of `name`, in octets. Both sizes: the author has to reduce one."""
    return reply(
        552,
        "5.3.4",
        f"Message size {format_size(size)} exceeds the limit of {name}, {format_size(limit)} "
        "(attachments grow by a third)",
    )


def format_size(octets: int) -> str:
    """Format a size for a person: 1.5 kB, 141.6 MB."""
    return f"{octets / 1_000_000:.1f} MB" if octets >= 100_000 else f"{octets / 1000:.1f} kB"
