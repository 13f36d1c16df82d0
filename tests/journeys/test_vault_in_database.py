"""Two machines with one vault in a PostgreSQL database, each with a key of its own."""

import json
import os
import pty
import re
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from senderproxy.config.toml_edit import with_settings
from senderproxy.simulator.server import Simulator
from senderproxy.spool.postgresql.vault_row import _LOCK
from tests.peers.mail_client import MailClient
from tests.peers.packages import POSTGRESQL, PROJECT
from tests.peers.postgresql import OWNER, SERVICE, PostgresqlServer, running_database
from tests.peers.process import LOOPBACK, PATIENCE, wait_until, why_not_here
from tests.peers.senderproxy import PROVIDER, Senderproxy, VaultAccount
from tests.peers.simulated_provider import provider_settings, running_simulator

reason = why_not_here(POSTGRESQL / "postgres")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]

ANNA = VaultAccount("anna@firma.example", "geheim-postfach")
BERT = VaultAccount("bert@firma.example", "geheim-anderes")
RELOADED = "accounts reloaded from the vault"
IN_MEMORY = "The accounts in memory stay in force"
PASSPHRASE = "geheim und lang genug"


class Machine(Senderproxy):
    """A machine whose vault is in the database. The first one makes the tables and the vault."""

    is_first = False

    def _vault_place(self) -> str:
        return f'path = "database"\ndirectory = "{self.folder}"'

    def _create_vault(self) -> None:
        self._secrets.add(PASSPHRASE)
        if self.is_first:
            self.command("spool", "migrate", "--owner", OWNER, "--no-password")
            assert "vault import FILE" in self.command("vault", "status", exit_code=65)
            super()._create_vault()
            self.with_passphrase("vault", "add-unlock", "passphrase", "--label", "safe")
        else:
            assert "vault add-unlock" in self.command("vault", "verify", exit_code=77)
            words = ("vault", "add-unlock", f"key-file:{self._key}", "--label", "second")
            self.with_passphrase("--unlock", "passphrase", *words)

    def _import_accounts(self) -> None:
        if self.is_first:
            super()._import_accounts()

    def with_passphrase(self, *words: str) -> str:
        """Run a command that reads the passphrase from its input."""
        return self.command("--passphrase-stdin", *words, standard_input=f"{PASSPHRASE}\n")

    def noted(self) -> int:
        """The newest generation in its note."""
        try:
            (entry,) = json.loads((self.folder / "accounts.vault.seen").read_text()).values()
        except FileNotFoundError:
            return 0
        return int(entry["highest"])

    def send(self, author: VaultAccount, subject: str) -> None:
        message = f"From: <{author.login}>\r\nTo: carl@kunde.example\r\nSubject: {subject}\r\n\r\nHallo\r\n"
        with MailClient(LOOPBACK, self.port, timeout=120) as client:
            client.sendmail(author.login, ["carl@kunde.example"], message)


@dataclass
class Setting:
    """What a test uses."""

    server: PostgresqlServer
    simulator: Simulator
    first: Machine
    second: Machine

    def subjects(self) -> list[bytes]:
        return [taken.content.partition(b"Subject: ")[2].partition(b"\r\n")[0] for taken in self.simulator.received]


@pytest.fixture
def first_alone() -> Iterator[Setting]:
    """The first machine; the second one is not set up."""
    with running_database() as server, running_simulator(ANNA, BERT) as simulator:
        section = f"""{provider_settings(simulator)}
[spool]
engine = "{server.engine}"
"""
        first, second = Machine([ANNA], section), Machine([ANNA], section)
        first.is_first = True
        with first:
            yield Setting(server, simulator, first, second)


@pytest.fixture
def setting(first_alone: Setting) -> Iterator[Setting]:
    with first_alone.second:
        yield first_alone


def test_a_change_on_one_machine_is_in_force_on_the_other(setting: Setting) -> None:
    first, second = setting.first, setting.second
    labels = second.command("vault", "unlocks")
    assert all(label in labels for label in ("key-file", "safe", "second"))
    second.send(ANNA, "eins")
    first.add_account(BERT)
    changed = time.monotonic()
    second.wait_for_log(RELOADED)
    print(f"in force on the other machine after {time.monotonic() - changed:.1f} s")
    second.send(BERT, "zwei")
    assert setting.subjects() == [b"eins", b"zwei"]

    before = first.log().count(RELOADED)
    second.set_password(BERT.id, BERT.password)
    wait_until(lambda: first.log().count(RELOADED) > before, "the first one has read it", peer=first)


