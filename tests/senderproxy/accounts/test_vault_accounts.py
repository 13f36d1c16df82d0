"""The accounts in use, over a real vault."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import senderproxy
from senderproxy.accounts import late_oauth, vault_admin
from senderproxy.accounts.editor import AccountEditor
from senderproxy.accounts.errors import AccountsError, UnknownAccount, VaultInUse, VaultUnreadable
from senderproxy.accounts.oauth_application import Flow, StoredApplication, UsableApplication
from senderproxy.accounts.record import (
    SRS_KEY,
    RecordError,
    StoredAccount,
    StoredRecord,
    UnknownRecord,
    encode,
    own_first,
)
from senderproxy.accounts.unlock import make_key_file, unlock_method
from senderproxy.accounts.usable_application import to_record
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.mail.address import parse_address
from senderproxy.routing.account import Account
from senderproxy.routing.directory import DirectoryError, MatchTier
from vault import KeyFile, Unlock, Vault


@pytest.fixture
def key(tmp_path: Path) -> Unlock:
    make_key_file(tmp_path / "vault.key")
    return unlock_method(f"key-file:{tmp_path / 'vault.key'}", None)


@pytest.fixture
def path(tmp_path: Path, key: Unlock) -> Path:
    AccountEditor.create(tmp_path / "accounts.vault", key)
    return tmp_path / "accounts.vault"


def _stored(address: str, secret: str = "geheim-1", *more: str) -> StoredAccount:
    own = parse_address(address)
    return StoredAccount(Account(own.local_part, address, "ionos-de", own, own_first(address, list(more))), secret)


def _put(path: Path, key: Unlock, *accounts: StoredAccount) -> None:
    with AccountEditor.open(path, key) as editor:
        for stored in accounts:
            editor.put(stored)
        editor.save()


def test_an_added_account_is_in_use_with_the_next_message(path: Path, key: Unlock) -> None:
    accounts = VaultAccounts.open(path, key)
    assert accounts.directory().accounts == ()
    _put(path, key, _stored("anna@firma.example"))
    assert accounts.directory().find(parse_address("anna@firma.example"), MatchTier.EXACT) is not None


def test_after_an_upgrade_the_first_application_of_oauth_is_a_problem_and_the_accounts_stay_in_force(
    path: Path, key: Unlock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts = VaultAccounts.open(path, key)
    stored = StoredApplication(
        "office", Flow.APPLICATION, "office", "client-1", token_url="https://a/b", secret="geheim"
    )
    with AccountEditor.open(path, key) as editor:
        editor.put_record(to_record(stored))
        editor.put(_stored("anna@firma.example"))
        editor.save()
    upgraded = tmp_path / "__init__.py"
    upgraded.write_bytes(Path(senderproxy.__file__).read_bytes())
    late_oauth._modules.cache_clear()
    with monkeypatch.context() as upgrade:
        upgrade.setattr(senderproxy, "__file__", str(upgraded))
        accounts.check()
        assert (accounts.problem, accounts.problem_hint) == (
            "The program was updated while the service ran.", "systemctl restart senderproxy"
        )  # fmt: skip
        assert accounts.directory().accounts == ()
    accounts.check()
    assert accounts.problem is None
    assert isinstance(accounts.application("office"), UsableApplication)
    assert len(accounts.directory().accounts) == 1


def test_a_new_password_changes_the_version_and_the_same_one_does_not(path: Path, key: Unlock) -> None:
    anna = _stored("anna@firma.example")
    _put(path, key, anna)
    accounts = VaultAccounts.open(path, key)
    first = accounts.credential(anna.account)
    _put(path, key, replace(anna, account=replace(anna.account, display_name="Anna")))
    accounts.check()
    same = accounts.credential(anna.account)
    _put(path, key, replace(anna, secret="geheim-2"))
    accounts.check()
    other = accounts.credential(anna.account)
    assert first is not None
    assert same is not None
    assert other is not None
    assert first.version == same.version != other.version
    assert other.reveal() == "geheim-2"
    assert "geheim" not in repr(other) + str(other) + f"{other}" + other.version


def test_a_version_and_a_derived_key_are_the_same_at_the_next_start_and_others_after_a_new_data_key(
    path: Path, key: Unlock
) -> None:
    anna = _stored("anna@firma.example")
    _put(path, key, anna)

    def start() -> tuple[str, bytes, bytes]:
        accounts = VaultAccounts.open(path, key)
        credential = accounts.credential(anna.account)
        assert credential is not None
        found = credential.version, accounts.derive_key("one"), accounts.derive_key("two")
        accounts.close()
        return found

    first = start()
    _put(path, key, _stored("bert@firma.example"))
    assert start() == first
    assert len(set(first)) == 3
    running = VaultAccounts.open(path, key)
    vault_admin.rekey(path, key, [], [])
    running.check()
    unchanged = running.credential(anna.account)
    assert unchanged is not None
    assert unchanged.version == first[0]  # its sessions stay open
    assert not set(start()) & set(first)


def test_a_removed_account_has_no_credential(path: Path, key: Unlock) -> None:
    anna = _stored("anna@firma.example")
    _put(path, key, anna)
    accounts = VaultAccounts.open(path, key)
    with AccountEditor.open(path, key) as editor:
        editor.remove("anna")
        editor.save()
    assert accounts.directory().accounts == ()
    assert accounts.credential(anna.account) is None


def test_a_vault_damaged_meanwhile_leaves_the_accounts_in_memory_in_force(path: Path, key: Unlock) -> None:
    _put(path, key, _stored("anna@firma.example"))
    accounts = VaultAccounts.open(path, key)
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    assert len(accounts.directory().accounts) == 1
    assert accounts.problem is not None
    path.write_bytes(whole)
    accounts.check()
    assert accounts.problem is None


def test_one_record_that_cannot_be_read_leaves_the_others_usable(path: Path, key: Unlock) -> None:
    _put(path, key, _stored("anna@firma.example"))
    with Vault.open(path, unlock=key, write=True) as box:
        box.put("broken", b"geheim-{")
        box.save()
    accounts = VaultAccounts.open(path, key)
    assert [account.id for account in accounts.directory().accounts] == ["anna"]
    assert "broken" in accounts.unreadable[0]


def test_two_accounts_for_one_address_are_refused_before_anything_is_saved(path: Path, key: Unlock) -> None:
    with AccountEditor.open(path, key) as editor:
        editor.put(_stored("anna@firma.example", "geheim-1", "info@firma.example"))
        with pytest.raises(DirectoryError, match=r"both have info@firma\.example"):
            editor.put(_stored("bert@firma.example", "geheim-2", "info@firma.example"))


def test_a_second_editor_is_refused(path: Path, key: Unlock) -> None:
    with AccountEditor.open(path, key), pytest.raises(VaultInUse):
        AccountEditor.open(path, key)


def test_a_missing_vault_and_a_wrong_key_are_different_errors(path: Path, tmp_path: Path) -> None:
    other = KeyFile.generate(tmp_path / "other.key")
    with pytest.raises(AccountsError) as missing:
        VaultAccounts.open(tmp_path / "nowhere.vault", other)
    with pytest.raises(AccountsError) as wrong:
        VaultAccounts.open(path, other)
    assert (type(missing.value), type(wrong.value)) == (VaultUnreadable, AccountsError)
    assert missing.value.hint.endswith("For a first vault: senderproxy setup")
    assert "A key file must be the one of this vault" in wrong.value.hint
    assert wrong.value.hint.startswith("It opens with: key-file")


def test_a_passphrase_without_a_terminal_is_an_error() -> None:
    with pytest.raises(AccountsError, match="no terminal"):
        unlock_method("passphrase", None)


def _break(path: Path, key: Unlock, name: str) -> None:
    with Vault.open(path, unlock=key, write=True) as box:
        box.put(name, b"geheim-{")
        box.save()


def test_an_unreadable_account_can_be_added_again_or_removed(path: Path, key: Unlock) -> None:
    _put(path, key, _stored("bert@firma.example"))
    _break(path, key, "anna")
    _break(path, key, "carla")
    with AccountEditor.open(path, key) as editor:
        editor.put(_stored("anna@firma.example"))
        editor.remove("carla")
        editor.save()
    accounts = VaultAccounts.open(path, key)
    assert [account.id for account in accounts.directory().accounts] == ["anna", "bert"]
    assert accounts.unreadable == ()


def test_conflicting_accounts_on_disk_leave_those_in_memory_in_force(path: Path, key: Unlock) -> None:
    _put(path, key, _stored("anna@firma.example"))
    accounts = VaultAccounts.open(path, key)
    simulator = _stored("anna@firma.example")
    with Vault.open(path, unlock=key, write=True) as box:
        box.put("other", encode(replace(simulator, account=replace(simulator.account, id="other"))))
        box.save()
    for _ in range(3):
        assert [account.id for account in accounts.directory().accounts] == ["anna"]
        assert accounts.problem is not None
        assert "both have anna@firma.example" in accounts.problem
    with AccountEditor.open(path, key) as editor:
        editor.remove("other")
        editor.save()
    assert accounts.check()
    assert accounts.problem is None


@pytest.mark.parametrize("name", ["", "x" * 300, "two\nlines"])
def test_an_invalid_account_id_is_refused(path: Path, key: Unlock, name: str) -> None:
    stored = _stored("anna@firma.example")
    renamed = replace(stored, account=replace(stored.account, id=name))
    with AccountEditor.open(path, key) as editor, pytest.raises(RecordError):
        editor.put(renamed)


@pytest.mark.parametrize("secret", ["geheim-\r\nzeile", "geheim-\0", "geheim-\udc80", ""])
def test_a_password_that_no_login_can_contain_is_not_stored(path: Path, key: Unlock, secret: str) -> None:
    with AccountEditor.open(path, key) as editor, pytest.raises(RecordError) as caught:
        editor.put(_stored("anna@firma.example", secret))
    assert "geheim" not in str(caught.value)


def test_an_older_vault_is_not_loaded_while_running(path: Path, key: Unlock) -> None:
    _put(path, key, _stored("anna@firma.example"))
    older = path.read_bytes()
    _put(path, key, _stored("bert@firma.example"))
    accounts = VaultAccounts.open(path, key)
    path.write_bytes(older)
    assert len(accounts.directory().accounts) == 2
    assert accounts.problem is not None


# ---- records of other kinds ----

KEY = StoredRecord("srs", SRS_KEY, {"key": "geheim-key"})
LATER = b'{"schema": 2, "kind": "later", "geheim": [1]}'


def test_a_record_of_another_kind_is_in_force_beside_the_accounts(path: Path, key: Unlock) -> None:
    accounts = VaultAccounts.open(path, key)
    with AccountEditor.open(path, key) as editor:
        editor.put(_stored("anna@firma.example"))
        editor.put_record(KEY)
        editor.save()
    assert [account.id for account in accounts.directory().accounts] == ["anna"]
    assert accounts.records(SRS_KEY) == (KEY,)
    assert accounts.records("dkim-key") == ()
    with AccountEditor.open(path, key) as editor:
        editor.put_record(changed := replace(KEY, fields={"key": "geheim-other"}))
        assert editor.records(SRS_KEY) == [changed]
        editor.remove_record(changed)
        editor.save()
    accounts.check()
    assert accounts.records(SRS_KEY) == ()


def test_a_record_of_an_unknown_kind_is_named_and_left_as_it_is(path: Path, key: Unlock) -> None:
    with Vault.open(path, unlock=key, write=True) as box:
        box.put("sign", LATER)
        box.save()
    _put(path, key, _stored("anna@firma.example"))
    accounts = VaultAccounts.open(path, key)
    assert accounts.unknown == (UnknownRecord("sign", "later"),)
    assert accounts.unreadable == ()
    assert len(accounts.directory().accounts) == 1
    with Vault.open(path, unlock=key) as box:
        assert box.get("sign") == LATER


def test_an_id_belongs_to_one_kind(path: Path, key: Unlock) -> None:
    with Vault.open(path, unlock=key, write=True) as box:
        box.put("sign", LATER)
        box.save()
    with AccountEditor.open(path, key) as editor:
        editor.put_record(KEY)
        editor.put(anna := _stored("anna@firma.example"))
        for name in ("srs", "sign"):
            with pytest.raises(RecordError, match="another kind"):
                editor.put(
                    replace(
                        anna, account=replace(anna.account, id=name, address=parse_address("x@y.example"), carries=())
                    )
                )
            with pytest.raises(UnknownAccount):
                editor.remove(name)
            with pytest.raises(UnknownAccount):
                editor.find(name)
        for name in ("anna", "sign"):
            with pytest.raises(RecordError, match="another kind"):
                editor.put_record(replace(KEY, id=name))


def as_schema_1(stored: StoredAccount) -> bytes:
    """The record of an account as the previous versions wrote it."""
    entry = json.loads(encode(stored))
    del entry["kind"]
    return json.dumps(entry | {"schema": 1}).encode()


@pytest.mark.parametrize("change", ["add an unlock", "remove an unlock", "new data key"])
def test_a_change_of_the_unlocks_rewrites_records_of_the_previous_schema(
    path: Path, key: Unlock, tmp_path: Path, change: str
) -> None:
    anna, other = _stored("anna@firma.example"), KeyFile.generate(tmp_path / "other.key")
    vault_admin.add_unlock(path, key, other, "other")
    with Vault.open(path, unlock=key, write=True) as box:
        box.put("anna", as_schema_1(anna))
        box.put("later", LATER)
        box.save()
    match change:
        case "add an unlock":
            vault_admin.add_unlock(path, key, KeyFile.generate(tmp_path / "third.key"), "third")
        case "remove an unlock":
            vault_admin.remove_unlock(path, key, "other")
        case _:
            vault_admin.rekey(path, key, [], ["other"])
    with Vault.open(path, unlock=key) as box:
        assert box.get("anna") == encode(anna)
        assert box.get("later") == LATER


def test_records_of_the_previous_schema_are_rewritten_with_the_next_save(path: Path, key: Unlock) -> None:
    anna, bert = _stored("anna@firma.example"), _stored("bert@firma.example")
    with Vault.open(path, unlock=key, write=True) as box:
        box.put("anna", as_schema_1(anna))
        box.put("bert", as_schema_1(bert))
        box.put("broken", b"{")
        box.save()
    accounts = VaultAccounts.open(path, key)
    before = accounts.credential(anna.account)
    assert before is not None
    with AccountEditor.open(path, key) as editor:
        editor.put(replace(bert, secret="geheim-2"))
        editor.save()
    with Vault.open(path, unlock=key) as box:
        assert box.get("anna") == encode(anna)
        assert box.get("bert") == encode(replace(bert, secret="geheim-2"))
        assert box.get("broken") == b"{"
    accounts.check()
    after = accounts.credential(anna.account)
    assert after is not None
    assert after.version == before.version  # its sessions stay open
