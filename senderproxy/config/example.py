"""The commented configuration that `senderproxy setup` writes. PURE."""

import json
from collections.abc import Sequence


def render_config(
    *, hostname: str, vault: str, unlock: str, address: str, allow: Sequence[str], control_socket: str
) -> str:
    """A configuration that loads; every value is written as TOML, whatever it contains."""
    networks = ", ".join(_toml(network) for network in allow)
    return f"""\
# senderproxy: who may submit mail, and where the accounts are. docs/config.md has every setting.
# After a change: systemctl reload senderproxy (a broken file is refused, the old settings stay in force).

[identity]
hostname = {_toml(hostname)}  # how we greet the provider

[vault]
path = {_toml(vault)}  # the mailboxes and their passwords, encrypted
unlock = {_toml(unlock)}  # where the key is, never the key itself

[[listeners]]
name = "office"
address = {_toml(address)}  # where the mail server in the office submits
allow = [{networks}]  # who may; nobody else gets in

[service]
control_socket = {_toml(control_socket)}  # how `senderproxy status` reaches the service
"""


def _toml(text: str) -> str:
    """A TOML basic string: JSON's escapes are a part of TOML's."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
