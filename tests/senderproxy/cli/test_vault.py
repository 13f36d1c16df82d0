"""`senderproxy vault`: the vault file and its unlocks."""

import json
from pathlib import Path

import pytest

from senderproxy.accounts.unlock import unlock_method
from tests.senderproxy.cli.conftest import Office
from vault import Vault

SAFE = "geheim-satz fuer den Tresor"


def add_safe(office: Office) -> None:
    ended = office.type("vault", "add-unlock", "passphrase", "--label", "safe", "--passphrase-stdin", stdin=f"{SAFE}\n")
    assert ended.code == 0, ended.err


def test_a_new_vault_creates_its_key_and_a_second_one_overwrites_nothing(empty_office: Office) -> None:
    made = empty_office.type("vault", "create")
    assert made.code == 0, made.err
    assert "Created the key file" in made.out
    before = (empty_office.folder / "accounts.vault").read_bytes()
    again = empty_office.type("vault", "create")
    assert again.code == 73
    assert (empty_office.folder / "accounts.vault").read_bytes() == before
    assert (empty_office.folder / "vault.key").exists()


def test_a_key_created_for_a_failed_command_is_removed(empty_office: Office) -> None:
    (empty_office.folder / "accounts.vault").write_text("in the way")
    assert empty_office.type("vault", "create").code == 73
    assert not (empty_office.folder / "vault.key").exists()


def test_a_second_unlock_is_shown_and_can_be_removed(office: Office) -> None:
    add_safe(office)
    assert office.type("vault", "unlocks", "--json").json == [
        {"label": "key-file", "kind": "key-file"},
        {"label": "safe", "kind": "passphrase"},
    ]
    assert "passphrase safe" in office.type("vault", "status").out
    assert office.type("vault", "remove-unlock", "safe").code == 64  # nobody said yes
    gone = office.type("vault", "remove-unlock", "safe", "--yes")
    assert gone.code == 0, gone.err
    assert "change the passwords at the provider" in gone.out
    last = office.type("vault", "remove-unlock", "key-file", "--yes")
    assert last.code == 77
    assert "only unlock method" in last.err


def test_an_unknown_unlock_is_answered_with_the_existing_ones(office: Office) -> None:
    ended = office.type("vault", "remove-unlock", "safe", "--yes")
    assert ended.code == 77
    assert "key-file" in ended.err


def test_a_new_key_needs_every_unlock_kept_or_dropped(office: Office) -> None:
    office.add("anna@firma.example")
    add_safe(office)
    refused = office.type("vault", "rekey")
    assert refused.code == 77
    assert "safe" in refused.err
    assert office.type("vault", "rekey", "--drop", "safe").code == 0
    assert [way["label"] for way in office.type("vault", "unlocks", "--json").json] == ["key-file"]
    assert office.type("account", "verify").code == 0


def test_a_sealed_copy_moves_to_another_machine(office: Office) -> None:
    office.add("anna@firma.example")
    copy = str(office.folder / "copy.vault")
    exported = office.type("vault", "export", copy, "--passphrase-stdin", stdin=f"{SAFE}\n")
    assert exported.code == 0, exported.err
    assert office.type("vault", "export", copy, "--passphrase-stdin", stdin=f"{SAFE}\n").code == 73
    for name in ("accounts.vault", "vault.key"):
        (office.folder / name).unlink()
    wrong = office.type("vault", "import", copy, "--passphrase-stdin", stdin="geheim-falsch\n")
    assert wrong.code == 77
    assert not (office.folder / "vault.key").exists()
    moved = office.type("vault", "import", copy, "--passphrase-stdin", stdin=f"{SAFE}\n")
    assert moved.code == 0, moved.err
    assert "with 1 account." in moved.out
    assert office.type("account", "verify").code == 0


def test_a_copy_can_have_a_new_key_file(office: Office) -> None:
    key = office.folder / "copy.key"
    assert office.type("vault", "export", str(office.folder / "copy"), "--opens-with", f"key-file:{key}").code == 0
    assert key.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("label", ["two words", "key-file"])
def test_an_invalid_label_is_64(office: Office, label: str) -> None:
    ended = office.type("vault", "add-unlock", "passphrase", "--label", label, "--passphrase-stdin", stdin=f"{SAFE}\n")
    assert ended.code == 64


def test_verify_counts_the_readable_accounts(office: Office) -> None:
    office.add("anna@firma.example")
    ended = office.type("vault", "verify")
    assert ended.code == 0
    assert "1 account is readable" in ended.out


def test_a_missing_vault_is_65_with_its_path(empty_office: Office) -> None:
    ended = empty_office.type("vault", "status")
    assert ended.code == 65
    assert "accounts.vault" in ended.err


