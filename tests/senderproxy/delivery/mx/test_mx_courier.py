"""The courier to mail servers, with servers that do what a script says: nothing twice, nothing lost, no login ever."""

import ast
import asyncio
import inspect
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from senderproxy.delivery import mx
from senderproxy.delivery.mx.courier import DOMAINS
from senderproxy.delivery.mx.hosts import Ourselves
from senderproxy.delivery.session import SessionTimeouts
from senderproxy.mail.address import NULL_PATH
from senderproxy.mail.outcome import NEEDS_SEVEN_BIT, Deferred, Delivered, Failed, Outcome
from senderproxy.mail.reply import reply
from senderproxy.routing.account import AccessToken, Credential
from senderproxy.routing.hops import MxHop, ProviderMxHop
from senderproxy.simulator.faults import Delay, Drop, Fault, FaultAction, FaultScript, FaultStage, ReplyWith, Silence
from senderproxy.simulator.provider_replies import POSTFIX, server_reply
from senderproxy.simulator.server import Simulator
from senderproxy.simulator.settings import CertificateKind, SimulatorSettings
from tests.senderproxy.delivery.messages import PATIENT, impatient_at, make_message, to
from tests.senderproxy.delivery.mx.bench import DOMAIN, MxBench, mx_bench, zone

# No mailboxes: it takes mail from everyone. It offers AUTH all the same, as some mail servers do.
OPEN = SimulatorSettings(
    null_reverse_path_accepted=True, pipelining=True, second_ehlo_refused=False, replies=POSTFIX, check_header=False
)
MX1, MX2 = "mx1.kunde.example", "mx2.kunde.example"
PROVIDER = ProviderMxHop(DOMAIN, "ionos")


@asynccontextmanager
async def two_servers(
    *faults: Fault,
    settings: SimulatorSettings = OPEN,
    records: Mapping[tuple[str, str], list[str]] | None = None,
    timeouts: SessionTimeouts = PATIENT,
    ourselves: Ourselves | None = None,
    providers: Sequence[str] = (),
) -> AsyncIterator[tuple[MxBench, Simulator, Simulator]]:
    """A domain with a preferred server that has faults, and another one."""
    async with Simulator(settings, FaultScript(*faults)) as first, Simulator(OPEN) as second:
        ports = {MX1: first.port_starttls, MX2: second.port_starttls}
        async with mx_bench(
            records or zone((10, MX1), (20, MX2)), ports, timeouts=timeouts, ourselves=ourselves, providers=providers
        ) as o:
            yield o, first, second


def taken(*servers: Simulator) -> list[int]:
    return [len(server.received) for server in servers]


def kinds(outcomes: Sequence[Outcome]) -> list[type]:
    return [type(outcome) for outcome in outcomes]


def refusal(stage: FaultStage, code: int, *lines: str, times: int | None = None) -> Fault:
    return Fault(stage, ReplyWith(server_reply(code, *lines)), times=times)


# ---- no login ----


@pytest.mark.parametrize("certificate", list(CertificateKind))
async def test_no_login_is_sent_although_the_server_offers_one_and_tls_is_used(certificate: CertificateKind) -> None:
    async with two_servers(settings=replace(OPEN, certificate=certificate)) as (o, first, _):
        assert kinds(await o.send()) == [Delivered]
        (session,) = first.sessions
        assert session.tls_version is not None
        assert "AUTH" not in session.verbs
        assert not first.logins()


async def test_no_credential_is_revealed_for_a_mail_server(monkeypatch: pytest.MonkeyPatch) -> None:
    revealed: list[object] = []

    def reveal(secret: object) -> str:
        revealed.append(secret)
        return ""

    for kind in (Credential, AccessToken):
        monkeypatch.setattr(kind, "reveal", reveal)
    async with two_servers() as (o, _, _second):
        await o.send()
        await o.send(hop=PROVIDER)
    assert not revealed


def test_the_package_can_reach_no_login() -> None:
    """Nothing that it imports by name is about an account, a credential or a login; the contracts hold the rest."""
    for file in Path(inspect.getfile(mx)).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                names = {node.module or "", *(alias.name for alias in node.names)}
                assert not any(
                    word in name.lower() for name in names for word in ("credential", "login", "routing.account", "ssl")
                ), f"{file.name}: {names}"


# ---- nothing twice ----


