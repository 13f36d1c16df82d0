"""Bodies for webhooks: the documented JSON, and texts without markup of others."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from senderproxy.alerts.record import Alert, AlertItem, AlertKind, Sums
from senderproxy.alerts.webhook_body import WebhookFormat, webhook_body
from senderproxy.log_events import Severity
from senderproxy.monitoring.record import Affected, AffectedKind, Condition, ConditionKey

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
REFUSED = Condition(
    ConditionKey.ACCOUNT_SUSPENDED,
    "info",
    Severity.ERROR,
    NOW - timedelta(minutes=3),
    "The provider refused the password: 535 5.7.8 Authentication <!channel> [here](https://evil.example) invalid.",
    "senderproxy account set-password info",
    Affected(AffectedKind.ACCOUNTS, ("info",)),
)
GERMAN = replace(REFUSED, cause="Der Anbieter hat das Passwort abgelehnt.", hint="Neues Passwort eingeben.")
ITEM = AlertItem(AlertKind.BEGUN, REFUSED, {"de": GERMAN})
OVER = AlertItem(AlertKind.OVER, REFUSED, {"de": GERMAN}, ended=NOW, times=3)
PAGE = Path(__file__).parents[3] / "docs/webhook.md"


def alert(kind: AlertKind = AlertKind.BEGUN, *items: AlertItem, sums: Sums | None = None, more: int = 0) -> Alert:
    return Alert("abcdefghijkm", kind, "mail.firma.example", NOW, items, more=more, open=1, waiting=12, sums=sums)


def text(message: Alert, form: WebhookFormat = WebhookFormat.TEXT, language: str = "en") -> str:
    body = webhook_body(message, form, "1.2", language).content.decode()
    if form is WebhookFormat.SLACK:
        return str(json.loads(body)["text"])
    return body


def test_the_json_is_the_documented_one() -> None:
    body = webhook_body(alert(AlertKind.BEGUN, ITEM), WebhookFormat.JSON, "1.2")
    assert body.headers == {"Content-Type": "application/json"}
    got = json.loads(body.content)
    assert got == {
        "schema": 1,
        "id": "abcdefghijkm",
        "kind": "begun",
        "severity": "error",
        "time": "2026-11-29T12:00:00+00:00",
        "host": "mail.firma.example",
        "version": "1.2",
        "conditions": [
            {
                "kind": "begun",
                "key": "account_suspended",
                "subject": "info",
                "severity": "error",
                "since": "2026-11-29T11:57:00+00:00",
                "cause": REFUSED.cause,
                "hint": REFUSED.hint,
                "affected": {"kind": "accounts", "count": 1, "names": ["info"]},
                "ended": None,
                "times": 1,
            }
        ],
        "counts": {"conditions": 1, "open": 1, "waiting": 12},
        "week": None,
    }
    example = json.loads(PAGE.read_text(encoding="utf-8").split("```json\n")[1].split("```")[0])
    assert _keys(example) == _keys(got)


def _keys(value: object) -> object:
    if isinstance(value, dict):
        return {key: _keys(each) for key, each in value.items()}
    return [_keys(value[0])] if isinstance(value, list) and value else None


def test_the_end_and_the_week() -> None:
    over = json.loads(webhook_body(alert(AlertKind.OVER, OVER), WebhookFormat.JSON, "1.2").content)
    assert over["severity"] == "info"
    assert (over["conditions"][0]["ended"], over["conditions"][0]["times"]) == ("2026-11-29T12:00:00+00:00", 3)
    sums = Sums(NOW - timedelta(days=7), 412, 3, 2)
    week = json.loads(webhook_body(alert(AlertKind.WEEKLY, sums=sums), WebhookFormat.JSON, "1.2").content)["week"]
    assert week == {"since": "2026-11-22T12:00:00+00:00", "delivered": 412, "refused": 3, "alerts": 2}


def test_a_body_is_bounded() -> None:
    names = tuple(f"name{number}" for number in range(5000))
    condition = replace(
        REFUSED, cause="€" * 100_000, hint="x" * 100_000, affected=Affected(AffectedKind.SENDERS, names)
    )
    digest = alert(AlertKind.DIGEST, *[AlertItem(AlertKind.BEGUN, condition)] * 200, more=800)
    body = json.loads(webhook_body(digest, WebhookFormat.JSON, "1.2").content)
    assert body["counts"]["conditions"] == 1000
    assert body["conditions"][0]["affected"]["count"] == 5000
    for form in WebhookFormat:
        assert len(webhook_body(digest, form, "1.2").content) < (500_000 if form is WebhookFormat.JSON else 20_000)
    assert len(text(alert(AlertKind.BEGUN, *digest.items[:1])).encode()) < 4096


def test_texts_in_english_and_german() -> None:
    lines = text(alert(AlertKind.BEGUN, ITEM)).split("\n")
    assert lines[0] == "[senderproxy mail.firma.example] info cannot send: password refused"
    assert lines[1] == REFUSED.cause
    assert lines[2] == "To fix: senderproxy account set-password info"
    german = text(alert(AlertKind.BEGUN, ITEM), language="de")
    assert "Passwort abgelehnt" in german
    assert german.endswith("Der Anbieter hat das Passwort abgelehnt.\nZu tun: Neues Passwort eingeben.")
    assert text(alert(AlertKind.OVER, OVER)) == (
        "[senderproxy mail.firma.example] over: info cannot send: password refused"
    )
    assert text(alert(AlertKind.TEST), language="de").endswith("Dies ist ein Test: Meldungen kommen hier an.")
    week = alert(AlertKind.WEEKLY, sums=Sums(NOW, 412, 3, 2))
    assert text(week).endswith("The last week: 412 delivered, 3 refused, 2 alerts.")
    digest = text(alert(AlertKind.DIGEST, ITEM, OVER, more=9))
    assert digest.split("\n")[0].endswith("11 alerts at once:")
    assert digest.split("\n")[-1] == "- ..."


@pytest.mark.parametrize("form", WebhookFormat)
def test_a_text_of_others_is_no_markup(form: WebhookFormat) -> None:
    content = webhook_body(alert(AlertKind.BEGUN, ITEM), form, "1.2").content.decode()
    if form is WebhookFormat.SLACK:
        assert "<!channel>" not in content
        assert "&lt;!channel&gt;" in content
    if form is WebhookFormat.TEAMS:
        card = json.loads(content)["attachments"][0]
        assert card["contentType"] == "application/vnd.microsoft.card.adaptive"
        assert {block["type"] for block in card["content"]["body"]} == {"RichTextBlock"}
    if form is WebhookFormat.TEXT:
        headers = webhook_body(alert(AlertKind.BEGUN, ITEM), form, "1.2").headers
        assert (headers["Title"], headers["Priority"]) == ("senderproxy mail.firma.example", "urgent")
