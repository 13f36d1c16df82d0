"""A person's consent on the command line: a browser on this machine, one on another machine, or a device code.

Guarantees: the listener for the browser's answer is on loopback, for one answer, of a bounded length. A code that is
pasted is taken in the same way. Nothing secret is printed; the address to open has no secret.
Not here: requests and answers (oauth), the account that is stored (cli.account_oauth).
RFC 8252 section 7.3, RFC 8628.
"""

import asyncio
import secrets
import select
import socket
import sys
import time
from collections.abc import Callable
from contextlib import closing
from typing import Final, TextIO

from senderproxy.cli.errors import LoginFailed, LoginRejected
from senderproxy.cli.questions import explain
from senderproxy.cli.terminal import is_interactive, print_paragraph
from senderproxy.clock import SystemClock
from senderproxy.http_client.client import HttpClient
from senderproxy.http_client.errors import HttpError
from senderproxy.http_client.message import Answer, Request
from senderproxy.http_client.url import parse_url
from senderproxy.oauth import token_request
from senderproxy.oauth.authorization_server import MICROSOFT
from senderproxy.oauth.consent import (
    ConsentError,
    ConsentRequest,
    DeviceCodes,
    consent_request,
    read_device_answer,
    read_redirect,
)
from senderproxy.oauth.hints import SENTENCES, TokenSubject, hint
from senderproxy.oauth.refusals import RefusalCause, TokenRefusal
from senderproxy.oauth.token_answer import Tokens, read_token_answer
from senderproxy.oauth.token_request import HEADERS, Application, FormRequest, Moment
from senderproxy.translation import _

_REQUEST_LIMIT: Final = 16384  # octets of the browser's request; a code has 1,000
_REQUEST_SECONDS: Final = 5.0  # for the browser's request
_SLOWER: Final = 5.0  # seconds more between requests. RFC 8628 section 3.5
_LONGEST_INTERVAL: Final = 30.0  # seconds between requests while the server is away
_PAGE: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nConnection: close\r\nCache-Control: no-store\r\n\r\n"
    b"<!doctype html><title>senderproxy</title><p>senderproxy has the answer. You can close this window."
    b"<p lang=de>senderproxy hat die Antwort. Sie k&ouml;nnen dieses Fenster schlie&szlig;en."
)
_NOT_FOUND: Final = b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


def consent_in_browser(application: Application, login: str, subject: TokenSubject) -> Tokens:
    """Ask a person for the consent for one mailbox. Raises LoginFailed."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        host = "localhost" if application.server.name == MICROSOFT else "127.0.0.1"
        redirect = f"http://{host}:{listener.getsockname()[1]}"
        request = consent_request(application, redirect, login, secrets.token_bytes(64))
        print_paragraph(_("Open this address in a browser, and log in as {login}:").format(login=login))
        print(request.url, flush=True)
        print_paragraph(
            _(
                "If the browser is on another machine, it will show an error at the end: then copy its whole address"
                " bar, which begins with {redirect}, and paste it here."
            ).format(redirect=redirect)
        )
        code = _wait_for_answer(listener, request)
    if isinstance(code, TokenRefusal):
        raise _failed(code, subject, login)
    return _tokens_by(
        token_request.by_code(application, code, request.verifier, redirect, present_moment()), subject, login
    )


def consent_by_device(
    application: Application, login: str, subject: TokenSubject, wait: Callable[[float], None] = time.sleep
) -> Tokens:
    """Ask a person for the consent by a code for another device. Raises LoginFailed."""
    if not application.server.device_url:
        raise LoginFailed(
            _("{server} offers no device codes.").format(server=application.server.name),
            hint=_("Consent in a browser: leave out --device."),
        )
    answer = _post(token_request.device_authorization(application))
    codes = read_device_answer(answer.status, answer.body)
    if isinstance(codes, TokenRefusal):
        raise _failed(codes, subject, login)
    print_paragraph(
        _("Open {url} in a browser, enter the code {code}, and log in as {login}.").format(
            url=codes.url, code=codes.user_code, login=login
        )
    )
    return _poll(application, codes, subject, login, wait)


def _poll(
    application: Application, codes: DeviceCodes, subject: TokenSubject, login: str, wait: Callable[[float], None]
) -> Tokens:
    interval, waited = codes.interval, 0.0
    while waited < codes.lifetime:
        wait(interval)
        waited += interval
        request = token_request.by_device_code(application, codes.device_code, present_moment())
        try:
            answer = _post(request)
        except HttpError:  # RFC 8628 section 3.5: asked again, less often
            interval = min(interval * 2, _LONGEST_INTERVAL)
            continue
        found = read_token_answer(answer.status, answer.body, request.secrets)
        match found:
            case Tokens():
                return _with_refresh_token(found, subject)
            case TokenRefusal(RefusalCause.PENDING):
                continue
            case TokenRefusal(RefusalCause.SLOW_DOWN):
                interval += _SLOWER
            case TokenRefusal(RefusalCause.AWAY):
                continue
            case _:
                raise _failed(found, subject, login)
    raise _failed(TokenRefusal(RefusalCause.CODE_EXPIRED, "", ""), subject, login)


def _wait_for_answer(listener: socket.socket, request: ConsentRequest) -> str | TokenRefusal:
    """The code, or the refusal, from the browser's request or from a pasted address."""
    sources: list[socket.socket | TextIO] = [listener]
    if is_interactive():
        sources.append(sys.stdin)
    while True:
        ready, _write, _error = select.select(sources, [], [])
        if listener in ready:
            if (found := _from_browser(listener, request)) is not None:
                return found
            continue
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        if line.strip():
            try:
                return read_redirect(request, line)
            except ConsentError as error:
                explain(error.message, error.hint)


