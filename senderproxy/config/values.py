"""Parsers of single values of the configuration. PURE.

Guarantees: each refusal has a message and a hint in words for the operator. Neither repeats a value that may be a
secret.
Not here: the settings and their types (config.model), the presentation of refusals (config.problems).
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from enum import Enum
from ipaddress import (
    AddressValueError,
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    NetmaskValueError,
    ip_address,
    ip_network,
)
from typing import Annotated, Final, NamedTuple, NoReturn, TypeAlias, TypeVar

from senderproxy.config.schema import BeforeValidator, PydanticCustomError
from senderproxy.errors import SenderproxyError
from senderproxy.footer.footer import PLACEHOLDERS, unknown_placeholders
from senderproxy.mail.address import (
    Address,
    AddressError,
    AddressPattern,
    is_local_name,
    parse_address,
    parse_domain,
    parse_pattern,
)
from senderproxy.routing.hops import is_internal_ip
from senderproxy.routing.provider import PASSWORD_MECHANISMS, LoginForm, Security, SenderRule
from senderproxy.routing.recipient_routes import EVERYONE
from senderproxy.routing.route import ORDERED_SOURCES, AddressSource
from senderproxy.translation import _

INVALID_VALUE: Final = "senderproxy_invalid_value"  # the type of our own errors among pydantic's

IpAddress: TypeAlias = IPv4Address | IPv6Address
IpNetwork: TypeAlias = IPv4Network | IPv6Network
T = TypeVar("T")
E = TypeVar("E", bound=Enum)

SQLITE_ENGINE: Final = "sqlite"
VAULT_IN_DATABASE: Final = "database"  # `[vault] path` of a vault in the spool's database
ENGINE_SOCKETS: Final = "/var/run/postgresql"  # folder of the server's socket on Debian
_ENGINE_PORT: Final = 5432  # of PostgreSQL
_ENGINE: Final = re.compile(
    r"postgres(?:ql)?://(?P<user>[A-Za-z_][A-Za-z0-9_.-]{0,62})@"
    r"(?P<host>[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252})|\[[0-9A-Fa-f:.]{2,45}\])?(?::(?P<port>[0-9]{1,5}))?"
    r"/(?P<database>[A-Za-z_][A-Za-z0-9_-]{0,62})(?:\?host=(?P<socket>/[^\s?&#]{0,200}))?"
)

_UNITS: Final[Mapping[str, int]] = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
}
_SIZE: Final = re.compile(r"([0-9]{1,12}) ?([A-Za-z]{0,3})")
LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})  # of a page that only this machine reaches
_WEB_URL: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,40}|\[[0-9A-Fa-f:.]{2,45}\])"
    r"(?::[1-9][0-9]{0,4})?(?:/[A-Za-z0-9_~-]{1,60}){0,10}/?"
)
_ENDPOINT: Final = re.compile(r"(?:\[([^\]]*)\]|([^:]*)):([0-9]{1,5})")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_ACCOUNT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.@_+-]{0,127}")
_HASH: Final = re.compile(r"scrypt\$[0-9]{1,7}\$[0-9]{1,3}\$[0-9]{1,3}\$[A-Za-z0-9+/]{8,}\$[A-Za-z0-9+/]{16,}")
UNLOCK_WAYS: Final = ("key-file:/etc/senderproxy/vault.key", "credential:NAME", "keyring:SERVICE", "passphrase")
_QUOTED_LENGTH: Final = 80  # characters; a problem is one line of a terminal
UNIX: Final = "unix:"  # the beginning of an address that is the path of a socket
_SOCKET_PATH: Final = 107  # octets; sun_path holds 108 with the closing NUL on Linux (unix(7))
_FOOTER_LENGTH: Final = 65_536  # characters; room for a small picture in the HTML
_LAST_HOUR: Final = 23  # of a day
_LAST_MINUTE: Final = 59  # of an hour
_HIGHEST_PORT: Final = 65535  # a port has 16 bits (RFC 9293 section 3.1)


def refuse(message: str, hint: str) -> NoReturn:
    """Refuse a value: `message` as it is read after the setting's key, `hint` as it is read after `To fix: `."""
    raise PydanticCustomError(INVALID_VALUE, "{message}. To fix: {hint}", {"message": message, "hint": hint})


class InvalidValue(SenderproxyError):
    """A value refused by the configuration. The message is without its setting's key."""


