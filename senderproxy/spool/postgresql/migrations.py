"""Tables of the spool, and their changes from format to format.

Guarantees: a migration is one transaction under a lock that a second one waits for. It is refused while an instance
runs whose program is older than the new format allows; every other running instance goes on. The role of the service
may read and write rows, and change no table.
Not here: the rows.
"""

import re
from importlib.resources import files
from typing import Final

import asyncpg

from senderproxy.relay.ports import SpoolError
from senderproxy.spool.postgresql.connections import DatabaseConnection, connect, spool_error
from senderproxy.spool.postgresql.target import DatabaseTarget
from senderproxy.translation import _

_LOCK: Final = 0x53504D  # advisory lock of a migration
_OLDEST: Final = re.compile(r"^-- oldest: (\d+)$", re.MULTILINE)
_NAME: Final = re.compile(r"(\d{4})_[a-z_]+\.sql")

_FORMAT_TABLE: Final = """
CREATE SCHEMA IF NOT EXISTS senderproxy;
CREATE TABLE IF NOT EXISTS senderproxy.format (
    number integer PRIMARY KEY,
    oldest integer NOT NULL, -- the format of the oldest program that may use the tables
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
"""


def scripts() -> list[str]:
    """The migrations in order; the first one makes format 1."""
    folder = files("senderproxy.spool.postgresql") / "schema"
    return [
        entry.read_text(encoding="utf-8")
        for entry in sorted(folder.iterdir(), key=lambda one: one.name)
        if _NAME.fullmatch(entry.name)
    ]


def oldest_of(script: str) -> int:
    """The format of the oldest program that can use the tables after this migration."""
    found = _OLDEST.search(script)
    if found is None:
        raise ValueError("the script does not name the oldest program that it allows")
    return int(found.group(1))


async def migrate(owner: DatabaseTarget, service_role: str) -> tuple[int, int]:
    """Bring the tables to the newest format; the formats before and after. Raises SpoolError.

    `owner`: a login that may create a schema; the tables become its own. `service_role`: gets its rights.
    """
    connection = await _connect(owner)
    try:
        await connection.execute("BEGIN")
        before, after = await _migrate(connection, service_role)
        await connection.execute("COMMIT")
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise spool_error(_("The tables of the spool cannot be changed"), error) from error
    finally:
        await connection.close(timeout=5)
    return before, after


async def _connect(owner: DatabaseTarget) -> DatabaseConnection:
    try:
        return await connect(owner, lock_timeout="60s")
    except SpoolError as error:
        if not isinstance(error.__cause__, asyncpg.InvalidAuthorizationSpecificationError):
            raise
        hint = _("Compare the password that you typed with that of role {role} on the database server (pg_hba.conf).")
        raise SpoolError(error.message, hint=hint.format(role=owner.user)) from error


async def _migrate(connection: DatabaseConnection, service_role: str) -> tuple[int, int]:
    await connection.execute("SELECT pg_catalog.pg_advisory_xact_lock($1)", _LOCK)
    await connection.execute(_FORMAT_TABLE)
    before = await connection.fetchval("SELECT coalesce(max(number), 0) FROM format")
    wanted = scripts()
    for number, script in enumerate(wanted[before:], before + 1):
        oldest = oldest_of(script)
        if before:
            running = await connection.fetch(
                "SELECT name FROM instance WHERE format < $1 AND alive_until > clock_timestamp() ORDER BY name", oldest
            )
            if running:
                raise SpoolError(
                    _("Instances of an older version still run: {names}.").format(
                        names=", ".join(row["name"] for row in running)
                    ),
                    hint=_("Update and restart these instances first."),
                )
        await connection.execute(script)
        await connection.execute("INSERT INTO format (number, oldest) VALUES ($1, $2)", number, oldest)
    quoted = await connection.fetchval("SELECT pg_catalog.quote_ident($1)", service_role)
    await connection.execute(f"GRANT USAGE ON SCHEMA senderproxy TO {quoted}")
    await connection.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA senderproxy TO {quoted}")
    await connection.execute(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA senderproxy TO {quoted}")
    await connection.execute(f"GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA senderproxy TO {quoted}")
    await connection.execute(f"REVOKE INSERT, UPDATE, DELETE ON format FROM {quoted}")
    return before, max(before, len(wanted))


async def check_format(connection: DatabaseConnection) -> None:
    """Raises SpoolError if this program cannot use the tables as they are."""
    program = len(scripts())
    hint = _("senderproxy spool migrate --owner ROLE")
    exists = await connection.fetchval("SELECT pg_catalog.to_regclass('senderproxy.format') IS NOT NULL")
    if not exists:
        raise SpoolError(_("The database has no tables of senderproxy yet."), hint=hint)
    number, oldest = await connection.fetchrow("SELECT number, oldest FROM format ORDER BY number DESC LIMIT 1") or (
        0,
        0,
    )
    if number < program:
        message = _("The tables of the spool have format {number}, this version needs format {program}.")
        raise SpoolError(message.format(number=number, program=program), hint=hint)
    if program < oldest:
        message = _("The tables of the spool have format {number}, which this version is too old for.")
        raise SpoolError(message.format(number=number), hint=_("Update senderproxy on this machine."))
