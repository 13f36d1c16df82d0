"""OwnKeyHistory: the results of several looks at the DNS record of a DKIM key of our own. PURE.

Guarantees: a key may sign from the first look at which its record was right, and for ever after: a record that changes
later is a trouble and no reason to stop. It is a trouble after two looks without the right record, AGREE apart. A
failed look changes nothing.
Not here: the times of the looks (service.dkim_watch), the judgement of a record (domain_records.own_key).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol, TypeVar

from senderproxy.domain_records.history import AGREE
from senderproxy.domain_records.judgement import shown
from senderproxy.domain_records.own_key import KeyLook, KeyRecord
from senderproxy.learned import Fact, Instant, count, duration

LATE: Final = timedelta(days=1)  # a record that was never right is a trouble after that
_OLDEST: Final = 4000 * 86400.0  # seconds; no restored time is older
_MINUTE: Final = 60.0  # seconds until the next look at a new key
_DAY: Final = 86400.0  # seconds until the next look at a record that is right
_STEPS: Final = ((60, _MINUTE), (200, 600.0))  # looks without the record, and the seconds until the next one
_SLOWEST: Final = 3600.0  # seconds until the next look, otherwise

_HasHistory = TypeVar("_HasHistory", bound="HasHistory")


class HasHistory(Protocol):
    """A key with its history."""

    @property
    def history(self) -> "OwnKeyHistory":
        """The looks at its record."""
        ...


@dataclass(slots=True)
class OwnKeyHistory:
    """The record of one key. `right_at`: the last look that found it right; `problem`: of the looks since."""

    looked_at: datetime | None = None
    looks: int = 0  # without the record, in a row
    right_at: datetime | None = None
    problem: KeyLook | None = None
    since: datetime | None = None  # the first look without the right record
    is_confirmed: bool = False

    @property
    def may_sign(self) -> bool:
        """True if the record was right at some time."""
        return self.right_at is not None

    @property
    def is_right(self) -> bool:
        """True if the record was right at the last looks; one that disagrees does not count."""
        return self.right_at is not None and not self.is_confirmed

    def note(self, look: KeyLook, now: datetime) -> bool:
        """Note a look; True if something is new."""
        before = (self.may_sign, self.is_right, self.problem and self.problem.problem)
        self.looked_at = now
        if look.problem is KeyRecord.RIGHT:
            self.right_at, self.looks = now, 0
            self.problem, self.since, self.is_confirmed = None, None, False
        else:
            self.looks += 1
            if self.since is None:
                self.since = now
            self.problem = look
            self.is_confirmed = self.is_confirmed or now - self.since >= AGREE
        return before != (self.may_sign, self.is_right, self.problem and self.problem.problem)

    def interval(self) -> float:
        """The seconds until the next look."""
        if self.right_at is not None:
            return _DAY if self.problem is None else _SLOWEST
        return next((seconds for looks, seconds in _STEPS if self.looks < looks), _SLOWEST)

    def trouble_since(self, now: datetime) -> datetime | None:
        """The time since when an operator should know about it; None for no trouble."""
        if self.problem is None or self.since is None or not self.is_confirmed:
            return None
        return self.since if self.may_sign or now - self.since >= LATE else None

    # ---- learned facts ----

    def fact(self, at: Instant) -> dict[str, Any]:
        """The history in values for JSON."""
        return {
            "looked": None if self.looked_at is None else round(at.age(self.looked_at)),
            "looks": max(1, self.looks),
            "right_age": None if self.right_at is None else round(at.age(self.right_at)),
            "problem": None if self.problem is None else self.problem.problem.value,
            "record": "" if self.problem is None else self.problem.record,
            "since_age": None if self.since is None else round(at.age(self.since)),
            "confirmed": self.is_confirmed,
        }

    @classmethod
    def read(cls, fact: Fact, written: Instant) -> "OwnKeyHistory":
        """The history of a `fact`. Raises KeyError, TypeError or ValueError for another value."""
        problem = fact["problem"]
        return cls(
            _time(fact, "looked", written),
            count(fact, "looks"),
            _time(fact, "right_age", written),
            None if problem is None else KeyLook(KeyRecord(problem), shown(str(fact["record"]))),
            _time(fact, "since_age", written),
            bool(fact["confirmed"]),
        )


def choose_key(keys: Iterable[_HasHistory]) -> _HasHistory | None:
    """The key of one domain that signs, of those given from the oldest to the newest; None if none may.

    The newest one whose record is right; if there is none, the newest one whose record was right.
    """
    newest_first = list(keys)[::-1]
    right = (one for one in newest_first if one.history.is_right)
    return next(right, None) or next((one for one in newest_first if one.history.may_sign), None)


def _time(fact: Fact, name: str, written: Instant) -> datetime | None:
    return None if fact[name] is None else written.before(duration(fact, name, _OLDEST)).now
