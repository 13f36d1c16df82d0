"""Single values as they stand in the configuration: read them, or say what is wrong and what to write instead. PURE.

Guarantees: every complaint has two halves, what is wrong and the mend, in words for the person who typed the value; a
value that may be a secret is never repeated in one.
Not here: which setting has which kind of value (config.model), how complaints are shown (config.problems).
"""

import math
import re
from collections.abc import Callable, Mapping
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
from typing import Annotated, Final, NoReturn, TypeAlias, TypeVar

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from senderproxy.mail.address import (
    Address,
    AddressError,
    AddressPattern,
    parse_address,
    parse_domain,
    parse_pattern,
)
from senderproxy.routing.provider import LoginForm, Security, SenderRule
from senderproxy.routing.route import Source

COMPLAINT: Final = "senderproxy"  # the type that marks an error as one of ours

IpAddress: TypeAlias = IPv4Address | IPv6Address
IpNetwork: TypeAlias = IPv4Network | IPv6Network
T = TypeVar("T")
E = TypeVar("E", bound=Enum)

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
_ENDPOINT: Final = re.compile(r"(?:\[([^\]]*)\]|([^:]*)):([0-9]{1,5})")
_MECHANISM: Final = re.compile(r"[A-Z0-9_-]{1,20}")  # RFC 4422 section 3.1
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_ACCOUNT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.@_+-]{0,127}")
_HASH: Final = re.compile(r"scrypt\$[0-9]{1,7}\$[0-9]{1,3}\$[0-9]{1,3}\$[A-Za-z0-9+/]{8,}\$[A-Za-z0-9+/]{16,}")
UNLOCK_WAYS: Final = '"key-file:/etc/senderproxy/vault.key", "credential:NAME", "keyring:SERVICE" or "passphrase"'
SPOKEN_MECHANISMS: Final = ("PLAIN", "LOGIN")


def complain(wrong: str, mend: str) -> NoReturn:
    """Refuse a value. Both halves are read after its key: `listeners[0].address: <wrong>; <mend>`."""
    raise PydanticCustomError(COMPLAINT, "{wrong}; {mend}", {"wrong": wrong, "mend": mend})


def shown(value: object) -> str:
    """A value as it may stand in a complaint: on one line, not longer than that."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = f'"{value}"' if isinstance(value, str) else str(value)
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return text if len(text) <= 80 else f"{text[:76]}..."


def listed(values: list[str]) -> str:
    """`"a"`, `"a" or "b"`, `"a", "b" or "c"`."""
    quoted = [f'"{value}"' for value in values]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"


def read_text(value: object) -> str:
    """Text on one line."""
    if not isinstance(value, str):
        complain(f"{shown(value)} is no text", f"put it in quotation marks: {shown(str(value))}")
    if not value.strip() or not value.isprintable():
        complain("is empty" if not value.strip() else "contains control characters", "write some text")
    return value


def read_address(value: object) -> str:
    """An IP address and a port, as `127.0.0.1:2525` or `[::1]:2525`."""
    text = read_text(value)
    example = 'write it like "127.0.0.1:2525" or "[::1]:2525"'
    found = _ENDPOINT.fullmatch(text)
    if found is None:
        complain(f"{shown(text)} is no address with a port", _guess_endpoint(text) or example)
    six, four, port = found.groups()
    host = four if six is None else six
    try:
        ip = ip_address(host)
    except ValueError:
        complain(f"{shown(host)} is no IP address", _guess_endpoint(f"{host}:{port}") or example)
    if isinstance(ip, IPv4Address) != (six is None):
        complain(f"{shown(text)} mixes the forms of IPv4 and IPv6", example)
    if int(port) > 65535:
        complain(f"{port} is no port", "take one from 1 to 65535 (0: any that is free)")
    return f"{ip}:{int(port)}" if six is None else f"[{ip}]:{int(port)}"


def split_address(address: str) -> tuple[IpAddress, int]:
    """The two halves of what read_address made."""
    host, _, port = address.rpartition(":")
    return ip_address(host.strip("[]")), int(port)


def _guess_endpoint(text: str) -> str | None:
    """What somebody probably meant who wrote no address with a port."""
    if text.isdecimal() and 0 < int(text) < 65536:
        return f'write "127.0.0.1:{text}", or the address on which to listen instead of 127.0.0.1'
    host, _, port = text.rpartition(":")
    if host == "localhost" and port.isdecimal():
        return f'write "127.0.0.1:{port}"'
    if host in {"", "*"} and port.isdecimal():
        return f'write "0.0.0.0:{port}" for all addresses of IPv4'
    try:
        ip = ip_address(text)
    except ValueError:
        return None
    return f'write "{ip}:2525"' if isinstance(ip, IPv4Address) else f'write "[{ip}]:2525"'


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
        meant = ip_network(text, strict=False)
    except ValueError:
        complain(f"{shown(text)} is no network", 'write one like "192.168.1.0/24", or one address')
    complain(
        f"{shown(text)} names a host and a network", f'write "{meant}", or "{text.partition("/")[0]}" for one host'
    )


def read_size(value: object) -> int:
    """Octets: a number, or text such as `150 MB` or `1 MiB`."""
    if isinstance(value, int) and not isinstance(value, bool):
        octets = value
    else:
        found = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
        unit = _UNITS.get(found.group(2).lower()) if found else None
        if found is None or unit is None:
            complain(f"{shown(value)} is no size", 'write it like "150 MB", "1 MiB" or 150000000')
        octets = int(found.group(1)) * unit
    if octets < 1:
        complain(f"{shown(value)} is no size", 'write it like "150 MB"')
    return octets


def read_hostname(value: object) -> str:
    """A fully qualified name, as it goes into EHLO and Received."""
    text = read_text(value)
    try:
        name = parse_domain(text.rstrip("."))
    except AddressError as error:
        complain(str(error), 'write this machine\'s name, like "mail.firma.example"')
    if "_" in name:
        complain(f"{shown(text)} has an underscore", "host names have letters, digits and hyphens only")
    return name


def read_host(value: object) -> str:
    """A server's name or IP address."""
    text = read_text(value)
    try:
        return str(ip_address(text.strip("[]")))
    except ValueError:
        pass
    bare, _, port = text.rpartition(":")
    if bare and port.isdecimal():
        complain(f"{shown(text)} has a port in it", f'write host = "{bare}" and port = {port}')
    if "/" in text:
        complain(f"{shown(text)} is no host name", 'write the name alone, like "smtp.ionos.de"')
    return read_hostname(text)


