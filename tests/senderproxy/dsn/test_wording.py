"""Causes: found in a reply, with texts and an enhanced status."""

import re

import pytest

from senderproxy.delivery.account_health import login_failed_reply
from senderproxy.delivery.causes import Cause, Circumstances, Stage
from senderproxy.delivery.classify import connection_closed, outcome, outcome_unknown, too_large
from senderproxy.delivery.hints import Login
from senderproxy.dsn.report_policy import ReportKind
from senderproxy.dsn.wording import (
    CAUSE_TEXTS,
    CLOSINGS,
    OPENINGS,
    SUBJECTS,
    Bilingual,
    ReportCause,
    advice_for,
    find_cause,
    format_duration,
    report_status,
)
from senderproxy.mail.outcome import Delivered
from senderproxy.mail.reply import EnhancedStatus, Reply, parse_reply, reply
from senderproxy.routing.provider import Security, Smarthost

FAILED, EXPIRED, DELAYED = ReportKind.FAILED, ReportKind.EXPIRED, ReportKind.DELAYED
SMARTHOST = Smarthost("smtp.ionos.example", 465, Security.IMPLICIT_TLS)
GENERIC = b"550-Requested action not taken: mailbox unavailable\n"


def as_stored(said: bytes, stage: Stage = Stage.RCPT) -> Reply:
    """A reply of the upstream as the delivery returns it: with a default enhanced status."""
    answer = outcome(parse_reply(said.split(b"\n")), Circumstances(stage), "smtp.example")
    assert not isinstance(answer, Delivered)
    return answer.reply


@pytest.mark.parametrize(
    ("said", "cause", "status"),
    [
        (b"550 Unknown User", ReportCause.UNKNOWN_ADDRESS, "5.1.1"),
        (GENERIC + b"550 Unknown User", ReportCause.UNKNOWN_ADDRESS, "5.1.1"),
        (
            b"550 5.1.1 <c@kunde.example>: Recipient address rejected: User unknown",
            ReportCause.UNKNOWN_ADDRESS,
            "5.1.1",
        ),
        (b"550 5.1.10 RESOLVER.ADR.RecipientNotFound; not found", ReportCause.UNKNOWN_ADDRESS, "5.1.10"),
        (b"550 No such user here", ReportCause.UNKNOWN_ADDRESS, "5.1.1"),
        (b"550-5.1.1 The email account that you tried to reach does not exist.", ReportCause.UNKNOWN_ADDRESS, "5.1.1"),
        (GENERIC + b"550 invalid DNS MX or A/AAAA resource record", ReportCause.UNKNOWN_DOMAIN, "5.1.2"),
        (b"550 Quota Exceeded", ReportCause.MAILBOX_FULL, "5.2.2"),
        (
            b"552-Requested mail action aborted: exceeded storage allocation\n552 Quota exceeded",
            ReportCause.MAILBOX_FULL,
            "5.2.2",
        ),
        (
            b"552-Requested mail action aborted: exceeded storage allocation\n552 Message too large",
            ReportCause.TOO_LARGE,
            "5.3.4",
        ),
        (b"552 5.2.3 Message exceeds maximum fixed size", ReportCause.TOO_LARGE, "5.2.3"),
        (b"550 5.2.1 The email account that you tried to reach is disabled.", ReportCause.MAILBOX_OFF, "5.2.1"),
        (GENERIC + b"550 Sender address is not allowed.", ReportCause.SENDER_REFUSED, "5.7.1"),
        (b"553 5.7.1 <a@b.example>: Sender address rejected: not owned by user x", ReportCause.SENDER_REFUSED, "5.7.1"),
        (b"554 5.2.252 SendAsDenied; a@x not allowed to send as b@y", ReportCause.SENDER_REFUSED, "5.2.252"),
        (
            b"554-Transaction failed\n554-Reject due to policy restrictions.\n554 For explanation visit https://x/",
            ReportCause.POLICY,
            "5.7.1",
        ),
        (b"554 5.7.1 Message rejected as spam", ReportCause.POLICY, "5.7.1"),
        (b"550 5.6.0 Message header refused", ReportCause.CONTENT, "5.6.0"),
        (b"554 5.4.6 Too many hops", ReportCause.LOOP, "5.4.6"),
        (b"550 Nicht mit uns", ReportCause.OTHER, "5.1.0"),
        ("550 Empfänger unerwünscht".encode(), ReportCause.OTHER, "5.1.0"),
    ],
)
def test_a_refusal_is_called_by_its_name(said: bytes, cause: ReportCause, status: str) -> None:
    answer = as_stored(said)
    assert find_cause(FAILED, answer) is cause
    assert str(report_status(FAILED, answer)) == status


