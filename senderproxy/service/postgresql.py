"""The spool in a PostgreSQL database, as the settings describe it. Loaded only with this engine.

Not here: the spool itself (spool.postgresql.store).
"""

from dataclasses import replace
from pathlib import Path
from typing import Final

from senderproxy.clock import Clock
from senderproxy.config.model import SpoolSettings
from senderproxy.config.values import EngineAddress, engine_address
from senderproxy.relay.ports import SpoolError
from senderproxy.service.secrets import SecretReader
from senderproxy.spool.postgresql.durability import DatabaseInspection, inspect_database
from senderproxy.spool.postgresql.migrations import migrate
from senderproxy.spool.postgresql.store import PostgresqlSpool
from senderproxy.spool.postgresql.target import DatabaseTarget, tls_context
from senderproxy.translation import _
from senderproxy.wiring import spool_limits_of
from senderproxy.worker_threads import WorkerThreads, WorkerThreadsError

_FILES: Final = WorkerThreads("database")  # its thread is started by the first file of authorities
_SECRETS: Final = SecretReader()  # its thread is started by the first password


async def target_of(settings: SpoolSettings) -> DatabaseTarget:
    """The database in these settings. Raises SpoolError."""
    found = engine_address(settings.engine)
    assert found is not None
    ca_file = None if settings.engine_ca_file is None else Path(settings.engine_ca_file)
    try:
        tls = await _FILES.do(tls_context, found.host, ca_file)
    except WorkerThreadsError as error:
        raise SpoolError(_("The system has no thread left to read {path}.").format(path=ca_file)) from error
    place = settings.engine_password

    async def password() -> str:
        assert place is not None
        return await _SECRETS.read(place)

    return DatabaseTarget(*found, password=None if place is None else password, tls=tls)


async def open_postgresql(settings: SpoolSettings, clock: Clock) -> PostgresqlSpool:
    """Open the spool. Raises SpoolError with a hint."""
    return await PostgresqlSpool.open(await target_of(settings), clock, spool_limits_of(settings))


async def inspect(settings: SpoolSettings) -> DatabaseInspection:
    """The state of the database, without a service. Raises SpoolError."""
    return await inspect_database(await target_of(settings))


async def migrate_tables(settings: SpoolSettings, address: EngineAddress, owner: str, secret: str) -> tuple[int, int]:
    """Make the tables, or bring them up to date, as their owner; the formats before and after. Raises SpoolError."""

    async def password() -> str:
        return secret

    target = await target_of(settings)
    return await migrate(replace(target, user=owner, password=password if secret else None), address.user)
