"""Decision about alerts: from the lists of conditions and the earlier alerts to the news to send now. PURE.

It is a learned.LearnedSource: what was alerted survives a restart.
Guarantees: of one condition BEGUN and OVER alternate. A condition is alerted after it has lasted for a while, and over
after it has stayed away for a while, which grows for one that comes and goes. A part of an alerted condition, as one of
its accounts, is not alerted by itself. The number of alerts in an hour is bounded; what is above it is not lost, but
becomes one digest. News that was being sent at a crash is sent once more, and after a second crash by a process
that has run for a while: a crash loop sends no storm, and loses no news; it names the same beginning each time. Times
are of the monotonic clock, so a step of the wall clock changes nothing. Memory is bounded by WATCHED_LIMIT.
Not here: the conditions (monitoring), the sending and the writing (service), the words (alerts.wording).
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from senderproxy.alerts.record import AlertItem, AlertKind
from senderproxy.learned import Fact, Instant, LearnedSource, Notify, clamp, duration, ignore_change
from senderproxy.log_events import Severity
from senderproxy.monitoring.record import Condition, ConditionId, condition_entry, read_condition

WATCHED_LIMIT: Final = 1000  # conditions; many times as long as the list of a configuration is
LEARNED_KIND: Final = "alert"

_HOUR: Final = 3600.0  # seconds
_REMEMBERED: Final = 86400.0  # seconds that an alerted condition is remembered after its end
_LONGEST_OVER_DELAY: Final = 6 * _HOUR  # seconds; one that comes and goes all day is alerted some times a day
_GROWTH: Final = 4  # times the delay, for each time that the condition was over within a day
_GROWTHS: Final = 10  # times that the delay grows; a million times the first
_LONGEST_AGE: Final = 366 * 86400.0  # seconds
_SENDS: Final = 2  # attempts whose result is unknown, because of a crash, before the next one waits
_SETTLED: Final = 30.0  # seconds that a process has run before that; in a crash loop it does not run so long
_FIRST_RETRY: Final = 60.0  # seconds after which alerts that no way could send are sent again; it doubles
_LONGEST_RETRY: Final = _HOUR  # seconds
_TEXT: Final = 600  # characters of a cause or a hint in the learned facts; a row holds two languages
_NAMES_LIMIT: Final = 5000  # names of an open condition, about as many accounts as a vault has
_NAMES_KEPT: Final = 5000  # characters of the names in the learned facts
_SENT_LIMIT: Final = 1000  # times of alerts in the learned facts
_NUMBER_LIMIT: Final = 10**9  # of beginnings
_SENT: Final = " sent"  # the subject of the fact about all alerts; no id of a condition begins with a blank


@dataclass(frozen=True, slots=True)
class AlertRules:
    """The settings of the policy; times in seconds."""

    level: Severity = Severity.WARNING
    error_delay: float = 30.0
    warning_delay: float = 120.0
    over_delay: float = 300.0
    max_at_once: int = 5
    max_per_hour: int = 10
    reminder: float = 86400.0  # 0: never

    def delay(self, severity: Severity) -> float:
        """The time from the beginning of a condition of this severity to its alert."""
        return self.error_delay if severity >= Severity.ERROR else self.warning_delay


@dataclass(slots=True)
class Watched:
    """One present or past condition. Times are monotonic seconds."""

    condition: Condition  # as it was last
    translations: Mapping[str, Condition]
    seen_at: float  # the beginning of its present severity
    gone_at: float | None = None
    alerted: Severity | None = None  # in the last alert; None: never, or that alert was OVER
    alerted_at: float = 0.0
    times: int = 1  # beginnings since the last alert about it
    ended: int = 0  # alerts OVER, within a day of each other
    sends: int = 0  # attempts to send the present news whose result is unknown

    @property
    def is_open(self) -> bool:
        """True between the alerts BEGUN and OVER."""
        return self.alerted is not None

    def covers(self, condition: Condition) -> bool:
        """True if it has the same key as the condition, and affects everything of it."""
        mine, other = self.condition, condition
        return (
            mine.key is other.key
            and mine.affected.kind is other.affected.kind
            and bool(other.affected.names)
            and set(other.affected.names) <= set(mine.affected.names)
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """The news of one moment: each group of items is one alert, and more than one item are a digest."""

    groups: Sequence[Sequence[AlertItem]]

    @property
    def items(self) -> Sequence[AlertItem]:
        """All items."""
        return [item for group in self.groups for item in group]


class AlertPolicy(LearnedSource):
    """The alerts so far, and those to send now.

    Usage: `observe` each new list; `due` returns the news. `begin` before it is sent, and write the changed facts;
    `sent` or `failed` afterwards.
    """

    def __init__(self, rules: AlertRules) -> None:
        self.rules = rules
        self.changed: Notify = ignore_change
        self._watched: dict[ConditionId, Watched] = {}
        self._sent: deque[float] = deque()  # the times of the alerts of the last hour
        self._failures = 0  # of all ways together, in a row
        self._retry_at = 0.0
        self._begun_at: float | None = None  # the first list of this process

    # ---- the conditions ----

    def observe(
        self, conditions: Sequence[Condition], translations: Mapping[str, Sequence[Condition]], now: float
    ) -> None:
        """Take note of a list. `translations`: the same list in other languages."""
        if self._begun_at is None:
            self._begun_at = now
        translated = {language: {one.id: one for one in some} for language, some in translations.items()}
        found = {one.id: one for one in conditions if one.severity >= self.rules.level}
        for id_, condition in found.items():
            words = {language: some[id_] for language, some in translated.items() if id_ in some}
            self._note(condition, words, now)
        for id_, watched in list(self._watched.items()):
            if id_ not in found and self._note_absence(id_, watched, found):
                self._end(id_, watched, now)

    def _note(self, condition: Condition, words: Mapping[str, Condition], now: float) -> None:
        watched = self._watched.get(condition.id)
        since = condition.since.replace(microsecond=0)  # as in the fact
        if watched is None:
            if len(self._watched) < WATCHED_LIMIT:
                self._watched[condition.id] = Watched(replace(condition, since=since), words, now)
                self.changed(_subject(condition.id))
            return
        before = watched.condition
        if watched.gone_at is not None:
            if not watched.is_open and (not watched.times or now - watched.gone_at >= self.rules.over_delay):
                watched.seen_at, watched.times = now, 0
            watched.gone_at = None
            watched.times += 1
            self.changed(_subject(condition.id))
        else:
            since = before.since  # the process after a crash knows it less exactly
            if condition.severity > before.severity:
                watched.seen_at = now
        if condition.severity is not before.severity:
            self.changed(_subject(condition.id))
        if watched.is_open and condition.affected.names and before.affected.kind is condition.affected.kind:
            names = tuple(dict.fromkeys((*condition.affected.names, *before.affected.names)))[:_NAMES_LIMIT]
            condition = replace(condition, affected=replace(condition.affected, names=names))
        watched.condition, watched.translations = replace(condition, since=since), words

    def _note_absence(self, id_: ConditionId, watched: Watched, found: Mapping[ConditionId, Condition]) -> bool:
        """True if a condition that is not in the list is over, and not part of a wider one or replaced by its parts."""
        wider = [name for name, other in self._others(id_) if other.covers(watched.condition) and name in found]
        if any(self._watched[name].is_open for name in wider):
            self._forget(id_)  # the alert that the wider one is over will be about this one too
            return False
        is_there = bool(wider) or (watched.is_open and any(watched.covers(part) for part in found.values()))
        if is_there:
            watched.gone_at = None
        return not is_there

    def _end(self, id_: ConditionId, watched: Watched, now: float) -> None:
        """Note that the condition is gone; forget it after a while, unless its end must be alerted."""
        if watched.gone_at is None:
            watched.gone_at = now
            self.changed(_subject(id_))
        kept = _REMEMBERED if watched.ended else self.rules.over_delay
        if not watched.is_open and now - watched.gone_at >= kept:
            self._forget(id_)

    def _others(self, id_: ConditionId) -> Iterable[tuple[ConditionId, Watched]]:
        return [(name, other) for name, other in self._watched.items() if name != id_ and name[0] == id_[0]]

    def _forget(self, id_: ConditionId) -> None:
        del self._watched[id_]
        self.changed(_subject(id_))

    # ---- the news ----

    def due(self, at: Instant) -> Batch:
        """The news to send now; no group if there is none, or if the hour has had enough."""
        now = at.monotonic
        self._expire(now)
        news = self._news(at)
        free = self.rules.max_per_hour - len(self._sent)
        if not news or free <= 0 or now < self._retry_at:
            return Batch(())
        news.sort(key=lambda item: (item.ended is not None, -item.condition.severity, item.condition.since))
        if len(news) <= min(free, self.rules.max_at_once):
            return Batch([[item] for item in news])
        return Batch([news])

    def next_at(self, now: float) -> float:
        """The earliest time of news without a change of the list; infinity if never."""
        times = [time for id_, watched in self._watched.items() for time in self._times(id_, watched)]
        earliest = min(times, default=float("inf"))
        self._expire(now)
        if len(self._sent) >= self.rules.max_per_hour:
            earliest = max(earliest, self._sent[0] + _HOUR)
        return max(earliest, self._retry_at)

    def begin(self, batch: Batch, now: float) -> None:
        """Note the beginning of their sending. The changed facts must be written before it."""
        for item in batch.items:
            self._watched[item.condition.id].sends += 1
            self.changed(_subject(item.condition.id))
        self._sent += [now] * len(batch.groups)
        self.changed(_SENT)

    def sent(self, items: Sequence[AlertItem], now: float) -> None:
        """Note the success of an alert with these items."""
        self._failures, self._retry_at = 0, 0.0
        for item in items:
            self._note_sent(item, now)

    def failed(self, items: Sequence[AlertItem], now: float) -> None:
        """Note the failure of an alert with these items by every way: they stay due, after a while."""
        for item in items:
            if (watched := self._watched.get(item.condition.id)) is not None:
                watched.sends = 0
                self.changed(_subject(item.condition.id))
        if self._sent:
            self._sent.pop()
            self.changed(_SENT)
        self._retry_at = now + min(_LONGEST_RETRY, _FIRST_RETRY * 2.0 ** min(self._failures, _GROWTHS))
        self._failures += 1

    def is_watched(self, id_: ConditionId) -> bool:
        """True while the condition exists, or has ended and is remembered."""
        return id_ in self._watched

    @property
    def open(self) -> int:
        """The number of alerted conditions in progress."""
        return sum(watched.is_open for watched in self._watched.values())

    def _note_sent(self, item: AlertItem, now: float) -> None:
        watched = self._watched.get(item.condition.id)
        if watched is None:
            return
        watched.sends, watched.alerted_at = 0, now
        if item.kind is AlertKind.OVER:
            watched.alerted, watched.ended = None, watched.ended + 1
            watched.times = 0 if watched.gone_at is not None else 1
        else:
            watched.alerted, watched.times = item.condition.severity, 1
        self.changed(_subject(item.condition.id))

    def _news(self, at: Instant) -> list[AlertItem]:
        news = []
        for id_, watched in self._watched.items():
            kind = self._kind(id_, watched)
            if kind is None or at.monotonic < self._due_at(watched, kind):
                continue
            ended = None if watched.gone_at is None else at.before(max(0.0, at.monotonic - watched.gone_at)).now
            news.append(AlertItem(kind, watched.condition, watched.translations, ended, max(1, watched.times)))
        return news

    def _times(self, id_: ConditionId, watched: Watched) -> Iterable[float]:
        kind = self._kind(id_, watched)
        return () if kind is None else (self._due_at(watched, kind),)

    def _kind(self, id_: ConditionId, watched: Watched) -> AlertKind | None:
        """The next news about it, now or later."""
        if watched.gone_at is not None:
            return AlertKind.OVER if watched.is_open else None
        if watched.alerted is None:
            return None if self._is_part(id_, watched) else AlertKind.BEGUN
        if watched.condition.severity > watched.alerted:
            return AlertKind.WORSE
        if self.rules.reminder and watched.condition.severity >= Severity.ERROR:
            return AlertKind.REMINDER
        return None

    def _is_part(self, id_: ConditionId, watched: Watched) -> bool:
        """True if an alerted condition, or a wider one in progress, covers it."""
        size = len(watched.condition.affected.names)
        return any(
            other.covers(watched.condition)
            and (other.is_open or (other.gone_at is None and len(other.condition.affected.names) > size))
            for _name, other in self._others(id_)
        )

    def _due_at(self, watched: Watched, kind: AlertKind) -> float:
        due = self._usually_due_at(watched, kind)
        if watched.sends < _SENDS or self._begun_at is None:
            return due
        return max(due, self._begun_at + _SETTLED)

    def _usually_due_at(self, watched: Watched, kind: AlertKind) -> float:
        match kind:
            case AlertKind.OVER:
                assert watched.gone_at is not None
                grown = self.rules.over_delay * float(_GROWTH ** min(watched.ended, _GROWTHS))
                return watched.gone_at + max(self.rules.over_delay, min(grown, _LONGEST_OVER_DELAY))
            case AlertKind.REMINDER:
                return watched.alerted_at + self.rules.reminder
            case _:
                return watched.seen_at + self.rules.delay(watched.condition.severity)

    def _expire(self, now: float) -> None:
        while self._sent and now - self._sent[0] >= _HOUR:
            self._sent.popleft()

    # ---- learned facts ----

    def subjects(self) -> Sequence[str]:
        """The subjects of all facts; those against repeated alerts first."""
        by_need = sorted(self._watched.items(), key=lambda item: not (item[1].is_open or item[1].sends))
        return [_SENT, *(_subject(id_) for id_, _watched in by_need)]

    def fact(self, subject: str, at: Instant) -> Fact | None:
        """See learned.LearnedSource."""
        if subject == _SENT:
            return (
                {"ages": [round(at.monotonic - time, 1) for time in self._sent][-_SENT_LIMIT:]} if self._sent else None
            )
        watched = self._watched.get(_id(subject))
        if watched is None:
            return None
        fact: dict[str, Any] = {
            "condition": _entry(watched.condition),
            "texts": {
                language: [one.cause[:_TEXT], one.hint[:_TEXT]] for language, one in watched.translations.items()
            },
            "seen": _age(watched.seen_at, at),
            "times": watched.times,
            "ended": watched.ended,
            "sends": watched.sends,
        }
        if watched.gone_at is not None:
            fact["gone"] = _age(watched.gone_at, at)
        if watched.alerted is not None:
            fact |= {"alerted": watched.alerted.name, "alerted_age": _age(watched.alerted_at, at)}
        return fact

    def restore(self, subject: str, fact: Fact, written: Instant) -> bool:
        """See learned.LearnedSource."""
        if subject == _SENT:
            ages = sorted((clamp(age, _LONGEST_AGE) for age in fact["ages"][-_SENT_LIMIT:]), reverse=True)
            self._sent = deque(written.before(age).monotonic for age in ages)
            return True
        condition = read_condition(fact["condition"])
        if _subject(condition.id) != subject or len(self._watched) >= WATCHED_LIMIT:
            return False

        def time(name: str) -> float:
            return written.before(duration(fact, name, _LONGEST_AGE)).monotonic

        self._watched[condition.id] = Watched(
            condition,
            {
                str(language): replace(condition, cause=str(cause), hint=str(hint))
                for language, (cause, hint) in fact["texts"].items()
            },
            time("seen"),
            time("gone") if "gone" in fact else None,
            Severity[fact["alerted"]] if "alerted" in fact else None,
            time("alerted_age") if "alerted" in fact else 0.0,
            _number(fact["times"]),
            _number(fact["ended"]),
            _number(fact["sends"]),
        )
        return True


def _age(time: float, at: Instant) -> float:
    return round(max(0.0, at.monotonic - time), 1)


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _NUMBER_LIMIT:
        raise ValueError("not a count")
    return value


def _entry(condition: Condition) -> dict[str, Any]:
    """The condition for JSON, with as many names and as much text as a learned fact has space for."""
    names: list[str] = []
    left = _NAMES_KEPT
    for name in condition.affected.names:
        left -= len(name) + 4
        if left < 0:
            break
        names.append(name)
    short = replace(
        condition,
        cause=condition.cause[:_TEXT],
        hint=condition.hint[:_TEXT],
        affected=replace(condition.affected, names=tuple(names)),
    )
    return condition_entry(short)


def _subject(id_: ConditionId) -> str:
    return " ".join(id_)


def _id(subject: str) -> ConditionId:
    key, _blank, rest = subject.partition(" ")
    return key, rest
