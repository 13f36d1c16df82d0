"""The time of the report that the service became idle."""

import pytest

from senderproxy.service.idleness import Idleness


@pytest.fixture
def reports() -> list[str]:
    return []


@pytest.fixture
def idleness(reports: list[str]) -> Idleness:
    return Idleness(lambda: reports.append("idle"), 30.0)


def test_after_activity_the_report_is_due_once(idleness: Idleness, reports: list[str]) -> None:
    assert idleness.quiet(500, 1000.0) == 30.0
    idleness.report()
    assert reports == ["idle"]
    assert idleness.quiet(500, 1040.0) is None
    assert idleness.quiet(900, 1100.0) == 30.0


def test_single_events_neither_cause_a_report_nor_put_it_off(idleness: Idleness) -> None:
    assert idleness.quiet(5, 1000.0) is None
    assert idleness.quiet(100, 1010.0) == 30.0
    assert idleness.quiet(105, 1025.0) == 15.0
    assert idleness.quiet(110, 1045.0) == 0.0


def test_activity_puts_it_off(idleness: Idleness) -> None:
    assert idleness.quiet(100, 1000.0) == 30.0
    assert idleness.quiet(200, 1020.0) == 30.0