def read_alone(read: Callable[[object], T], value: object) -> T:
    """Read one value outside a configuration, with a reader of this module. Raises InvalidValue."""
    try:
        return read(value)
    except PydanticCustomError as error:
        words = error.context or {}
        raise InvalidValue(str(words.get("message", error)), hint=str(words.get("hint", ""))) from error


def quoted(value: object) -> str:
    """The value on one line for a message, text in quotation marks, shortened if it is long."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = f'"{value}"' if isinstance(value, str) else str(value)
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return text if len(text) <= _QUOTED_LENGTH else f"{text[: _QUOTED_LENGTH - 4]}..."


def alternatives(values: Sequence[str]) -> str:
    """`"a"`, `"a" or "b"`, `"a", "b" or "c"`."""
    *others, last = (f'"{value}"' for value in values)
    return _("{others} or {last}").format(others=", ".join(others), last=last) if others else last


def _described(values: Sequence[str]) -> str:
    """The values in a sentence of docs/config.md."""
    return f"{', '.join(values[:-1])} or {values[-1]}" if len(values) > 1 else values[0]


def read_text(value: object) -> str:
    """Text on one line."""
    if not isinstance(value, str):
        refuse(
            _("{value} is not text").format(value=quoted(value)),
            _("put it in quotation marks: {text}").format(text=quoted(str(value))),
        )
    if not value.strip():
        refuse(_("is empty"), _("write some text"))
    if not value.isprintable():
        refuse(_("contains control characters"), _("write printable text"))
    return value


def read_footer(value: object) -> str:
    """Text on any number of lines, with `{name}` and `{address}`."""
    if not isinstance(value, str):
        refuse(
            _("{value} is not text").format(value=quoted(value)),
            _("put it between three quotation marks, on lines of its own"),
        )
    text = value.replace("\r\n", "\n").expandtabs()
    if not any(character.isalnum() for character in text):
        refuse(_("has no letter or digit"), _("write the lines of the footer"))
    if len(text) > _FOOTER_LENGTH:
        refuse(_("is too long"), _("write at most {count} characters").format(count=_FOOTER_LENGTH))
    if not text.replace("\n", "").isprintable():
        refuse(_("contains control characters"), _("write printable text"))
    for placeholder in unknown_placeholders(text):
        refuse(
            _("{placeholder} is not known").format(placeholder=placeholder),
            _("write {names}").format(names=" or ".join(f"{{{name}}}" for name in PLACEHOLDERS)),
        )
    return text


def read_address(value: object) -> str:
    """An IP address and a port, as `127.0.0.1:2525` or `[::1]:2525`."""
    text = read_text(value)
    example = _('write it like "127.0.0.1:2525" or "[::1]:2525"')
    found = _ENDPOINT.fullmatch(text)
    if found is None:
        refuse(
            _("{value} is not an IP address with a port").format(value=quoted(text)), _endpoint_hint(text) or example
        )
    six, four, port = found.groups()
    host = four if six is None else six
    try:
        ip = ip_address(host)
    except ValueError:
        hint = _endpoint_hint(f"{host}:{port}") or example
        refuse(_("{value} is not an IP address").format(value=quoted(host)), hint)
    if isinstance(ip, IPv4Address) != (six is None):
        refuse(_("{value} mixes the notations of IPv4 and IPv6").format(value=quoted(text)), example)
    if int(port) > _HIGHEST_PORT:
        refuse(
            _("{port} is not a port").format(port=port),
            _("write a port from 1 to {highest}, or 0 for any free one").format(highest=_HIGHEST_PORT),
        )
    return f"{ip}:{int(port)}" if six is None else f"[{ip}]:{int(port)}"


def split_address(address: str) -> tuple[IpAddress, int]:
    """The IP address and the port of a value of read_address."""
    host, _colon, port = address.rpartition(":")
    return ip_address(host.strip("[]")), int(port)


def _endpoint_hint(text: str) -> str | None:
    """The probable intention behind a text that is not an IP address with a port."""
    if text.isdecimal() and 0 < int(text) <= _HIGHEST_PORT:
        return _('write "127.0.0.1:{port}", or another address of this machine instead of 127.0.0.1').format(port=text)
    host, _colon, port = text.rpartition(":")
    if host == "localhost" and port.isdecimal():
        return _("write {value}").format(value=f'"127.0.0.1:{port}"')
    if host in {"", "*"} and port.isdecimal():
        return _('write "0.0.0.0:{port}" for all IPv4 addresses').format(port=port)
    try:
        ip = ip_address(text)
    except ValueError:
        return None
    value = f'"{ip}:2525"' if isinstance(ip, IPv4Address) else f'"[{ip}]:2525"'
    return _("write {value}").format(value=value)


def read_network(value: object) -> IpNetwork:
    """A network such as 192.168.1.0/24, or one address."""
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    text = read_text(value)
    try:
        return ip_network(text)
    except (AddressValueError, NetmaskValueError, ValueError):
        pass
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        refuse(
            _("{value} is not a network").format(value=quoted(text)),
            _('write a network like "192.168.1.0/24", or one address'),
        )
    refuse(
        _("{value} is the address of a host with the size of a network").format(value=quoted(text)),
        _('write "{network}", or "{host}" for one host').format(network=network, host=text.partition("/")[0]),
    )


def read_size(value: object) -> int:
    """Octets: a number, or text such as `150 MB` or `1 MiB`."""
    if isinstance(value, int) and not isinstance(value, bool):
        octets = value
    else:
        found = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
        unit = _UNITS.get(found.group(2).lower()) if found else None
        octets = int(found.group(1)) * unit if found and unit else 0
    if octets < 1:
        refuse(
            _("{value} is not a size").format(value=quoted(value)),
            _('write it like "150 MB", "1 MiB" or 150000000'),
        )
    return octets


def read_hostname(value: object) -> str:
    """A fully qualified domain name, for EHLO and the Received field."""
    text = read_text(value)
    try:
        name = parse_domain(text.rstrip("."))
    except AddressError as error:
        refuse(str(error), _('write the name of this machine, like "mail.firma.example"'))
    if "_" in name:
        refuse(
            _("{value} has an underscore").format(value=quoted(text)),
            _("write a host name: it has letters, digits and hyphens only"),
        )
    return name


def read_host(value: object) -> str:
    """The name or IP address of a server."""
    text = read_text(value)
    try:
        return str(ip_address(text.strip("[]")))
    except ValueError:
        pass
    bare, _colon, port = text.rpartition(":")
    if bare and port.isdecimal():
        refuse(
            _("{value} has a port in it").format(value=quoted(text)),
            _("write {settings}").format(settings=f'host = "{bare}" and port = {port}'),
        )
    if "/" in text:
        refuse(
            _("{value} is not a host name").format(value=quoted(text)),
            _('write the name alone, like "smtp.ionos.de"'),
        )
    return read_hostname(text)


def read_path(value: object) -> str:
    """A path; a relative one starts at the configuration file's folder."""
    return read_text(value)