def read_path(value: object) -> str:
    """A path; relative ones are seen from the configuration file's folder."""
    return read_text(value)


def read_unlock(value: object) -> str:
    """How the vault is unlocked: where the key is, never the key."""
    if not isinstance(value, str):
        complain("is no text", f"write {UNLOCK_WAYS}")
    kind, colon, name = value.partition(":")
    match kind, bool(colon), bool(name.strip()):
        case ("passphrase", False, _) | ("key-file" | "credential" | "keyring", True, True):
            pass
        case ("passphrase", True, _):
            # Whatever stands behind the colon may be the passphrase itself.
            complain("says more than it should", 'write "passphrase" alone; it is asked for, and never written here')
        case ("key-file" | "credential" | "keyring", _, _):
            complain(f"{shown(kind)} does not say which", f"write {UNLOCK_WAYS}")
        case _:
            complain("names no way to unlock the vault that we know", f"write {UNLOCK_WAYS}")
    if kind == "credential" and "/" in name:
        complain(
            f"{shown(name)} is no credential's name", "write the name that LoadCredential= gives it, without a path"
        )
    return value


def read_hash(value: object) -> str:
    """A password's hash. What stands there is not repeated: it may be the password."""
    mend = "write what this prints: senderproxy client hash-password"
    if not isinstance(value, str):
        complain("is no text", mend)
    if not _HASH.fullmatch(value):
        complain("is no password hash (a password itself must not stand here)", mend)
    return value


def read_mailbox(value: object) -> Address:
    """One mail address."""
    if isinstance(value, Address):
        return value
    text = read_text(value)
    try:
        return parse_address(text)
    except AddressError as error:
        complain(str(error), 'write one address, like "scanner@firma.example"')


def read_pattern(value: object) -> AddressPattern:
    """An address, or @domain."""
    if isinstance(value, AddressPattern):
        return value
    text = read_text(value)
    try:
        return parse_pattern(text)
    except AddressError as error:
        complain(str(error), 'write "anna@firma.example", or "@firma.example" for the whole domain')


def read_map_key(value: object) -> str:
    """An address, or @domain, in the spelling by which it is looked up."""
    pattern = read_pattern(value)
    return str(pattern).lower()


def read_choice(*words: str) -> Callable[[object], str]:
    """One of some words, or `account ID`."""

    def read(value: object) -> str:
        kind, _, account = value.strip().partition(" ") if isinstance(value, str) else ("", "", "")
        if kind.lower() == "account":
            if not account.strip():
                complain(f"{shown(value)} does not say which account", 'write it like "account anna"')
            return f"account {read_account(account.strip())}"
        if isinstance(value, str) and value.lower() in words:
            return value.lower()
        complain(f"{shown(value)} is not known", f'write {listed(list(words))}, or "account ID"')

    read.__doc__ = f"{', '.join(f'`{word}`' for word in words)} or `account ID`"
    return read


def split_choice(policies: type[E], words: str) -> tuple[E, str | None]:
    """What read_choice read: the policy, and the account it names."""
    kind, _, account = words.partition(" ")
    return policies(kind), account or None


def read_mechanism(value: object) -> str:
    """A SASL mechanism that we speak."""
    name = read_text(value).upper()
    if name not in SPOKEN_MECHANISMS or not _MECHANISM.fullmatch(name):
        complain(f"{shown(value)} is not spoken here", f"write {listed(list(SPOKEN_MECHANISMS))}")
    return name


