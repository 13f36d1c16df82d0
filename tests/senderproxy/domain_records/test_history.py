"""What several looks at a domain show, on a clock of the test's own."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from senderproxy.domain_records.history import AGREE, REMEMBERED, DomainHistory, RecordTrouble
from senderproxy.domain_records.judgement import Aspect, Judgement, RecordProblem, judge
from senderproxy.learned import Instant

BEGIN = datetime(2026, 11, 29, 6, tzinfo=UTC)
RIGHT = judge(Aspect.SPF, RecordProblem.SPF_INCLUDED, "v=spf1 include:good -all")
WRONG = judge(Aspect.SPF, RecordProblem.SPF_NOT_INCLUDED, "v=spf1 -all", include="good")
NONE = judge(Aspect.SPF, RecordProblem.SPF_NONE, domain="firma.example")
FAILED = judge(Aspect.SPF, RecordProblem.LOOKUP_FAILED, error="no reply")
NO_KEY = judge(Aspect.DKIM, RecordProblem.DKIM_NONE)
KEY = judge(Aspect.DKIM, RecordProblem.DKIM_KEY, "p=abc")


class Looks:
    """A history, and its clock."""

    def __init__(self) -> None:
        self.history = DomainHistory()
        self.now = BEGIN

    def see(self, *judgements: Judgement, hours: float = 1) -> list[RecordTrouble]:
        self.now += timedelta(hours=hours)
        self.history.note(judgements, self.now)
        return self.troubles()

    def troubles(self) -> list[RecordTrouble]:
        return list(self.history.troubles(self.now))

    def is_unsure(self) -> bool:
        return self.history.is_unsure

    def restart(self) -> None:
        fact = json.loads(json.dumps(self.history.fact(Instant(self.now, 5.0))))
        self.history = DomainHistory.read(fact, Instant(self.now, 7.0))


@pytest.fixture
def looks() -> Looks:
    return Looks()


def test_a_wrong_record_counts_after_two_looks_and_a_right_one_after_one(looks: Looks) -> None:
    assert looks.see(WRONG) == []
    assert looks.is_unsure()
    assert looks.see(WRONG) == [RecordTrouble(WRONG, BEGIN + timedelta(hours=1), "", None)]
    assert not looks.is_unsure()
    assert looks.see(RIGHT) == []


def test_a_record_that_was_right_is_shown_beside_what_it_is_now(looks: Looks) -> None:
    looks.see(RIGHT)
    looks.see(WRONG, hours=24)
    (trouble,) = looks.see(WRONG)
    assert (trouble.right, trouble.right_at) == (RIGHT.record, BEGIN + timedelta(hours=1))
    assert trouble.judgement.record == WRONG.record


def test_looks_that_differ_or_follow_at_once_do_not_agree(looks: Looks) -> None:
    assert looks.see(NONE) == []
    assert looks.see(WRONG) == []
    assert looks.see(WRONG, hours=AGREE.total_seconds() / 3600 - 0.01) == []
    assert looks.is_unsure()
    assert looks.see(WRONG, hours=0.02) != []


def test_a_failed_look_begins_and_ends_nothing(looks: Looks) -> None:
    looks.see(RIGHT)
    for _ in range(5):
        assert looks.see(FAILED) == []
        assert looks.is_unsure()
    looks.see(WRONG)
    looks.see(FAILED)
    (trouble,) = looks.see(WRONG)
    assert looks.see(FAILED) == [trouble]
    assert looks.see(RIGHT) == []


def test_one_bad_answer_is_no_trouble(looks: Looks) -> None:
    for judgement in (RIGHT, NONE, RIGHT, WRONG, RIGHT, NONE, RIGHT):
        assert looks.see(judgement, hours=24) == []


def test_a_confirmed_trouble_follows_the_record(looks: Looks) -> None:
    looks.see(WRONG)
    looks.see(WRONG)
    (trouble,) = looks.see(NONE)
    assert (trouble.judgement, trouble.since) == (NONE, BEGIN + timedelta(hours=1))


def test_an_advice_is_no_trouble_unless_it_was_right_in_the_last_month(looks: Looks) -> None:
    looks.see(NO_KEY)
    assert looks.see(NO_KEY) == []
    looks.see(KEY)
    looks.see(NO_KEY, hours=24)
    (trouble,) = looks.see(NO_KEY)
    assert trouble.right == "p=abc"
    looks.now += REMEMBERED
    assert looks.troubles() == []


def test_a_wrong_record_is_a_trouble_for_ever(looks: Looks) -> None:
    looks.see(WRONG)
    looks.see(WRONG)
    looks.now += timedelta(days=300)
    assert len(looks.troubles()) == 1


def test_everything_survives_a_restart(looks: Looks) -> None:
    looks.see(RIGHT, KEY)
    looks.see(WRONG, NO_KEY, hours=24)
    looks.restart()
    found = looks.see(WRONG, NO_KEY)
    assert [one.judgement for one in found] == [WRONG, NO_KEY]
    assert [one.right for one in found] == [RIGHT.record, KEY.record]
    looks.restart()
    assert looks.troubles() == found


def test_a_fact_of_another_form_is_refused() -> None:
    good = DomainHistory().fact(Instant(BEGIN, 0.0))
    bad_ones: list[dict[str, Any]] = [{}, {"looked": "x"}, {"records": {"other": {}}}, {"records": {"spf": {}}}]
    for bad in ({**good, **change} if change else {} for change in bad_ones):
        with pytest.raises((KeyError, TypeError, ValueError)):
            DomainHistory.read(bad, Instant(BEGIN, 0.0))
