"""An office with routes: the provider with its accounts, a smarthost and an internal server without a login."""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from senderproxy.mail.address import AddressPattern, parse_pattern
from senderproxy.routing.hops import InternalHop, SmarthostHop
from senderproxy.routing.provider import Limits, Provider, Security
from senderproxy.routing.recipient_routes import (
    EVERYONE,
    AccountVia,
    RecipientRoute,
    RecipientRoutes,
    ServerVia,
    Via,
)
from senderproxy.simulator.certificates import Authority
from senderproxy.simulator.faults import FaultScript
from senderproxy.simulator.server import Simulator
from senderproxy.simulator.settings import SimulatorSettings
from tests.senderproxy.delivery.messages import smarthost_of
from tests.senderproxy.relay.office import SETTINGS, RelayOffice

# No mailboxes: it takes mail from everyone. It offers AUTH all the same, as relays for both kinds of clients do.
OPEN = SimulatorSettings(null_reverse_path_accepted=True, pipelining=True, second_ehlo_refused=False)


def pattern(text: str) -> AddressPattern:
    return EVERYONE if text == "*" else parse_pattern(text)


class RoutesOffice(RelayOffice):
    """A relay with two servers without a login beside its provider."""

    relay_host: Simulator
    internal_host: Simulator

    def via(self, text: str) -> Via:
        """`account ID`, `relay` or `internal`."""
        if text == "relay":
            return ServerVia(SmarthostHop("relay", smarthost_of(self.relay_host, Security.STARTTLS), limits=Limits()))
        if text == "internal":
            return ServerVia(InternalHop(smarthost_of(self.internal_host, Security.NONE)))
        return AccountVia(text.removeprefix("account "))

    def route(self, *routes: tuple[str, str]) -> None:
        """Put these routes in force: recipients, separated by blanks, and the way."""
        found = [RecipientRoute(tuple(map(pattern, who.split())), self.via(way)) for who, way in routes]
        self.relay.rules = replace(self.relay.rules, recipient_routes=RecipientRoutes(tuple(found)))
        self.runner.wake()

    def use_provider(self, **changes: Any) -> None:
        """Change the provider of all accounts."""
        provider: Provider = self.relay.rules.providers["simulator"]
        self.relay.rules = replace(self.relay.rules, providers={"simulator": replace(provider, **changes)})

    @property
    def servers(self) -> dict[str, Simulator]:
        return {"account": self.simulator, "relay": self.relay_host, "internal": self.internal_host}

    def received(self, where: str) -> list[str]:
        """The recipients of all messages at a server, without reports."""
        taken = (each for each in self.servers[where].received if b"multipart/report" not in each.content)
        return sorted(path for each in taken for path in each.recipients)


@asynccontextmanager
async def routes_office(
    folder: Path,
    *routes: tuple[str, str],
    settings: SimulatorSettings = SETTINGS,
    relay: SimulatorSettings = OPEN,
    internal: SimulatorSettings = OPEN,
    scripts: Iterable[FaultScript | None] = (None, None, None),
    authority: Authority | None = None,
    courier: Callable[[Any], Any] = lambda courier: courier,
    **limits: Any,
) -> AsyncIterator[RoutesOffice]:
    """`scripts`: of the provider, the smarthost and the internal server."""
    first, second, third = scripts
    async with (
        Simulator(settings, first, authority=authority) as simulator,
        Simulator(relay, second, authority=authority) as relay_host,
        Simulator(internal, third, authority=authority) as internal_host,
    ):
        office = RoutesOffice(simulator, folder / "spool", courier, **limits)
        office.relay_host, office.internal_host = relay_host, internal_host
        await office.open()
        office.courier.hops.on_healthy = office.runner.lane_can_send
        office.route(*routes)
        try:
            yield office
        finally:
            await office.close()
            await office.courier.close(5)
