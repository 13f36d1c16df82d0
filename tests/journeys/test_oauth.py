"""Accounts that log in with OAuth: a real authorization server, and Postfix with a Dovecot that asks it about each token."""

import subprocess
import sys
from collections.abc import Iterator
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
