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
from functools import reduce

from aiosmtplib import SMTPException, SMTPResponseException, SMTPServerDisconnected, SMTPTimeoutError

from senderproxy.delivery.account_health import format_duration
from senderproxy.delivery.causes import FAILED_LOGINS, Cause, Circumstances, Effect, Stage, cause_of, effect_of
from senderproxy.delivery.hints import Login, hint
from senderproxy.delivery.login_gate import LoginWait
from senderproxy.delivery.login_mechanisms import FOR_TOKENS
from senderproxy.delivery.tls_failures import (
    Explained,
    explain_closed_handshake,
    explain_no_authorities,
    explain_silent_greeting,
    explain_tls_failure,
)
from senderproxy.mail.outcome import Unavailable
from senderproxy.mail.reply import Reply, parse_reply, reply
from senderproxy.relay.ports import NoToken
from senderproxy.routing.hops import ClientCertificate
from senderproxy.routing.provider import PASSWORD_MECHANISMS, Smarthost
from senderproxy.translation import N_, _, in_english, joined, ngettext


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

    `reply` is for clients, in English; `upstream_reply` is the upstream's own, if it sent one. `hint`: the fix, without
    "To fix:". `words`: the reply for the operator, without the fix. `unavailable`: another account may send meanwhile.
    """

    kind: FailureKind
    reply: Reply
    upstream_reply: Reply | None = None
    cause: Cause | None = None
    stage: Stage | None = None
    hint: str = ""
    about_certificate: bool = False  # the server's was not accepted
    words: str = ""
    unavailable: Unavailable | None = None

    @property
    def is_refused_login(self) -> bool:
        """True if the provider refused this login until a person acts."""
        return self.kind is FailureKind.LOGIN and self.cause not in (Cause.BACKEND, Cause.CUT, Cause.LOGIN_LIMIT)

    @property
    def may_be_stale_token(self) -> bool:
        """True if another access token could be accepted: the server names no switch, no method and no limit."""
        return self.kind is FailureKind.LOGIN and self.cause in (Cause.PASSWORD, Cause.LOCKED)


def failure_of(fault: BaseException, smarthost: Smarthost, stage: Stage) -> OpenFailed:
    """Classify an exception between the address look-up and the login. Raises it again if it is a bug."""
    cause = fault.__cause__ if isinstance(fault, SMTPException) and fault.__cause__ is not None else fault
    if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        about_certificate = isinstance(cause, ssl.SSLCertVerificationError)
        failed = _explained(explain_tls_failure(cause, smarthost))
        return replace(failed, about_certificate=about_certificate, unavailable=Unavailable.UNREACHABLE)
    if isinstance(fault, SMTPResponseException):
        return _negative_reply(Reply(fault.code, None, tuple(fault.message.split("\n"))), smarthost, stage)
    if isinstance(cause, TimeoutError | SMTPTimeoutError):
        text = _("{smarthost} did not answer in time (stage: {stage})")
        text = text.format(smarthost=smarthost, stage=_(stage.value))
        return _cut_login(_unreachable("4.4.1", text, _hint_at(stage, smarthost)), stage)
    if isinstance(cause, socket.gaierror):
        text = _("Cannot look up {host} ({error}). Check the host name and this machine's DNS")
        return _unreachable("4.4.3", text.format(host=smarthost.host, error=cause.strerror))
    if isinstance(cause, OSError) and stage in (Stage.LOOK_UP, Stage.CONNECT):
        return _unreachable("4.4.1", _connect_failure(cause, smarthost))
    if isinstance(fault, SMTPServerDisconnected) or isinstance(cause, OSError):
        if stage in (Stage.HANDSHAKE, Stage.STARTTLS):
            return _explained(explain_closed_handshake(smarthost, stage.value), FailureKind.UNREACHABLE, "4.4.2")
        text = _("{smarthost} closed the connection (stage: {stage})")
        text = text.format(smarthost=smarthost, stage=_(stage.value))
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


def _unreachable(status: str, words: str, fix: str = "") -> OpenFailed:
    return _failed(FailureKind.UNREACHABLE, status, words, fix)


def _explained(found: Explained, kind: FailureKind = FailureKind.INCOMPATIBLE, status: str = "4.7.5") -> OpenFailed:
    return _failed(kind, status, found.text, found.hint)


def _failed(kind: FailureKind, status: str, words: str, fix: str = "") -> OpenFailed:
    return OpenFailed(kind, reply(451, status, _for_clients(words, fix)), hint=fix, words=words)


def _for_clients(words: str, fix: str) -> str:
    """The words in English, with their fix."""
    return f"{in_english(words)}. To fix: {in_english(fix)}" if fix else in_english(words)


def invalid_reply(smarthost: Smarthost, stage: Stage) -> Reply:
    """Reply for clients after data that is not an SMTP reply, or a reply to no command."""
    text = f"{smarthost} sent an invalid SMTP reply (stage: {stage.value})"
    return reply(451, "4.5.0", _for_clients(text, _hint_at(stage, smarthost)))


def _connect_failure(cause: OSError, smarthost: Smarthost) -> str:
    match cause.errno:
        case errno.ECONNREFUSED:
            text = _("{smarthost} refused the connection: nothing listens on that port, or a firewall blocks it")
        case errno.ENETUNREACH | errno.EHOSTUNREACH | errno.EADDRNOTAVAIL:
            text = _("There is no route to {smarthost}. Check this machine's network")
        case errno.EACCES | errno.EPERM:
            text = _("This machine blocks connections to {smarthost} (a local firewall or IPAddressDeny=)")
        case errno.EMFILE | errno.ENFILE:
            text = _("No connection to {smarthost}: this process has too many open files (LimitNOFILE=)")
        case _:
            text = _("No connection to {smarthost}: {error}")
    return text.format(smarthost=smarthost, error=cause.strerror or type(cause).__name__)


def is_refused_method(fault: SMTPResponseException) -> bool:
    """True if the server refused the login method, not the password."""
    upstream_reply = _parsed(Reply(fault.code, None, tuple(fault.message.split("\n"))))
    return upstream_reply is not None and cause_of(upstream_reply, Circumstances(Stage.AUTH)) is Cause.METHOD


def login_waits(smarthost: Smarthost, waiting: LoginWait) -> OpenFailed:
    """Other accounts' logins failed at this server, so this one is not tried yet."""
    text = ngettext(
        "Logins at {smarthost} wait for another {duration}: {count} login failed there (accounts {names}), the last"
        " one with: {reply}",
        "Logins at {smarthost} wait for another {duration}: {count} logins failed there (accounts {names}), the last"
        " one with: {reply}",
        waiting.failures,
    ).format(
        smarthost=smarthost,
        duration=format_duration(waiting.seconds),
        count=waiting.failures,
        names=", ".join(waiting.accounts),
        reply=waiting.last_reply,
    )
    fix = _("senderproxy account verify ID, after the cause is fixed; it ends the wait")
    failed = _failed(FailureKind.WAITING, "4.7.0", text, fix)
    return replace(failed, stage=Stage.AUTH, unavailable=Unavailable.PAUSED)


