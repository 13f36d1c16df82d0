"""Place of the vault that the configuration names: its file, or the spool's database.

Guarantees: a process has one store for each database; the connections are closed when it ends.
Not here: the store (accounts.database_store), its construction (service.postgresql).
"""

import atexit
from typing import Final

from senderproxy.accounts.database_store import DatabaseStore
from senderproxy.accounts.vault_place import VaultPlace, has_vault
from senderproxy.config.model import Config
from senderproxy.errors import SenderproxyError
from senderproxy.late_import import late_import

_stores: Final[dict[tuple[str | None, ...], DatabaseStore]] = {}


def vault_place(config: Config) -> VaultPlace:
    """The place of the vault, whether there is one or not. Raises SenderproxyError."""
    if not config.vault.in_database:
        return config.vault.path
    spool = config.spool
    key = (spool.engine, spool.engine_password, spool.engine_ca_file, config.vault.files)
    if (store := _stores.get(key)) is None:
        with late_import():
            from senderproxy.service.postgresql import vault_store
        store = _stores[key] = vault_store(config)
        atexit.register(store.close)
    return store


def may_need_key(place: VaultPlace) -> bool:
    """True if a command that failed may have left a vault in a database, where nothing is rolled back."""
    if not isinstance(place, DatabaseStore):
        return False
    try:
        return has_vault(place)
    except SenderproxyError:
        return True
