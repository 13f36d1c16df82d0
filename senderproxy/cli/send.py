"""`senderproxy send`: a test mail through the running service, as the mail server would send it."""

import argparse
import smtplib
import ssl
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, make_msgid

from senderproxy.cli.common import Subparsers, UsageError, read_config
from senderproxy.clock import SystemClock
from senderproxy.errors import SenderproxyError

_REFUSED = 1


def add_parser(verbs: Subparsers) -> None:
    verb = verbs.add_parser("send", help="a test mail through the running service")
    verb.add_argument("--from", dest="author", required=True, metavar="ADDRESS")
    verb.add_argument("--to", required=True, metavar="ADDRESS")
    verb.add_argument("--subject", default="A test of senderproxy")
    verb.add_argument("--listener", help="which one, where there are several")
    verb.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """0 where it was taken, 1 where it was refused; the reply is shown in both cases."""
    config = read_config(chosen)
    named = [s for s in config.listeners if chosen.listener in (None, s.name)]
    if not named:
        raise UsageError(f"There is no listener {chosen.listener}.")
    host, _, port = named[0].address.rpartition(":")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host.strip("[]"), host.strip("[]"))
    letter = _letter(chosen.author, chosen.to, chosen.subject)
    try:
        with _connected(host, int(port), named[0].tls) as client:
            client.send_message(letter, chosen.author, [chosen.to])
    except smtplib.SMTPRecipientsRefused as error:
        code, words = next(iter(error.recipients.values()))
        return _told_no(code, words)
    except smtplib.SMTPResponseException as error:
        return _told_no(error.smtp_code, error.smtp_error)
    except (OSError, smtplib.SMTPException) as error:
        raise SenderproxyError(
            f"The service at {host}:{port} cannot be reached: {error}", hint="senderproxy status, senderproxy check"
        ) from error
    print(f"Taken upstream: from {chosen.author} to {chosen.to}.")
    return 0


def _connected(host: str, port: int, tls: str) -> smtplib.SMTP:
    context = ssl.create_default_context()
    if tls == "implicit":
        return smtplib.SMTP_SSL(host, port, timeout=600, context=context)
    return smtplib.SMTP(host, port, timeout=600)


def _letter(author: str, recipient: str, subject: str) -> EmailMessage:
    letter = EmailMessage(policy=SMTP)
    letter["From"], letter["To"], letter["Subject"] = author, recipient, subject
    letter["Date"] = format_datetime(SystemClock().now())
    letter["Message-ID"] = make_msgid(domain=author.rpartition("@")[2] or None)
    letter.set_content("This mail was sent by `senderproxy send`. If you can read it, the way through works.\n")
    return letter


def _told_no(code: int, words: bytes | str) -> int:
    text = words.decode("ascii", "replace") if isinstance(words, bytes) else words
    print(f"Not taken: {code} {text}")
    return _REFUSED
