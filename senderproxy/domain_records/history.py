"""DomainHistory: the results of several looks at the records of a domain. PURE.

Guarantees: a record counts as wrong after two looks with the same result, AGREE apart, so that one bad answer of a name
server is no alarm; as right after one. A failed look changes nothing. What was never right and is only an advice, such
as a domain that never had DKIM, is not reported; nor is it any more a month after it was last right.
Not here: the times of the looks (service.domain_watch), the judgements (domain).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from senderproxy.domain_records.judgement import Aspect, Judgement, Weight, shown
from senderproxy.learned import Fact, Instant, duration

AGREE: Final = timedelta(minutes=30)  # between two looks that agree; more than most answers are cached by their servers
REMEMBERED: Final = timedelta(days=30)  # a record that was removed on purpose is no trouble for longer
_OLDEST: Final = 400 * 86400.0  # seconds; no restored time is older


@dataclass(slots=True)
class _RecordHistory:
    """One kind of record."""

    right: str = ""  # the record when it was last right
    right_at: datetime | None = None
    problem: Judgement | None = None  # of the last looks
    since: datetime | None = None  # the first look with this problem
    is_confirmed: bool = False


@dataclass(frozen=True, slots=True)
class RecordTrouble:
    """A record that is not right. `right`: the record of the time when it was; `right_at`: None: never seen right."""

    judgement: Judgement
    since: datetime
    right: str
    right_at: datetime | None


@dataclass(slots=True)
class DomainHistory:
    """The records of one domain."""

    looked_at: datetime | None = None  # None: never
    is_unsure: bool = False  # the last look failed in part, or another one has to agree
    _records: dict[Aspect, _RecordHistory] = field(default_factory=dict)

    def note(self, judgements: Iterable[Judgement], now: datetime) -> None:
        """Note a look: the main judgement of each kind of record."""
        self.looked_at, self.is_unsure = now, False
        for judgement in judgements:
            self._note(self._records.setdefault(judgement.aspect, _RecordHistory()), judgement, now)

    def _note(self, history: _RecordHistory, judgement: Judgement, now: datetime) -> None:
        if judgement.weight is Weight.UNKNOWN:
            self.is_unsure = True
        elif judgement.is_right:
            history.right, history.right_at = judgement.record, now
            history.problem, history.since, history.is_confirmed = None, None, False
        elif history.is_confirmed:
            history.problem = judgement
        elif history.problem is None or history.since is None or history.problem.problem is not judgement.problem:
            history.problem, history.since = judgement, now
            self.is_unsure = True
        elif now - history.since >= AGREE:
            history.problem, history.is_confirmed = judgement, True
        else:
            self.is_unsure = True

    def troubles(self, now: datetime) -> Iterator[RecordTrouble]:
        """The records that are not right, two looks agreeing: those that are wrong, or that were right lately."""
        for history in self._records.values():
            if history.problem is None or history.since is None or not history.is_confirmed:
                continue
            was_right = history.right_at is not None and now - history.right_at < REMEMBERED
            if was_right or history.problem.weight is Weight.WRONG:
                yield RecordTrouble(history.problem, history.since, history.right, history.right_at)

    # ---- learned facts ----

    def fact(self, at: Instant) -> Fact:
        """The history in values for JSON."""
        return {
            "looked": None if self.looked_at is None else round(at.age(self.looked_at)),
            "unsure": self.is_unsure,
            "records": {aspect.value: _record_fact(one, at) for aspect, one in self._records.items()},
        }

    @classmethod
    def read(cls, fact: Fact, written: Instant) -> "DomainHistory":
        """The history of a `fact`. Raises KeyError, TypeError or ValueError for another value."""
        return cls(
            _time(fact, "looked", written),
            bool(fact["unsure"]),
            {Aspect(name): _read_record(Aspect(name), one, written) for name, one in dict(fact["records"]).items()},
        )


def _record_fact(history: _RecordHistory, at: Instant) -> dict[str, Any]:
    return {
        "right": history.right,
        "right_age": None if history.right_at is None else round(at.age(history.right_at)),
        "problem": None if history.problem is None else history.problem.to_json(),
        "since_age": None if history.since is None else round(at.age(history.since)),
        "confirmed": history.is_confirmed,
    }


def _read_record(aspect: Aspect, entry: Mapping[str, Any], written: Instant) -> _RecordHistory:
    return _RecordHistory(
        shown(str(entry["right"])),
        _time(entry, "right_age", written),
        None if entry["problem"] is None else Judgement.from_json(aspect, entry["problem"]),
        _time(entry, "since_age", written),
        bool(entry["confirmed"]),
    )


def _time(fact: Mapping[str, Any], name: str, written: Instant) -> datetime | None:
    return None if fact[name] is None else written.before(duration(fact, name, _OLDEST)).now
