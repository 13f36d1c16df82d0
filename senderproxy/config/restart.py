"""Settings that a reload cannot change. PURE.

Guarantees: RESTART_ONLY lists all of them, and RESTART_SWITCHES the settings of which only switching on and off needs a
restart; every other change is in force after a reload.
Not here: the reload (app), which refuses the whole configuration if one of them changed.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from senderproxy.config.model import Config

RESTART_ONLY: Final[Mapping[str, Callable[[Config], object]]] = MappingProxyType(
    {
        "vault.path": lambda config: config.vault.path,
        "vault.directory": lambda config: config.vault.directory,
        "vault.unlock": lambda config: config.vault.unlock,
        "spool.engine": lambda config: config.spool.engine,
        "spool.engine_password": lambda config: config.spool.engine_password,
        "spool.engine_ca_file": lambda config: config.spool.engine_ca_file,
        "spool.directory": lambda config: config.spool_directory,
        "service.control_socket": lambda config: config.service.control_socket,
        "web.role": lambda config: config.web.role,
        "web.sockets": lambda config: config.web.sockets,
        "metrics.addresses": lambda config: config.metrics.addresses,
    }
)

# A library is imported, or not, before the start is over: an update replaces its files below the running service.
RESTART_SWITCHES: Final[Mapping[str, Callable[[Config], object]]] = MappingProxyType(
    {"metrics.listen": lambda config: config.metrics.listen is not None}
)


def needs_restart(old: Config, new: Config) -> tuple[str, ...]:
    """The names of the settings that differ and cannot change while the service runs."""
    changes = (*RESTART_ONLY.items(), *RESTART_SWITCHES.items())
    return tuple(name for name, value in changes if value(old) != value(new))
