"""Place of a vault: a file of this machine, or the row of a database that several machines share.

Not here: the store over the row (accounts.database_store), the setting (config.model), its opening (cli.vault_place).
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeAlias

from senderproxy.accounts.database_store import DatabaseStore
from senderproxy.accounts.errors import accounts_error
from senderproxy.aio import call_in_loop
from senderproxy.worker_threads import WorkerThreads, WorkerThreadsError
from vault import VaultError

VaultPlace: TypeAlias = Path | str | DatabaseStore  # a path is that of the file


def files_of(place: VaultPlace) -> Path:
    """The path with which the names of this machine's files about the vault begin: that of the vault's file itself."""
    return place.files if isinstance(place, DatabaseStore) else Path(place)


def watch(place: VaultPlace) -> None:
    """From now on ask a database for changes beside the caller, for a service. Blocks. Raises AccountsError."""
    if isinstance(place, DatabaseStore):
        try:
            place.watch()
        except VaultError as error:
            raise accounts_error(error) from error


def call_on_change(place: VaultPlace, call: Callable[[], object]) -> None:
    """Call this on the running event loop when a database has another vault, or no longer answers, after `watch`."""
    if not isinstance(place, DatabaseStore):
        return
    place.on_change = partial(call_in_loop, asyncio.get_running_loop(), call)


async def look_now(place: VaultPlace, threads: WorkerThreads) -> None:
    """Ask a database for changes now: it is asked once a second otherwise."""
    if isinstance(place, DatabaseStore):
        with suppress(WorkerThreadsError, RuntimeError):  # RuntimeError: the system has no thread left
            await threads.do(place.look)


def has_vault(place: VaultPlace) -> bool:
    """True if there is a vault. Raises AccountsError if a database does not answer."""
    if not isinstance(place, DatabaseStore):
        return Path(place).exists()
    try:
        return place.fingerprint() is not None
    except VaultError as error:
        raise accounts_error(error) from error
