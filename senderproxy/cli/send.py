"""`senderproxy send`: a test message through the running service, or with `--direct` to the provider without it.

Guarantees: one message to one recipient, once; the reply is printed unchanged.
Not here: the service (app); the decision and the delivery that --direct shares with it (relay, delivery).
"""

import argparse
import asyncio
import smtplib
import socket
import ssl
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.cli.access_tokens import CommandTokens
from senderproxy.cli.common import open_accounts, read_config, typed_address
from senderproxy.cli.errors import UsageError
from senderproxy.cli.exit_codes import EX_FAILED, EX_OK
from senderproxy.cli.terminal import ask_secret, print_progress
from senderproxy.clock import Clock, SystemClock
from senderproxy.config.model import Config, ListenerSettings
from senderproxy.control.client import ask
from senderproxy.control.protocol import Verb, new_request
from senderproxy.delivery.courier import SmtpCourier
from senderproxy.delivery.login_check import short_timeouts
from senderproxy.errors import SenderproxyError
from senderproxy.listener.body import BodyBuffer, SpillDirectory
from senderproxy.mail.address import Address
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.message import Message
from senderproxy.mail.reply import Reply
from senderproxy.mail.submission import Client, Submission
from senderproxy.relay.attempt import MessageRelay
from senderproxy.relay.decide import Decision
from senderproxy.relay.recipient_updates import OnDeferral, client_reply
from senderproxy.translation import _
from senderproxy.wiring import rules_of

