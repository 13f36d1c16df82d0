"""Accounts that log in with OAuth: a real authorization server, and Postfix with a Dovecot that asks it about each token."""

import contextlib
import json
import re
import smtplib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from senderproxy.control.client import RequestRefused, ask
from senderproxy.control.protocol import Answer, Verb, new_request
from senderproxy.routing.account import Credential
from senderproxy.routing.provider import ImapServer, Security
from senderproxy.sent_copy.imap import ImapFolders
from senderproxy.sent_copy.ports import FoundFolder, RefusalKind, Refused
from tests.hostile.faulty_calls import CallFault, FaultyCalls
from tests.peers.imap import DovecotImap
from tests.peers.letters import Letter, hand_over
from tests.peers.oauth_server import SECRET, Browser, OAuthServer
from tests.peers.packages import DOVECOT, POSTFIX, PROJECT
from tests.peers.process import LOOPBACK, private_folder, reserved_ports, wait_until, why_not_here
from tests.peers.provider import Mailbox, PostfixProvider, Rule
from tests.peers.senderproxy import PROVIDER, Senderproxy, VaultAccount
from tests.senderproxy.cli.pseudo_terminal import on_terminal

reason = why_not_here(POSTFIX, DOVECOT, "node", "npm", "gcc", root=True)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=reason or "")]

SCANNER: Final = "scanner@firma.test"  # by the application alone
ANNA: Final = "anna@firma.test"  # by her consent
KASSE: Final = VaultAccount("kasse@firma.test", "geheim-Kasse-77")  # by its password
MAILBOXES: Final = (
    Mailbox(SCANNER, "geheim-unused-1"),
    Mailbox(ANNA, "geheim-unused-2"),
    Mailbox(KASSE.login, KASSE.password),
)
# What the service answers in, and what a login of a command's own needs. Other outputs: tests/senderproxy/cli/test_oauth.py.
OUTPUTS: Final = (
    ("account", "verify", "--json"),
    ("status", "--json"),
    ("queue", "list", "--json"),
    ("track", "--json"),
)
DEADLINE: Final = 240.0  # seconds; a command waits up to 70 for a token of the service
CONNECTED: Final = r"postfix/smtpd\[\d+\]: connect from"


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
        """The number of connections to the provider that its log has."""
        return len(self.provider.log_lines(CONNECTED))

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

    def add_anna(self) -> None:
        """Store Anna's account with her consent."""
        self.add_desk()
        self.consent("account", "add", ANNA, "--provider", PROVIDER, "--oauth", "desk")

    def add_scanner(self) -> None:
        """Store the scanner's account, which needs no person."""
        self.add_office()
        self.relay.command("account", "add", SCANNER, "--provider", PROVIDER, "--oauth", "office")

    def asked(self, verb: Verb, **fields: object) -> Answer:
        """The running service's answer to a request of root."""
        return ask(self.relay.folder / "control", new_request(verb, **fields), seconds=DEADLINE)

    def look_for_secrets(self, text: str) -> None:
        """Fail if any token that was ever issued shows, or the application's secret."""
        secrets = [SECRET, *self.server.seen().issued]
        assert not [secret for secret in secrets if secret in text], "a token was told"

    def printed(self, *words: str, standard_input: str = "") -> str:
        """What a command printed, with whatever exit code."""
        done = subprocess.run(
            [sys.executable, "-m", "senderproxy", "--config", str(self.relay.config_file), *words],
            input=standard_input, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=DEADLINE,
            check=False, cwd=PROJECT,
        )  # fmt: skip
        return done.stdout


@contextmanager
def office(mechanisms: str = "plain login xoauth2 oauthbearer") -> Iterator[Place]:
    """The three programs; whatever the test does, no token and no secret shows in what the relay wrote."""
    with (
        OAuthServer(SCANNER) as server,
        PostfixProvider(
            MAILBOXES, Rule.ADDRESS, mechanisms=mechanisms, introspection_url=server.introspection_url
        ) as provider,
        Senderproxy.in_front_of(provider, [KASSE], more_settings='[log]\nlevel = "debug"\n') as relay,
    ):
        place = Place(server, provider, relay)
        yield place
        assert server.seen().issued
        place.look_for_secrets(relay.log())
        for file in relay.folder.rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # the service has replaced or removed it meanwhile
                if file.is_file():
                    place.look_for_secrets(file.read_bytes().decode("latin-1"))