def read_unlock(value: object) -> str:
    """The way to unlock the vault: where the key is, never the key."""
    ways = _("write {ways}").format(ways=alternatives(UNLOCK_WAYS))
    if not isinstance(value, str):
        refuse(_("is not text"), ways)
    kind, colon, name = value.partition(":")
    match kind, bool(colon), bool(name.strip()):
        case ("passphrase", False, _) | ("key-file" | "credential" | "keyring", True, True):
            pass
        case ("passphrase", True, _):
            # The text after the colon may be the passphrase itself: it is not repeated.
            refuse(
                _("has text after the word passphrase"),
                _('write "passphrase" alone: the passphrase is asked for at the start and never stored here'),
            )
        case ("key-file" | "credential" | "keyring", _, _):
            refuse(_("{value} names no key").format(value=quoted(kind)), ways)
        case _:
            refuse(_("is not a known way to unlock the vault"), ways)
    if kind == "credential" and "/" in name:
        refuse(
            _("{value} is not the name of a credential").format(value=quoted(name)),
            _("write the name from LoadCredential=, without a path"),
        )
    return value


def read_secret_place(value: object) -> str:
    """The place of a secret. The value is not repeated: it may be the secret itself."""
    hint = _('write the place of the secret, like "file:/etc/senderproxy/webhook" or "credential:NAME"')
    if not isinstance(value, str):
        refuse(_("is not text"), hint)
    kind, _colon, name = value.partition(":")
    if kind not in ("file", "credential") or not name.strip():
        refuse(_("is not the place of a secret (never write the secret itself here)"), hint)
    if kind == "credential" and "/" in name:
        refuse(_("is not the name of a credential"), hint)
    return value


class EngineAddress(NamedTuple):
    """The address of a database and the login."""

    host: str  # a name, an address, or the folder of a socket
    port: int
    user: str
    database: str


def engine_address(engine: str) -> EngineAddress | None:
    """The address in a valid `[spool] engine`; None for SQLite."""
    found = _ENGINE.fullmatch(engine)
    if found is None:
        return None
    host = found["host"].strip("[]") if found["host"] else found["socket"] or ENGINE_SOCKETS
    return EngineAddress(host, int(found["port"] or _ENGINE_PORT), found["user"], found["database"])


