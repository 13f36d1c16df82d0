"""Interfaces to the state that several instances share, with their guarantees. PURE.

Not here: the use of the shared state (delivery.shared_quota, delivery.shared_connections), the database
(spool.postgresql.hourly_limits, spool.postgresql.connection_slots).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class HourlyAmounts:
    """Messages and recipients that count against hourly limits."""

    messages: int = 0
    recipients: int = 0


@dataclass(frozen=True, slots=True)
class HourlyLimits:
    """The limits of one account in any sixty minutes; None: no limit."""

    messages: int | None
    recipients: int | None


@dataclass(frozen=True, slots=True)
class HourlyUsed:
    """What one instance has sent in one minute. Negative: more was taken back than sent.

    `counts`: the seconds from now until the last moment of that minute is an hour ago.
    """

    counts: float
    messages: int
    recipients: int


@dataclass(frozen=True, slots=True)
class HourlyRequest:
    """What an instance reports about one account, and what it asks for.

    `kept`: what it has and may use without asking; all else that it had, and did not use, is given back. `needed`: in
    addition, for a message that waits. `with_spare`: a portion for later messages too. `is_answer`: others asked for
    what is unused.
    """

    account: str
    limits: HourlyLimits
    used: Sequence[HourlyUsed]
    kept: HourlyAmounts
    needed: HourlyAmounts
    with_spare: bool
    is_answer: bool


@dataclass(frozen=True, slots=True)
class HourlyGrant:
    """The answer. `granted` is usable in addition to `kept`, and covers what was needed if `is_enough`.

    `left`: of the limits, for everybody, after it. `is_held_elsewhere`: other instances have unused portions, or have
    not reported the use of them; they have been asked. `seconds`: until enough of the reported use has expired; None if
    that is not enough.
    """

    granted: HourlyAmounts
    is_enough: bool
    left: HourlyLimits
    is_held_elsewhere: bool
    seconds: float | None


class SharedHourlyLimits(Protocol):
    """The hourly limits of all accounts, in a database that several instances share.

    Guarantees: by the database's clock, what all instances have used in any sixty minutes, and what they may use
    without asking, is never more than a limit. What an instance had when it died counts as used at the end of its
    lease. A call is never half done: it raises SpoolError if nothing of it was written.
    """

    @property
    def instance(self) -> int | None:
        """The number of this instance; None while its leases are lost. With another number all portions are void."""
        ...

    def on_notice(self, wanted: Callable[[str], None], returned: Callable[[str], None]) -> None:
        """Call `wanted` with an account when others need what is unused here, `returned` when others gave some back."""
        ...

    async def exchange(self, request: HourlyRequest) -> HourlyGrant:
        """Report, give back and draw. One call at a time for each account. Raises SpoolError."""
        ...


class ConnectionSlots(Protocol):
    """The number of sessions of each account at each instance, in a database that the instances share.

    Guarantees: the numbers of an instance end with its leases.
    """

    def on_notice(
        self, wanted: Callable[[str], None], freed: Callable[[str], None], renewed: Callable[[], None]
    ) -> None:
        """Call `wanted` with an account of which another instance has no session and may open none, `freed` when one
        was closed after such a request, `renewed` when all numbers of this instance have to be reported again.
        """
        ...

    async def take(self, account: str, wanted: int, limit: int, *, is_urgent: bool) -> bool:
        """Report that the instance has so many sessions with the one to be opened; False if the limit forbids that one.

        `is_urgent`: it has no other one, so that the other instances are asked for one. Raises SpoolError.
        """
        ...

    async def report(self, account: str, open_now: int, *, is_answer: bool) -> None:
        """Report the number of sessions. `is_answer`: others wait for it. Raises SpoolError."""
        ...
