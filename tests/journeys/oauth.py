"""Accounts that log in with OAuth: a real authorization server, and Postfix with a Dovecot that asks it about each token."""

import contextlib
import re
import smtplib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import pytest

from tests.peers.letters import Letter, hand_over
from tests.peers.oauth_server import SECRET, Browser, OAuthServer
from tests.peers.packages import DOVECOT, POSTFIX, PROJECT
from tests.peers.process import wait_until, why_not_here
from tests.peers.provider import Mailbox, PostfixProvider, Rule
from tests.peers.senderproxy import PROVIDER, Senderproxy, VaultAccount
from tests.senderproxy.cli.pseudo_terminal import on_terminal

reason = why_not_here(POSTFIX, DOVECOT, "node", "npm", root=True)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=reason or "")]

SCANNER: Final = "scanner@firma.test"  # by the application alone
ANNA: Final = "anna@firma.test"  # by her consent
KASSE: Final = VaultAccount("kasse@firma.test", "geheim-Kasse-77")  # by its password
MAILBOXES: Final = (
    Mailbox(SCANNER, "geheim-unused-1"),
    Mailbox(ANNA, "geheim-unused-2"),
    Mailbox(KASSE.login, KASSE.password),
)
SHOWN: Final = (("account", "list", "--json"), ("oauth", "list", "--json"), ("oauth", "list"), ("account", "list"))
DEADLINE: Final = 60.0  # seconds


