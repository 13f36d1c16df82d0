"""Which session carries the next message: one that is warm, a new one, or none yet.

Guarantees: only a session with the same login, the same secret and the same smarthosts is ever chosen; the warmest
first (LIFO), so that those that are not needed grow cold and are closed; never more sessions than the account may
have; never two logins of one account at a time, so that a wrong password costs one failed login whatever is waiting.
Not here: having sessions (pool), what the time is.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Seat:
    """One open session, as far as this decision goes."""

    number: int
    fits: bool  # the login, secret and smarthosts asked for
    busy: bool
    carried: int  # messages the upstream took on it
    opened_at: float
    idle_since: float


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """What the account may do at its provider, as written down and as learnt."""

    connections: int
    messages_per_connection: int | None
    idle_seconds: float


@dataclass(frozen=True, slots=True)
class Reuse:
    """Take this one."""

    number: int


@dataclass(frozen=True, slots=True)
class Open:
    """Log in anew."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Until a session is free, or the login under way is done."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What to do now, and which sessions to close first."""

    what: Reuse | Open | Wait
    close: tuple[int, ...] = ()


def choose(
    seats: Sequence[Seat],
    terms: PoolLimits,
    *,
    opening: bool,
    closing: int,
    now: float,
    opened_since: float | None = None,
) -> Choice:
    """Choose for the message that waits longest. `opened_since`: only a session opened then or later will do."""
    stale = tuple(seat.number for seat in seats if not seat.busy and (not seat.fits or is_worn(seat, terms, now)))
    idle = [seat for seat in seats if not seat.busy and seat.number not in stale]
    usable = [seat for seat in idle if opened_since is None or seat.opened_at >= opened_since]
    if usable:
        return Choice(Reuse(max(usable, key=lambda seat: (seat.idle_since, seat.number)).number), stale)
    if opening:
        return Choice(Wait(), stale)
    taken = len(seats) + closing  # a session counts until the upstream has seen it closed
    if taken < terms.connections:
        return Choice(Open(), stale)
    if idle and not stale and not closing:
        coldest = min(idle, key=lambda seat: (seat.idle_since, seat.number))
        return Choice(Wait(), (coldest.number,))  # its place is wanted; the next look opens
    return Choice(Wait(), stale)


def is_worn(seat: Seat, terms: PoolLimits, now: float) -> bool:
    """True where the session has carried its share, or has been idle too long to be trusted."""
    if terms.messages_per_connection is not None and seat.carried >= terms.messages_per_connection:
        return True
    return not seat.busy and now - seat.idle_since >= terms.idle_seconds


def next_look(seats: Sequence[Seat], terms: PoolLimits) -> float | None:
    """When the first idle session will have been idle too long; None where none is idle."""
    return min((seat.idle_since + terms.idle_seconds for seat in seats if not seat.busy), default=None)
