"""The alerts of a running service: their order against the disk, the ways, what survives a restart."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from senderproxy.alerts.policy import AlertRules
from senderproxy.alerts.record import Alert, AlertKind, AlertNotSent
from senderproxy.learned import Instant
from senderproxy.log_events import Severity
from senderproxy.monitoring.facts import AlertWayFacts
from senderproxy.monitoring.record import Condition, ConditionKey
from senderproxy.service.alert_sender import AlertInputs, AlertSender

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
FULL = Condition(ConditionKey.DISK_FULL, "", Severity.ERROR, NOW, "Too little space.", "Free some.")
RULES = AlertRules(error_delay=0, over_delay=0)


class SetClock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self._ids = 0

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.seconds - 1000)

    def monotonic(self) -> float:
        return self.seconds

    def chance(self) -> float:
        return 0.5

    def new_id(self) -> str:
        self._ids += 1
        return f"id{self._ids}"


class RecordedWay:
    """A way that keeps what it gets, or refuses it."""

    def __init__(self, name: str, order: list[str]) -> None:
        self.name = name
        self.got: list[Alert] = []
        self.refuses: Exception | None = None
        self.hangs: asyncio.Event | None = None
        self._order = order

    async def send(self, alert: Alert) -> None:
        self._order.append(self.name)
        if self.hangs is not None:
            await self.hangs.wait()
        if self.refuses is not None:
            raise self.refuses
        self.got.append(alert)


class Office:
    """A sender of alerts with two ways, and a disk that notes when it is written."""

    def __init__(self) -> None:
        self.clock = SetClock()
        self.order: list[str] = []
        self.mail, self.webhook = RecordedWay("mail", self.order), RecordedWay("webhook", self.order)
        self.list: tuple[Condition, ...] | None = ()
        self.failing: Sequence[AlertWayFacts] = ()
        self.totals = {"anna": (0, 0)}
        self.sender = self.again()

    def again(self) -> AlertSender:
        """The sender of a new process."""
        inputs = AlertInputs(lambda: self.list, lambda: 7, lambda: self.totals, self._write, self._note_ways)
        self.sender = AlertSender(inputs, self.clock)
        self.sender.apply("mail.firma.example", (self.mail, self.webhook), RULES, None)
        return self.sender

    async def _write(self) -> bool:
        self.order.append("disk")
        return True

    def _note_ways(self, failing: Sequence[AlertWayFacts]) -> None:
        self.failing = failing

    async def look(self, *conditions: Condition, seconds: float = 10.0) -> None:
        """The housekeeping after a look that found these, until everything is sent."""
        self.clock.seconds += seconds
        self.list = tuple(conditions)
        self.sender.check()
        await self.settle()

    async def settle(self) -> None:
        if self.sender._task is not None:
            await asyncio.wait((self.sender._task,))


def kinds(way: RecordedWay) -> list[AlertKind]:
    return [alert.kind for alert in way.got]


async def test_an_alert_is_on_disk_before_it_is_sent_by_all_ways() -> None:
    office = Office()
    await office.look(FULL)
    assert office.order == ["disk", "mail", "webhook", "disk"]
    (alert,) = office.mail.got
    assert office.webhook.got == [alert]
    assert (alert.kind, alert.host, alert.waiting, alert.open) == (AlertKind.BEGUN, "mail.firma.example", 7, 1)
    assert alert.items[0].translations["de"].cause == FULL.cause
    await office.look()
    await office.look()
    assert kinds(office.mail) == [AlertKind.BEGUN, AlertKind.OVER]
    assert office.mail.got[1].open == 0


async def test_without_a_way_nothing_happens_and_with_one_later_the_alert_is_sent() -> None:
    office = Office()
    office.sender.apply("mail.firma.example", (), RULES, None)
    await office.look(FULL)
    assert office.order == []
    office.sender.apply("mail.firma.example", (office.mail,), RULES, None)
    await office.look(FULL)
    assert kinds(office.mail) == [AlertKind.BEGUN]


async def test_before_the_first_look_nothing_is_over() -> None:
    office = Office()
    await office.look(FULL)
    office.sender.apply("mail.firma.example", (office.mail,), RULES, None)
    office.list = None
    office.clock.seconds += 86400
    office.sender.check()
    await office.settle()
    assert kinds(office.mail) == [AlertKind.BEGUN]


async def test_an_alert_that_a_way_sends_later_counts_as_sent_and_its_end_follows() -> None:
    office = Office()
    office.mail.refuses = office.webhook.refuses = AlertNotSent("It is broken.")
    await office.look(FULL)
    (unsent,) = office.sender._unsent
    waiting = Alert(unsent, AlertKind.BEGUN, "mail.firma.example", NOW, tuple(office.sender._unsent[unsent]))
    assert office.sender.is_wanted(waiting)
    office.sender.sent_later("webhook", waiting)
    assert [way.way for way in office.failing] == ["mail"]
    assert office.sender.answer()["alerts"][0]["ways"] == ["webhook"]
    office.mail.refuses = office.webhook.refuses = None
    await office.look()
    await office.look(seconds=3600)
    assert kinds(office.webhook) == [AlertKind.OVER]
    office.sender.sent_later("webhook", waiting)  # it had counted already
    assert len(office.sender.answer()["alerts"]) == 2


async def test_an_alert_that_no_way_had_sent_is_not_wanted_after_its_condition() -> None:
    office = Office()
    office.mail.refuses = office.webhook.refuses = AlertNotSent("It is broken.")
    await office.look(FULL)
    waiting = Alert(next(iter(office.sender._unsent)), AlertKind.BEGUN, "mail.firma.example", NOW)
    await office.look()
    await office.look(seconds=3600)
    assert not office.sender.is_wanted(waiting)
    assert office.sender.is_wanted(replace(waiting, id="one that went by mail"))


async def test_an_unchanged_list_is_not_looked_at_again() -> None:
    office = Office()
    await office.look(FULL)
    task = office.sender._task
    for _time in range(10):
        office.clock.seconds += 10
        office.sender.check()
    assert office.sender._task is task


@pytest.mark.parametrize("broken", ["mail", "webhook"])
async def test_a_way_that_fails_leaves_the_alert_to_the_other_and_becomes_a_condition(broken: str) -> None:
    office = Office()
    bad, good = (office.mail, office.webhook) if broken == "mail" else (office.webhook, office.mail)
    bad.refuses = AlertNotSent("It is broken.", hint="Fix it.")
    await office.look(FULL)
    assert kinds(good) == [AlertKind.BEGUN]
    assert [(way.way, way.why, way.hint) for way in office.failing] == [(broken, "It is broken.", "Fix it.")]
    failing = Condition(ConditionKey.ALERTS_FAILING, broken, Severity.WARNING, NOW, "It is broken.", "Fix it.")
    office.sender.policy.rules = replace(RULES, warning_delay=0)
    await office.look(FULL, failing)
    assert [alert.items[0].condition.key for alert in good.got] == ["disk_full", "alerts_failing"]
    bad.refuses = None
    await office.look(failing)
    await office.look(failing)
    assert office.failing == ()
    assert kinds(bad) == [AlertKind.OVER]


async def test_no_alert_says_that_the_only_way_fails() -> None:
    office = Office()
    office.sender.apply("mail.firma.example", (office.mail,), replace(RULES, warning_delay=0), None)
    failing = Condition(ConditionKey.ALERTS_FAILING, "mail", Severity.WARNING, NOW, "It is broken.", "Fix it.")
    await office.look(failing)
    assert office.order == []


async def test_an_alert_that_no_way_took_is_sent_later(caplog: pytest.LogCaptureFixture) -> None:
    office = Office()
    caplog.set_level(logging.INFO)
    office.mail.refuses = office.webhook.refuses = AlertNotSent("No network.")
    await office.look(FULL)
    assert office.mail.got == []
    assert "no way could send an alert" in caplog.text
    office.mail.refuses = None
    await office.look(FULL, seconds=30)
    assert office.mail.got == []
    await office.look(FULL, seconds=60)
    assert kinds(office.mail) == [AlertKind.BEGUN]


async def test_a_mail_that_one_of_two_recipients_got_is_not_sent_again() -> None:
    office = Office()
    office.sender.apply("mail.firma.example", (office.mail,), RULES, None)
    office.mail.refuses = AlertNotSent("chef@x.example did not get it.", partly=True)
    await office.look(FULL)
    await office.look(FULL, seconds=4000)
    assert office.order.count("mail") == 1
    assert [way.way for way in office.failing] == ["mail"]


async def test_an_internal_error_of_a_way_stops_neither_the_other_way_nor_the_service(
    caplog: pytest.LogCaptureFixture,
) -> None:
    office = Office()
    office.mail.refuses = RuntimeError("a fault of the program")
    await office.look(FULL)
    assert kinds(office.webhook) == [AlertKind.BEGUN]
    assert [way.why for way in office.failing] == ["internal error: RuntimeError"]
    assert "internal error in the alerts" in caplog.text


async def test_an_internal_error_of_the_policy_is_logged_and_alerts_go_on_later(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = Office()
    with monkeypatch.context() as patch:
        patch.setattr(office.sender.policy, "due", None)
        await office.look(FULL)
    assert "internal error in the alerts" in caplog.text
    await office.look(FULL, seconds=700)
    assert kinds(office.mail) == [AlertKind.BEGUN]


async def test_the_test_goes_by_every_way_and_says_which_one_fails() -> None:
    office = Office()
    office.webhook.refuses = AlertNotSent("404 Not Found.", hint="Check the URL.")
    results = await office.sender.test()
    assert [(result.way, result.why, result.hint) for result in results] == [
        ("mail", "", ""),
        ("webhook", "404 Not Found.", "Check the URL."),
    ]
    assert kinds(office.mail) == [AlertKind.TEST]
    assert [way.way for way in office.failing] == ["webhook"]
    office.webhook.refuses = None
    await office.sender.test()
    assert office.failing == ()


async def test_the_list_has_the_ways_and_the_last_alerts() -> None:
    office = Office()
    await office.look(FULL)
    answer = office.sender.answer()
    assert [way["way"] for way in answer["ways"]] == ["mail", "webhook"]
    assert answer["open"] == 1
    (entry,) = answer["alerts"]
    assert entry["conditions"] == [{"kind": "begun", "key": "disk_full", "subject": ""}]
    assert (entry["kind"], entry["count"], entry["ways"]) == ("begun", 1, ["mail", "webhook"])
    assert datetime.fromisoformat(entry["time"]) == office.clock.now()


async def test_the_list_and_the_ways_that_fail_survive_a_restart() -> None:
    office = Office()
    office.webhook.refuses = AlertNotSent("404 Not Found.", hint="Check the URL.")
    await office.look(FULL)
    at = Instant(office.clock.now(), office.clock.monotonic())
    before = office.sender.answer()
    facts: dict[str, Any] = {name: office.sender.fact(name, at) for name in ("recent", "webhook")}
    office.again()
    for name, fact in facts.items():
        assert office.sender.restore(name, fact, at)
    after = office.sender.answer()
    assert (after["ways"], after["alerts"]) == (before["ways"], before["alerts"])
    assert not office.sender.restore("pager", facts["webhook"], at)


async def test_the_weekly_alert_has_the_sums() -> None:
    office = Office()
    office.sender.apply("mail.firma.example", (office.mail,), RULES, (0, 8, 0))
    await office.look()
    office.totals = {"anna": (412, 3)}
    await office.look(seconds=60)
    await office.look(seconds=7 * 86400)
    (alert,) = office.mail.got
    assert (alert.kind, alert.items) == (AlertKind.WEEKLY, ())
    assert alert.sums is not None
    assert (alert.sums.delivered, alert.sums.refused) == (412, 3)
    await office.look(seconds=3600)
    assert len(office.mail.got) == 1


async def test_a_weekly_alert_that_no_way_took_is_tried_again() -> None:
    office = Office()
    office.sender.apply("mail.firma.example", (office.mail,), RULES, (0, 8, 0))
    await office.look()
    office.totals = {"anna": (5, 0)}
    office.mail.refuses = AlertNotSent("No network.")
    await office.look(seconds=7 * 86400)
    office.mail.refuses = None
    await office.look(seconds=3600)
    assert [alert.sums.delivered for alert in office.mail.got if alert.sums] == [5]


async def test_a_stop_ends_a_sending_that_hangs() -> None:
    office = Office()
    office.mail.hangs = asyncio.Event()
    office.list = (FULL,)
    office.sender.check()
    while "mail" not in office.order:
        await asyncio.sleep(0)
    async with asyncio.timeout(60):
        await office.sender.stop()
    assert office.mail.got == []
