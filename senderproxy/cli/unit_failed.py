"""`senderproxy alert unit-failed UNIT`: one mail or webhook about a unit that systemd has given up.

It runs in senderproxy-failed@.service, after the service could not start or has crashed too often. So it needs neither
the configuration nor the vault nor the service: a credential of its own names the webhook, or the login and the
recipients of a mail.

Guarantees: at most one alert an hour for each unit; one that was not sent does not count. Without the credential the
command says so in the log and ends with success. No error contains a secret.
Not here: the text (alerts.unit_failed). docs/alert-unit.md has the credential.
"""

import argparse
import asyncio
import json
import os
import re
import smtplib
import socket
import ssl
import subprocess
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from senderproxy import __version__
from senderproxy.alerts.unit_failed import LINES, UnitFailure, failure_body, failure_mail
from senderproxy.alerts.webhook_body import WebhookFormat
from senderproxy.cli.exit_codes import EX_OK
from senderproxy.clock import Clock, SystemClock
from senderproxy.errors import InvalidFile, SenderproxyError
from senderproxy.http_client.client import HttpClient
from senderproxy.http_client.url import parse_url
from senderproxy.service.webhook import refusal, webhook_request
from senderproxy.translation import _

CREDENTIAL: Final = "senderproxy-alert"
_INTERVAL: Final = timedelta(hours=1)  # between two alerts about one unit
_SECONDS: Final = 30.0  # for each step of the SMTP session, and for journalctl
_JOURNAL_SECONDS: Final = 10.0  # for a journal that is behind; usually it is not
_LOOK_AGAIN: Final = 0.1  # seconds between two looks at it
_LIMIT: Final = 64 * 1024  # octets of the credential and of the state
_UNIT: Final = re.compile(r"[A-Za-z0-9:_.@\\-]{1,255}")
_PORTS: Final = {"tls": 465, "starttls": 587}
_HIGHEST_PORT: Final = 65535  # a port has 16 bits (RFC 9293 section 3.1)
_MAIL_KEYS: Final = ("host", "user", "password", "to")


@dataclass(frozen=True, slots=True)
class _Mailbox:
    """The mailbox that sends the mail."""

    host: str
    port: int
    is_starttls: bool
    user: str
    password: str
    author: str
    to: tuple[str, ...]
    ca_file: str | None


