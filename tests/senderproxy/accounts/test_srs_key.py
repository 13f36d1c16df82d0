"""The key of SRS addresses in the vault: made, replaced, read, and never shown."""

from pathlib import Path

import pytest

from senderproxy.accounts.editor import AccountEditor
from senderproxy.accounts.record import SRS_KEY, StoredRecord
from senderproxy.accounts.srs_key import make_srs_key, signing_keys
from senderproxy.accounts.unlock import UnlockMethod, make_key_file, unlock_method
from senderproxy.accounts.vault_accounts import VaultAccounts


@pytest.fixture
def unlock(tmp_path: Path) -> UnlockMethod:
    make_key_file(tmp_path / "key")
    return unlock_method(f"key-file:{tmp_path / 'key'}", None)


def _make(path: Path, unlock: UnlockMethod) -> bool:
    with AccountEditor.open(path, unlock) as editor:
        replaced = make_srs_key(editor)
        editor.save()
    return replaced


def test_a_new_key_signs_and_the_previous_one_verifies(tmp_path: Path, unlock: UnlockMethod) -> None:
    path = tmp_path / "accounts.vault"
    AccountEditor.create(path, unlock)
    accounts = VaultAccounts.open(path, unlock)
    assert accounts.signing_keys() is None
    seen = []
    for replaced in (False, True, True):
        assert _make(path, unlock) is replaced
        accounts = VaultAccounts.open(path, unlock)
        keys = accounts.signing_keys()
        assert keys is not None
        seen.append(list(keys.keys))
    assert [len(keys) for keys in seen] == [1, 2, 2]
    assert seen[1][1] == seen[0][0]
    assert seen[2][1] == seen[1][0]
    assert len({keys[0] for keys in seen}) == 3
    assert all(len(key) == 32 for keys in seen for key in keys)


@pytest.mark.parametrize("fields", [{}, {"key": "zz"}, {"key": "00"}, {"key": "ä"}, {"other": "00" * 32}])
def test_a_damaged_or_short_key_is_none(fields: dict[str, str]) -> None:
    assert signing_keys([StoredRecord("srs-key", SRS_KEY, fields)]) is None


def test_no_repr_shows_a_key(tmp_path: Path, unlock: UnlockMethod) -> None:
    path = tmp_path / "accounts.vault"
    AccountEditor.create(path, unlock)
    _make(path, unlock)
    accounts = VaultAccounts.open(path, unlock)
    keys = accounts.signing_keys()
    assert keys is not None
    [record] = accounts.records(SRS_KEY)
    for secret in (keys.keys[0].hex(), repr(keys.keys[0])):
        assert secret not in repr((keys, record))
