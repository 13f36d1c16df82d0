"""Settings that a reload cannot change. PURE.

Guarantees: RESTART_ONLY lists all of them; every other setting is in force after a reload.
Not here: the reload (app), which refuses the whole configuration if one of them changed.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from senderproxy.config.model import Config

RESTART_ONLY: Final[Mapping[str, Callable[[Config], object]]] = MappingProxyType(
    {
        "vault.path": lambda config: config.vault.path,
        "vault.unlock": lambda config: config.vault.unlock,
        "spool.directory": lambda config: config.spool_directory,
        "service.control_socket": lambda config: config.service.control_socket,
    }
)


def needs_restart(old: Config, new: Config) -> tuple[str, ...]:
    """The names of the settings that differ and cannot change while the service runs."""
    return tuple(name for name, value in RESTART_ONLY.items() if value(old) != value(new))
