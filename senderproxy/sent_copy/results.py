"""Results of attempts that stored no copy, in words for the operator. PURE.

Guarantees: every failure names the server and what is wrong; one that an operator has to fix has the fix.
Not here: causes of the server's answers (sent_copy.refusals).
"""

import errno
import socket
import ssl
from typing import Final

from senderproxy.routing.provider import ImapServer
from senderproxy.sent_copy.connection import Attempt, ImapStep, NotOnThisMachine, StarttlsMissing, TooMuchData
from senderproxy.sent_copy.ports import DelayKind, RefusalKind, Refused, TryLater
from senderproxy.sent_copy.refusals import NegativeAnswer, answer_of, copy_cause, login_cause
from senderproxy.translation import N_, _

_CLOCK_HINT: Final = N_("compare this machine's clock (timedatectl), or have it replaced by the operator of the server")
_PLAIN_TEXT: Final = frozenset({"WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"})


def login_refused(server: ImapServer, answer: NegativeAnswer) -> Refused | TryLater:
    """The server refuses the login."""
    match login_cause(answer):
        case DelayKind() as kind:
            text = _("{server} accepts no login now: {answer}")
            return TryLater(kind, text.format(server=server, answer=answer.text), server_text=answer.text)
        case RefusalKind.ACCESS_OFF as kind:
            hint = _(
                "switch on access by IMAP in the settings of the mailbox at the provider; after two-factor login was"
                " enabled, use a password for programs"
            )
        case kind:
            hint = _("senderproxy account set-password ID, if the provider has another password")
    text = _("{server} refuses the login: {answer}").format(server=server, answer=answer.text)
    return Refused(kind, text, hint, answer.text)


def no_method(server: ImapServer, offered: str) -> Refused:
    """The server offers no login method for this kind of secret."""
    text = _("{server} offers no login that is usable here; it offers: {methods}")
    return Refused(RefusalKind.INCOMPATIBLE, text.format(server=server, methods=offered or _("none")))


def copy_refused(server: ImapServer, folder: str, answer: NegativeAnswer) -> Refused | TryLater:
    """The server does not store the copy, or does not create the folder."""
    kind, hint = copy_cause(answer), ""
    match kind:
        case DelayKind():
            text = _("{server} stores nothing in {folder} now: {answer}")
            text = text.format(server=server, folder=folder, answer=answer.text)
            return TryLater(kind, text, server_text=answer.text)
        case RefusalKind.OVER_QUOTA:
            text = _("the mailbox is full: {answer}")
            hint = _("delete messages from the mailbox, or have its space enlarged by the provider")
        case RefusalKind.TOO_LARGE:
            text = _("the message is too large for {server}: {answer}")
        case RefusalKind.NO_PERMISSION:
            text = _("{server} permits no messages in the folder {folder}: {answer}")
            hint = _("choose another folder: senderproxy account edit ID --sent-copy-folder NAME")
        case _:
            text = _("{server} has no folder {folder} and does not create it: {answer}")
            hint = _("create a folder for sent mail in the mailbox, or choose another one: --sent-copy-folder NAME")
    return Refused(kind, text.format(server=server, folder=folder, answer=answer.text), hint, answer.text)


def command_refused(attempt: Attempt, answer: NegativeAnswer) -> TryLater:
    """The server refuses a command without which the folder or the copy cannot be found."""
    return _delay(DelayKind.BUSY, _("{server} refuses a command (step: {step}): {answer}"), attempt, answer.text)


def too_large(server: ImapServer, folder: str, size: int, limit: int) -> Refused:
    """The copy is larger than the server announces to accept."""
    text = _("the message has {size} octets, and {server} accepts {limit} at most in {folder}")
    text = text.format(size=size, server=server, limit=limit, folder=folder)
    return Refused(RefusalKind.TOO_LARGE, text)


def unsuitable() -> Refused:
    """The message cannot be carried by IMAP, or is not the one that was sent."""
    return Refused(RefusalKind.CONTENT, _("the message has NUL octets, or is not complete"))


def unreadable(why: str) -> TryLater:
    """The message cannot be read from this machine's disk."""
    return TryLater(DelayKind.LOCAL, _("the message cannot be read: {why}").format(why=why))