def test_without_the_database_accounts_stay_in_force_and_a_start_waits_for_it(first_alone: Setting) -> None:
    machine, server = first_alone.first, first_alone.server
    server.stop()
    machine.wait_for_log("cannot read the vault")
    machine.send(ANNA, "ohne")
    assert first_alone.subjects() == [b"ohne"]
    assert "cannot be reached" in machine.command("account", "list", exit_code=74)
    machine.wait_for_log("condition=vault_unreadable")
    machine.wait_for_log("condition=spool_closed")
    assert IN_MEMORY in said(machine, ["status"])
    found = said(machine, ["check", "--offline"])
    assert "goes on with the accounts in memory. The service reports it as" in found
    assert (found.count("WRONG"), "vault_unreadable" in found, "spool_closed" in found) == (1, True, True)
    server.start()
    machine.wait_for_log("readable again")
    assert ANNA.id in machine.command("account", "list")

    machine.stop()
    server.stop()
    length = len(machine.log())
    starting = threading.Thread(target=machine.start)
    starting.start()
    try:
        wait_until(lambda: "cannot be reached" in machine.log()[length:], "it says what it waits for", peer=machine)
    finally:
        server.start()
        starting.join()
    machine.send(ANNA, "danach")
    assert first_alone.subjects() == [b"ohne", b"danach"]


def said(machine: Machine, words: Sequence[str]) -> str:
    """The words of a command that finds a fault, on one line."""
    return " ".join(machine.command(*words, exit_code=1).split())


def test_of_two_editors_at_once_one_writes_and_the_other_is_told(setting: Setting) -> None:
    first, second = setting.first, setting.second
    first.add_account(BERT)
    words = [*first._program_words(), "account", "remove", BERT.id]
    person, terminal = pty.openpty()
    with closing(os.fdopen(person, "wb", buffering=0)) as keyboard, closing(os.fdopen(terminal)) as given:
        asking = subprocess.Popen(words, stdin=given, stdout=subprocess.DEVNULL, cwd=PROJECT)
        try:
            has_lock = f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = {_LOCK >> 32}"
            wait_until(lambda: setting.server.sql(has_lock) == "1", "the first editor asks for confirmation")
            edit = ("account", "edit", ANNA.id, "--display-name", "Anna")
            assert "is changing the vault in the database" in second.command(*edit, exit_code=77)
            keyboard.write(b"y\n")
            assert asking.wait(PATIENCE) == 0
        finally:
            asking.kill()
            asking.wait()
    second.command(*edit)
    for machine in (first, second):
        [shown] = json.loads(machine.command("account", "list", "--json"))
        assert (shown["id"], shown["display_name"]) == (ANNA.id, "Anna")


def test_a_missing_and_a_wrong_key_lead_to_the_command_that_makes_one(first_alone: Setting) -> None:
    machine = first_alone.first
    machine.stop()
    machine._key.write_bytes(os.urandom(32))
    assert "this key-file does not open it" in machine.command("run", exit_code=77)
    assert "vault add-unlock key-file:PATH" in said(machine, ["check", "--offline"])
    machine._key.unlink()
    for words, exit_code in (("run", 77), ("account list", 77), ("setup --yes", 77), ("check --offline", 1)):
        told = machine.command(*words.split(), exit_code=exit_code)
        [line] = re.findall(r"senderproxy (--unlock passphrase vault add-unlock key-file:\S+ --label) NAME", told)
        assert not machine._key.exists()
    wrong = ("--passphrase-stdin", "--unlock", "passphrase", "account", "list")
    refused = machine.command(*wrong, standard_input="geheim und falsch dazu\n", exit_code=77)
    assert "this passphrase does not open it" in refused
    assert "passphrase 'safe'" in refused
    machine.with_passphrase(*line.split(), "again")
    machine.start()
    machine.send(ANNA, "wieder")
    assert first_alone.subjects() == [b"wieder"]


def test_a_new_data_key_shuts_out_the_machine_whose_key_was_dropped(setting: Setting) -> None:
    first, second = setting.first, setting.second
    first.with_passphrase("vault", "rekey", "--with", "passphrase", "--drop", "second")
    second.wait_for_log("cannot read the vault")
    second.send(ANNA, "aus dem Speicher")
    assert setting.subjects() == [b"aus dem Speicher"]
    second.wait_for_log("condition=vault_unreadable")
    assert IN_MEMORY in said(second, ["status"])
    assert "vault add-unlock" in second.command("account", "list", exit_code=77)
    second.with_passphrase("--unlock", "passphrase", "vault", "add-unlock", f"key-file:{second._key}", "--label", "2")
    second.wait_for_log("vault readable again")
    assert ANNA.id in second.command("account", "list")


