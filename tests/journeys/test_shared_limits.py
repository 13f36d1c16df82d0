"""Two services with one database and one account: together they send no more than its limits, and no less."""

import smtplib
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial

import pytest

from senderproxy.control.client import ask
from senderproxy.control.protocol import Verb, new_request
from senderproxy.simulator.server import Simulator
from tests.crash.members import TAKEN_OVER_WITHIN, Member
from tests.journeys.test_postgresql import ANNA
from tests.peers.mail_client import MailClient
from tests.peers.packages import POSTGRESQL
from tests.peers.postgresql import PostgresqlServer, running_database
from tests.peers.process import LOOPBACK, wait_until, why_not_here
from tests.peers.simulated_provider import provider_settings, running_simulator

reason = why_not_here(POSTGRESQL / "postgres")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]

LIMIT = 60
AUTOMATIC = 4  # messages in an hour
CARL = "carl@kunde.example"


@dataclass
class Setting:
    """What a test uses."""

    server: PostgresqlServer
    simulator: Simulator
    members: list[Member] = field(default_factory=list)

    def send(self, member: Member, count: int) -> list[int]:
        """The final replies to so many messages, on one connection."""
        replies = []
        with MailClient(LOOPBACK, member.port, timeout=60) as client:
            for number in range(count):
                try:
                    client.sendmail(ANNA.login, ["carl@kunde.example"], message(number))
                except smtplib.SMTPDataError as refused:
                    replies.append(refused.smtp_code)
                else:
                    replies.append(250)
        return replies

    def send_from_all(self, count: int, clients: int = 3) -> list[int]:
        """The same from several clients of each service at the same time."""
        replies: list[int] = []
        work = [
            threading.Thread(target=lambda member=member: replies.extend(self.send(member, count)))
            for member in self.members
            for _ in range(clients)
        ]
        for each in work:
            each.start()
        for each in work:
            each.join()
        return replies


def message(number: int) -> str:
    return f"From: <{ANNA.login}>\r\nTo: carl@kunde.example\r\nSubject: {number}\r\n\r\nHallo\r\n"


@contextmanager
def running(limit: int) -> Iterator[Setting]:
    with running_database() as server, running_simulator(ANNA) as simulator, ExitStack() as things:
        section = f"""{provider_settings(simulator)}messages_per_hour = {limit}

[senders]
automatic_per_hour = {AUTOMATIC}

[spool]
engine = "{server.engine}"
"""
        setting = Setting(server, simulator)
        for number in range(2):
            member = Member([ANNA], section)
            member.makes_tables = not number
            setting.members.append(things.enter_context(member))
        yield setting


@pytest.fixture
def setting() -> Iterator[Setting]:
    with running(LIMIT) as found:
        yield found


def test_two_services_send_exactly_the_limit_together(setting: Setting) -> None:
    replies = setting.send_from_all(25)
    assert replies.count(250) == LIMIT
    assert replies.count(451) == 150 - LIMIT
    assert len(setting.simulator.received) == LIMIT


def test_two_services_count_automatic_messages_together(setting: Setting) -> None:
    one, two = setting.members

    def knows(member: Member, count: int) -> bool:
        request = new_request(Verb.AUTOMATIC, author=ANNA.login, recipients=[CARL])
        return bool(ask(member.folder / "control", request, seconds=60)["sent"][0]["count"] == count)

    def send(member: Member) -> int:
        with MailClient(LOOPBACK, member.port, timeout=60) as client:
            client.ehlo()
            client.mail(ANNA.login)
            client.rcpt(CARL)
            return client.data(f"Auto-Submitted: auto-replied\r\n{message(1)}")[0]

    replies = []
    for number in range(AUTOMATIC):
        sender, other = (one, two) if number % 2 else (two, one)
        replies.append(send(sender))
        wait_until(partial(knows, other, number + 1), "the other one knows", peer=other)
    assert replies == [250] * AUTOMATIC
    assert [send(one), send(two)] == [554, 554]
    assert len(setting.simulator.received) == AUTOMATIC


def test_what_a_killed_service_held_is_not_sent_by_the_other(setting: Setting) -> None:
    one, two = setting.members
    assert setting.send(one, 20) == [250] * 20
    names = [f"/{member.pid}" for member in (one, two)]

    def shown() -> str:
        return two.command("status", exit_code=None)  # 1 if the machine is busy

    wait_until(lambda: all(name in shown() for name in names), "it names both instances", peer=two)
    one.kill()
    two.wait_for_log("an instance is gone", TAKEN_OVER_WITHIN)
    wait_until(lambda: names[1] in (said := shown()) and names[0] not in said, "it names itself alone", peer=two)
    replies = setting.send(two, LIMIT)
    assert LIMIT - 20 - 6 <= replies.count(250) <= LIMIT - 20
    assert len(setting.simulator.received) <= LIMIT
    one.start()
    assert setting.send(one, 3) == [451] * 3