def login_in_progress(smarthost: Smarthost) -> OpenFailed:
    """The logins before this one at the server have no reply yet."""
    text = _("Other logins at {smarthost} have been in progress for too long").format(smarthost=smarthost)
    return replace(_failed(FailureKind.WAITING, "4.7.0", text), stage=Stage.AUTH)


def no_authorities(smarthost: Smarthost) -> OpenFailed:
    """This machine has no certificates of authorities."""
    return _explained(explain_no_authorities(smarthost))


def ca_file_unreadable(smarthost: Smarthost, fault: OSError) -> OpenFailed:
    """The file of CA certificates is missing or invalid."""
    why = _("it contains no certificate")
    if not isinstance(fault, ssl.SSLError):
        why = fault.strerror or type(fault).__name__
    place = smarthost.ca_file or _("the system")
    text = _("Cannot read the CA certificates for {smarthost} from {place}: {why}")
    fix = _("set ca_file to a PEM file that the service can read (now {place})").format(place=place)
    return _failed(FailureKind.INCOMPATIBLE, "4.7.5", text.format(smarthost=smarthost, place=place, why=why), fix)


def starttls_missing(smarthost: Smarthost, *, has_login: bool = True) -> OpenFailed:
    """The upstream does not offer STARTTLS. An attacker may have removed it, so the session ends here."""
    text = _("{smarthost} does not offer STARTTLS, so no password was sent").format(smarthost=smarthost)
    if not has_login:
        text = _("{smarthost} does not offer STARTTLS, so nothing was sent").format(smarthost=smarthost)
    fix = _('use port 465 with security = "tls", which is safe from devices on the way that remove the offer')
    failed = _failed(FailureKind.INCOMPATIBLE, "4.7.4", text, fix)
    return replace(failed, unavailable=Unavailable.UNREACHABLE)