def read_engine(value: object) -> str:
    """The engine of the spool. The value is not repeated: it may contain a password."""
    hint = _('write "sqlite" or "postgresql://ROLE@HOST/DATABASE"')
    if not isinstance(value, str):
        refuse(_("is not text"), hint)
    if value == SQLITE_ENGINE:
        return value
    if value.startswith(("postgresql://", "postgres://")) and ":" in value.partition("@")[0].partition("//")[2]:
        refuse(_("contains a password"), _("write the place of the password to engine_password in section [spool]"))
    if (found := _ENGINE.fullmatch(value)) is None or not 0 < int(found["port"] or 1) <= _HIGHEST_PORT:
        refuse(_("is not an engine of the spool"), hint)
    return value


def read_hash(value: object) -> str:
    """The hash of a password. The value is not repeated: it may be the password."""
    hint = _("write the output of: senderproxy client hash-password")
    if not isinstance(value, str):
        refuse(_("is not text"), hint)
    if not _HASH.fullmatch(value):
        refuse(_("is not a password hash (never write the password itself here)"), hint)
    return value


def read_mailbox(value: object) -> Address:
    """One mail address."""
    if isinstance(value, Address):
        return value
    text = read_text(value)
    try:
        return parse_address(text)
    except AddressError as error:
        refuse(str(error), _('write one address, like "scanner@firma.example"'))


def one_or_more(value: object) -> object:
    """A list; a text alone is a list of one."""
    return (value,) if isinstance(value, str) else value


_DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_WEEKLY: Final = re.compile(r"([a-z]{6,9}) ([0-9]{1,2}):([0-9]{2})")


def read_weekly(value: object) -> str:
    """A day and a time, like `"monday 08:00"`."""
    text = read_text(value).strip().lower()
    found = _WEEKLY.fullmatch(text)
    if found is None or found[1] not in _DAYS or int(found[2]) > _LAST_HOUR or int(found[3]) > _LAST_MINUTE:
        refuse(
            _("{value} is not a day and a time").format(value=quoted(str(value))),
            _('write it like "monday 08:00"; the days are {days}').format(days=", ".join(_DAYS)),
        )
    return text


def split_weekly(text: str) -> tuple[int, int, int]:
    """The weekday (0: Monday), the hour and the minute of a value of `read_weekly`."""
    day, _blank, time = text.partition(" ")
    hour, _colon, minute = time.partition(":")
    return _DAYS.index(day), int(hour), int(minute)


def read_pattern(value: object) -> AddressPattern:
    """An address, or @domain."""
    if isinstance(value, AddressPattern):
        return value
    text = read_text(value)
    try:
        return parse_pattern(text)
    except AddressError as error:
        refuse(str(error), _('write "anna@firma.example", or "@firma.example" for the whole domain'))


def read_recipients(value: object) -> AddressPattern:
    """An address, @domain, or `*` for all recipients."""
    return EVERYONE if value in ("*", "@*", "*@*") else read_pattern(value)


_WAYS: Final = ("account ID", "smarthost NAME", "internal 192.168.1.20:25", "provider-mx", "mx")


def read_via(value: object) -> str:
    """The way of a route."""
    ways = _("write {values}").format(values=alternatives(_WAYS))
    text = " ".join(value.split()) if isinstance(value, str) else ""
    kind, _space, name = text.partition(" ")
    match kind.lower(), bool(name):
        case "account", True:
            return f"account {read_account(name)}"
        case "smarthost", True:
            return f"smarthost {read_name(name)}"
        case "internal", True:
            return f"internal {_read_internal_server(name)}"
        case ("mx" | "provider-mx") as word, False:
            return word
        case (("account" | "smarthost" | "internal"), False):
            refuse(_("{value} has no name after it").format(value=quoted(value)), ways)
        case _:
            refuse(_("{value} is unknown").format(value=quoted(value)), ways)


def _read_internal_server(text: str) -> str:
    address = read_address(text)
    host, port = split_address(address)
    if port == 0:
        refuse(_("{value} has no port").format(value=quoted(text)), _('write it like "internal 192.168.1.20:25"'))
    if not is_internal_ip(host):
        refuse(
            _("{value} is no address of the own network").format(value=quoted(str(host))),
            _("write a loopback or private address; for any other server add a section [smarthosts.NAME]"),
        )
    return address


