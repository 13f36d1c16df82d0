"""Stored vaults of each format of the records: read for ever, rewritten by `upgrade` alone."""

import shutil
from pathlib import Path

import pytest

from senderproxy.accounts import vault_admin
from senderproxy.accounts.record import SCHEMA
from senderproxy.accounts.unlock import UnlockMethod, unlock_method
from senderproxy.accounts.vault_accounts import VaultAccounts
from tests.fakes.still_clock import StillClock

STORED = Path(__file__).parent / "old_vaults"
SCHEMAS = range(1, SCHEMA + 1)


def copy_of(schema: int, folder: Path) -> tuple[Path, UnlockMethod]:
    for name in (f"records-{schema}.vault", "vault.key"):
        shutil.copyfile(STORED / name, folder / name)
        (folder / name).chmod(0o600)
    return folder / f"records-{schema}.vault", unlock_method(f"key-file:{folder / 'vault.key'}", None)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_vault_of_each_version_is_read_and_not_changed(schema: int, tmp_path: Path) -> None:
    path, unlock = copy_of(schema, tmp_path)
    accounts = VaultAccounts.open(path, unlock, StillClock())
    anna, bert = accounts.directory().accounts
    assert (anna.id, anna.login, anna.display_name) == ("anna", "anna@firma.example", "Anna Ödland")
    assert [str(pattern) for pattern in anna.carries] == ["anna@firma.example", "@firma.example"]
    assert (anna.messages_per_hour, anna.connections, bert.messages_per_hour) == (40, 2, None)
    assert (bert.login, bert.provider) == ("bert", "hoster")
    assert (accounts.unreadable, accounts.unknown) == ((), ())
    assert (accounts.signing_keys() is not None) == (schema >= 2)
    assert path.read_bytes() == (STORED / path.name).read_bytes()


@pytest.mark.parametrize("schema", SCHEMAS)
def test_an_upgrade_rewrites_older_records_once(schema: int, tmp_path: Path) -> None:
    path, unlock = copy_of(schema, tmp_path)
    before = VaultAccounts.open(path, unlock, StillClock()).directory().accounts
    assert vault_admin.upgrade(path, unlock) == (2 if schema < SCHEMA else 0)
    assert (path.read_bytes() == (STORED / path.name).read_bytes()) == (schema == SCHEMA)
    assert vault_admin.upgrade(path, unlock) == 0
    assert VaultAccounts.open(path, unlock, StillClock()).directory().accounts == before
