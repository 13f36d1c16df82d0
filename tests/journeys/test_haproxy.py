"""Instances behind a real haproxy, configured as docs/proxy.md says."""

import contextlib
import smtplib
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Self

import pytest

from senderproxy.control.client import ask
from senderproxy.control.protocol import Verb, new_request
from tests.journeys.people import office_under
from tests.peers.bench import Bench
from tests.peers.clients import swaks
from tests.peers.haproxy import running_haproxy
from tests.peers.letters import Letter
from tests.peers.mail_client import MailClient
from tests.peers.packages import DOVECOT, HAPROXY, POSTFIX
from tests.peers.process import LOOPBACK, reserved_ports, wait_until, why_not_here
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
    with MailClient(LOOPBACK, port, "client.office.test", timeout=60, source_address=(host, 0)) as greeted:
        greeted.ehlo()
        yield greeted


def test_the_client_is_seen_through_haproxy_and_its_checks_are_not(bench: Bench, tmp_path: Path) -> None:
    provider = bench.start(PostfixProvider(office_under(Rule.ADDRESS).mailboxes, Rule.ADDRESS))
    relay = bench.start(BehindHaproxy(provider))
    with reserved_ports(1) as [port], running_haproxy(port, {"relay1": relay.port}, faster=False) as haproxy:
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
        busy = ("event loop blocked", "loop_blocked")  # that the machine is busy
        lines = [line for line in relay.log().splitlines() if not any(text in line for text in busy)]
        clients = [line for line in lines if "client" in line or "WARNING" in line]
        assert len(clients) == 2, clients
        [listener] = ask(relay.folder / "control", new_request(Verb.STATUS))["listeners"]
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


class SteadyClients:
    """Clients that send one letter after the other through haproxy, each on a connection of its own.

    `sent`: the Message-IDs answered with 250; `refused`: whatever else a client got, in words.
    """

    def __init__(self, port: int, count: int) -> None:
        self._port = port
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(number,)) for number in range(count)]
        self.sent: list[str] = []
        self.refused: list[str] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def wait_for_more(self, count: int) -> None:
        """Return when so many letters more were accepted, or one was refused."""
        wanted = len(self.sent) + count
        wait_until(lambda: len(self.sent) >= wanted or self.refused, f"{count} letters more", 120)

    def _send(self, client_number: int) -> None:
        number = 0
        while not self._over.wait(0.05):  # twenty letters a second are enough
            number += 1
            letter = replace(LETTER, message_id=f"{client_number}.{number}@desk.office.test")
            try:
                with client(self._port) as sending:
                    sending.sendmail(letter.author, letter.recipients, letter.content)
            except (OSError, smtplib.SMTPException) as error:
                self.refused.append(f"{letter.message_id}: {error!r}")
            else:
                self.sent.append(letter.message_id)


def connections(relay: Senderproxy) -> int:
    """The clients that the instance has admitted since its start."""
    [listener] = ask(relay.folder / "control", new_request(Verb.STATUS))["listeners"]
    return int(listener["connections"])


def test_one_of_two_instances_is_drained_restarted_and_back_without_a_refused_client(
    bench: Bench, tmp_path: Path
) -> None:
    provider = bench.start(PostfixProvider(office_under(Rule.ADDRESS).mailboxes, Rule.ADDRESS))
    relays = [bench.start(BehindHaproxy(provider)) for _ in range(2)]
    servers = {f"relay{number}": relay.port for number, relay in enumerate(relays, 1)}
    first, second = relays
    with reserved_ports(1) as [port], running_haproxy(port, servers, faster=False) as haproxy:
        for name in servers:
            haproxy.wait_for(name, "UP L7OK")
        with client(port) as before, SteadyClients(port, 4) as clients:
            clients.wait_for_more(40)
            assert all(connections(relay) for relay in relays)
            assert "Draining: health checks are refused at " in first.command("drain")
            haproxy.wait_for("relay1", "DOWN L7STS")
            before.sendmail(LETTER.author, LETTER.recipients, LETTER.content)
            before.quit()
            waited = first.command("drain", "--wait", "120", seconds=150)
            assert waited.endswith("Nothing is under way any more: the service can be stopped.\nThe queue is empty.\n")
            drained, other = connections(first), connections(second)
            clients.wait_for_more(20)
            assert connections(first) == drained
            assert connections(second) > other
            first.restart()
            haproxy.wait_for("relay1", "UP L7OK")
            clients.wait_for_more(40)
            assert connections(first)
            second.command("drain")
            haproxy.wait_for("relay2", "DOWN L7STS")
            clients.wait_for_more(20)
            second.command("drain", "--undo")
            haproxy.wait_for("relay2", "UP L7OK")
            clients.wait_for_more(20)
        assert clients.refused == []
        sent = sorted([*clients.sent, LETTER.message_id])
        provider.wait_until(lambda: len(provider.received()) >= len(sent), "all letters")
        assert sorted(str(one.header("Message-ID")).strip("<>") for one in provider.received()) == sent
