"""Routes by recipient: the way that the configuration names for a recipient. PURE.

Guarantees: the first route that matches decides; the cost of a look-up is independent of the number of routes. A hop
has no login: a route with a login names an account.
Not here: the permission to send (relay.decide), the changes to the message (rewriting.plan), the servers
(routing.hops).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, TypeAlias, assert_never

from senderproxy.mail.address import Address, AddressPattern
from senderproxy.routing.hops import Hop, InternalHop, MxHop, ProviderMxHop, SmarthostHop


@dataclass(frozen=True, slots=True)
class AccountVia:
    """An account logs in and sends, whoever the author is."""

    account_id: str

    def __str__(self) -> str:
        return f"account {self.account_id}"


@dataclass(frozen=True, slots=True)
class ServerVia:
    """A server without a login."""

    hop: SmarthostHop | InternalHop

    def __str__(self) -> str:
        return str(self.hop)


@dataclass(frozen=True, slots=True)
class ProviderMxVia:
    """The mail servers of the recipient's domain, if they are those of the author's provider."""

    def __str__(self) -> str:
        return "provider-mx"


@dataclass(frozen=True, slots=True)
class MxVia:
    """The mail servers of the recipient's domain."""

    def __str__(self) -> str:
        return "mx"


Via: TypeAlias = AccountVia | ServerVia | ProviderMxVia | MxVia

EVERYONE: Final = AddressPattern(None, "*")  # the pattern of all recipients; no domain is called so


@dataclass(frozen=True, slots=True)
class RecipientRoute:
    """One route of the configuration. `setting`: its name there, for replies."""

    recipients: tuple[AddressPattern, ...]
    via: Via
    setting: str = "routes"


@dataclass(frozen=True)
class RecipientRoutes:
    """All routes, in the order of the configuration."""

    routes: tuple[RecipientRoute, ...] = ()
    _first: dict[str, int] = field(init=False, repr=False, compare=False)  # position of the first route, by pattern

    def __post_init__(self) -> None:
        object.__setattr__(self, "_first", _first_routes(self.routes))

    def __bool__(self) -> bool:
        return bool(self.routes)

    def find(self, recipient: Address) -> RecipientRoute | None:
        """The first route that matches the recipient; None: the author's account sends."""
        keys = (recipient.key, f"@{recipient.domain}", str(EVERYONE))
        positions = [position for key in keys if (position := self._first.get(key)) is not None]
        return self.routes[min(positions)] if positions else None


def _first_routes(routes: Iterable[RecipientRoute]) -> dict[str, int]:
    first: dict[str, int] = {}
    for position, route in enumerate(routes):
        for pattern in route.recipients:
            first.setdefault(_key(pattern), position)
    return first


def _key(pattern: AddressPattern) -> str:
    if pattern.local_part is None:
        return f"@{pattern.domain}"
    return Address(pattern.local_part, pattern.domain).key


def hop_of(via: ServerVia | ProviderMxVia | MxVia, recipient: Address, provider: str) -> Hop:
    """The server for one recipient. `provider`: name of the author's account's provider."""
    match via:
        case ServerVia(hop):
            return hop
        case ProviderMxVia():
            return ProviderMxHop(recipient.domain, provider)
        case MxVia():
            return MxHop(recipient.domain)
        case _:
            assert_never(via)
