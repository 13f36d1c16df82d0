"""The courier uses the right login, sends nothing twice, and gives the reason of every deferral."""

import asyncio
import json
import logging
import random
import re
import socket
from collections import Counter
from dataclasses import asdict, replace

import pytest

from senderproxy.delivery.session import Session, SessionTimeouts
from senderproxy.mail.outcome import Deferred, Delivered, Failed
from senderproxy.routing.provider import Limits, Provider, Security, Smarthost
from senderproxy.simulator.faults import (
    AppendOctets,
    Delay,
    Drop,
    Fault,
    FaultScript,
    FaultStage,
    Hold,
    ReplyWith,
    Silence,
)
from senderproxy.simulator.provider_replies import LOCAL_ERROR, SEND_LIMIT, UNKNOWN_USER, ServerReply, server_reply
from senderproxy.simulator.rules import SimulatedMailbox
from senderproxy.simulator.server import Simulator
from senderproxy.simulator.settings import SimulatorSettings
from tests.senderproxy.delivery.messages import ANNA, BERT, HEADER, MAILBOXES, SETTINGS, make_message, smarthost_of, to
from tests.senderproxy.delivery.office import Office, office

PIPELINED = replace(SETTINGS, pipelining=True)


def deferred(outcome: object) -> Deferred:
    assert isinstance(outcome, Deferred), outcome
    assert outcome.reply.is_transient
    return outcome


def status(o: Office, account_id: str = "anna") -> dict[str, object]:
    return next(asdict(health) for health in o.courier.status({}) if health.account == account_id)


def session_of(o: Office) -> Session:
    """Anna's only session."""
    (pooled,) = o.courier._states["anna"].pool._sessions.values()
    return pooled.session


# --- the right login -----------------------------------------------------------------------------------------------


async def test_a_proven_login_that_is_cut_off_pauses_the_account_the_second_time() -> None:
    """A server that is stopped cuts its logins off, too."""
    closing = ReplyWith(server_reply(421, "4.3.2 closing"), then_drop=True)
    faults = FaultScript(
        Fault(FaultStage.MAIL, closing, session=1, transaction=2),
        *(Fault(FaultStage.AUTH, Drop(), session=number) for number in (2, 3)),
    )
    async with Simulator(SETTINGS, faults) as simulator, office(smarthost_of(simulator)) as o:
        assert isinstance(await o.send_one(), Delivered)
        assert "no reply to the login" not in deferred(await o.send_one()).reply.text
        assert status(o)["state"] == "no session"
        for _ in range(3):
            assert "no reply to the login" in deferred(await o.send_one()).reply.text
        assert simulator.connections == 3
        o.clock.ahead += 301
        assert isinstance(await o.send_one(), Delivered)


async def test_the_second_message_uses_the_session_of_the_first() -> None:
    async with Simulator(SETTINGS) as simulator, office(smarthost_of(simulator)) as o:
        for _ in range(5):
            assert isinstance(await o.send_one(), Delivered)
        assert len(simulator.logins()) == 1
        assert len(simulator.received) == 5


@pytest.mark.parametrize("settings", [SETTINGS, PIPELINED], ids=["lock-step", "pipelined"])
async def test_no_message_is_sent_on_another_accounts_session(settings: SimulatorSettings) -> None:
    people = {f"p{number}@firma.example": f"geheim-{number}" for number in range(8)}
    mailboxes = {login: SimulatedMailbox(secret) for login, secret in people.items()}
    rng = random.Random(7)
    async with (
        Simulator(replace(settings, mailboxes=mailboxes)) as simulator,
        office(smarthost_of(simulator), connections=2) as o,
    ):
        for login, secret in people.items():
            o.accounts.add(login, login, secret)
        messages = [login for login in people for _ in range(12)]
        rng.shuffle(messages)
        outcomes = await asyncio.gather(*(o.send_one(login, f"Brief {n}") for n, login in enumerate(messages)))
        assert all(isinstance(outcome, Delivered) for outcome in outcomes)
        assert Counter(taken.content for taken in simulator.received) == Counter(
            HEADER + f"Brief {n}\r\n".encode() for n in range(len(messages))
        )
        for taken in simulator.received:
            assert taken.login == taken.reverse_path
        by_session: dict[int, set[str | None]] = {}
        for taken in simulator.received:
            by_session.setdefault(taken.session, set()).add(taken.login)
        assert all(len(logins) == 1 for logins in by_session.values())
        assert max(simulator.observations.max_concurrent_sessions.values()) <= 2


async def test_two_accounts_with_the_same_login_have_separate_sessions() -> None:
    async with Simulator(SETTINGS) as simulator, office(smarthost_of(simulator)) as o:
        o.accounts.add("annas-other", ANNA, MAILBOXES[ANNA].password)
        await o.send_one("anna")
        await o.send_one("annas-other")
        assert len(simulator.logins(ANNA)) == 2


async def test_a_changed_password_opens_a_new_session_at_once() -> None:
    async with Simulator(SETTINGS) as simulator, office(smarthost_of(simulator)) as o:
        await o.send_one()
        simulator.settings = replace(SETTINGS, mailboxes={**MAILBOXES, ANNA: SimulatedMailbox("geheim-neu")})
        o.accounts.set_password("anna", "geheim-neu")
        assert isinstance(await o.send_one(), Delivered)
        assert [taken.session for taken in simulator.received] == [1, 2]
        assert simulator.failed_logins() == 0
        await simulator.wait_until(lambda simulator: simulator.sessions[0].ended == "quit")


async def test_a_session_that_is_busy_when_the_password_changes_finishes_and_is_not_used_again() -> None:
    script = FaultScript(Fault(FaultStage.DOT, Delay(0.2), session=1))
    async with Simulator(SETTINGS, script) as simulator, office(smarthost_of(simulator)) as o:
        first = asyncio.create_task(o.send_one())
        await simulator.wait_for(1)
        o.accounts.set_password("anna", MAILBOXES[ANNA].password)
        assert isinstance(await o.send_one(), Delivered)
        assert isinstance(await first, Delivered)
        await o.send_one()
        assert [taken.session for taken in simulator.received] == [1, 2, 2]
        await simulator.wait_until(lambda simulator: simulator.sessions[0].ended == "quit")


