"""Hourly limits that all instances share: relay.shared_ports.SharedHourlyLimits in the database.

Guarantees: a use counts for sixty minutes and up to seventy seconds more: the minutes are rounded, and the instances
know the server's clock to five seconds. While this instance has not noticed a step of that clock nothing is granted.
Not here: the sums (schema/0003_hourly_limits.sql), portions at an instance (delivery.shared_quota).
"""

from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, Final

from senderproxy.relay.ports import SpoolError
from senderproxy.relay.shared_ports import (
    HourlyAmounts,
    HourlyGrant,
    HourlyLimits,
    HourlyRequest,
    SharedHourlyLimits,
)
from senderproxy.spool.postgresql.connections import Connections, DatabaseConnection
from senderproxy.spool.postgresql.instance import Instance
from senderproxy.spool.postgresql.server_time import ServerTime
from senderproxy.translation import _

_MARGIN: Final = 10_000  # milliseconds; two instances know the server's clock to five seconds each
_EXCHANGE: Final = (
    "SELECT * FROM exchange_hourly($1, $2, $3, $4, $5, $6::bigint[], $7::integer[], $8::integer[],"
    " $9, $10, $11, $12, $13, $14, $15, $16)"
)
_EXCHANGED: Final = "SELECT exchange = $3 FROM hourly_portion WHERE account = $1 AND instance = $2"
EXPIRE: Final = "DELETE FROM hourly_use WHERE counts_until < $1"


class DatabaseHourlyLimits(SharedHourlyLimits):
    """The hourly limits as one instance uses them."""

    def __init__(self, connections: Connections, instance: Instance, time: ServerTime) -> None:
        self._connections = connections
        self._instance = instance
        self._time = time
        self._numbers = count(1)
        self._wanted: Callable[[str], None] = lambda _account: None
        self._returned: Callable[[str], None] = lambda _account: None

    @property
    def instance(self) -> int | None:
        """See relay.shared_ports.SharedHourlyLimits."""
        return None if self._instance.is_lost else self._instance.number

    def on_notice(self, wanted: Callable[[str], None], returned: Callable[[str], None]) -> None:
        """See relay.shared_ports.SharedHourlyLimits."""
        self._wanted, self._returned = wanted, returned
        self._instance.on_limits = self._noticed

    async def exchange(self, request: HourlyRequest) -> HourlyGrant:
        """See relay.shared_ports.SharedHourlyLimits."""
        self._instance.check()
        instance, number = self._instance.number, next(self._numbers)
        used_until = [self._counts_until(used.counts, used.messages, used.recipients) for used in request.used]

        async def work(connection: DatabaseConnection) -> HourlyGrant | None:
            now = self._time.now()
            row = await connection.fetchrow(
                _EXCHANGE,
                request.account,
                instance,
                number,
                now,
                self._time.stepped,
                used_until,
                [used.messages for used in request.used],
                [used.recipients for used in request.used],
                request.kept.messages,
                request.kept.recipients,
                request.needed.messages,
                request.needed.recipients,
                request.with_spare,
                request.is_answer,
                request.limits.messages,
                request.limits.recipients,
            )
            return None if row is None else _grant(row, now)

        async def was_committed(connection: DatabaseConnection) -> bool:
            return bool(await connection.fetchval(_EXCHANGED, request.account, instance, number))

        grant = await self._connections.write(work, was_committed)
        if grant is None:
            raise SpoolError(_("The clock of the database server was set: hourly limits are unknown for a moment."))
        return grant

    async def expire(self) -> None:
        """Delete what counts no more. To be called now and then: an exchange deletes that of its account."""
        before = self._time.now() - _MARGIN

        async def was_committed(_connection: DatabaseConnection) -> bool:
            return True  # what was not deleted is deleted the next time

        await self._connections.write(lambda connection: connection.execute(EXPIRE, before), was_committed)

    def _counts_until(self, seconds: float, messages: int, recipients: int) -> int:
        """The server's time until which a use counts. What is taken back ends sooner than the use that it is of."""
        margin = -_MARGIN if messages < 0 or recipients < 0 else _MARGIN
        return self._time.now() + round(seconds * 1000) + margin

    def _noticed(self, payload: str) -> None:
        sender, what, account = payload.split(" ", 2)
        if sender == str(self._instance.number):
            return
        (self._wanted if what == "wanted" else self._returned)(account)


def _grant(row: Mapping[str, Any], now: int) -> HourlyGrant:
    """The answer of the database. `now`: milliseconds since 1970."""
    enough_at = row["enough_at"]
    return HourlyGrant(
        HourlyAmounts(row["granted_messages"], row["granted_recipients"]),
        bool(row["is_enough"]),
        HourlyLimits(row["left_messages"], row["left_recipients"]),
        bool(row["is_held_elsewhere"]),
        None if enough_at is None else max(0, enough_at - now) / 1000 + 1,
    )
