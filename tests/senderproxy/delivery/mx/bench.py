"""A courier to mail servers whose names a real name server has, and whose ports a test gives."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from senderproxy.delivery.hops.opening import HopOpener
from senderproxy.delivery.mx.courier import MxCourier, MxSettings
from senderproxy.delivery.mx.hosts import Ourselves
from senderproxy.delivery.mx.look_up import MailServerLookUp
from senderproxy.delivery.resolver import Resolver
from senderproxy.delivery.session import SessionTimeouts
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.message import Message
from senderproxy.mail.outcome import Outcome
from senderproxy.mail.reply import Reply
from senderproxy.routing.hops import MxHop, ProviderMxHop
from tests.senderproxy.delivery.messages import HOSTNAME, PATIENT, make_message, to
from tests.senderproxy.delivery.office import MovedClock
from tests.senderproxy.domain_records.name_server import NameServer, name_server

DOMAIN = "kunde.example"
HERE = ["127.0.0.1"]


@dataclass
class MxBench:
    """A courier, its clock, its name server, and the ports of the servers by their names."""

    courier: MxCourier
    clock: MovedClock
    names: NameServer
    ports: dict[str, int]
    refusals: dict[str, Reply] = field(default_factory=dict)  # of the SPF gate, by domain

    async def send(
        self,
        *recipients: str,
        hop: MxHop | ProviderMxHop | None = None,
        envelope: Envelope | None = None,
        message: Message | None = None,
    ) -> list[Outcome]:
        envelope = envelope or to(*(recipients or (f"carl@{DOMAIN}",)))
        hop = hop or MxHop(envelope.recipients[0].domain)
        outcomes = await self.courier.deliver(hop, envelope, message or make_message(), tag="m1")
        assert tuple(outcomes) == envelope.recipients
        return list(outcomes.values())


def zone(*servers: tuple[int, str], domain: str = DOMAIN) -> dict[tuple[str, str], list[str]]:
    """The records of a domain with these servers, all on this machine."""
    records = {(domain, "MX"): [f"{preference} {host}." for preference, host in servers]}
    return records | {(host, "A"): HERE for _, host in servers}


@asynccontextmanager
async def mx_bench(
    records: Mapping[tuple[str, str], list[str]],
    ports: Mapping[str, int],
    *,
    timeouts: SessionTimeouts = PATIENT,
    ourselves: Ourselves | None = None,
    providers: Sequence[str] = (),
) -> AsyncIterator[MxBench]:
    """`providers`: the names of servers that are the provider's."""
    clock = MovedClock()
    resolver = Resolver(clock)
    known = dict(ports)
    refusals: dict[str, Reply] = {}

    async def gate(domain: str) -> Reply | None:
        return refusals.get(domain)

    with name_server(records) as names:
        opener = HopOpener(timeouts, HOSTNAME, resolver)
        settings = MxSettings(
            ourselves or Ourselves(frozenset({HOSTNAME}), public_only=False),
            lambda host, provider: provider == "ionos" and host in providers,
        )
        courier = MxCourier(
            opener, MailServerLookUp(clock, names.client), clock, settings, gate, port=lambda host: known[host]
        )
        try:
            yield MxBench(courier, clock, names, known, refusals)
        finally:
            await courier.close()
            resolver.close()
