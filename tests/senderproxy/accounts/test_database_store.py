"""The vault in a PostgreSQL database: the table of tests of all stores, and what only a server can do."""

import asyncio
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from senderproxy.accounts import database_store, vault_admin
from senderproxy.accounts.database_store import DatabaseStore
from senderproxy.accounts.editor import AccountEditor
from senderproxy.accounts.errors import AccountsError, VaultUnreadable
from senderproxy.accounts.record import StoredAccount, encode, own_first
from senderproxy.accounts.rollback import note_generation
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.accounts.vault_place import has_vault
from senderproxy.cli.new_unlock import new_unlock
from senderproxy.mail.address import parse_address
from senderproxy.relay.ports import SpoolError
from senderproxy.routing.account import Account
from senderproxy.spool.postgresql.migrations import migrate
from senderproxy.spool.postgresql.target import DatabaseTarget
from senderproxy.spool.postgresql.vault_row import VaultRow
from tests.peers.packages import POSTGRESQL
from tests.peers.postgresql import OWNER, SERVICE, PostgresqlServer, running_postgresql
from tests.peers.process import private_folder, wait_until, why_not_here
from tests.senderproxy.spool.postgresql.cut_line import cut_line
from tests.vault import test_store
from tests.vault.conftest import cabinet
from tests.vault.stores import LIMIT, Place, hold
from tests.vault.test_store import key
from vault import DiskError, KeyFile, Vault, VaultStore

__all__ = ["cabinet", "key"]
_DATABASE = "vault"
ANNA = StoredAccount(
    Account(
        "anna", "anna@firma.example", "ionos-de", parse_address("anna@firma.example"), own_first("a@b.example", [])
    ),
    "geheim-anna",
)
_LONGEST = 60.0  # seconds until a change is seen on a busy machine; it takes one or two


class DatabasePlace(Place):
    def __init__(self, server: PostgresqlServer, folder: Path) -> None:
        self.server = server
        self.files = folder / "accounts.vault"
        self._stores: list[DatabaseStore] = []

    def store(self) -> VaultStore:
        return self.database_store()

    def database_store(self) -> DatabaseStore:
        self._stores.append(store := self.store_over(VaultRow(target_of(self.server))))
        return store

    def store_over(self, row: VaultRow) -> DatabaseStore:
        return DatabaseStore(row, "postgresql://senderproxy@/vault", self.files)

    def kept(self) -> list[bytes]:
        rows = self.server.sql("SELECT encode(sealed, 'hex') FROM senderproxy.vault", _DATABASE)
        return [bytes.fromhex(line) for line in rows.splitlines()]

    def writer_command(self) -> Sequence[str]:
        words = ["-m", "tests.senderproxy.accounts.test_database_store"]
        return [*words, str(self.server.socket_folder), str(self.server.port)]

    def discard(self, store: VaultStore) -> None:
        assert isinstance(store, DatabaseStore)
        self._stores.remove(store)
        store.close()

    def wait_for_the_dead(self) -> None:
        """The server ends the lock when its process has noticed that the connection is closed."""
        locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
        wait_until(lambda: self.server.sql(locks) == "0", "the lock has ended with its connection")

    def close(self) -> None:
        for store in list(self._stores):
            self.discard(store)


def target_of(server: PostgresqlServer, user: str = SERVICE) -> DatabaseTarget:
    return DatabaseTarget(str(server.socket_folder), server.port, user, _DATABASE)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresqlServer]:
    if why := why_not_here(POSTGRESQL / "postgres"):
        pytest.skip(why)
    with running_postgresql() as running:
        running.sql(f"CREATE DATABASE {_DATABASE} OWNER {OWNER}")
        asyncio.run(migrate(target_of(running, OWNER), SERVICE))
        yield running


@pytest.fixture
def place(server: PostgresqlServer, tmp_path: Path) -> Iterator[DatabasePlace]:
    server.sql("DELETE FROM senderproxy.vault", _DATABASE)
    made = DatabasePlace(server, tmp_path)
    yield made
    made.close()


# The table of all stores, with the place above.
globals().update(
    {
        name: test
        for name, test in vars(test_store).items()
        if name.startswith("test_") and "place" in test.__code__.co_varnames[: test.__code__.co_argcount]
    }
)


