"""A backup of one machine, restored by `setup --from` on a fresh one of the next release: owners, unit, held mail."""

from pathlib import Path

import pytest

from tests.package.installed import ANNA, CONFIGURATION, PATIENCE, VAULT, Installed
from tests.peers.bench import Bench
from tests.peers.letters import hand_in, letters_from
from tests.peers.machine import UNIT
from tests.peers.packages import DOVECOT, POSTFIX
from tests.peers.process import wait_until, why_not_here
from tests.peers.releases import RELEASES

reason = why_not_here("debootstrap", "nsenter", "unshare", POSTFIX, DOVECOT, root=True)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]

PASSPHRASE = "geheim-satz der Sicherung\n"
_BACKUP = "/root/first.backup"


def test_a_backup_of_one_machine_rebuilds_another(bench: Bench, package: Path) -> None:
    first = Installed(bench, RELEASES[0], package)
    first.set_up()
    first.provider.stop()
    letters = letters_from([ANNA], 3)
    hand_in(first.queue, letters)
    first.machine.run("senderproxy", "backup", _BACKUP, "--passphrase-stdin", stdin=PASSPHRASE)
    first.machine.run("systemctl", "stop", UNIT)

    second = Installed(bench, RELEASES[-1], package, first)
    machine = second.machine
    there = machine.root / _BACKUP.lstrip("/")
    there.write_bytes((first.machine.root / _BACKUP.lstrip("/")).read_bytes())
    second.provider.start()
    words = ("senderproxy", "setup", "--from", _BACKUP, "--passphrase-stdin")
    said = machine.run(*words, stdin=PASSPHRASE, exit_code=1, seconds=PATIENCE)  # the held messages are a finding
    assert "3 messages are held until an operator releases them" in said
    assert "it is not running" not in said
    assert (machine.shows("ActiveState"), machine.shows("UnitFileState")) == ("active", "enabled")

    service = int(machine.run("id", "-u", "senderproxy"))
    for path, owner, mode in (
        (CONFIGURATION, 0, 0o644),
        (CONFIGURATION.with_name("vault.key"), service, 0o600),
        (VAULT, service, 0o600),
        (VAULT.parent, service, 0o700),
        (VAULT.parent / "spool", service, 0o700),
        (VAULT.parent / "spool/spool.db", service, 0o600),
    ):
        status = (machine.root / path.relative_to("/")).stat()
        assert (status.st_uid, status.st_mode & 0o777) == (owner, mode), path

    assert not second.provider.received()
    machine.run("senderproxy", "queue", "release", "--all", "--yes")
    wait_until(lambda: len(second.provider.received()) == len(letters), "the mail arrives", PATIENCE, peer=machine)
    for one in (first, second):
        assert "geheim" not in one.machine.log()
