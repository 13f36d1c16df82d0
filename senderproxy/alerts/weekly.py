"""The weekly alert: its time, and the sums of the week. PURE.

It is a learned.LearnedSource: the sums survive a restart.
Guarantees: one alert for each time of the week that passes, none for those while the service was stopped but the last.
A wall clock that goes back repeats none. The sums are two numbers, whatever passes.
Not here: the counting (delivery), the words (alerts.wording).
"""

from collections.abc import Mapping
from datetime import datetime, timedelta, tzinfo
from typing import Final, TypeAlias

from senderproxy.alerts.record import Sums
from senderproxy.learned import Fact, Instant, LearnedSource, Notify, duration, ignore_change

LEARNED_KIND: Final = "alert_week"
_SUBJECT: Final = "sums"
_LONGEST_AGE: Final = 366 * 86400.0  # seconds
_WEEK: Final = timedelta(days=7)  # from one alert to the next
_NUMBER_LIMIT: Final = 10**12  # recipients

WeekTime: TypeAlias = tuple[int, int, int]  # weekday (0: Monday), hour, minute; local time


def latest(time: WeekTime, zone: tzinfo | None, now: datetime) -> datetime:
    """The last moment of this time of the week, at or before `now`. `zone`: None for that of the machine."""
    weekday, hour, minute = time
    local = now.astimezone(zone).replace(tzinfo=None)
    day = local - timedelta(days=(local.weekday() - weekday) % 7)
    moment = day.replace(hour=hour, minute=minute, second=0, microsecond=0)
    moment = moment if moment <= local else moment - _WEEK
    return moment.astimezone() if zone is None else moment.replace(tzinfo=zone)


class WeeklySums(LearnedSource):
    """The sums since the last weekly alert. `time` may be replaced; None: no weekly alert."""

    def __init__(self, time: WeekTime | None, zone: tzinfo | None = None) -> None:
        self.time = time
        self.changed: Notify = ignore_change
        self._zone = zone
        self._since: datetime | None = None  # the last weekly alert, or the first count
        self._delivered = self._refused = self._alerts = 0
        self._totals: Mapping[str, tuple[int, int]] = {}

    def count(self, totals: Mapping[str, tuple[int, int]], now: datetime) -> None:
        """Add the news of the totals: recipients delivered and refused since the start, by account."""
        if self._since is None or self._since > now:  # the clock went back
            self._since = now
            self.changed(_SUBJECT)
        for account, (delivered, refused) in totals.items():
            before = self._totals.get(account, (0, 0))
            more, worse = max(0, delivered - before[0]), max(0, refused - before[1])
            if more or worse:
                self._delivered += more
                self._refused += worse
                self.changed(_SUBJECT)
        self._totals = totals

    def count_alert(self) -> None:
        """Count one alert."""
        self._alerts += 1
        self.changed(_SUBJECT)

    def is_due(self, now: datetime) -> bool:
        """True if the time of the week has passed since the last one."""
        return self.time is not None and self._since is not None and latest(self.time, self._zone, now) > self._since

    def take(self, now: datetime) -> Sums:
        """The sums, for an alert that is sent now; they begin anew."""
        sums = Sums(self._since or now, self._delivered, self._refused, self._alerts)
        self._since, self._delivered, self._refused, self._alerts = now, 0, 0, 0
        self.changed(_SUBJECT)
        return sums

    def give_back(self, sums: Sums) -> None:
        """Take back the sums of an unsent alert."""
        self._since = sums.since
        self._delivered += sums.delivered
        self._refused += sums.refused
        self._alerts += sums.alerts
        self.changed(_SUBJECT)

    # ---- learned facts ----

    def fact(self, _subject: str, at: Instant) -> Fact | None:
        """See learned.LearnedSource."""
        if self._since is None:
            return None
        return {
            "age": round(at.age(self._since), 1),
            "delivered": self._delivered,
            "refused": self._refused,
            "alerts": self._alerts,
        }

    def restore(self, _subject: str, fact: Fact, written: Instant) -> bool:
        """See learned.LearnedSource."""
        numbers = [fact[name] for name in ("delivered", "refused", "alerts")]
        if not all(isinstance(number, int) and 0 <= number <= _NUMBER_LIMIT for number in numbers):
            raise ValueError("not a count")
        since = written.before(duration(fact, "age", _LONGEST_AGE)).now
        self._since = since if self._since is None else min(since, self._since)
        self._delivered += numbers[0]
        self._refused += numbers[1]
        self._alerts += numbers[2]
        return True
