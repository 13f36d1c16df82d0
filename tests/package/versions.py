"""Tests that `make test-package` runs beside the others: an update that may not restart the service, and the way back."""

import re
import shutil
from pathlib import Path

import pytest

from senderproxy.spool.sqlite.database import scripts
from tests.package.conftest import FIRST, NEWER
from tests.package.fresh import FreshMachine
from tests.package.installed import PATIENCE, STATE
from tests.peers.bench import Bench
from tests.peers.machine import UNIT
from tests.peers.packages import DOVECOT, POSTFIX, PROJECT
from tests.peers.process import wait_until, why_not_here

reason = why_not_here("debootstrap", "nsenter", "unshare", POSTFIX, DOVECOT, root=True)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]


def test_an_update_without_a_restart_and_the_way_back(bench: Bench, package: Path, newer_package: Path) -> None:
    machine = FreshMachine(bench)
    machine.install(package)
    machine.answer_the_dialogue()
    update_without_a_restart(machine, newer_package)
    refuse_the_older_version(machine, package)
    go_back(machine, package)


def update_without_a_restart(machine: FreshMachine, newer_package: Path) -> None:
    """Where the administrator forbids restarts, the service goes on with its modules, and `check` says that it is older."""
    booted, before = machine.booted, machine.booted.pid()
    booted.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n")
    booted.run("chmod", "755", "/usr/sbin/policy-rc.d")
    machine.install(newer_package)
    assert booted.pid() == before
    machine.sends()
    said = booted.run("senderproxy", "check", "--offline")
    assert f"The service runs version {FIRST}, and version {NEWER} is installed." in said
    assert "To fix: systemctl restart senderproxy" in said
    booted.run("rm", "/usr/sbin/policy-rc.d")
    booted.run("systemctl", "restart", UNIT, seconds=PATIENCE)
    assert "is installed." not in booted.run("senderproxy", "check", "--offline")
    machine.sends()


def refuse_the_older_version(machine: FreshMachine, package: Path) -> None:
    """The older program could not read the queue: its package is refused, and nothing has changed."""
    booted, before = machine.booted, machine.booted.pid()
    said = machine.install(package, "--allow-downgrades", exit_code=100)
    known = len(scripts())
    assert f"has format {known + 1}, of a later version; this one knows format {known} at most." in said
    assert booted.run("dpkg-query", "-W", "-f=${Version} ${db:Status-Abbrev}", "senderproxy") == f"{NEWER} ii "
    assert booted.pid() == before
    assert list((booted.root / "usr/lib/senderproxy").rglob("__pycache__"))
    machine.sends()


def go_back(machine: FreshMachine, package: Path) -> None:
    """By the commands of docs/spool-states.md."""
    page = (PROJECT / "docs/spool-states.md").read_text()
    commands = re.search(r"To go back.*?```sh\n(.*?)```", page, re.DOTALL)
    assert commands is not None
    booted = machine.booted
    shutil.copyfile(package, booted.root / "root" / package.name)
    script = commands[1].replace("sudo ", "").replace("apt install", "apt-get install --yes")
    script = script.replace("format-N", f"format-{len(scripts())}")
    script = re.sub(r"\./senderproxy_\S+\.deb", f"/root/{package.name}", script)
    booted.run("sh", "-ec", script, seconds=300)
    wait_until(lambda: booted.shows("ActiveState") == "active", "the service runs", PATIENCE, peer=booted)
    said = booted.run("sh", "-c", "senderproxy status --json || true")  # 1 if the machine is busy
    assert f'"version": "{FIRST}"' in said
    assert (booted.root / STATE.relative_to("/") / "spool/spool.db").exists()
    machine.sends()
