"""Failures to open a session, and the replies to clients about them. PURE.

Guarantees: a failure of the network, of TLS or of the SMTP dialogue becomes a 4xx whose last line names what failed, at
which smarthost, and what the operator can do; `hint` has the same fix.
Not here: causes of replies (delivery.causes), transactions (delivery.classify), states (delivery.account_health). RFC
5321 section 4.2.
"""

import errno
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from aiosmtplib import SMTPException, SMTPResponseException, SMTPServerDisconnected, SMTPTimeoutError

from senderproxy.delivery.account_health import format_duration
from senderproxy.delivery.causes import FAILED_LOGINS, Cause, Circumstances, Stage, cause_of
from senderproxy.delivery.hints import Login, hint
from senderproxy.delivery.login_gate import LoginWait
from senderproxy.delivery.tls_failures import (
    Explained,
    explain_closed_handshake,
    explain_no_authorities,
    explain_silent_greeting,
    explain_tls_failure,
)
from senderproxy.mail.reply import Reply, parse_reply, reply
from senderproxy.routing.provider import Smarthost


class FailureKind(Enum):
    """The kinds of failure to open a session, by their consequence. The value is the `reason` in the log."""

    UNREACHABLE = "unreachable"  # the provider's next smarthost is tried
    INCOMPATIBLE = "incompatible"  # no TLS, an invalid certificate or no supported AUTH: the operator must act
    LIMIT = "limit"  # the account is paused
    LOGIN = "login"  # a failed login: the account waits or is suspended, see delivery.account_health
    WAITING = "waiting"  # other accounts' logins failed at the server: one of them tries first
    LOCAL = "local"  # no session was requested from the upstream


@dataclass(frozen=True, slots=True)
class OpenFailed:
    """No session could be opened.

    `reply` is for clients, `upstream_reply` is the upstream's own, if it sent one. `hint`: the fix, without "To fix:".
    """

    kind: FailureKind
    reply: Reply
    upstream_reply: Reply | None = None
    cause: Cause | None = None
    stage: Stage | None = None
    hint: str = ""
    about_certificate: bool = False  # the server's was not accepted

    @property
    def is_refused_login(self) -> bool:
        """True if the provider refused this login until a person acts."""
        return self.kind is FailureKind.LOGIN and self.cause not in (Cause.BACKEND, Cause.CUT, Cause.LOGIN_LIMIT)


def failure_of(fault: BaseException, smarthost: Smarthost, stage: Stage) -> OpenFailed:
    """Classify an exception between the address look-up and the login. Raises it again if it is a bug."""
    cause = fault.__cause__ if isinstance(fault, SMTPException) and fault.__cause__ is not None else fault
    if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        about_certificate = isinstance(cause, ssl.SSLCertVerificationError)
        return replace(_explained(explain_tls_failure(cause, smarthost)), about_certificate=about_certificate)
    if isinstance(fault, SMTPResponseException):
        return _negative_reply(Reply(fault.code, None, tuple(fault.message.split("\n"))), smarthost, stage)
    if isinstance(cause, TimeoutError | SMTPTimeoutError):
        text = f"{smarthost} did not answer in time (stage: {stage.value})"
        return _cut_login(_unreachable("4.4.1", text, _hint_at(stage, smarthost)), stage)
    if isinstance(cause, socket.gaierror):
        text = f"Cannot look up {smarthost.host} ({cause.strerror}). Check the host name and this machine's DNS"
        return _unreachable("4.4.3", text)
    if isinstance(cause, OSError) and stage in (Stage.LOOK_UP, Stage.CONNECT):
        return _unreachable("4.4.1", _connect_failure(cause, smarthost))
    if isinstance(fault, SMTPServerDisconnected) or isinstance(cause, OSError):
        if stage in (Stage.HANDSHAKE, Stage.STARTTLS):
            return _explained(explain_closed_handshake(smarthost, stage.value), FailureKind.UNREACHABLE, "4.4.2")
        text = f"{smarthost} closed the connection (stage: {stage.value})"
        return _cut_login(_unreachable("4.4.2", text, _hint_at(stage, smarthost)), stage)
    raise fault


def session_failed(end_reply: Reply, upstream_reply: Reply | None, stage: Stage) -> OpenFailed:
    """The session ended during its opening."""
    return _cut_login(OpenFailed(FailureKind.UNREACHABLE, end_reply, upstream_reply), stage)


def _cut_login(failed: OpenFailed, stage: Stage) -> OpenFailed:
    """A connection that ends in answer to AUTH counts as a failed login at the provider."""
    if stage is not Stage.AUTH:
        return failed
    return replace(failed, kind=FailureKind.LOGIN, cause=Cause.CUT, stage=stage)


def _hint_at(stage: Stage, smarthost: Smarthost) -> str:
    return explain_silent_greeting(smarthost) if stage is Stage.GREETING else ""


def _unreachable(status: str, text: str, fix: str = "") -> OpenFailed:
    to_fix = f". To fix: {fix}" if fix else ""
    return OpenFailed(FailureKind.UNREACHABLE, reply(451, status, text + to_fix), hint=fix)


def _explained(found: Explained, kind: FailureKind = FailureKind.INCOMPATIBLE, status: str = "4.7.5") -> OpenFailed:
    return OpenFailed(kind, reply(451, status, f"{found.text}. To fix: {found.hint}"), hint=found.hint)


def invalid_reply(smarthost: Smarthost, stage: Stage) -> Reply:
    """Reply for clients after data that is not an SMTP reply, or a reply to no command."""
    text = f"{smarthost} sent an invalid SMTP reply (stage: {stage.value})"
    fix = _hint_at(stage, smarthost)
    return reply(451, "4.5.0", f"{text}. To fix: {fix}" if fix else text)


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