@pytest.mark.parametrize("fault", [Drop(after_storing=True), Drop(), Silence(after_storing=True)])
async def test_a_lost_reply_to_the_message_is_not_followed_by_another_server(fault: FaultAction) -> None:
    async with two_servers(Fault(FaultStage.DOT, fault), timeouts=impatient_at(FaultStage.DOT)) as (o, first, second):
        (outcome,) = await o.send()
        assert isinstance(outcome, Deferred)
        assert outcome.maybe_taken
        assert not outcome.of_account
        assert not outcome.handed_back
        assert len(second.sessions) == 0
        assert len(first.sessions) == 1


async def test_after_a_lost_reply_nothing_goes_back_to_the_account() -> None:
    fault = Fault(FaultStage.DOT, Drop(after_storing=True))
    async with two_servers(fault, providers=[MX1, MX2]) as (o, _, second):
        (outcome,) = await o.send(hop=PROVIDER)
        assert isinstance(outcome, Deferred)
        assert outcome.maybe_taken
        assert not outcome.handed_back
        assert taken(second) == [0]


@pytest.mark.parametrize("stage", [FaultStage.MAIL, FaultStage.RCPT, FaultStage.DATA, FaultStage.BODY])
@pytest.mark.parametrize("fault", [Drop(), Silence()])
async def test_a_session_lost_before_the_end_is_followed_by_the_next_server(
    stage: FaultStage, fault: FaultAction
) -> None:
    async with two_servers(Fault(stage, fault), timeouts=impatient_at(stage)) as (o, first, second):
        message = make_message(*[(b"x" * 70 + b"\r\n") * 900] * 300) if stage is FaultStage.BODY else make_message()
        sending = asyncio.create_task(o.send(message=message))
        await first.wait_until(lambda it: bool(it.sessions) and "MAIL" in it.sessions[0].verbs)
        o.courier.opener.timeouts = PATIENT  # for the second server, which answers
        assert kinds(await sending) == [Delivered]
        assert taken(first, second) == [0, 1]


async def test_only_the_recipients_that_a_server_did_not_take_go_to_the_next_one() -> None:
    settings = replace(OPEN, recipient_replies={f"b@{DOMAIN}": server_reply(451, "4.3.5 Configuration error")})
    async with two_servers(settings=settings) as (o, first, second):
        assert kinds(await o.send(f"a@{DOMAIN}", f"b@{DOMAIN}")) == [Delivered, Delivered]
        assert [list(map(str, one.recipients)) for one in first.received] == [[f"a@{DOMAIN}"]]
        assert [list(map(str, one.recipients)) for one in second.received] == [[f"b@{DOMAIN}"]]


async def test_an_idle_session_that_died_is_replaced_at_the_same_server() -> None:
    async with two_servers(Fault(FaultStage.MAIL, Drop(), transaction=2)) as (o, first, second):
        assert kinds(await o.send()) == [Delivered]
        assert kinds(await o.send()) == [Delivered]
        assert taken(first, second) == [2, 0]


async def test_a_cancelled_attempt_leaves_no_session_behind() -> None:
    async with two_servers(Fault(FaultStage.MAIL, Delay(5.0))) as (o, first, _):
        attempt = asyncio.create_task(o.send())
        await first.wait_until(lambda it: bool(it.sessions) and "MAIL" in it.sessions[0].verbs)
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
        assert not o.courier._states[str(MxHop(DOMAIN))].sessions.busy
        assert o.courier._states[str(MxHop(DOMAIN))].attempts == 0
        first.script.clear()
        assert kinds(await o.send()) == [Delivered]


# ---- what a reply means ----

REPLIES: list[tuple[FaultStage, int, str, type, str]] = [
    (FaultStage.MAIL, 550, "5.7.1 Blocked using a list", Failed, "5.7.1"),
    (FaultStage.MAIL, 552, "5.3.4 Message too big", Failed, "5.3.4"),
    (FaultStage.MAIL, 450, "4.7.1 Greylisted", Deferred, "4.7.1"),
    (FaultStage.RCPT, 550, "5.1.1 No such user", Failed, "5.1.1"),
    (FaultStage.RCPT, 554, "5.7.1 anna@firma.example is not welcome", Failed, "5.7.1"),
    (FaultStage.RCPT, 550, "mailbox unavailable", Failed, "5.1.0"),
    (FaultStage.RCPT, 552, "5.2.2 Mailbox full", Failed, "5.2.2"),
    (FaultStage.RCPT, 450, "4.2.0 Greylisted, see postgrey", Deferred, "4.2.0"),
    (FaultStage.RCPT, 452, "4.2.2 Mailbox full", Deferred, "4.2.2"),
    (FaultStage.DATA, 554, "5.5.1 No valid recipients", Failed, "5.5.1"),
    (FaultStage.DOT, 554, "5.7.1 Spam", Failed, "5.7.1"),
    (FaultStage.DOT, 550, "message refused: your account is over quota", Failed, "5.6.0"),
    (FaultStage.DOT, 451, "4.7.1 Later", Deferred, "4.7.1"),
]


