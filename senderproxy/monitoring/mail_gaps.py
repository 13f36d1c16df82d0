"""MailGaps: hours of the week in which mail usually comes, and how improbable the present gap is. PURE.

For each hour of the week it remembers in which of the last WEEKS weeks a message was accepted. Each whole hour without
one makes a gap as improbable as that hour is usually busy; a gap is unusual if fewer than one in a thousand would be so
long by chance. So an hour at night counts nothing, and an hour in which mail always came counts a factor of ten.

It is a learned.LearnedSource with two subjects: the week, and the gap of now.
Guarantees: no judgement from less than two weeks; memory is bounded by the hours of a week. An hour that was not
observed as a whole counts nothing. A service that never gets mail never reports.
Not here: the count of messages (listener), the condition (monitoring.service_conditions).
"""

import math
from datetime import datetime, tzinfo
from typing import Final

from senderproxy.learned import Fact, Instant, LearnedSource, Notify, duration, ignore_change
from senderproxy.monitoring.facts import MailGapFacts

WEEKS: Final = 6  # weeks that are remembered; longer than a holiday
_LEARNED_WEEKS: Final = 2  # weeks of an hour that are known, at least
_UNUSUAL: Final = math.log(1000) - 1e-9  # a gap as long comes by chance less often than once in a thousand times
_BUSIEST: Final = 0.9  # probability of mail in an hour, at most: weeks differ
_DAY_HOURS: Final = 24  # hours
_WEEK_HOURS: Final = 168  # hours
_CONTINUES: Final = 600.0  # seconds of a restart after which the gap of before goes on
_LONGEST: Final = 366 * 86400.0  # seconds; no gap is longer in practice
_RANGE: Final = 1000.0  # of the improbability
_WEEK, _NOW = "week", "now"  # the subjects
LEARNED_KIND: Final = "mail-gap"


class MailGaps(LearnedSource):
    """The gaps of one service. `zone`: that of the office's working hours; None: the machine's."""

    def __init__(self, zone: tzinfo | None = None) -> None:
        self.changed: Notify = ignore_change
        self._zone = zone
        self._weeks: list[str] = [""] * _WEEK_HOURS  # "1" for a week with mail in it, "0" without; the latest last
        self._count = 0  # messages so far
        self._last: float | None = None  # monotonic seconds: the last message, else the start
        self._improbability = 0.0  # of the gap of now, as a logarithm
        self._hour: int | None = None  # the hour of now, counted from the year 1
        self._before = ""  # the weeks of the hour before, without the present one
        self._is_whole = False  # this hour was observed from its beginning
        self._had_mail = False  # in this hour

    def observe(self, count: int, now: datetime, monotonic: float) -> None:
        """Note the number of messages accepted so far. Cheap: called every few seconds, not for each message."""
        if self._last is None:
            self._last, self._count = monotonic, count
        local = now.astimezone(self._zone)
        hour = local.toordinal() * _DAY_HOURS + local.hour
        if hour != self._hour:
            self._end_hour(hour)
        if count > self._count:
            self._last, self._improbability, self._had_mail = monotonic, 0.0, True
        self._count = count

    def unusual(self, monotonic: float, fixed: float | None = None) -> MailGapFacts | None:
        """The gap of now if it is unusual. `fixed`: seconds that replace what was learned."""
        if self._last is None:
            return None
        gap = max(0.0, monotonic - self._last)
        is_unusual = self._improbability >= _UNUSUAL if fixed is None else gap > fixed
        return MailGapFacts(gap) if is_unusual else None

    def stop(self) -> None:
        """Have the gap of now written, before the end of the process."""
        self.changed(_NOW)

    # ---- parts ----

    def _end_hour(self, hour: int) -> None:
        previous, self._hour = self._hour, hour
        is_next = previous is not None and hour == previous + 1
        if previous is not None:
            slot = _slot(previous)
            before = self._weeks[slot]
            if self._is_whole and is_next:
                if not self._had_mail:
                    self._improbability = min(_RANGE, self._improbability + self._weight(slot))
                self._weeks[slot] = (before + ("1" if self._had_mail else "0"))[-WEEKS:]
            self._before = before
            # An idle service writes once a day.
            if self._had_mail or previous // _DAY_HOURS != hour // _DAY_HOURS:
                self.changed(_WEEK)
                self.changed(_NOW)
        self._is_whole, self._had_mail = is_next, False

    def _weight(self, slot: int) -> float:
        """The improbability of an hour without mail, as a logarithm; its neighbours count like it."""
        around = (self._before, self._weeks[slot], self._weeks[(slot + 1) % _WEEK_HOURS])
        if any(len(weeks) < _LEARNED_WEEKS for weeks in around):
            return 0.0
        known = "".join(around)
        return -math.log(1 - min(_BUSIEST, known.count("1") / (len(known) + 1)))

    # ---- learned facts ----

    def fact(self, subject: str, at: Instant) -> Fact | None:
        """See learned.LearnedSource."""
        if subject == _WEEK:
            return {"hours": ",".join(self._weeks)}
        if self._last is None:
            return None
        gap = round(max(0.0, at.monotonic - self._last))
        return {"gap": gap, "improbability": round(self._improbability, 3)}

    def restore(self, subject: str, fact: Fact, written: Instant) -> bool:
        """See learned.LearnedSource."""
        if subject == _WEEK:
            hours = str(fact["hours"]).split(",")
            if len(hours) != _WEEK_HOURS or not all(set(weeks) <= {"0", "1"} for weeks in hours):
                return False
            self._weeks = [weeks[-WEEKS:] for weeks in hours]
            return True
        if written.elapsed > _CONTINUES:
            return False
        self._last = written.before(duration(fact, "gap", _LONGEST)).monotonic
        self._improbability = duration(fact, "improbability", _RANGE)
        return True


def _slot(hour: int) -> int:
    """The hour of the week. The first day of the year 1 has the number 1, and was a Monday."""
    return (hour - _DAY_HOURS) % _WEEK_HOURS