async def test_a_message_is_deferred_if_the_account_has_a_new_login() -> None:
    async with Simulator(SETTINGS) as simulator, office(smarthost_of(simulator)) as o:
        route = o.route("anna")
        o.accounts.accounts["anna"] = replace(o.accounts.accounts["anna"], login=BERT)
        outcomes = await o.courier.deliver(route, to(), make_message(), tag="m")
        assert "changed or removed" in deferred(*outcomes.values()).reply.text
        assert simulator.connections == 0


async def test_a_message_is_deferred_if_its_account_was_removed() -> None:
    async with Simulator(SETTINGS) as simulator, office(smarthost_of(simulator)) as o:
        await o.send_one()
        route = o.route("anna")
        o.accounts.remove("anna")
        o.courier.drop_stale()
        await simulator.wait_until(lambda simulator: simulator.sessions[0].ended == "quit")
        deferred(*(await o.courier.deliver(route, to(), make_message(), tag="m")).values())
        assert simulator.connections == 1


async def test_drop_stale_closes_outdated_sessions_only() -> None:
    async with Simulator(SETTINGS) as simulator, office(smarthost_of(simulator)) as o:
        await o.send_one("anna")
        await o.send_one("bert")
        o.accounts.set_password("bert", "geheim-anders")
        o.courier.drop_stale()
        await simulator.wait_until(lambda simulator: simulator.sessions[1].ended == "quit")
        await o.send_one("anna")
        assert simulator.connections == 2


# --- passwords -----------------------------------------------------------------------------------------------------


async def test_a_wrong_password_costs_one_failed_login_for_any_number_of_messages() -> None:
    async with Simulator(SETTINGS) as simulator, office(smarthost_of(simulator), connections=5) as o:
        o.accounts.set_password("anna", "geheim-falsch")
        for outcome in await asyncio.gather(*(o.send_one() for _ in range(20))):
            text = deferred(outcome).reply.text
            assert "account anna (anna@firma.example): 535 Authentication credentials invalid" in text
            assert "senderproxy account set-password anna" in text
        o.clock.ahead += 100_000
        await o.send_one()
        assert simulator.failed_logins() == 1
        assert simulator.connections == 1
        assert status(o)["state"] == "suspended"

        assert isinstance(await o.send_one("bert"), Delivered)  # accounts fail alone

        o.accounts.set_password("anna", MAILBOXES[ANNA].password)
        assert isinstance(await o.send_one(), Delivered)
        assert status(o)["state"] == "healthy"
        assert simulator.failed_logins() == 1


async def test_a_password_changed_at_the_provider_costs_one_failed_login_while_an_old_session_still_works() -> None:
    released = asyncio.Event()
    script = FaultScript(Fault(FaultStage.DOT, Hold(released), session=1))
    async with Simulator(SETTINGS, script) as simulator, office(smarthost_of(simulator), connections=2) as o:
        first = asyncio.create_task(o.send_one())
        await simulator.wait_for(1)
        simulator.settings = replace(SETTINGS, mailboxes={ANNA: SimulatedMailbox("geheim-neu")})
        second = asyncio.create_task(o.send_one())
        while status(o)["state"] != "paused":  # until its login has failed
            await asyncio.sleep(0.001)
        released.set()
        assert isinstance(await second, Delivered)  # on the session of the first
        assert isinstance(await first, Delivered)
        assert status(o)["state"] == "paused"
        assert isinstance(await o.send_one(), Delivered)
        assert simulator.failed_logins() == 1


async def test_a_resumed_account_tries_once_more() -> None:
    async with Simulator(SETTINGS) as simulator, office(smarthost_of(simulator)) as o:
        o.accounts.set_password("anna", "geheim-falsch")
        await o.send_one()
        assert not o.courier.resume("bert")
        assert not o.courier.resume("nobody")
        assert o.courier.resume("anna")
        await o.send_one()
        await o.send_one()
        assert simulator.failed_logins() == 2


# --- sessions that end ---------------------------------------------------------------------------------------------

LOST = {
    "421 at MAIL": Fault(
        FaultStage.MAIL, ReplyWith(server_reply(421, "idle for too long"), then_drop=True), session=1, transaction=2
    ),
    "dropped at MAIL": Fault(FaultStage.MAIL, Drop(), session=1, transaction=2),
    "dropped at RCPT": Fault(FaultStage.RCPT, Drop(), session=1, transaction=2),
    "dropped at DATA": Fault(FaultStage.DATA, Drop(), session=1, transaction=2),
    "dropped in the message": Fault(FaultStage.BODY, Drop(), session=1, transaction=2),
    "login forgotten": Fault(
        FaultStage.MAIL, ReplyWith(server_reply(530, "Authentication required")), session=1, transaction=2
    ),
    "out of step": Fault(
        FaultStage.MAIL, ReplyWith(server_reply(503, "Bad sequence of commands")), session=1, transaction=2
    ),
    "421 between messages": Fault(FaultStage.DOT, AppendOctets(b"421 bye\r\n"), session=1, transaction=1),
    "session limit by 421": Fault(
        FaultStage.MAIL,
        ReplyWith(server_reply(421, "4.7.0 too many messages in one session"), then_drop=True),
        session=1,
        transaction=2,
    ),
}


