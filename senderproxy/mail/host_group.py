"""Group of hosts that counts as one client: an IPv4 address, or the /64 network of an IPv6 address. PURE.

Guarantees: one machine is in one group, whichever of its addresses it uses.
Not here: the limits on a group.
"""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final, TypeAlias

_IPV6_PREFIX: Final = 64  # bits of the network that one IPv6 host may have all addresses of, RFC 4291 section 2.5.1

IpAddress: TypeAlias = IPv4Address | IPv6Address


@lru_cache(maxsize=256)  # of a connection, it is asked for several times
def host_address(host: str) -> IpAddress:
    """The address of a host, which may have a zone; the IPv4 address of an IPv4 client on an IPv6 socket."""
    address = ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def group_of(address: IpAddress) -> str:
    """The name of the group in counters. Link-local addresses are groups of one: all hosts of a link have one /64."""
    if address.version == 4 or address.is_link_local:
        return str(address)
    return str(ip_network((address, _IPV6_PREFIX), strict=False))


def host_group(host: str) -> str:
    """The name of a host's group in counters."""
    return group_of(host_address(host))
