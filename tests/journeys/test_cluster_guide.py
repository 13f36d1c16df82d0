"""docs/cluster.md, typed step by step on booted machines: a vault in the database, each machine with a key of its own."""

import re
import tomllib
from collections.abc import Iterator

import pytest

from senderproxy.config.toml_edit import TomlValue, with_settings
from tests.peers.machine import Machine
from tests.peers.packages import POSTGRESQL, PROJECT
from tests.peers.postgresql import PostgresqlServer, running_postgresql
from tests.peers.process import LOOPBACK, wait_until, why_not_here

reason = why_not_here(
    POSTGRESQL / "postgres", "/lib/systemd/systemd", "/usr/bin/systemd-creds", "nsenter", "unshare", root=True
)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]

ANNA, BERT, CARL = "anna@firma.example", "bert@firma.example", "carl@firma.example"
CONFIGURATION = "etc/senderproxy/senderproxy.toml"
CREDENTIAL = "/etc/credstore.encrypted/vault-key"
KEY = "/etc/senderproxy/vault.key"
GUIDE = (PROJECT / "docs/cluster.md").read_text(encoding="utf-8")
OWNER = "senderproxy_owner"
OWNERS_PASSWORD = "geheim-eins"
PASSWORD = "geheim-ein anderes"
SEAL = "sudo senderproxy --unlock passphrase vault seal --with-key host --yes"
PASSPHRASE = "geheim-fuenf Worte fuer den Safe"


