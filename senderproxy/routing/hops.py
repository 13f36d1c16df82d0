"""Hops: servers that take mail without a login. PURE.

Guarantees: no hop has an account, a login or a secret.
Not here: the choice of a hop for a recipient (routing.recipient_routes), the connection (delivery.hops).
"""

import ipaddress
from dataclasses import dataclass, field
from typing import Final, TypeAlias, assert_never

from senderproxy.routing.provider import Limits, Smarthost

SMARTHOST_LANE: Final = "smarthost"  # kinds of lanes, stored on disk: never changed
INTERNAL_LANE: Final = "internal"
MX_LANE: Final = "mx"


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """The certificate that a smarthost asks for. Paths of PEM files."""

    certificate: str
    key: str


@dataclass(frozen=True, slots=True)
class SmarthostHop:
    """A smarthost of the configuration that knows us by our address, or by a client certificate."""

    name: str
    server: Smarthost
    client: ClientCertificate | None = None
    limits: Limits = field(default_factory=Limits)

    def __str__(self) -> str:
        return f"smarthost {self.name}"


@dataclass(frozen=True, slots=True)
class InternalHop:
    """The internal server, by a loopback or private address."""

    server: Smarthost

    def __str__(self) -> str:
        return f"internal {self.server}"


@dataclass(frozen=True, slots=True)
class ProviderMxHop:
    """The mail servers of a domain that are the provider's own. `provider`: name of the author's account's provider."""

    domain: str
    provider: str

    def __str__(self) -> str:
        return f"provider-mx {self.domain}"


@dataclass(frozen=True, slots=True)
class MxHop:
    """The mail servers of a domain."""

    domain: str

    def __str__(self) -> str:
        return f"mx {self.domain}"


Hop: TypeAlias = SmarthostHop | InternalHop | ProviderMxHop | MxHop


def lane_of(hop: Hop) -> tuple[str, str]:
    """The kind and the name of the lane of messages for this hop."""
    match hop:
        case SmarthostHop():
            return SMARTHOST_LANE, hop.name
        case InternalHop():
            return INTERNAL_LANE, str(hop.server)
        case ProviderMxHop() | MxHop():
            return MX_LANE, hop.domain
        case _:
            assert_never(hop)


# RFC 1918, RFC 3927, RFC 4193, RFC 4291; not what `is_private` has beside these, such as the examples of RFC 5737.
_INTERNAL: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "::1/128",
        "fc00::/7",
        "fe80::/10",
    )
)


def is_internal_ip(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """True for a loopback or private address."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address.version == network.version and address in network for network in _INTERNAL)
