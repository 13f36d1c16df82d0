"""Words for the operator about a request without an answer.

Guarantees: the sentence names the server by scheme, host and port and the step that failed; nothing of the request.
Not here: the exchange (http_client.exchange). OpenSSL's X509_V_ERR_*.
"""

import socket
import ssl
from http.client import IncompleteRead
from typing import Final

from senderproxy.http_client.errors import HttpError
from senderproxy.http_client.exchange import Encoded, Exchange, Incomplete, ProxyRefused, PublicAddress, Step, TooLong
from senderproxy.translation import N_, _

_STEPS: Final = {
    Step.QUEUE: N_("No thread was free for the request to {server} within {seconds} s."),
    Step.AUTHORITIES: N_("The certificates of authorities could not be read within {seconds} s."),
    Step.LOOK_UP: N_("The look-up of {server} did not end within {seconds} s."),
    Step.CONNECTION: N_("No connection to {server}: it does not respond."),
    Step.PROXY: N_("The proxy {server} did not connect within {seconds} s."),
    Step.TLS: N_("{server} did not finish the TLS handshake within {seconds} s."),
    Step.REQUEST: N_("{server} did not read the request within {seconds} s."),
    Step.ANSWER: N_("{server} did not answer within {seconds} s."),
}
_UNKNOWN_HOST: Final = frozenset(
    code for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY") if (code := getattr(socket, name, None)) is not None
)
_PLAIN_TEXT: Final = frozenset({"WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"})


def explain(fault: Exception, exchange: Exchange, seconds: float) -> HttpError:
    """The error for a failure of the exchange, which had so many seconds."""
    server = _server(exchange)
    match fault:
        case ssl.SSLCertVerificationError():
            return _certificate(fault, server)
        case TimeoutError():
            return HttpError(_(_STEPS[exchange.step]).format(server=server, seconds=f"{seconds:g}"))
        case ssl.SSLError():
            return _tls(fault, server, exchange)
        case socket.gaierror():
            return _look_up(fault, server)
        case PublicAddress():
            return HttpError(
                _("{server} is not an address of a private network: the request would travel unencrypted.").format(
                    server=server
                ),
                hint=_("use https://"),
            )
        case ProxyRefused(args=(str(words),)):
            return HttpError(_("The proxy {server} refuses the connection: {words}").format(server=server, words=words))
        case TooLong():
            return HttpError(_("The answer of {server} is too long.").format(server=server))
        case Incomplete() | IncompleteRead():
            return HttpError(_("{server} closed the connection in the middle of its answer.").format(server=server))
        case Encoded():
            return HttpError(_("{server} sent a compressed answer without being asked.").format(server=server))
        case OSError() if exchange.step is Step.AUTHORITIES:
            return HttpError(
                _("The certificates in {file} cannot be read: {why}").format(
                    file=exchange.ca_file, why=fault.strerror or type(fault).__name__
                )
            )
        case ConnectionError() if exchange.step in (Step.REQUEST, Step.ANSWER, Step.TLS):
            return HttpError(_("{server} closed the connection without an answer.").format(server=server))
        case OSError():
            why = fault.strerror or type(fault).__name__
            return HttpError(_("No connection to {server}: {why}").format(server=server, why=why))
        case _:  # http.client.HTTPException; ValueError, of impossible numbers
            return HttpError(_("{server} does not answer as HTTP demands.").format(server=server))


def _server(exchange: Exchange) -> str:
    """The server that the step is about."""
    by_proxy = exchange.proxy is not None and exchange.step in (Step.LOOK_UP, Step.CONNECTION, Step.PROXY)
    return str(exchange.proxy if by_proxy else exchange.request.url)


def _look_up(fault: socket.gaierror, server: str) -> HttpError:
    if fault.errno in _UNKNOWN_HOST:
        return HttpError(_("{server}: there is no such host.").format(server=server), hint=_("correct the URL"))
    return HttpError(_("The look-up of {server} failed: {why}").format(server=server, why=fault.strerror))


def _tls(fault: ssl.SSLError, server: str, exchange: Exchange) -> HttpError:
    if exchange.step is Step.AUTHORITIES:
        return HttpError(_("{file} contains no certificate in PEM form.").format(file=exchange.ca_file))
    reason = str(fault.reason or "")
    if reason in _PLAIN_TEXT:
        return HttpError(_("{server} does not speak TLS.").format(server=server), hint=_("correct the port in the URL"))
    if exchange.step is not Step.TLS or isinstance(fault, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return HttpError(_("{server} closed the connection without an answer.").format(server=server))
    words = reason.replace("_", " ").lower() or type(fault).__name__
    return HttpError(_("TLS with {server} failed: {why}").format(server=server, why=words))


def _certificate(fault: ssl.SSLCertVerificationError, server: str) -> HttpError:
    match fault.verify_code:
        case 10:
            return HttpError(_("The certificate of {server} has expired.").format(server=server), hint=_CLOCK)
        case 9:
            return HttpError(_("The certificate of {server} is not valid yet.").format(server=server), hint=_CLOCK)
        case 62 | 64:
            return HttpError(_("The certificate of {server} is for another name.").format(server=server))
        case 18 | 19 | 20 | 21:
            return HttpError(
                _("The certificate of {server} is not signed by an authority that this machine trusts.").format(
                    server=server
                ),
                hint=_(
                    "for a server of your own, set ca_file to the certificate of its authority; else check that the"
                    " package ca-certificates is installed"
                ),
            )
        case _:
            return HttpError(
                _("The certificate of {server} is not valid: {why}").format(server=server, why=fault.verify_message)
            )


_CLOCK: Final = "timedatectl"
