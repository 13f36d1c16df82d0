"""Copies of the vault for a backup: octets in, octets out."""

from pathlib import Path

import pytest

from senderproxy.accounts import vault_copy
from senderproxy.accounts.editor import AccountEditor
from senderproxy.accounts.errors import AccountsError, VaultExists
from senderproxy.accounts.record import Grant, StoredAccount, own_first
from senderproxy.accounts.unlock import make_key_file, unlock_method
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.accounts.vault_admin import inspect
from senderproxy.mail.address import parse_address
from senderproxy.routing.account import Account
from vault import Passphrase, Unlock, Vault
from vault._format import Argon2idCost

PASSPHRASE = "geheim-satz der Sicherung"


def account(name: str, secret: str, grant: Grant | None = None) -> StoredAccount:
    address = f"{name}@firma.example"
    return StoredAccount(
        Account(name, address, "ionos-de", parse_address(address), own_first(address, [])), secret, grant
    )


@pytest.fixture(autouse=True)
def no_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which nothing can be written to a temporary folder. The derivation takes no time."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    monkeypatch.setattr("vault._seal.usual_cost", lambda: Argon2idCost(passes=1, kibibytes=8, lanes=1))


@pytest.fixture
def key(tmp_path: Path) -> Unlock:
    make_key_file(tmp_path / "vault.key")
    return unlock_method(f"key-file:{tmp_path / 'vault.key'}", None)


@pytest.fixture
def path(tmp_path: Path, key: Unlock) -> Path:
    path = tmp_path / "accounts.vault"
    AccountEditor.create(path, key)
    with AccountEditor.open(path, key) as editor:
        editor.put(account("anna", "geheim-anna"))
        editor.put(account("bert", "geheim-token", Grant("microsoft", "grant-1")))
        editor.save()
    return path


def test_a_copy_is_the_file_to_the_octet_with_the_facts_of_these_octets(path: Path) -> None:
    octets, facts = vault_copy.read_copy(path)
    assert octets == path.read_bytes()
    assert facts == inspect(path)
    assert (facts.generation, facts.unlocks) == (2, (("key-file", "key-file"),))


def test_a_vault_that_others_can_read_is_not_copied(path: Path) -> None:
    path.chmod(0o644)
    with pytest.raises(AccountsError, match="other users have access"):
        vault_copy.read_copy(path)


def test_an_export_has_the_passwords_under_the_passphrase_and_no_refresh_token(path: Path, key: Unlock) -> None:
    before = sorted(path.parent.iterdir())
    export = vault_copy.export_copy(path.read_bytes(), key, PASSPHRASE)
    assert sorted(path.parent.iterdir()) == before
    with Vault.from_bytes(export, unlock=Passphrase(PASSPHRASE)) as vault:
        assert b"geheim-anna" in vault.get("anna")
        assert b"geheim-token" not in vault.get("bert")
        assert [unlock.kind for unlock in vault.unlocks()] == ["passphrase"]


def test_the_reason_why_a_copy_is_not_exported_names_no_file_that_was_never_there(path: Path) -> None:
    with pytest.raises(AccountsError) as refused:
        vault_copy.export_copy(path.read_bytes(), Passphrase("geheim-falsch"), PASSPHRASE)
    assert refused.value.message == "The vault cannot be used: no passphrase opens it"
    with pytest.raises(AccountsError) as damaged:
        vault_copy.export_copy(path.read_bytes()[:-1], Passphrase("geheim-falsch"), PASSPHRASE)
    assert damaged.value.hint == "Use another backup."


def test_a_copy_is_tried_with_the_unlock_of_this_machine(path: Path, tmp_path: Path) -> None:
    octets = path.read_bytes()
    make_key_file(tmp_path / "other.key")
    assert vault_copy.is_opened_by(octets, f"key-file:{tmp_path / 'vault.key'}")
    for setting in (f"key-file:{tmp_path / 'other.key'}", f"key-file:{tmp_path / 'none.key'}", "passphrase", "unknown"):
        assert not vault_copy.is_opened_by(octets, setting)
    assert not vault_copy.is_opened_by(octets[:-1], f"key-file:{tmp_path / 'vault.key'}")


def test_an_export_becomes_a_vault_with_a_new_key_once(path: Path, tmp_path: Path, key: Unlock) -> None:
    export = vault_copy.export_copy(path.read_bytes(), key, PASSPHRASE)
    new, new_key = tmp_path / "new.vault", tmp_path / "new.key"
    vault_copy.import_export(export, PASSPHRASE, new, new_key)
    accounts = VaultAccounts.open(new, unlock_method(f"key-file:{new_key}", None))
    assert [each.id for each in accounts.directory().accounts] == ["anna", "bert"]
    accounts.close()
    with pytest.raises(VaultExists):
        vault_copy.import_export(export, PASSPHRASE, new, tmp_path / "second.key")
