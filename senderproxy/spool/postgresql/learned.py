"""Table of learned facts: statements and limits.

Guarantees: of each kind the table has a limited number of rows and octets; the ones written longest ago are deleted.
Not here: the facts and the time of writing (relay.learned_state).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from senderproxy.relay.ports import LEARNED_OCTETS_LIMIT, LEARNED_ROWS_LIMIT, LearnedRow
from senderproxy.spool.postgresql.connections import DatabaseConnection
from senderproxy.spool.postgresql.instance import LEARNED_CHANNEL

READ_SOME: Final = "SELECT key, value, updated_at FROM learned WHERE key = ANY($1::text[])"
READ: Final = "SELECT key, value, updated_at FROM learned ORDER BY updated_at, key"
WRITE: Final = (
    "INSERT INTO learned (key, value, updated_at) VALUES ($1, $2, $3)"
    " ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at"
)
DELETE: Final = "DELETE FROM learned WHERE key = ANY($1::text[])"
_PAYLOAD: Final = 7000  # octets of one notice; PostgreSQL allows 8000
_NOTIFY: Final = f"SELECT pg_notify('{LEARNED_CHANNEL}', $1)"
_LOCK: Final = (
    "SELECT pg_advisory_xact_lock($1)"  # two batches with the same keys in another order would lock each other
)
_LOCK_NUMBER: Final = 0x53504C  # "SPL": any number that all instances share
# Of one kind, newest first with the totals up to each row: the rows above a limit are deleted.
LIMIT: Final = (
    "DELETE FROM learned WHERE key IN (SELECT key FROM (SELECT key,"
    " count(*) OVER newest AS rows, sum(length(key) + length(value)) OVER newest AS octets"
    " FROM learned WHERE key >= $1 AND key < $2"
    " WINDOW newest AS (ORDER BY updated_at DESC, key DESC ROWS UNBOUNDED PRECEDING)) AS counted"
    " WHERE rows > $3 OR octets > $4)"
)


async def read(connection: DatabaseConnection, now: int) -> Sequence[LearnedRow]:
    """All rows, the oldest first. `now`: milliseconds since 1970."""
    return [LearnedRow(key, value, max(0, now - at) / 1000) for key, value, at in await connection.fetch(READ)]


async def read_some(connection: DatabaseConnection, keys: Sequence[str], now: int) -> Sequence[LearnedRow]:
    """The rows with these keys."""
    found = await connection.fetch(READ_SOME, keys)
    return [LearnedRow(key, value, max(0, now - at) / 1000) for key, value, at in found]


async def notify(connection: DatabaseConnection, instance: int, keys: Iterable[str]) -> None:
    """Tell the other instances that rows with these keys were written or deleted, when the transaction is committed."""
    part: list[str] = []
    size = 0
    for key in keys:
        octets = len(key.encode()) + 1
        if part and size + octets > _PAYLOAD:
            await connection.execute(_NOTIFY, f"{instance} " + "\n".join(part))
            part, size = [], 0
        part.append(key)
        size += octets
    if part:
        await connection.execute(_NOTIFY, f"{instance} " + "\n".join(part))


async def write(connection: DatabaseConnection, values: Mapping[str, str | None], now: int) -> None:
    """Write, replace or delete rows, and keep each kind within its limits."""
    await connection.execute(_LOCK, _LOCK_NUMBER)
    lines = [(key, value, now) for key, value in values.items() if value is not None]
    if lines:
        await connection.executemany(WRITE, lines)
    gone = [key for key, value in values.items() if value is None]
    if gone:
        await connection.execute(DELETE, gone)
    for kind in sorted({key.partition("/")[0] for key, _value, _now in lines}):
        # 0 follows / in ASCII
        await connection.execute(LIMIT, f"{kind}/", f"{kind}0", LEARNED_ROWS_LIMIT, LEARNED_OCTETS_LIMIT)