@pytest.mark.parametrize(("stage", "code", "text", "kind", "status"), REPLIES)
async def test_a_reply_about_the_message_or_a_recipient_is_final_as_its_code_says(
    stage: FaultStage, code: int, text: str, kind: type, status: str
) -> None:
    async with two_servers(refusal(stage, code, text)) as (o, first, second):
        (outcome,) = await o.send()
        assert isinstance(outcome, kind), outcome
        assert str(outcome.reply.status) == status
        assert not isinstance(outcome, Delivered)
        assert outcome.remote == MX1
        assert getattr(outcome, "refused_sender", None) is None
        assert taken(first, second) == [0, 0]
        assert len(second.sessions) == 0


@pytest.mark.parametrize(
    ("stage", "code", "text"),
    [
        (FaultStage.BANNER, 554, "No SMTP service here"),
        (FaultStage.BANNER, 421, "Too many connections"),
        (FaultStage.EHLO, 550, "Who are you?"),
        (FaultStage.MAIL, 421, "4.3.2 Closing"),
        (FaultStage.MAIL, 452, "4.3.1 Insufficient system storage"),
        (FaultStage.RCPT, 451, "4.3.0 Aliases cannot be read"),
        (FaultStage.RCPT, 421, "4.4.2 Closing"),
        (FaultStage.DOT, 451, "4.3.0 Queue file write error"),
    ],
)
async def test_a_reply_about_the_server_is_followed_by_the_next_one(stage: FaultStage, code: int, text: str) -> None:
    async with two_servers(refusal(stage, code, text)) as (o, first, second):
        assert kinds(await o.send()) == [Delivered]
        assert taken(first, second) == [0, 1]


@pytest.mark.parametrize("code", [500, 502])
async def test_a_server_that_knows_no_ehlo_gets_helo(code: int) -> None:
    async with two_servers(refusal(FaultStage.EHLO, code, "Command unknown", times=1)) as (o, first, _):
        assert kinds(await o.send()) == [Delivered]
        assert first.sessions[0].verbs[:3] == ["EHLO", "HELO", "MAIL"]


async def test_content_with_eight_bits_is_for_the_relay_to_encode() -> None:
    async with two_servers(settings=replace(OPEN, eight_bit_mime=False)) as (o, first, second):
        assert await o.send(message=make_message("Grüße\r\n".encode())) == [NEEDS_SEVEN_BIT]
        assert await o.send(hop=PROVIDER, message=make_message("Grüße\r\n".encode())) != [NEEDS_SEVEN_BIT]
        assert taken(first, second) == [0, 0]


# ---- what the DNS says ----


@pytest.mark.parametrize(
    ("records", "kind", "status"),
    [
        ({(DOMAIN, "MX"): ["0 ."]}, Failed, "5.1.10"),
        ({("other.example", "A"): ["127.0.0.1"]}, Failed, "5.1.2"),
        (zone((10, "office.example")), Failed, "5.4.6"),
        (zone((10, "office.example"), (20, MX2)), Failed, "5.4.6"),
    ],
)
async def test_a_domain_without_a_server_for_us_is_refused_without_a_connection(
    records: Mapping[tuple[str, str], list[str]], kind: type, status: str
) -> None:
    async with two_servers(records=records) as (o, first, second):
        (outcome,) = await o.send()
        assert isinstance(outcome, kind)
        assert str(outcome.reply.status) == status
        assert not first.sessions
        assert not second.sessions
        assert o.courier.availability(DOMAIN).reason is None


async def test_mail_is_never_sent_to_this_machine_whatever_it_is_called() -> None:
    ours = Ourselves(frozenset(), frozenset({ip_address("127.0.0.1")}), public_only=False)
    async with two_servers(ourselves=ours) as (o, first, _):
        (outcome,) = await o.send()
        assert str(outcome.reply.status) == "5.4.6"
        assert not first.sessions


async def test_a_strangers_domain_that_points_into_the_internal_network_is_refused() -> None:
    async with two_servers(ourselves=Ourselves()) as (o, first, _):
        (outcome,) = await o.send()
        assert isinstance(outcome, Failed)
        assert str(outcome.reply.status) == "5.4.4"
        assert not first.sessions


