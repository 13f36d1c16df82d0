"""The page that describes every setting, made from the settings themselves.

    python -m docs.generate_config > docs/config.md

Guarantees: no setting is left out, and none is described otherwise than it is read.
"""

import sys
from collections.abc import Iterator, Mapping
from typing import Final, get_args, get_origin

from pydantic import BeforeValidator
from pydantic.fields import FieldInfo

from senderproxy.config import values
from senderproxy.config.model import SECTIONS, Section
from senderproxy.routing.presets import PRESETS
from senderproxy.routing.provider import Provider, Security

_TAKES: Final[Mapping[object, str]] = {
    values.read_text: "text",
    values.read_address: "IP address and port",
    values.read_network: "network or IP address",
    values.read_size: 'size, like `"150 MB"`, `"1 MiB"` or octets',
    values.read_hostname: "host name",
    values.read_host: "host name or IP address",
    values.read_path: "path",
    values.read_socket_path: "path",
    values.read_unlock: "text",
    values.read_hash: "hash",
    values.read_mailbox: "mail address",
    values.read_pattern: "address or `@domain`",
    values.read_mechanism: "`PLAIN` or `LOGIN`",
    values.read_name: "name",
    values.read_account: "an account's id",
    values.read_flag: "`true` or `false`",
}

_UNITS: Final = ((10**6, "MB"), (2**20, "MiB"), (10**3, "kB"), (2**10, "KiB"), (1, ""))

_HEAD: Final = """\
# Configuration

<!-- Made by `make docs` from senderproxy/config/model.py: change the descriptions there. -->

The configuration is one [TOML](https://toml.io) file, by default `/etc/senderproxy/senderproxy.toml`.
`senderproxy setup` writes it, `senderproxy check` says what is wrong with it, all at once and with the mend. A running
service reads it again on SIGHUP (`systemctl reload senderproxy`); one that cannot be meant is refused, and the old one
stays in force.

Only `vault.unlock` has no default. There is no password in the file: accounts and passwords are in the vault. Paths
that do not start with `/` are seen from the file's own folder. Sizes: `kB`, `MB`, `GB` are powers of 1000, `KiB`,
`MiB`, `GiB` powers of 1024.
"""

_PRESETS_HEAD: Final = """\
## Providers that are built in

An account names its provider by one of these names, or by that of a `[providers.NAME]` section. Where a provider does
not publish what it allows, the value is the one that cannot make things worse: `address` as the sender rule and two
connections. No preset takes an empty reverse-path. Logging in: `PLAIN`, else `LOGIN`, under TLS with a verified
certificate. A new IONOS mailbox may send 50 messages an hour in its first week and 100 in its second: lower
`messages_per_hour` for it.

| name | servers | sender rule | connections | recipients of a message | in an hour |
| --- | --- | --- | --- | --- | --- |
"""


def render_document() -> str:
    """docs/config.md."""
    sections = "\n".join(_section(shape, model) for shape, model in SECTIONS.items() if shape)
    presets = "".join(_preset(provider) for provider in PRESETS.values())
    return f"{_HEAD}\n{sections}\n{_PRESETS_HEAD}{presets}"


def _section(shape: tuple[str, ...], model: type[Section]) -> str:
    rows = "".join(_row(name, field) for name, field in model.model_fields.items())
    about = " ".join((model.__doc__ or "").split())
    return f"## `{_heading(shape)}`\n\n{about}\n\n| setting | takes | default | |\n| --- | --- | --- | --- |\n{rows}"


def _heading(shape: tuple[str, ...]) -> str:
    match shape:
        case (name, "*") if name == "providers":
            return f"[{name}.NAME]"
        case (name, "*"):
            return f"[[{name}]]"
        case _:
            return f"[{'.'.join(shape)}]"


def _row(name: str, field: FieldInfo) -> str:
    default = "this machine's name" if name == "hostname" else _default(field)
    return f"| `{name}` | {_takes(field)} | {default} | {field.description} |\n"


def _takes(field: FieldInfo) -> str:
    many = any(get_origin(part) is tuple for part in (field.annotation, *get_args(field.annotation)))
    parts = (*field.metadata, *_parts(field.annotation))
    reader: object = next(part.func for part in parts if isinstance(part, BeforeValidator))
    words = _TAKES.get(reader) or str(reader.__doc__)
    return f"list of: {words}" if many else words


def _parts(annotation: object) -> Iterator[object]:
    for part in (*getattr(annotation, "__metadata__", ()), *get_args(annotation)):
        yield part
        yield from _parts(part)


def _default(field: FieldInfo) -> str:
    return "**none**" if field.is_required() else _shown(field.default)


def _shown(value: object) -> str:
    match value:
        case None | ():
            return ""
        case tuple():
            return ", ".join(_shown(each) for each in value)
        case float():
            return f"`{value:g}`"
        case int() if value >= 10_000:
            octets, unit = next(each for each in _UNITS if value % each[0] == 0)
            return f"`{f'{value // octets} {unit}'.strip()}`"
        case _:
            return f"`{getattr(value, 'value', value)}`"


def _preset(provider: Provider) -> str:
    servers = ", ".join(f"{host}{_mark(host.security)}" for host in provider.smarthosts) or "needs `host`"
    limits = provider.limits
    hourly = [
        f"{count} {what}"
        for count, what in ((limits.messages_per_hour, "messages"), (limits.recipients_per_hour, "recipients"))
        if count
    ]
    cells = (f"`{provider.name}`", servers, provider.sender_rule.value, str(limits.connections))
    return f"| {' | '.join((*cells, str(limits.recipients_per_message or ''), ', '.join(hourly)))} |\n"


def _mark(security: Security) -> str:
    return " (STARTTLS)" if security is Security.STARTTLS else " (TLS)"


if __name__ == "__main__":
    sys.stdout.write(render_document())
