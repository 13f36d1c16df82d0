"""The configuration file of a command, and what its options change in the configuration.

Not here: the reading (config.load; for the service, config.reader).
"""

import argparse
import os
from pathlib import Path
from typing import Final

from senderproxy.accounts.unlock import MOUNTED_KEY
from senderproxy.cli.errors import InputError
from senderproxy.config.model import Config
from senderproxy.translation import _

SYSTEM_CONFIG: Final = Path("/etc/senderproxy/senderproxy.toml")


def config_path(chosen: argparse.Namespace) -> Path:
    """The configuration file: `--config`, $SENDERPROXY_CONFIG, the system's, the user's. Raises InputError."""
    if chosen.config:
        return Path(chosen.config)
    if named := os.environ.get("SENDERPROXY_CONFIG"):
        return Path(named)
    own = user_config()
    for path in (SYSTEM_CONFIG, own):
        if path.exists():
            return path
    raise InputError(
        _("There is no configuration: neither {system} nor {own}.").format(system=SYSTEM_CONFIG, own=own),
        hint="senderproxy setup",
    )


def user_config() -> Path:
    """The configuration file of a user other than root."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "senderproxy" / "senderproxy.toml"


def with_chosen_unlock(config: Config, chosen: argparse.Namespace) -> Config:
    """The configuration with `--unlock` in place of its `vault.unlock`.

    Without the option, $SENDERPROXY_VAULT_KEY_FILE names a key that a container's runtime has mounted.
    """
    unlock = getattr(chosen, "unlock", None)
    if not unlock and (mounted := os.environ.get("SENDERPROXY_VAULT_KEY_FILE")):
        unlock = f"{MOUNTED_KEY}:{mounted}"
    if not unlock:
        return config
    return config.model_copy(update={"vault": config.vault.model_copy(update={"unlock": unlock})})
