"""The Debian package on fresh releases: installed, set up, upgraded, removed and purged by dpkg and apt."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from senderproxy.spool.sqlite.database import scripts
from tests.package.conftest import FIRST, NEWER
from tests.package.installed import ANNA, CONFIGURATION, PATIENCE, STATE, VAULT, Installed
from tests.peers.bench import Bench
from tests.peers.load import CLIENTS, connections, connections_and_messages
from tests.peers.machine import UNIT
from tests.peers.packages import DOVECOT, POSTFIX
from tests.peers.process import wait_until, why_not_here
from tests.peers.releases import RELEASES

reason = why_not_here("debootstrap", "nsenter", "unshare", POSTFIX, DOVECOT, root=True)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]

_CONNECTIONS = 2000  # during an upgrade


@pytest.fixture(params=RELEASES)
def installed(request: pytest.FixtureRequest, bench: Bench, package: Path) -> Iterator[Installed]:
    installed = Installed(bench, request.param, package)
    yield installed
    assert "geheim" not in installed.machine.log()


def test_life_of_the_package(installed: Installed, package: Path, newer_package: Path) -> None:
    machine = installed.machine
    assert "Next: sudo senderproxy setup" in installed.first_words
    assert (machine.shows("ActiveState"), machine.shows("UnitFileState")) == ("inactive", "disabled")
    assert installed.bytecode()
    installed.set_up()
    installed.sends()
    installed.sends_by_sendmail("/usr/lib/senderproxy/sendmail")
    assert machine.run("senderproxy", "help", "postfix").startswith("# Postfix\n")

    upgrade_under_load(installed, newer_package)
    crash_under_load(installed)

    installed.install(package.with_name(f"senderproxy-mta_{FIRST}_all.deb"))
    installed.sends_by_sendmail("sendmail")
    # The provider has a message before its result is stored.
    wait_until(lambda: "empty" in machine.run("mailq"), "the queue is empty", PATIENCE, peer=machine)

    good = installed.configured
    installed.configure("[[listeners\n")
    machine.run("systemctl", "reload", UNIT, exit_code=1)
    installed.sends()
    installed.configure(good)
    machine.run("systemctl", "reload", UNIT)

    machine.run("apt-get", "remove", "--yes", "senderproxy", seconds=PATIENCE)
    assert machine.shows("ActiveState") == "inactive"
    assert not installed.path(Path("/usr/lib/senderproxy")).exists()
    for kept in (CONFIGURATION, VAULT, STATE / "spool/spool.db"):
        assert installed.path(kept).exists()

    installed.install(newer_package)
    machine.run("systemctl", "start", UNIT, seconds=PATIENCE)
    installed.sends()

    machine.run("apt-get", "purge", "--yes", "senderproxy", seconds=PATIENCE)
    for kept in (CONFIGURATION, VAULT, STATE / "spool/spool.db"):
        assert installed.path(kept).exists(), "nobody could be asked"

    installed.install(newer_package)
    machine.run("debconf-set-selections", stdin="senderproxy senderproxy/discard boolean true\n")
    machine.run("apt-get", "purge", "--yes", "senderproxy", seconds=PATIENCE)
    assert not installed.path(CONFIGURATION.parent).exists()
    assert not installed.path(STATE).exists()


def upgrade_under_load(installed: Installed, newer_package: Path) -> None:
    """No connection is refused, no message is lost, and the spool with its mail has the format of the later version."""
    machine, before = installed.machine, installed.machine.pid()
    installed.provider.stop()
    assert installed.status()["version"] == FIRST
    with connections_and_messages(installed.port, installed.queue, ANNA) as load:
        wait_until(lambda: len(load.acknowledged) > 20, "mail is in the spool", PATIENCE, peer=machine)
        words = installed.install(newer_package)
        running = installed.status()
        wait_until(lambda: load.greeted >= _CONNECTIONS, f"{_CONNECTIONS} connections", 4 * PATIENCE, peer=machine)
    assert "Next:" not in words
    assert (running["version"], machine.shows("ActiveState")) == (NEWER, "active")
    assert machine.pid() != before
    assert load.refused == []
    assert load.cut_off == 0
    spool = installed.path(STATE / "spool")
    assert [path.name for path in spool.glob("spool.db.format-*")] == [f"spool.db.format-{len(scripts())}"]
    machine.wait_for_journal("spool migrated")
    installed.provider.start()
    installed.all_arrive(load)


def crash_under_load(installed: Installed) -> None:
    """No connection is refused after `kill -9`."""
    machine, before = installed.machine, installed.machine.pid()
    with connections(installed.port) as load:
        wait_until(lambda: load.greeted > 10, "clients are greeted", PATIENCE, peer=machine)
        machine.run("sh", "-c", f"kill -KILL {before}")
        wait_until(lambda: installed.another_process(before), "systemd has started it again", PATIENCE, peer=machine)
        greeted = load.greeted
        wait_until(lambda: load.greeted > greeted + 10, "clients are greeted again", PATIENCE, peer=machine)
    assert load.refused == []
    assert load.cut_off <= CLIENTS  # those that the killed process was about to greet
