"""Reports that are due, and results that are never reported."""

import pytest

from senderproxy.dsn.report_policy import DueReports, NoReport, ReportKind, due_reports, is_automatic
from senderproxy.mail.address import NULL_PATH, parse_address
from senderproxy.mail.header import HeaderSection

ANNA, CARL, DORA = (parse_address(f"{name}@firma.example") for name in ("anna", "carl", "dora"))
MESSAGE = HeaderSection(b"From: anna@firma.example\r\n\r\n")
BULK = HeaderSection(b"From: anna@firma.example\r\nPrecedence: bulk\r\n\r\n")


def test_what_happened_to_each_recipient_is_reported_to_the_reverse_path() -> None:
    due = due_reports({CARL: ReportKind.FAILED, DORA: ReportKind.EXPIRED}, ANNA, MESSAGE)
    assert due == DueReports(ANNA, {ReportKind.FAILED: (CARL,), ReportKind.EXPIRED: (DORA,)})


@pytest.mark.parametrize("kind", list(ReportKind))
def test_a_bounce_is_never_bounced(kind: ReportKind) -> None:
    answer = due_reports({CARL: kind}, NULL_PATH, MESSAGE)
    assert isinstance(answer, NoReport)
    assert "null" in answer.reason


@pytest.mark.parametrize("kind", list(ReportKind))
def test_there_is_no_report_on_a_report_of_ours_whatever_its_reverse_path_became(kind: ReportKind) -> None:
    answer = due_reports({CARL: kind}, ANNA, MESSAGE, report_on="Abc23defGHJK")
    assert isinstance(answer, NoReport)
    assert "report itself" in answer.reason


def test_a_delay_is_told_once_for_each_recipient() -> None:
    happened = {CARL: ReportKind.DELAYED, DORA: ReportKind.DELAYED}
    assert due_reports(happened, ANNA, MESSAGE, delay_reported={CARL}) == DueReports(
        ANNA, {ReportKind.DELAYED: (DORA,)}
    )
    assert isinstance(due_reports(happened, ANNA, MESSAGE, delay_reported={CARL, DORA}), NoReport)


def test_who_was_told_of_the_delay_is_told_of_the_end_all_the_same() -> None:
    due = due_reports({CARL: ReportKind.EXPIRED}, ANNA, MESSAGE, delay_reported={CARL})
    assert due == DueReports(ANNA, {ReportKind.EXPIRED: (CARL,)})


def test_a_machine_hears_what_failed_but_not_what_is_late() -> None:
    happened = {CARL: ReportKind.FAILED, DORA: ReportKind.DELAYED}
    assert due_reports(happened, ANNA, BULK) == DueReports(ANNA, {ReportKind.FAILED: (CARL,)})
    late = due_reports({DORA: ReportKind.DELAYED}, ANNA, BULK)
    assert isinstance(late, NoReport)
    assert "automatic" in late.reason


def test_where_nothing_happened_nothing_is_due() -> None:
    assert due_reports({}, ANNA, MESSAGE) == DueReports(ANNA, {})


@pytest.mark.parametrize(
    ("field", "automatic"),
    [
        (b"Auto-Submitted: auto-generated", True),
        (b"Auto-Submitted: Auto-Replied (vacation)", True),
        (b"Auto-Submitted: no", False),
        (b"auto-submitted: NO; owner-email=x", False),
        (b"Auto-Submitted: nope", True),
        (b"Precedence: list", True),
        (b"Precedence: first-class", False),
        (b"X-Auto-Response-Suppress: OOF, DR", True),
        (b"X-Auto-Response-Suppress: All", True),
        (b"X-Auto-Response-Suppress: OOF, AutoReply", False),
        (b"Subject: bulk", False),
    ],
)
def test_a_message_says_itself_that_a_machine_made_it(field: bytes, automatic: bool) -> None:
    assert is_automatic(HeaderSection(field + b"\r\n\r\n")) is automatic