@pytest.mark.parametrize("settings", [SETTINGS, PIPELINED], ids=["lock-step", "pipelined"])
@pytest.mark.parametrize("lost", LOST)
async def test_a_lost_warm_session_is_replaced(settings: object, lost: str) -> None:
    script = FaultScript(LOST[lost])
    async with Simulator(settings, script) as simulator, office(smarthost_of(simulator)) as o:  # type: ignore[arg-type]
        assert isinstance(await o.send_one(text="eins"), Delivered)
        large = make_message(*(b"x" * 70 + b"\r\n" for _ in range(20_000)))
        (outcome,) = await o.send(message=large)
        assert isinstance(outcome, Delivered)
        assert isinstance(await o.send_one(text="drei"), Delivered)
        assert script.applied
        assert [taken.size > 1_000_000 for taken in simulator.received] == [False, True, False]
        # A limit of one message on a session, once observed, is kept from then on.
        assert [taken.session for taken in simulator.received] == (
            [1, 2, 3] if lost.startswith("session limit") else [1, 2, 2]
        )
        assert status(o)["state"] == "healthy"


# The simulator's own limit for idle clients is not used here: under load it would close the replacement as well, while that
# one waits for the CPU between two commands of its login.


async def test_a_session_the_provider_closed_while_idle_costs_nothing() -> None:
    async with Simulator(SETTINGS) as simulator, office(smarthost_of(simulator)) as o:
        await o.send_one()
        await simulator.drop_sessions()
        while status(o)["sessions_idle"]:  # until the end of the connection is read
            await asyncio.sleep(0.001)
        assert isinstance(await o.send_one(), Delivered)
        assert [taken.session for taken in simulator.received] == [1, 2]


async def test_a_session_whose_end_is_not_read_yet_when_it_is_chosen_costs_nothing() -> None:
    async with Simulator(SETTINGS) as simulator, office(smarthost_of(simulator)) as o:
        await o.send_one()
        dropping = asyncio.create_task(simulator.drop_sessions())  # runs when the message waits for its first reply
        assert isinstance(await o.send_one(), Delivered)
        await dropping
        assert [taken.session for taken in simulator.received] == [1, 2]
        assert status(o)["state"] == "healthy"


async def test_a_silent_warm_session_is_replaced_after_a_short_timeout() -> None:
    script = FaultScript(Fault(FaultStage.MAIL, Silence(), session=1, transaction=2))
    async with Simulator(SETTINGS, script) as simulator, office(smarthost_of(simulator)) as o:
        await o.send_one()
        session_of(o)._timeouts = replace(SessionTimeouts(), connect=0.5)  # but not those of the session after it
        assert isinstance(await o.send_one(), Delivered)
        assert simulator.connections == 2


async def test_a_session_is_replaced_once_only() -> None:
    script = FaultScript(Fault(FaultStage.MAIL, Drop(), transaction=2), Fault(FaultStage.MAIL, Drop(), session=2))
    async with Simulator(SETTINGS, script) as simulator, office(smarthost_of(simulator)) as o:
        await o.send_one()
        assert "closed the connection (stage: MAIL FROM)" in deferred(await o.send_one()).reply.text
        assert simulator.connections == 2


async def test_a_lost_new_session_is_not_replaced() -> None:
    script = FaultScript(Fault(FaultStage.DATA, Drop()))
    async with Simulator(SETTINGS, script) as simulator, office(smarthost_of(simulator)) as o:
        assert not deferred(await o.send_one()).maybe_taken
        assert simulator.connections == 1
        assert status(o)["state"] == "healthy"


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("fault", [Drop(after_storing=True), Silence(after_storing=True)])
async def test_a_message_without_a_reply_to_the_dot_is_never_sent_again(warm: bool, fault: Drop | Silence) -> None:
    script = FaultScript(Fault(FaultStage.DOT, fault, transaction=2 if warm else 1))
    timeouts = replace(SessionTimeouts(), final_dot=0.3)
    async with (
        Simulator(SETTINGS, script) as simulator,
        office(smarthost_of(simulator), timeouts=SessionTimeouts() if warm else timeouts, messages_per_hour=10) as o,
    ):
        if warm:
            assert isinstance(await o.send_one(), Delivered)
            session_of(o)._timeouts = timeouts
        outcome = deferred(await o.send_one())
        assert outcome.maybe_taken
        assert str(outcome.reply).startswith("451 4.4.2")
        assert "a second attempt may deliver it twice" in outcome.reply.text
        assert len(simulator.received) == (2 if warm else 1)
        assert simulator.connections == 1
        assert status(o)["messages_left"] == (8 if warm else 9)


