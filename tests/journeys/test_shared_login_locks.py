"""Two services with one database and one vault: failed logins of clients count in both, and a login at one ends that."""

import smtplib
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from senderproxy.control.client import ask
from senderproxy.control.protocol import Verb, new_request
from senderproxy.listener.client_auth import hash_password
from senderproxy.listener.login_throttle import ThrottleLimits
from tests.journeys.test_postgresql import ANNA
from tests.journeys.test_vault_in_database import Machine
from tests.peers.certificates import Authority
from tests.peers.mail_client import MailClient
from tests.peers.packages import POSTGRESQL
from tests.peers.postgresql import running_database
from tests.peers.process import LOOPBACK, reserved_ports, wait_until, why_not_here
from tests.peers.simulated_provider import provider_settings, running_simulator

reason = why_not_here(POSTGRESQL / "postgres")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]

USER, PASSWORD, WRONG = "scanner", "geheim-scan-1", "geheim-geraten"
LIMIT = ThrottleLimits().failures
TAKEN, REFUSED, LOCKED = 235, 535, 454
GUESSER, OFFICE, DESK = "127.0.0.2", "127.0.0.3", "127.0.0.4"  # hosts that log in


@dataclass
class Setting:
    """The two machines. `ports`: of the listeners that want a login."""

    context: ssl.SSLContext
    ports: list[int]
    machines: list[Machine] = field(default_factory=list)
    messages: int = 0

    def log_in(self, number: int, host: str, password: str, user: str = USER) -> int:
        """The code of the reply to one login of this host at that machine."""
        with MailClient(LOOPBACK, self.ports[number], timeout=60, source_address=(host, 0)) as client:
            client.starttls(context=self.context)
            client.ehlo()
            client.user, client.password = user, password
            try:
                return client.auth("PLAIN", client.auth_plain)[0]
            except smtplib.SMTPAuthenticationError as refused:
                return refused.smtp_code

    def guess(self, number: int, count: int) -> list[int]:
        return [self.log_in(number, GUESSER, WRONG) for _ in range(count)]

    def share(self, number: int) -> None:
        """Return when the other machine knows all that this one has counted: an automatic message is counted last."""
        machine, other = self.machines[number], self.machines[1 - number]
        self.messages += 1
        recipient = f"karl{self.messages}@kunde.example"
        text = (
            f"Auto-Submitted: auto-replied\r\nFrom: <{ANNA.login}>\r\nTo: {recipient}\r\nSubject: Abwesend\r\n\r\n-\r\n"
        )
        with MailClient(LOOPBACK, machine.port, timeout=60) as client:
            client.sendmail(ANNA.login, [recipient], text)
        request = new_request(Verb.AUTOMATIC, author=ANNA.login, recipients=[recipient])

        def knows() -> bool:
            return bool(ask(other.folder / "control", request, seconds=60)["sent"][0]["count"] == 1)

        wait_until(knows, "the other one knows", peer=other)


@pytest.fixture
def setting(tmp_path: Path) -> Iterator[Setting]:
    authority = Authority(tmp_path)
    papers = authority.issue(LOOPBACK)
    context = ssl.create_default_context(cafile=authority.ca_file)
    with (
        running_database() as server,
        running_simulator(ANNA) as simulator,
        reserved_ports(2) as ports,
        ExitStack() as things,
    ):
        setting = Setting(context, ports)
        for number, port in enumerate(ports):
            section = f"""{provider_settings(simulator)}
[spool]
engine = "{server.engine}"

[[listeners]]
name = "scanners"
address = "{LOOPBACK}:{port}"
tls = "starttls"
certificate = "{papers.chain}"
key = "{papers.key}"
auth = "required"

[[clients]]
user = "{USER}"
password = "{hash_password(PASSWORD)}"
"""
            machine = Machine([ANNA], section)
            machine.is_first = not number
            machine._secrets.add(PASSWORD)
            setting.machines.append(things.enter_context(machine))
        yield setting


def test_a_name_and_a_host_that_guess_at_one_service_are_locked_at_the_other(setting: Setting) -> None:
    assert setting.guess(0, LIMIT) == [REFUSED] * LIMIT
    setting.share(0)
    assert setting.log_in(1, OFFICE, PASSWORD) == LOCKED  # the name, from another host
    assert setting.log_in(1, GUESSER, WRONG, "other") == LOCKED  # the host, with another name
    assert setting.log_in(1, OFFICE, WRONG, "other") == REFUSED
    setting.machines[1].restart()
    assert setting.log_in(1, OFFICE, PASSWORD) == LOCKED
    first, second = setting.machines

    def names_both() -> bool:
        found = ask(first.folder / "control", new_request(Verb.STATUS), seconds=60)["queue"]["instances"]
        shown = {int(one["name"].rpartition("/")[2]): one["this"] for one in found}
        return shown == {first.pid: True, second.pid: False}

    wait_until(names_both, "the status of one names both", peer=first)


def test_failures_at_both_services_count_together_until_a_login_at_one_of_them(setting: Setting) -> None:
    assert setting.guess(0, LIMIT - 1) == [REFUSED] * (LIMIT - 1)
    setting.share(0)
    assert setting.log_in(1, OFFICE, PASSWORD) == TAKEN  # the failures of the name are forgotten, the host's are not
    setting.share(1)
    assert setting.log_in(0, DESK, WRONG) == REFUSED
    assert setting.log_in(0, DESK, PASSWORD) == TAKEN
    assert setting.log_in(1, GUESSER, WRONG) == REFUSED  # the fifth of this host
    assert setting.log_in(1, GUESSER, WRONG) == LOCKED
    setting.share(1)
    assert setting.log_in(0, GUESSER, PASSWORD) == LOCKED
    assert setting.log_in(0, DESK, PASSWORD) == TAKEN
