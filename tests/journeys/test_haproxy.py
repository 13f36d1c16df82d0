"""Instances behind a real haproxy, configured as docs/proxy.md says."""

import contextlib
import json
import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journeys.people import office_under
from tests.peers.bench import Bench
from tests.peers.clients import swaks
from tests.peers.haproxy import running_haproxy
from tests.peers.letters import Letter
from tests.peers.packages import DOVECOT, HAPROXY, POSTFIX
from tests.peers.process import LOOPBACK, reserved_ports, why_not_here
from tests.peers.provider import PostfixProvider, Rule
from tests.peers.senderproxy import Senderproxy

reason = why_not_here(POSTFIX, DOVECOT, HAPROXY, "swaks", root=True)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]

CLIENT = "127.0.0.77"  # seen by haproxy; every connection to the instance comes from 127.0.0.1
LETTER = Letter("anna@firma.test", ("a@kunde.test",), "proxied@desk.office.test")
PROXIED = f'allow = ["{CLIENT}", "192.168.1.0/24"]\nproxy_from = ["{LOOPBACK}"]\n'


class BehindHaproxy(Senderproxy):
    """An instance whose listener takes PROXY headers from this machine."""

    def __init__(self, provider: PostfixProvider, log_level: str = "info") -> None:
        people = office_under(Rule.ADDRESS)
        before = Senderproxy.in_front_of(provider, people.accounts)
        super().__init__(
            people.accounts,
            before._provider_section,
            listener_settings=PROXIED,
            more_settings=f'[log]\nlevel = "{log_level}"\n',
        )


@contextlib.contextmanager
def client(port: int, host: str = CLIENT) -> Iterator[smtplib.SMTP]:
    """A greeted client from that address."""
    with smtplib.SMTP(LOOPBACK, port, "client.office.test", timeout=60, source_address=(host, 0)) as greeted:
        greeted.ehlo()
        yield greeted


def test_the_client_is_seen_through_haproxy_and_its_checks_are_not(bench: Bench, tmp_path: Path) -> None:
    provider = bench.start(PostfixProvider(office_under(Rule.ADDRESS).mailboxes, Rule.ADDRESS))
    relay = bench.start(BehindHaproxy(provider))
    with reserved_ports(1) as [port], running_haproxy(port, {"relay1": relay.port}) as haproxy:
        haproxy.wait_for("relay1", "UP L7OK")
        with client(port) as sending:
            sending.sendmail(LETTER.author, LETTER.recipients, LETTER.content)
        provider.wait_until(lambda: len(provider.received()) == 1, "the letter")
        [delivery] = provider.received()
        assert f"[{CLIENT}]".encode() in delivery.content
        assert b"[127.0.0.1]" not in delivery.content.partition(b"by relay.office.test")[0]
        relay.wait_for_log(f" client={CLIENT} ")
        # A stranger is refused by its own address, although haproxy's is of this machine.
        with pytest.raises(smtplib.SMTPConnectError) as refused, client(port, "127.0.0.78"):
            pass
        assert "127.0.0.78" in str(refused.value)
        relay.wait_for_log("client rejected client=127.0.0.78 ")
        # Past haproxy, from an address that is no proxy's, a header is an unknown command.
        with client(relay.port) as direct:
            assert direct.docmd("PROXY", "TCP4 192.168.1.20 192.168.1.20 1 1")[0] == 500
        haproxy.wait_for("relay1", "UP L7OK")
        clients = [line for line in relay.log().splitlines() if "client" in line or "WARNING" in line]
        assert len(clients) == 2, clients
        [listener] = json.loads(relay.command("status", "--json"))["listeners"]
        assert (listener["connections"], listener["turned_away"]) == (2, 1)


def test_without_send_proxy_the_log_says_what_is_missing(bench: Bench, tmp_path: Path) -> None:
    provider = bench.start(PostfixProvider(office_under(Rule.ADDRESS).mailboxes, Rule.ADDRESS))
    relay = bench.start(BehindHaproxy(provider))
    with (
        reserved_ports(1) as [port],
        running_haproxy(port, {"relay1": relay.port}, without=" send-proxy-v2", faster=False) as haproxy,
    ):
        relay.wait_for_log("send-proxy-v2")
        haproxy.wait_for("relay1", "DOWN L7TOUT")
        sent = swaks(tmp_path, port, reverse_path=LETTER.author, recipients=LETTER.recipients, content=LETTER.content)
        assert sent.exit_code != 0
    assert provider.received() == []