def no_usable_mechanism(smarthost: Smarthost, wanted: Sequence[str], offered: Sequence[str]) -> OpenFailed:
    """The upstream offers no AUTH, or no mechanism of the provider's settings."""
    names = ", ".join(name.upper() for name in offered)
    if names:
        speakable = " | ".join(name for name in (*PASSWORD_MECHANISMS, *FOR_TOKENS) if name.lower() in offered)
        text = _("{smarthost} offers only AUTH {names}; usable are {wanted}")
        fix = _("set mechanisms for the provider to one that the server offers ({usable})").format(usable=speakable)
    else:
        text = _("{smarthost} offers no AUTH; usable are {wanted}")
        fix = _("use the provider's port for logins, usually 465 or 587")
    usable = reduce(lambda first, second: _("{first} and {second}").format(first=first, second=second), wanted)
    text = text.format(smarthost=smarthost, names=names, wanted=usable)
    return _failed(FailureKind.INCOMPATIBLE, "4.7.4", text, fix)


def mechanism_failed(smarthost: Smarthost, why: str) -> OpenFailed:
    """The upstream's part of the login is not that of the mechanism."""
    text = _("The login at {smarthost} failed: {why}").format(smarthost=smarthost, why=why)
    fix = _("set mechanisms for the provider to another one that the server offers")
    return replace(_failed(FailureKind.INCOMPATIBLE, "4.7.0", text, fix), stage=Stage.AUTH)


def no_token(missing: NoToken) -> OpenFailed:
    """There is no access token for the login."""
    if not missing.needs_person:
        return _failed(FailureKind.UNREACHABLE, "4.7.0", missing.reply.text, missing.hint)
    failed = _failed(FailureKind.LOGIN, "4.7.8", missing.reply.text, missing.hint)
    return replace(failed, upstream_reply=missing.reply, cause=Cause.TOKEN, stage=Stage.AUTH)


def plain_text_refused(smarthost: Smarthost, peer: str) -> OpenFailed:
    """A login without TLS to a host other than this machine."""
    text = _('{smarthost} is at {peer}, not on this machine: security = "none" is for loopback only')
    fix = _('set security = "tls" or "starttls" for the provider')
    return _failed(FailureKind.INCOMPATIBLE, "4.7.4", text.format(smarthost=smarthost, peer=peer), fix)


def plain_text_to_public(smarthost: Smarthost, peer: str) -> OpenFailed:
    """A server without TLS and without a login at a public address."""
    text = _('{smarthost} is at {peer}, a public address: security = "none" is for private ones only')
    fix = _('set security = "tls" or "starttls" for the smarthost')
    return _failed(FailureKind.INCOMPATIBLE, "4.7.4", text.format(smarthost=smarthost, peer=peer), fix)


def own_listener(smarthost: Smarthost) -> OpenFailed:
    """A server that is a listener of this very service."""
    text = _("{smarthost} is a listener of this service: its mail would go in a circle").format(smarthost=smarthost)
    fix = _("correct the server of the route in the configuration")
    return _failed(FailureKind.INCOMPATIBLE, "4.4.6", text, fix)


