"""An older vault in place of a newer one is reported at each start, until it is accepted."""

import json
import os
from pathlib import Path

import pytest

from senderproxy.accounts.editor import AccountEditor
from senderproxy.accounts.record import StoredAccount, own_first
from senderproxy.accounts.rollback import find_rollback, note_generation, protected_note
from senderproxy.accounts.unlock import make_key_file, unlock_method
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.accounts.vault_admin import accept_rollback
from senderproxy.mail.address import parse_address
from senderproxy.routing.account import Account

ADDRESS = "anna@firma.example"


def _vault(folder: Path) -> tuple[Path, Path]:
    make_key_file(folder / "vault.key")
    path = folder / "accounts.vault"
    AccountEditor.create(path, unlock_method(f"key-file:{folder / 'vault.key'}", None))
    return path, folder / "vault.key"


def _save(path: Path, key: Path, secret: str) -> None:
    account = Account("anna", ADDRESS, "ionos-de", parse_address(ADDRESS), own_first(ADDRESS, []))
    with AccountEditor.open(path, unlock_method(f"key-file:{key}", None)) as editor:
        editor.put(StoredAccount(account, secret))
        editor.save()


def _start(path: Path, key: Path) -> str | None:
    accounts = VaultAccounts.open(path, unlock_method(f"key-file:{key}", None))
    return note_generation(path, accounts.vault_id, accounts.generation)


def test_an_older_vault_is_reported_at_each_start_until_it_is_accepted(tmp_path: Path) -> None:
    path, key = _vault(tmp_path)
    _save(path, key, "geheim-old")
    yesterday = path.read_bytes()
    assert _start(path, key) is None
    _save(path, key, "geheim-new")
    assert _start(path, key) is None
    path.write_bytes(yesterday)
    for _each in range(2):
        older = _start(path, key)
        assert older is not None
        assert "older than the one used last: generation 2 after 3." in older
    unlock = unlock_method(f"key-file:{key}", None)
    assert accept_rollback(path, unlock) == (2, True)
    assert _start(path, key) is None
    assert accept_rollback(path, unlock) == (2, False)


def test_further_changes_do_not_hide_an_older_vault(tmp_path: Path) -> None:
    path, key = _vault(tmp_path)
    _save(path, key, "geheim-old")
    yesterday = path.read_bytes()
    _save(path, key, "geheim-new")
    path.write_bytes(yesterday)
    for secret in ("geheim-a", "geheim-b", "geheim-c"):  # the first of them has the highest generation again
        _save(path, key, secret)
        assert "generation 2 after 3." in (_start(path, key) or "")


def test_a_look_writes_nothing(tmp_path: Path) -> None:
    path, key = _vault(tmp_path)
    vault_id = VaultAccounts.open(path, unlock_method(f"key-file:{key}", None)).vault_id
    assert find_rollback(path, vault_id, 1) is None
    assert not path.with_name("accounts.vault.seen").exists()
    note_generation(path, vault_id, 4)
    before = path.with_name("accounts.vault.seen").read_bytes()
    assert "generation 1 after 4." in (find_rollback(path, vault_id, 1) or "")
    assert path.with_name("accounts.vault.seen").read_bytes() == before


def test_a_note_of_an_earlier_version_counts(tmp_path: Path) -> None:
    path, _key = _vault(tmp_path)
    path.with_name("accounts.vault.seen").write_text(json.dumps({"a" * 32: 7, "b" * 32: True, "c" * 32: "x"}))
    assert "generation 1 after 7." in (note_generation(path, "a" * 32, 1) or "")
    assert note_generation(path, "b" * 32, 1) is None


def test_a_service_that_has_not_read_the_newest_vault_yet_has_no_older_one(tmp_path: Path) -> None:
    path, key = _vault(tmp_path)
    accounts = VaultAccounts.open(path, unlock_method(f"key-file:{key}", None))
    _save(path, key, "geheim-new")
    assert note_generation(path, accounts.vault_id, accounts.generation) is None
    assert _start(path, key) is None
    path.unlink()
    assert note_generation(path, accounts.vault_id, accounts.generation) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="the note belongs to root")
def test_the_owner_of_the_vault_cannot_write_the_protected_note(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    path, key = _vault(folder)
    for file in (folder, path):
        os.chown(file, 65534, 65534)
    note = protected_note(path)
    assert note == tmp_path / "state.generations"
    yesterday = path.read_bytes()
    _save(path, key, "geheim-new")
    status = note.stat()
    assert (status.st_uid, status.st_mode & 0o777) == (0, 0o644)
    assert path.with_name("accounts.vault.seen").stat().st_uid == 65534
    # the owner replaces everything that is his
    path.write_bytes(yesterday)
    path.with_name("accounts.vault.seen").unlink()
    assert "generation 1 after 2." in (_start(path, key) or "")
    accept_rollback(path, unlock_method(f"key-file:{key}", None))
    assert _start(path, key) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="the note belongs to root")
@pytest.mark.parametrize(("owner", "mode"), [(0, 0o777), (65534, 0o755)])
def test_beside_a_folder_that_others_can_write_no_note_is_believed(tmp_path: Path, owner: int, mode: int) -> None:
    outside = tmp_path / "outside"
    (outside / "state").mkdir(parents=True)
    path, key = _vault(outside / "state")
    os.chown(outside / "state", 65534, 65534)
    os.chown(outside, owner, owner)
    outside.chmod(mode)
    accounts = VaultAccounts.open(path, unlock_method(f"key-file:{key}", None))
    protected_note(path).write_text(json.dumps({accounts.vault_id: 99}))
    assert _start(path, key) is None


def test_a_vault_of_root_alone_needs_no_second_note(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    path, key = _vault(tmp_path / "state")
    _save(path, key, "geheim-new")
    assert not protected_note(path).exists()


def test_an_unreadable_or_unwritable_note_stops_nothing(tmp_path: Path) -> None:
    path, key = _vault(tmp_path)
    note = path.with_name("accounts.vault.seen")
    note.write_bytes(b"\xff nonsense")
    assert _start(path, key) is None
    note.write_text("[" * 100_000)
    assert _start(path, key) is None
    note.unlink()
    note.mkdir()
    assert _start(path, key) is None


def test_the_note_is_for_the_owner_alone(tmp_path: Path) -> None:
    path, key = _vault(tmp_path)
    assert _start(path, key) is None
    assert path.with_name("accounts.vault.seen").stat().st_mode & 0o077 == 0
