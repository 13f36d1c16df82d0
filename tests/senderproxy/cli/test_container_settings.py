"""What a container is given: secrets in mounted files, a healthcheck."""

import os
from datetime import UTC, datetime

import pytest

from senderproxy.log_events import Severity
from senderproxy.monitoring.record import Condition, ConditionKey, condition_entry
from tests.senderproxy.cli.conftest import Office, service_status


def test_a_mounted_key_opens_the_vault_whatever_its_mode(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office.add("anna@firma.example")
    mounted = office.folder / "secret"
    (office.folder / "vault.key").rename(mounted)
    mounted.chmod(0o444)
    refused = office.type("account", "list", "--unlock", f"key-file:{mounted}")
    assert "other users have access to it" in refused.err
    monkeypatch.setenv("SENDERPROXY_VAULT_KEY_FILE", str(mounted))
    assert "anna@firma.example" in office.type("account", "list").out
    office.add("bert@firma.example")
    assert office.type("account", "list", "--unlock", f"key-file:{mounted}").code == refused.code, "it comes first"


def test_a_vault_is_created_with_a_mounted_key(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    (office.folder / "accounts.vault").unlink()
    mounted = office.folder / "secret"
    mounted.write_bytes(os.urandom(32))
    monkeypatch.setenv("SENDERPROXY_VAULT_KEY_FILE", str(mounted))
    assert office.type("vault", "create").code == 0
    assert office.type("vault", "verify").code == 0
    mounted.write_bytes(os.urandom(32))
    assert office.type("vault", "verify").code == 77


def test_a_missing_mounted_key_is_named_with_its_variable(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENDERPROXY_VAULT_KEY_FILE", "/nowhere/vault-key")
    ended = office.type("account", "list")
    assert ended.code == 77
    assert "The key /nowhere/vault-key cannot be read: No such file or directory." in ended.err
    assert "SENDERPROXY_VAULT_KEY_FILE" in ended.err


def test_a_mounted_passphrase_is_read_whatever_its_mode(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    mounted = office.folder / "passphrase"
    mounted.write_text("geheim-satz im Tresor\n")
    mounted.chmod(0o444)
    monkeypatch.setenv("SENDERPROXY_PASSPHRASE_FILE", str(mounted))
    assert office.type("vault", "export", str(office.folder / "copy")).code == 0
    refused = office.type("vault", "export", str(office.folder / "copy2"), "--passphrase-file", str(mounted))
    assert "Every user of this machine can read the passphrase" in refused.err


def test_the_healthcheck_asks_only_whether_the_service_answers(office: Office) -> None:
    assert office.type("status", "--alive").code == 69
    down = Condition(ConditionKey.NO_SESSION, "ionos", Severity.ERROR, datetime(2026, 11, 29, tzinfo=UTC), "down", "")
    with service_status(office, conditions=[condition_entry(down)]):
        ended = office.type("status", "--alive")
    assert (ended.code, ended.out, ended.err) == (0, "", "")