async def test_a_name_server_that_fails_pauses_the_domain_for_a_short_time() -> None:
    async with two_servers() as (o, first, _):
        o.names.failing.add(DOMAIN)
        for _attempt in range(5):
            (outcome,) = await o.send()
            assert isinstance(outcome, Deferred)
            assert outcome.of_account
            assert str(outcome.reply.status) == "4.4.3"
            left = o.courier.availability(DOMAIN).retry_after
            assert left is not None
            assert left <= 300
            o.clock.ahead += left
        o.names.failing.clear()
        o.clock.ahead += 60
        assert kinds(await o.send()) == [Delivered]
        assert taken(first) == [1]


# ---- SPF ----


async def test_nothing_leaves_for_a_domain_whose_spf_record_does_not_name_us() -> None:
    async with two_servers(providers=[MX1, MX2]) as (o, first, second):
        o.refusals["firma.example"] = reply(451, "4.7.0", "The SPF record of firma.example does not name 203.0.113.7")
        (outcome,) = await o.send()
        assert isinstance(outcome, Deferred)
        assert not outcome.of_account
        assert not outcome.handed_back
        (outcome,) = await o.send(hop=PROVIDER)
        assert isinstance(outcome, Deferred)
        assert outcome.handed_back
        assert not first.sessions
        bounce = to(f"carl@{DOMAIN}").with_reverse_path(NULL_PATH)
        assert kinds(await o.send(envelope=bounce)) == [Delivered]
        assert taken(first, second) == [1, 0]


# ---- the provider's own servers ----


async def test_the_providers_servers_take_mail_and_refuse_recipients() -> None:
    settings = replace(OPEN, recipient_replies={f"b@{DOMAIN}": server_reply(550, "5.1.1 Unknown user")})
    async with two_servers(settings=settings, providers=[MX1, MX2]) as (o, first, _):
        good, bad = await o.send(f"a@{DOMAIN}", f"b@{DOMAIN}", hop=PROVIDER)
        assert isinstance(good, Delivered)
        assert isinstance(bad, Failed)
        assert taken(first) == [1]


@pytest.mark.parametrize(
    ("hop", "providers"),
    [(PROVIDER, []), (PROVIDER, [MX1]), (ProviderMxHop(DOMAIN, "gmx"), [MX1, MX2])],
)
async def test_a_domain_with_other_servers_goes_by_the_account(hop: ProviderMxHop, providers: list[str]) -> None:
    async with two_servers(providers=providers) as (o, first, second):
        (outcome,) = await o.send(hop=hop)
        assert isinstance(outcome, Deferred)
        assert outcome.handed_back
        assert not first.sessions
        assert not second.sessions


@pytest.mark.parametrize("records", [{(DOMAIN, "MX"): ["0 ."]}, {("x.example", "A"): ["127.0.0.1"]}])
async def test_a_domain_without_servers_goes_by_the_account(records: Mapping[tuple[str, str], list[str]]) -> None:
    async with two_servers(records=records, providers=[MX1, MX2]) as (o, _, _second):
        (outcome,) = await o.send(hop=PROVIDER)
        assert isinstance(outcome, Deferred)
        assert outcome.handed_back


@pytest.mark.parametrize(
    ("stage", "code", "text"),
    [
        (FaultStage.MAIL, 550, "5.7.1 SPF check failed"),
        (FaultStage.RCPT, 550, "5.7.23 SPF check failed"),
        (FaultStage.MAIL, 550, "Sender address is not allowed."),
        (FaultStage.RCPT, 554, "5.7.1 Blocked using a list"),
        (FaultStage.RCPT, 550, "Your IP address is blocked"),
        (FaultStage.MAIL, 421, "Rate limit reached. Please try again later"),
        (FaultStage.BANNER, 554, "IP address is blacklisted"),
    ],
)
async def test_a_refusal_of_us_before_the_message_goes_back_to_the_account(
    stage: FaultStage, code: int, text: str
) -> None:
    async with two_servers(refusal(stage, code, text), records=zone((10, MX1)), providers=[MX1]) as (o, first, _):
        (outcome,) = await o.send(hop=PROVIDER)
        assert isinstance(outcome, Deferred), outcome
        assert outcome.handed_back
        assert outcome.reply.code == 451 or outcome.reply.is_transient
        assert taken(first) == [0]