# ---- instances that watch it ----


class WatchedRow(VaultRow):
    """A row that counts the looks for its version, or has an internal error there."""

    looks = 0
    has_fault = False

    async def version(self) -> int | None:
        self.looks += 1
        if self.has_fault:
            raise ZeroDivisionError
        return await super().version()


def test_a_thousand_looks_for_changes_ask_the_server_no_more_often_and_see_one(place: DatabasePlace) -> None:
    place.store().create(b"first")
    row = WatchedRow(target_of(place.server))
    watching = place.store_over(row)
    try:
        watching.watch()
        _, before = watching.read(LIMIT)
        for _ in range(1000):
            assert watching.fingerprint() == before
        assert row.looks < 100
        place.replace(b"other")
        changed = time.monotonic()
        while watching.fingerprint() == before:
            assert time.monotonic() - changed < _LONGEST
            time.sleep(0.01)
        assert watching.read(LIMIT) == (b"other", watching.fingerprint())
    finally:
        watching.close()


def test_machines_with_keys_of_their_own_have_a_new_account_soon(
    place: DatabasePlace, key: KeyFile, tmp_path: Path
) -> None:
    other_key = KeyFile.generate(tmp_path / "other-machine.key")
    Vault.create(place.store(), unlock=key)
    with Vault.open(place.store(), unlock=key, write=True) as box:
        box.add_unlock(other_key, label="other-machine")
        box.save()
    machines = []
    for unlock in (key, other_key):
        store = place.database_store()
        store.watch()
        machines.append(VaultAccounts(Vault.open(store, unlock=unlock)))
    test_store.write(place, key, anna=encode(ANNA))
    changed = time.monotonic()
    for machine in machines:
        while not machine.directory().accounts:
            assert time.monotonic() - changed < _LONGEST
            time.sleep(0.01)
        assert [account.id for account in machine.directory().accounts] == ["anna"]
        assert machine.generation == 3
        machine.close()


@pytest.fixture
def no_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """No further look for changes: one that is late would bring the version of before, and the next one correct it."""
    monkeypatch.setattr(database_store, "_INTERVAL", 3600.0)


@pytest.mark.usefixtures("no_looks")
def test_what_was_just_read_is_no_change(place: DatabasePlace) -> None:
    place.store().create(b"first")
    watching = place.database_store()
    watching.watch()
    place.replace(b"other")
    _, read = watching.read(LIMIT)
    assert watching.fingerprint() == read


def test_a_server_that_is_gone_is_an_error_until_it_is_back(place: DatabasePlace, key: KeyFile) -> None:
    Vault.create(place.store(), unlock=key)
    watching = place.database_store()
    with Vault.open(watching, unlock=key) as reader:
        watching.watch()
        place.server.stop()
        try:
            wait_until_unreachable(watching)
            with pytest.raises(DiskError) as gone:
                reader.reload()
            assert gone.value.hint
            assert reader.names() == ()
        finally:
            place.server.start()
        wait_until_reachable(watching)
        assert not reader.is_replaced()
        reader.reload()


def wait_until_unreachable(store: DatabaseStore) -> None:
    wait_until(lambda: not is_reachable(store), "the loss of the server is noticed")


def wait_until_reachable(store: DatabaseStore) -> None:
    wait_until(lambda: is_reachable(store), "the server is back")


def is_reachable(store: DatabaseStore) -> bool:
    try:
        store.fingerprint()
    except DiskError:
        return False
    return True


def test_a_writer_whose_connection_was_ended_saves_nothing_and_the_next_one_can(
    place: DatabasePlace, key: KeyFile
) -> None:
    Vault.create(place.store(), unlock=key)
    with Vault.open(place.store(), unlock=key, write=True) as box:
        place.server.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'senderproxy'", "postgres"
        )
        box.put("anna", b"geheim-1")
        with pytest.raises(DiskError):
            box.save()
        place.wait_for_the_dead()  # the server says that it ends a connection before it has ended its lock
        test_store.write(place, key, bert=b"geheim-2")
    with Vault.open(place.store(), unlock=key) as box:
        assert box.names() == ("bert",)


