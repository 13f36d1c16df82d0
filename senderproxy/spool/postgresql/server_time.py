"""Time of the spool: the server's clock, which all instances share.

Guarantees: a step of an instance's own clock changes nothing. After a step of the server's clock every unfinished
message keeps the time left to its next attempt, and its age; one instance moves them, whichever notices first. No age
is returned while it is uncertain.
Not here: the heartbeat that measures (spool.postgresql.instance).
"""

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final

from senderproxy import log_events
from senderproxy.clock import Clock
from senderproxy.log import event
from senderproxy.spool.postgresql.connections import DatabaseConnection
from senderproxy.spool.sqlite import rows

_STEP: Final = 60_000  # milliseconds of difference to the monotonic clock; NTP slews smaller errors
_UNTRUSTED: Final = 600.0  # seconds after the opening or a step without trust in ages: the clock may be set again
_SLOWEST: Final = 10.0  # seconds of a measurement that counts

# Instances that renewed their leases in the time after a step have moved what waits before. Without a move, the step
# was none of the server: this machine was suspended.
_OTHERS: Final = (
    "SELECT EXISTS (SELECT 1 FROM instance WHERE number <> $1 AND alive_until > clock_timestamp()"
    " AND alive_until < clock_timestamp() + interval '1 minute')"
)
_SHIFT: Final = (
    "UPDATE recipient SET due_at = due_at + $1 WHERE due_at IS NOT NULL",
    "UPDATE message SET due_at = due_at + $1, received_at = received_at + $1 WHERE finished_at IS NULL",
    "UPDATE job SET due_at = due_at + $1, added_at = added_at + $1",
    "UPDATE instance SET alive_until = alive_until + $1 * interval '1 millisecond'",
    "UPDATE hourly_use SET counts_until = counts_until + $1",
    "UPDATE clock SET stepped = stepped + $1",
)

_log = logging.getLogger("senderproxy.spool")


async def server_clock(connection: DatabaseConnection) -> int:
    """Milliseconds since 1970 on the server."""
    now: datetime = await connection.fetchval("SELECT clock_timestamp()")
    return rows.to_ms(now)


class ServerTime:
    """The server's clock, measured with each heartbeat and kept by the monotonic clock between two of them."""

    def __init__(self, clock: Clock, read: Callable[[DatabaseConnection], Awaitable[int]] = server_clock) -> None:
        self.last_step: tuple[timedelta, datetime] | None = None  # its size and time
        self._clock = clock
        self._read = read
        self._base = 0  # milliseconds since 1970
        self._base_at = 0.0  # monotonic seconds
        self._stepped = 0  # the sum of the steps that are in the base
        self._trusted_from = 0.0  # monotonic seconds

    async def start(self, connection: DatabaseConnection) -> None:
        """Take the server's clock as it is."""
        self._stepped = await connection.fetchval("SELECT stepped FROM clock")
        self._set(await self._read(connection), self._clock.monotonic())
        self._trusted_from = self._clock.monotonic() + _UNTRUSTED

    @property
    def stepped(self) -> int:
        """The sum of the steps that are in `now`, in milliseconds."""
        return self._stepped

    def now(self) -> int:
        """Milliseconds since 1970."""
        return self._base + round((self._clock.monotonic() - self._base_at) * 1000)

    def from_machine(self, time: datetime) -> datetime:
        """A recent time of this machine's clock, by the server's."""
        here = rows.to_ms(self._clock.now())
        return time + timedelta(milliseconds=self.now() - here)

    def age(self, received_at: int) -> timedelta | None:
        """The age of a message, from milliseconds since 1970; None while ages are uncertain."""
        return timedelta(milliseconds=self.now() - received_at) if self.ages_trusted() else None

    def ages_trusted(self) -> bool:
        """True if the clock has been right for long enough to let messages expire."""
        return self._clock.monotonic() >= self._trusted_from

    async def measure(self, connection: DatabaseConnection) -> int:
        """Read the server's clock; the milliseconds of a step of it, which are to be moved (`move`); 0: none."""
        begun = self._clock.monotonic()
        read = await self._read(connection)
        ended = self._clock.monotonic()
        if ended - begun > _SLOWEST:
            return 0
        middle = (begun + ended) / 2
        step = read - self._base - round((middle - self._base_at) * 1000)
        if abs(step) < _STEP:
            self._set(read, middle)
            return 0
        return step

    async def move(self, connection: DatabaseConnection, instance: int, step: int) -> int:
        """Take over a step of the clock, and move what waits, unless another instance has done so or the step was none.

        No transaction may be open. Returns the milliseconds by which it was moved since the last step.
        """
        moved = await self._move(connection, instance, step)
        self._base += step
        self._trusted_from = self._clock.monotonic() + _UNTRUSTED
        self.last_step = timedelta(milliseconds=step), self._clock.now()
        event(_log, log_events.CLOCK_STEPPED, seconds=step / 1000)
        return moved

    def _set(self, base: int, at: float) -> None:
        self._base, self._base_at = base, at

    async def _move(self, connection: DatabaseConnection, instance: int, step: int) -> int:
        """As `move`, in the database."""
        await connection.execute("BEGIN")
        try:
            stepped: int = await connection.fetchval("SELECT stepped FROM clock FOR UPDATE")
            left = step - (stepped - self._stepped)
            if abs(left) >= _STEP and not await connection.fetchval(_OTHERS, instance):
                for statement in _SHIFT:
                    await connection.execute(statement, left)
                stepped += left
            await connection.execute("COMMIT")
        except BaseException:
            await connection.execute("ROLLBACK")
            raise
        moved, self._stepped = stepped - self._stepped, stepped
        return moved
