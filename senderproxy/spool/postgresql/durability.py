"""Durability of the database, and its inspection without joining the instances.

Guarantees: says what a failure of the server can cost, and no more than the server tells an ordinary role.
Not here: the words for an operator (cli.check_local, service.status).
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

import asyncpg

from senderproxy.relay.ports import SpoolError
from senderproxy.spool.postgresql import search
from senderproxy.spool.postgresql.connections import DatabaseConnection, connect, spool_error
from senderproxy.spool.postgresql.migrations import check_format
from senderproxy.spool.postgresql.server_time import server_clock
from senderproxy.spool.postgresql.target import DatabaseTarget
from senderproxy.translation import _

_SETTINGS: Final = (
    "SELECT current_setting('fsync') = 'on' AND current_setting('full_page_writes') = 'on',"
    " current_setting('synchronous_standby_names'), current_setting('synchronous_commit')"
)
# An ordinary role sees that something receives the log, and not what it is.
_HAS_STANDBY: Final = "SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_replication)"
# The service uses partitions through their table, and only reads `format`.
_WITHOUT_RIGHTS: Final = (
    "SELECT relname FROM pg_catalog.pg_class WHERE relnamespace = 'senderproxy'::regnamespace"
    " AND relkind IN ('r', 'p') AND NOT relispartition AND relname <> 'format' AND NOT ("
    + " AND ".join(f"has_table_privilege(oid, '{one}')" for one in ("SELECT", "INSERT", "UPDATE", "DELETE"))
    + ") ORDER BY relname LIMIT 1"
)


class Durability(Enum):
    """Survival of acknowledged mail, in the words of `status` as JSON: never changed."""

    STANDBY = "standby"  # a commit waits for a standby: acknowledged mail survives the loss of the server
    SERVER = "server"  # acknowledged mail is on the server alone when it is acknowledged
    NONE = "none"  # the server does not sync: a crash of its machine can lose acknowledged mail


@dataclass(frozen=True, slots=True)
class DatabaseInspection:
    """A database that a service can use."""

    waiting: int  # messages
    held: int  # messages
    durability: Durability
    lacks_standby: bool = False  # commits wait for a standby, and none is connected: nothing is committed


async def durability(connection: DatabaseConnection) -> Durability:
    """The durability of a commit on this connection."""
    syncs, standbys, commit = await connection.fetchrow(_SETTINGS)
    if not syncs or commit == "off":
        return Durability.NONE
    return Durability.STANDBY if standbys.strip() and commit != "local" else Durability.SERVER


async def _check_rights(connection: DatabaseConnection) -> None:
    """Raises SpoolError if the role may not write a table."""
    if (table := await connection.fetchval(_WITHOUT_RIGHTS)) is not None:
        message = _("The role of the service may not read and write table {table}.")
        raise SpoolError(message.format(table=table), hint=_("senderproxy spool migrate --owner ROLE"))


async def inspect_database(target: DatabaseTarget) -> DatabaseInspection:
    """Connect and check as a service does. Raises SpoolError."""
    connection = await connect(target)
    try:
        await check_format(connection)
        await _check_rights(connection)
        totals = await search.totals(connection, await server_clock(connection))
        found = await durability(connection)
        lacks_standby = found is Durability.STANDBY and not await connection.fetchval(_HAS_STANDBY)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise spool_error(_("The spool's database cannot be used"), error) from error
    finally:
        connection.terminate()
    waiting, held = sum(one.waiting for one in totals), sum(one.held for one in totals)
    return DatabaseInspection(waiting, held, found, lacks_standby)
