"""Mail servers of a domain, in the order of the attempts, or the outcome if there are none. PURE.

Guarantees: the preferred servers come first, equal ones in a random order. This machine is never among them, nor any
server that is preferred less or as much as it: mail cannot return in a circle. The numbers of servers and addresses are
bounded, whatever the DNS says. A domain is given up only for a definite answer of the DNS, never for a failed look-up.
Not here: the look-ups (delivery.mx.look_up), connections.
RFC 5321 section 5.1, RFC 7505.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import zip_longest
from typing import Final, TypeAlias

from senderproxy.dns_client.answers import NULL_MX, Exchanger, ExchangerAnswer
from senderproxy.mail.outcome import Deferred, Failed
from senderproxy.mail.reply import reply

KEPT: Final = 50  # servers, and addresses of one, that are kept of an answer
EXCHANGERS: Final = 10  # servers whose addresses are looked up; the largest providers name five
HOSTS: Final = 5  # servers that are tried in one attempt; Postfix's smtp_mx_address_limit
ADDRESSES: Final = 6  # addresses of one server; several answer at once, and the first one is used
_NAME_LIMIT: Final = 253  # characters, RFC 1035 section 2.3.4
_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")  # with the underscore that some servers have

IpAddress: TypeAlias = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Ourselves:
    """The names of this machine, and the addresses that may be reached.

    `versions`: the IP versions of the public addresses; SPF names no others. `public_only`: servers with private,
    loopback or reserved addresses are left out; a domain of a stranger must not lead into the internal network.
    """

    names: Set[str] = frozenset()  # lower case
    addresses: Set[IpAddress] = frozenset()
    versions: Set[int] = frozenset((4, 6))
    public_only: bool = True


@dataclass(frozen=True, slots=True)
class MailHost:
    """A server and its addresses, as text."""

    name: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DomainServers:
    """The servers of a domain as the DNS names them, and their addresses.

    `addresses` lacks a server whose look-up failed; one that does not exist has none. `implicit`: the domain has no MX,
    and is its own server.
    """

    exchangers: tuple[Exchanger, ...]
    addresses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    implicit: bool = False


NoServers: TypeAlias = Failed | Deferred


def exchangers_of(domain: str, answer: ExchangerAnswer) -> DomainServers | NoServers:
    """The servers of a domain, for the look-ups of their addresses, the preferred ones first."""
    if not answer.exists:
        return Failed(reply(550, "5.1.2", f"The domain {domain} does not exist"))
    if not answer.exchangers:
        return DomainServers((Exchanger(0, domain),), implicit=True)
    named = [one for one in answer.exchangers if one.host != NULL_MX]
    if not named:
        return Failed(reply(556, "5.1.10", f"The domain {domain} accepts no mail (null MX)"))
    valid = sorted({one for one in named if is_host_name(one.host)}, key=lambda one: (one.preference, one.host))
    if not valid:
        return Failed(reply(550, "5.4.4", f"The MX records of {domain} name no server: {_shown(named)}"))
    return DomainServers(tuple(valid[:KEPT]))


def literal_servers(domain: str) -> DomainServers | None:
    """The server that an address literal names (`[192.0.2.7]`); None for a domain name. RFC 5321 section 4.1.3."""
    if not domain.startswith("["):
        return None
    address = domain[1:-1]
    if address.lower().startswith("ipv6:"):
        address = address[5:]
    return DomainServers((Exchanger(0, address),), {address: (address,)}, implicit=True)


def looked_up(exchangers: Sequence[Exchanger]) -> tuple[str, ...]:
    """The names for the look-ups of addresses: of the preferred servers, EXCHANGERS at most."""
    return tuple(dict.fromkeys(one.host for one in exchangers[:EXCHANGERS]))


def choose(
    domain: str, servers: DomainServers, ourselves: Ourselves, chance: Callable[[], float]
) -> tuple[MailHost, ...] | NoServers:
    """The servers to try, in this order: HOSTS at most. `chance`: random numbers from 0 to 1."""
    exchangers = _without_ourselves(servers, ourselves)
    if not exchangers:
        return Failed(reply(554, "5.4.6", f"The mail server of {domain} is this machine"))
    hosts: dict[str, MailHost] = {}
    for one in sorted(((one.preference, chance(), one.host) for one in exchangers), key=lambda one: one[:2]):
        addresses = _usable(servers.addresses.get(one[2], ()), ourselves)
        if addresses and len(hosts) < HOSTS:
            hosts.setdefault(one[2], MailHost(one[2], addresses))
    return tuple(hosts.values()) or _no_addresses(domain, servers, exchangers)


def is_host_name(name: str) -> bool:
    """True if an MX record may name it: letters, digits, hyphens and underscores, and no IP address."""
    labels = name.split(".")
    return len(name) <= _NAME_LIMIT and all(map(_LABEL.fullmatch, labels)) and not labels[-1].isdigit()


def _without_ourselves(servers: DomainServers, ourselves: Ourselves) -> list[Exchanger]:
    """RFC 5321 section 5.1: this machine, and all that are preferred less or as much, are discarded."""
    ours = [
        one.preference
        for one in servers.exchangers
        if one.host in ourselves.names
        or not ourselves.addresses.isdisjoint(_parsed(servers.addresses.get(one.host, ())))
    ]
    if not ours:
        return list(servers.exchangers)
    return [one for one in servers.exchangers if one.preference < min(ours)]


def _usable(addresses: Iterable[str], ourselves: Ourselves) -> tuple[str, ...]:
    """The addresses that may be connected to, ADDRESSES at most, IPv4 and IPv6 alternating."""
    usable = [
        address
        for address in _parsed(addresses)
        if address.version in ourselves.versions and (_is_public(address) or not ourselves.public_only)
    ]
    four, six = ([one for one in usable if one.version == version] for version in (4, 6))
    pairs = [str(one) for pair in zip_longest(four, six) for one in pair if one is not None]
    return tuple(dict.fromkeys(pairs))[:ADDRESSES]


def _is_public(address: IpAddress) -> bool:
    return address.is_global and not address.is_multicast


def _parsed(addresses: Iterable[str]) -> list[IpAddress]:
    found: list[IpAddress] = []
    for text in addresses:
        address = ip_address(text)
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        found.append(mapped or address)
    return found


def _no_addresses(domain: str, servers: DomainServers, exchangers: Sequence[Exchanger]) -> NoServers:
    if failed := [one.host for one in exchangers[:EXCHANGERS] if one.host not in servers.addresses]:
        return Deferred(reply(451, "4.4.3", f"Cannot look up the address of {failed[0]}, mail server of {domain}"))
    if any(servers.addresses.get(one.host) for one in exchangers):
        text = f"The mail servers of {domain} have no address that can be reached from here: {_shown(exchangers)}"
        return Failed(reply(550, "5.4.4", text))
    if servers.implicit:
        return Failed(reply(550, "5.1.2", f"The domain {domain} has neither a mail server (MX) nor an address"))
    return Failed(reply(550, "5.4.4", f"The mail servers of {domain} do not exist: {_shown(exchangers)}"))


def _shown(exchangers: Sequence[Exchanger]) -> str:
    """The first names, without the characters that a reply cannot have."""
    names = [one.host[:80] for one in exchangers[:3]]
    return ", ".join("".join(c if c.isprintable() and c.isascii() else "?" for c in name) for name in names)
