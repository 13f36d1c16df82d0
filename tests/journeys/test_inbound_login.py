"""Clients that log in at senderproxy over TLS, and may send as some people only: real clients, the real provider."""

from pathlib import Path

import pytest

from senderproxy.listener.client_auth import hash_password
from tests.journeys.people import office_under
from tests.peers.bench import Bench
from tests.peers.certificates import Authority
from tests.peers.clients import ClientLogin, Sent, msmtp, swaks
from tests.peers.letters import Letter
from tests.peers.packages import DOVECOT, POSTFIX
from tests.peers.process import LOOPBACK, reserved_ports, why_not_here
from tests.peers.provider import PostfixProvider, Rule
from tests.peers.senderproxy import Senderproxy

reason = why_not_here(POSTFIX, DOVECOT, "swaks", "msmtp", root=True)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]

SCANNER = ClientLogin("scanner", "geheim-scan-1")
OWN = Letter("anna@firma.test", ("a@kunde.test",), "own@desk.office.test")
BOSS = Letter("bert@firma.test", ("a@kunde.test",), "boss@desk.office.test")


@pytest.mark.parametrize("client", ["swaks-plain", "swaks-login", "msmtp"])
def test_who_logs_in_sends_as_its_own_senders_and_nobody_else(bench: Bench, tmp_path: Path, client: str) -> None:
    papers = Authority(tmp_path).issue("localhost")
    people = office_under(Rule.ADDRESS)
    provider = bench.start(PostfixProvider(people.mailboxes, Rule.ADDRESS))
    with reserved_ports(1) as [port]:
        settings = f"""
[[listeners]]
name = "devices"
address = "{LOOPBACK}:{port}"
tls = "starttls"
certificate = "{papers.chain}"
key = "{papers.key}"
auth = "required"

[[clients]]
user = "{SCANNER.user}"
password = "{hash_password(SCANNER.password)}"
senders = ["{OWN.author}"]
"""
        bench.start(Senderproxy.in_front_of(provider, people.accounts, more_settings=settings))

        def send(letter: Letter, login: ClientLogin | None) -> Sent:
            if client == "msmtp":
                return msmtp(
                    tmp_path,
                    port,
                    reverse_path=letter.author,
                    recipients=letter.recipients,
                    content=letter.content,
                    ca_file=tmp_path / "ca.pem",
                    login=login,
                )
            how = ["--tls", "--auth", "PLAIN" if client == "swaks-plain" else "LOGIN"] if login else ["--tls"]
            return swaks(
                tmp_path,
                port,
                reverse_path=letter.author,
                recipients=letter.recipients,
                content=letter.content,
                options=how,
                login=login,
            )

        taken = send(OWN, SCANNER)
        assert taken.exit_code == 0, taken.transcript
        refused = send(BOSS, SCANNER)
        assert refused.exit_code != 0
        assert f"may not send as {BOSS.author}" in refused.transcript
        stranger = send(OWN, None)
        assert stranger.exit_code != 0
        assert "530" in stranger.transcript
        guessed = send(OWN, ClientLogin(SCANNER.user, "geheim-geraten"))
        assert guessed.exit_code != 0
        assert "535" in guessed.transcript
        provider.wait_until(lambda: len(provider.received()) >= 1, "the scanner's letter")
        assert [(d.login, d.reverse_path) for d in provider.received()] == [(OWN.author, OWN.author)]