def failed(fault: Exception, attempt: Attempt) -> Refused | TryLater:
    """A failure of the connection, or a server that does not speak IMAP."""
    server = attempt.server
    fault = attempt.fault or fault
    if attempt.goodbye:
        text = _("{server} closed the connection (step: {step}): {answer}")
        return _delay(DelayKind.BUSY, text, attempt, answer_of(attempt.goodbye).text)
    match fault:
        case ssl.SSLCertVerificationError():
            return _certificate(fault, server)
        case TimeoutError():
            kind = DelayKind.UNREACHABLE if attempt.step in (ImapStep.CONNECTION, ImapStep.TLS) else DelayKind.PROTOCOL
            return _delay(kind, _("{server} did not answer in time (step: {step})"), attempt)
        case ssl.SSLError() if attempt.step in (ImapStep.AUTHORITIES, ImapStep.TLS):
            return _tls(fault, attempt)
        case socket.gaierror():
            text = _("the look-up of {server} failed: {why}").format(server=server, why=fault.strerror)
            return TryLater(DelayKind.UNREACHABLE, text, _("correct imap_host of the provider, if it is wrong"))
        case StarttlsMissing():
            text = _("{server} does not offer STARTTLS, so no password was sent").format(server=server)
            return Refused(RefusalKind.INCOMPATIBLE, text, _('use port 993 with imap_security = "tls"'))
        case NotOnThisMachine(args=(str(address),)):
            text = _('{server} is at {address}, not on this machine: imap_security = "none" is for loopback only')
            text = text.format(server=server, address=address)
            return Refused(
                RefusalKind.INCOMPATIBLE, text, _('set imap_security = "tls" or "starttls" for the provider')
            )
        case TooMuchData():
            return _delay(DelayKind.PROTOCOL, _("{server} sends more than it was asked for (step: {step})"), attempt)
        case OSError() if attempt.step is ImapStep.AUTHORITIES:
            text = _("the CA certificates for {server} cannot be read: {why}")
            text = text.format(server=server, why=fault.strerror or type(fault).__name__)
            return Refused(RefusalKind.INCOMPATIBLE, text, _("set ca_file to a PEM file that the service can read"))
        case OSError() if attempt.step is ImapStep.CONNECTION:
            return _unreachable(fault, server)
        case OSError():
            return _delay(DelayKind.PROTOCOL, _("{server} closed the connection (step: {step})"), attempt)
        case _:
            return _delay(DelayKind.PROTOCOL, _("{server} does not answer as IMAP demands (step: {step})"), attempt)


def _delay(kind: DelayKind, text: str, attempt: Attempt, server_text: str = "") -> TryLater:
    words = text.format(server=attempt.server, step=_(attempt.step.value), answer=server_text)
    return TryLater(kind, words, server_text=server_text)


def _unreachable(fault: OSError, server: ImapServer) -> TryLater:
    match fault.errno:
        case errno.ECONNREFUSED:
            text = _("{server} refused the connection: nothing listens on that port, or a firewall blocks it")
        case errno.ENETUNREACH | errno.EHOSTUNREACH | errno.EADDRNOTAVAIL:
            text = _("there is no route to {server}")
        case _:
            text = _("no connection to {server}: {error}")
    why = fault.strerror or type(fault).__name__
    return TryLater(DelayKind.UNREACHABLE, text.format(server=server, error=why))


def _tls(fault: ssl.SSLError, attempt: Attempt) -> Refused | TryLater:
    server, reason = attempt.server, str(fault.reason or "")
    if attempt.step is ImapStep.AUTHORITIES:
        text = _("{file} contains no certificate in PEM form").format(file=server.ca_file)
        return Refused(RefusalKind.INCOMPATIBLE, text, _("set ca_file to a PEM file that the service can read"))
    if reason in _PLAIN_TEXT:
        text = _("{server} does not start with TLS").format(server=server)
        return Refused(RefusalKind.INCOMPATIBLE, text, _('if this is port 143, set imap_security = "starttls"'))
    if isinstance(fault, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return _delay(DelayKind.PROTOCOL, _("{server} closed the connection (step: {step})"), attempt)
    words = reason.replace("_", " ").lower() or type(fault).__name__
    text = _("TLS with {server} failed: {why}").format(server=server, why=words)
    return Refused(RefusalKind.INCOMPATIBLE, text)


def _certificate(fault: ssl.SSLCertVerificationError, server: ImapServer) -> Refused:
    # The numbers are OpenSSL's X509_V_ERR_*, part of its interface.
    hint = ""
    match fault.verify_code:
        case 10:
            text, hint = _("the certificate of {server} has expired"), _(_CLOCK_HINT)
        case 9:
            text, hint = _("the certificate of {server} is not valid yet"), _(_CLOCK_HINT)
        case 62 | 64:
            text, hint = _("the certificate of {server} is for another name"), _("set imap_host to its name")
        case 18 | 19 | 20 | 21:
            text = _("the certificate of {server} is not signed by an authority that this machine trusts")
            hint = _("for a server of your own, set ca_file to the certificate of its authority")
        case _:
            text = _("the certificate of {server} is not valid: {why}")
    return Refused(RefusalKind.INCOMPATIBLE, text.format(server=server, why=fault.verify_message), hint)
