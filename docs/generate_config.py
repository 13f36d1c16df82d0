"""Generator of docs/config.md from the settings and the presets.

    python -m docs.generate_config > docs/config.md

Guarantees: every setting and every preset is on the page; types and defaults are those of the program.
Not here: the page in other languages (docs.translate_config).
"""

import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import Final, get_args, get_origin

from pydantic import BeforeValidator
from pydantic.fields import FieldInfo

from senderproxy.config import values
from senderproxy.config.model import SECTIONS
from senderproxy.config.section import Section
from senderproxy.routing.presets import PRESETS
from senderproxy.routing.provider import Provider, Security

Translate = Callable[[str], str]

_TYPES: Final[Mapping[object, str]] = {
    values.read_text: "text",
    values.read_footer: "text of several lines",
    values.read_address: "IP address and port",
    values.read_network: "network or IP address",
    values.read_size: 'size, like `"150 MB"`, `"1 MiB"` or octets',
    values.read_hostname: "host name",
    values.read_host: "host name or IP address",
    values.read_path: "path",
    values.read_socket_path: "path",
    values.read_metrics_address: "IP address and port, or `unix:` and a path",
    values.read_web_url: "`http://` or `https://` address",
    values.read_unlock: "text",
    values.read_engine: "`sqlite` or `postgresql://ROLE@HOST/DATABASE`",
    values.read_secret_place: "`file:PATH` or `credential:NAME`",
    values.read_hash: "hash",
    values.read_mailbox: "mail address",
    values.one_or_more: "mail address",
    values.read_pattern: "address or `@domain`",
    values.read_recipients: "address, `@domain` or `*`",
    values.read_via: "way",
    values.read_map_key: "table of addresses",
    values.read_mechanism: "`PLAIN` or `LOGIN`",
    values.read_name: "name",
    values.read_account: "account id",
    values.read_flag: "`true` or `false`",
}

_UNITS: Final = ((10**6, "MB"), (2**20, "MiB"), (10**3, "kB"), (2**10, "KiB"), (1, ""))

_HEAD: Final = """\
# Configuration

<!-- Made by `make docs` from senderproxy/config/model.py: change the descriptions there. -->

The configuration is one [TOML](https://toml.io) file, by default `/etc/senderproxy/senderproxy.toml`.
`senderproxy setup` writes it; `senderproxy check` lists all its problems at once, each with a fix. A running service
reads it again on SIGHUP (`systemctl reload senderproxy`); if it is invalid, the previous one stays in force.

Only `vault.unlock` has no default. The file contains no password: accounts and passwords are in the vault. Relative
paths start at the file's folder. Sizes: `kB`, `MB`, `GB` are powers of 1000, `KiB`, `MiB`, `GiB` powers of 1024.

Deutsch: [config.de.md](config.de.md)
"""

_WIDTH: Final = 120  # characters of a line of a paragraph
_QUOTED: Final = re.compile(r"`[^`]*`")
# Words and numbers of the program in the name of a type; they are not translated.
_FIXED: Final = re.compile(r"`[^`]*`|\d+(?:\.\d+)?")

_TABLE_HEAD: Final = """\
| setting | type | default | description |
| --- | --- | --- | --- |
"""

_PRESETS_HEAD: Final = """\
## Built-in providers (presets)

An account names its provider by one of these names, or by the name of a `[providers.NAME]` section. If a provider does
not publish a limit, the preset has the cautious value: `address` as the sender rule and two connections. No preset
accepts the null reverse-path. Login: `PLAIN`, else `LOGIN`, under TLS with a verified certificate. A new IONOS mailbox
may send to 50 recipients an hour in its first week and to 100 in its second:
`senderproxy account edit ID --recipients-per-hour 50`.

| name | servers | sender rule | connections | recipients of a message | an hour |
| --- | --- | --- | --- | --- | --- |
"""


