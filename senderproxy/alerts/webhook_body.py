"""Bodies of alerts for a webhook: JSON of a fixed form, text, and the forms of chat systems. PURE.

Guarantees: the JSON has the same keys for each kind of alert; `schema` is raised when a key changes its meaning. A body
is bounded, whatever the texts of conditions contain. Chat systems get no markup from those texts.
Not here: the request (service.webhook), the mail (alerts.mail). docs/webhook.md describes the JSON.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from senderproxy.alerts.record import Alert, AlertItem, AlertKind
from senderproxy.alerts.wording import title
from senderproxy.log_events import Severity
from senderproxy.monitoring.record import Condition, condition_entry

SCHEMA: Final = 1  # version of the JSON; raised when a key changes its meaning
_LISTED: Final = 50  # conditions in one body; a receiver takes some hundred KB at most
_NAMES: Final = 20  # names of what a condition affects
_IN_TEXT: Final = 10  # conditions in a text
_CAUSE: Final = 300  # characters of a cause or hint in a text
_TEXT: Final = 3500  # characters; ntfy takes 4096 octets, most chat systems more
_PRIORITY: Final = {Severity.WARNING: "high", Severity.ERROR: "urgent", Severity.CRITICAL: "urgent"}


class WebhookFormat(StrEnum):
    """The forms of a body."""

    JSON = "json"
    TEXT = "text"
    SLACK = "slack"
    TEAMS = "teams"


@dataclass(frozen=True, slots=True)
class WebhookBody:
    """A body with its own header fields."""

    content: bytes
    headers: Mapping[str, str]


def webhook_body(alert: Alert, form: WebhookFormat, version: str, language: str = "en") -> WebhookBody:
    """The body of an alert. `version`: of the program; `language`: of the texts, except in JSON."""
    if form is WebhookFormat.JSON:
        return json_body(_entry(alert, version))
    return chat_body(_text(alert, language), form, alert.host, _PRIORITY.get(alert.severity, "default"))


def chat_body(text: str, form: WebhookFormat, host: str, priority: str) -> WebhookBody:
    """A text in one of the forms other than JSON. `priority`: as ntfy names it."""
    match form:
        case WebhookFormat.SLACK:
            # Slack's own escapes: without them `<!channel>` in a provider's reply would alarm a whole team.
            return json_body({"text": text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")})
        case WebhookFormat.TEAMS:
            return json_body(_card(text))
        case _:
            headers = {
                "Content-Type": "text/plain; charset=utf-8",
                "Title": f"senderproxy {host}",  # ntfy
                "Priority": priority,
            }
            return WebhookBody(text.encode(), headers)


def json_body(value: object) -> WebhookBody:
    """A value as JSON."""
    return WebhookBody(json.dumps(value, ensure_ascii=True).encode("ascii"), {"Content-Type": "application/json"})


def _entry(alert: Alert, version: str) -> dict[str, Any]:
    sums = alert.sums
    return {
        "schema": SCHEMA,
        "id": alert.id,
        "kind": alert.kind.value,
        "severity": alert.severity.name.lower(),
        "time": alert.time.isoformat(timespec="seconds"),
        "host": alert.host,
        "version": version,
        "conditions": [_item(item) for item in alert.items[:_LISTED]],
        "counts": {
            "conditions": len(alert.items) + alert.more,
            "open": alert.open,
            "waiting": alert.waiting,
        },
        "week": None
        if sums is None
        else {
            "since": sums.since.isoformat(timespec="seconds"),
            "delivered": sums.delivered,
            "refused": sums.refused,
            "alerts": sums.alerts,
        },
    }


def _item(item: AlertItem) -> dict[str, Any]:
    entry = condition_entry(item.condition)
    entry["affected"]["names"] = entry["affected"]["names"][:_NAMES]
    ended = None if item.ended is None else item.ended.isoformat(timespec="seconds")
    return {"kind": item.kind.value, **entry, "ended": ended, "times": item.times}


# ---- text ----

_WORDS: Final[Mapping[str, Mapping[AlertKind, str]]] = {
    "en": {
        AlertKind.WORSE: "worse: ",
        AlertKind.REMINDER: "still: ",
        AlertKind.OVER: "over: ",
        AlertKind.TEST: "This is a test: alerts arrive here.",
        AlertKind.WEEKLY: "The last week: {delivered} delivered, {refused} refused, {alerts} alerts.",
        AlertKind.DIGEST: "{count} alerts at once:",
    },
    "de": {
        AlertKind.WORSE: "schlimmer: ",
        AlertKind.REMINDER: "weiterhin: ",
        AlertKind.OVER: "vorbei: ",
        AlertKind.TEST: "Dies ist ein Test: Meldungen kommen hier an.",
        AlertKind.WEEKLY: "Die letzte Woche: {delivered} zugestellt, {refused} abgelehnt, {alerts} Meldungen.",
        AlertKind.DIGEST: "{count} Meldungen auf einmal:",
    },
}
_TO_FIX: Final = {"en": "To fix: ", "de": "Zu tun: "}


def _text(alert: Alert, language: str) -> str:
    words = _WORDS[language]
    lines = [f"[senderproxy {alert.host}]"]
    match alert.kind:
        case AlertKind.TEST:
            lines[0] += f" {words[AlertKind.TEST]}"
        case AlertKind.WEEKLY if alert.sums is not None:
            sums = alert.sums
            text = words[AlertKind.WEEKLY]
            lines[0] += " " + text.format(delivered=sums.delivered, refused=sums.refused, alerts=sums.alerts)
        case AlertKind.DIGEST:
            lines[0] += " " + words[AlertKind.DIGEST].format(count=len(alert.items) + alert.more)
            lines += [f"- {_headline(item, language)}" for item in alert.items[:_IN_TEXT]]
            if len(alert.items) + alert.more > _IN_TEXT:
                lines.append("- ...")
        case _:
            for item in alert.items:
                lines[0] += f" {_headline(item, language)}"
                lines += _details(item, language)
    return "\n".join(lines)[:_TEXT]


def _headline(item: AlertItem, language: str) -> str:
    words = title(item.condition, {})
    prefix = _WORDS[language].get(item.kind, "")
    return f"{prefix}{words.german if language == 'de' else words.english}"


def _details(item: AlertItem, language: str) -> list[str]:
    condition: Condition = item.translations.get(language, item.condition)
    if item.kind is AlertKind.OVER:
        return []
    lines = [_one_line(condition.cause)]
    if condition.hint:
        lines.append(f"{_TO_FIX[language]}{_one_line(condition.hint)}")
    return lines


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:_CAUSE]


def _card(text: str) -> dict[str, Any]:
    """A message of Teams' workflow "Post to a channel when a webhook request is received"."""
    content = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [
            # A RichTextBlock knows no Markdown, so texts of a provider cannot become links.
            {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": line}]}
            for line in text.split("\n")
        ],
    }
    return {
        "type": "message",
        "attachments": [{"contentType": "application/vnd.microsoft.card.adaptive", "content": content}],
    }
