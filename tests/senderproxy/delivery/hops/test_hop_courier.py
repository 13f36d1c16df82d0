"""A server without a login gets the mail without one, each recipient has its outcome, and nothing is sent twice."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
import trustme

from senderproxy.delivery.hops.courier import HopCourier
from senderproxy.delivery.hops.opening import HopOpener, HopServer, HopSession
from senderproxy.delivery.hops.tls import HopContext, HopTls
from senderproxy.delivery.resolver import Resolver
from senderproxy.delivery.session import SessionTimeouts
from senderproxy.mail.outcome import Deferred, Delivered, Failed, Outcome
from senderproxy.routing.account import AccessToken, Credential
from senderproxy.routing.hops import ClientCertificate, Hop, InternalHop, MxHop, SmarthostHop, is_internal_ip
from senderproxy.routing.provider import Limits, Security, Smarthost
from senderproxy.simulator.faults import Delay, Drop, Fault, FaultScript, FaultStage, Hold, ReplyWith, Silence
from senderproxy.simulator.provider_replies import ServerReply, server_reply
from senderproxy.simulator.server import Simulator
from senderproxy.simulator.settings import CertificateKind, SimulatorSettings
from senderproxy.tracking.record import Lane
from tests.senderproxy.delivery.messages import HOSTNAME, PATIENT, make_message, smarthost_of, to
from tests.senderproxy.delivery.office import MovedClock

# No mailboxes: it takes mail from everyone. It offers AUTH all the same, as relays for both kinds of clients do.
OPEN = SimulatorSettings(null_reverse_path_accepted=True, pipelining=True, second_ehlo_refused=False)
LANE = Lane("smarthost", "relay")


@asynccontextmanager
async def courier_of(
    timeouts: SessionTimeouts = PATIENT,
) -> AsyncIterator[HopCourier]:
    clock = MovedClock()
    resolver = Resolver(clock)
    courier = HopCourier(HopOpener(timeouts, HOSTNAME, resolver), clock)
    try:
        yield courier
    finally:
        await courier.close()
        resolver.close()


def hop_to(simulator: Simulator, security: Security = Security.STARTTLS, **limits: object) -> SmarthostHop:
    return SmarthostHop("relay", smarthost_of(simulator, security), limits=Limits(**limits))  # type: ignore[arg-type]


async def send(courier: HopCourier, hop: Hop, *recipients: str, sender: str = "anna@firma.example") -> list[Outcome]:
    envelope = to(*recipients, sender=sender)
    outcomes = await courier.deliver(hop, envelope, make_message(), tag="m1")
    assert list(outcomes) == list(envelope.recipients)
    return list(outcomes.values())


@pytest.mark.parametrize("security", list(Security))
async def test_no_login_is_sent_although_the_server_offers_one(security: Security) -> None:
    async with Simulator(OPEN) as simulator, courier_of() as courier:
        for _ in range(3):
            assert [type(one) for one in await send(courier, hop_to(simulator, security))] == [Delivered]
        assert "AUTH" not in [verb for session in simulator.sessions for verb in session.verbs]
        assert [taken.session for taken in simulator.received] == [1, 1, 1]
        assert (simulator.sessions[0].tls_version is None) == (security is Security.NONE)


async def test_no_credential_is_revealed_on_a_session_without_a_login(monkeypatch: pytest.MonkeyPatch) -> None:
    revealed: list[object] = []
    for kind in (Credential, AccessToken):
        monkeypatch.setattr(kind, "reveal", revealed.append)
    async with Simulator(OPEN) as simulator, courier_of() as courier:
        await send(courier, hop_to(simulator))
        await send(courier, InternalHop(smarthost_of(simulator, Security.NONE)))
    assert not revealed
    assert not simulator.logins()


def test_a_context_of_a_hop_is_none_for_a_login() -> None:
    assert not issubclass(HopContext, ssl.SSLContext)
    assert not any("credential" in name for name in HopOpener.open.__annotations__)


async def test_each_recipient_has_its_outcome() -> None:
    replies: dict[str, ServerReply] = {
        "b@kunde.example": server_reply(550, "5.1.1 no such user"),
        "c@kunde.example": server_reply(450, "4.2.1 later"),
    }
    async with Simulator(replace(OPEN, recipient_replies=replies)) as simulator, courier_of() as courier:
        outcomes = await send(courier, hop_to(simulator), "a@kunde.example", "b@kunde.example", "c@kunde.example")
        assert [type(one) for one in outcomes] == [Delivered, Failed, Deferred]
        assert not any(isinstance(one, Deferred) and one.of_account for one in outcomes)
        (status,) = courier.statuses()
        assert (status.delivered, status.failed, status.deferred) == (1, 1, 1)


async def test_an_unreachable_server_defers_all_its_mail_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    woken: list[Lane] = []
    async with Simulator(OPEN) as simulator, courier_of() as courier:
        courier.on_healthy = woken.append
        hop = hop_to(simulator)
        await simulator.go_offline()
        with caplog.at_level("INFO"):
            for _ in range(3):
                (outcome,) = await send(courier, hop)
                assert isinstance(outcome, Deferred)
                assert outcome.of_account
        assert sum("no session at a server without a login" in record.getMessage() for record in caplog.records) == 1
        assert courier.troubles() == {("smarthost relay", "unreachable")}
        (status,) = courier.statuses()
        assert status.state == "no session"
        assert "refused the connection" in str(status.reply)
        await simulator.go_online()
        assert isinstance((await send(courier, hop))[0], Delivered)
        assert woken == [LANE]
        assert not courier.troubles()
        assert courier.statuses()[0].state == "healthy"


async def test_a_reply_that_is_lost_after_the_dot_sends_nothing_again() -> None:
    script = FaultScript(Fault(FaultStage.DOT, Drop(after_storing=True), transaction=2))
    async with Simulator(OPEN, script) as simulator, courier_of() as courier:
        await send(courier, hop_to(simulator))
        (outcome,) = await send(courier, hop_to(simulator))
        assert isinstance(outcome, Deferred)
        assert outcome.maybe_taken
        assert len(simulator.received) == 2


async def test_a_session_that_died_while_it_was_idle_is_replaced_unseen() -> None:
    script = FaultScript(
        Fault(FaultStage.MAIL, ReplyWith(server_reply(421, "4.3.2 closing"), then_drop=True), session=1, transaction=2)
    )
    async with Simulator(OPEN, script) as simulator, courier_of() as courier:
        for _ in range(2):
            assert isinstance((await send(courier, hop_to(simulator)))[0], Delivered)
        assert simulator.connections == 2


async def test_no_more_sessions_than_the_limit() -> None:
    script = FaultScript(Fault(FaultStage.DOT, Delay(0.05)))
    async with Simulator(OPEN, script) as simulator, courier_of() as courier:
        hop = hop_to(simulator, connections=2)
        outcomes = await asyncio.gather(*(send(courier, hop) for _ in range(8)))
        assert all(isinstance(one, Delivered) for (one,) in outcomes)
        assert simulator.connections == 2


async def test_a_message_that_finds_no_free_session_is_deferred() -> None:
    released = asyncio.Event()
    script = FaultScript(Fault(FaultStage.DOT, Hold(released)))
    async with (
        Simulator(OPEN, script) as simulator,
        courier_of(replace(PATIENT, free_session=0.05)) as courier,
    ):
        hop = hop_to(simulator, connections=1)
        first = asyncio.create_task(send(courier, hop))
        await simulator.wait_for(1)
        assert isinstance((await send(courier, hop))[0], Deferred)
        released.set()
        assert isinstance((await first)[0], Delivered)
        assert not courier.troubles()


async def test_an_idle_session_is_closed_after_its_time() -> None:
    async with Simulator(OPEN) as simulator, courier_of() as courier:
        await send(courier, hop_to(simulator, idle_seconds=0.05))
        await simulator.wait_until(lambda simulator: simulator.sessions[0].ended == "quit")


async def test_more_recipients_than_the_server_takes_are_split() -> None:
    recipients = [f"r{n}@kunde.example" for n in range(7)]
    async with Simulator(replace(OPEN, recipients_per_message=3)) as simulator, courier_of() as courier:
        outcomes = await send(courier, hop_to(simulator, recipients_per_message=5), *recipients)
        assert all(isinstance(one, Delivered) for one in outcomes), outcomes
        assert sorted(path for taken in simulator.received for path in taken.recipients) == recipients


async def test_a_cancelled_message_before_the_dot_frees_its_session() -> None:
    script = FaultScript(Fault(FaultStage.MAIL, Silence(), transaction=1, session=1))
    async with (
        Simulator(OPEN, script) as simulator,
        courier_of() as courier,
    ):
        hop = hop_to(simulator, connections=1)
        task = asyncio.create_task(send(courier, hop))
        async with asyncio.timeout(30):
            while not script.applied:
                await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert isinstance((await send(courier, hop))[0], Delivered)


@pytest.mark.parametrize("kind", [CertificateKind.EXPIRED, CertificateKind.OTHER_AUTHORITY, CertificateKind.OTHER_NAME])
async def test_an_invalid_certificate_stops_the_mail(kind: CertificateKind) -> None:
    async with Simulator(replace(OPEN, certificate=kind)) as simulator, courier_of() as courier:
        (outcome,) = await send(courier, hop_to(simulator))
        assert isinstance(outcome, Deferred)
        assert not simulator.received
        assert courier.statuses()[0].cause == "certificate"


async def test_starttls_that_is_not_offered_stops_the_mail() -> None:
    async with Simulator(replace(OPEN, starttls_offered=False)) as simulator, courier_of() as courier:
        (outcome,) = await send(courier, hop_to(simulator))
        assert isinstance(outcome, Deferred)
        assert "nothing was sent" in outcome.reply.text
        assert not simulator.received


async def test_opportunistic_tls_takes_any_certificate_and_none() -> None:
    async with courier_of() as courier:
        for settings, encrypted in (
            (replace(OPEN, certificate=CertificateKind.SELF_SIGNED), True),
            (replace(OPEN, starttls_offered=False), False),
        ):
            async with Simulator(settings) as simulator:
                server = HopServer(simulator.host, simulator.port_starttls, HopTls.OPPORTUNISTIC, is_public=True)
                session = await courier.opener.open(server, group="mx")
                assert isinstance(session, HopSession), session
                assert session.encrypted is encrypted
                await session.quit()


async def test_a_client_certificate_lets_us_in_and_its_lack_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("senderproxy.delivery.tls_contexts._CHECK_TIMEOUT", 30.0)  # a changed key may be read late
    authority, other = trustme.CA(), trustme.CA()
    pem = authority.cert_pem.bytes().decode()
    async with Simulator(replace(OPEN, client_authority=pem)) as simulator, courier_of() as courier:
        plain = hop_to(simulator)
        assert isinstance((await send(courier, plain))[0], Deferred)
        for issuer, expected in ((other, Deferred), (authority, Delivered)):
            cert = issuer.issue_cert("client.firma.example")
            paths = tmp_path / f"{expected.__name__}.pem", tmp_path / f"{expected.__name__}.key"
            cert.cert_chain_pems[0].write_to_path(paths[0])
            cert.private_key_pem.write_to_path(paths[1])
            hop = replace(plain, client=ClientCertificate(*map(str, paths)))
            assert [type(one) for one in await send(courier, hop)] == [expected]
        assert len(simulator.received) == 1
        paths[1].write_text("no key\n")
        hop = replace(plain, client=ClientCertificate(str(paths[0]), str(paths[1])), name="broken")
        (outcome,) = await send(courier, hop)
        assert isinstance(outcome, Deferred)
        assert "client certificate" in outcome.reply.text


@pytest.mark.parametrize(("host", "is_own"), [("127.0.0.1", True), ("0.0.0.0", True), ("192.168.1.2", False)])
async def test_a_listener_of_our_own_is_never_a_hop(host: str, is_own: bool) -> None:
    async with Simulator(OPEN) as simulator, courier_of() as courier:
        courier.opener.own_listeners = frozenset({(host, simulator.port_starttls)})
        (outcome,) = await send(courier, InternalHop(smarthost_of(simulator, Security.NONE)))
        assert isinstance(outcome, Deferred) is is_own
        assert ("EHLO" in [verb for session in simulator.sessions for verb in session.verbs]) is not is_own
        if is_own:
            assert "listener of this service" in outcome.reply.text


@pytest.mark.parametrize(
    ("address", "internal"),
    [
        ("127.0.0.1", True), ("10.1.2.3", True), ("172.31.0.1", True), ("172.32.0.1", False), ("192.168.1.20", True),
        ("8.8.8.8", False), ("192.0.2.1", False), ("::1", True), ("fd00::1", True), ("fe80::1", True), ("2001:db8::1", False),
        ("::ffff:192.168.1.1", True), ("::ffff:8.8.8.8", False), ("0.0.0.0", False), ("100.64.0.1", False),
    ],
)  # fmt: skip
def test_internal_addresses(address: str, internal: bool) -> None:
    assert is_internal_ip(ip_address(address)) is internal


async def test_without_tls_nothing_is_sent_to_a_public_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("senderproxy.delivery.hops.opening.is_internal_ip", lambda address: False)
    async with Simulator(OPEN) as simulator, courier_of() as courier:
        (outcome,) = await send(courier, hop_to(simulator, Security.NONE))
        assert isinstance(outcome, Deferred)
        assert "public address" in outcome.reply.text
        assert not simulator.received


async def test_mx_hops_are_deferred_without_an_mx_delivery() -> None:
    async with courier_of() as courier:
        (outcome,) = await send(courier, MxHop("kunde.example"))
        assert isinstance(outcome, Deferred)
        assert not outcome.of_account


async def test_a_changed_server_of_the_same_name_gets_the_next_message() -> None:
    async with Simulator(OPEN) as old, Simulator(OPEN) as new, courier_of() as courier:
        await send(courier, hop_to(old))
        await send(courier, hop_to(new))
        assert [len(old.received), len(new.received)] == [1, 1]
        await old.wait_until(lambda simulator: simulator.sessions[0].ended == "quit")
        courier.keep(set())
        assert not courier.statuses()
        await new.wait_until(lambda simulator: simulator.sessions[0].ended == "quit")


async def test_a_closed_courier_opens_nothing() -> None:
    async with Simulator(OPEN) as simulator, courier_of() as courier:
        hop = hop_to(simulator)
        await send(courier, hop)
        await courier.close()
        (outcome,) = await send(courier, hop)
        assert isinstance(outcome, Deferred)
        assert simulator.connections == 1


def test_the_servers_name_in_replies() -> None:
    server = HopServer.of(Smarthost("relay.example", 25, Security.STARTTLS, "/ca.pem"))
    assert (str(server.smarthost), server.tls) == ("relay.example:25", HopTls.STARTTLS)