def is_refused_method(fault: SMTPResponseException) -> bool:
    """True if the server refused the login method, not the password."""
    upstream_reply = _parsed(Reply(fault.code, None, tuple(fault.message.split("\n"))))
    return upstream_reply is not None and cause_of(upstream_reply, Circumstances(Stage.AUTH)) is Cause.METHOD


def login_waits(smarthost: Smarthost, waiting: LoginWait) -> OpenFailed:
    """Other accounts' logins failed at this server, so this one is not tried yet."""
    names = ", ".join(waiting.accounts)
    fix = "senderproxy account verify ID, after the cause is fixed; it ends the wait"
    text = (
        f"Logins at {smarthost} wait for another {format_duration(waiting.seconds)}: {waiting.failures} logins failed "
        f"there (accounts {names}), the last one with: {waiting.last_reply}. To fix: {fix}"
    )
    return OpenFailed(FailureKind.WAITING, reply(451, "4.7.0", text), stage=Stage.AUTH, hint=fix)


def login_in_progress(smarthost: Smarthost) -> OpenFailed:
    """The logins before this one at the server have no reply yet."""
    text = f"Other logins at {smarthost} have been in progress for too long"
    return OpenFailed(FailureKind.WAITING, reply(451, "4.7.0", text), stage=Stage.AUTH)


def no_authorities(smarthost: Smarthost) -> OpenFailed:
    """This machine has no certificates of authorities."""
    return _explained(explain_no_authorities(smarthost))


def ca_file_unreadable(smarthost: Smarthost, fault: OSError) -> OpenFailed:
    """The file of CA certificates is missing or invalid."""
    why = "it contains no certificate" if isinstance(fault, ssl.SSLError) else fault.strerror or type(fault).__name__
    place = smarthost.ca_file or "the system"
    text = f"Cannot read the CA certificates for {smarthost} from {place}: {why}"
    fix = f"set ca_file to a PEM file that the service can read (now {place})"
    return OpenFailed(FailureKind.INCOMPATIBLE, reply(451, "4.7.5", text), hint=fix)


def starttls_missing(smarthost: Smarthost) -> OpenFailed:
    """The upstream does not offer STARTTLS. An attacker may have removed it, so the session ends here."""
    fix = 'use port 465 with security = "tls", which is safe from devices on the way that remove the offer'
    text = f"{smarthost} does not offer STARTTLS, so no password was sent. To fix: {fix}"
    return OpenFailed(FailureKind.INCOMPATIBLE, reply(451, "4.7.4", text), hint=fix)


def no_usable_mechanism(smarthost: Smarthost, wanted: Sequence[str], offered: Sequence[str]) -> OpenFailed:
    """The upstream offers no AUTH, or no mechanism of the provider's settings."""
    names = ", ".join(name.upper() for name in offered)
    text = f"{smarthost} offers {'only AUTH ' + names if names else 'no AUTH'}; usable are {' and '.join(wanted)}"
    fix = "use the provider's port for logins, usually 465 or 587"
    if names:
        fix = "set mechanisms for the provider to one that the server offers (PLAIN or LOGIN)"
    return OpenFailed(FailureKind.INCOMPATIBLE, reply(451, "4.7.4", text), hint=fix)


def plain_text_refused(smarthost: Smarthost, peer: str) -> OpenFailed:
    """A login without TLS to a host other than this machine."""
    text = f'{smarthost} is at {peer}, not on this machine: security = "none" is for loopback only'
    fix = 'set security = "tls" or "starttls" for the provider'
    return OpenFailed(FailureKind.INCOMPATIBLE, reply(451, "4.7.4", text), hint=fix)


def _negative_reply(unparsed: Reply, smarthost: Smarthost, stage: Stage) -> OpenFailed:
    upstream_reply = _parsed(unparsed)
    if upstream_reply is None:
        return OpenFailed(FailureKind.UNREACHABLE, invalid_reply(smarthost, stage))
    cause = cause_of(upstream_reply, Circumstances(stage))
    kind = _KINDS.get(cause, FailureKind.INCOMPATIBLE)
    if cause in FAILED_LOGINS:
        ours = reply(451, "4.7.8", f"{smarthost} refused the login: {upstream_reply}")
        return OpenFailed(FailureKind.LOGIN, ours, upstream_reply, cause, stage)
    fix = hint(cause, Login("", "", "NAME", smarthost.host)) if cause in _FIXED_HERE else ""
    text = f"{smarthost} {_TEXTS.get(cause, 'replied')} (stage: {stage.value}): {upstream_reply}"
    status = "4.7.0" if stage is Stage.AUTH else "4.4.1"
    return OpenFailed(
        kind, reply(451, status, f"{text}. To fix: {fix}" if fix else text), upstream_reply, cause, stage, fix
    )


_KINDS = {
    Cause.LIMIT: FailureKind.LIMIT,
    Cause.CONNECTIONS: FailureKind.LIMIT,
    Cause.CLOSING: FailureKind.LIMIT,
    Cause.ADDRESS_BLOCKED: FailureKind.LIMIT,
}
_FIXED_HERE = (Cause.EHLO_NAME, Cause.ADDRESS_BLOCKED, Cause.NO_TLS)
_TEXTS = {Cause.EHLO_NAME: "refuses the name of this machine", Cause.ADDRESS_BLOCKED: "blocks this machine's address"}


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
    if len(texts) == 1:
        return last
    fix = next((failure.hint for failure in failures if failure.hint), "")
    return replace(last, reply=replace(last.reply, lines=("; ".join(texts),)), hint=fix)