@pytest.mark.parametrize("cut", ["before", "after"])
async def test_the_outcome_of_a_write_is_known_also_when_the_line_is_cut_at_its_commit(
    place: DatabasePlace, cut: str
) -> None:
    with private_folder("cut") as folder:
        async with cut_line(target_of(place.server), folder) as (line, target):
            row = VaultRow(target)
            line.cut = cut
            if cut == "before":
                with pytest.raises(SpoolError):
                    await row.insert(b"first")
                assert await row.read(LIMIT) is None
                assert await row.insert(b"first")
            else:
                assert await row.insert(b"first")
            before = await row.version()
            assert before is not None
            writer = await row.lock()
            assert writer is not None
            line.cut = cut
            if cut == "before":
                with pytest.raises(SpoolError):
                    await writer.replace(b"other", before)
                assert await row.read(LIMIT) == (b"first", before)
            else:
                after = await writer.replace(b"other", before)
                assert after not in (before, None)
                assert await row.read(LIMIT) == (b"other", after)
            assert line.cuts == 2
            await writer.release()
            await row.close()


async def test_connections_that_the_server_ended_are_replaced_without_a_word(place: DatabasePlace) -> None:
    row = VaultRow(target_of(place.server))
    assert await row.insert(b"first")
    for _ in range(20):
        place.server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'senderproxy'")
        found = await row.read(LIMIT)
        assert found is not None
        assert found[0] == b"first"
    await row.close()


@pytest.mark.usefixtures("no_looks")
def test_a_change_that_was_just_saved_is_seen_without_the_next_look(place: DatabasePlace, key: KeyFile) -> None:
    Vault.create(place.store(), unlock=key)
    row = WatchedRow(target_of(place.server))
    store = place.store_over(row)
    try:
        accounts = VaultAccounts.open(store, key)
        store.watch()
        with AccountEditor.open(store, key) as editor:
            editor.put(ANNA)
            editor.save()
        looks = row.looks
        assert [account.id for account in accounts.directory().accounts] == ["anna"]
        assert row.looks == looks
    finally:
        store.close()


async def test_a_service_that_is_told_of_a_change_asks_for_it_at_once(place: DatabasePlace, key: KeyFile) -> None:
    Vault.create(place.store(), unlock=key)
    store = place.database_store()
    accounts = VaultAccounts.open(store, key)
    accounts.read_in_background()
    await asyncio.to_thread(store.watch)
    await asyncio.to_thread(test_store.write, place, key, anna=encode(ANNA))
    await accounts.wait_until_read(_LONGEST)
    assert accounts.generation == 2
    accounts.close()


async def test_a_service_without_mail_reads_a_change_when_it_is_seen(place: DatabasePlace, key: KeyFile) -> None:
    Vault.create(place.store(), unlock=key)
    store = place.database_store()
    accounts = VaultAccounts.open(store, key)
    accounts.read_in_background()
    changed = asyncio.Event()
    accounts.on_change = changed.set
    await asyncio.to_thread(store.watch)
    await asyncio.to_thread(test_store.write, place, key, anna=encode(ANNA))
    async with asyncio.timeout(_LONGEST):
        await changed.wait()
    assert accounts.generation == 2
    accounts.close()


def test_an_older_copy_of_the_database_is_found_by_each_machine(place: DatabasePlace, key: KeyFile) -> None:
    Vault.create(place.store(), unlock=key)
    store = place.database_store()
    yesterday = place.sealed()
    with AccountEditor.open(store, key) as editor:
        editor.put(ANNA)
        editor.save()
    place.replace(yesterday)
    accounts = VaultAccounts.open(store, key)
    assert "generation 1 after 2" in str(note_generation(store, accounts.vault_id, accounts.generation))
    assert vault_admin.accept_rollback(store, key) == (1, True)
    assert note_generation(store, accounts.vault_id, accounts.generation) is None
    assert [path.name for path in place.files.parent.glob("accounts.*")] == ["accounts.vault.seen"]


@pytest.mark.parametrize("is_there", [True, False])
def test_an_error_about_a_vault_in_a_database_names_the_command_for_it(
    place: DatabasePlace, key: KeyFile, tmp_path: Path, *, is_there: bool
) -> None:
    if is_there:
        Vault.create(place.store(), unlock=key)
    assert has_vault(place.database_store()) is is_there
    with pytest.raises(AccountsError) as refused:
        VaultAccounts.open(place.database_store(), KeyFile.generate(tmp_path / "new-machine.key"))
    assert ("vault add-unlock" if is_there else "vault import FILE") in refused.value.hint
    assert isinstance(refused.value, VaultUnreadable) is not is_there