@pytest.mark.parametrize(
    ("stage", "code", "text", "kind"),
    [
        (FaultStage.DOT, 554, "5.7.1 Spam", Failed),
        (FaultStage.DOT, 451, "4.7.1 Later", Deferred),
        (FaultStage.RCPT, 550, "5.2.1 Mailbox disabled", Failed),
        (FaultStage.RCPT, 452, "4.2.2 Mailbox full", Deferred),
    ],
)
async def test_a_refusal_of_the_message_or_recipient_stays(stage: FaultStage, code: int, text: str, kind: type) -> None:
    async with two_servers(refusal(stage, code, text), records=zone((10, MX1)), providers=[MX1]) as (o, _, _second):
        (outcome,) = await o.send(hop=PROVIDER)
        assert isinstance(outcome, kind), outcome
        assert not getattr(outcome, "handed_back", False)


async def test_a_pause_of_mx_delays_no_message_for_the_providers_servers() -> None:
    async with two_servers(providers=[MX1, MX2]) as (o, first, _):
        ports, o.ports[MX1], o.ports[MX2] = dict(o.ports), 1, 1
        (outcome,) = await o.send()
        assert isinstance(outcome, Deferred)
        assert outcome.of_account
        (outcome,) = await o.send(hop=PROVIDER)
        assert isinstance(outcome, Deferred)
        assert outcome.handed_back
        o.ports.update(ports)
        o.clock.ahead += 70
        assert kinds(await o.send(hop=PROVIDER)) == [Delivered]
        assert o.courier.availability(DOMAIN).reason is None
        assert taken(first) == [1]


async def test_no_connection_for_the_provider_blocks_nothing() -> None:
    async with two_servers(providers=[MX1, MX2]) as (o, _, _second):
        o.ports[MX1] = o.ports[MX2] = 1
        await o.send(hop=PROVIDER)
        assert o.courier.availability(DOMAIN).reason is None
        assert not o.courier.statuses()


# ---- for the operator ----


async def test_failing_domains_are_shown_and_several_are_an_outage() -> None:
    domains = [f"{letter}.example" for letter in "abc"]
    records = {(domain, "MX"): [f"10 {MX1}."] for domain in domains} | {(MX1, "A"): ["127.0.0.1"]}
    async with Simulator(OPEN) as server, mx_bench(records, {MX1: server.port_starttls}) as o:
        assert kinds(await o.send("carl@a.example")) == [Delivered]
        assert not o.courier.statuses()
        o.clock.ahead += 60
        o.ports[MX1] = 1
        for domain in domains:
            assert o.courier.outage() is None
            await o.send(f"carl@{domain}")
        assert [one.way for one in o.courier.statuses()] == [f"mx {domain}" for domain in domains]
        outage = o.courier.outage()
        assert outage is not None
        assert (outage.way, outage.server) == ("mx", "port 25")
        assert "refused the connection" in str(outage.reply)
        o.ports[MX1] = server.port_starttls
        o.clock.ahead += 120
        assert kinds(await o.send("carl@b.example")) == [Delivered]
        assert o.courier.outage() is None
        assert [one.way for one in o.courier.statuses()] == ["mx a.example", "mx c.example"]


# ---- bounds and the end ----


async def test_the_states_of_domains_are_bounded() -> None:
    async with mx_bench({("one.example", "MX"): ["0 ."]}, {}) as o:
        for number in range(DOMAINS + 30):
            await o.send(f"a@{number}.example")
        assert len(o.courier._states) == DOMAINS


async def test_idle_sessions_of_all_domains_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("senderproxy.delivery.mx.courier.IDLE_SESSIONS", 3)
    domains = [f"{letter}.example" for letter in "abcdef"]
    records = {(domain, "MX"): [f"10 {MX1}."] for domain in domains} | {(MX1, "A"): ["127.0.0.1"]}
    async with Simulator(OPEN) as server, mx_bench(records, {MX1: server.port_starttls}) as o:
        for domain in domains:
            await o.send(f"carl@{domain}")
            assert sum(state.sessions.idle for state in o.courier._states.values()) <= 3
        assert taken(server) == [6]


async def test_after_the_end_nothing_is_sent() -> None:
    async with two_servers() as (o, first, _):
        await o.send()
        await o.courier.close()
        (outcome,) = await o.send()
        assert isinstance(outcome, Deferred)
        assert outcome.of_account
        assert taken(first) == [1]


async def test_one_domain_that_hangs_delays_no_other() -> None:
    records = zone((10, MX1)) | zone((10, MX2), domain="schnell.example")
    async with two_servers(Fault(FaultStage.BANNER, Silence()), records=records) as (o, first, _):
        hanging = [asyncio.create_task(o.send()) for _ in range(5)]
        await first.wait_until(lambda it: bool(it.sessions))
        assert kinds(await o.send("carl@schnell.example", hop=MxHop("schnell.example"))) == [Delivered]
        assert not any(task.done() for task in hanging)
        assert len(first.sessions) <= 2
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
