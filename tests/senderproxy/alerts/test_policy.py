"""The decision about alerts: begun and over in turn, once each, bounded in number, also over restarts and crashes."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senderproxy.alerts.policy import WATCHED_LIMIT, AlertPolicy, AlertRules
from senderproxy.alerts.record import AlertItem, AlertKind
from senderproxy.learned import Instant
from senderproxy.log_events import Severity
from senderproxy.monitoring.record import EVERYBODY, Affected, AffectedKind, Condition, ConditionKey

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
HOUR = 3600.0
BEGUN, OVER, WORSE, REMINDER = AlertKind.BEGUN, AlertKind.OVER, AlertKind.WORSE, AlertKind.REMINDER


def condition(
    key: ConditionKey = ConditionKey.DISK_FULL,
    subject: str = "",
    severity: Severity = Severity.ERROR,
    names: Sequence[str] = (),
) -> Condition:
    affected = Affected(AffectedKind.ACCOUNTS, tuple(names)) if names else EVERYBODY
    return Condition(key, subject, severity, NOW, f"{key} {subject}", "Do something.", affected)


def account(name: str) -> Condition:
    return condition(ConditionKey.ACCOUNT_SUSPENDED, name, names=[name])


def group(*names: str) -> Condition:
    return condition(ConditionKey.ACCOUNT_SUSPENDED, "ionos", names=names)


FULL = condition()
LOW = condition(ConditionKey.DISK_LOW, severity=Severity.WARNING)
NOTICE = condition(ConditionKey.CLOCK_STEPPED, severity=Severity.INFO)


class Office:
    """A policy, a clock, and what an operator gets."""

    def __init__(self, rules: AlertRules | None = None) -> None:
        self.rules = rules or AlertRules()
        self.policy = AlertPolicy(self.rules)
        self.policy.changed = self._note
        self.seconds = 100_000.0
        self.got: list[tuple[AlertKind, str, str]] = []  # each news
        self.alerts: list[tuple[float, tuple[AlertItem, ...]]] = []
        self.way_works = True
        self._changed: set[str] = set()
        self._stored: dict[str, tuple[dict[str, object], float]] = {}
        self.list: tuple[Condition, ...] = ()

    def _note(self, subject: str) -> None:
        self._changed.add(subject)

    @property
    def at(self) -> Instant:
        return Instant(NOW + timedelta(seconds=self.seconds), self.seconds)

    def write(self) -> None:
        """As relay.learned_state does within a second."""
        for subject in self._changed:
            fact = self.policy.fact(subject, self.at)
            if fact is None:
                self._stored.pop(subject, None)
            else:
                self._stored[subject] = dict(fact), self.seconds
        self._changed.clear()

    def restart(self) -> None:
        """The process ends at once, and the next one reads what was written."""
        self.policy = AlertPolicy(self.rules)
        self._changed.clear()
        self.policy.changed = self._note
        for subject, (fact, time) in self._stored.items():
            assert self.policy.restore(subject, fact, self.at.before(self.seconds - time))

    def look(self, *conditions: Condition, seconds: float = 10.0, crash: str = "") -> list[tuple[AlertKind, str, str]]:
        """Time passes, then a look finds these. `crash`: the process ends there; it is started again."""
        self.seconds += seconds
        self.list = conditions
        before = len(self.got)
        self.policy.observe(conditions, {"de": [replace(one, cause="deutsch") for one in conditions]}, self.seconds)
        batch = self.policy.due(self.at)
        if batch.groups:
            self.policy.begin(batch, self.seconds)
            self.write()
            for items in batch.groups:
                if crash == "before":
                    self.restart()
                    return self.got[before:]
                if not self.way_works:
                    self.policy.failed(items, self.seconds)
                    continue
                self.alerts.append((self.seconds, tuple(items)))
                self.got += [(item.kind, item.condition.key.value, item.condition.subject) for item in items]
                if crash == "after":
                    self.restart()
                    return self.got[before:]
                self.policy.sent(items, self.seconds)
        self.write()
        if crash:
            self.restart()
        return self.got[before:]

    def run(self, seconds: float, *conditions: Condition) -> list[tuple[AlertKind, str, str]]:
        """A look every ten seconds; what was alerted."""
        return [one for _number in range(round(seconds / 10)) for one in self.look(*conditions)]


@pytest.fixture
def office() -> Office:
    return Office()


DISK_FULL, DISK_LOW = ConditionKey.DISK_FULL.value, ConditionKey.DISK_LOW.value


def test_an_error_is_alerted_after_half_a_minute_once_and_once_when_it_is_over(office: Office) -> None:
    assert office.look(FULL) == []
    assert office.look(FULL, seconds=30) == [(BEGUN, DISK_FULL, "")]
    assert office.run(2 * HOUR, FULL) == []
    assert office.look() == []
    assert office.look(seconds=299) == []
    assert office.look(seconds=1) == [(OVER, DISK_FULL, "")]
    assert office.run(2 * HOUR) == []


def test_the_end_has_its_time_and_its_last_words_in_both_languages(office: Office) -> None:
    office.run(60, FULL)
    gone = NOW + timedelta(seconds=office.seconds + 10)
    office.run(400)
    (_time, (item,)) = office.alerts[-1]
    assert (item.kind, item.ended) == (OVER, gone)
    assert (item.condition.cause, item.translations["de"].cause) == (FULL.cause, "deutsch")


def test_a_warning_is_alerted_after_two_minutes(office: Office) -> None:
    office.look(LOW)
    assert office.look(LOW, seconds=119) == []
    assert office.look(LOW, seconds=1) == [(BEGUN, DISK_LOW, "")]


def test_a_blip_is_not_alerted_at_all(office: Office) -> None:
    office.look(FULL)
    assert office.run(HOUR) == []


def test_a_notice_is_never_alerted_and_a_warning_only_by_setting() -> None:
    assert Office().run(HOUR, NOTICE) == []
    assert Office(AlertRules(level=Severity.ERROR)).run(HOUR, LOW) == []


def test_a_higher_severity_is_alerted_and_a_lower_one_is_not(office: Office) -> None:
    office.run(300, LOW)
    worse = replace(LOW, severity=Severity.ERROR)
    assert office.run(60, worse) == [(WORSE, DISK_LOW, "")]
    assert office.run(300, LOW) == []
    assert office.run(300, worse) == []


def test_one_that_comes_and_goes_within_minutes_is_alerted_once_with_its_number(office: Office) -> None:
    for _time in range(20):
        office.run(60, LOW)
        office.run(60)
    assert office.got == [(BEGUN, DISK_LOW, "")]
    office.run(600)
    assert office.got == [(BEGUN, DISK_LOW, ""), (OVER, DISK_LOW, "")]
    assert office.alerts[-1][1][0].times == 19


def test_one_that_comes_and_goes_all_day_is_alerted_ever_more_rarely(office: Office) -> None:
    for _time in range(72):
        office.run(600, FULL)
        office.run(600)
    assert len(office.got) <= 8
    assert {earlier[0] is not later[0] for earlier, later in pairwise(office.got)} == {True}


def test_an_account_of_an_alerted_group_is_not_alerted_alone(office: Office) -> None:
    names = ("anna", "bert", "carl", "dora", "emil")
    assert office.run(60, group(*names)) == [(BEGUN, "account_suspended", "ionos")]
    assert office.run(HOUR, account("anna"), account("bert")) == []
    assert office.run(HOUR, account("bert"), account("zora")) == [(BEGUN, "account_suspended", "zora")]
    assert office.run(HOUR, account("zora")) == [(OVER, "account_suspended", "ionos")]


def test_an_account_that_becomes_part_of_a_group_is_over_with_the_group(office: Office) -> None:
    office.run(60, account("anna"))
    assert office.run(HOUR, group("anna", "bert", "carl", "dora")) == [(BEGUN, "account_suspended", "ionos")]
    assert office.run(HOUR) == [(OVER, "account_suspended", "ionos")]


def test_fifty_accounts_that_fail_one_after_the_other_are_one_alert(office: Office) -> None:
    names = [f"account-{number}" for number in range(50)]
    office.look(account(names[0]), account(names[1]))
    office.look(group(*names[:20]))
    assert office.run(600, group(*names)) == [(BEGUN, "account_suspended", "ionos")]


def test_fifty_conditions_at_once_are_one_digest_and_their_ends_another(office: Office) -> None:
    many = [condition(ConditionKey.UNKNOWN_PROVIDER, f"provider-{number}") for number in range(50)]
    assert len(office.run(60, *many)) == 50
    assert [len(items) for _time, items in office.alerts] == [50]
    assert len(office.run(600)) == 50
    assert [len(items) for _time, items in office.alerts] == [50, 50]


def test_above_the_limit_of_an_hour_news_wait_and_become_one_digest(office: Office) -> None:
    seen: list[Condition] = []
    for number in range(30):
        seen.append(condition(ConditionKey.UNKNOWN_PROVIDER, str(number)))
        office.run(60, *seen)
    assert [len(items) for _time, items in office.alerts] == [1] * 10
    office.run(HOUR, *seen)
    assert [len(items) for _time, items in office.alerts][10] == 20
    assert len(office.got) == 30


def test_a_long_error_is_alerted_again_every_day_and_a_long_warning_is_not(office: Office) -> None:
    for _minute in range(3 * 24 * 60):
        office.look(FULL, LOW, seconds=60)
    assert office.got.count((REMINDER, DISK_FULL, "")) == 2
    assert [one for one in office.got if one[1] == DISK_LOW] == [(BEGUN, DISK_LOW, "")]
    never = Office(AlertRules(reminder=0))
    for _minute in range(3 * 24 * 60):
        never.look(FULL, seconds=60)
    assert never.got == [(BEGUN, DISK_FULL, "")]


def test_news_that_no_way_could_send_are_sent_later_and_ever_more_rarely(office: Office) -> None:
    office.way_works = False
    assert office.run(600, FULL) == []
    office.way_works = True
    assert office.run(HOUR, FULL) == [(BEGUN, DISK_FULL, "")]


def test_an_end_whose_beginning_could_not_be_sent_is_not_alerted(office: Office) -> None:
    office.way_works = False
    office.run(600, FULL)
    office.way_works = True
    assert office.run(2 * HOUR) == []


@pytest.mark.parametrize("crash", ["before", "after", "later"])
def test_a_crash_loop_repeats_news_once_at_most(office: Office, crash: str) -> None:
    for _time in range(30):
        office.look(FULL, seconds=20, crash=crash)
    assert len(office.got) <= 2
    for _time in range(30):
        office.look(seconds=60, crash=crash)
    assert office.got.count((OVER, DISK_FULL, "")) <= 2
    office.run(HOUR)
    assert len(office.got) <= 4


def test_news_that_two_crashes_cut_off_is_sent_by_a_process_that_runs_for_a_while(office: Office) -> None:
    office.look(FULL)
    for _time in range(2):
        assert office.look(FULL, seconds=60, crash="before") == []
    assert office.look(FULL, seconds=1) == []  # the first list of this process
    assert office.look(FULL, seconds=29) == []
    assert office.policy.next_at(office.seconds) == office.seconds + 1
    assert office.look(FULL, seconds=1) == [(BEGUN, DISK_FULL, "")]
    office.run(HOUR, FULL)
    assert office.got == [(BEGUN, DISK_FULL, "")]


def test_news_that_is_sent_again_after_a_crash_is_about_the_same_beginning(office: Office) -> None:
    def since(milliseconds: float) -> Condition:
        return replace(FULL, since=NOW + timedelta(milliseconds=milliseconds))

    office.look(since(1000.4))
    office.look(since(1000.4), seconds=30, crash="after")
    office.look(since(996.1), seconds=10)  # what was stored of it is rounded
    office.run(10 * HOUR)
    office.run(60, since(36_000_000))
    assert [kind for kind, _key, _subject in office.got] == [BEGUN, BEGUN, OVER, BEGUN]
    begun = [items[0].condition.since for _time, items in office.alerts]
    assert begun[0] == begun[1] == begun[2] != begun[3]


def test_a_restart_forgets_neither_what_was_alerted_nor_the_limit_of_the_hour(office: Office) -> None:
    seen = [condition(ConditionKey.UNKNOWN_PROVIDER, str(number)) for number in range(20)]
    for number in range(20):
        office.run(60, *seen[: number + 1])
        office.restart()
    assert len(office.alerts) == 10
    office.run(HOUR, *seen)
    assert sorted(subject for _kind, _key, subject in office.got) == sorted(one.subject for one in seen)


def test_what_ended_while_the_service_was_stopped_is_over_afterwards(office: Office) -> None:
    office.run(60, FULL)
    office.restart()
    assert office.run(600) == [(OVER, DISK_FULL, "")]


def test_the_memory_is_bounded_and_a_long_condition_fits_into_a_row(office: Office) -> None:
    long = replace(group(*(f"{'a' * 200}{number}" for number in range(900))), cause="ü" * 1000, hint="ß" * 1000)
    many = [condition(ConditionKey.UNKNOWN_PROVIDER, str(number)) for number in range(2 * WATCHED_LIMIT)]
    office.run(60, long, *many)
    office.write()
    assert len(office._stored) <= WATCHED_LIMIT + 1
    assert max(len(json.dumps(fact)) for fact, _time in office._stored.values()) <= 16_384


@pytest.mark.parametrize(
    "fact",
    [{}, {"condition": {}}, {"condition": 5}, {"ages": "x"}, {"ages": [None]}],
)
def test_a_fact_of_another_form_is_refused(office: Office, fact: dict[str, object]) -> None:
    for subject in ("disk_full ", " sent"):
        with pytest.raises((KeyError, TypeError, ValueError)):
            office.policy.restore(subject, fact, office.at)


def test_the_next_time_is_that_of_the_next_news(office: Office) -> None:
    assert office.policy.next_at(office.seconds) == float("inf")
    office.look(FULL)
    assert office.policy.next_at(office.seconds) == office.seconds + 30
    office.look(FULL, seconds=30)
    assert office.policy.next_at(office.seconds) == office.seconds + 86400
    office.look()
    assert office.policy.next_at(office.seconds) == office.seconds + 300


POOL = (
    FULL,
    LOW,
    replace(LOW, severity=Severity.ERROR),
    condition(ConditionKey.UNKNOWN_PROVIDER, "a"),
    condition(ConditionKey.UNKNOWN_PROVIDER, "b"),
    condition(ConditionKey.SPOOL_CLOSED),
    condition(ConditionKey.VAULT_UNREADABLE),
    condition(ConditionKey.NO_ACCOUNT),
)
LISTS = st.lists(
    st.tuples(
        st.lists(st.sampled_from(POOL), unique_by=lambda one: one.id),
        st.sampled_from([1.0, 10.0, 60.0, 400.0, 4000.0, 90000.0]),
        st.sampled_from(["", "", "", "later"]),
    ),
    max_size=60,
)


@given(LISTS)
def test_of_any_lists_each_condition_begins_and_ends_in_turn(
    lists: list[tuple[list[Condition], float, str]],
) -> None:
    office = Office()
    for conditions, seconds, crash in lists:
        office.look(*conditions, seconds=seconds, crash=crash)
    for id_ in {one.id for one in POOL}:
        turns = [kind for kind, *name in office.got if tuple(name) == id_ and kind in (BEGUN, OVER)]
        assert turns == [(BEGUN, OVER)[number % 2] for number in range(len(turns))]


@given(LISTS)
def test_of_any_lists_no_hour_has_more_alerts_than_the_limit(lists: list[tuple[list[Condition], float, str]]) -> None:
    office = Office(AlertRules(max_at_once=2, max_per_hour=3, error_delay=0, warning_delay=0, over_delay=0))
    for conditions, seconds, crash in lists:
        office.look(*conditions, seconds=seconds, crash=crash)
    times = [time for time, _items in office.alerts]
    assert all(later - earlier >= HOUR for earlier, later in zip(times, times[3:], strict=False))


@given(LISTS)
def test_what_is_there_in_the_end_is_alerted_and_what_is_not_is_over(
    lists: list[tuple[list[Condition], float, str]],
) -> None:
    office = Office()
    for conditions, seconds, crash in lists:
        office.look(*conditions, seconds=seconds, crash=crash)
    last = lists[-1][0] if lists else []
    for _time in range(60):
        office.look(*last, seconds=1000)
    for id_ in {one.id for one in POOL}:
        turns = [kind for kind, *name in office.got if tuple(name) == id_ and kind in (BEGUN, OVER)]
        assert (bool(turns) and turns[-1] is BEGUN) == (id_ in {one.id for one in last})


@given(LISTS, st.sampled_from(["before", "after"]), st.integers(0, 60))
def test_a_crash_at_any_point_doubles_news_once_at_most(
    lists: list[tuple[list[Condition], float, str]], crash: str, point: int
) -> None:
    calm, crashed = Office(), Office()
    for number, (conditions, seconds, _crash) in enumerate(lists):
        calm.look(*conditions, seconds=seconds)
        crashed.look(*conditions, seconds=seconds, crash=crash if number == point else "")
    for one in set(crashed.got):
        assert crashed.got.count(one) <= calm.got.count(one) + 1
