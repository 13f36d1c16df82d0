"""`senderproxy send`: a test mail, through the running service as the mail server would send it, or without it.

Guarantees: one message to one recipient, once; the answer is shown as it came.
Not here: the service (app); with --direct, the same decision and delivery that the service has (relay,
delivery).
"""

import argparse
import asyncio
import smtplib
import ssl
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final

from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.cli.account_login_check import short_patience
from senderproxy.cli.common import open_accounts, read_config, typed_address
from senderproxy.cli.errors import UsageError
from senderproxy.cli.exit_codes import EX_FAILED, EX_OK
from senderproxy.cli.terminal import ask_secret, print_progress
from senderproxy.clock import Clock, SystemClock
from senderproxy.config.model import Config, ListenerSettings
from senderproxy.control.client import ask
from senderproxy.delivery.courier import SmtpCourier
from senderproxy.errors import SenderproxyError
from senderproxy.listener.body import BodyBuffer
from senderproxy.mail.address import Address
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.message import Message
from senderproxy.mail.reply import Reply
from senderproxy.mail.submission import Client, Submission
from senderproxy.relay.attempt import MessageRelay
from senderproxy.relay.decide import Decision
from senderproxy.relay.recipient_updates import OnDeferral, client_reply
from senderproxy.wiring import rules_of

# The service answers the final dot within nine minutes; whoever waits less hears nothing of a slow provider.
_SECONDS: Final = 600.0
_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--from", dest="author", required=True, metavar="ADDRESS")
    parser.add_argument("--to", required=True, metavar="ADDRESS")
    parser.add_argument("--subject", default="A test of senderproxy")
    parser.add_argument("--listener", metavar="NAME", help="which one, where there are several")
    parser.add_argument("--user", metavar="NAME", help="log in to the listener as this client; asks for the password")
    parser.add_argument("--password-stdin", action="store_true", help="read that password from standard input")
    parser.add_argument("--direct", action="store_true", help="without the service: straight to the provider")
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """0 where the provider took it, 1 where it was refused, 69 where nobody could be asked."""
    author, recipient = typed_address(chosen.author), typed_address(chosen.to)
    if chosen.direct and (chosen.listener or chosen.user):
        raise UsageError("--direct goes past the listener: --listener and --user mean nothing with it.")
    config = read_config(chosen)
    letter = _letter(author, recipient, chosen.subject, SystemClock())
    if chosen.direct:
        accounts = open_accounts(config)
        print_progress("Sending straight to the provider ...")
        answer = asyncio.run(_sent_direct(config, accounts, author, recipient, letter))
        return _told(answer.code, str(answer))
    listener = _with_its_port(config, _listener(config, chosen.listener))
    code, words = _sent_through(listener, chosen, author, recipient, letter)
    return _told(code, f"{code} {words}")


def _told(code: int, words: str) -> int:
    taken = 200 <= code < 300
    print(f"{'Taken' if taken else 'Not taken'}: {words}")
    return EX_OK if taken else EX_FAILED


def _letter(author: Address, recipient: Address, subject: str, clock: Clock) -> bytes:
    letter = EmailMessage(policy=SMTP)
    letter["From"], letter["To"], letter["Subject"] = str(author), str(recipient), subject
    letter["Date"] = format_datetime(clock.now())
    letter["Message-ID"] = f"<{clock.new_id()}@{author.domain}>"
    letter.set_content("This mail was sent by `senderproxy send`. If you can read it, the way through works.\n")
    return letter.as_bytes()


# ---- through the running service ----


def _listener(config: Config, name: str | None) -> ListenerSettings:
    named = [settings for settings in config.listeners if name in (None, settings.name)]
    if not named:
        known = ", ".join(settings.name for settings in config.listeners)
        raise UsageError(f"There is no listener {name}.", hint=f"There is: {known}")
    return named[0]


def _with_its_port(config: Config, listener: ListenerSettings) -> ListenerSettings:
    """Port 0 means any that is free: only the running service knows which one it is."""
    if not listener.address.endswith(":0"):
        return listener
    doors = ask(Path(config.service.control_socket), {"do": "status"})["listeners"]
    found = next((str(door["address"]) for door in doors if door["name"] == listener.name), listener.address)
    return listener.model_copy(update={"address": found})


def _sent_through(
    listener: ListenerSettings, chosen: argparse.Namespace, author: Address, recipient: Address, letter: bytes
) -> tuple[int, str]:
    secret = None
    if chosen.user:
        secret = ask_secret(f"Password of {chosen.user}", from_stdin=chosen.password_stdin)
    print_progress(f"Sending through {listener.address} ...")
    try:
        with _connected(listener) as client:
            if secret is not None:
                client.login(chosen.user, secret)
            return _dialogue(client, author, recipient, letter)
    except smtplib.SMTPResponseException as error:
        return error.smtp_code, _text(error.smtp_error)
    except (OSError, smtplib.SMTPException) as error:
        raise SenderproxyError(
            f"The service at {listener.address} cannot be reached: {error}",
            hint="Does it run? senderproxy status. To go past it: senderproxy send --direct ...",
        ) from error


def _connected(listener: ListenerSettings) -> smtplib.SMTP:
    host, _, port = listener.address.rpartition(":")
    host = _EVERYWHERE.get(host.strip("[]"), host.strip("[]"))
    if listener.tls == "implicit":
        return smtplib.SMTP_SSL(host, int(port), timeout=_SECONDS, context=_own_certificate(listener))
    client = smtplib.SMTP(host, int(port), timeout=_SECONDS)
    if listener.tls == "starttls":
        client.starttls(context=_own_certificate(listener))
    return client


def _own_certificate(listener: ListenerSettings) -> ssl.SSLContext:
    """Trusts the listener's own certificate and no other. It names the machine, and we come by its IP address."""
    context = ssl.create_default_context(cafile=listener.certificate)
    context.check_hostname = False
    # The file may hold a leaf without its authority: the certificate itself is the anchor then.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _dialogue(client: smtplib.SMTP, author: Address, recipient: Address, letter: bytes) -> tuple[int, str]:
    """MAIL, RCPT, DATA; the first answer that is a refusal, or the last."""
    client.ehlo_or_helo_if_needed()
    code, words = client.mail(str(author))
    if code == 250:
        code, words = client.rcpt(str(recipient))
    if code == 250:
        code, words = client.data(letter)
    return code, _text(words)


def _text(words: bytes | str) -> str:
    return words.decode("ascii", "replace") if isinstance(words, bytes) else words


# ---- without it ----


async def _sent_direct(
    config: Config, accounts: VaultAccounts, author: Address, recipient: Address, letter: bytes
) -> Reply:
    clock = SystemClock()
    courier = SmtpCourier(accounts, short_patience(), config.identity.hostname, clock)
    rules = rules_of(config)
    header, blank, text = letter.partition(b"\r\n\r\n")
    body = BodyBuffer(len(letter), TemporaryFile)
    body.append(text)  # written by us: it has no line that begins with a dot
    submission = Submission(
        clock.new_id(),
        "send",
        Client(host="127.0.0.1", name=config.identity.hostname, protocol="ESMTP"),
        Envelope(author, (recipient,)),
        Message(HeaderSection(header + blank), body),
        clock.now(),
    )
    try:
        relay = MessageRelay(accounts, courier, clock, rules)
        decision = relay.decide(submission)
        if not isinstance(decision, Decision):
            return decision.reply
        told = client_reply(await relay.deliver(submission, decision), submission.id, OnDeferral.DEFER)
        assert told is not None  # one recipient has one outcome
        return told
    finally:
        await courier.close(0)
        body.close()