def read_map_key(value: object) -> str:
    """An address, @domain, or the name of a local user, in the spelling for look-ups."""
    if isinstance(value, str) and is_local_name(value):
        return value.lower()
    pattern = read_pattern(value)
    return str(pattern).lower()


def policy_or_account(*policies: str) -> Callable[[object], str]:
    """The parser of one of some words, or `account ID`."""

    def read(value: object) -> str:
        kind, _space, account = value.strip().partition(" ") if isinstance(value, str) else ("", "", "")
        if kind.lower() == "account":
            if not account.strip():
                refuse(_("{value} names no account").format(value=quoted(value)), _('write it like "account anna"'))
            return f"account {read_account(account.strip())}"
        if isinstance(value, str) and value.lower() in policies:
            return value.lower()
        refuse(
            _("{value} is unknown").format(value=quoted(value)),
            _("write {values}").format(values=alternatives((*policies, "account ID"))),
        )

    read.__doc__ = _described([f"`{policy}`" for policy in (*policies, "account ID")])
    return read


def split_policy(policies: type[E], text: str) -> tuple[E, str | None]:
    """The policy and the account of a value of policy_or_account."""
    kind, _space, account = text.partition(" ")
    return policies(kind), account or None


def read_mechanism(value: object) -> str:
    """A SASL mechanism that delivery supports."""
    name = read_text(value).upper()
    if name not in PASSWORD_MECHANISMS:
        refuse(
            _("{value} is not supported").format(value=quoted(value)),
            _("write {values}").format(values=alternatives(PASSWORD_MECHANISMS)),
        )
    return name


def read_name(value: object) -> str:
    """The name of a listener or provider, for logs and commands."""
    text = read_text(value)
    if not _NAME.fullmatch(text):
        refuse(
            _("{value} is not a name").format(value=quoted(text)),
            _('write letters, digits, ".", "_" and "-", at most 40'),
        )
    return text


def read_account(value: object) -> str:
    """The id of an account."""
    text = read_text(value)
    if not _ACCOUNT.fullmatch(text):
        refuse(
            _("{value} is not an account id").format(value=quoted(text)),
            _("write an id from: senderproxy account list"),
        )
    return text


def read_socket_path(value: object) -> str:
    """A path that fits into the address of a socket."""
    path = read_path(value)
    if len(path.encode("utf-8", "replace")) > _SOCKET_PATH:
        refuse(
            _("is longer than {octets} octets").format(octets=_SOCKET_PATH),
            _("write a shorter path: the operating system does not accept a longer one"),
        )
    return path


def read_metrics_address(value: object) -> str:
    """An IP address and a port, or the path of a socket as `unix:/run/senderproxy/metrics.sock`."""
    if isinstance(value, str) and value.startswith(UNIX):
        path = read_socket_path(value.removeprefix(UNIX))
        if not path.startswith("/"):
            refuse(
                _("{value} is not an absolute path").format(value=quoted(path)),
                _('write it like "unix:/run/senderproxy/metrics.sock"'),
            )
        return f"{UNIX}{path}"
    return read_address(value)


def read_web_url(value: object) -> str:
    """The `http://` or `https://` address of the page, with its path; `http://` for this machine alone."""
    found = _WEB_URL.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        refuse(
            _("{value} is not the address of a page").format(value=quoted(value)),
            _('write it like "https://mail.firma.example/" or "http://127.0.0.1:8525/"'),
        )
    if found["scheme"] == "http" and found["host"].strip("[]").lower() not in LOOPBACK_NAMES:
        refuse(
            _("{value} is for other machines, and not encrypted").format(value=quoted(value)),
            _("write https://, and set certificate and key, or put a server with TLS in front of the page"),
        )
    return found[0]


def one_of(*words: str) -> Callable[[object], str]:
    """The parser of one of some words, in upper or lower case."""

    def read(value: object) -> str:
        if isinstance(value, str):
            for word in words:
                if value.lower() == word.lower():
                    return word
        near = get_close_matches(value.lower(), words, 1) if isinstance(value, str) else []
        values = alternatives(words)
        hint = _('did you mean "{word}"? Write {values}').format(word=near[0], values=values) if near else ""
        refuse(_("{value} is unknown").format(value=quoted(value)), hint or _("write {values}").format(values=values))

    read.__doc__ = _described([f"`{word}`" for word in words])
    return read