async def test_the_limit_of_messages_on_one_session_is_observed() -> None:
    async with Simulator(replace(SETTINGS, messages_per_session=3)) as simulator, office(smarthost_of(simulator)) as o:
        for number in range(12):
            assert isinstance(await o.send_one(text=str(number)), Delivered)
        assert [taken.content for taken in simulator.received] == [HEADER + f"{n}\r\n".encode() for n in range(12)]
        assert [taken.session for taken in simulator.received] == [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
        assert sum("451" in reply for session in simulator.sessions for reply in session.replies) == 1
        assert status(o)["state"] == "healthy"


async def test_a_session_limit_on_a_new_session_is_a_deferral() -> None:
    script = FaultScript(Fault(FaultStage.MAIL, ReplyWith(server_reply(451, "Mails per session limit"))))
    async with Simulator(SETTINGS, script) as simulator, office(smarthost_of(simulator)) as o:
        assert "Mails per session limit" in deferred(await o.send_one()).reply.text
        assert simulator.connections == 1


async def test_idle_sessions_are_closed_with_quit() -> None:
    async with Simulator(SETTINGS) as simulator, office(smarthost_of(simulator), idle_seconds=0.2) as o:
        await o.send_one()
        assert status(o)["sessions_idle"] == 1
        await simulator.wait_until(lambda simulator: simulator.sessions[0].ended == "quit")
        assert status(o)["sessions_idle"] == 0
        assert isinstance(await o.send_one(), Delivered)


async def test_the_providers_limit_of_messages_per_connection_is_kept() -> None:
    async with Simulator(SETTINGS) as simulator, office(smarthost_of(simulator), messages_per_connection=2) as o:
        for _ in range(5):
            await o.send_one()
        assert [taken.session for taken in simulator.received] == [1, 1, 2, 2, 3]


# --- more messages than sessions ------------------------------------------------------------------------------------


async def test_messages_wait_for_a_session_in_order_of_arrival() -> None:
    async with Simulator(SETTINGS) as simulator, office(smarthost_of(simulator), connections=1) as o:
        outcomes = await asyncio.gather(*(o.send_one(text=str(number)) for number in range(30)))
        assert all(isinstance(outcome, Delivered) for outcome in outcomes)
        assert [taken.content for taken in simulator.received] == [HEADER + f"{n}\r\n".encode() for n in range(30)]
        assert simulator.connections == 1


async def test_a_message_that_waits_too_long_is_deferred_with_the_reason() -> None:
    script = FaultScript(Fault(FaultStage.DOT, Silence(), session=1))
    timeouts = replace(SessionTimeouts(), free_session=0.2)
    async with (
        Simulator(SETTINGS, script) as simulator,
        office(smarthost_of(simulator), timeouts=timeouts, connections=1) as o,
    ):
        first = asyncio.create_task(o.send_one())
        await simulator.wait_until(
            lambda simulator: "DATA" in simulator.sessions[0].verbs if simulator.sessions else False
        )
        second = deferred(await o.send_one())
        assert str(second.reply) == "451 4.3.2 All 1 sessions of account anna were busy for 0.2 s"
        assert status(o)["waiting"] == 0
        await simulator.drop_sessions()
        assert deferred(await first).maybe_taken


async def test_a_lower_limit_of_sessions_at_the_provider_is_observed() -> None:
    too_many = ReplyWith(server_reply(421, "Too many connections"), then_drop=True)
    script = FaultScript(*(Fault(FaultStage.BANNER, too_many, session=number) for number in range(2, 9)))
    script.add(Fault(FaultStage.DOT, Delay(0.1), session=1))
    async with Simulator(SETTINGS, script) as simulator, office(smarthost_of(simulator), connections=4) as o:
        outcomes = await asyncio.gather(*(o.send_one() for _ in range(6)))
        assert all(isinstance(outcome, Delivered) for outcome in outcomes)
        assert simulator.connections == 2
        assert status(o)["state"] == "healthy"


async def test_an_unreachable_upstream_defers_all_waiting_messages_at_once() -> None:
    async with Simulator(SETTINGS) as simulator, office(smarthost_of(simulator)) as o:
        await simulator.go_offline()
        for outcome in await asyncio.gather(*(o.send_one() for _ in range(100))):
            assert "refused the connection" in deferred(outcome).reply.text
        await simulator.go_online()
        assert isinstance(await o.send_one(), Delivered)


async def test_a_silent_upstream_costs_one_connection_for_all_waiting_messages() -> None:
    script = FaultScript(Fault(FaultStage.BANNER, Silence()))
    timeouts = replace(SessionTimeouts(), greeting=0.3)
    async with Simulator(SETTINGS, script) as simulator, office(smarthost_of(simulator), timeouts=timeouts) as o:
        for outcome in await asyncio.gather(*(o.send_one() for _ in range(50))):
            assert "did not answer in time (stage: greeting)" in deferred(outcome).reply.text
        assert simulator.connections == 1


async def test_the_next_smarthost_is_tried_if_the_first_is_unreachable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        dead = Smarthost("127.0.0.1", taken.getsockname()[1], Security.IMPLICIT_TLS)
        async with Simulator(SETTINGS) as simulator, office(dead, smarthost_of(simulator, Security.STARTTLS)) as o:
            assert isinstance(await o.send_one(), Delivered)
            o.accounts.set_password("bert", "geheim-falsch")
            await o.send_one("bert")
            assert simulator.failed_logins() == 1
            await o.courier.close(1)


async def test_a_refused_password_is_not_tried_at_the_next_smarthost() -> None:
    async with (
        Simulator(SETTINGS) as simulator,
        office(smarthost_of(simulator), smarthost_of(simulator, Security.STARTTLS)) as o,
    ):
        o.accounts.set_password("anna", "geheim-falsch")
        await o.send_one()
        assert simulator.failed_logins() == 1


async def test_smarthosts_that_are_all_unreachable_are_all_named() -> None:
    with socket.socket() as one, socket.socket() as two:
        ports = []
        for each in (one, two):
            each.bind(("127.0.0.1", 0))
            ports.append(each.getsockname()[1])
        async with office(*(Smarthost("127.0.0.1", port, Security.IMPLICIT_TLS) for port in ports)) as o:
            text = deferred(await o.send_one()).reply.text
            assert all(f"127.0.0.1:{port}" in text for port in ports)


async def test_a_provider_without_a_host_names_the_missing_setting() -> None:
    async with office() as o:
        assert "[providers.simulator]" in deferred(await o.send_one()).reply.text


# --- limits --------------------------------------------------------------------------------------------------------


async def test_a_rate_limit_pauses_the_account_without_further_connections() -> None:
    settings = replace(SETTINGS, recipient_replies={"carl@elsewhere.example": SEND_LIMIT})
    async with Simulator(settings) as simulator, office(smarthost_of(simulator), idle_seconds=5) as o:
        assert deferred(await o.send_one()).reply.text == "Mail send limit exceeded."
        said = simulator.sessions[0].commands[:]
        text = deferred(await o.send_one()).reply.text
        found = re.search(r"Account anna is paused for another (\d+) s", text)
        assert found
        assert 30 <= int(found[1]) <= 60
        assert "Mail send limit exceeded." in text
        assert simulator.sessions[0].commands == said
        assert simulator.connections == 1
        assert status(o)["state"] == "paused"
        assert isinstance(await o.send_one("bert"), Deferred)

        o.clock.ahead += 61
        await o.send_one()
        assert "another 2 min" in deferred(await o.send_one()).reply.text

        simulator.settings = SETTINGS
        o.clock.ahead += 121
        assert isinstance(await o.send_one(), Delivered)
        assert status(o)["state"] == "healthy"


@pytest.mark.parametrize(
    "stage", [FaultStage.BANNER, FaultStage.EHLO, FaultStage.AUTH, FaultStage.MAIL, FaultStage.DOT]
)
async def test_a_421_from_a_fresh_session_pauses_the_account(stage: FaultStage) -> None:
    script = FaultScript(Fault(stage, ReplyWith(server_reply(421, "Rate limit reached. Please try again later"))))
    async with Simulator(SETTINGS, script) as simulator, office(smarthost_of(simulator)) as o:
        assert "Rate limit reached" in deferred(await o.send_one()).reply.text
        assert status(o)["state"] == "paused"
        await o.send_one()
        assert simulator.connections == 1


@pytest.mark.parametrize(
    "said",
    [
        server_reply(450, "4.2.0 Greylisted, try again in 300 seconds"),
        LOCAL_ERROR,
        server_reply(452, "4.2.2 over quota"),
    ],
)
async def test_a_deferral_of_one_recipient_does_not_pause_the_account(said: ServerReply) -> None:
    settings = replace(SETTINGS, recipient_replies={"grey@elsewhere.example": said})
    async with Simulator(settings) as simulator, office(smarthost_of(simulator)) as o:
        deferred(*await o.send(envelope=to("grey@elsewhere.example")))
        assert status(o)["state"] == "healthy"
        assert isinstance(await o.send_one(), Delivered)
        assert simulator.connections == 1


async def test_one_refused_recipient_does_not_affect_the_other() -> None:
    settings = replace(SETTINGS, recipient_replies={"nobody@a.example": UNKNOWN_USER})
    async with Simulator(settings) as simulator, office(smarthost_of(simulator)) as o:
        outcomes = await o.send(envelope=to("carl@a.example", "nobody@a.example"))
        assert isinstance(outcomes[0], Delivered)
        assert isinstance(outcomes[1], Failed)
        assert [taken.recipients for taken in simulator.received] == [("carl@a.example",)]


async def test_the_hourly_limit_is_enforced_without_the_upstream() -> None:
    async with Simulator(SETTINGS) as simulator, office(smarthost_of(simulator), messages_per_hour=2) as o:
        assert isinstance(await o.send_one(), Delivered)
        assert isinstance(await o.send_one(), Delivered)
        text = deferred(await o.send_one()).reply.text
        assert text.startswith("Account anna has reached its limit of 2 messages an hour; it can send again in 6")
        assert isinstance(await o.send_one("bert"), Delivered)
        assert status(o)["messages_left"] == 0
        o.clock.ahead += 3700
        assert isinstance(await o.send_one(), Delivered)
        assert len(simulator.received) == 4


async def test_an_accounts_own_limit_replaces_the_providers() -> None:
    async with Simulator(SETTINGS) as simulator, office(smarthost_of(simulator), messages_per_hour=100) as o:
        o.accounts.accounts["anna"] = replace(o.accounts.accounts["anna"], messages_per_hour=1)
        assert isinstance(await o.send_one(), Delivered)
        deferred(await o.send_one())


async def test_the_status_shows_limits_that_have_changed_since_the_last_message() -> None:
    async with Simulator(SETTINGS) as simulator, office(smarthost_of(simulator), messages_per_hour=10) as o:
        changed = replace(o.provider, limits=Limits(messages_per_hour=5))
        assert isinstance(await o.send_one(), Delivered)

        def left(provider: Provider) -> int | None:
            return o.courier.status({"simulator": provider})[0].messages_left

        assert [left(o.provider), left(changed)] == [9, 4]
        o.accounts.accounts["anna"] = replace(o.accounts.accounts["anna"], messages_per_hour=3)
        o.courier.drop_stale()
        assert left(changed) == 2


async def test_a_message_that_was_not_accepted_does_not_count() -> None:
    settings = replace(SETTINGS, recipient_replies={"nobody@a.example": UNKNOWN_USER})
    async with (
        Simulator(settings) as simulator,
        office(smarthost_of(simulator), messages_per_hour=1, recipients_per_hour=5) as o,
    ):
        for _ in range(3):
            assert isinstance((await o.send(envelope=to("nobody@a.example")))[0], Failed)
        assert isinstance(await o.send_one(), Delivered)
        assert status(o)["recipients_left"] == 4


PEOPLE = tuple(f"r{number}@a.example" for number in range(7))


async def test_recipients_over_the_limit_get_further_transactions() -> None:
    async with Simulator(SETTINGS) as simulator, office(smarthost_of(simulator), recipients_per_message=3) as o:
        outcomes = await o.send(envelope=to(*PEOPLE))
        assert all(isinstance(outcome, Delivered) for outcome in outcomes)
        assert [taken.recipients for taken in simulator.received] == [PEOPLE[:3], PEOPLE[3:6], PEOPLE[6:]]


async def test_with_several_transactions_each_recipient_has_its_own_outcome() -> None:
    settings = replace(SETTINGS, recipient_replies={PEOPLE[0]: UNKNOWN_USER, PEOPLE[4]: LOCAL_ERROR})
    async with Simulator(settings) as simulator, office(smarthost_of(simulator), recipients_per_message=3) as o:
        outcomes = await o.send(envelope=to(*PEOPLE))
        assert [type(outcome) for outcome in outcomes] == [
            Failed, Delivered, Delivered, Delivered, Deferred, Delivered, Delivered
        ]  # fmt: skip
        assert [taken.recipients for taken in simulator.received] == [
            PEOPLE[1:3], (PEOPLE[3], PEOPLE[5]), PEOPLE[6:]
        ]  # fmt: skip


async def test_a_limit_of_recipients_that_is_not_configured_is_observed() -> None:
    async with (
        Simulator(replace(SETTINGS, recipients_per_message=3)) as simulator,
        office(smarthost_of(simulator)) as o,
    ):
        outcomes = await o.send(envelope=to(*PEOPLE))
        assert all(isinstance(outcome, Delivered) for outcome in outcomes)
        assert [taken.recipients for taken in simulator.received] == [PEOPLE[:3], PEOPLE[3:6], PEOPLE[6:]]
        await o.send(envelope=to(*PEOPLE))
        assert [len(taken.recipients) for taken in simulator.received[3:]] == [3, 3, 1]
        assert simulator.sessions[0].verbs.count("RCPT") == 7 + 4 + 7  # four were asked for in vain, once


async def test_a_message_to_more_recipients_than_an_hour_allows_is_sent_within_several_hours() -> None:
    async with (
        Simulator(SETTINGS) as simulator,
        office(smarthost_of(simulator), recipients_per_message=200, recipients_per_hour=400) as o,
    ):
        o.accounts.accounts["anna"] = replace(o.accounts.accounts["anna"], recipients_per_hour=3)  # a new mailbox
        outcomes = await o.send(envelope=to(*PEOPLE))
        assert [isinstance(outcome, Delivered) for outcome in outcomes] == [True] * 3 + [False] * 4
        assert "has reached its limit of 3 recipients an hour" in deferred(outcomes[3]).reply.text
        o.clock.ahead += 3700
        outcomes = await o.send(envelope=to(*PEOPLE[3:]))
        assert [isinstance(outcome, Delivered) for outcome in outcomes] == [True] * 3 + [False]
        assert [taken.recipients for taken in simulator.received] == [PEOPLE[:3], PEOPLE[3:6]]


async def test_further_transactions_are_not_tried_if_the_account_cannot_send() -> None:
    async with (
        Simulator(SETTINGS) as simulator,
        office(smarthost_of(simulator), recipients_per_message=3, messages_per_hour=1) as o,
    ):
        outcomes = await o.send(envelope=to(*PEOPLE))
        assert [isinstance(outcome, Delivered) for outcome in outcomes] == [True] * 3 + [False] * 4
        assert len({deferred(outcome).reply for outcome in outcomes[3:]}) == 1
        assert len(simulator.received) == 1


async def test_a_message_over_the_size_limit_is_refused_without_a_connection() -> None:
    async with Simulator(SETTINGS) as simulator, office(smarthost_of(simulator), message_size=100_000) as o:
        (outcome,) = await o.send(message=make_message(b"x" * 200_000 + b"\r\n"))
        assert isinstance(outcome, Failed)
        assert str(outcome.reply).startswith("552 5.3.4 Message size 0.2 MB exceeds the limit of simulator, 0.1 MB")
        assert simulator.connections == 0


# --- cancellation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", [FaultStage.MAIL, FaultStage.RCPT, FaultStage.DATA])
async def test_a_cancelled_message_closes_its_session_and_the_next_message_is_intact(
    stage: FaultStage,
) -> None:
    script = FaultScript(Fault(stage, Silence(), session=1))
    async with Simulator(SETTINGS, script) as simulator, office(smarthost_of(simulator), connections=1) as o:
        gone = asyncio.create_task(o.send_one(text="von Anna, abgebrochen"))
        while not script.applied:
            await asyncio.sleep(0)
        waiting = asyncio.create_task(o.send_one(text="der naechste"))
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert isinstance(await waiting, Delivered)
        assert [taken.content for taken in simulator.received] == [HEADER + b"der naechste\r\n"]
        assert [taken.session for taken in simulator.received] == [2]


async def test_a_cancellation_after_the_dot_does_not_lose_the_outcome() -> None:
    script = FaultScript(Fault(FaultStage.DOT, Delay(0.2)))
    async with Simulator(SETTINGS, script) as simulator, office(smarthost_of(simulator)) as o:
        under_way = asyncio.create_task(o.send_one())
        await simulator.wait_for(1)
        under_way.cancel()
        assert isinstance(await under_way, Delivered)
        assert status(o)["delivered"] == 1
        await o.send_one()
        assert simulator.connections == 1


async def test_a_message_cancelled_in_the_queue_does_not_delay_the_next() -> None:
    script = FaultScript(Fault(FaultStage.DOT, Delay(0.1)))
    async with Simulator(SETTINGS, script) as simulator, office(smarthost_of(simulator), connections=1) as o:
        messages = [asyncio.create_task(o.send_one(text=str(number))) for number in range(6)]
        await simulator.wait_for(1)
        messages[1].cancel()
        messages[3].cancel()
        outcomes = await asyncio.gather(*messages, return_exceptions=True)
        assert [isinstance(outcome, Delivered) for outcome in outcomes] == [True, False, True, False, True, True]
        assert len(simulator.received) == 4
        assert simulator.connections == 1


async def test_a_message_cancelled_during_the_login_leaves_the_session_to_the_next() -> None:
    script = FaultScript(Fault(FaultStage.AUTH, Delay(0.2)))
    async with Simulator(SETTINGS, script) as simulator, office(smarthost_of(simulator)) as o:
        first = asyncio.create_task(o.send_one())
        while not script.applied:
            await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert isinstance(await o.send_one(), Delivered)
        assert len(simulator.logins()) == 1


async def test_close_sends_quit_on_idle_sessions_and_refuses_messages() -> None:
    async with Simulator(SETTINGS) as simulator, office(smarthost_of(simulator)) as o:
        await o.send_one("anna")
        await o.send_one("bert")
        await o.courier.close(1.0)
        await simulator.wait_until(
            lambda simulator: [session.ended for session in simulator.sessions] == ["quit", "quit"]
        )
        assert deferred(await o.send_one()).reply.text == "senderproxy is shutting down"


async def test_close_waits_for_messages_in_progress() -> None:
    script = FaultScript(Fault(FaultStage.DOT, Delay(0.3)))
    async with Simulator(SETTINGS, script) as simulator, office(smarthost_of(simulator)) as o:
        under_way = asyncio.create_task(o.send_one())
        await simulator.wait_for(1)
        await o.courier.close(50.0)  # more than it takes
        assert under_way.done()
        assert isinstance(await under_way, Delivered)
        await simulator.wait_until(lambda simulator: simulator.sessions[0].ended == "quit")


@pytest.mark.parametrize(
    "stage", [FaultStage.HANDSHAKE, FaultStage.BANNER, FaultStage.AUTH, FaultStage.MAIL, FaultStage.DOT]
)
async def test_close_aborts_messages_after_the_grace(stage: FaultStage) -> None:
    script = FaultScript(Fault(stage, Silence(after_storing=True)))
    async with Simulator(SETTINGS, script) as simulator, office(smarthost_of(simulator)) as o:
        under_way = asyncio.create_task(o.send_one())
        while not script.applied:
            await asyncio.sleep(0)
        await o.courier.close(0.05)
        assert deferred(await under_way).maybe_taken == (stage is FaultStage.DOT)
        await simulator.wait_until(lambda simulator: simulator.open_connections == 0)


# --- what can be seen ----------------------------------------------------------------------------------------------


async def test_status_has_every_account_in_values_for_json() -> None:
    settings = replace(SETTINGS, recipient_replies={"nobody@a.example": UNKNOWN_USER})
    async with Simulator(settings) as simulator, office(smarthost_of(simulator), messages_per_hour=50) as o:
        await o.send_one()
        await o.send(envelope=to("nobody@a.example", "carl@a.example"))
        last_reply = simulator.sessions[0].replies[-1]
        limits = Limits(messages_per_hour=20, recipients_per_hour=90)
        providers = {"simulator": Provider("simulator", (), limits=limits)}
        shown = json.loads(json.dumps([asdict(health) for health in o.courier.status(providers)]))
        assert shown == [
            {
                "account": "anna", "login": ANNA, "state": "healthy", "words": "healthy", "since": None,
                "sessions_busy": 0, "sessions_idle": 1, "waiting": 0, "delivered": 2, "deferred": 0, "failed": 1,
                "last_reply": str(last_reply), "messages_left": 18, "recipients_left": 87,
                "provider": "simulator", "reply": None, "cause": None, "hint": "", "until": None,
                "messages_limit": 20, "recipients_limit": 90, "address": ANNA,
                "fallback": None, "sends_through": None, "sends_in_part": False,
            },
            {
                "account": "bert", "login": BERT, "state": "healthy", "words": "healthy", "since": None,
                "sessions_busy": 0, "sessions_idle": 0, "waiting": 0, "delivered": 0, "deferred": 0, "failed": 0,
                "last_reply": None, "messages_left": 20, "recipients_left": 90,
                "provider": "simulator", "reply": None, "cause": None, "hint": "", "until": None,
                "messages_limit": 20, "recipients_limit": 90, "address": BERT,
                "fallback": None, "sends_through": None, "sends_in_part": False,
            },
        ]  # fmt: skip


async def test_an_account_without_a_session_is_not_healthy_until_it_has_one() -> None:
    async with Simulator(SETTINGS) as simulator, office(smarthost_of(simulator)) as o:
        await simulator.go_offline()
        for account in ("anna", "anna", "bert"):
            await o.send_one(account)
        shown = status(o)
        assert shown["state"] == "no session"
        assert "refused the connection: nothing listens on that port" in str(shown["words"])
        assert shown["since"]
        await simulator.go_online()
        await o.send_one()
        for account in ("anna", "bert"):  # who has not tried since may be expected to get in as well
            shown = status(o, account)
            assert (shown["state"], shown["words"], shown["since"]) == ("healthy", "healthy", None)


async def test_each_attempt_has_one_log_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "senderproxy.delivery")
    async with Simulator(SETTINGS) as simulator, office(smarthost_of(simulator)) as o:
        await o.send_one()
        lines = [record for record in caplog.records if getattr(record, "senderproxy_event", "") == "attempt_delivered"]
        assert len(lines) == 1
        fields = lines[0].__dict__["senderproxy_fields"]
        assert fields["id"] == "m1"
        assert fields["account"] == "anna"
        assert fields["login"] == ANNA
        assert str(fields["smarthost"]) == str(smarthost_of(simulator))
        assert "completed: id=" in str(fields["reply"])


