"""The alert about a failed unit of systemd, in the place of a service without the means to report it. PURE.

Guarantees: a log line loses the local parts of its addresses and all of a URL behind its host. The text is bounded.
Not here: the program that sends it (cli.unit_failed).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from typing import Any, Final

from senderproxy.alerts.webhook_body import SCHEMA, WebhookBody, WebhookFormat, chat_body, json_body

LINES: Final = 30  # of the log; the last start and its error need fewer
_CHAT_LINES: Final = 5  # of it, in a chat
_LAST_LINES: Final = 5  # of it, which systemd writes when it gives a unit up
_START_LIMIT: Final = "Start request repeated too quickly"  # systemd keeps the result of the last end otherwise
_LINE: Final = 300  # characters of a line that are shown
_WORD: Final = re.compile(r"[^\s<>\"',;:=()\[\]]+")
_URL: Final = re.compile(r"(https?://)(?:[^\s/@\"']{0,200}@)?([A-Za-z0-9.:_-]{1,200})[^\s\"']*")

# The results of systemd.exec(5), $SERVICE_RESULT: German, English.
_RESULTS: Final[Mapping[str, tuple[str, str]]] = {
    "start-limit-hit": ("er ist zu oft nacheinander abgestürzt", "it ended too often in a row"),
    "exit-code": ("er hat sich mit einem Fehler beendet", "it ended with an error"),
    "signal": ("er wurde durch ein Signal beendet", "a signal ended it"),
    "core-dump": ("er ist abgestürzt", "it crashed"),
    "watchdog": ("er hat nicht mehr geantwortet", "it did not respond any more"),
    "timeout": ("ein Start oder Ende hat zu lange gedauert", "a start or stop took too long"),
    "oom-kill": ("der Arbeitsspeicher reichte nicht", "there was not enough memory"),
    "resources": ("dem System fehlten Mittel für den Start", "the system lacked resources for the start"),
}
# Exit codes after which systemd does not start the service again (RestartPreventExitStatus=).
_MEANINGS: Final[Mapping[str, tuple[str, str]]] = {
    "64": ("die Befehlszeile ist ungültig", "the command line is invalid"),
    "65": ("seine Daten sind nicht brauchbar", "its data cannot be used"),
    "77": ("der Tresor lässt sich nicht öffnen", "the vault cannot be opened"),
    "78": ("die Konfiguration ist ungültig", "the configuration is invalid"),
}


@dataclass(frozen=True, slots=True)
class UnitFailure:
    """A failed unit. `result` and `status` as in $MONITOR_SERVICE_RESULT and $MONITOR_EXIT_STATUS; empty: unknown."""

    unit: str
    host: str
    time: datetime
    result: str = ""
    status: str = ""
    log: Sequence[str] = ()
    suppressed: int = 0  # failures since the last alert that had none

    @property
    def reason(self) -> tuple[str, str]:
        """The reason in German and English."""
        if any(_START_LIMIT in line for line in self.log[-_LAST_LINES:]):
            return _RESULTS["start-limit-hit"]
        if self.result == "exit-code" and self.status in _MEANINGS:
            return _MEANINGS[self.status]
        return _RESULTS.get(self.result, ("der Grund steht im Protokoll", "the log has the reason"))


def failure_mail(failure: UnitFailure, id_: str, author: str, recipients: Sequence[str]) -> EmailMessage:
    """The mail about a failure. RFC 3834: automatic, so that nothing answers it."""
    german, english = failure.reason
    mail = EmailMessage(policy=SMTP)
    mail["From"], mail["To"] = author, ", ".join(recipients)
    mail["Subject"] = f"[senderproxy {failure.host}] {failure.unit}: {english}"
    mail["Date"] = failure.time
    mail["Message-ID"] = f"<{id_}@{failure.host}>"
    mail["Auto-Submitted"] = "auto-generated"
    lines = [
        f"Der Dienst {failure.unit} auf {failure.host} läuft nicht mehr: {german}.",
        f"Bis er wieder läuft, wird keine Mail versandt. Zu tun: systemctl status {failure.unit}",
        "",
        f"The service {failure.unit} on {failure.host} does not run any more: {english}.",
        f"No mail is sent until it runs again. To fix: systemctl status {failure.unit}",
    ]
    if failure.suppressed:
        text = "Ausfälle ohne Meldung seit der letzten / failures since the last alert: {count}"
        lines += ["", text.format(count=failure.suppressed)]
    mail.set_content("\n".join([*lines, "", *_shown(failure.log)]) + "\n")
    return mail


def failure_body(failure: UnitFailure, id_: str, form: WebhookFormat, version: str) -> WebhookBody:
    """The body for a webhook."""
    _german, english = failure.reason
    if form is WebhookFormat.JSON:
        entry: dict[str, Any] = {
            "schema": SCHEMA,
            "id": id_,
            "kind": "unit_failed",
            "severity": "critical",
            "time": failure.time.isoformat(timespec="seconds"),
            "host": failure.host,
            "version": version,
            "unit": failure.unit,
            "result": failure.result,
            "status": failure.status,
            "cause": english,
            "log": _shown(failure.log),
        }
        return json_body(entry)
    lines = [
        f"[senderproxy {failure.host}] {failure.unit} does not run any more: {english}.",
        *_shown(failure.log)[-_CHAT_LINES:],
    ]
    return chat_body("\n".join(lines), form, failure.host, "urgent")


def _shown(log: Sequence[str]) -> list[str]:
    return [masked(line)[:_LINE] for line in log[-LINES:]]


def masked(line: str) -> str:
    """A log line without the local parts of addresses and the paths of URLs."""
    line = "".join(c if c.isprintable() else " " for c in line[: 4 * _LINE])
    return _WORD.sub(_without_local_part, _URL.sub(r"\1\2/***", line))


def _without_local_part(word: re.Match[str]) -> str:
    _local_part, at, domain = word[0].rpartition("@")
    return f"***@{domain}" if at else word[0]