def blocks(kind: str) -> list[str]:
    """The examples of the guide in one language, without indentation."""
    found = re.findall(rf"^( *)```{kind}\n(.*?)^ *```", GUIDE, re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


def block(kind: str, part: str) -> str:
    """The only example that contains this."""
    [found] = [text for text in blocks(kind) if part in text]
    return found


class Office:
    """The database server, and what the administrator types on the machines."""

    def __init__(self, server: PostgresqlServer) -> None:
        self.server = server
        self.machines: list[Machine] = []

    def make_database(self, name: str = "mail") -> None:
        self.server.sql(f"CREATE DATABASE {name} OWNER {OWNER}")

    def type(self, machine: Machine, line: str, *secrets: str, exit_code: int = 0) -> str:
        """Type a line of the guide as root; `secrets` are the lines that it asks for. What it prints."""
        line = line.partition(" #")[0].replace("sudo ", "").replace("systemd-ask-password", "cat")
        given = "".join(f"{secret}\n" for secret in secrets)
        done = machine._words("sh", "-c", f"{{ {line}; }} 2>&1", stdin=given, seconds=120)
        assert done.returncode == exit_code, f"{line}: {done.returncode}\n{done.stdout}\n{machine.log()[-6000:]}"
        assert "geheim" not in done.stdout
        return done.stdout

    def wait_until_said(self, machine: Machine, text: str) -> None:
        """`senderproxy status` says it, with exit code 1."""
        words = ["senderproxy", "status"]
        wait_until(lambda: text in machine._words(*words).stdout, f"the status says: {text}", 120, peer=machine)
        assert text in self.type(machine, "senderproxy status", exit_code=1)

    def passphrase(self, machine: Machine, line: str, *secrets: str, exit_code: int = 0) -> str:
        """The same with passphrases, without a terminal to ask on."""
        return self.type(machine, f"{line} --passphrase-stdin", *secrets, exit_code=exit_code)

    def set_up(self, machine: Machine, database: str = "mail") -> None:
        """The configuration and the password of the database."""
        for line in block("sh", "--name=database").splitlines():
            self.type(machine, line, *([PASSWORD] if "systemd-ask-password" in line else []))
        text = block("ini", "LoadCredentialEncrypted=database")
        machine.write(text.splitlines()[0].removeprefix("# "), text)
        self.type(machine, "sudo systemctl daemon-reload")
        file = machine.root / CONFIGURATION
        engine = f"{LOOPBACK}:{self.server.port}/{database}"
        sections = tomllib.loads("".join(blocks("toml")).replace("db.firma.example/mail", engine))
        values: dict[tuple[str | int, ...], TomlValue] = {
            (name, key): value for name, section in sections.items() for key, value in section.items()
        }
        file.write_text(with_settings(file.read_text(encoding="utf-8"), values), encoding="utf-8")

    def migrate(self, machine: Machine) -> str:
        [line] = {f"sudo {words}" for words in re.findall(r"(senderproxy spool migrate --owner \w+)", GUIDE)}
        return self.type(machine, f"{line} --password-stdin", OWNERS_PASSWORD)

    def add_account(self, machine: Machine, address: str) -> str:
        words = f"senderproxy account add {address} --provider ionos-de --no-verify --password-stdin"
        return self.type(machine, words, f"geheim-{address}")


@pytest.fixture
def office() -> Iterator[Office]:
    with running_postgresql() as server:
        roles = f"CREATE ROLE {OWNER} LOGIN PASSWORD '{OWNERS_PASSWORD}'; ALTER ROLE senderproxy PASSWORD '{PASSWORD}'"
        server.sql(roles)
        office = Office(server)
        yield office
        assert "geheim" not in server.log()


@pytest.fixture
def first(office: Office) -> Iterator[Machine]:
    """A machine as it was before: queue and vault in files."""
    with Machine() as machine:
        words = f"senderproxy setup --yes --provider ionos-de --mailbox {ANNA} --listen {LOOPBACK}:0 --no-verify"
        office.type(machine, f"{words} --no-start --password-stdin", "geheim-anna")
        office.type(machine, "systemctl start senderproxy")
        yield machine
        assert "geheim" not in machine.log()


@pytest.fixture
def second(first: Machine) -> Iterator[Machine]:
    """A new machine with the configuration of the first one, as a file."""
    with Machine() as machine:
        machine.write(CONFIGURATION, (first.root / CONFIGURATION).read_text(encoding="utf-8"))
        yield machine
        assert "geheim" not in machine.log()


def bring_into_the_database(office: Office, machine: Machine) -> None:
    """Steps 1 and 2."""
    office.make_database()
    office.set_up(machine)
    assert "format" in office.migrate(machine)
    for line in block("sh", "vault import").splitlines():
        if "passphrase" in line:
            office.passphrase(machine, line, PASSPHRASE)
        else:
            office.type(machine, line)
    assert machine.shows("ActiveState") == "active"


def test_two_machines_share_a_vault_and_one_of_them_is_taken_away(
    office: Office, first: Machine, second: Machine
) -> None:
    bring_into_the_database(office, first)
    assert ANNA in office.type(first, "senderproxy account list")

    # step 3; before it, the new machine is told about it
    office.set_up(second)
    said = office.type(second, "senderproxy account list", exit_code=77)
    assert f"senderproxy --unlock passphrase vault add-unlock key-file:{KEY} --label NAME" in said
    words = block("sh", '--label "$(hostname)"')
    for line in words.splitlines():
        if "passphrase" in line:
            office.passphrase(second, line, PASSPHRASE)
        else:
            office.type(second, line)
    assert second.shows("ActiveState") == "active"
    office.add_account(first, BERT)
    second.wait_for_journal("accounts reloaded")
    assert BERT in office.type(second, "senderproxy account list")

    # the key sealed to the machine in place of the file
    said = office.passphrase(second, SEAL, PASSPHRASE)
    assert "as the service's user" in said
    assert "Removed the key file" in said
    assert second.shows("ActiveState") == "active"
    assert "credential:vault-key" in (second.root / CONFIGURATION).read_text(encoding="utf-8")
    office.type(second, "systemctl restart senderproxy")
    office.add_account(second, CARL)
    labels = office.type(first, "senderproxy vault unlocks")
    assert [line.split()[0] for line in labels.splitlines()[1:]] == ["key-file", "safe", "sealed"]
    assert CARL in office.type(first, "senderproxy account list")

    # it is taken away, and comes back
    office.type(first, "sudo senderproxy vault remove-unlock sealed --yes")
    office.type(second, "systemctl restart senderproxy", exit_code=1)
    second.wait_for_journal("vault add-unlock")
    assert "vault-key.old" in office.passphrase(second, SEAL, PASSPHRASE, exit_code=77)
    office.type(second, f"mv {CREDENTIAL} {CREDENTIAL}.old")
    office.passphrase(second, SEAL, PASSPHRASE)
    office.type(second, "systemctl restart senderproxy")
    assert CARL in office.type(second, "senderproxy account list")

    # its key may be in wrong hands
    office.passphrase(first, "sudo senderproxy vault rekey --with passphrase --drop sealed", PASSPHRASE)
    office.wait_until_said(second, "accounts in memory stay in force")
    assert "vault add-unlock" in office.type(second, "senderproxy account list", exit_code=77)
    office.type(second, "systemctl restart senderproxy", exit_code=1)
    office.type(first, "systemctl restart senderproxy")
    assert CARL in office.type(first, "senderproxy account list")


def test_a_new_machine_gets_the_backup_into_an_empty_database(office: Office, first: Machine, second: Machine) -> None:
    bring_into_the_database(office, first)
    office.passphrase(first, "senderproxy backup --without-queue /root/one.backup", PASSPHRASE)
    (second.root / "root/one.backup").write_bytes((first.root / "root/one.backup").read_bytes())
    office.type(first, "systemctl stop senderproxy")
    office.server.sql("DROP DATABASE mail WITH (FORCE)")  # a process of a connection may end later than its client

    # The new machine has the backup, its passphrase and those of the database.
    office.make_database()
    office.set_up(second)
    (second.root / CONFIGURATION).unlink()
    said = office.passphrase(second, "senderproxy setup --from /root/one.backup", PASSPHRASE, exit_code=1)
    assert "senderproxy spool migrate --owner ROLE" in said
    assert second.shows("ActiveState") == "inactive"
    office.migrate(second)
    [line] = re.findall(r"^Then, if the database has no vault: (.*)$", said, re.MULTILINE)
    assert "1 account" in office.type(second, line)
    [line] = re.findall(r"^Next: (.*)$", said, re.MULTILINE)
    office.type(second, line)
    assert second.shows("ActiveState") == "active"
    assert ANNA in office.type(second, "senderproxy account list")
    assert "queue          left as it was" in said

    # The first one comes back with the key of before.
    said = office.type(first, "senderproxy account list", exit_code=77)
    assert "vault add-unlock" in said
    office.passphrase(second, "senderproxy vault add-unlock passphrase --label safe", PASSPHRASE)
    for line in block("sh", '--label "$(hostname)"').splitlines():
        if "passphrase" in line:
            office.passphrase(first, line, PASSPHRASE)
        else:
            office.type(first, line)
    assert ANNA in office.type(first, "senderproxy account list")
