"""The vault of a running service: read on a thread, once for each change, while the accounts in memory are in force."""

import asyncio
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from senderproxy.accounts.editor import AccountEditor
from senderproxy.accounts.errors import AccountsError
from senderproxy.accounts.record import StoredAccount, own_first
from senderproxy.accounts.unlock import UnlockMethod
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.clock import SystemClock
from senderproxy.mail.address import parse_address
from senderproxy.routing.account import Account
from vault import KeyFile, KeyringLocked, Unlock, Vault
from vault._format import Stanza
from vault._seal import Secret

DEADLINE = 30.0  # seconds for what takes milliseconds


class SlowKey(Unlock):
    """A key file whose key takes until `ready`; records the threads that asked for it."""

    kind = "key-file"

    def __init__(self, key: KeyFile) -> None:
        self._key = key
        self.ready = threading.Event()
        self.asked = threading.Event()
        self.threads: list[str] = []
        self.refuses = False
        self.ready.set()

    def wrap(self, label: str, vault_id: bytes, data_key: Secret) -> Stanza:
        return self._key.wrap(label, vault_id, data_key)

    def try_unwrap(self, stanza: Stanza, vault_id: bytes) -> Secret | None:
        self.threads.append(threading.current_thread().name)
        self.asked.set()
        assert self.ready.wait(DEADLINE)
        if self.refuses:
            raise KeyringLocked("the keyring is locked or does not respond", hint="Unlock it.")
        return self._key.try_unwrap(stanza, vault_id)


class SetClock(SystemClock):
    """A clock whose monotonic time the test sets."""

    time = 1000.0

    def monotonic(self) -> float:
        return self.time


class Office:
    """A vault, the accounts of a running service over it, and its key."""

    def __init__(self, folder: Path, slow_seconds: float = DEADLINE) -> None:
        self.path = folder / "accounts.vault"
        self.own = KeyFile.generate(folder / "vault.key")
        self.key = SlowKey(self.own)
        self.clock = SetClock()
        AccountEditor.create(self.path, self.own)
        self.add("anna@firma.example")
        self.accounts = VaultAccounts.open(self.path, self.key, self.clock)
        self.accounts.read_in_background(slow_seconds)
        self.changes: list[int] = []
        self.accounts.on_change = lambda: self.changes.append(self.accounts.generation)
        self.key.threads.clear()
        self.key.asked.clear()

    def add(self, address: str) -> None:
        own = parse_address(address)
        account = Account(own.local_part, address, "ionos-de", own, own_first(address, []))
        with AccountEditor.open(self.path, self.own) as editor:
            editor.put(StoredAccount(account, "geheim-1"))
            editor.save()

    def rekey(self, key: UnlockMethod | None = None) -> None:
        """Seal the vault under a new data key: its next reading needs the unlock method again."""
        with Vault.open(self.path, unlock=self.own, write=True) as vault:
            vault.rekey(key or self.own)
            vault.save()

    def in_force(self) -> list[str]:
        """The accounts that a message would get now."""
        self.clock.time += 0.06  # the interval between two looks at the file has passed
        return [account.id for account in self.accounts.directory().accounts]


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.001)


async def test_a_slow_key_delays_no_message_and_the_accounts_in_memory_stay_in_force(office: Office) -> None:
    office.key.ready.clear()
    office.add("bert@firma.example")
    office.rekey()
    assert office.in_force() == ["anna"]
    await until(office.key.asked.is_set)
    for _ in range(50):
        assert office.in_force() == ["anna"]
    assert office.accounts.problem is None
    office.key.ready.set()
    await office.accounts.wait_until_read(DEADLINE)
    assert office.in_force() == ["anna", "bert"]
    assert office.key.threads == ["vault-reader"]
    assert office.changes == [office.accounts.generation]


async def test_an_unchanged_file_is_not_read(office: Office) -> None:
    for _ in range(50):
        assert office.in_force() == ["anna"]
    await office.accounts.wait_until_read(DEADLINE)
    assert (office.changes, office.key.threads) == ([], [])


async def test_after_the_request_the_change_is_in_force_though_an_older_reading_was_in_progress(office: Office) -> None:
    office.key.ready.clear()
    office.rekey()
    assert office.in_force() == ["anna"]
    await until(office.key.asked.is_set)
    office.add("bert@firma.example")
    waiting = asyncio.create_task(office.accounts.wait_until_read(DEADLINE))
    await asyncio.sleep(0)
    office.add("carla@firma.example")
    office.key.ready.set()
    await waiting
    assert office.in_force() == ["anna", "bert", "carla"]


async def test_a_request_does_not_wait_for_ever_and_the_late_result_is_used(office: Office) -> None:
    office.key.ready.clear()
    office.add("bert@firma.example")
    office.rekey()
    with pytest.raises(AccountsError, match="not read yet"):
        await office.accounts.wait_until_read(0.01)
    assert office.in_force() == ["anna"]
    office.key.ready.set()
    await until(lambda: office.in_force() == ["anna", "bert"])
    assert len(office.key.threads) == 1


async def test_a_reading_without_an_end_is_a_problem_until_it_ends(tmp_path: Path) -> None:
    office = Office(tmp_path, slow_seconds=0.01)
    office.key.ready.clear()
    office.rekey()
    office.accounts.check()
    await until(lambda: office.accounts.problem is not None)
    assert "does not respond" in str(office.accounts.problem)
    office.key.ready.set()
    await until(lambda: office.accounts.problem is None)


async def test_a_failed_reading_is_repeated_later_and_later_and_a_new_file_is_read_at_once(office: Office) -> None:
    office.key.refuses = True
    office.rekey()
    tried: list[int] = []
    start = office.clock.time
    for _ in range(400):
        office.clock.time += 0.5
        before = len(office.key.threads)
        office.accounts.check()
        await until(lambda: not office.accounts.is_reading)
        if len(office.key.threads) > before:
            tried.append(round(office.clock.time - start))
    pauses = [later - earlier for earlier, later in pairwise(tried)]
    assert pauses == [2, 4, 8, 16, 32, 64]
    assert office.accounts.problem == "The keyring is locked or does not respond."
    assert office.in_force() == ["anna"]
    office.key.refuses = False
    office.rekey()
    office.accounts.check()
    await until(lambda: office.accounts.problem is None)
    assert len(office.changes) == 1


async def test_a_request_reads_at_once_what_could_not_be_read_before(office: Office) -> None:
    office.key.refuses = True
    office.rekey()
    await office.accounts.wait_until_read(DEADLINE)
    assert office.accounts.problem is not None
    office.key.refuses = False
    await office.accounts.wait_until_read(DEADLINE)
    assert office.accounts.problem is None


async def test_a_wait_that_begins_between_the_end_of_a_reading_and_its_effect_waits_for_the_effect(
    tmp_path: Path,
) -> None:
    office = Office(tmp_path)
    office.add("bert@firma.example")
    office.accounts.check()
    ready = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]
    end = time.monotonic() + DEADLINE
    while not ready and time.monotonic() < end:  # the loop does not run: the thread's result is the next that it sees
        time.sleep(0.001)

    async def wait() -> list[str]:
        await office.accounts.wait_until_read(DEADLINE)
        return office.in_force()

    assert await asyncio.create_task(wait()) == ["anna", "bert"]
