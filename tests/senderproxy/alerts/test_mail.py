"""Alerts as mails: valid, plain, in two languages, and answered by no program."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senderproxy.alerts import wording
from senderproxy.alerts.mail import Language, MailContext, compose_alert
from senderproxy.alerts.record import Alert, AlertItem, AlertKind, Sums
from senderproxy.log_events import Severity
from senderproxy.mail.address import parse_address
from senderproxy.monitoring.record import Affected, AffectedKind, Condition, ConditionKey

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
REFUSED = Condition(
    ConditionKey.ACCOUNT_SUSPENDED,
    "info",
    Severity.ERROR,
    NOW - timedelta(minutes=3),
    "The provider refused the password: 535 5.7.8 Authentication credentials invalid.",
    "senderproxy account set-password info",
    Affected(AffectedKind.ACCOUNTS, ("info",)),
)
GERMAN = replace(REFUSED, cause="Der Anbieter hat das Kennwort abgelehnt.", hint="Neues Kennwort eingeben.")
ITEM = AlertItem(AlertKind.BEGUN, REFUSED, {"de": GERMAN})
CONTEXT = MailContext(
    parse_address("lager@firma.example"),
    (parse_address("it@dienst.example"), parse_address("chef@privat.example")),
    zone=UTC,
    names={"info": "info@firma.example"},
)


def alert(kind: AlertKind = AlertKind.BEGUN, *items: AlertItem, sums: Sums | None = None, waiting: int = 12) -> Alert:
    return Alert("abcdefghijkm", kind, "mail.firma.example", NOW, items, open=1, waiting=waiting, sums=sums)


def parsed(message_of: Alert, context: MailContext = CONTEXT) -> EmailMessage:
    """The mail as a program reads it; it has no defect."""
    message = compose_alert(message_of, context)
    octets = message.header.raw + b"".join(message.body.blocks())
    assert octets.isascii()
    assert max(len(line) for line in octets.split(b"\r\n")) <= 998
    assert b"\n." not in octets
    read = message_from_bytes(octets, policy=default)
    assert isinstance(read, EmailMessage)
    assert [(name, value.defects) for name, value in read.items() if value.defects] == []
    assert read.defects == []
    return read


def text_of(message: EmailMessage) -> str:
    return " ".join(str(message.get_content()).split())


def test_the_subject_says_the_host_the_mailbox_and_the_cause() -> None:
    assert parsed(alert(AlertKind.BEGUN, ITEM))["Subject"] == (
        "senderproxy mail.firma.example: info@firma.example cannot send: password refused"
    )


def test_the_german_mail_has_a_german_subject_and_no_english() -> None:
    message = parsed(alert(AlertKind.BEGUN, ITEM), replace(CONTEXT, language=Language.GERMAN))
    assert message["Subject"] == (
        "senderproxy mail.firma.example: info@firma.example: kein Versand möglich, Kennwort abgelehnt"
    )
    assert "Neues Kennwort eingeben." in text_of(message)
    assert "To fix" not in text_of(message)
    assert message["Content-Language"] == "de"


def test_the_mail_has_everything_an_operator_needs_in_both_languages() -> None:
    text = text_of(parsed(alert(AlertKind.BEGUN, ITEM)))
    for words in (
        "Cause: The provider refused the password: 535 5.7.8 Authentication credentials invalid.",
        "To fix: senderproxy account set-password info",
        "Since: 2026-11-29 11:57 (UTC)",
        "Affected: info@firma.example",
        "Waiting: 12 messages in the queue",
        "Ursache: Der Anbieter hat das Kennwort abgelehnt.",
        "Abhilfe: Neues Kennwort eingeben.",
        "Seit: 29.11.2026, 11:57 Uhr (UTC)",
        "To stop them, remove the address there, then: systemctl reload senderproxy",
        "it@dienst.example, chef@privat.example",
    ):
        assert words in text


def test_only_the_closing_words_are_below_the_line_that_programs_hide_from() -> None:
    text = str(parsed(alert(AlertKind.BEGUN, ITEM)).get_content()).replace("\r\n", "\n")
    above, below = text.split("\n-- \n")
    assert "To fix:" in above
    assert "Abhilfe:" in above
    assert " ".join(below.split()).count("systemctl reload senderproxy") == 2


def test_programs_are_asked_for_no_answer_and_can_filter() -> None:
    message = parsed(alert(AlertKind.BEGUN, ITEM))
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["X-Auto-Response-Suppress"] == "All"
    assert message["List-Id"] == "senderproxy alerts <alerts.mail.firma.example>"
    assert message["X-Senderproxy-Alert"] == "begun; severity=error"
    assert message["X-Senderproxy-Conditions"] == "account_suspended"
    assert message["To"] == "it@dienst.example, chef@privat.example"
    assert message["From"] == '"senderproxy mail.firma.example" <lager@firma.example>'
    assert message["Message-ID"] == "<abcdefghijkm@mail.firma.example>"
    assert message.get_content_type() == "text/plain"


def test_the_end_has_its_time_and_nothing_to_do() -> None:
    item = replace(ITEM, kind=AlertKind.OVER, ended=NOW, times=4)
    message = parsed(alert(AlertKind.OVER, item))
    assert message["Subject"].startswith("senderproxy mail.firma.example: over: info@firma.example")
    text = text_of(message)
    assert "Until: 2026-11-29 12:00 (UTC)" in text
    assert "To fix:" not in text
    assert "4 times since the last alert" in text


def test_a_digest_lists_the_conditions_and_is_bounded() -> None:
    items = [replace(ITEM, condition=replace(REFUSED, subject=f"account-{number}")) for number in range(400)]
    message = parsed(alert(AlertKind.DIGEST, *items))
    assert message["Subject"] == "senderproxy mail.firma.example: 400 alerts"
    text = text_of(message)
    assert "account-49" in text
    assert "account-50" not in text
    assert "... and 350 more" in text
    assert len(str(message)) < 40_000


def test_the_weekly_report() -> None:
    sums = Sums(NOW - timedelta(days=7), 412, 3, 2)
    assert parsed(replace(alert(AlertKind.WEEKLY, sums=sums), open=0))["Subject"] == (
        "senderproxy mail.firma.example: all is well: 412 sent, 3 refused"
    )
    assert parsed(alert(AlertKind.WEEKLY, sums=sums))["Subject"] == (
        "senderproxy mail.firma.example: weekly report: 412 sent, 3 refused"
    )


def test_many_accounts_are_counted_and_the_first_are_named() -> None:
    group = replace(
        REFUSED, subject="ionos", affected=Affected(AffectedKind.ACCOUNTS, tuple(f"a{number}" for number in range(40)))
    )
    message = parsed(alert(AlertKind.BEGUN, AlertItem(AlertKind.BEGUN, group)))
    assert message["Subject"].endswith(": 40 accounts at ionos cannot send: password refused")
    assert "a9 ... and 30 more" in text_of(message)


@pytest.mark.parametrize("key", ConditionKey)
@pytest.mark.parametrize("kind", [AlertKind.BEGUN, AlertKind.WORSE, AlertKind.REMINDER, AlertKind.OVER])
def test_each_kind_of_condition_has_a_title(key: ConditionKey, kind: AlertKind) -> None:
    assert key in wording.TITLES
    for subject in ("", "name"):
        ended = NOW if kind is AlertKind.OVER else None
        condition = replace(REFUSED, key=key, subject=subject)
        parsed(alert(kind, AlertItem(kind, condition, {}, ended)))


@given(st.text(max_size=300), st.text(max_size=1000), st.text(max_size=1000), st.sampled_from(Language))
def test_any_text_in_a_condition_makes_a_valid_mail(subject: str, cause: str, hint: str, language: Language) -> None:
    condition = replace(REFUSED, subject=subject, cause=cause, hint=hint)
    item = AlertItem(AlertKind.BEGUN, condition, {"de": condition})
    parsed(alert(AlertKind.BEGUN, item), replace(CONTEXT, language=language))
    parsed(alert(AlertKind.DIGEST, item, item), replace(CONTEXT, language=language))
