"""Values with tokens and secrets: none shows in a representation, or in the traceback of an internal error in the log.

Every token and secret here begins with the word that tests/conftest.py looks for in all that is logged.
"""

import json
import logging

import pytest

from senderproxy import log_events
from senderproxy.accounts.grant_key import new_grant_key
from senderproxy.accounts.oauth_application import Flow, StoredApplication
from senderproxy.accounts.record import Grant, StoredAccount, own_first
from senderproxy.accounts.usable_application import to_record, usable
from senderproxy.accounts.vault_accounts import StoredGrant
from senderproxy.delivery.login_mechanisms import LoginSecret
from senderproxy.http_client.message import Answer, Request
from senderproxy.http_client.url import parse_url
from senderproxy.log import JsonFormatter, TextFormatter, event
from senderproxy.mail.address import parse_address
from senderproxy.oauth import token_request
from senderproxy.oauth.authorization_server import custom
from senderproxy.oauth.consent import consent_request, read_device_answer
from senderproxy.oauth.token_answer import read_token_answer
from senderproxy.oauth.token_keeper import TokenKeeper
from senderproxy.oauth.token_request import Application, Moment
from senderproxy.routing.account import AccessToken, Account, Credential
from senderproxy.routing.provider import Security, Smarthost
from tests.fakes.still_clock import StillClock
from tests.senderproxy.signing.keys import certified_key

ACCESS = "geheim-access"
_log = logging.getLogger("senderproxy.accounts")

ADDRESS = parse_address("anna@firma.example")
ACCOUNT = Account("anna", str(ADDRESS), "m365", ADDRESS, own_first(str(ADDRESS), []))
SERVER = custom("firma", "https://login.firma.example/t", "https://login.firma.example/a", scopes="smtp")
APPLICATION = Application(SERVER, "client-1", "geheim-secret")
STORED = StoredApplication("firma", Flow.CONSENT, "firma", "client-1", token_url=SERVER.token_url, secret="geheim-s")
AT = Moment(0, "geheim-unique")
ANSWER = {"access_token": "geheim-access", "refresh_token": "geheim-refresh", "expires_in": 3600}
CODES = {"device_code": "geheim-device", "user_code": "ABCD", "verification_uri": "https://x.example/"}
KEY = certified_key()
BY_REFRESH = token_request.by_refresh_token(APPLICATION, "geheim-refresh", AT)

VALUES = {
    "access token": AccessToken("geheim-access"),
    "credential": Credential("anna", "geheim-password", "v1").with_token(AccessToken("geheim-access")),
    "tokens": read_token_answer(200, json.dumps(ANSWER).encode()),
    "device codes": read_device_answer(200, json.dumps(CODES).encode()),
    "consent": consent_request(APPLICATION, "http://127.0.0.1:1", "anna", b"geheim-8" * 8),
    "application": APPLICATION,
    "stored application": STORED,
    "its record": to_record(STORED),
    "usable application": usable(STORED),
    "application with a certificate": usable(
        StoredApplication(
            "firma",
            Flow.APPLICATION,
            "firma",
            "c",
            token_url=SERVER.token_url,
            certificate=KEY.certificate,
            key=KEY.key,
        )
    ),
    "form with a refresh token": BY_REFRESH,
    "form with a code": token_request.by_code(APPLICATION, "geheim-code", "geheim-verifier", "http://127.0.0.1:1", AT),
    "form with a device code": token_request.by_device_code(APPLICATION, "geheim-device", AT),
    "form of the application": token_request.by_application(APPLICATION, AT),
    "request": Request("POST", parse_url(BY_REFRESH.url), {"Authorization": "geheim-basic"}, BY_REFRESH.body),
    "answer": Answer(200, "OK", {"set-cookie": "geheim-cookie"}, json.dumps(ANSWER).encode()),
    "login": LoginSecret(b"anna", b"geheim-access", Smarthost("s.example", 587, Security.STARTTLS), "nonce"),
    "grant": StoredGrant("anna", "anna", "firma", "grant-1", "v1", AccessToken("geheim-refresh")),
    "stored account": StoredAccount(ACCOUNT, "geheim-refresh", Grant("firma", "grant-1")),
    "key of the grant file": new_grant_key(()),
}


@pytest.mark.parametrize("name", VALUES)
def test_no_representation_shows_a_secret(name: str) -> None:
    value = VALUES[name]
    for shown in (repr(value), str(value), f"{value}", f"{[value]}"):
        assert "geheim" not in shown
        assert KEY.key.splitlines()[1] not in shown
        if name == "key of the grant file":
            assert new_grant_key(()).fields["key"][:8] not in shown
            assert value.fields["key"] not in shown  # type: ignore[attr-defined]


async def test_the_keeper_and_its_tasks_show_no_token() -> None:
    keeper = TokenKeeper(StillClock())

    async def fetch() -> object:
        return VALUES["tokens"]

    found = await keeper.token("grant-1", "v1", fetch)  # type: ignore[arg-type]
    assert isinstance(found, AccessToken)
    assert found.reveal() == "geheim-access"
    assert "geheim" not in f"{keeper!r} {vars(keeper)!r} {vars(keeper)['_grants']['grant-1']!r}"


@pytest.mark.parametrize("form", [TextFormatter(), JsonFormatter()])
def test_the_traceback_of_an_internal_error_shows_no_local_variable(
    form: logging.Formatter, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(token: str, values: object) -> None:
        local = {"refresh_token": token, "all": values}
        raise RuntimeError("an internal error") from KeyError(len(local))

    try:
        broken(ACCESS, VALUES)  # the source of this line is in the traceback
    except RuntimeError as fault:
        event(_log, log_events.VAULT_READ_ERROR, fault=fault)
    [record] = caplog.records
    text = form.format(record)
    assert "RuntimeError: an internal error" in text
    assert "in broken" in text
    assert "geheim-" not in text