def test_an_application_and_a_consent_send_through_a_real_smarthost_and_their_tokens_open_a_mailbox_by_imap() -> None:
    with (
        office() as place,
        reserved_ports(1) as [port],
        DovecotImap(place.provider.folder, port, place.server.introspection_url) as imap,
    ):
        place.add_scanner()
        place.add_anna()
        for number, author in enumerate((SCANNER, ANNA, KASSE.login)):
            code, text = place.send(author, str(number))
            assert code == 250, (author, text)
        place.arrived(SCANNER, ANNA, KASSE.login)
        assert place.provider.failed_logins() == []

        tokens = {login: str(place.asked(Verb.TOKEN, account=login)["token"]) for login in (SCANNER, ANNA)}
        for mechanism in ("XOAUTH2", "OAUTHBEARER"):
            for login, token in tokens.items():
                assert imap.takes(mechanism, login, token), imap.log()
                assert not imap.takes(mechanism, KASSE.login, token)
                assert not imap.takes(mechanism, login, f"{token[:-1]}~")
        mailbox, folders = ImapServer(LOOPBACK, port, Security.NONE), ImapFolders(time.monotonic)
        for login, token in tokens.items():  # as for copies in the Sent folder
            found = folders.find_folder(mailbox, Credential(login, token, "1", application="any"))
            assert isinstance(found, FoundFolder), (found, imap.log())
            refused = folders.find_folder(mailbox, Credential(login, f"{token[:-1]}~", "1", application="any"))
            assert isinstance(refused, Refused)
            assert refused.kind is RefusalKind.LOGIN
        place.server.end_tokens()
        assert not imap.takes("XOAUTH2", ANNA, tokens[ANNA])
        # Each command tried a login with a token of its own; the service uses the first rotation of Anna's consent, and
        # the tokens of its logins by SMTP are those that it gave for IMAP.
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
        place.server.behave(claimed=1)  # so each login renews
        place.add_anna()
        assert place.send(ANNA, "1")[0] == 250
        place.arrived(ANNA)
        place.provider.lines_written("sasl_method=XOAUTH2")  # so are the lines on the connections before it
        sessions = place.sessions()
        place.server.end_tokens()
        assert place.send(ANNA, "2")[0] == 250
        place.arrived(ANNA, ANNA)
        assert len(place.provider.lines_written("sasl_method=XOAUTH2", 2)) == 2
        assert place.sessions() == sessions  # the session outlives its token
        with contextlib.ExitStack() as commands:
            verifying = [commands.enter_context(place.started("account", "verify", ANNA)) for _number in range(3)]
            for command in verifying:
                printed, _nothing = command.communicate(timeout=DEADLINE)
                assert command.returncode == 0, printed
        assert len(place.provider.lines_written(CONNECTED, sessions + 3)) == sessions + 3
        place.relay.stop()
        with place.started("account", "verify", ANNA) as one, place.started("account", "verify", ANNA) as other:
            # Without the service the first one locks the grant file; the other one gives up, and spends nothing.
            ended = [(command.communicate(timeout=DEADLINE)[0], command.returncode) for command in (one, other)]
        assert {code for _printed, code in ended} <= {0, 69}, ended
        place.relay.command("account", "verify", ANNA)
        place.relay.start()
        assert place.send(ANNA, "3")[0] == 250
        requests = place.server.seen().requests
        assert requests[0] == "authorization_code"
        assert len(requests) >= 5  # for the service, for the commands together, for those without it, afterwards
        assert set(requests[1:]) == {"refresh_token"}  # and never `invalid_grant`: no refresh token was used twice