async def test_no_password_is_in_any_line_even_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    async with Simulator(replace(SETTINGS, mechanisms=("LOGIN",))) as simulator, office(smarthost_of(simulator)) as o:
        await o.send_one("anna")
        o.accounts.set_password("bert", "geheim-falsch")
        await o.send_one("bert")
        assert simulator.failed_logins() == 1
    text = caplog.text + "".join(repr(record.__dict__) for record in caplog.records)
    assert "geheim" not in text
    assert "Z2VoZWlt" not in text  # the same in base64


# --- logins that fail for another reason than the password -----------------------------------------------------------


def at_auth(code: int, words: str, times: int | None = None) -> Fault:
    return Fault(FaultStage.AUTH, ReplyWith(server_reply(code, words)), times=times)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (504, "5.7.4 Unrecognized authentication type"),
        (504, "Unknown mechanism <PLAIN>"),
        (502, "5.5.1 Command not implemented"),
        (535, "5.7.8 Error: authentication failed: Invalid authentication mechanism"),
    ],
)
async def test_a_refused_method_is_replaced_by_the_other_one_once_and_remembered(code: int, words: str) -> None:
    async with (
        Simulator(SETTINGS, FaultScript(at_auth(code, words, times=1))) as simulator,
        office(smarthost_of(simulator)) as o,
    ):
        assert isinstance(await o.send_one(), Delivered)
        assert isinstance(await o.send_one("bert"), Delivered)
        assert [login.mechanism for login in simulator.logins()] == ["PLAIN", "LOGIN", "LOGIN"]


