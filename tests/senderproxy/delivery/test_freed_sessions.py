"""A session that ended leaves nothing in memory, without the garbage collector."""

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from senderproxy.delivery.session import Session, SessionTimeouts
from senderproxy.routing.provider import Security
from senderproxy.simulator.faults import (
    AppendOctets,
    Drop,
    Fault,
    FaultAction,
    FaultScript,
    FaultStage,
    RawOctets,
    ReplyWith,
    Silence,
)
from senderproxy.simulator.provider_replies import server_reply
from senderproxy.simulator.server import Simulator
from senderproxy.simulator.settings import CertificateKind
from tests.fakes.connection_objects import no_collector, nothing_left, outbound
from tests.senderproxy.delivery.messages import IMPATIENT, SETTINGS, open_at, smarthost_of
from tests.senderproxy.delivery.office import office

SESSIONS = 8
SHORT = replace(IMPATIENT, connect=0.1, greeting=0.1, ehlo=0.1, auth=0.1, mail=0.1, rcpt=0.1, data=0.1, final_dot=0.1)
PIPELINED = replace(SETTINGS, pipelining=True)
PATIENT = SessionTimeouts(quit=0.1)


NOT_BY_ONE_MESSAGE = (FaultStage.RSET, FaultStage.NOOP, FaultStage.QUIT)


def port_of(simulator: Simulator, security: Security) -> int:
    return smarthost_of(simulator, security).port


@pytest.mark.parametrize("security", [Security.STARTTLS, Security.IMPLICIT_TLS])
@pytest.mark.parametrize("settings", [SETTINGS, PIPELINED], ids=["lock-step", "pipelined"])
async def test_a_session_that_was_closed_is_freed(security: Security, settings: Any) -> None:
    async with Simulator(settings) as simulator:
        with no_collector():
            async with office(smarthost_of(simulator, security), messages_per_connection=2) as o:
                for number in range(2 * SESSIONS):
                    await o.send_one(text=f"Brief {number}")
                assert len(simulator.sessions) == SESSIONS
            assert not await nothing_left(lambda: outbound(port_of(simulator, security)))


ACTIONS: list[FaultAction] = [
    Drop(),
    Silence(),
    ReplyWith(server_reply(421, "4.3.2 closing"), then_drop=True),
    ReplyWith(server_reply(451, "4.3.0 later")),
    ReplyWith(server_reply(550, "5.7.1 no")),
    RawOctets(b"\0\xff no SMTP\r\n"),
    AppendOctets(b"250 once more\r\n"),  # only to a reply
]
REPLIES = set(FaultStage) - {FaultStage.CONNECT, FaultStage.HANDSHAKE, FaultStage.BODY}


async def _fault_leaves_nothing(settings: Any, security: Security, fault: Fault) -> None:
    async with Simulator(settings, FaultScript(fault)) as simulator:
        with no_collector():
            async with office(smarthost_of(simulator, security), timeouts=SHORT, connections=2) as o:
                await asyncio.gather(*(o.send_one(text=f"Brief {number}") for number in range(3)))
            left = await nothing_left(lambda: outbound(port_of(simulator, security)))
            assert (fault.action, left) == (fault.action, Counter())


@pytest.mark.parametrize("stage", list(FaultStage), ids=lambda stage: stage.value)
@pytest.mark.parametrize("settings", [SETTINGS, PIPELINED], ids=["lock-step", "pipelined"])
async def test_a_session_with_a_fault_is_freed_and_no_exception_is_left(settings: Any, stage: FaultStage) -> None:
    unhandled: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
    security = Security.STARTTLS if stage is FaultStage.STARTTLS else Security.IMPLICIT_TLS
    with no_collector():
        for action in ACTIONS if stage in REPLIES else ACTIONS[:-1]:
            await _fault_leaves_nothing(settings, security, Fault(stage, action))
    assert unhandled == []


@pytest.mark.parametrize("stage", list(FaultStage), ids=lambda stage: stage.value)
async def test_a_cancelled_session_is_freed(stage: FaultStage) -> None:
    unhandled: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
    security = Security.STARTTLS if stage is FaultStage.STARTTLS else Security.IMPLICIT_TLS
    for settings in (SETTINGS, PIPELINED):
        script = FaultScript(Fault(stage, Silence()))
        async with Simulator(settings, script) as simulator:
            with no_collector():
                async with office(smarthost_of(simulator, security), timeouts=PATIENT, grace=0) as o:
                    sending = asyncio.create_task(o.send_one())
                    if stage not in NOT_BY_ONE_MESSAGE:
                        while not script.applied:
                            await asyncio.sleep(0.005)
                        sending.cancel()
                    if stage not in (
                        FaultStage.BODY,
                        FaultStage.DOT,
                    ):  # after the final dot the reply is awaited until the courier closes
                        await asyncio.wait((sending,))
                await asyncio.wait((sending,))
                del sending
                assert not await nothing_left(lambda: outbound(port_of(simulator, security)))
    assert unhandled == []


@pytest.mark.parametrize("kind", [kind for kind in CertificateKind if kind is not CertificateKind.GOOD])
@pytest.mark.parametrize("security", [Security.STARTTLS, Security.IMPLICIT_TLS])
async def test_a_session_with_an_invalid_certificate_is_freed(security: Security, kind: CertificateKind) -> None:
    async with Simulator(replace(SETTINGS, certificate=kind)) as simulator:
        with no_collector():
            for _ in range(SESSIONS):
                assert not isinstance(await open_at(smarthost_of(simulator, security)), Session)
            assert not await nothing_left(lambda: outbound(port_of(simulator, security)))


async def test_an_upstream_without_a_listener_leaves_nothing() -> None:
    async with Simulator(SETTINGS) as simulator:
        smarthost = smarthost_of(simulator)
    with no_collector():
        for _ in range(SESSIONS):
            assert not isinstance(await open_at(smarthost), Session)
        assert not await nothing_left(lambda: outbound(smarthost.port))


@pytest.mark.slow
async def test_three_hundred_sessions_that_ended_were_cut_off_or_cancelled_leave_nothing() -> None:
    script = FaultScript()
    async with Simulator(SETTINGS, script) as simulator:
        with no_collector():
            smarthost = smarthost_of(simulator, Security.STARTTLS)
            async with office(smarthost, timeouts=PATIENT, messages_per_connection=1) as o:
                for number in range(300):
                    action = (None, Drop(), Silence())[number % 3]
                    stage = (FaultStage.MAIL, FaultStage.DATA, FaultStage.AUTH)[number // 3 % 3]
                    o.courier.resume("anna")  # a login without a reply pauses the account
                    script.clear()
                    applied = len(script.applied)
                    if action is not None:
                        script.add(Fault(stage, action, session=simulator.connections + 1))
                    sending = asyncio.create_task(o.send_one(text=f"Brief {number}"))
                    if isinstance(action, Silence):
                        while len(script.applied) == applied:
                            await asyncio.sleep(0)
                        if number % 2:
                            sending.cancel()
                            await asyncio.wait((sending,))
                        await simulator.drop_sessions()  # a login goes on without its message
                    await asyncio.wait((sending,))
                assert len(simulator.sessions) >= 300
                del sending
            assert not await nothing_left(lambda: outbound(port_of(simulator, Security.STARTTLS)))