def test_the_srs_key_is_made_and_replaced_and_check_misses_it(office: Office, served: None) -> None:
    office.add("anna@firma.example")
    office.write_config("[senders]\nsrs = true\n")
    missing = office.type("check", "--offline")
    assert missing.code == 1
    assert "the vault has no SRS key" in missing.out
    assert "To fix: senderproxy vault make-srs-key" in missing.out
    made = office.type("vault", "make-srs-key")
    assert made.code == 0, made.err
    assert "Made the SRS key." in made.out
    assert office.type("check", "--offline").code == 0
    assert "the previous one still verifies" in office.type("vault", "make-srs-key").out
    assert office.type("account", "list").code == 0
    office.write_config()
    assert "srs = true under [senders]" in office.type("vault", "make-srs-key").out


def test_an_upgrade_prints_the_number_of_records_that_it_rewrote(office: Office) -> None:
    office.add("anna@firma.example")
    current = office.type("vault", "upgrade")
    assert (current.code, current.out) == (0, "All records have the format of this version; nothing was changed.\n")
    key = unlock_method(f"key-file:{office.folder / 'vault.key'}", None)
    with Vault.open(office.folder / "accounts.vault", unlock=key, write=True) as vault:
        (name,) = vault.names()
        record = json.loads(vault.get(name))
        vault.put(name, json.dumps({**record, "schema": 1}).encode())
        vault.save()
    upgraded = office.type("vault", "upgrade")
    assert upgraded.code == 0, upgraded.err
    assert upgraded.out.startswith("Rewrote 1 record. ")
    assert "1 account is readable" in office.type("vault", "verify").out


@pytest.mark.parametrize("words", [("remove-unlock", "key-file", "--yes"), ("rekey", "--drop", "key-file")])
def test_the_unlock_of_the_next_start_is_never_removed(office: Office, words: tuple[str, ...]) -> None:
    add_safe(office)
    before = (office.folder / "accounts.vault").read_bytes()
    for unlock in ((), ("--unlock", "passphrase", "--passphrase-stdin")):
        refused = office.type("vault", *words, *unlock, stdin=f"{SAFE}\n")
        assert refused.code == 77
        assert "without it the next start fails" in refused.err
        assert f"key-file:{office.folder / 'vault.key'} in {office.config}" in refused.err
    assert (office.folder / "accounts.vault").read_bytes() == before
    assert office.type("vault", "remove-unlock", "safe", "--yes").code == 0


def test_an_unlock_that_another_one_replaces_at_the_start_can_be_removed(office: Office) -> None:
    add_safe(office)
    office.config.write_text(office.config.read_text().replace('"key-file:vault.key"', '"passphrase"'))
    words = ("vault", "remove-unlock", "key-file", "--yes", "--passphrase-stdin")
    assert office.type(*words, stdin=f"{SAFE}\n").code == 0
    last = office.type("vault", "remove-unlock", "safe", "--yes", "--passphrase-stdin", stdin=f"{SAFE}\n")
    assert "only unlock method" in last.err


def test_an_unlock_that_cannot_be_tried_here_protects_those_of_its_kind(office: Office) -> None:
    add_safe(office)
    office.config.write_text(office.config.read_text().replace("key-file:vault.key", "credential:no-such-key"))
    words = ("--unlock", f"key-file:{office.folder / 'vault.key'}", "vault", "remove-unlock")
    assert office.type(*words, "key-file", "--yes").code == 77
    assert office.type(*words, "safe", "--yes").code == 0


def test_an_import_that_fails_leaves_nothing_and_one_over_a_vault_changes_nothing(office: Office) -> None:
    office.add("anna@firma.example")
    copy = office.folder / "copy.vault"
    office.type("vault", "export", str(copy), "--passphrase-stdin", stdin=f"{SAFE}\n")
    over = office.type("vault", "import", str(copy), "--passphrase-stdin", stdin=f"{SAFE}\n")
    assert over.code == 73
    assert office.type("vault", "verify").code == 0
    place = office.folder / "new"
    place.mkdir()
    text = office.config.read_text().replace('"accounts.vault"', '"state/accounts.vault"')
    (place / "senderproxy.toml").write_text(text.replace("key-file:vault.key", "key-file:keys/vault.key"))
    words = ("--config", str(place / "senderproxy.toml"), "vault", "import", str(copy), "--passphrase-stdin")
    assert office.bare(*words, stdin="geheim-falsch\n").code == 77
    assert [path.name for path in place.iterdir()] == ["senderproxy.toml"]
    moved = office.bare(*words, stdin=f"{SAFE}\n")
    assert moved.code == 0, moved.err
    assert {path.name for path in place.rglob("*.*")} >= {"accounts.vault", "vault.key"}


def test_seal_needs_root_and_systemd(office: Office) -> None:
    if Path("/run/systemd/system").is_dir():
        pytest.skip("systemd runs here")
    before = {path.name: path.read_bytes() for path in office.folder.iterdir()}
    ended = office.type("vault", "seal", "--passphrase-stdin", stdin=f"{SAFE}\n")
    assert ended.code in (64, 66)
    assert "To fix: " in ended.err
    assert {path.name: path.read_bytes() for path in office.folder.iterdir()} == before
