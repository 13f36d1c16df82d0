"""DKIM keys in the vault: made, read, in order, and never shown."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from senderproxy.accounts.dkim_key import new_dkim_key, new_selector, read_dkim_keys
from senderproxy.accounts.editor import AccountEditor
from senderproxy.accounts.record import DKIM_KEY, RecordError, StoredRecord, decode, encode
from senderproxy.accounts.unlock import UnlockMethod, make_key_file, unlock_method
from senderproxy.accounts.vault_accounts import VaultAccounts

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
FIRMA = "firma.example"


@pytest.fixture
def unlock(tmp_path: Path) -> UnlockMethod:
    make_key_file(tmp_path / "key")
    return unlock_method(f"key-file:{tmp_path / 'key'}", None)


def test_a_key_signs_what_it_verifies() -> None:
    made = new_dkim_key(FIRMA, "sp1", NOW)
    [read] = read_dkim_keys([decode(made.record.id, encode(made.record))])
    assert (read.key.name, read.created) == ("sp1._domainkey.firma.example", "2026-11-29T12:00:00+00:00")
    assert read.key.public == made.key.public
    signature = read.key.sign(b"octets")
    assert made.key.verify(signature, b"octets")
    assert not made.key.verify(signature, b"others")
    assert not made.key.verify(b"", b"octets")
    assert "PRIVATE" not in f"{made!r} {read!r}"


def test_keys_are_in_order_of_their_time(tmp_path: Path, unlock: UnlockMethod) -> None:
    path = tmp_path / "accounts.vault"
    AccountEditor.create(path, unlock)
    keys = [
        new_dkim_key("b.example", "x", NOW),
        new_dkim_key("a.example", "x", NOW + timedelta(seconds=1)),
        new_dkim_key("a.example", "y", NOW),
    ]
    with AccountEditor.open(path, unlock) as editor:
        for one in keys:
            editor.put_record(one.record)
        editor.save()
    accounts = VaultAccounts.open(path, unlock)
    assert [key.name[:11] for key in accounts.dkim_keys()] == ["y._domainke", "x._domainke", "x._domainke"]
    assert [key.domain for key in accounts.dkim_keys()] == ["a.example", "a.example", "b.example"]
    accounts.close()


@pytest.mark.parametrize("name", ["", "A", "a_b", "a.b", "-a", "a-", "a" * 64, "ä", "a\n"])
def test_what_is_no_selector(name: str) -> None:
    with pytest.raises(RecordError, match="cannot be a selector"):
        new_dkim_key(FIRMA, name, NOW)


def test_a_new_selector() -> None:
    day = date(2026, 11, 29)
    assert new_selector(day, []) == "sp20261129"
    assert new_selector(day, ["sp20261129"]) == "sp20261129b"
    assert new_selector(day, ["sp20261129", "sp20261129b"]) == "sp20261129c"


@pytest.mark.parametrize(
    "change", [{"key": "geheim-key"}, {"key": ""}, {"selector": "A B"}, {"domain": ""}], ids=lambda change: str(change)
)
def test_a_damaged_record_leaves_the_others_usable(
    tmp_path: Path, unlock: UnlockMethod, change: dict[str, str]
) -> None:
    path = tmp_path / "accounts.vault"
    AccountEditor.create(path, unlock)
    good, other = new_dkim_key(FIRMA, "sp1", NOW), new_dkim_key(FIRMA, "sp2", NOW)
    with AccountEditor.open(path, unlock) as editor:
        editor.put_record(good.record)
        editor.put_record(StoredRecord(other.record.id, DKIM_KEY, {**other.record.fields, **change}))
        editor.save()
    accounts = VaultAccounts.open(path, unlock)
    assert [key.selector for key in accounts.dkim_keys()] == ["sp1"]
    [why] = accounts.unreadable
    assert other.record.id in why
    assert "geheim" not in why
    accounts.close()