@dataclass(frozen=True)
class Place:
    """The three programs of a test."""

    server: OAuthServer
    provider: PostfixProvider
    relay: Senderproxy

    def send(self, author: str, number: str) -> tuple[int, str]:
        """Hand one message to the relay; the last reply."""
        content = Letter(author, ("karl@kunde.test",), f"{number}@pc.test").content
        return hand_over(self.relay.port, author, "karl@kunde.test", content)

    def arrived(self, *logins: str) -> None:
        """Wait until the provider has exactly these messages, by the login of each, in any order."""

        def found() -> list[str]:
            return sorted(delivery.login or "" for delivery in self.provider.received())

        wait_until(lambda: len(found()) >= len(logins), f"messages of {logins}", DEADLINE, peer=self.provider)
        assert found() == sorted(logins)

    def sessions(self) -> int:
        """The number of connections to the provider until now."""
        return len(self.provider.log_lines(r"postfix/smtpd\[\d+\]: connect from"))

    def add_office(self) -> None:
        """Store the application that needs no person."""
        self.relay.command(
            "oauth", "add", "office", "--flow", "application", "--client-id", "office", "--scopes", "smtp",
            "--token-url", f"{self.server.url}/token", "--password-stdin", standard_input=f"{SECRET}\n",
        )  # fmt: skip

    def add_desk(self) -> None:
        """Store the application that needs a person's consent."""
        self.relay.command(
            "oauth", "add", "desk", "--flow", "consent", "--client-id", "desk", "--no-secret",
            "--scopes", "smtp offline_access", "--token-url", f"{self.server.url}/token",
            "--authorization-url", f"{self.server.url}/auth", "--device-url", f"{self.server.url}/device/auth",
        )  # fmt: skip

    def consent(self, *words: str) -> str:
        """Run a command that needs Anna's consent, which she gives in a browser on this machine; all that it printed."""
        with self.started(*words) as command:
            assert command.stdout is not None
            printed = ""
            for line in command.stdout:
                printed += line
                if line.startswith(f"{self.server.url}/auth"):
                    browser = Browser(ANNA)
                    page = browser.follow(browser.consent(line.strip()))
                    assert "You can close this window" in page
            assert command.wait(DEADLINE) == 0, printed
        return printed

    @contextmanager
    def started(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """A command that has begun, without a terminal."""
        command = subprocess.Popen(
            [sys.executable, "-u", "-m", "senderproxy", "--config", str(self.relay.config_file), *words],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=PROJECT,
        )  # fmt: skip
        with command:
            try:
                yield command
            finally:
                command.kill()

    def add_anna(self, *words: str) -> None:
        """Store Anna's account with her consent."""
        self.add_desk()
        self.consent("account", "add", ANNA, "--provider", PROVIDER, "--oauth", "desk", *words)


@contextmanager
def office(mechanisms: str = "plain login xoauth2 oauthbearer") -> Iterator[Place]:
    """The three programs; whatever the test does, no token shows in what the relay wrote."""
    with (
        OAuthServer(SCANNER) as server,
        PostfixProvider(
            MAILBOXES, Rule.ADDRESS, mechanisms=mechanisms, introspection_url=server.introspection_url
        ) as provider,
        Senderproxy.in_front_of(provider, [KASSE]) as relay,
    ):
        place = Place(server, provider, relay)
        yield place
        tokens = server.seen().issued
        written = relay.log() + "".join(relay.command(*words) for words in SHOWN)
        assert tokens
        assert not [token for token in tokens if token in written]


def test_an_application_and_a_consent_send_through_a_real_smarthost() -> None:
    with office() as place:
        place.add_office()
        place.relay.command("account", "add", SCANNER, "--provider", PROVIDER, "--oauth", "office")
        place.add_anna()
        for number, author in enumerate((SCANNER, ANNA, KASSE.login)):
            code, text = place.send(author, str(number))
            assert code == 250, (author, text)
        place.arrived(SCANNER, ANNA, KASSE.login)
        assert place.provider.failed_logins() == []
        # Each command tried a login with a token of its own; the service uses the first rotation of Anna's consent.
        assert sorted(place.server.seen().requests) == [
            "authorization_code", "client_credentials", "client_credentials", "refresh_token",
        ]  # fmt: skip


def test_a_consent_by_a_pasted_address_and_by_a_device_code() -> None:
    with office() as place:
        place.add_desk()
        words = ("account", "add", ANNA, "--provider", PROVIDER, "--oauth", "desk")
        with on_terminal(
            [sys.executable, "-m", "senderproxy", "--config", str(place.relay.config_file), *words]
        ) as person:
            person.read_until("If the browser is on another machine")
            [url] = re.findall(rf"{place.server.url}/auth\?\S+", person.screen)
            person.type("http://127.0.0.1/?code=forged&state=other")
            person.read_until("belongs to another attempt")
            person.type(Browser(ANNA).consent(url))
            assert person.end() == 0, person.screen
        with place.started("account", "consent", ANNA, "--device") as command:
            assert command.stdout is not None
            printed = ""
            while not (found := re.search(r"Open\s+(\S+)\s+in\s+a\s+browser,\s+enter\s+the\s+code\s+(\S+),", printed)):
                line = command.stdout.readline()
                assert line, printed
                printed += line
            assert "Sign-in Success" in Browser(ANNA).enter_code(found[1], found[2])
            printed += command.stdout.read()
            assert command.wait(DEADLINE) == 0, printed
        place.relay.command("account", "verify", ANNA)
        assert place.provider.failed_logins() == []


def test_a_token_ends_in_mid_session_and_rotations_meet() -> None:
    with office() as place:
        place.server.behave(lifetime=14)
        place.add_anna()
        began = time.monotonic()
        assert place.send(ANNA, "1")[0] == 250
        place.arrived(ANNA)
        sessions = place.sessions()
        wait_until(lambda: time.monotonic() > began + 15, "the token has ended")
        assert place.send(ANNA, "2")[0] == 250
        place.arrived(ANNA, ANNA)
        assert place.sessions() == sessions  # the session outlives its token
        assert len(place.provider.log_lines("sasl_method=XOAUTH2")) == 2
        with contextlib.ExitStack() as commands:
            verifying = [commands.enter_context(place.started("account", "verify", ANNA)) for _number in range(3)]
            for command in verifying:
                printed, _nothing = command.communicate(timeout=DEADLINE)
                assert command.returncode == 0, printed
        assert place.sessions() == sessions + 3
        place.relay.stop()
        place.relay.command("account", "verify", ANNA)
        place.relay.start()
        assert place.send(ANNA, "3")[0] == 250
        requests = place.server.seen().requests
        assert requests[0] == "authorization_code"
        assert len(requests) >= 5  # for the service, for the commands together, for one without the service, afterwards
        assert set(requests[1:]) == {"refresh_token"}  # and never `invalid_grant`: no refresh token was used twice


def test_a_kill_between_the_answer_and_the_disk_and_a_revocation_ask_for_a_new_consent() -> None:
    with office() as place:
        place.add_anna()
        place.server.behave("hold")
        sender = threading.Thread(target=lambda: suppressed(lambda: place.send(ANNA, "1")))
        sender.start()
        wait_until(lambda: place.server.seen().held == 1, "the server has rotated", DEADLINE, peer=place.relay)
        place.relay.kill()
        sender.join(DEADLINE)
        place.server.behave("")
        place.relay.start()
        must_consent(place, "2")
        assert place.server.seen().requests[-1] == "refresh_token: invalid_grant"

        place.consent("account", "consent", ANNA)
        assert place.send(ANNA, "3")[0] == 250

        place.server.revoke()
        assert place.send(ANNA, "4")[0] == 250  # the session outlives its token
        place.relay.restart()
        must_consent(place, "5")


def must_consent(place: Place, number: str) -> None:
    """The account waits for a person, and `status` has the command; another account sends."""
    code, text = place.send(ANNA, number)
    assert code // 100 in {4, 5}, text
    assert "consent" in text
    status = place.relay.command("status", exit_code=1)
    assert "suspended" in status
    assert f"senderproxy account consent {ANNA}" in status
    assert place.send(KASSE.login, f"{number}-other")[0] == 250


def suppressed(do: Callable[[], object]) -> None:
    """Do something whose connection may be cut."""
    with contextlib.suppress(OSError, smtplib.SMTPException):
        do()


def test_a_token_endpoint_that_is_down_slow_or_lies() -> None:
    with office("plain login oauthbearer") as place:
        place.add_office()
        place.relay.command("account", "add", SCANNER, "--provider", PROVIDER, "--oauth", "office")
        assert place.send(SCANNER, "1")[0] == 250
        place.server.behave("reset")
        place.relay.command("account", "verify", SCANNER)  # with the token in hand
        place.relay.stop()
        place.server.behave("slow")
        with place.started("account", "verify", SCANNER) as waiting:
            wait_until(lambda: place.server.seen().requests[-1] == "slow", "a request waits", DEADLINE)
            for fault in ("reset", "html", "huge"):
                place.server.behave(fault)
                printed = place.relay.command("account", "verify", SCANNER, exit_code=69)
                assert "127.0.0.1" in printed, fault
                assert "<!doctype" not in printed
                assert "aaaa" not in printed
            printed, _nothing = waiting.communicate(timeout=DEADLINE)
            assert waiting.returncode == 69, printed
        place.relay.start()
        code, text = place.send(SCANNER, "2")
        assert code == 451, text
        assert "cannot give a token at the moment" in text
        assert ".." not in text
        assert place.send(KASSE.login, "3")[0] == 250
        place.server.behave("")
        wait_until(lambda: place.send(SCANNER, "2")[0] == 250, "the server is asked again", DEADLINE, peer=place.relay)
        place.arrived(SCANNER, KASSE.login, SCANNER)
        assert len(place.provider.log_lines("sasl_method=OAUTHBEARER")) == 2


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "CRAM-MD5"])
def test_a_password_by_a_mechanism_that_does_not_send_it(mechanism: str) -> None:
    with (
        PostfixProvider(MAILBOXES, Rule.ADDRESS, mechanisms=mechanism.lower()) as provider,
        Senderproxy.in_front_of(provider, [KASSE]) as relay,
    ):
        content = Letter(KASSE.login, ("karl@kunde.test",), "1@pc.test").content
        assert hand_over(relay.port, KASSE.login, "karl@kunde.test", content)[0] == 250
        assert provider.log_lines(f"sasl_method={mechanism}, sasl_username={KASSE.login}")
