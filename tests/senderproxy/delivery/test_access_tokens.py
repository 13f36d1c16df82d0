"""Accounts that log in with access tokens: a session belongs to the grant, and each login uses a token of that moment.

The simulator takes the token in the place of the password, by XOAUTH2 or OAUTHBEARER alone.
"""

import asyncio
import logging
import pickle
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from senderproxy.delivery.account_health import Suspended, health_fact, read_health
from senderproxy.delivery.causes import Cause
from senderproxy.learned import Instant
from senderproxy.mail.outcome import Deferred, Delivered
from senderproxy.mail.reply import reply
from senderproxy.relay.ports import NoToken
from senderproxy.routing.account import AccessToken
from senderproxy.simulator.rules import SimulatedMailbox
from senderproxy.simulator.server import Simulator
from tests.senderproxy.delivery.messages import ANNA, SETTINGS, smarthost_of
from tests.senderproxy.delivery.office import Office, office

NO_TOKEN = NoToken(
    reply(451, "4.7.0", "login.firma.example cannot give a token at the moment to anna"),
    needs_person=False,
    hint="wait",
)
ENDED = NoToken(
    reply(535, "5.7.8", "login.firma.example has ended the consent of anna: invalid_grant"),
    needs_person=True,
    hint="consent again: senderproxy account consent anna",
)
TOKENS = replace(SETTINGS, mechanisms=("XOAUTH2",))


def rotate(simulator: Simulator, o: Office, token: str) -> None:
    """From now on the provider takes this token only, and a new login gets it."""
    mailboxes = {**simulator.settings.mailboxes, ANNA: SimulatedMailbox(token)}
    simulator.settings = replace(simulator.settings, mailboxes=mailboxes)
    o.accounts.tokens["anna"] = AccessToken(token)


async def test_a_token_is_asked_for_when_a_session_is_opened_and_not_for_each_message() -> None:
    async with Simulator(TOKENS) as simulator, office(smarthost_of(simulator)) as o:
        o.accounts.set_grant("anna", "grant-1")
        rotate(simulator, o, "geheim-token-1")
        for _ in range(5):
            assert isinstance(await o.send_one(), Delivered)
        assert o.accounts.asked_for_token == ["anna"]
        assert len(simulator.logins(ANNA)) == 1


async def test_a_new_token_closes_no_session_and_the_next_login_uses_it() -> None:
    async with (
        Simulator(replace(TOKENS, messages_per_session=3)) as simulator,
        office(smarthost_of(simulator), messages_per_connection=3) as o,
    ):
        o.accounts.set_grant("anna", "grant-1")
        rotate(simulator, o, "geheim-token-1")
        assert isinstance(await o.send_one(), Delivered)
        rotate(simulator, o, "geheim-token-2")
        o.courier.drop_stale()  # the accounts have changed
        for _ in range(3):
            assert isinstance(await o.send_one(), Delivered)
        assert [taken.session for taken in simulator.received] == [1, 1, 1, 2]
        assert simulator.failed_logins() == 0


async def test_a_new_grant_opens_a_new_session_at_once() -> None:
    async with Simulator(TOKENS) as simulator, office(smarthost_of(simulator)) as o:
        o.accounts.set_grant("anna", "grant-1")
        rotate(simulator, o, "geheim-token-1")
        assert isinstance(await o.send_one(), Delivered)
        o.accounts.set_grant("anna", "grant-2")  # with the same token
        assert isinstance(await o.send_one(), Delivered)
        assert [taken.session for taken in simulator.received] == [1, 2]
        await simulator.wait_until(lambda simulator: simulator.sessions[0].ended == "quit")


async def test_without_a_token_messages_are_deferred_without_a_connection_until_there_is_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Simulator(TOKENS) as simulator, office(smarthost_of(simulator)) as o:
        o.accounts.set_grant("anna", "grant-1")
        o.accounts.tokens["anna"] = NO_TOKEN
        with caplog.at_level(logging.INFO, "senderproxy"):
            outcomes = await asyncio.gather(*(o.send_one() for _ in range(3)))
        for outcome in outcomes:
            assert isinstance(outcome, Deferred)
            assert outcome.reply.text == f"{NO_TOKEN.reply.text}. To fix: wait"
            assert outcome.reply.is_transient
            assert outcome.of_account
        assert not simulator.sessions
        assert o.accounts.asked_for_token == ["anna"]  # once for all that waited
        (entry,) = [entry for entry in o.courier.status({}) if entry.account == "anna"]
        assert entry.state == "no session"
        assert "cannot give a token" in entry.words
        rotate(simulator, o, "geheim-token-1")
        assert isinstance(await o.send_one(), Delivered)
        assert "geheim" not in caplog.text