def read_name(value: object) -> str:
    """The name of a listener or provider: a word for logs and commands."""
    text = read_text(value)
    if not _NAME.fullmatch(text):
        complain(f"{shown(text)} is no name", 'take letters, digits, ".", "_" and "-", at most 40')
    return text


def read_account(value: object) -> str:
    """An account's id."""
    text = read_text(value)
    if not _ACCOUNT.fullmatch(text):
        complain(f"{shown(text)} is no account's id", "write one of those that this lists: senderproxy account list")
    return text


def read_socket_path(value: object) -> str:
    """A path that fits into a socket's address (sun_path holds 108 octets with the closing NUL on Linux, unix(7))."""
    path = read_path(value)
    if len(path.encode("utf-8", "replace")) > 107:
        complain("is longer than 107 characters", "choose a shorter path, the operating system takes no longer one")
    return path


def one_of(*words: str) -> Callable[[object], str]:
    """One of some words, whatever its case."""

    def read(value: object) -> str:
        if isinstance(value, str):
            for word in words:
                if value.lower() == word.lower():
                    return word
        near = get_close_matches(value.lower(), words, 1) if isinstance(value, str) else []
        if near:
            complain(f"{shown(value)} is not known", f'did you mean "{near[0]}"? Write {listed(list(words))}')
        complain(f"{shown(value)} is not known", f"write {listed(list(words))}")

    read.__doc__ = " or ".join(f"`{word}`" for word in words)
    return read


def whole(least: int, most: int) -> Callable[[object], int]:
    """A whole number between two others."""

    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            complain(f"{shown(value)} is no whole number", f"write one from {least} to {most}, without quotation marks")
        if not least <= value <= most:
            complain(f"{value} is {'less' if value < least else 'more'} than it can be", f"write {least} to {most}")
        return value

    read.__doc__ = f"a whole number, {least} to {most}"
    return read


def seconds(least: float, most: float, unit: str = "seconds") -> Callable[[object], float]:
    """A length of time, in seconds where no other unit is named."""

    def read(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
            complain(
                f"{shown(value)} is no number", f"write {unit} from {least:g} to {most:g}, without quotation marks"
            )
        if not least <= value <= most:
            complain(
                f"{value:g} is {'less' if value < least else 'more'} than it can be", f"write {least:g} to {most:g}"
            )
        return float(value)

    read.__doc__ = f"{unit}, {least:g} to {most:g}"
    return read


def read_flag(value: object) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        complain(f"{shown(value)} is neither true nor false", "write true or false, without quotation marks")
    return value


def _enum(members: Mapping[str, T]) -> Callable[[object], T]:
    read = one_of(*members)
    types = tuple({type(member) for member in members.values()})

    def read_member(value: object) -> T:
        if isinstance(value, types):
            return value
        return members[read(value)]

    read_member.__doc__ = read.__doc__
    return read_member


Text = Annotated[str, BeforeValidator(read_text)]
Endpoint = Annotated[str, BeforeValidator(read_address)]
Network = Annotated[IpNetwork, BeforeValidator(read_network)]
Size = Annotated[int, BeforeValidator(read_size)]
HostName = Annotated[str, BeforeValidator(read_hostname)]
Host = Annotated[str, BeforeValidator(read_host)]
FilePath = Annotated[str, BeforeValidator(read_path)]
SocketPath = Annotated[str, BeforeValidator(read_socket_path)]
Unlock = Annotated[str, BeforeValidator(read_unlock)]
PasswordHash = Annotated[str, BeforeValidator(read_hash)]
Mailbox = Annotated[Address, BeforeValidator(read_mailbox)]
Pattern = Annotated[AddressPattern, BeforeValidator(read_pattern)]
Mechanism = Annotated[str, BeforeValidator(read_mechanism)]
Name = Annotated[str, BeforeValidator(read_name)]
AccountId = Annotated[str, BeforeValidator(read_account)]
Flag = Annotated[bool, BeforeValidator(read_flag)]
Port = Annotated[int, BeforeValidator(whole(1, 65535))]
Count = Annotated[int, BeforeValidator(whole(1, 1_000_000))]
CandidateSource = Annotated[Source, BeforeValidator(_enum({source.value: source for source in Source}))]
TlsMode = Annotated[Security, BeforeValidator(_enum({mode.value: mode for mode in Security}))]
Rule = Annotated[SenderRule, BeforeValidator(_enum({rule.value: rule for rule in SenderRule}))]
LoginName = Annotated[LoginForm, BeforeValidator(_enum({form.value: form for form in LoginForm}))]
NullPathWords = Annotated[str, BeforeValidator(read_choice("rewrite", "discard", "reject"))]
ForeignWords = Annotated[str, BeforeValidator(read_choice("reject", "rewrite"))]
MapKey = Annotated[str, BeforeValidator(read_map_key)]
MapValue = Annotated[AddressPattern, BeforeValidator(read_pattern)]
