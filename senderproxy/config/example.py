"""render_config: a configuration with a comment at each setting, for `senderproxy setup` to write. PURE.

Guarantees: the text loads, and says what its arguments say.
Not here: asking for the arguments, writing the file.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

Value: TypeAlias = str | int | bool | None

_DEFAULT_ADDRESS: Final = "127.0.0.1:2525"
_LOCAL: Final = ("127.0.0.0/8", "::1/128")


def render_config(
    *,
    hostname: str,
    vault: str,
    unlock: str,
    address: str = _DEFAULT_ADDRESS,
    allow: Sequence[str] = _LOCAL,
    providers: Mapping[str, Mapping[str, Value]] | Sequence[str] = (),
    control_socket: str = "/run/senderproxy/control.sock",
) -> str:
    """The configuration as text. `providers`: the names in use, each with the settings that differ from its preset."""
    named = providers if isinstance(providers, Mapping) else {name: {} for name in providers}
    return _TEMPLATE.format(
        hostname=_text(hostname),
        vault=_text(vault),
        unlock=_text(unlock),
        address=_text(address),
        allow=f"[{', '.join(_text(network) for network in allow)}]",
        providers="\n".join(_provider(name, settings) for name, settings in named.items()) or _NO_PROVIDER,
        control_socket=_text(control_socket),
    )


def _text(value: str) -> str:
    """A TOML basic string is a JSON string, but for DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _provider(name: str, settings: Mapping[str, Value]) -> str:
    given = {setting: value for setting, value in settings.items() if value is not None}
    if not given:
        about = f"# Accounts at {name} need nothing here: what it wants is built in. To change some of it:"
        return f"{about}\n# [providers.{_key(name)}]\n# messages_per_hour = 300\n"
    return f"[providers.{_key(name)}]\n" + "".join(f"{setting} = {_value(value)}\n" for setting, value in given.items())


def _key(name: str) -> str:
    return name if name.replace("-", "").replace("_", "").isalnum() and name.isascii() else _text(name)


def _value(value: Value) -> str:
    return _text(value) if isinstance(value, str) else json.dumps(value)


_NO_PROVIDER: Final = """\
# A provider that is not built in:
# [providers.office-hoster]
# host = "smtp.hoster.example"
"""

_TEMPLATE: Final = """\
# senderproxy: which mail is taken, and how it leaves. Every setting is described in docs/config.md.
# After a change: senderproxy check, then: systemctl reload senderproxy (or send it SIGHUP).
# There is no password in here. Accounts and their passwords are in the vault: senderproxy account --help

[identity]
# This machine's name, as providers and the internal server see it.
hostname = {hostname}

[vault]
path = {vault}
# Where the key is: "key-file:PATH", "credential:NAME" (systemd), "keyring:SERVICE" or "passphrase".
unlock = {unlock}

[[listeners]]
# Here the internal server hands in its mail. A second [[listeners]] with its own name and address is possible.
name = "office"
address = {address}
# Only these networks may hand in mail.
allow = {allow}
# TLS towards the internal server: "none", "starttls" or "implicit".
tls = "none"
# certificate = "/etc/senderproxy/certificate.pem"
# key = "/etc/senderproxy/key.pem"
# "pass-through": the internal server hears the provider's own answer, and keeps what cannot go out just now in its own
# queue. "queue": everything is kept here and delivered from here.
mode = "pass-through"
# SMTP AUTH: "off", "optional" (whoever is outside `allow` must log in) or "required".
auth = "off"

# Scanners and other devices that keep to few rules get a door of their own: everything leaves with one sender, and what
# they send is understood and mended. Passwords that fit into them: senderproxy client hash-password --generate
# [[listeners]]
# name = "devices"
# address = "192.168.1.2:2526"
# allow = ["192.168.1.40"]
# sender = "scanner@firma.example"
# lenient = true
# mode = "queue"
# TLS 1.0 and 1.1 for devices that know nothing newer (needs tls, certificate and key):
# old_tls = false

# Hold one machine, or one user, to some senders. The password's hash: senderproxy client hash-password
# [[clients]]
# networks = ["192.168.1.40"]
# senders = ["scanner@firma.example"]

[routing]
# Senders without an account are refused with the reason. To send their mail through one account all the same:
# default_account = "info"

{providers}
[spool]
# Messages that wait for their provider are tried for two days; then they go back to their authors, who hear of a delay
# after four hours. `senderproxy queue` shows them.
give_up_hours = 48
report_delay_hours = 4
# Who is told: the author, through the author's own account; or the internal server is handed the reports:
# reports_to = "192.168.1.20:25"

[service]
# Where `senderproxy status` reaches the service.
control_socket = {control_socket}

[log]
# "debug", "info", "warning" or "error"; "text" for people or "json" for programs.
level = "info"
format = "text"
"""
