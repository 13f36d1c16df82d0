"""Settings of delivery to mail servers of recipients. PURE.

Not here: the routes that use it (config.route_settings), the delivery (delivery.mx).
"""

from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from typing import Annotated, Final

from senderproxy.config.route_settings import RouteSettings
from senderproxy.config.schema import BeforeValidator, Field
from senderproxy.config.section import Conflict, Section
from senderproxy.config.values import one_or_more, quoted, refuse
from senderproxy.routing.hops import is_internal_ip
from senderproxy.translation import _

MX_VIAS: Final = frozenset({"mx", "provider-mx"})  # the ways that need a public address


def read_public_address(value: object) -> str:
    """An IP address that others see."""
    hint = _('write the address that others see, like "203.0.113.7"')
    try:
        address = ip_address(value.strip()) if isinstance(value, str) else None
    except ValueError:
        address = None
    if address is None:
        refuse(_("{value} is not an IP address").format(value=quoted(value)), hint)
    if is_internal_ip(address) or address.is_unspecified or address.is_multicast:
        refuse(_("{value} is an address of the own network").format(value=quoted(value)), hint)
    return str(getattr(address, "ipv4_mapped", None) or address)


def read_public_addresses(value: object) -> object:
    """IP address"""
    return one_or_more(value)


PublicAddress = Annotated[str, BeforeValidator(read_public_address)]
PublicAddresses = Annotated[tuple[PublicAddress, ...], BeforeValidator(read_public_addresses)]


class MxSection(Section):
    """This machine as a sender towards mail servers of recipients, for `via = "mx"` and `"provider-mx"`: docs/mx.md."""

    public_address: PublicAddresses = Field(
        default=(),
        description="The addresses of this machine that others see, behind a NAT those of the router. The SPF record of"
        " every sender domain has to name them. Only servers with an address of the same IP version are contacted.",
    )


def mx_conflicts(routes: Sequence[RouteSettings], mx: MxSection, hostname: str) -> Iterator[Conflict]:
    """Contradictions of routes to mail servers with the rest."""
    used = [index for index, route in enumerate(routes) if route.via in MX_VIAS]
    if not used:
        return
    route, address = ("routes", used[0], "via"), ("mx", "public_address")
    if not mx.public_address:
        message = _("is missing, but {setting} needs it").format(setting=f'via = "{routes[used[0]].via}"')
        hint = _('write public_address = ["203.0.113.7"] in [mx], with the address that others see; docs/mx.md')
        yield Conflict(address, message, hint, (address, route))
    if "." not in hostname.strip("."):
        message = _("{value} is no full name, and mail servers refuse such clients").format(value=quoted(hostname))
        hint = _('write hostname = "mail.firma.example" in [identity], a name that leads to the public address')
        yield Conflict(("identity", "hostname"), message, hint, (("identity", "hostname"), route))