def render_document(translate: Translate = str) -> str:
    """The page in Markdown. `translate`: called with each text of the page, in its order."""
    head = _translated(_HEAD, translate)
    sections = "\n".join(_section(shape, model, translate) for shape, model in SECTIONS.items() if shape)
    presets = "".join(_preset(provider, translate) for provider in PRESETS.values())
    return f"{head}\n{sections}\n{_translated(_PRESETS_HEAD, translate)}{presets}"


def _translated(text: str, translate: Translate) -> str:
    """A text of several paragraphs, each of them translated."""
    paragraphs = [" ".join(part.splitlines()) if "|" not in part else part for part in text.strip("\n").split("\n\n")]
    return "\n\n".join(map(_wrapped, map(translate, paragraphs))) + "\n"


def _wrapped(paragraph: str) -> str:
    if paragraph.startswith(("|", "<!--")):
        return paragraph
    unbroken = _QUOTED.sub(lambda quoted: quoted[0].replace(" ", "\0"), paragraph)
    return textwrap.fill(unbroken, _WIDTH, break_long_words=False, break_on_hyphens=False).replace("\0", " ")


def _section(shape: tuple[str, ...], model: type[Section], translate: Translate) -> str:
    about = translate(" ".join((model.__doc__ or "").split()))
    head = translate(_TABLE_HEAD)
    rows = "".join(_row(name, field, translate) for name, field in model.model_fields.items())
    return f"## `{_heading(shape)}`\n\n{about}\n\n{head}{rows}"


def _heading(shape: tuple[str, ...]) -> str:
    match shape:
        case (name, "*") if name in ("providers", "smarthosts"):
            return f"[{name}.NAME]"
        case (name, "*"):
            return f"[[{name}]]"
        case _:
            return f"[{'.'.join(shape)}]"


def _row(name: str, field: FieldInfo, translate: Translate) -> str:
    default = translate("this machine's name") if name == "hostname" else _default(field, translate)
    return f"| `{name}` | {_type(field, translate)} | {default} | {translate(field.description or '')} |\n"


def _type(field: FieldInfo, translate: Translate) -> str:
    many = any(get_origin(part) is tuple for part in (field.annotation, *get_args(field.annotation)))
    parts = (*field.metadata, *_parts(field.annotation))
    reader: object = next(part.func for part in parts if isinstance(part, BeforeValidator))
    text = _TYPES.get(reader) or str(reader.__doc__)
    shown = translate(_FIXED.sub("{}", text)).format(*_FIXED.findall(text))
    return translate("list of: {}").format(shown) if many else shown


def _parts(annotation: object) -> Iterator[object]:
    for part in (*getattr(annotation, "__metadata__", ()), *get_args(annotation)):
        yield part
        yield from _parts(part)


def _default(field: FieldInfo, translate: Translate) -> str:
    return translate("**none**") if field.is_required() else _shown(field.default)


def _shown(value: object) -> str:
    match value:
        case None | () | {}:
            return ""
        case bool():
            return f"`{str(value).lower()}`"
        case tuple():
            return ", ".join(_shown(each) for each in value)
        case float():
            return f"`{value:g}`"
        case int() if value >= 10_000:
            octets, unit = next(each for each in _UNITS if value % each[0] == 0)
            return f"`{f'{value // octets} {unit}'.strip()}`"
        case _:
            return f"`{getattr(value, 'value', value)}`"


def _preset(provider: Provider, translate: Translate) -> str:
    servers = ", ".join(f"{host}{_mark(host.security)}" for host in provider.smarthosts) or translate("needs `host`")
    limits = provider.limits
    hourly = [
        translate(text).format(count)
        for count, text in ((limits.messages_per_hour, "{} messages"), (limits.recipients_per_hour, "{} recipients"))
        if count
    ]
    cells = (f"`{provider.name}`", servers, provider.sender_rule.value, str(limits.connections))
    return f"| {' | '.join((*cells, str(limits.recipients_per_message or ''), ', '.join(hourly)))} |\n"


def _mark(security: Security) -> str:
    return " (STARTTLS)" if security is Security.STARTTLS else " (TLS)"


if __name__ == "__main__":
    sys.stdout.write(render_document())