async def test_methods_that_are_all_refused_cost_one_attempt_and_name_the_setting() -> None:
    async with (
        Simulator(SETTINGS, FaultScript(at_auth(504, "5.7.4 Unrecognized authentication type"))) as simulator,
        office(smarthost_of(simulator)) as o,
    ):
        assert "mechanisms = " in deferred(await o.send_one()).reply.text
        deferred(await o.send_one())
        assert len(simulator.logins()) == 2
        assert status(o)["cause"] == "method"


@pytest.mark.parametrize("action", [Drop(), Silence()])
async def test_six_messages_cost_one_login_without_a_reply(action: Drop | Silence) -> None:
    timeouts = replace(SessionTimeouts(), auth=0.2)
    async with (
        Simulator(SETTINGS, FaultScript(Fault(FaultStage.AUTH, action))) as simulator,
        office(smarthost_of(simulator), timeouts=timeouts) as o,
    ):
        for _ in range(6):
            assert "no reply to the login" in deferred(await o.send_one()).reply.text
        assert simulator.connections == 1
        o.clock.ahead += 301
        await o.send_one()
        assert simulator.connections == 2


async def test_a_login_server_that_is_away_is_tried_again_by_itself() -> None:
    script = FaultScript(
        at_auth(535, "5.7.8 Error: authentication failed: Connection lost to authentication server", times=1)
    )
    async with Simulator(SETTINGS, script) as simulator, office(smarthost_of(simulator)) as o:
        assert "could not check the login" in deferred(await o.send_one()).reply.text
        assert status(o)["state"] == "paused"
        assert status(o)["cause"] == "login-server"
        o.clock.ahead += 301
        assert isinstance(await o.send_one(), Delivered)
        assert status(o)["state"] == "healthy"


