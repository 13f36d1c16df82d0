"""The vault's key sealed to a booted machine: sealed, used by the service and by root, moved to another machine."""

import re
from collections.abc import Iterator

import pytest

from tests.peers.machine import UNIT, Machine
from tests.peers.packages import PROJECT
from tests.peers.process import wait_until, why_not_here

reason = why_not_here("/lib/systemd/systemd", "/usr/bin/systemd-creds", "nsenter", "unshare", root=True)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]

ANNA = "anna@firma.example"
CONFIGURATION = "etc/senderproxy/senderproxy.toml"
KEY = "etc/senderproxy/vault.key"
VAULT = "var/lib/senderproxy/accounts.vault"
CREDENTIAL = "etc/credstore.encrypted/vault-key"
DROP_IN = f"etc/systemd/system/{UNIT}.d/vault-key.conf"
RECOVERY = "geheim-fuenf Worte fuer den Safe"
COPY = "geheim-ein Satz fuer die Kopie"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine on which the service runs with a key file."""
    with Machine() as machine:
        machine.run(
            *f"senderproxy setup --yes --provider ionos-de --mailbox {ANNA} --listen 127.0.0.1:0 --no-verify".split(),
            "--no-start",
            "--password-stdin",
            stdin="geheim-anna\n",
        )
        machine.run("systemctl", "start", UNIT)
        yield machine
        assert "geheim" not in machine.log()


def state(machine: Machine) -> dict[str, str]:
    """The files that a failed command must leave as they are; the vault by its unlocks."""
    texts = {path: machine.root / path for path in (CONFIGURATION, CREDENTIAL, DROP_IN, KEY)}
    found = {path: file.read_bytes().hex() if file.exists() else "" for path, file in texts.items()}
    return found | {VAULT: machine.run("senderproxy", "vault", "unlocks")}


def seal(machine: Machine, exit_code: int = 0) -> str:
    words = "senderproxy vault seal --with-key host --yes --passphrase-stdin"
    return machine.run(*words.split(), stdin=f"{RECOVERY}\n", exit_code=exit_code, seconds=120)


def test_a_seal_that_fails_leaves_everything_as_it_was(machine: Machine) -> None:
    before = state(machine)
    # the service's user may not read the vault
    machine.run("chown", "root:root", f"/{VAULT}", f"/{VAULT}.lock")
    seal(machine, exit_code=69)
    machine.run("chown", "senderproxy:", f"/{VAULT}", f"/{VAULT}.lock")
    assert state(machine) == before
    # a service that does not come up again
    machine.write(f"/etc/systemd/system/{UNIT}.d/broken.conf", "[Service]\nExecStartPre=/bin/false\nRestart=no\n")
    seal(machine, exit_code=69)
    assert state(machine) == before
    machine.run("rm", f"/etc/systemd/system/{UNIT}.d/broken.conf")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", UNIT)


def test_the_sealed_key_opens_the_vault_for_the_service_and_for_root(machine: Machine) -> None:
    assert not (machine.root / "etc/credstore.encrypted").exists() or not (machine.root / CREDENTIAL).exists()
    said = seal(machine)
    assert "as the service's user" in said
    assert "Removed the key file" in said
    assert not (machine.root / KEY).exists()
    assert machine.run("stat", "-c", "%a %U", f"/{CREDENTIAL}").split() == ["600", "root"]
    assert machine.run("stat", "-c", "%a", "/etc/credstore.encrypted").strip() == "700"
    assert 'unlock = "credential:vault-key"' in (machine.root / CONFIGURATION).read_text()
    assert machine.shows("ActiveState") == "active"
    machine.run("systemctl", "restart", UNIT)

    # root types the commands as before
    assert ANNA in machine.run("senderproxy", "account", "list")
    assert "opens" in machine.run("senderproxy", "check", "--offline")
    assert ANNA in machine.run("senderproxy", "explain", ANNA)
    words = "senderproxy account add bert@firma.example --provider ionos-de --no-verify --password-stdin"
    assert "from the next message on" in machine.run(*words.split(), stdin="geheim-bert\n")
    machine.run(*["senderproxy", "vault", "export", "/root/copy.vault", "--passphrase-stdin"], stdin=f"{COPY}\n")
    assert (machine.root / "root/copy.vault").stat().st_mode & 0o777 == 0o600

    # a second time changes nothing; the way of the start cannot be removed; the passphrase opens the vault, too
    before, pid = state(machine), machine.pid()
    seal(machine)
    assert state(machine) == before
    assert machine.pid() == pid
    machine.run(*["senderproxy", "vault", "remove-unlock", "sealed", "--yes"], exit_code=77)
    machine.run(
        *["senderproxy", "vault", "remove-unlock", "sealed", "--yes", "--unlock", "passphrase", "--passphrase-stdin"],
        stdin=f"{RECOVERY}\n",
        exit_code=77,
    )
    machine.run(
        *["senderproxy", "vault", "verify", "--unlock", "passphrase", "--passphrase-stdin"], stdin=f"{RECOVERY}\n"
    )
    assert "cannot access" not in machine.journal()

    # another user has no key, and is told who has
    refused = machine._words("runuser", "-u", "senderproxy", "--", "senderproxy", "account", "list")
    assert refused.returncode == 77
    assert "To fix: Use sudo." in refused.stderr


def test_the_nightly_export_of_the_handbook_needs_nobody(machine: Machine) -> None:
    handbook = (PROJECT / "docs/vault.md").read_text()
    units = dict(re.findall(r"```ini\n# (/etc/systemd/system/\S+)\n(.*?)```", handbook, re.DOTALL))
    assert len(units) == 2
    for path, text in units.items():
        machine.write(path, text)
    found = re.search(r"```sh\n(sudo install -d .*?)```", handbook, re.DOTALL)
    assert found is not None
    for line in found[1].splitlines():
        command = line.partition("#")[0].replace("sudo ", "").replace("systemd-ask-password", "cat")
        machine.run("sh", "-c", command, stdin=f"{COPY}\n")
    machine.run("systemctl", "start", "senderproxy-export.service")
    written = list((machine.root / "var/backups/senderproxy").glob("*.vault"))  # two at midnight
    assert {file.stat().st_mode & 0o777 for file in written} == {0o600}


def test_an_older_copy_of_the_owners_folder_stays_a_condition_until_it_is_accepted(machine: Machine) -> None:
    state, before = "/var/lib/senderproxy", "/root/yesterday"
    machine.run("systemctl", "stop", UNIT)  # which writes there
    machine.run("cp", "-a", state, before)
    machine.run("systemctl", "start", UNIT)
    add = "senderproxy account add carl@firma.example --provider ionos-de --no-verify --password-stdin"
    machine.run(*add.split(), stdin="geheim-carl\n")
    machine.run("systemctl", "stop", UNIT)
    # whoever has the rights of the service's user can replace all of its files, and nothing else
    owner = ("setpriv", "--reuid=senderproxy", "--regid=senderproxy", "--clear-groups", "sh", "-c")
    machine.run("chmod", "755", "/root")
    machine.run(*owner, f"rm -rf {state}/* && cp -r {before}/. {state}/")
    machine.run(*owner, f"echo '{{}}' > {state}.generations", exit_code=2)
    for _each in range(2):
        machine.run("systemctl", "restart", UNIT)
        wait_until(
            lambda: "older than the one used last" in machine._words("senderproxy", "status").stdout,
            "the condition is shown",
            peer=machine,
        )
    assert "senderproxy vault accept-rollback" in machine.run("senderproxy", "status", exit_code=1)
    machine.run("systemctl", "stop", UNIT)
    assert "older than the one used last" in machine.run("senderproxy", "check", "--offline", exit_code=1)
    machine.run("systemctl", "start", UNIT)
    assert "Accepted generation" in machine.run("senderproxy", "vault", "accept-rollback")
    wait_until(
        lambda: "older than" not in machine._words("senderproxy", "status").stdout, "the condition ends", peer=machine
    )


def test_one_command_imports_the_copy_on_a_bare_machine(machine: Machine) -> None:
    if not (machine.root / CREDENTIAL).exists():  # another process runs the test that seals
        seal(machine)
    machine.run(*["senderproxy", "vault", "export", "/root/last.vault", "--passphrase-stdin"], stdin=f"{COPY}\n")
    stick = ("/root/last.vault", f"/{CONFIGURATION}")
    machine.run("install", "-D", "-m", "600", "-t", "/root/stick", *stick)
    machine.run("systemctl", "stop", UNIT)
    bare = "/etc/senderproxy /etc/credstore.encrypted /var/lib/senderproxy /var/lib/systemd/credential.secret"
    machine.run("rm", "-r", *bare.split(), f"/etc/systemd/system/{UNIT}.d")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemd-tmpfiles", "--create", "senderproxy.conf")
    words = "senderproxy vault import /root/stick/last.vault --passphrase-stdin"
    machine.run(*words.split(), stdin="geheim-ein anderer Satz\n", exit_code=77)
    assert not any((machine.root / path).exists() for path in (CONFIGURATION, CREDENTIAL, DROP_IN, VAULT))
    said = machine.run(*words.split(), stdin=f"{COPY}\n")
    assert re.search(r"with \d accounts?\.", said)
    machine.run("systemctl", "start", UNIT)
    machine.run("senderproxy", "check", "--offline")
    assert "recovery" in machine.run("senderproxy", "vault", "unlocks")
