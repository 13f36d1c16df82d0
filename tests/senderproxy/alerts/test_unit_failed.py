"""The alert about a failed unit: its reasons, and log lines without addresses."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import default

import pytest

from senderproxy.alerts.unit_failed import UnitFailure, failure_body, failure_mail, masked
from senderproxy.alerts.webhook_body import WebhookFormat

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
LOG = [f"line {number} of <anna.müller@firma.example>" for number in range(50)]


def failure(result: str = "start-limit-hit", status: str = "", suppressed: int = 0) -> UnitFailure:
    return UnitFailure("senderproxy.service", "mail.firma.example", NOW, result, status, LOG, suppressed)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("delivered to=anna.b+x@firma.example by=1", "delivered to=***@firma.example by=1"),
        ("<a@b.example>,c@d.example", "<***@b.example>,***@d.example"),
        ("see https://user:geheim-x@hooks.example/geheim-path?t=geheim-q now", "see https://hooks.example/*** now"),
        ('why="http://127.0.0.1:80/geheim" x', 'why="http://127.0.0.1:80/***" x'),
        ("unit senderproxy-failed@x.service: y", "unit ***@x.service: y"),
        ("tab\there\x1b[31m", "tab here [31m"),
        ("", ""),
    ],
)
def test_a_log_line_is_masked(line: str, expected: str) -> None:
    assert masked(line) == expected


@pytest.mark.parametrize(
    ("result", "status", "words"),
    [
        ("start-limit-hit", "", "it ended too often in a row"),
        ("exit-code", "77", "the vault cannot be opened"),
        ("exit-code", "78", "the configuration is invalid"),
        ("exit-code", "1", "it ended with an error"),
        ("signal", "KILL", "a signal ended it"),
        ("", "", "the log has the reason"),
        ("new-result-of-systemd", "", "the log has the reason"),
    ],
)
def test_the_reason(result: str, status: str, words: str) -> None:
    assert failure(result, status).reason[1] == words


def test_systemd_s_limit_of_starts_is_in_the_log_alone() -> None:
    limit = "senderproxy.service: Start request repeated too quickly."
    given_up = replace(failure("signal", "KILL"), log=[*LOG, limit, "x", "y"])
    assert given_up.reason[1] == "it ended too often in a row"
    earlier = replace(failure("signal", "KILL"), log=[limit, *LOG])
    assert earlier.reason[1] == "a signal ended it"


def test_the_mail_is_automatic_and_in_both_languages() -> None:
    octets = failure_mail(
        failure(suppressed=2), "abc", "alarm@firma.example", ("it@x.example", "b@y.example")
    ).as_bytes()
    mail = message_from_bytes(octets, policy=default)
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["To"] == "it@x.example, b@y.example"
    assert mail["Subject"] == "[senderproxy mail.firma.example] senderproxy.service: it ended too often in a row"
    text = mail.get_content()
    assert "läuft nicht mehr: er ist zu oft nacheinander abgestürzt" in text
    assert "failures since the last alert: 2" in text
    assert "line 49 of <***@firma.example>" in text
    assert "line 19" not in text
    assert "müller" not in text


def test_the_webhook_has_the_keys_of_every_alert() -> None:
    got = json.loads(failure_body(failure(), "abc", WebhookFormat.JSON, "1.2").content)
    assert (got["schema"], got["id"], got["kind"], got["severity"]) == (1, "abc", "unit_failed", "critical")
    assert (got["unit"], got["result"], len(got["log"])) == ("senderproxy.service", "start-limit-hit", 30)
    chat = json.loads(failure_body(failure(), "abc", WebhookFormat.SLACK, "1.2").content)["text"]
    assert chat.startswith("[senderproxy mail.firma.example] senderproxy.service does not run any more:")
    assert "anna" not in chat