def integer(least: int, most: int) -> Callable[[object], int]:
    """The parser of an integer from `least` to `most`."""

    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            refuse(
                _("{value} is not an integer").format(value=quoted(value)),
                _("write an integer from {least} to {most}, without quotation marks").format(least=least, most=most),
            )
        _check_range(value, least, most)
        return value

    read.__doc__ = f"integer, {least} to {most}"
    return read


def duration(least: float, most: float, unit: str = "seconds") -> Callable[[object], float]:
    """The parser of a length of time in `unit`, from `least` to `most`."""

    def read(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
            refuse(
                _("{value} is not a number").format(value=quoted(value)),
                _("write {unit} from {least} to {most}, without quotation marks").format(
                    unit=unit, least=_number(least), most=_number(most)
                ),
            )
        _check_range(value, least, most)
        return float(value)

    read.__doc__ = f"{unit}, {least:g} to {most:g}"
    return read


def _check_range(value: float, least: float, most: float) -> None:
    hint = _("write {least} to {most}").format(least=_number(least), most=_number(most))
    if value < least:
        refuse(_("{value} is too small").format(value=_number(value)), hint)
    if value > most:
        refuse(_("{value} is too large").format(value=_number(value)), hint)


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def read_flag(value: object) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        refuse(
            _("{value} is neither true nor false").format(value=quoted(value)),
            _("write true or false, without quotation marks"),
        )
    return value


def _member(members: Mapping[str, T]) -> Callable[[object], T]:
    """The parser of a member of an enumeration by its word."""
    read = one_of(*members)
    types = tuple({type(member) for member in members.values()})

    def read_member(value: object) -> T:
        if isinstance(value, types):
            return value
        return members[read(value)]

    read_member.__doc__ = read.__doc__
    return read_member


Text = Annotated[str, BeforeValidator(read_text)]
FooterText = Annotated[str, BeforeValidator(read_footer)]
Endpoint = Annotated[str, BeforeValidator(read_address)]
Network = Annotated[IpNetwork, BeforeValidator(read_network)]
Size = Annotated[int, BeforeValidator(read_size)]
HostName = Annotated[str, BeforeValidator(read_hostname)]
Host = Annotated[str, BeforeValidator(read_host)]
FilePath = Annotated[str, BeforeValidator(read_path)]
MetricsAddress = Annotated[str, BeforeValidator(read_metrics_address)]
WebUrl = Annotated[str, BeforeValidator(read_web_url)]
SocketPath = Annotated[str, BeforeValidator(read_socket_path)]
Engine = Annotated[str, BeforeValidator(read_engine)]
Unlock = Annotated[str, BeforeValidator(read_unlock)]
SecretPlace = Annotated[str, BeforeValidator(read_secret_place)]
PasswordHash = Annotated[str, BeforeValidator(read_hash)]
Mailbox = Annotated[Address, BeforeValidator(read_mailbox)]
Mailboxes = Annotated[tuple[Mailbox, ...], BeforeValidator(one_or_more)]
Weekly = Annotated[str, BeforeValidator(read_weekly)]
Pattern = Annotated[AddressPattern, BeforeValidator(read_pattern)]
RecipientPattern = Annotated[AddressPattern, BeforeValidator(read_recipients)]
ViaText = Annotated[str, BeforeValidator(read_via)]
Mechanism = Annotated[str, BeforeValidator(read_mechanism)]
Name = Annotated[str, BeforeValidator(read_name)]
AccountId = Annotated[str, BeforeValidator(read_account)]
Flag = Annotated[bool, BeforeValidator(read_flag)]
Port = Annotated[int, BeforeValidator(integer(1, _HIGHEST_PORT))]
Count = Annotated[int, BeforeValidator(integer(1, 1_000_000))]
CandidateSource = Annotated[
    AddressSource, BeforeValidator(_member({source.value: source for source in ORDERED_SOURCES}))
]
TlsMode = Annotated[Security, BeforeValidator(_member({mode.value: mode for mode in Security}))]
Rule = Annotated[SenderRule, BeforeValidator(_member({rule.value: rule for rule in SenderRule}))]
LoginName = Annotated[LoginForm, BeforeValidator(_member({form.value: form for form in LoginForm}))]
NullPathPolicy = Annotated[str, BeforeValidator(policy_or_account("rewrite", "discard", "reject"))]
ForeignPolicy = Annotated[str, BeforeValidator(policy_or_account("reject", "rewrite"))]
MapKey = Annotated[str, BeforeValidator(read_map_key)]
MapValue = Annotated[AddressPattern, BeforeValidator(read_pattern)]