def test_setup_makes_the_vault_in_the_database_of_the_configuration(first_alone: Setting) -> None:
    machine, server = first_alone.first, first_alone.server
    machine.stop()
    machine._key.unlink()
    server.sql("DROP SCHEMA senderproxy CASCADE", "mail")
    words = f"setup --yes --provider {PROVIDER} --mailbox {BERT.id} --no-verify --no-start --password-stdin".split()
    given = f"{BERT.password}\n"
    assert "senderproxy spool migrate" in machine.command(*words, standard_input=given, exit_code=74)
    assert not machine._key.exists()
    machine.command("spool", "migrate", "--owner", OWNER, "--no-password")
    assert "vault import FILE" in said(machine, ["check", "--offline"])
    machine.command(*words, standard_input=given)
    machine.start()
    machine.send(BERT, "neu")
    assert first_alone.subjects() == [b"neu"]


def test_the_password_of_the_database_is_told_to_nobody(first_alone: Setting) -> None:
    machine, server = first_alone.first, first_alone.server
    password, wrong = machine.folder / "database.password", "geheim-ganz falsch"
    machine._secrets |= {"geheim-richtig", wrong}
    server.sql(f"ALTER ROLE {SERVICE} PASSWORD 'geheim-richtig'")
    password.touch(mode=0o600)
    password.write_text(wrong)
    engine = server.network_engine
    machine.stop()
    text = machine.config_file.read_text()
    text = with_settings(text, {("spool", "engine"): engine, ("spool", "engine_password"): f"file:{password}"})
    machine.config_file.write_text(text)
    assert "engine_password" in machine.command("account", "list", exit_code=74)
    assert "engine_password" in said(machine, ["check", "--offline"])
    words = ("spool", "migrate", "--owner", OWNER, "--password-stdin")
    assert "authentication failed" in machine.command(*words, standard_input=f"{wrong}\n", exit_code=69)
    password.write_text("geheim-richtig")
    machine.start()
    machine.send(ANNA, "mit Kennwort")
    assert ANNA.id in machine.command("account", "list")
    assert "geheim" not in server.log()


def test_an_older_copy_of_the_database_is_reported_on_each_machine(setting: Setting) -> None:
    first, second = setting.first, setting.second
    setting.server.sql("CREATE TABLE senderproxy.copy AS SELECT sealed FROM senderproxy.vault", "mail")
    first.add_account(BERT)
    saved = json.loads(first.command("vault", "status", "--json"))["saved"]
    for machine in (first, second):
        wait_until(lambda: machine.noted() == saved, "it has noted the generation", peer=machine)  # noqa: B023
    back = "UPDATE senderproxy.vault SET version = 1, sealed = (SELECT sealed FROM senderproxy.copy)"
    setting.server.sql(back, "mail")
    for machine in (first, second):
        machine.wait_for_log("was already in use")  # and does not load it
        machine.restart()
        machine.wait_for_log("vault older than the one used before")
        assert "The vault in the database is older" in said(machine, ["status"])
    assert "Accepted generation" in first.command("vault", "accept-rollback")

    def reports(machine: Machine) -> bool:
        return "is older than" in machine.command("check", "--offline", exit_code=1)

    wait_until(lambda: not reports(first), "the first one has accepted it", peer=first)
    assert reports(second)


def test_a_backup_has_the_vault_and_its_restore_leaves_the_database_as_it_is(
    first_alone: Setting, tmp_path: Path
) -> None:
    machine, backup, drill = first_alone.first, tmp_path / "one.backup", tmp_path / "drill"
    assert "saved" in machine.with_passphrase("backup", "--without-queue", str(backup))
    before = machine.command("vault", "status")
    options = ("--folder", str(drill), "--config", str(drill / "senderproxy.toml"))
    assert "left as it is" in machine.with_passphrase("restore", str(backup), *options)
    assert (drill / "accounts.vault").exists()
    assert machine.command("vault", "status") == before

    # The database was lost, with its vault: the copy becomes the vault.
    first_alone.server.sql("DELETE FROM senderproxy.vault", "mail")
    words = ("vault", "import", str(drill / "accounts.vault"), "--opens-with", f"key-file:{machine._key}")
    assert "1 account" in machine.command(*words)
    assert "has a vault already" in machine.command(*words, exit_code=73)
    assert ANNA.id in machine.command("account", "list")
