"""Interfaces to the state that several instances share, with their guarantees. PURE.

Not here: the use of the shared state (delivery.shared_quota, delivery.shared_connections,
accounts.shared_refresh_tokens), the database (spool.postgresql.hourly_limits, spool.postgresql.connection_slots,
spool.postgresql.grants).
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
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
    """Messages and recipients that one instance has sent in one minute. Negative: more was taken back than sent.

    `counts`: the seconds from now until the last moment of that minute is an hour ago.
    """

    counts: float
    messages: int
    recipients: int


@dataclass(frozen=True, slots=True)
class HourlyRequest:
    """Report of an instance about one account, and its request.

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


@dataclass(frozen=True, slots=True)
class GrantRow:
    """The tokens of one grant as they are stored. `version`: the number of writes; 0: there was none.

    `lease`: with it this instance alone may spend the refresh token; None: another one may, or the caller has not seen
    this version. `age`: seconds since the write; negative after a step of the clock.
    """

    version: int
    sealed: bytes = field(repr=False)
    age: float
    lease: int | None


class SharedGrants(Protocol):
    """The tokens of grants whose refresh tokens may be spent once, in a database that several instances share.

    Guarantees: one instance at a time has the lease of a grant. It ends with its use, or with the leases of the
    instance, but not before a request that was begun at once has ended. A call raises SpoolError if it had no effect.
    """

    def on_change(self, changed: Callable[[str], None]) -> None:
        """Call `changed` with a grant of which another instance has ended its lease."""
        ...

    async def take(self, grant: str, seen: int) -> GrantRow:
        """Read the row; take the lease if `seen` is its version and no other instance has it."""
        ...

    async def put(self, grant: str, lease: int, sealed: bytes) -> int | None:
        """Store the tokens and end the lease; the new version. None: the lease had ended, and nothing was stored.

        A call with the same octets again has the same result.
        """
        ...

    async def give_back(self, grant: str, lease: int) -> None:
        """End the lease, unless it has ended: there is nothing to store."""
        ...

    async def read_all(self, grants: Collection[str]) -> Sequence[tuple[str, bytes]]:
        """The stored tokens of these grants, as they are sealed."""
        ...

    async def reseal(self, grant: str, before: bytes, sealed: bytes) -> None:
        """Replace these octets by the same tokens under another seal, unless they have changed."""
        ...

    async def remove(self, grants: Collection[str]) -> None:
        """Delete the rows of grants that are no more."""
        ...
