"""The spool in a PostgreSQL database, and the vault there, as the settings describe them. Loaded only with this engine.

Not here: the spool itself (spool.postgresql.store), the vault's row (spool.postgresql.vault_row).
"""

import ssl
from dataclasses import replace
from pathlib import Path
from typing import Final

from senderproxy.accounts.database_store import DatabaseStore
from senderproxy.accounts.errors import VaultDiskError
from senderproxy.clock import Clock
from senderproxy.config.model import Config, SpoolSettings
from senderproxy.config.values import EngineAddress, engine_address
from senderproxy.relay.ports import SpoolError
from senderproxy.service.secrets import SecretReader
from senderproxy.spool.postgresql.durability import DatabaseInspection, inspect_database
from senderproxy.spool.postgresql.migrations import migrate
from senderproxy.spool.postgresql.store import PostgresqlSpool
from senderproxy.spool.postgresql.target import DatabaseTarget, tls_context
from senderproxy.spool.postgresql.vault_row import VaultRow
from senderproxy.translation import _
from senderproxy.wiring import spool_limits_of
from senderproxy.worker_threads import WorkerThreads, WorkerThreadsError

_FILES: Final = WorkerThreads("database")  # its thread is started by the first file of authorities
_SECRETS: Final = SecretReader()  # its thread is started by the first password


async def target_of(settings: SpoolSettings) -> DatabaseTarget:
    """The database in these settings. Raises SpoolError."""
    try:
        tls = await _FILES.do(_tls_of, settings)
    except WorkerThreadsError as error:
        path = settings.engine_ca_file
        raise SpoolError(_("The system has no thread left to read {path}.").format(path=path)) from error
    return _target(settings, tls, _SECRETS)


def _tls_of(settings: SpoolSettings) -> ssl.SSLContext | None:
    """See tls_context. May block. Raises SpoolError."""
    ca_file = None if settings.engine_ca_file is None else Path(settings.engine_ca_file)
    return tls_context(_address(settings).host, ca_file)


def _address(settings: SpoolSettings) -> EngineAddress:
    found = engine_address(settings.engine)
    assert found is not None
    return found


def _target(settings: SpoolSettings, tls: ssl.SSLContext | None, secrets: SecretReader) -> DatabaseTarget:
    place = settings.engine_password

    async def password() -> str:
        assert place is not None
        return await secrets.read(place)

    return DatabaseTarget(*_address(settings), password=None if place is None else password, tls=tls)


def vault_store(config: Config) -> DatabaseStore:
    """The vault in the spool's database. May block. Raises SpoolError, VaultDiskError."""
    secrets = SecretReader()  # another one than the spool's: the store has an event loop of its own
    row = VaultRow(_target(config.spool, _tls_of(config.spool), secrets))
    try:
        return DatabaseStore(row, config.vault_name, Path(config.vault.files))
    except RuntimeError as error:  # the system has no thread left
        raise VaultDiskError(_("The vault cannot be read: {error}.").format(error=error)) from error


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