def _from_browser(listener: socket.socket, request: ConsentRequest) -> str | TokenRefusal | None:
    """The code of one request to the listener; None if it was another request, such as that for an icon."""
    connection, _address = listener.accept()
    with connection:
        connection.settimeout(_REQUEST_SECONDS)
        try:
            target = _target(connection)
            found = None if target is None else read_redirect(request, target)
            connection.sendall(_NOT_FOUND if found is None else _PAGE)
            return found
        except ConsentError:
            connection.sendall(_NOT_FOUND)
        except OSError:
            pass
    return None


def _target(connection: socket.socket) -> str | None:
    """The target of a GET request; None for anything else."""
    clock, received = SystemClock(), b""
    end = clock.monotonic() + _REQUEST_SECONDS
    while b"\r\n" not in received and len(received) < _REQUEST_LIMIT and clock.monotonic() < end:
        if not (part := connection.recv(4096)):
            return None
        received += part
    match received.partition(b"\r\n")[0].split(b" "):
        case [b"GET", target, _version]:
            return target.decode("ascii", "replace")
        case _:
            return None


def _tokens_by(request: FormRequest, subject: TokenSubject, login: str) -> Tokens:
    return _with_refresh_token(ask_for_tokens(request, subject, login), subject)


def _with_refresh_token(tokens: Tokens, subject: TokenSubject) -> Tokens:
    if not tokens.refresh:
        raise LoginFailed(
            _("{server} gave no refresh token, so the consent would end within the hour.").format(
                server=subject.server
            ),
            hint=_("Allow the application offline access (the scope offline_access), and consent again."),
        )
    return tokens


def ask_for_tokens(request: FormRequest, subject: TokenSubject, login: str) -> Tokens:
    """Send one token request without a person's part. Raises LoginFailed, HttpError."""
    answer = _post(request)
    found = read_token_answer(answer.status, answer.body, request.secrets)
    if isinstance(found, TokenRefusal):
        raise _failed(found, subject, login)
    return found


def _post(request: FormRequest) -> Answer:
    """Raises HttpError."""

    async def send() -> Answer:
        client = HttpClient(SystemClock())
        try:
            return await client.send(Request("POST", parse_url(request.url), HEADERS, request.body))
        finally:
            client.close()

    return asyncio.run(send())


def _failed(refusal: TokenRefusal, subject: TokenSubject, login: str) -> LoginFailed:
    said = ", ".join(filter(None, dict.fromkeys((refusal.error, refusal.words))))
    text = f"{subject.server} {SENTENCES[refusal.cause]} {subject.account} ({login})"
    kind = LoginFailed if refusal.is_temporary else LoginRejected
    return kind(f"{text}: {said}" if said else f"{text}.", hint=hint(refusal.cause, subject))


def present_moment() -> Moment:
    """The time and a random text for a token request."""
    return Moment(int(SystemClock().now().timestamp()), secrets.token_urlsafe(24))
