"""Interfaces to the state that several instances share, with their guarantees. PURE.

Not here: the use of the shared state (delivery.shared_quota, delivery.shared_connections,
accounts.shared_refresh_tokens), the database (spool.postgresql.hourly_limits, spool.postgresql.connection_slots,
spool.postgresql.grants).
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from enum import Enum
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


class ReachedLimit(Enum):
    """The limit that forbids a session."""

    ACCOUNT = "account"
    SERVER = "server"


@dataclass(frozen=True, slots=True)
class SlotRequest:
    """The request for one more session of an account at a server.

    `sessions`: those of the account at this instance, with this one. `limit`: of the account, in all instances.
    `is_urgent`: the instance has no other session of the account, so that the other instances are asked for one.
    `server_limit`: of all accounts at the server, in all instances; None: no limit is known. `is_first`: the instance
    has no session there, so that the others are asked for one.
    """

    account: str
    sessions: int
    limit: int
    is_urgent: bool
    server: str
    server_limit: int | None
    is_first: bool


@dataclass(frozen=True, slots=True)
class SlotReport:
    """The number of sessions of an account at this instance. `for_account`, `for_server`: others wait for one."""

    account: str
    sessions: int
    server: str
    for_account: bool = False
    for_server: bool = False


@dataclass(frozen=True, slots=True)
class SlotNotices:
    """The functions that are called for what other instances ask and report, each with an account or a server.

    `wanted`: another instance has no session, and may open none. `freed`: one was closed after such a request.
    `renewed`: all numbers of this instance have to be reported again.
    """

    wanted: Callable[[str], None]
    freed: Callable[[str], None]
    wanted_at: Callable[[str], None]
    freed_at: Callable[[str], None]
    renewed: Callable[[], None]


class ConnectionSlots(Protocol):
    """The number of sessions of each account at each instance, in a database that the instances share.

    Guarantees: the numbers of an instance end with its leases. The sums of what was taken are never above a limit that
    all requests have named. Calls raise SpoolError.
    """

    def on_notice(self, notices: SlotNotices) -> None:
        """Call these functions from now on."""
        ...

    async def take(self, request: SlotRequest) -> ReachedLimit | None:
        """Report the sessions with the one that is requested; if a limit forbids it, without that one."""
        ...

    async def report(self, report: SlotReport) -> None:
        """Report the number of sessions."""
        ...

    async def refused(self, report: SlotReport, *, is_first: bool) -> int:
        """Report the sessions after the server refused a further one; the number of all sessions there.

        `is_first`: the instance has no session there, so that the others are asked for one.
        """
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
