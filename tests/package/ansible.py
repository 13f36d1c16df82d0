"""The Ansible role on a booted machine without senderproxy: the package, the answers, a second run, `--check`."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.people import AUTHORS
from tests.package.installed import PATIENCE
from tests.peers.bench import Bench
from tests.peers.machine import BootedMachine
from tests.peers.packages import DOVECOT, POSTFIX, PROJECT
from tests.peers.process import LOOPBACK, wait_until, why_not_here
from tests.peers.provider import Mailbox, PostfixProvider, Rule

reason = why_not_here(
    "ansible-playbook",
    "/lib/systemd/systemd",
    "nsenter",
    "unshare",
    POSTFIX,
    DOVECOT,
    root=True,
)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]

ANNA, BERT = AUTHORS[0], AUTHORS[4]
AUTHORITY = "/etc/ssl/provider.pem"
FILES = ("/etc/senderproxy", "/var/lib/senderproxy/accounts.vault")


class Play:
    """A copy of this machine, which is its own controller, with the role and its variables."""

    def __init__(self, bench: Bench, package: Path) -> None:
        self.provider = bench.start(PostfixProvider([Mailbox(who, f"geheim-{who}") for who in AUTHORS], Rule.ADDRESS))
        self.machine = bench.start(BootedMachine(Path("/")))
        shutil.copyfile(package, self.machine.root / "root" / package.name)
        shutil.copytree(PROJECT / "deploy/ansible/roles", self.machine.root / "root/roles")
        self.machine.write("/root/provider.pem", self.provider.authority.ca_file.read_text())
        self.answers: dict[str, Any] = {
            "provider": "hoster",
            "host": "localhost",
            "port": self.provider.tls_port,
            "security": "tls",
            "ca_file": AUTHORITY,
            "listen": f"{LOOPBACK}:{bench.port()}",
            "allow": ["192.168.1.20"],
            "test_to": BERT,
        }
        self._package = f"/root/{package.name}"

    def run(self, *options: str) -> tuple[int, str]:
        """Run the role; the number of changed tasks, and the output."""
        play = {
            "hosts": "localhost",
            "gather_facts": False,
            "vars": {
                "senderproxy_package": self._package,
                "senderproxy_extra_files": [{"src": "/root/provider.pem", "dest": AUTHORITY}],
                "senderproxy_answers": self.answers,
                "senderproxy_mailboxes": [{"address": ANNA, "password": f"geheim-{ANNA}", "catch_all": False}],
            },
            "roles": ["senderproxy"],
        }
        self.machine.write("/root/play.yml", json.dumps([play]))  # JSON is YAML
        words = (
            "ansible-playbook",
            "--connection=local",
            "--inventory=localhost,",
            "--diff",
            *options,
            "/root/play.yml",
        )
        said = self.machine.run(
            *("env", "ANSIBLE_ROLES_PATH=/root/roles", "ANSIBLE_NOCOLOR=1", "LC_ALL=C.UTF-8", *words), seconds=300
        )
        assert "geheim" not in said
        assert not (self.machine.root / "etc/senderproxy/setup").exists()
        found = re.search(r"changed=(\d+) .*failed=0 ", said)
        assert found is not None, said
        return int(found[1]), said

    def sums(self) -> str:
        """The checksums, times and owners of all files that setup writes."""
        script = 'find "$@" -type f -exec sha256sum {} + -exec stat -c "%n %i %y %U %a" {} +'
        return self.machine.run("sh", "-c", script, "sh", *FILES)


@pytest.fixture
def play(bench: Bench, package: Path) -> Iterator[Play]:
    play = Play(bench, package)
    yield play
    assert "geheim" not in play.machine.log()


def test_the_role_installs_sets_up_and_changes_nothing_a_second_time(play: Play) -> None:
    machine, received = play.machine, play.provider.received
    changed, _said = play.run("--check")
    assert changed == 2, "the package and the authority"
    assert not (machine.root / "usr/bin/senderproxy").exists()

    assert play.run()[0] == 4  # copied, installed, the authority, set up
    assert (machine.shows("ActiveState"), machine.shows("UnitFileState")) == ("active", "enabled")
    wait_until(lambda: len(received()) == 1, "the test message arrives", PATIENCE, peer=machine)

    before = play.sums()
    assert play.run()[0] == 0
    assert play.sums() == before

    play.answers["allow"] = ["192.168.1.20", "192.168.1.40"]
    changed, said = play.run("--check")
    assert changed == 1, said
    assert play.sums() == before
    assert len(received()) == 1
