"""A login is tried once, on a session of its own; senders are probed without a message."""

import pytest

from senderproxy.clock import SystemClock
from senderproxy.delivery.login_check import (
    LoginOk,
    LoginRefused,
    LoginUnchecked,
    Probed,
    SenderAnswer,
    check_login,
    probe_senders,
)
from senderproxy.delivery.opening import SessionOpener
from senderproxy.delivery.resolver import Resolver
from senderproxy.mail.address import NULL_PATH, ReversePath, parse_address
from senderproxy.routing.account import Account, Credential
from senderproxy.routing.provider import Provider
from senderproxy.simulator.faults import Drop, Fault, FaultScript, FaultStage, ReplyWith
from senderproxy.simulator.provider_replies import SEND_LIMIT, ServerReply, server_reply
from senderproxy.simulator.server import Simulator
from tests.senderproxy.delivery.messages import ANNA, HOSTNAME, PATIENT, SETTINGS, credential, smarthost_of
from tests.senderproxy.delivery.office import account_of

OPENER = SessionOpener(PATIENT, HOSTNAME, Resolver(SystemClock()))
ACCOUNT = account_of("anna", ANNA)
CARL = parse_address("carl@elsewhere.example")
OWN, FOREIGN = parse_address(ANNA), parse_address("x@example.com")
SENDERS: tuple[ReversePath, ...] = (OWN, FOREIGN, NULL_PATH)


def at(simulator: Simulator) -> tuple[Account, Provider, Credential]:
    return ACCOUNT, Provider("simulator", (smarthost_of(simulator),)), credential()


async def test_an_accepted_login_names_the_smarthost_and_leaves_no_session() -> None:
    async with Simulator(SETTINGS) as simulator:
        assert await check_login(OPENER, *at(simulator)) == LoginOk(str(smarthost_of(simulator)), "PLAIN")
        await simulator.wait_until(lambda simulator: [session.ended for session in simulator.sessions] == ["quit"])


async def test_a_refused_login_costs_one_failed_login_and_leaves_no_session() -> None:
    async with Simulator(SETTINGS) as simulator:
        account, provider, _ = at(simulator)
        result = await check_login(OPENER, account, provider, credential(secret="geheim-falsch"))
        assert isinstance(result, LoginRefused)
        assert "535" in result.reply.text
        assert "senderproxy account set-password anna" in result.reply.text
        assert simulator.failed_logins() == 1
        await simulator.wait_until(lambda simulator: simulator.open_connections == 0)


async def test_an_unreachable_provider_is_not_a_refused_login() -> None:
    async with Simulator(SETTINGS) as simulator:
        await simulator.go_offline()
        result = await check_login(OPENER, *at(simulator))
        assert isinstance(result, LoginUnchecked)
        assert "refused the connection" in result.reply.text


async def test_each_sender_has_its_reply_on_one_session_without_data() -> None:
    async with Simulator(SETTINGS) as simulator:
        result = await probe_senders(OPENER, *at(simulator), SENDERS, CARL)
        assert isinstance(result, Probed)
        assert [entry.path for entry in result.answers] == list(SENDERS)
        assert [entry.reply.is_positive for entry in result.answers] == [True, False, False]
        assert result.ended is None
        await simulator.wait_until(lambda simulator: [session.ended for session in simulator.sessions] == ["quit"])
        assert "DATA" not in simulator.sessions[0].verbs
        assert len(simulator.logins()) == 1


@pytest.mark.parametrize(
    "refusal", [server_reply(550, "Sender address is not allowed."), SEND_LIMIT], ids=["refused", "limit"]
)
async def test_a_probe_ends_where_the_own_address_is_not_accepted(refusal: ServerReply) -> None:
    script = FaultScript(Fault(FaultStage.MAIL, ReplyWith(refusal)))
    async with Simulator(SETTINGS, script) as simulator:
        result = await probe_senders(OPENER, *at(simulator), SENDERS, CARL)
        assert isinstance(result, Probed)
        assert [(entry.path, entry.at_mail) for entry in result.answers] == [(OWN, True)]


async def test_a_probe_on_a_session_that_ends_gives_the_reason() -> None:
    script = FaultScript(Fault(FaultStage.MAIL, Drop(), transaction=2))
    async with Simulator(SETTINGS, script) as simulator:
        result = await probe_senders(OPENER, *at(simulator), SENDERS, CARL)
        assert isinstance(result, Probed)
        assert [type(entry) for entry in result.answers] == [SenderAnswer]
        assert result.ended is not None
        assert "closed the connection (stage: MAIL FROM)" in result.ended.text


async def test_a_refused_login_probes_no_sender() -> None:
    async with Simulator(SETTINGS) as simulator:
        account, provider, _ = at(simulator)
        result = await probe_senders(OPENER, account, provider, credential(secret="geheim-falsch"), SENDERS, CARL)
        assert isinstance(result, LoginRefused)
        assert "MAIL" not in simulator.sessions[0].verbs
