"""Tests of the package that `make test-package` runs beside the others: another release, and a move between releases."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.package.conftest import FIRST
from tests.package.installed import ANNA, CONFIGURATION, PATIENCE, STATE, Installed
from tests.peers.bench import Bench
from tests.peers.load import connections_and_messages
from tests.peers.machine import UNIT
from tests.peers.packages import DOVECOT, POSTFIX
from tests.peers.process import wait_until, why_not_here
from tests.peers.releases import UBUNTU

reason = why_not_here("debootstrap", "nsenter", "unshare", POSTFIX, DOVECOT, root=True)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]

_DATA = "/root/data.tar"  # of the first machine


@pytest.fixture
def old(bench: Bench, package: Path) -> Iterator[Installed]:
    """Debian 12 with the package, set up."""
    old = Installed(bench, "bookworm", package)
    old.set_up()
    yield old
    assert "geheim" not in old.machine.log()


def test_the_data_of_debian_12_go_on_in_debian_13(old: Installed, bench: Bench, package: Path) -> None:
    """The same file of the package, and /etc/senderproxy and /var/lib/senderproxy, copied with the mail that waits."""
    old.provider.stop()
    with connections_and_messages(old.port, old.queue, ANNA) as load:
        wait_until(lambda: len(load.acknowledged) > 20, "mail is in the spool", PATIENCE, peer=old.machine)
    old.machine.run("systemctl", "stop", UNIT, seconds=PATIENCE)
    old.machine.run("tar", "--create", f"--file={_DATA}", str(CONFIGURATION.parent), str(STATE))
    data = old.path(Path(_DATA)).read_bytes()

    new = Installed(bench, "trixie", package, other=old)
    new.path(Path(_DATA)).write_bytes(data)
    new.machine.run("tar", "--extract", f"--file={_DATA}", "--directory=/")
    new.machine.run("systemctl", "start", UNIT, seconds=PATIENCE)
    old.provider.start()
    new.all_arrive(load)
    new.sends()


def test_it_works_on_ubuntu(bench: Bench, package: Path) -> None:
    installed = Installed(bench, UBUNTU, package)
    assert "Next: sudo senderproxy setup" in installed.first_words
    installed.set_up()
    installed.sends()
    assert installed.status()["version"] == FIRST
    installed.machine.run("apt-get", "remove", "--yes", "senderproxy", seconds=PATIENCE)
    assert not installed.path(Path("/usr/lib/senderproxy")).exists()
