"""Template of the configuration that `senderproxy setup` writes, with a comment at each setting. PURE.

Guarantees: the text can be loaded, and has the values of the arguments.
Not here: the questions for the values, the file (cli.setup).
The comments become part of the operator's file: they are English, and not marked for translation.
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
    alerts_to: Sequence[str] = (),
) -> str:
    """The configuration as TOML. `providers`: the names in use, each with the settings that differ from its preset."""
    named = providers if isinstance(providers, Mapping) else {name: {} for name in providers}
    return _TEMPLATE.format(
        hostname=_text(hostname),
        vault=_text(vault),
        unlock=_text(unlock),
        address=_text(address),
        allow=_list(allow),
        providers="\n".join(_provider(name, settings) for name, settings in named.items()) or _NO_PROVIDER,
        control_socket=_text(control_socket),
        alerts_to=f"to = {_list(alerts_to)}" if alerts_to else '# to = ["it@firma.example"]',
    )


def _list(values: Sequence[str]) -> str:
    return f"[{', '.join(_text(value) for value in values)}]"


def _text(value: str) -> str:
    """A TOML basic string: a JSON string, except for DEL (toml.io, v1.0.0, String)."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _provider(name: str, settings: Mapping[str, Value]) -> str:
    given = {setting: value for setting, value in settings.items() if value is not None}
    if not given:
        about = f"# Accounts at {name} need no section: {name} has a preset. To change a value of it:"
        return f"{about}\n# [providers.{_key(name)}]\n# recipients_per_hour = 300\n"
    return f"[providers.{_key(name)}]\n" + "".join(f"{setting} = {_value(value)}\n" for setting, value in given.items())


def _key(name: str) -> str:
    return name if name.replace("-", "").replace("_", "").isalnum() and name.isascii() else _text(name)


def _value(value: Value) -> str:
    return _text(value) if isinstance(value, str) else json.dumps(value)


_NO_PROVIDER: Final = """\
# A provider without a preset:
# [providers.office-hoster]
# host = "smtp.hoster.example"
"""

_TEMPLATE: Final = """\
# Configuration of senderproxy. docs/config.md describes every setting.
# After a change: senderproxy check, then: systemctl reload senderproxy (or send it SIGHUP).
# No password belongs here. Accounts and their passwords are in the vault: senderproxy account --help

[identity]
# This machine's name, for providers and the internal server.
hostname = {hostname}

[vault]
path = {vault}
# The place of the key: "key-file:PATH", "credential:NAME" (systemd), "keyring:SERVICE" or "passphrase".
unlock = {unlock}

[[listeners]]
# The internal server submits its mail here. Further [[listeners]] need their own name and address.
name = "office"
address = {address}
# Only these networks may submit mail.
allow = {allow}
# TLS for the internal server: "none", "starttls" or "implicit".
tls = "none"
# certificate = "/etc/senderproxy/certificate.pem"
# key = "/etc/senderproxy/key.pem"
# "pass-through": the internal server gets the provider's reply, and deferred mail stays in its own queue.
# "queue": all mail is queued here and delivered from here.
mode = "pass-through"
# SMTP AUTH: "off", "optional" (clients outside `allow` must log in) or "required".
auth = "off"

# A listener for scanners and other devices: all mail leaves with one sender, and protocol errors are accepted and
# repaired. Short passwords for them: senderproxy client hash-password --generate
# [[listeners]]
# name = "devices"
# address = "192.168.1.2:2526"
# allow = ["192.168.1.40"]
# sender = "scanner@firma.example"
# lenient = true
# mode = "queue"
# TLS 1.0 and 1.1 for old devices (needs tls, certificate and key):
# old_tls = false

# Limit one machine, or one user, to some senders. The password's hash: senderproxy client hash-password
# [[clients]]
# networks = ["192.168.1.40"]
# senders = ["scanner@firma.example"]

[routing]
# Authors without an account are refused with the reason. To send their mail through one account instead:
# default_account = "info"

# Another way for some recipients: docs/routes.md.
# [[routes]]
# recipients = ["@firma.example"]
# via = "internal 192.168.1.20:25"

{providers}
[spool]
# Queued messages are tried for two days, then returned to their authors. After four hours the author gets a report
# about the delay. `senderproxy queue` lists them.
give_up_hours = 48
report_delay_hours = 4
# Reports are sent to the author through the author's own account; or else to the internal server:
# reports_to = "192.168.1.20:25"

[alerts]
# Mails when something needs you, and when it is over; best one address at another provider. senderproxy alert test
{alerts_to}
# A report every week, also if all is well:
# weekly = "monday 08:00"

[service]
# The socket for `senderproxy status` and other commands.
control_socket = {control_socket}

[log]
# "debug", "info", "warning" or "error"; "text" for people or "json" for programs.
level = "info"
format = "text"
"""
