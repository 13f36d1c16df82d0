"""Accounts that log in with access tokens: a session belongs to the grant, and each login uses a token of that moment.

The simulator takes the token in the place of the password; the mechanisms for tokens are not part of these tests.
"""

import asyncio
import logging
import pickle
from dataclasses import replace

import pytest

from senderproxy.mail.outcome import Deferred, Delivered
from senderproxy.mail.reply import reply
from senderproxy.routing.account import AccessToken
from senderproxy.simulator.rules import SimulatedMailbox
from senderproxy.simulator.server import Simulator
from tests.senderproxy.delivery.messages import ANNA, SETTINGS, smarthost_of
from tests.senderproxy.delivery.office import Office, office

NO_TOKEN = reply(451, "4.7.0", "No access token for account anna: the token server does not respond")


def rotate(simulator: Simulator, o: Office, token: str) -> None:
    """From now on the provider takes this token only, and a new login gets it."""
    mailboxes = {**simulator.settings.mailboxes, ANNA: SimulatedMailbox(token)}
    simulator.settings = replace(simulator.settings, mailboxes=mailboxes)
    o.accounts.tokens["anna"] = AccessToken(token)


async def test_a_token_is_asked_for_when_a_session_is_opened_and_not_for_each_message() -> None:
    async with Simulator(SETTINGS) as simulator, office(smarthost_of(simulator)) as o:
        o.accounts.set_grant("anna", "grant-1")
        rotate(simulator, o, "geheim-token-1")
        for _ in range(5):
            assert isinstance(await o.send_one(), Delivered)
        assert o.accounts.asked_for_token == ["anna"]
        assert len(simulator.logins(ANNA)) == 1


async def test_a_new_token_closes_no_session_and_the_next_login_uses_it() -> None:
    async with (
        Simulator(replace(SETTINGS, messages_per_session=3)) as simulator,
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
    async with Simulator(SETTINGS) as simulator, office(smarthost_of(simulator)) as o:
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
    async with Simulator(SETTINGS) as simulator, office(smarthost_of(simulator)) as o:
        o.accounts.set_grant("anna", "grant-1")
        o.accounts.tokens["anna"] = NO_TOKEN
        with caplog.at_level(logging.INFO, "senderproxy"):
            outcomes = await asyncio.gather(*(o.send_one() for _ in range(3)))
        for outcome in outcomes:
            assert isinstance(outcome, Deferred)
            assert outcome.reply == NO_TOKEN
            assert outcome.of_account
        assert not simulator.sessions
        assert o.accounts.asked_for_token == ["anna"]  # once for all that waited
        (entry,) = [entry for entry in o.courier.status({}) if entry.account == "anna"]
        assert entry.state == "no session"
        assert "token server" in entry.words
        rotate(simulator, o, "geheim-token-1")
        assert isinstance(await o.send_one(), Delivered)
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