def test_an_error_about_a_missing_key_names_the_command_that_makes_it(
    place: DatabasePlace, key: KeyFile, tmp_path: Path
) -> None:
    Vault.create(place.store(), unlock=key)
    path = tmp_path / "a key"
    with pytest.raises(AccountsError) as refused:
        VaultAccounts.open(place.database_store(), KeyFile(path))
    assert f"vault add-unlock key-file:'{path}' --label" in refused.value.hint
    assert not isinstance(refused.value, VaultUnreadable)  # 77, not 65: it is intact


def test_accounts_in_memory_stay_when_the_database_was_put_back(place: DatabasePlace, key: KeyFile) -> None:
    Vault.create(place.store(), unlock=key)
    yesterday = place.sealed()
    with AccountEditor.open(place.database_store(), key) as editor:
        editor.put(ANNA)
        editor.save()
    accounts = VaultAccounts.open(place.database_store(), key)
    place.replace(yesterday)
    assert not accounts.check()
    assert [account.id for account in accounts.directory().accounts] == [ANNA.account.id]
    assert "generation 1, but generation 2 was already in use" in str(accounts.problem)
    assert "on each machine" in accounts.problem_hint
    assert "the database" in accounts.problem_hint


def fail(setting: str, store: DatabaseStore, step: Callable[[KeyFile], object]) -> None:
    """A command that makes a vault with a new key, and fails after this step."""
    with new_unlock(setting, store) as new:
        assert isinstance(new, KeyFile)
        step(new)
        raise ZeroDivisionError


def test_a_new_key_stays_if_a_vault_in_the_database_may_need_it(place: DatabasePlace, tmp_path: Path) -> None:
    store, file = place.database_store(), tmp_path / "new.key"
    setting = f"key-file:{file}"
    with pytest.raises(ZeroDivisionError):
        fail(setting, store, lambda _key: file.stat())
    assert not file.exists()
    with pytest.raises(ZeroDivisionError):
        fail(setting, store, lambda key: AccountEditor.create(store, key))
    assert VaultAccounts.open(store, KeyFile(file)).generation == 1
    place.server.sql("DELETE FROM senderproxy.vault", _DATABASE)
    file.unlink()
    try:
        with pytest.raises(ZeroDivisionError):
            fail(setting, store, lambda _key: place.server.stop())
        assert file.exists()  # nobody knows if there is a vault
    finally:
        place.server.start()


def test_a_database_without_the_table_is_to_be_migrated(place: DatabasePlace, key: KeyFile) -> None:
    place.server.sql("ALTER TABLE senderproxy.vault RENAME TO away", _DATABASE)
    try:
        with pytest.raises(AccountsError, match="lacks tables of this version") as refused:
            VaultAccounts.open(place.database_store(), key)
        assert refused.value.hint == "senderproxy spool migrate --owner ROLE"
    finally:
        place.server.sql("ALTER TABLE senderproxy.away RENAME TO vault", _DATABASE)


def test_an_internal_error_does_not_end_the_looks_for_changes(place: DatabasePlace) -> None:
    place.store().create(b"first")
    row = WatchedRow(target_of(place.server))
    store = place.store_over(row)
    try:
        store.watch()
        row.has_fault = True
        wait_until_unreachable(store)
        row.has_fault = False
        wait_until_reachable(store)
        assert store.fingerprint() == place.store().fingerprint()
    finally:
        store.close()


def test_the_role_of_the_service_changes_no_table(place: DatabasePlace) -> None:
    rights = place.server.sql(
        "SELECT has_table_privilege('senderproxy', 'senderproxy.vault', 'UPDATE'),"
        " has_schema_privilege('senderproxy', 'senderproxy', 'CREATE')",
        _DATABASE,
    )
    assert rights == "t|f"


if __name__ == "__main__":
    folder, port = sys.argv[1:]
    row = VaultRow(DatabaseTarget(folder, int(port), SERVICE, _DATABASE))
    hold(DatabaseStore(row, "vault", Path(folder) / "accounts.vault"))
