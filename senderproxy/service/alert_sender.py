"""The alerts of the running service: when they are decided, their sending by all ways, their record.

It is a learned.LearnedSource: the ways that fail and the last alerts survive a restart.
Guarantees: an alert that was decided is on disk, if there is one, before it is sent, so that a crash repeats it once at
most. It goes by all ways at the same time, and counts as sent if one of them took it; if none did, it is sent again
later. No message waits for it, and an internal error in it stops nothing else. Without a way nothing happens at all.
Not here: the decision (alerts.policy, alerts.weekly), the ways (service.alert_ways).
"""

import asyncio
import hashlib
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from senderproxy import log_events
from senderproxy.alerts.policy import AlertPolicy, AlertRules, Batch
from senderproxy.alerts.record import Alert, AlertItem, AlertKind, AlertNotSent, Sums, Way
from senderproxy.alerts.weekly import WeeklySums, WeekTime
from senderproxy.clock import Clock
from senderproxy.learned import Fact, Instant, LearnedSource, Notify, duration, ignore_change
from senderproxy.log import event
from senderproxy.monitoring.facts import AlertWayFacts
from senderproxy.monitoring.record import Condition, ConditionKey
from senderproxy.translation import LANGUAGES, SOURCE, language, translated

LEARNED_KIND: Final = "alerts"
_RECENT: Final = "recent"  # the subject of the fact about the last alerts; the others are the ways
_RECENT_LIMIT: Final = 20  # alerts in `senderproxy alert list`
_UNSENT_LIMIT: Final = 100  # alerts that no way has sent; as many as a webhook keeps
_CONDITIONS_LIMIT: Final = 5  # conditions of a digest in that list
_WAY_TIMEOUT: Final = 240.0  # seconds; a way has its own, shorter ones
_WRITE_TIMEOUT: Final = 10.0  # seconds for the disk, before an alert is sent without it
_LISTED: Final = 200  # items of a digest; the rest is counted
_AFTER_FAULT: Final = 600.0  # seconds without alerts after an internal error in them
_WEEKLY_INTERVAL: Final = 60.0  # seconds between two questions for the time of the week
_TEXT: Final = 500  # characters of a problem in the learned facts
_SUBJECT: Final = 60  # characters of a condition's subject in that list
_LONGEST_AGE: Final = 366 * 86400.0  # seconds
_ID_LENGTH: Final = 12  # characters, as of the id of a message

_log = logging.getLogger("senderproxy.service")


@dataclass(frozen=True, slots=True)
class WayResult:
    """The result of a way: empty words if it sent the alert."""

    way: str
    why: str = ""
    hint: str = ""
    sent: bool = True


@dataclass(frozen=True, slots=True)
class AlertInputs:
    """The parts of the service that alerts look at. They are called often, and are cheap."""

    conditions: Callable[[], tuple[Condition, ...] | None]  # None before the first look for them
    waiting: Callable[[], int]  # messages in the queue
    totals: Callable[[], Mapping[str, tuple[int, int]]]  # recipients delivered and refused since the start, by account
    write: Callable[[], Awaitable[object]]  # to disk, what has changed
    note_ways: Callable[[Sequence[AlertWayFacts]], None]  # those that fail