@dataclass(frozen=True, slots=True)
class _Webhook:
    url: str
    form: WebhookFormat
    secret: str | None
    ca_file: str | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command."""
    parser.add_argument("unit", metavar="UNIT", help=_("the unit that has failed"))
    parser.set_defaults(run=_run)


def _run(chosen: argparse.Namespace) -> int:
    return report(str(chosen.unit), os.environ, SystemClock())


def report(unit: str, environment: Mapping[str, str], clock: Clock) -> int:
    """Send the alert about a unit, unless one was sent within the hour. Raises SenderproxyError."""
    if not _UNIT.fullmatch(unit):
        raise InvalidFile(_("{unit} is not the name of a unit.").format(unit=repr(unit)))
    ways = _ways(_credential(environment))
    if not ways:
        print(
            _("{unit} has failed, and no alert is sent: there is no credential {name}. See docs/alert-unit.md").format(
                unit=unit, name=CREDENTIAL
            )
        )
        return EX_OK
    state = Path(environment.get("STATE_DIRECTORY", "/var/lib/senderproxy-failed"), f"{unit}.json")
    now = clock.now()
    sent_at, suppressed = _read_state(state)
    if sent_at is not None and timedelta() <= now - sent_at < _INTERVAL:
        _write_state(state, sent_at, suppressed + 1)
        print(_("{unit} has failed; the last alert is less than an hour old.").format(unit=unit))
        return EX_OK
    failure = UnitFailure(
        unit,
        environment.get("SENDERPROXY_HOST") or socket.gethostname(),
        now,
        environment.get("MONITOR_SERVICE_RESULT", ""),
        environment.get("MONITOR_EXIT_STATUS", ""),
        _log_of(unit, environment.get("INVOCATION_ID", ""), clock),
        suppressed,
    )
    _send(ways, failure, clock)
    _write_state(state, now, 0)
    print(_("{unit} has failed; an alert was sent.").format(unit=unit))
    return EX_OK


# ---- the ways ----


def _send(ways: Sequence["_Mailbox | _Webhook"], failure: UnitFailure, clock: Clock) -> None:
    """Send by all ways. Raises SenderproxyError if none took it."""
    problems: list[SenderproxyError] = []
    for way in ways:
        try:
            if isinstance(way, _Mailbox):
                _send_mail(way, failure, clock.new_id())
            else:
                asyncio.run(_send_webhook(way, failure, clock))
        except SenderproxyError as error:
            problems.append(error)
    if len(problems) == len(ways):
        raise SenderproxyError(" ".join(error.message for error in problems), hint=problems[0].hint)
    for problem in problems:
        print(problem.message)


def _send_mail(mailbox: _Mailbox, failure: UnitFailure, id_: str) -> None:
    mail = failure_mail(failure, id_, mailbox.author, mailbox.to)
    context = ssl.create_default_context()
    if mailbox.ca_file is not None:
        context.load_verify_locations(mailbox.ca_file)
    try:
        with _session(mailbox, context) as session:
            session.login(mailbox.user, mailbox.password)
            session.send_message(mail, mailbox.author, list(mailbox.to))
    except smtplib.SMTPResponseException as error:
        text = error.smtp_error.decode("ascii", "replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
        why = " ".join(f"{error.smtp_code} {text}".split())
        raise _not_sent(mailbox, why) from None
    except (OSError, smtplib.SMTPException) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        raise _not_sent(mailbox, str(why)) from None


def _session(mailbox: _Mailbox, context: ssl.SSLContext) -> smtplib.SMTP:
    if not mailbox.is_starttls:
        return smtplib.SMTP_SSL(mailbox.host, mailbox.port, timeout=_SECONDS, context=context)
    session = smtplib.SMTP(mailbox.host, mailbox.port, timeout=_SECONDS)
    try:
        session.starttls(context=context)
    except BaseException:
        session.close()
        raise
    return session


def _not_sent(mailbox: _Mailbox, why: str) -> SenderproxyError:
    return SenderproxyError(
        _("{server} did not take the mail: {why}").format(server=f"{mailbox.host}:{mailbox.port}", why=why),
        hint=_("correct the credential {name}, see docs/alert-unit.md").format(name=CREDENTIAL),
    )


async def _send_webhook(webhook: _Webhook, failure: UnitFailure, clock: Clock) -> None:
    client, url, id_ = HttpClient(clock), parse_url(webhook.url), clock.new_id()
    body = failure_body(failure, id_, webhook.form, __version__)
    answer = await client.send(webhook_request(url, body, id_, clock.now(), webhook.secret), ca_file=webhook.ca_file)
    client.close()
    if not answer.is_success:
        raise refusal(answer, url)


# ---- the credential ----


def _credential(environment: Mapping[str, str]) -> dict[str, Any]:
    """The table in the credential; empty without one. Raises InvalidFile, which does not repeat it."""
    path = Path(environment.get("CREDENTIALS_DIRECTORY", "/nonexistent"), CREDENTIAL)
    if not path.exists():
        return {}
    try:
        with path.open("rb") as file:
            return tomllib.loads(file.read(_LIMIT).decode("utf-8"))
    except ValueError:
        raise _invalid(_("it is not TOML")) from None


def _ways(table: Mapping[str, Any]) -> list["_Mailbox | _Webhook"]:
    found: list[_Mailbox | _Webhook] = []
    if "webhook" in table:
        found.append(_webhook(table))
    if "host" in table:
        found.append(_mailbox(table))
    if table and not found:
        raise _invalid(_("it has neither webhook nor host"))
    return found


def _webhook(table: Mapping[str, Any]) -> _Webhook:
    form = _text(table, "webhook_format", WebhookFormat.JSON.value)
    if form not in tuple(WebhookFormat):
        raise _invalid(_("webhook_format is not one of {values}").format(values=", ".join(WebhookFormat)))
    secret, ca_file = _text(table, "webhook_secret", ""), _text(table, "ca_file", "")
    return _Webhook(_text(table, "webhook"), WebhookFormat(form), secret or None, ca_file or None)


def _mailbox(table: Mapping[str, Any]) -> _Mailbox:
    security = _text(table, "security", "tls")
    if security not in _PORTS:
        raise _invalid(_("security is not one of {values}").format(values=", ".join(_PORTS)))
    port = table.get("port", _PORTS[security])
    if not isinstance(port, int) or isinstance(port, bool) or not 0 < port <= _HIGHEST_PORT:
        raise _invalid(_("port is not a number from 1 to 65535"))
    host, user, password, to = (_text(table, key) for key in _MAIL_KEYS)
    recipients = tuple(filter(None, map(str.strip, to.split(","))))
    return _Mailbox(
        host,
        port,
        security == "starttls",
        user,
        password,
        _text(table, "from", user),
        recipients,
        _text(table, "ca_file", "") or None,
    )


def _text(table: Mapping[str, Any], key: str, default: str | None = None) -> str:
    value = table.get(key, default)
    if not isinstance(value, str) or not (value or default == "") or not value.isprintable():
        raise _invalid(_("{key} is missing, or not a text of one line").format(key=key))
    return value


def _invalid(why: str) -> InvalidFile:
    return InvalidFile(
        _("The credential {name} cannot be used: {why}.").format(name=CREDENTIAL, why=why),
        hint=_("correct it, see docs/alert-unit.md"),
    )


# ---- log and state ----


def _log_of(unit: str, invocation: str, clock: Clock) -> list[str]:
    """The last lines of the unit. `invocation`: of this process by systemd; empty if another program has started it.

    The journal stores the lines of systemd in their order, a moment later: with the start of this process it has the
    reason why systemd has given the unit up.
    """
    end = clock.monotonic() + _JOURNAL_SECONDS
    try:
        while invocation and not _journal(f"INVOCATION_ID={invocation}", "--lines=1") and clock.monotonic() < end:
            time.sleep(_LOOK_AGAIN)
        return _journal(f"--unit={unit}", f"--lines={LINES}", "--output=short-iso", "--no-hostname")
    except (OSError, subprocess.TimeoutExpired):
        return [_("The log cannot be read: journalctl failed.")]


def _journal(*words: str) -> list[str]:
    command = ["journalctl", *words, "--quiet", "--no-pager"]
    done = subprocess.run(command, capture_output=True, check=False, timeout=_SECONDS)  # noqa: S603  a fixed program, without a shell
    return done.stdout.decode("utf-8", "replace").splitlines()


def _read_state(path: Path) -> tuple[datetime | None, int]:
    """The time of the last alert, and the number of failures since then that had none."""
    try:
        with path.open("rb") as file:
            entry = json.loads(file.read(_LIMIT))
        at, count = datetime.fromisoformat(entry["sent"]), int(entry["suppressed"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None, 0
    return (at, max(0, count)) if at.tzinfo is not None else (None, 0)


def _write_state(path: Path, sent: datetime, suppressed: int) -> None:
    temporary = path.with_suffix(".new")
    try:
        temporary.write_text(json.dumps({"sent": sent.isoformat(), "suppressed": suppressed}), encoding="ascii")
        temporary.replace(path)
    except OSError as error:
        print(_("{path} cannot be written: {why}").format(path=path, why=error.strerror))