@pytest.mark.parametrize(
    ("answer", "cause", "expired"),
    [
        (as_stored(b"450-Requested mail action not taken\n450 Mail send limit exceeded."), ReportCause.LIMIT, "4.4.7"),
        (as_stored(b"450 4.2.0 <c@kunde.example>: Greylisted"), ReportCause.NOT_NOW, "4.4.7"),
        (as_stored(b"451 Requested action aborted: local error in processing"), ReportCause.NOT_NOW, "4.4.7"),
        (as_stored(b"452 4.2.2 mailbox full"), ReportCause.MAILBOX_FULL, "4.2.2"),
        (
            reply(451, "4.4.1", "There is no route to x:465. Check this machine's network"),
            ReportCause.UNREACHABLE,
            "4.4.1",
        ),
        (
            login_failed_reply(
                Cause.PASSWORD,
                parse_reply([b"535 5.7.8 bad"]),
                Login("anna", "anna@firma.example", "ionos-de", "smtp.ionos.example"),
                "senderproxy account set-password anna",
            ),
            ReportCause.PASSWORD,
            "4.7.8",
        ),
        (reply(451, "4.7.5", "The certificate of x:465 has expired"), ReportCause.UNSAFE, "4.7.5"),
        (
            reply(451, "4.7.1", "Account anna is paused for another 5 min: x reported a sending limit: 421"),
            ReportCause.LIMIT,
            "4.7.1",
        ),
        (outcome_unknown(connection_closed(SMARTHOST, Stage.FINAL_DOT, None)), ReportCause.MAYBE_TAKEN, "4.4.2"),
        (None, ReportCause.OTHER, "4.4.7"),
    ],
)
def test_what_expired_keeps_the_problem_it_had_and_class_4(
    answer: Reply | None, cause: ReportCause, expired: str
) -> None:
    assert find_cause(EXPIRED, answer) is cause
    assert str(report_status(EXPIRED, answer)) == expired
    assert report_status(DELAYED, answer).klass == 4


def test_our_own_words_are_understood_too() -> None:
    assert find_cause(FAILED, too_large(9_000_000, 5_000_000, "ionos")) is ReportCause.TOO_LARGE
    nobody = reply(550, "5.7.1", "No account here may send as a@b.example. To add one: ...")
    assert find_cause(FAILED, nobody) is ReportCause.NO_ACCOUNT


@pytest.mark.parametrize("klass", [2, 4, 5])
def test_the_class_of_a_status_is_ours_to_give(klass: int) -> None:
    answer = Reply(550, EnhancedStatus(klass, 1, 1), ("x",))
    assert [report_status(kind, answer).klass for kind in ReportKind] == [5, 4, 4, 5]


@pytest.mark.parametrize("cause", list(ReportCause))
def test_every_cause_has_words_in_both_languages(cause: ReportCause) -> None:
    for words in (CAUSE_TEXTS[cause].explanation, *(advice_for(kind, cause) for kind in ReportKind)):
        assert words.german != words.english
        assert words.german.endswith(".")
        assert words.english.endswith(".")


@pytest.mark.parametrize("kind", list(ReportKind))
def test_every_kind_of_report_has_its_sentences(kind: ReportKind) -> None:
    assert " / " in SUBJECTS[kind]
    for words in (OPENINGS[kind], CLOSINGS[kind]):
        assert set(re.findall(r"\{(\w+)\}", words.german)) == set(re.findall(r"\{(\w+)\}", words.english))


def test_while_it_is_still_tried_nobody_is_told_to_send_it_again() -> None:
    for cause in ReportCause:
        advice = advice_for(DELAYED, cause).english
        assert "send it again" not in advice
    assert "mail server" in advice_for(DELAYED, ReportCause.PASSWORD).english


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, Bilingual("1 Minute", "1 minute")),
        (3600, Bilingual("60 Minuten", "60 minutes")),
        (4 * 3600, Bilingual("4 Stunden", "4 hours")),
        (2 * 86400, Bilingual("2 Tagen", "2 days")),
    ],
)
def test_a_time_is_said_as_people_say_it(seconds: float, words: Bilingual) -> None:
    assert format_duration(seconds) == words