class AlertSender(LearnedSource):
    """Decides about alerts after each look for conditions, and sends them."""

    def __init__(self, inputs: AlertInputs, clock: Clock) -> None:
        self.changed: Notify = ignore_change
        self.policy = AlertPolicy(AlertRules())
        self.weekly = WeeklySums(None)
        self._inputs = inputs
        self._clock = clock
        self.tested_only: tuple[Way, ...] = ()  # ways that get no alert, but are part of a test
        self._host = ""
        self._ways: tuple[Way, ...] = ()
        self._failing: dict[str, AlertWayFacts] = {}
        self._recent: deque[dict[str, Any]] = deque(maxlen=_RECENT_LIMIT)
        self._unsent: dict[str, Sequence[AlertItem]] = {}  # by alert: those that no way has sent yet
        self._seen: tuple[Condition, ...] | None = None  # the list of the last decision
        self._next_at = -math.inf  # monotonic seconds
        self._task: asyncio.Task[None] | None = None
        self._sending = asyncio.Lock()

    def apply(self, host: str, ways: tuple[Way, ...], rules: AlertRules, weekly: WeekTime | None) -> None:
        """Put settings in force."""
        self._host, self._ways, self.policy.rules, self.weekly.time = host, ways, rules, weekly
        self._seen = None
        names = {way.name for way in ways}
        for gone in self._failing.keys() - names:
            self._note_success(gone)

    # ---- called by the housekeeping ----

    def check(self) -> None:
        """Decide if there is something new, and begin to send. Cheap without."""
        if not self._ways or (self._task is not None and not self._task.done()):
            return
        current, now = self._inputs.conditions(), self._clock.monotonic()
        if current is None or (current is self._seen and now < self._next_at):
            return
        try:
            self._decide(current)
        except Exception as fault:  # noqa: BLE001  the service must not depend on it
            self._note_fault(fault)

    async def stop(self) -> None:
        """Send no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    def _decide(self, current: tuple[Condition, ...]) -> None:
        at = self._instant()
        self._seen = current
        alertable = [one for one in current if self._can_alert(one)]
        self.policy.observe(alertable, _in_other_languages(alertable), at.monotonic)
        if self.weekly.time is not None:
            self.weekly.count(self._inputs.totals(), at.now)
        batch = self.policy.due(at)
        is_weekly = self.weekly.is_due(at.now)
        self._next_at = self._next_decision(at.monotonic)
        if batch.groups or is_weekly:
            self._task = asyncio.create_task(self._send_all(batch, is_weekly=is_weekly))

    def _next_decision(self, now: float) -> float:
        """The time of the next one without a new list. The wall clock decides about the weekly alert: it is asked."""
        next_at = self.policy.next_at(now)
        return next_at if self.weekly.time is None else min(next_at, now + _WEEKLY_INTERVAL)

    def _can_alert(self, condition: Condition) -> bool:
        """True unless it is about the only way that works, or none."""
        if condition.key is not ConditionKey.ALERTS_FAILING:
            return True
        return any(way.name != condition.subject and way.name not in self._failing for way in self._ways)

    async def _send_all(self, batch: Batch, *, is_weekly: bool) -> None:
        try:
            await self._send_batch(batch)
            if is_weekly:
                await self._send_weekly()
        except Exception as fault:  # noqa: BLE001  the service must not depend on it
            self._note_fault(fault)

    async def _send_batch(self, batch: Batch) -> None:
        if not batch.groups:
            return
        self.policy.begin(batch, self._clock.monotonic())
        await self._write()
        for items in batch.groups:
            alert = self._alert(items)
            if await self._send(alert):
                self._unsent.pop(alert.id, None)
                self.policy.sent(items, self._clock.monotonic())
                self.weekly.count_alert()
            else:
                self._note_unsent(alert)
                self.policy.failed(items, self._clock.monotonic())
        self._next_at = self._next_decision(self._clock.monotonic())
        await self._write()

    async def _send_weekly(self) -> None:
        sums = self.weekly.take(self._clock.now())
        await self._write()
        if not await self._send(self._other(AlertKind.WEEKLY, sums)):
            self.weekly.give_back(sums)

    async def _write(self) -> None:
        try:
            async with asyncio.timeout(_WRITE_TIMEOUT):
                await self._inputs.write()
        except TimeoutError:
            return  # the disk does not respond: an alert about that must not wait for it

    # ---- sending ----

    async def test(self) -> list[WayResult]:
        """Send a test by every way."""
        alert = self._other(AlertKind.TEST)
        results = await self._send_by_all(alert)
        return [*results, *await asyncio.gather(*(self._send_by(way, alert) for way in self.tested_only))]

    # ---- a way that repeats its attempts (service.webhook.LaterAttempts) ----

    def is_wanted(self, alert: Alert) -> bool:
        """False if no way had sent it, and its conditions are gone and forgotten meanwhile."""
        items = self._unsent.get(alert.id)
        return items is None or any(self.policy.is_watched(item.condition.id) for item in items)

    def sent_later(self, way: str, alert: Alert) -> None:
        """Note the late success of a way."""
        self._note_success(way)
        if (items := self._unsent.pop(alert.id, None)) is not None:
            now = self._clock.monotonic()
            self.policy.sent(items, now)
            self.weekly.count_alert()
            self._next_at = self._next_decision(now)
            self._note_sent(alert, [way])

    def _note_unsent(self, alert: Alert) -> None:
        self._unsent.pop(alert.id, None)
        self._unsent[alert.id] = alert.items
        if len(self._unsent) > _UNSENT_LIMIT:
            del self._unsent[next(iter(self._unsent))]

    async def _send(self, alert: Alert) -> bool:
        """Send by all ways; True if one of them took it."""
        results = await self._send_by_all(alert)
        ways = [result.way for result in results if result.sent]
        if not ways:
            event(_log, log_events.ALERT_NOT_SENT, fault=None, **_log_fields(alert))
            return False
        self._note_sent(alert, ways)
        return True

    def _note_sent(self, alert: Alert, ways: Sequence[str]) -> None:
        event(_log, log_events.ALERT_SENT, fault=None, **_log_fields(alert), ways=",".join(ways))
        self._recent.append(_entry(alert, ways))
        self.changed(_RECENT)

    async def _send_by_all(self, alert: Alert) -> list[WayResult]:
        async with self._sending:
            results = await asyncio.gather(*(self._send_by(way, alert) for way in self._ways))
        for result in results:
            if result.why:
                self._note_failure(result)
            else:
                self._note_success(result.way)
        return list(results)

    @staticmethod
    async def _send_by(way: Way, alert: Alert) -> WayResult:
        try:
            async with asyncio.timeout(_WAY_TIMEOUT):
                await way.send(alert)
        except AlertNotSent as error:
            return WayResult(way.name, error.message, error.hint, error.partly)
        except TimeoutError:
            return WayResult(way.name, f"no result within {_WAY_TIMEOUT:g} s", sent=False)
        except Exception as fault:  # noqa: BLE001  the other ways go on
            event(_log, log_events.ALERTS_FAILED, fault=fault)
            return WayResult(way.name, f"internal error: {type(fault).__name__}", sent=False)
        return WayResult(way.name)

    def _alert(self, items: Sequence[AlertItem]) -> Alert:
        kind = items[0].kind if len(items) == 1 else AlertKind.DIGEST
        now = self._clock.now()
        ended = sum(item.kind is AlertKind.OVER for item in items)
        begun = sum(item.kind is AlertKind.BEGUN for item in items)
        return Alert(
            _alert_id(self._host, items, now),
            kind,
            self._host,
            now,
            tuple(items[:_LISTED]),
            len(items[_LISTED:]),
            self.policy.open + begun - ended,
            self._inputs.waiting(),
        )

    def _other(self, kind: AlertKind, sums: Sums | None = None) -> Alert:
        return Alert(
            self._clock.new_id(),
            kind,
            self._host,
            self._clock.now(),
            open=self.policy.open,
            waiting=self._inputs.waiting(),
            sums=sums,
        )

    # ---- the ways and the last alerts ----

    def answer(self) -> dict[str, Any]:
        """The ways and the last alerts, in values for JSON."""
        return {
            "ways": [self._way_entry(way.name) for way in self._ways],
            "open": self.policy.open,
            "alerts": list(self._recent),
        }

    def _way_entry(self, name: str) -> dict[str, Any]:
        failing = self._failing.get(name)
        return {
            "way": name,
            "problem": failing.why if failing else None,
            "hint": failing.hint if failing else "",
            "since": failing.since.isoformat(timespec="seconds") if failing else None,
        }

    def _note_failure(self, result: WayResult) -> None:
        before = self._failing.get(result.way)
        since = before.since if before else self._clock.now()
        self._failing[result.way] = AlertWayFacts(result.way, result.why, result.hint, since)
        event(_log, log_events.ALERT_WAY_FAILED, fault=None, way=result.way, why=result.why, hint=result.hint)
        self._ways_changed(result.way)

    def _note_success(self, name: str) -> None:
        if self._failing.pop(name, None) is not None:
            self._ways_changed(name)

    def _ways_changed(self, name: str) -> None:
        self._inputs.note_ways(tuple(self._failing.values()))
        self.changed(name)

    def _note_fault(self, fault: Exception) -> None:
        event(_log, log_events.ALERTS_FAILED, fault=fault)
        self._seen = self._inputs.conditions()
        self._next_at = self._clock.monotonic() + _AFTER_FAULT

    def _instant(self) -> Instant:
        return Instant(self._clock.now(), self._clock.monotonic())

    # ---- learned facts ----

    def fact(self, subject: str, at: Instant) -> Fact | None:
        """See learned.LearnedSource."""
        if subject == _RECENT:
            return {"alerts": list(self._recent)}
        failing = self._failing.get(subject)
        if failing is None:
            return None
        return {"why": failing.why[:_TEXT], "hint": failing.hint[:_TEXT], "age": round(at.age(failing.since), 1)}

    def restore(self, subject: str, fact: Fact, written: Instant) -> bool:
        """See learned.LearnedSource."""
        if subject == _RECENT:
            self._recent.extendleft(reversed([_checked(entry) for entry in fact["alerts"]]))
            return True
        if subject not in {way.name for way in self._ways}:
            return False
        since = written.before(duration(fact, "age", _LONGEST_AGE)).now
        self._failing[subject] = AlertWayFacts(subject, str(fact["why"]), str(fact["hint"]), since)
        self._inputs.note_ways(tuple(self._failing.values()))
        return True


def _in_other_languages(conditions: Sequence[Condition]) -> dict[str, list[Condition]]:
    found = {}
    for code in LANGUAGES:
        if code != SOURCE:
            with language(code):
                found[code] = [
                    replace(one, cause=translated(one.cause), hint=translated(one.hint)) for one in conditions
                ]
    return found


def _alert_id(host: str, items: Sequence[AlertItem], now: datetime) -> str:
    """The same id for the same news: a receiver can recognise a repetition after a crash."""
    digest = hashlib.sha256(host.encode("utf-8", "replace"))
    for item in items:
        day = now.date() if item.kind is AlertKind.REMINDER else ""
        text = f"\0{item.kind}\0{item.condition.id}\0{item.condition.since}\0{item.condition.severity}\0{day}"
        digest.update(text.encode("utf-8", "replace"))
    return digest.hexdigest()[:_ID_LENGTH]


def _log_fields(alert: Alert) -> dict[str, object]:
    condition = alert.items[0].condition.key.value if len(alert.items) == 1 else None
    return {"kind": alert.kind.value, "condition": condition, "items": len(alert.items) or None}


def _entry(alert: Alert, ways: Sequence[str]) -> dict[str, Any]:
    return {
        "time": alert.time.isoformat(timespec="seconds"),
        "kind": alert.kind.value,
        "conditions": [
            {"kind": item.kind.value, "key": item.condition.key.value, "subject": item.condition.subject[:_SUBJECT]}
            for item in alert.items[:_CONDITIONS_LIMIT]
        ],
        "count": len(alert.items) + alert.more,
        "ways": list(ways),
    }


def _checked(entry: dict[str, Any]) -> dict[str, Any]:
    """The entry. Raises KeyError, TypeError or ValueError for one of another form."""
    datetime.fromisoformat(entry["time"])
    AlertKind(entry["kind"])
    names = [(one["kind"], one["key"], one["subject"]) for one in entry["conditions"]]
    if not all(isinstance(name, str) for name in (*entry["ways"], *(part for one in names for part in one))):
        raise TypeError("not an alert")
    return entry
