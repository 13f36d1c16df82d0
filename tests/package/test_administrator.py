"""The package in the hands of an administrator: setup's dialogue at a terminal, as root, on a fresh release."""

from pathlib import Path

import pytest

from tests.package.fresh import ANNA, FreshMachine
from tests.package.installed import PATIENCE
from tests.peers.bench import Bench
from tests.peers.packages import DOVECOT, POSTFIX
from tests.peers.process import LOOPBACK, wait_until, why_not_here

reason = why_not_here("debootstrap", "nsenter", "unshare", POSTFIX, DOVECOT, root=True)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]


def test_one_file_and_six_questions(bench: Bench, package: Path) -> None:
    machine = FreshMachine(bench)
    machine.install(package)
    screen = machine.answer_the_dialogue()
    assert [number for number in range(1, 7) if f"\n{number}. " in screen] == [1, 2, 3, 4, 5, 6]
    assert "the login works" in screen
    assert "No check failed." in screen
    assert "Accepted: 250" in screen
    assert f"relayhost = [{LOOPBACK}]:{machine.port}" in screen
    booted, provider = machine.booted, machine.provider
    assert (booted.shows("ActiveState"), booted.shows("UnitFileState")) == ("active", "enabled")
    wait_until(lambda: len(provider.received()) == 1, "the test message arrives", PATIENCE, peer=booted)
    assert provider.received()[0].login == ANNA
    machine.sends()
    assert "geheim" not in booted.log()