_TIMEOUT: Final = 600.0  # seconds; the service replies to the final dot within nine minutes, RFC 5321 4.5.3.2.6
_LOOPBACK_FOR: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # a listener on every address is reached on loopback


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `senderproxy send`."""
    parser.add_argument("--from", dest="author", required=True, metavar="ADDRESS", help=_("author of the message"))
    parser.add_argument("--to", required=True, metavar="ADDRESS", help=_("recipient"))
    parser.add_argument("--subject", default=_subject(), help=_("subject of the message"))
    parser.add_argument("--listener", metavar="NAME", help=_("listener to connect to (default: the first)"))
    parser.add_argument(
        "--user", metavar="NAME", help=_("log in to the listener as this client; asks for the password")
    )
    parser.add_argument(
        "--password-stdin", action="store_true", help=_("read the password from a line of standard input")
    )
    parser.add_argument("--direct", action="store_true", help=_("send to the provider without the service"))
    parser.set_defaults(run=run)


def _subject() -> str:
    return _("Test message from senderproxy")


def run(chosen: argparse.Namespace) -> int:
    """0 if the message was accepted, 1 if it was refused. Raises SenderproxyError if the service cannot be reached."""
    author, recipient = typed_address(chosen.author), typed_address(chosen.to)
    if chosen.direct and (chosen.listener or chosen.user):
        raise UsageError(_("--direct connects to no listener: --listener and --user do not apply."))
    config = read_config(chosen)
    content = _content(author, recipient, chosen.subject, SystemClock())
    if chosen.direct:
        accounts = open_accounts(config)
        print_progress(_("Sending to the provider ..."))
        reply = asyncio.run(_send_direct(config, accounts, author, recipient, content))
        return _print_reply(reply.code, str(reply))
    listener = _with_actual_port(config, _listener(config, chosen.listener))
    secret = None
    if chosen.user:
        prompt = _("Password of {user}").format(user=chosen.user)
        secret = ask_secret(prompt, from_stdin=chosen.password_stdin)
    code, text = _send_through(listener, chosen.user, secret, author, recipient, content)
    return _print_reply(code, f"{code} {text}")


def send_test_message(config: Config, author: Address, recipient: Address) -> int:
    """Send the test message of `setup` through the first listener of the running service, and print the reply.

    0 if it was accepted, 1 if not. Raises SenderproxyError if the service cannot be reached.
    """
    content = _content(author, recipient, _subject(), SystemClock())
    listener = _with_actual_port(config, _listener(config, None))
    code, text = _send_through(listener, None, None, author, recipient, content)
    return _print_reply(code, f"{code} {text}")


def _print_reply(code: int, reply: str) -> int:
    match code // 100:
        case 2:
            print(_("Accepted: {reply}").format(reply=reply))
            return EX_OK
        case 4:
            print(_("Deferred: {reply}").format(reply=reply))
        case _other:
            print(_("Refused: {reply}").format(reply=reply))
    return EX_FAILED


def _content(author: Address, recipient: Address, subject: str, clock: Clock) -> bytes:
    message = EmailMessage(policy=SMTP)
    message["From"], message["To"], message["Subject"] = str(author), str(recipient), subject
    message["Date"] = format_datetime(clock.now())
    message["Message-ID"] = f"<{clock.new_id()}@{author.domain}>"
    message.set_content(_("This message was sent by `senderproxy send`. If you can read it, delivery works.") + "\n")
    return message.as_bytes()


# ---- through the running service ----


def _listener(config: Config, name: str | None) -> ListenerSettings:
    matching = [settings for settings in config.listeners if name in (None, settings.name)]
    if not matching:
        raise UsageError(
            _("There is no listener {name}.").format(name=name),
            hint=_("Use one of: {names}").format(names=", ".join(settings.name for settings in config.listeners)),
        )
    return matching[0]


def _with_actual_port(config: Config, listener: ListenerSettings) -> ListenerSettings:
    """Port 0 stands for any free port: the running service knows which one it got."""
    if not listener.address.endswith(":0"):
        return listener
    listeners = ask(Path(config.service.control_socket), new_request(Verb.STATUS))["listeners"]
    actual = next((str(entry["address"]) for entry in listeners if entry["name"] == listener.name), listener.address)
    return listener.model_copy(update={"address": actual})


def _send_through(
    listener: ListenerSettings,
    user: str | None,
    secret: str | None,
    author: Address,
    recipient: Address,
    content: bytes,
) -> tuple[int, str]:
    print_progress(_("Sending through {address} ...").format(address=listener.address))
    try:
        with _connect(listener) as client:
            if user is not None and secret is not None:
                client.login(user, secret)
            return _transaction(client, author, recipient, content)
    except smtplib.SMTPResponseException as error:
        return error.smtp_code, _text(error.smtp_error)
    except (OSError, smtplib.SMTPException) as error:
        raise SenderproxyError(
            _("Cannot reach the service at {address}: {error}").format(address=listener.address, error=error),
            hint=_("See whether it runs: senderproxy status. To send without it: senderproxy send --direct ..."),
        ) from error


def _connect(listener: ListenerSettings) -> smtplib.SMTP:
    host, _colon, port = listener.address.rpartition(":")
    host = _LOOPBACK_FOR.get(host.strip("[]"), host.strip("[]"))
    if listener.tls == "implicit":
        return _TlsSender(listener, host, int(port))
    client = _Sender(listener, host, int(port))
    if listener.tls == "starttls":
        client.starttls(context=_certificate_context(listener))
    return client


class _Sender(smtplib.SMTP):
    """A client that sends a PROXY header first if this machine is a proxy of the listener."""

    def __init__(self, listener: ListenerSettings, host: str, port: int) -> None:
        self._listener = listener
        super().__init__(host, port, timeout=_TIMEOUT)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        return _with_header(socket.create_connection((host, port), timeout), self._listener)


class _TlsSender(smtplib.SMTP_SSL):
    """The same, with TLS behind the header."""

    def __init__(self, listener: ListenerSettings, host: str, port: int) -> None:
        self._listener = listener
        super().__init__(host, port, timeout=_TIMEOUT, context=_certificate_context(listener))

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        connected = _with_header(socket.create_connection((host, port), timeout), self._listener)
        return self.context.wrap_socket(connected, server_hostname=host)


def _with_header(connected: socket.socket, listener: ListenerSettings) -> socket.socket:
    own, other = (ip_address(end[0]) for end in (connected.getsockname(), connected.getpeername()))
    if any(own in network for network in listener.proxy_from):
        connected.sendall(f"PROXY TCP{own.version} {own} {other} 0 0\r\n".encode("ascii"))
    return connected


def _certificate_context(listener: ListenerSettings) -> ssl.SSLContext:
    """Trusts the listener's own certificate and no other. It names the host, and we connect to its IP address."""
    context = ssl.create_default_context(cafile=listener.certificate)
    context.check_hostname = False
    # The file may hold a leaf without its authority: the certificate itself is the anchor then.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _transaction(client: smtplib.SMTP, author: Address, recipient: Address, content: bytes) -> tuple[int, str]:
    """MAIL, RCPT, DATA; returns the first reply that is not 250, or the last."""
    client.ehlo_or_helo_if_needed()
    code, text = client.mail(str(author))
    if code == 250:
        code, text = client.rcpt(str(recipient))
    if code == 250:
        code, text = client.data(content)
    return code, _text(text)


def _text(text: bytes | str) -> str:
    return text.decode("ascii", "replace") if isinstance(text, bytes) else text


# ---- without the service ----


async def _send_direct(
    config: Config, accounts: VaultAccounts, author: Address, recipient: Address, content: bytes
) -> Reply:
    clock = SystemClock()
    tokens = CommandTokens(config, accounts)
    courier = SmtpCourier(accounts, short_timeouts(), config.identity.hostname, clock, tokens=tokens)
    courier.is_direct = config.delivery.straight_path
    header, blank, text = content.partition(b"\r\n\r\n")
    body = BodyBuffer(len(content), SpillDirectory())
    body.append(text)  # our own text: no line begins with a dot
    submission = Submission(
        clock.new_id(),
        "send",
        Client(host="127.0.0.1", name=config.identity.hostname, protocol="ESMTP"),
        Envelope(author, (recipient,)),
        Message(HeaderSection(header + blank), body),
        clock.now(),
    )
    try:
        relay = MessageRelay(accounts, courier, clock, rules_of(config))
        decision = relay.decide(submission)
        if not isinstance(decision, Decision):
            return decision.reply
        reply = client_reply(await relay.deliver(submission, decision), submission.id, OnDeferral.DEFER)
        assert reply is not None  # one recipient has one outcome
        return reply
    finally:
        await courier.close(0)
        await tokens.close()
        body.close()