def client_certificate_unreadable(smarthost: Smarthost, client: ClientCertificate, fault: OSError) -> OpenFailed:
    """The client certificate, its key or the authorities cannot be used."""
    why = fault.strerror or type(fault).__name__
    text = _("Cannot use the client certificate for {smarthost} ({certificate}, {key}): {why}")
    text = text.format(smarthost=smarthost, certificate=client.certificate, key=client.key, why=why)
    fix = _("set certificate and key to PEM files that belong together and that the service can read")
    return _failed(FailureKind.INCOMPATIBLE, "4.7.5", text, fix)


def no_smarthost(provider: str) -> OpenFailed:
    """The provider's section names no server."""
    text = _("Provider {provider} has no smarthost").format(provider=provider)
    fix = _("set host in [providers.{provider}]").format(provider=provider)
    return _failed(FailureKind.INCOMPATIBLE, "4.3.5", text, fix)


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
    text = _(_TEXTS[cause]) if cause in _TEXTS else _("{smarthost} replied (stage: {stage}): {reply}")
    text = text.format(smarthost=smarthost, stage=_(stage.value), reply=upstream_reply)
    failed = _failed(kind, "4.7.0" if stage is Stage.AUTH else "4.4.1", text, fix)
    # A refusal in place of a greeting, unless it is about us: there is no service now.
    no_service = stage is Stage.GREETING and cause not in (Cause.EHLO_NAME, Cause.NO_TLS)
    unavailable = Unavailable.UNREACHABLE if no_service else None
    return replace(failed, upstream_reply=upstream_reply, cause=cause, stage=stage, unavailable=unavailable)


_KINDS = {
    Cause.LIMIT: FailureKind.LIMIT,
    Cause.CONNECTIONS: FailureKind.LIMIT,
    Cause.CLOSING: FailureKind.LIMIT,
    Cause.ADDRESS_BLOCKED: FailureKind.LIMIT,
}
_FIXED_HERE = (Cause.EHLO_NAME, Cause.ADDRESS_BLOCKED, Cause.NO_TLS)
_TEXTS = {
    Cause.EHLO_NAME: N_("{smarthost} refuses the name of this machine (stage: {stage}): {reply}"),
    Cause.ADDRESS_BLOCKED: N_("{smarthost} blocks this machine's address (stage: {stage}): {reply}"),
}


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
    words = "" if any(secret in result.words for secret in shown if secret) else result.words  # then those of the reply
    return replace(result, reply=clean(result.reply), upstream_reply=upstream_reply, words=words)


def as_unavailable(result: OpenFailed, *, is_last: bool) -> OpenFailed:
    """The failure at a provider with its `unavailable`. `is_last`: there is no further smarthost.

    A server without a service, or without TLS, makes the account unavailable only if it is the last one; what the
    configuration of this machine causes never does.
    """
    match result.kind:
        case FailureKind.UNREACHABLE:
            return replace(result, unavailable=Unavailable.UNREACHABLE)
        case FailureKind.LIMIT:
            return replace(result, unavailable=Unavailable.PAUSED)
        case FailureKind.LOGIN:
            upstream_reply, cause = result.upstream_reply or result.reply, result.cause
            suspends = cause is not None and effect_of(cause, upstream_reply) is Effect.SUSPEND
            return replace(result, unavailable=Unavailable.SUSPENDED if suspends else Unavailable.PAUSED)
        case FailureKind.INCOMPATIBLE if not is_last:
            return replace(result, unavailable=None)
        case _:
            return result


def combined(failures: Sequence[OpenFailed]) -> OpenFailed:
    """Combine the failures of all smarthosts of a provider in one line, without repetitions."""
    last, texts = failures[-1], dict.fromkeys(failure.reply.text for failure in failures)
    if len(texts) == 1:
        return last
    fix = next((failure.hint for failure in failures if failure.hint), "")
    words = list(dict.fromkeys(failure.words or failure.reply.text for failure in failures))
    return replace(last, reply=replace(last.reply, lines=("; ".join(texts),)), hint=fix, words=joined("; ", words))
