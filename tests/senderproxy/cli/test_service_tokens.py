"""Access tokens of the running service, for commands: asked for anew, and forgotten where a login was refused."""

from collections.abc import Iterator
from typing import Any

import pytest

from senderproxy.control.protocol import Answer, Request, Verb
from tests.senderproxy.cli.conftest import Office, service_status
from tests.senderproxy.cli.test_oauth import ANNA, add_application, taking_tokens
from tests.senderproxy.cli.test_service import running
from tests.senderproxy.cli.token_server import TokenServer, token_server

DISABLED = {"error": "invalid_grant", "error_description": "AADSTS50057: The user account is disabled."}


@pytest.fixture
def server() -> Iterator[TokenServer]:
    with token_server() as made:
        yield made


def add_account(office: Office, server: TokenServer) -> None:
    add_application(office, server)
    with taking_tokens(office):
        added = office.type("account", "add", ANNA, "--provider", "ionos", "--oauth", "office")
        assert added.code == 0, added.err


def verify(office: Office) -> tuple[int, str]:
    ended = office.type("account", "verify", ANNA)
    return ended.code, ended.out + ended.err


@pytest.mark.slow
def test_verify_asks_again_after_a_refusal_that_needed_a_person(office: Office, server: TokenServer) -> None:
    add_account(office, server)
    with taking_tokens(office), running(office):
        server.refusal = DISABLED
        code, printed = verify(office)
        assert code == 1
        assert "has disabled the user" in printed
        assert f"senderproxy account verify {ANNA}" in printed
        server.refusal = {}
        code, printed = verify(office)
        assert code == 0, printed
        assert "the running service uses it" in printed


@pytest.mark.slow
def test_the_service_forgets_a_token_that_a_command_was_refused_with(office: Office, server: TokenServer) -> None:
    add_account(office, server)
    with running(office):
        with taking_tokens(office):
            assert verify(office)[0] == 0
        server.access = "geheim-later"
        asked = len(server.forms)
        with taking_tokens(office, "geheim-later"):
            assert verify(office)[0] == 1  # a token of a few seconds is not stale: one login
            assert len(server.forms) == asked
            code, printed = verify(office)
            assert code == 0, printed
            assert len(server.forms) == asked + 1


def test_a_command_tries_once_more_with_a_new_token_if_the_service_gives_one(
    office: Office, server: TokenServer
) -> None:
    add_account(office, server)
    refused: list[Any] = []

    async def token(_request: Request) -> Answer:
        return {"token": "geheim-new" if refused else "geheim-stale"}

    async def token_refused(request: Request) -> Answer:
        refused.append((request["account"], request["token"]))
        return {"again": True}

    async def resume(_request: Request) -> Answer:
        return {}

    handlers = {Verb.TOKEN: token, Verb.TOKEN_REFUSED: token_refused, Verb.RESUME: resume}
    with taking_tokens(office, "geheim-new"), service_status(office, more=handlers):
        before = len(office.simulator.logins())
        code, printed = verify(office)
        assert code == 0, printed
    assert refused == [(ANNA, "geheim-stale")]
    assert [login.accepted for login in office.simulator.logins()[before:]] == [False, True]


def test_a_service_of_an_earlier_version_does_not_know_the_request(office: Office, server: TokenServer) -> None:
    add_account(office, server)

    async def token(_request: Request) -> Answer:
        return {"token": "geheim-stale"}

    with taking_tokens(office, "geheim-new"), service_status(office, more={Verb.TOKEN: token}):
        before = len(office.simulator.logins())
        code, printed = verify(office)
    assert code == 1
    assert "535" in printed
    assert len(office.simulator.logins()) == before + 1
