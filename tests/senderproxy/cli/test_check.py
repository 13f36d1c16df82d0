"""`senderproxy check`: findings about the configuration, the service, the vault and logins."""

import os
import pwd
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme

from senderproxy.accounts.unlock import unlock_method
from senderproxy.cli import check
from senderproxy.cli.check_local import check_queue
from senderproxy.cli.common import SERVICE_USER
from senderproxy.cli.findings import Finding, Level
from senderproxy.dns_client.client import DnsClient
from senderproxy.tracking.timeline import format_time
from tests.senderproxy.cli.conftest import Office
from vault import Vault


def levels(office: Office, *words: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for finding in office.type("check", "--json", *words).json:
        found.setdefault(finding["what"], []).append(finding["level"])
    return found


def test_without_a_failed_check_the_exit_code_is_0_and_every_login_was_tried_once(office: Office) -> None:
    office.add("anna@firma.example")
    office.add("bert@firma.example")
    ended = office.type("check")
    assert ended.code == 0, ended.out
    assert "ok       account anna@firma.example: the login works" in ended.out
    assert "advice   service: it is not running" in ended.out
    assert ended.out.endswith("No check failed.\n")
    assert len(office.simulator.logins()) == 2


def test_offline_no_provider_is_contacted(office: Office) -> None:
    office.add("anna@firma.example")
    assert office.type("check", "--offline").code == 0
    assert office.simulator.logins() == []


def test_a_wrong_password_is_found_with_a_hint(office: Office) -> None:
    office.add("anna@firma.example")
    office.type(
        "account", "set-password", "anna@firma.example", "--no-verify", "--password-stdin", stdin="geheim-falsch\n"
    )
    ended = office.type("check")
    assert ended.code == 1
    assert "WRONG    account anna@firma.example" in ended.out
    assert "senderproxy account set-password anna@firma.example" in ended.out
    assert "checks failed." in ended.out


def test_an_empty_vault_fails_the_check(office: Office) -> None:
    ended = office.type("check")
    assert ended.code == 1
    assert "To fix: senderproxy account add" in ended.out


def test_a_vault_that_does_not_open_is_a_finding_and_the_report_goes_on(office: Office) -> None:
    (office.folder / "vault.key").write_bytes(os.urandom(32))
    ended = office.type("check")
    assert ended.code == 1
    assert "WRONG    vault" in ended.out
    assert "ok       configuration" in ended.out


def test_a_port_in_use_is_found(office: Office) -> None:
    office.add("anna@firma.example")
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        office.write_config(listener=f'address = "{address}"')
        ended = office.type("check", "--offline")
    assert ended.code == 1
    assert f"cannot listen on {address}: " in ended.out
    assert "ss -ltnp" in ended.out


def test_references_to_unknown_providers_and_accounts_are_found(office: Office) -> None:
    office.write_config('[providers.old]\nhost = "smtp.old.example"')
    office.add("anna@firma.example", provider="old")
    office.write_config('[routing]\ndefault_account = "info"')
    found = levels(office)
    assert found["account anna@firma.example"] == ["wrong"]
    assert "wrong" in found["configuration"]


def test_a_broken_record_is_found_by_its_name(office: Office) -> None:
    office.add("anna@firma.example")
    key = unlock_method(f"key-file:{office.folder / 'vault.key'}", None)
    with Vault.open(office.folder / "accounts.vault", unlock=key, write=True) as box:
        box.put("broken", b"{")
        box.save()
    ended = office.type("check", "--offline")
    assert ended.code == 1
    assert "The account broken cannot be used" in ended.out


def test_a_certificate_and_a_key_that_do_not_fit_are_found(office: Office) -> None:
    authority = trustme.CA()
    first, second = authority.issue_cert("proxy.firma.example"), authority.issue_cert("proxy.firma.example")
    certificate, key = office.folder / "certificate.pem", office.folder / "key.pem"
    first.cert_chain_pems[0].write_to_path(certificate)
    listener = 'address = "127.0.0.1:0"\ntls = "starttls"\ncertificate = "certificate.pem"\nkey = "key.pem"'
    key.touch(0o600)
    for blob, level in ((first.private_key_pem, "ok"), (second.private_key_pem, "wrong")):
        blob.write_to_path(key)
        office.write_config(listener=listener)
        assert levels(office, "--offline")["certificate of listener office"] == [level]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")
def test_root_gets_a_finding_for_files_that_the_service_cannot_read(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.add("anna@firma.example")
    nobody = pwd.getpwnam("nobody")

    def named(name: str) -> pwd.struct_passwd:
        if name != SERVICE_USER:
            raise KeyError(name)
        return nobody

    monkeypatch.setattr(pwd, "getpwnam", named)
    assert office.type("check", "--offline").code == 0  # who has a configuration of their own runs it themselves
    monkeypatch.setattr(check, "SYSTEM_CONFIG", office.config)
    ended = office.type("check", "--offline")
    assert ended.code == 1
    assert f"chown {SERVICE_USER}: {office.folder / 'accounts.vault'}" in ended.out
    assert f"chown {SERVICE_USER}: {office.folder / 'vault.key'}" in ended.out
    for name in ("accounts.vault", "vault.key"):
        os.chown(office.folder / name, nobody.pw_uid, nobody.pw_gid)
    assert office.type("check", "--offline").code == 0


def test_a_configuration_that_others_can_change_is_advised_against(office: Office) -> None:
    office.add("anna@firma.example")
    office.config.chmod(0o666)
    ended = office.type("check", "--offline")
    assert ended.code == 0
    assert "advice   configuration: users other than the owner can change" in ended.out


def test_domains_are_looked_up_if_the_records_of_the_provider_are_known(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No name server replies: one finding for each lookup, and the check does not fail."""
    office.write_config(
        f'[providers.ionos-de]\nhost = "127.0.0.1"\nport = {office.simulator.port_tls}\nsecurity = "tls"\n'
        f'ca_file = "{office.simulator.ca_file}"'
    )
    office.add("anna@firma.example", "--catch-all", "firma.example", provider="ionos-de")
    monkeypatch.setattr("senderproxy.dns_client.client._TIMEOUT", 0.2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        monkeypatch.setattr("senderproxy.cli.check.DnsClient", lambda: DnsClient(("127.0.0.1",), port))
        ended = office.type("check")
    assert ended.code == 0, ended.out
    assert ended.out.count("unknown  DNS of firma.example: DNS lookup failed") == 3
    assert Path(office.config).exists()


@pytest.mark.parametrize(
    ("queue", "level", "message", "hint"),
    [
        ({"problem": "The spool is damaged.", "hint": "see operating"}, Level.WRONG, "it is unavailable: The spool is damaged.", "see operating"),
        ({"problem": None, "held": 2, "late": False}, Level.WRONG, "2 messages are held", "Look at the reason: senderproxy queue list --held"),
        ({"problem": None, "held": 0, "late": True, "oldest": "2026-01-31T08:15:00+00:00"}, Level.ADVICE, f"a message is waiting since {format_time(datetime(2026, 1, 31, 8, 15, tzinfo=UTC), None)}", "Look at the reason: senderproxy queue"),
    ],
)  # fmt: skip
def test_problems_of_the_queue_are_found(queue: dict[str, object], level: Level, message: str, hint: str) -> None:
    assert list(check_queue(queue)) == [Finding(level, "queue", message, hint)]


def test_a_queue_that_moves_is_not_a_finding() -> None:
    assert not list(
        check_queue({"problem": None, "waiting": 3, "held": 0, "late": False, "oldest": "2026-01-31T08:15:00"})
    )
