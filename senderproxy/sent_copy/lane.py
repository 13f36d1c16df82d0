"""State of the copies of one account: its failures, the wait that follows, and what an operator has to know. PURE.

Guarantees: a refused login is tried again after an hour at the earliest, unless the account has changed: some providers
lock a mailbox after a few. The waits do not depend on the wall clock.
Not here: the work (sent_copy.runner), the words of a failure (sent_copy.ports).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from senderproxy.retry import RetryPolicy, wait_after
from senderproxy.sent_copy.ports import DelayKind, RefusalKind, Refused, TryLater

GIVE_UP: Final = timedelta(days=2)  # the age of a copy that fails now and is not tried again
_SOON: Final = RetryPolicy(timedelta(minutes=1), timedelta(minutes=30), GIVE_UP)
_OF_MAILBOX: Final = RetryPolicy(timedelta(minutes=15), timedelta(hours=1), GIVE_UP)  # somebody has to act
_REFUSED_LOGIN: Final = RetryPolicy(timedelta(hours=1) / 0.75, timedelta(hours=4) / 1.25, GIVE_UP)  # 1 to 4 hours
_LOGINS: Final = (RefusalKind.LOGIN, RefusalKind.ACCESS_OFF)


@dataclass(frozen=True, slots=True)
class CopyTrouble:
    """The reason why the copies of an account wait. `words`, `hint`: as in sent_copy.ports.Refused."""

    kind: str  # value of a RefusalKind or a DelayKind
    words: str
    hint: str
    since: datetime
    is_refusal: bool  # somebody has to act; else it passes by itself


@dataclass(slots=True)
class CopyLane:
    """The copies of one account."""

    due_at: float | None = None  # monotonic seconds; None: no copy waits, as far as is known
    blocked_until: float = 0.0  # monotonic seconds
    failures: int = 0  # in a row
    trouble: CopyTrouble | None = None
    seen: object = None  # the account and the version of its credential at the last failure
    is_working: bool = False
    is_woken: bool = False  # an operator has asked for an attempt during the one in progress
    waiting: int = 0  # at the last count
    stored: int = 0  # since the start
    given_up: int = 0  # since the start
    given_up_at: datetime | None = None  # the last one
    given_up_why: str = ""

    def ready_in(self, monotonic: float) -> float | None:
        """Seconds until the next attempt; None if no copy waits or one is being stored."""
        if self.due_at is None or self.is_working:
            return None
        return max(self.due_at, self.blocked_until) - monotonic

    def failed(self, result: Refused | TryLater, seen: object, now: datetime, monotonic: float, chance: float) -> float:
        """Note a failure that concerns all copies of the account; the seconds until the next attempt."""
        self.failures += 1
        since = self.trouble.since if self.trouble is not None else now
        is_refusal = isinstance(result, Refused)
        self.trouble = CopyTrouble(result.kind.value, result.words, result.hint, since, is_refusal)
        self.seen = seen
        wait = wait_after(_policy(result), self.failures, chance).total_seconds()
        self.blocked_until = monotonic + wait
        return wait

    def succeeded(self) -> None:
        """Note a copy that is in the folder."""
        self.failures, self.trouble, self.blocked_until = 0, None, 0.0

    def unblock(self) -> None:
        """Try again at once; the trouble stays until an attempt succeeds."""
        self.failures, self.blocked_until, self.is_woken = 0, 0.0, False

    def gave_up(self, why: str, now: datetime) -> None:
        """Note a copy that is not tried again."""
        self.given_up += 1
        self.given_up_at, self.given_up_why = now, why


def wait_of_copy(attempts: int, chance: float) -> timedelta:
    """The wait of a single copy after so many failures of its own, which concern no other."""
    return wait_after(_SOON, attempts, chance)


def concerns_account(result: Refused | TryLater) -> bool:
    """True if the other copies of the account would fail, too."""
    return not (result.is_final if isinstance(result, Refused) else result.kind is DelayKind.LOCAL)


def _policy(result: Refused | TryLater) -> RetryPolicy:
    if isinstance(result, TryLater):
        return _SOON
    return _REFUSED_LOGIN if result.kind in _LOGINS else _OF_MAILBOX