async def test_a_password_that_worked_today_is_doubted_only_after_the_third_retry() -> None:
    async with Simulator(SETTINGS) as simulator, office(smarthost_of(simulator), idle_seconds=0.01) as o:
        assert isinstance(await o.send_one(), Delivered)
        await simulator.wait_until(lambda simulator: simulator.sessions[0].ended == "quit")
        simulator.settings = replace(SETTINGS, mailboxes={ANNA: SimulatedMailbox("geheim-neu")})
        states = []
        for seconds in (0, 301, 901, 3601, 100_000):
            o.clock.ahead += seconds
            deferred(await o.send_one())
            states.append(status(o)["state"])
        assert states == ["paused", "paused", "paused", "suspended", "suspended"]
        assert simulator.failed_logins() == 4


async def test_the_accounts_of_one_server_fail_together_only_a_few_times() -> None:
    names = {f"p{number}@firma.example": SimulatedMailbox("geheim") for number in range(40)}
    script = FaultScript(at_auth(454, "4.7.0 Temporary authentication failure"))
    async with (
        Simulator(replace(SETTINGS, mailboxes=names), script) as simulator,
        office(smarthost_of(simulator)) as o,
    ):
        for name in names:
            o.accounts.add(name, name, "geheim")
        outcomes = await asyncio.gather(*(o.send_one(name) for name in names))
        assert len(simulator.logins()) <= 5
        waiting = [deferred(outcome).reply.text for outcome in outcomes if "Logins at" in str(deferred(outcome).reply)]
        assert len(waiting) >= 35
        assert o.courier.availability(o.accounts.accounts["p39@firma.example"], o.provider).reason is not None
        script.clear()
        assert o.courier.resume("p0@firma.example")
        for name in list(names)[-3:]:
            assert isinstance(await o.send_one(name), Delivered)


