"""The vault as a file, over real files."""

from pathlib import Path

import pytest

from senderproxy.accounts.editor import AccountEditor
from senderproxy.accounts.errors import AccountsError, InvalidVaultRequest
from senderproxy.accounts.record import StoredAccount, own_first
from senderproxy.accounts.unlock import unlock_method
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.accounts.vault_admin import (
    add_unlock,
    export,
    inspect,
    new_unlock_method,
    rekey,
    remove_unlock,
    restore,
)
from senderproxy.mail.address import parse_address
from senderproxy.routing.account import Account
from vault import Passphrase, Unlock

ANNA = StoredAccount(
    Account(
        "anna", "anna@firma.example", "ionos-de", parse_address("anna@firma.example"), own_first("a@b.example", [])
    ),
    "geheim-anna",
)


def no_prompt() -> str:
    raise AssertionError("no passphrase is needed here")


@pytest.fixture
def key(tmp_path: Path) -> Unlock:
    return new_unlock_method(f"key-file:{tmp_path / 'vault.key'}", no_prompt, None).method


@pytest.fixture
def path(tmp_path: Path, key: Unlock) -> Path:
    path = tmp_path / "accounts.vault"
    AccountEditor.create(path, key)
    with AccountEditor.open(path, key) as editor:
        editor.put(ANNA)
        editor.save()
    return path


def opens(path: Path, unlock: Unlock) -> bool:
    try:
        return [account.id for account in VaultAccounts.open(path, unlock).directory().accounts] == ["anna"]
    except AccountsError:
        return False


def test_a_missing_key_file_is_made_and_an_existing_one_used(tmp_path: Path, key: Unlock, path: Path) -> None:
    assert (tmp_path / "vault.key").stat().st_mode & 0o777 == 0o600
    again = new_unlock_method(f"key-file:{tmp_path / 'vault.key'}", no_prompt, None).method
    assert opens(path, again)


def test_without_a_key_the_unlocks_and_the_generation_are_readable(path: Path) -> None:
    facts = inspect(path)
    assert facts.unlocks == (("key-file", "key-file"),)
    assert facts.generation == 2


def test_an_added_passphrase_opens_the_vault_until_it_is_removed(path: Path, key: Unlock) -> None:
    phrase = new_unlock_method("passphrase", lambda: "geheim-satz-lang", None).method
    assert add_unlock(path, key, phrase, "safe") == "safe"
    assert opens(path, Passphrase("geheim-satz-lang"))
    assert opens(path, key)
    remove_unlock(path, key, "safe")
    assert not opens(path, Passphrase("geheim-satz-lang"))
    assert opens(path, key)


def test_the_last_unlock_cannot_be_removed(path: Path, key: Unlock) -> None:
    with pytest.raises(AccountsError, match="only unlock method"):
        remove_unlock(path, key, "key-file")


def test_rekey_refuses_to_drop_an_unlock_that_is_not_named(path: Path, key: Unlock) -> None:
    add_unlock(path, key, Passphrase("geheim-satz-lang"), "safe")
    with pytest.raises(AccountsError, match="safe"):
        rekey(path, key, [], [])
    rekey(path, key, [Passphrase("geheim-satz-lang")], [])
    assert opens(path, Passphrase("geheim-satz-lang"))
    rekey(path, key, [], ["safe"])
    assert not opens(path, Passphrase("geheim-satz-lang"))
    assert opens(path, key)


def test_a_sealed_copy_becomes_the_vault_of_another_machine(path: Path, key: Unlock, tmp_path: Path) -> None:
    travel = Passphrase("geheim-reise")
    export(path, key, tmp_path / "copy.vault", travel)
    assert not opens(tmp_path / "copy.vault", key)
    there = new_unlock_method(f"key-file:{tmp_path / 'there.key'}", no_prompt, None).method
    restore(tmp_path / "copy.vault", travel, tmp_path / "there.vault", there)
    assert opens(tmp_path / "there.vault", there)
    with pytest.raises(AccountsError, match="already"):
        restore(tmp_path / "copy.vault", travel, tmp_path / "there.vault", there)


@pytest.mark.parametrize("label", ["two words", "", "key-file"])
def test_an_invalid_label_is_refused(path: Path, key: Unlock, label: str) -> None:
    with pytest.raises(InvalidVaultRequest):
        add_unlock(path, key, Passphrase("geheim-satz-lang"), label)


def test_an_unknown_unlock_method_is_refused_with_the_known_ones() -> None:
    with pytest.raises(AccountsError) as caught:
        unlock_method("geheim-oops", None)
    assert "passphrase, key-file:PATH" in caught.value.hint


def test_a_missing_credential_names_another_unlock_method(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(AccountsError) as caught:
        unlock_method("credential:vault-key", None)
    assert "--unlock passphrase" in caught.value.hint