def test_tokens_show_in_no_output() -> None:
    with office() as place:
        place.server.behave(claimed=1)
        place.add_scanner()
        place.add_anna()
        for login in (SCANNER, ANNA):
            assert place.send(login, login)[0] == 250
        history = place.relay.tracked("--json", text=ANNA)
        passphrase = "geheim-of-the-backup\n"
        backup = str(place.relay.folder / "all.backup")
        outputs = [place.printed(*words) for words in OUTPUTS]
        outputs += [
            place.printed("backup", backup, "--passphrase-stdin", standard_input=passphrase),
            place.printed("backup", "--verify", backup, "--passphrase-stdin", standard_input=passphrase),
        ]
        assert not [printed for printed in outputs if "usage:" in printed or "Traceback" in printed]
        [id_] = re.findall(rf'"id": "([^"]+)"[^}}]*?{re.escape(ANNA)}', history)[:1]
        for verb in Verb:
            if verb is not Verb.TOKEN:
                with contextlib.suppress(RequestRefused):
                    fields = {"account": ANNA, "token": "x", "id": id_, "ids": [id_], "query": {}, "limit": 50}
                    outputs.append(json.dumps(place.asked(verb, **fields)))
        outputs += [Path(f"/proc/{place.relay.pid}/{file}").read_text("latin-1") for file in ("cmdline", "environ")]
        assert ANNA in "".join(outputs)
        for text in outputs:
            place.look_for_secrets(text)
        token = str(place.asked(Verb.TOKEN, account=ANNA)["token"])
        with pytest.raises(AssertionError, match="a token was told"):
            place.look_for_secrets(f"a line with {token} in it")


def test_a_kill_between_the_answer_and_the_disk_and_a_revocation_ask_for_a_new_consent() -> None:
    with office() as place:
        place.add_anna()
        place.server.behave("hold")
        with sending(place, "1"):
            wait_until(lambda: place.server.seen().held == 1, "the server has rotated", DEADLINE, peer=place.relay)
            place.relay.kill()
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


def test_a_kill_while_the_rotated_token_is_being_saved_asks_for_a_new_consent() -> None:
    with office() as place, private_folder("faults") as folder:
        faults = FaultyCalls(folder)
        place.add_anna()
        assert place.send(ANNA, "1")[0] == 250  # the grant file is there
        # The names that a save has before it replaces the file; its lock is beside, and does not hang.
        place.relay.environment = dict(faults.environment(place.relay.folder / ".accounts.vault.grants."))
        place.relay.restart()
        with faults.in_force(CallFault.HANG), sending(place, "2"):
            saving = ".accounts.vault.grants.*.tmp"
            wait_until(lambda: list(place.relay.folder.glob(saving)), "the save has begun", DEADLINE, peer=place.relay)
            assert place.server.seen().requests[-1] == "refresh_token"  # answered, and the answer has arrived
            place.relay.kill()
        place.relay.environment = {}
        place.relay.start()
        must_consent(place, "3")
        assert place.server.seen().requests[-1] == "refresh_token: invalid_grant"
        place.consent("account", "consent", ANNA)
        assert place.send(ANNA, "4")[0] == 250


@contextmanager
def sending(place: Place, number: str) -> Iterator[None]:
    """Send a message of Anna's meanwhile; its connection may be cut."""

    def send() -> None:
        with contextlib.suppress(OSError, smtplib.SMTPException):
            place.send(ANNA, number)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        sender.join(DEADLINE)


def must_consent(place: Place, number: str) -> None:
    """The account waits for a person, and `status` has the command; another account sends."""
    code, text = place.send(ANNA, number)
    assert code // 100 in {4, 5}, text
    assert "consent" in text
    status = place.relay.command("status", exit_code=1)
    assert "suspended" in status
    assert f"senderproxy account consent {ANNA}" in status
    assert place.send(KASSE.login, f"{number}-other")[0] == 250


def test_a_token_endpoint_that_is_down_slow_or_lies() -> None:
    with office("plain login oauthbearer") as place:
        place.add_scanner()
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
        assert len(place.provider.lines_written("sasl_method=OAUTHBEARER", 2)) == 2


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "CRAM-MD5"])
def test_a_password_by_a_mechanism_that_does_not_send_it(mechanism: str) -> None:
    with (
        PostfixProvider(MAILBOXES, Rule.ADDRESS, mechanisms=mechanism.lower()) as provider,
        Senderproxy.in_front_of(provider, [KASSE]) as relay,
    ):
        content = Letter(KASSE.login, ("karl@kunde.test",), "1@pc.test").content
        assert hand_over(relay.port, KASSE.login, "karl@kunde.test", content)[0] == 250
        assert provider.lines_written(f"sasl_method={mechanism}, sasl_username={KASSE.login}")
