"""An older vault in place of a newer one is reported at the next start."""

from pathlib import Path

from senderproxy.accounts.editor import AccountEditor
from senderproxy.accounts.record import StoredAccount, own_first
from senderproxy.accounts.rollback import note_generation
from senderproxy.accounts.unlock import make_key_file, unlock_method
from senderproxy.accounts.vault_accounts import VaultAccounts
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


def test_a_restored_older_vault_is_reported_once(tmp_path: Path) -> None:
    path, key = _vault(tmp_path)
    _save(path, key, "geheim-old")
    yesterday = path.read_bytes()
    assert _start(path, key) is None
    _save(path, key, "geheim-new")
    assert _start(path, key) is None
    path.write_bytes(yesterday)
    older = _start(path, key)
    assert older is not None
    assert "older than the one used last" in older
    assert _start(path, key) is None


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
