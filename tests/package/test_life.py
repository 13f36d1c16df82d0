"""The Debian package on fresh releases: installed, set up, upgraded, removed and purged by dpkg and apt."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journeys.people import AUTHORS
from tests.peers.bench import Bench
from tests.peers.letters import hand_in, letters_from
from tests.peers.machine import UNIT, BootedMachine
from tests.peers.process import LOOPBACK, wait_until, why_not_here
from tests.peers.provider import Mailbox, PostfixProvider, Rule
from tests.peers.releases import RELEASES, release

reason = why_not_here("debootstrap", "nsenter", "unshare", "/usr/sbin/postfix", "/usr/sbin/dovecot", root=True)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]

ANNA = AUTHORS[0]
CONFIGURATION = Path("/etc/senderproxy/senderproxy.toml")
VAULT = Path("/var/lib/senderproxy/accounts.vault")
_APT = ("apt-get", "install", "--yes", "--no-install-recommends")


class Installed:
    """A fresh release with the package on it, and a provider."""

    def __init__(self, bench: Bench, name: str, package: Path) -> None:
        self.provider = bench.start(PostfixProvider([Mailbox(who, f"geheim-{who}") for who in AUTHORS], Rule.ADDRESS))
        self.machine = bench.start(BootedMachine(release(name)))
        self.machine.write("/etc/hosts", "127.0.0.1 localhost\n")  # an installer writes it, debootstrap does not
        self.port = bench.port()
        self.first_words = self.install(package)

    def install(self, package: Path) -> str:
        """Give the file to apt, and return its output."""
        there = f"/root/{package.name}"
        shutil.copyfile(package, self.machine.root / there.lstrip("/"))
        return self.machine.run(*_APT, there, seconds=300)

    def set_up(self) -> None:
        """Answer the wizard's questions by options, then start the service as it says."""
        authority = "/etc/senderproxy/provider.pem"
        self.machine.write(authority, self.provider.authority.ca_file.read_text())
        self.machine.run(
            *f"senderproxy setup --yes --provider hoster --host localhost --port {self.provider.tls_port}".split(),
            *f"--security tls --ca-file {authority} --mailbox {ANNA} --listen {LOOPBACK}:{self.port}".split(),
            "--password-stdin",
            stdin=f"geheim-{ANNA}\n",
        )
        self.machine.run("systemctl", "enable", "--now", UNIT)

    def sends(self) -> None:
        """A message goes through, as the mailbox of its author."""
        before = len(self.provider.received())
        letters = letters_from([ANNA], 1)
        hand_in(self.port, letters)
        wait_until(lambda: len(self.provider.received()) > before, "the message arrives", peer=self.machine)

    def sends_by_sendmail(self, program: str) -> None:
        """A message of a local program goes through: the configuration is readable for all."""
        before = len(self.provider.received())
        words = ["runuser", "-u", "nobody", "--", program, "-i", "-f", ANNA, "carl@kunde.test"]
        self.machine.run(*words, stdin=f"From: {ANNA}\nSubject: cron\n\nA job\n")
        wait_until(lambda: len(self.provider.received()) > before, "the message arrives", peer=self.machine)

    def there(self, path: Path) -> bool:
        """Say whether the file exists on the machine."""
        return (self.machine.root / path.relative_to("/")).exists()

    def bytecode(self) -> list[Path]:
        """Return the folders of compiled modules."""
        return list((self.machine.root / "usr/lib/senderproxy").rglob("__pycache__"))


@pytest.fixture(params=RELEASES)
def installed(request: pytest.FixtureRequest, bench: Bench, package: Path) -> Iterator[Installed]:
    installed = Installed(bench, request.param, package)
    yield installed
    assert "geheim" not in installed.machine.log()


def test_life_of_the_package(installed: Installed, newer_package: Path) -> None:
    machine = installed.machine
    assert "Next: sudo senderproxy setup" in installed.first_words
    assert machine.shows("ActiveState") == "inactive"
    assert machine.shows("UnitFileState") == "disabled"
    assert installed.bytecode()

    installed.set_up()
    installed.sends()
    installed.sends_by_sendmail("/usr/lib/senderproxy/sendmail")
    assert machine.run("senderproxy", "help", "postfix").startswith("# Postfix\n")
    before = machine.pid()

    words = installed.install(newer_package)
    assert "Next:" not in words
    assert machine.shows("ActiveState") == "active"
    assert machine.pid() != before
    installed.sends()
    installed.install(newer_package.with_name("senderproxy-mta_0.1.0_all.deb"))
    installed.sends_by_sendmail("sendmail")
    assert "empty" in machine.run("mailq")

    machine.run("apt-get", "remove", "--yes", "senderproxy")
    assert machine.shows("ActiveState") == "inactive"
    assert not installed.there(Path("/usr/lib/senderproxy"))
    assert installed.there(CONFIGURATION)
    assert installed.there(VAULT)

    installed.install(newer_package)
    machine.run("systemctl", "start", UNIT)
    installed.sends()

    machine.run("apt-get", "purge", "--yes", "senderproxy")
    assert installed.there(CONFIGURATION), "nobody could be asked"
    assert installed.there(VAULT)

    installed.install(newer_package)
    machine.run("debconf-set-selections", stdin="senderproxy senderproxy/discard boolean true\n")
    machine.run("apt-get", "purge", "--yes", "senderproxy")
    assert not installed.there(CONFIGURATION.parent)
    assert not installed.there(VAULT.parent)