# --- connections of all accounts to one server -----------------------------------------------------------------------


async def test_a_server_that_takes_no_more_connections_gets_the_coldest_session_closed() -> None:
    names = {f"p{number}@firma.example": SimulatedMailbox("geheim") for number in range(5)}
    script = FaultScript()
    async with (
        Simulator(replace(SETTINGS, mailboxes=names), script) as simulator,
        office(smarthost_of(simulator), idle_seconds=60) as o,
    ):
        for name in names:
            o.accounts.add(name, name, "geheim")
        others = list(names)[1:]
        for name in list(names)[:3]:
            assert isinstance(await o.send_one(name), Delivered)
        too_many = ReplyWith(server_reply(421, "4.7.0 too many connections from 192.0.2.7"), then_drop=True)
        script.add(Fault(FaultStage.BANNER, too_many, session=4))
        assert isinstance(await o.send_one(others[2]), Delivered)
        await simulator.wait_until(lambda simulator: simulator.sessions[0].ended == "quit")
        assert isinstance(await o.send_one(others[3]), Delivered)  # makes room before it connects
        await simulator.wait_until(lambda simulator: simulator.sessions[1].ended == "quit")
        assert simulator.open_connections == 3
        assert [status(o, name)["state"] for name in names] == ["healthy"] * 5


# --- the name of this machine ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hostname", "greeted"), [("vm", "EHLO [127.0.0.1]"), ("proxy.firma.example", "EHLO proxy.firma.example")]
)
async def test_ehlo_has_an_address_literal_without_a_full_name(hostname: str, greeted: str) -> None:
    async with Simulator(SETTINGS) as simulator, office(smarthost_of(simulator)) as o:
        o.courier.configure(SessionTimeouts(), hostname)
        await o.send_one()
        assert simulator.sessions[0].commands[0] == greeted


async def test_a_refused_ehlo_name_is_a_deferral_with_the_setting() -> None:
    script = FaultScript(Fault(FaultStage.EHLO, ReplyWith(server_reply(501, "Syntactically invalid EHLO argument(s)"))))
    async with Simulator(SETTINGS, script) as simulator, office(smarthost_of(simulator)) as o:
        assert "identity.hostname" in deferred(await o.send_one()).reply.text
