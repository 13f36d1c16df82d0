"""Two services with one database and many accounts at a server that takes three connections in all."""

import smtplib
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from senderproxy.simulator.server import Simulator
from tests.crash.members import TAKEN_OVER_WITHIN, Member
from tests.fakes.connection_limit import ConnectionLimit
from tests.journeys.queueing import wait_until_empty
from tests.peers.mail_client import MailClient
from tests.peers.packages import POSTGRESQL
from tests.peers.postgresql import SERVICE, PostgresqlServer, running_database
from tests.peers.process import LOOPBACK, reserved_ports, wait_until, why_not_here
from tests.peers.senderproxy import VaultAccount
from tests.peers.simulated_provider import provider_settings, running_simulator

reason = why_not_here(POSTGRESQL / "postgres")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]

CONNECTIONS = 3
ACCOUNTS = [VaultAccount(f"p{number}@firma.example", f"geheim-postfach-{number}") for number in range(8)]
NAMES = [account.login for account in ACCOUNTS]


@dataclass
class Setting:
    """What a test uses."""

    server: PostgresqlServer
    simulator: Simulator
    limit: ConnectionLimit
    members: list[Member] = field(default_factory=list)
    queues: list[int] = field(default_factory=list)  # ports of the listeners that queue
    sent: int = 0

    def send(self, port: int, name: str, count: int = 1) -> list[int]:
        """The final replies to so many messages of one account, on one connection."""
        replies = []
        with MailClient(LOOPBACK, port, timeout=120) as client:
            for _ in range(count):
                self.sent += 1
                try:
                    client.sendmail(name, ["carl@kunde.example"], f"From: <{name}>\r\nSubject: Hallo\r\n\r\nHallo\r\n")
                except smtplib.SMTPDataError as refused:
                    replies.append(refused.smtp_code)
                else:
                    replies.append(250)
        return replies

    def send_from_all(self, ports: Sequence[int], count: int) -> list[int]:
        """The same of each account at each of these listeners, at the same time."""
        replies: list[int] = []
        work = [
            threading.Thread(target=lambda port=port, name=name: replies.extend(self.send(port, name, count)))
            for port in ports
            for name in NAMES
        ]
        for each in work:
            each.start()
        for each in work:
            each.join()
        return replies

    def known_limits(self) -> str:
        """The learned facts about servers in the database."""
        return self.server.sql("SELECT key, value FROM senderproxy.learned WHERE key LIKE 'server/%'", "mail")

    def slots(self) -> int:
        """The sessions in all instances, as they have counted them."""
        return int(self.server.sql("SELECT coalesce(sum(sessions), 0) FROM senderproxy.connection_slot", "mail"))


@pytest.fixture
def setting() -> Iterator[Setting]:
    with (
        running_database() as server,
        running_simulator(*ACCOUNTS) as simulator,
        reserved_ports(2) as ports,
        ExitStack() as things,
    ):
        limit = ConnectionLimit(CONNECTIONS)
        simulator.script, limit.simulator = limit, simulator
        setting = Setting(server, simulator, limit, queues=ports)
        for port in ports:
            section = f"""{provider_settings(simulator)}
idle_seconds = 600

[[listeners]]
name = "devices"
address = "{LOOPBACK}:{port}"
mode = "queue"

[spool]
engine = "postgresql://{SERVICE}@:{server.port}/mail?host={server.socket_folder}"
first_retry_seconds = 1
longest_retry_seconds = 2
"""
            member = Member(ACCOUNTS, section)
            member.makes_tables = not setting.members
            setting.members.append(things.enter_context(member))
        yield setting


def test_two_services_learn_what_a_server_takes_and_never_ask_for_more(setting: Setting) -> None:
    one, two = setting.members
    for member, name in ((one, NAMES[0]), (one, NAMES[1]), (two, NAMES[2])):
        assert setting.send(member.port, name) == [250]
    assert not setting.limit.refused
    assert setting.send(two.port, NAMES[3]) == [250]  # the fourth connection
    assert len(setting.limit.refused) == 1
    wait_until(lambda: f'"limit":{CONNECTIONS},' in setting.known_limits(), "the limit is written", peer=two)
    assert setting.send(one.port, NAMES[4]) == [250]  # it may not know it yet
    assert len(setting.limit.refused) <= 2

    before = len(setting.limit.refused)
    replies = setting.send_from_all([one.port, two.port, *setting.queues], 5)
    assert replies == [250] * len(replies)
    wait_until(lambda: len(setting.simulator.received) == setting.sent, "all of it has left", 120, peer=one)
    assert len(setting.limit.refused) == before
    assert setting.limit.most == CONNECTIONS
    for member in setting.members:
        wait_until_empty(member)


def test_two_services_that_begin_at_once_at_a_full_server_lose_nothing(setting: Setting) -> None:
    replies = setting.send_from_all(setting.queues, 3)
    assert replies == [250] * len(replies)
    one = setting.members[0]
    wait_until(lambda: len(setting.simulator.received) == setting.sent, "all of it has left", 240, peer=one)
    assert setting.limit.most == CONNECTIONS
    first = len(setting.queues) * len(NAMES)  # connections at the same time, before anything is known
    assert len(setting.limit.refused) <= 2 * first


def test_the_connections_of_a_killed_service_are_the_others_again(setting: Setting) -> None:
    one, two = setting.members
    for name in NAMES[:4]:
        assert setting.send(one.port, name) == [250]
    wait_until(lambda: setting.known_limits(), "the limit is written", peer=one)
    assert setting.send(two.port, NAMES[4]) == [250]
    before = len(setting.limit.refused)
    one.kill()
    two.wait_for_log("an instance is gone", TAKEN_OVER_WITHIN)
    assert setting.slots() == 1
    replies = setting.send_from_all([two.port], 3)
    assert replies == [250] * len(replies)
    assert len(setting.limit.refused) == before
    assert setting.limit.most == CONNECTIONS
    one.start()
    assert setting.send(one.port, NAMES[0]) == [250]
    assert len(setting.limit.refused) == before  # it has read the limit at its start
