"""`senderproxy setup` on a machine that systemd has booted: the service runs afterwards, and its test message has arrived."""

import json
from collections.abc import Iterator

import pytest

from tests.journeys.people import AUTHORS
from tests.peers.bench import Bench
from tests.peers.machine import UNIT, Machine
from tests.peers.packages import DOVECOT, POSTFIX
from tests.peers.process import LOOPBACK, wait_until, why_not_here
from tests.peers.provider import Mailbox, PostfixProvider, Rule

reason = why_not_here("/lib/systemd/systemd", "nsenter", "unshare", POSTFIX, DOVECOT, root=True)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]

ANNA, BERT = AUTHORS[0], AUTHORS[4]
ANSWERS = "/root/answers.toml"
AUTHORITY = "/etc/senderproxy/provider.pem"
FILES = ("/etc/senderproxy", "/var/lib/senderproxy/accounts.vault")


class Office:
    """The booted machine with the answers for it, and the provider."""

    def __init__(self, bench: Bench) -> None:
        self.provider = bench.start(PostfixProvider([Mailbox(who, f"geheim-{who}") for who in AUTHORS], Rule.ADDRESS))
        self.machine = bench.start(Machine())
        self.port = bench.port()
        self.machine.write(AUTHORITY, self.provider.authority.ca_file.read_text())

    def answer(self, *mailboxes: str, allow: str = "192.168.1.20") -> None:
        """Write the answers file."""
        text = (
            f'provider = "hoster"\nhost = "localhost"\nport = {self.provider.tls_port}\nsecurity = "tls"\n'
            f'ca_file = "{AUTHORITY}"\nlisten = "{LOOPBACK}:{self.port}"\nallow = ["{allow}"]\ntest_to = "{BERT}"\n'
        )
        for who in mailboxes:
            text += f'\n[[mailboxes]]\naddress = "{who}"\npassword_file = "{who}.password"\n'
            self.machine.write(f"/root/{who}.password", f"geheim-{who}\n")
            self.machine.run("chmod", "600", f"/root/{who}.password")
        self.machine.write(ANSWERS, text)

    def set_up(self, *options: str, exit_code: int = 0) -> str:
        """Run `senderproxy setup` and return its output."""
        words = ("senderproxy", "setup", "--answers", ANSWERS, *options)
        return self.machine.run(*words, exit_code=exit_code, seconds=300)

    def sums(self) -> str:
        """The checksums and times of all files that setup writes."""
        script = 'find "$@" -type f -exec sha256sum {} + -exec stat -c "%n %i %y %U %a" {} +'
        return self.machine.run("sh", "-c", script, "sh", *FILES)


@pytest.fixture
def office(bench: Bench) -> Iterator[Office]:
    office = Office(bench)
    yield office
    assert "geheim" not in office.machine.log()


def test_one_command_starts_the_service_and_sends_a_message(office: Office) -> None:
    machine = office.machine
    office.answer(ANNA)
    said = office.set_up()
    assert "No check failed." in said
    assert "Accepted: 250" in said
    assert f"relayhost = [{LOOPBACK}]:{office.port}" in said
    assert (machine.shows("ActiveState"), machine.shows("UnitFileState")) == ("active", "enabled")
    wait_until(lambda: len(office.provider.received()) == 1, "the test message arrives", peer=machine)

    before, pid = office.sums(), machine.pid()
    assert "Nothing was changed" in office.set_up()
    assert json.loads(office.set_up("--json")) == {"changed": [], "running": True, "ok": True}
    assert (office.sums(), machine.pid()) == (before, pid)
    assert len(office.provider.received()) == 1

    # A changed answer: the running service reads it, and the message is sent again.
    office.answer(ANNA, BERT, allow="192.168.1.21")
    changed = json.loads(office.set_up("--json"))
    assert changed["changed"] == ["setting listeners.allow", f"account {BERT} (new): {BERT}"]
    assert machine.pid() == pid
    wait_until(lambda: "configuration reloaded" in machine.journal(), "the reload in the journal", peer=machine)
    wait_until(lambda: len(office.provider.received()) == 2, "the second test message arrives", peer=machine)

    # A service that was stopped is started again.
    machine.run("systemctl", "stop", UNIT)
    assert json.loads(office.set_up("--json"))["changed"] == ["service (started)"]
