"""A service that systemd gives up, on a booted machine: exactly one alert, by a login of its own."""

from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default

import pytest

from tests.peers.bench import Bench
from tests.peers.machine import UNIT, Machine
from tests.peers.packages import DOVECOT, POSTFIX
from tests.peers.process import wait_until, why_not_here
from tests.peers.provider import Mailbox, PostfixProvider, Rule

reason = why_not_here("/lib/systemd/systemd", "nsenter", "unshare", POSTFIX, DOVECOT, root=True)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]

ANNA, ALARM = "anna@firma.example", "alarm@firma.example"
ALERT = f"senderproxy-failed@{UNIT}.service"
AUTHORITY = "/etc/ssl/provider.pem"
STATE = f"/var/lib/private/senderproxy-failed/{UNIT}.json"
IN_A_HURRY = """\
[Unit]
StartLimitBurst=3
[Service]
RestartSec=100ms
"""
SOON = 120  # seconds


@dataclass
class Place:
    """The machine with the service, and the provider of the alert's mailbox."""

    machine: Machine
    provider: PostfixProvider

    def break_down(self) -> None:
        """Kill the service until systemd gives it up."""
        machine = self.machine
        machine.run("sh", "-c", f"systemctl reset-failed {UNIT} || true")
        machine.run("systemctl", "start", UNIT)

        def is_given_up() -> bool:
            if machine.shows("ActiveState") == "failed":
                return True
            if pid := machine.pid():
                machine.run("sh", "-c", f"kill -KILL {pid} || true")
            return False

        wait_until(is_given_up, "systemd gives up", SOON, peer=machine)

    def wait_for_the_end(self, text: str) -> None:
        """The unit of the alert has said this, and has written its state."""
        wait_until(lambda: text in self.journal(), f"in the journal: {text}", SOON, peer=self.machine)
        words = ["systemctl", "show", "--value", "--property=ActiveState", ALERT]
        wait_until(lambda: self.machine.run(*words).strip() == "inactive", "it has ended", SOON, peer=self.machine)

    def alerted(self, count: int) -> EmailMessage:
        """The last of so many alerts, as a mail program shows it."""
        wait_until(lambda: len(self.provider.received()) >= count, f"{count} alerts", SOON, peer=self.machine)
        received = self.provider.received()
        assert len(received) == count
        return message_from_bytes(received[-1].content, policy=default)

    def journal(self, unit: str = ALERT) -> str:
        return self.machine.run("journalctl", "--no-pager", "--output=cat", f"--unit={unit}")

    def credential(self) -> str:
        return (
            f'host = "localhost"\nport = {self.provider.tls_port}\nca_file = "{AUTHORITY}"\n'
            f'user = "{ALARM}"\npassword = "geheim-{ALARM}"\nto = "it@dienst.example"\n'
        )


@pytest.fixture
def place(bench: Bench) -> Iterator[Place]:
    provider = bench.start(PostfixProvider([Mailbox(ALARM, f"geheim-{ALARM}")], Rule.ADDRESS))
    machine = bench.start(Machine())
    machine.write(AUTHORITY, provider.authority.ca_file.read_text())
    machine.run(
        *f"senderproxy setup --yes --provider ionos-de --mailbox {ANNA} --listen 127.0.0.1:0 --no-verify".split(),
        "--no-start",
        "--password-stdin",
        stdin="geheim-anna\n",
    )
    machine.write(f"/etc/systemd/system/{UNIT}.d/hurry.conf", IN_A_HURRY)
    machine.run("systemctl", "daemon-reload")
    # what systemd-tmpfiles-setup.service does at a boot: the group systemd-journal may read the journal
    machine.run("systemctl", "start", "systemd-journald.service")
    wait_until(lambda: any((machine.root / "run/log/journal").glob("*/*")), "the journal is there", peer=machine)
    machine.run("systemd-tmpfiles", "--create", "--prefix=/run/log/journal")
    yield Place(machine, provider)
    assert "geheim" not in machine.log()


def test_a_service_that_systemd_gives_up_causes_one_alert(place: Place) -> None:
    machine = place.machine
    machine.run("systemd-analyze", "security", "--no-pager", "--threshold=11", ALERT)  # an exposure of 1.1 at most

    # without a credential the journal is all there is, and that is no failure
    place.break_down()
    place.wait_for_the_end("no alert is sent")

    # as docs/alert-unit.md says
    machine.run("install", "-d", "-m", "700", "/etc/credstore.encrypted")
    machine.run(
        *["systemd-creds", "encrypt", "--with-key=host", "--name=senderproxy-alert", "-"],
        "/etc/credstore.encrypted/senderproxy-alert",
        stdin=place.credential(),
    )
    place.break_down()
    mail = place.alerted(1)
    assert str(mail["Subject"]).endswith(f"] {UNIT}: it ended too often in a row")
    assert (mail["To"], mail["Auto-Submitted"]) == ("it@dienst.example", "auto-generated")
    assert "Start request repeated too quickly" in mail.get_content()
    assert "er ist zu oft nacheinander abgestürzt" in mail.get_content()

    # a second time within the hour it is counted
    place.wait_for_the_end("an alert was sent")
    place.break_down()
    place.wait_for_the_end("less than an hour old")
    place.alerted(1)

    # after that hour, for another reason
    state = machine.root / STATE.lstrip("/")
    state.write_text(state.read_text().replace('"sent": "20', '"sent": "19'))
    machine.run("rm", "/etc/senderproxy/vault.key")
    machine.run("systemctl", "reset-failed", UNIT)
    machine.run("systemctl", "start", UNIT, exit_code=1)
    mail = place.alerted(2)
    assert str(mail["Subject"]).endswith(f"] {UNIT}: the vault cannot be opened")
    assert "failures since the last alert: 1" in mail.get_content()