async def test_an_ended_grant_suspends_the_account_with_its_own_fix_until_there_is_a_new_one() -> None:
    async with Simulator(TOKENS) as simulator, office(smarthost_of(simulator)) as o:
        o.accounts.set_grant("anna", "grant-1")
        o.accounts.tokens["anna"] = ENDED
        for _ in range(2):
            outcome = await o.send_one()
            assert isinstance(outcome, Deferred)
            assert outcome.reply.is_transient
            assert "has ended the consent" in outcome.reply.text
            assert outcome.reply.text.endswith(f"To fix: {ENDED.hint}")
        assert o.accounts.asked_for_token == ["anna"]
        (entry,) = [entry for entry in o.courier.status({}) if entry.account == "anna"]
        assert (entry.state, entry.cause, entry.hint) == ("suspended", "token", ENDED.hint)
        o.accounts.set_grant("anna", "grant-2")
        rotate(simulator, o, "geheim-token-1")
        assert isinstance(await o.send_one(), Delivered)


async def test_two_grants_never_share_a_session_even_of_one_user_with_one_token() -> None:
    async with Simulator(TOKENS) as simulator, office(smarthost_of(simulator)) as o:
        o.accounts.add("shared", ANNA, "geheim-unused")
        o.accounts.set_grant("anna", "grant-1")
        o.accounts.set_grant("shared", "grant-2")
        rotate(simulator, o, "geheim-token-1")
        o.accounts.tokens["shared"] = AccessToken("geheim-token-1")
        for account in ("anna", "shared", "anna", "shared"):
            assert isinstance(await o.send_one(account), Delivered)
        assert [taken.session for taken in simulator.received] == [1, 2, 1, 2]
        assert o.accounts.asked_for_token == ["anna", "shared"]


def test_the_fix_of_a_suspension_outlives_a_restart() -> None:
    at = Instant(datetime(2026, 11, 29, tzinfo=UTC), 1000.0)
    health = Suspended(Cause.TOKEN, ENDED.reply, "v1", at.now, ENDED.hint)
    fact = health_fact(health, at)
    assert fact is not None
    assert read_health(fact, at) == health
    assert read_health({**fact, "hint": "x" * 9999}, at) == replace(health, hint="x" * 500)


@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
@pytest.mark.parametrize("length", [20, 300, 3000, 9000])
async def test_tokens_of_any_length_arrive(mechanism: str, length: int) -> None:
    token = "geheim-" + "t" * (length - 7)
    settings = replace(TOKENS, mechanisms=(mechanism, "PLAIN"), mailboxes={ANNA: SimulatedMailbox(token)})
    async with Simulator(settings) as simulator, office(smarthost_of(simulator)) as o:
        o.accounts.set_grant("anna", "grant-1")
        o.accounts.tokens["anna"] = AccessToken(token)
        assert isinstance(await o.send_one(), Delivered)
        assert [login.mechanism for login in simulator.logins(ANNA)] == [mechanism]
        commands = [line for line in simulator.sessions[0].commands if line.startswith("AUTH")]
        assert commands == [f"AUTH {mechanism} ***" if length <= 300 else f"AUTH {mechanism}"]


async def test_a_token_is_never_sent_as_a_password() -> None:
    async with Simulator(SETTINGS) as simulator, office(smarthost_of(simulator)) as o:
        o.accounts.set_grant("anna", "grant-1")
        o.accounts.tokens["anna"] = AccessToken("geheim-token-1")
        outcome = await o.send_one()
        assert isinstance(outcome, Deferred)
        assert "usable are XOAUTH2 and OAUTHBEARER" in outcome.reply.text
        assert not simulator.logins()


@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
async def test_a_stale_token_costs_one_more_login(mechanism: str) -> None:
    async with (
        Simulator(replace(TOKENS, mechanisms=(mechanism,))) as simulator,
        office(smarthost_of(simulator)) as o,
    ):
        o.accounts.set_grant("anna", "grant-1")
        rotate(simulator, o, "geheim-token-2")
        o.accounts.renewed["anna"] = AccessToken("geheim-token-2")
        o.accounts.tokens["anna"] = AccessToken("geheim-token-1")
        assert isinstance(await o.send_one(), Delivered)
        assert [login.accepted for login in simulator.logins(ANNA)] == [False, True]


async def test_a_token_that_is_refused_again_suspends_the_account(caplog: pytest.LogCaptureFixture) -> None:
    async with Simulator(TOKENS) as simulator, office(smarthost_of(simulator)) as o:
        o.accounts.set_grant("anna", "grant-1")
        o.accounts.renewed["anna"] = AccessToken("geheim-token-2")
        o.accounts.tokens["anna"] = AccessToken("geheim-token-1")
        with caplog.at_level(logging.DEBUG):
            outcome = await o.send_one()
        assert isinstance(outcome, Deferred)
        assert outcome.reply.text.endswith("To fix: consent again: senderproxy account consent anna")
        assert simulator.failed_logins() == 2
        assert isinstance(await o.send_one(), Deferred)
        assert simulator.failed_logins() == 2
        assert "geheim" not in caplog.text


async def test_an_account_with_a_password_logs_in_with_it() -> None:
    async with Simulator(SETTINGS) as simulator, office(smarthost_of(simulator)) as o:
        assert isinstance(await o.send_one(), Delivered)
        assert len(simulator.logins(ANNA)) == 1


def test_a_token_is_not_shown_and_not_copied() -> None:
    token = AccessToken("geheim-token")
    assert "geheim" not in f"{token} {token!r}"
    with pytest.raises(TypeError):
        pickle.dumps(token)
