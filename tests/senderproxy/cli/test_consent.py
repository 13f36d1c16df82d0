"""A person's consent on the command line: a browser here, one on another machine, and a device code."""

import io
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from urllib.parse import parse_qs, urlencode, urlsplit
from urllib.request import urlopen

import pytest

from senderproxy.cli.consent import consent_by_device, consent_in_browser
from senderproxy.cli.errors import LoginFailed, LoginRejected
from senderproxy.oauth.authorization_server import AuthorizationServer, custom
from senderproxy.oauth.hints import TokenSubject
from senderproxy.oauth.token_answer import Tokens
from senderproxy.oauth.token_request import Application
from tests.senderproxy.cli.token_server import TokenServer, token_server

ANNA = "anna@firma.example"
SUBJECT = TokenSubject("anna", "office", "office")
GIVEN = {"access_token": "geheim-a1", "refresh_token": "geheim-r1", "expires_in": 3600}
DEVICE = {
    "device_code": "geheim-device",
    "user_code": "ABCD-EFGH",
    "verification_uri": "https://login.firma.example/device",
    "interval": 5,
    "expires_in": 60,
}
DEADLINE = 60.0  # seconds


@pytest.fixture
def server() -> Iterator[TokenServer]:
    with token_server() as made:
        made.answers = [GIVEN]
        yield made


def at(server: TokenServer) -> AuthorizationServer:
    return custom("office", f"{server.url}/token", "https://login.firma.example/auth", f"{server.url}/device", "smtp")


class Consent:
    """The command in a thread, and what it has shown."""

    def __init__(self, application: Application, shown: io.StringIO) -> None:
        self.result: Future[Tokens] = Future()
        self._shown = shown
        self._thread = threading.Thread(target=self._run, args=(application,), daemon=True)
        self._thread.start()
        end = time.monotonic() + DEADLINE
        while not (found := re.search(r"https://login\S+", self.text)):
            assert time.monotonic() < end
            assert not self.result.done(), self.result.exception()
        self.parameters = {name: values[0] for name, values in parse_qs(urlsplit(found[0]).query).items()}

    def _run(self, application: Application) -> None:
        try:
            self.result.set_result(consent_in_browser(application, ANNA, SUBJECT))
        except BaseException as error:
            self.result.set_exception(error)

    @property
    def text(self) -> str:
        return self._shown.getvalue()

    @property
    def redirect(self) -> str:
        return self.parameters["redirect_uri"]

    def answer(self, **parameters: str) -> str:
        return f"{self.redirect}/?{urlencode({'state': self.parameters['state'], **parameters})}"


@contextmanager
def without_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What is printed, also by another thread: capsys may lose what is printed while it is read."""
    shown = io.StringIO()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdin", io.StringIO(""))
        patched.setattr(sys, "stdout", shown)
        yield shown


def test_a_browser_on_this_machine(server: TokenServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with without_terminal(monkeypatch) as shown:
        consent = Consent(Application(at(server), "client-1"), shown)
        assert consent.parameters["login_hint"] == ANNA
        host, port = urlsplit(consent.redirect).hostname, urlsplit(consent.redirect).port
        assert host == "127.0.0.1"
        for octets in (b"", b"POST / HTTP/1.1\r\n\r\n", b"GET /favicon.ico HTTP/1.1\r\n\r\n", b"nonsense\r\n"):
            with socket.create_connection((host, port)) as stray:
                stray.sendall(octets)
                stray.shutdown(socket.SHUT_WR)
                while stray.recv(1000):
                    pass
        with socket.create_connection((host, port)) as forged:
            forged.sendall(b"GET /?code=forged&state=other HTTP/1.1\r\n\r\n")
            assert forged.recv(1000).startswith(b"HTTP/1.1 404")
        with urlopen(consent.answer(code="the-code")) as page:
            assert b"You can close this window" in page.read()
        tokens = consent.result.result(DEADLINE)
    assert tokens == Tokens("geheim-a1", 3600.0, "geheim-r1")
    (form,) = server.forms
    assert (form["code"], form["redirect_uri"], form["client_id"]) == ("the-code", consent.redirect, "client-1")
    assert "geheim" not in consent.text


def test_a_person_who_says_no(server: TokenServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with without_terminal(monkeypatch) as shown:
        consent = Consent(Application(at(server), "client-1"), shown)
        urlopen(consent.answer(error="access_denied")).close()
        with pytest.raises(LoginRejected, match="was told not to allow access to anna") as caught:
            consent.result.result(DEADLINE)
    assert "account consent anna" in caught.value.hint
    assert server.forms == []


def test_no_refresh_token(server: TokenServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answers = [{"access_token": "geheim-a1"}]
    with without_terminal(monkeypatch) as shown:
        consent = Consent(Application(at(server), "client-1"), shown)
        urlopen(consent.answer(code="the-code")).close()
        with pytest.raises(LoginFailed, match="no refresh token") as caught:
            consent.result.result(DEADLINE)
    assert "offline_access" in caught.value.hint


def test_a_device(server: TokenServer, capsys: pytest.CaptureFixture[str]) -> None:
    waits: list[float] = []
    server.answers = [
        DEVICE,
        {"error": "authorization_pending"},
        {"error": "slow_down"},
        {"error": "authorization_pending"},
        GIVEN,
    ]
    tokens = consent_by_device(Application(at(server), "client-1"), ANNA, SUBJECT, waits.append)
    assert tokens.refresh == "geheim-r1"
    assert waits == [5, 5, 10, 10]
    shown = capsys.readouterr().out
    assert "ABCD-EFGH" in shown
    assert "geheim" not in shown
    assert [form.get("device_code") for form in server.forms] == [None, *["geheim-device"] * 4]


def test_a_device_whose_server_is_away_for_a_moment(server: TokenServer) -> None:
    waits: list[float] = []
    server.answers = [DEVICE, None, None, GIVEN]
    tokens = consent_by_device(Application(at(server), "client-1"), ANNA, SUBJECT, waits.append)
    assert tokens.refresh == "geheim-r1"
    assert waits == [5, 10, 20]


@pytest.mark.parametrize(
    ("answers", "error", "words"),
    [
        ([{"error": "unauthorized_client"}], LoginRejected, "does not allow the application this kind of request"),
        ([{"nothing": 1}], LoginFailed, "sent no valid answer"),
        ([DEVICE, {"error": "access_denied"}], LoginRejected, "was told not to allow access"),
        ([DEVICE, {"error": "expired_token"}], LoginRejected, "waited too long"),
        ([DEVICE, *[{"error": "authorization_pending"}] * 12], LoginRejected, "waited too long"),
    ],
)
def test_a_device_without_a_consent(
    server: TokenServer, answers: list[dict[str, object]], error: type[LoginFailed], words: str
) -> None:
    server.answers = list(answers)
    with pytest.raises(error, match=words):
        consent_by_device(Application(at(server), "client-1"), ANNA, SUBJECT, lambda _seconds: None)
    assert server.answers == []


def test_a_server_without_device_codes() -> None:
    with pytest.raises(LoginFailed, match="offers no device codes") as caught:
        consent_by_device(
            Application(custom("office", "https://x.example/"), "c"), ANNA, SUBJECT, lambda _seconds: None
        )
    assert "--device" in caught.value.hint
