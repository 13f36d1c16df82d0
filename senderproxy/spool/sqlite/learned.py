"""Table of learned facts: statements and limits.

Guarantees: of each kind the table has a limited number of rows and octets; the ones written longest ago are deleted.
Not here: the facts and the time of writing (relay.learned_state).
"""

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path

from senderproxy.relay.ports import LEARNED_OCTETS_LIMIT, LEARNED_ROWS_LIMIT, LearnedRow
from senderproxy.spool.sqlite import rows
from senderproxy.spool.sqlite.database import NAME, as_spool_errors, check_file, connect
from senderproxy.spool.sqlite.spool_folder import SpoolFolder
from senderproxy.translation import _


def read(connection: sqlite3.Connection, now: datetime) -> Sequence[LearnedRow]:
    """Return all rows, the oldest first. The age of a row from the future, after a step of the clock, is 0."""
    at = rows.to_ms(now)
    found = connection.execute("SELECT key, value, updated_at FROM learned ORDER BY updated_at, key")
    return [LearnedRow(key, value, max(0, at - updated_at) / 1000) for key, value, updated_at in found]


def write(
    connection: sqlite3.Connection,
    values: Mapping[str, str | None],
    now: datetime,
    *,
    rows_limit: int = LEARNED_ROWS_LIMIT,
    octets_limit: int = LEARNED_OCTETS_LIMIT,
) -> None:
    """Write, replace or delete rows, and keep each kind within its limits."""
    at = rows.to_ms(now)
    connection.executemany(
        "INSERT INTO learned (key, value, updated_at) VALUES (?, ?, ?)"
        " ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at",
        [(key, value, at) for key, value in values.items() if value is not None],
    )
    connection.executemany("DELETE FROM learned WHERE key = ?", [(key,) for key in values if values[key] is None])
    for kind in sorted({key.partition("/")[0] for key, value in values.items() if value is not None}):
        _limit(connection, kind, rows_limit, octets_limit)


def _limit(connection: sqlite3.Connection, kind: str, rows_limit: int, octets_limit: int) -> None:
    """Delete the oldest rows of a kind until it is within both limits."""
    of_kind = (f"{kind}/", f"{kind}0")  # 0 follows / in ASCII
    count, octets = connection.execute(
        "SELECT count(*), coalesce(sum(length(key) + length(value)), 0) FROM learned WHERE key >= ? AND key < ?",
        of_kind,
    ).fetchone()
    if count <= rows_limit and octets <= octets_limit:
        return
    oldest = connection.execute(
        "SELECT key, length(key) + length(value) FROM learned WHERE key >= ? AND key < ? ORDER BY updated_at, key",
        of_kind,
    ).fetchall()
    for key, size in oldest:
        if count <= rows_limit and octets <= octets_limit:
            return
        connection.execute("DELETE FROM learned WHERE key = ?", (key,))
        count, octets = count - 1, octets - size


def forget(directory: Path, keys: Sequence[str]) -> None:
    """Delete rows of a spool that no service uses; nothing if there is no spool. May block.

    Raises SpoolError, also if a service uses it.
    """
    path = directory / NAME
    with as_spool_errors(_("The spool's database {path} cannot be written").format(path=path), path):
        if not path.exists():
            return
        folder = SpoolFolder.open(directory)
        try:
            check_file(path)
            with closing(connect(path)) as connection:
                known = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'learned'").fetchone()
                if known is not None:  # else it is of an earlier version, which learned nothing
                    connection.executemany("DELETE FROM learned WHERE key = ?", [(key,) for key in keys])
        finally:
            folder.close()
