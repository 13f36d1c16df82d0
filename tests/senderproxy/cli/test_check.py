"""`senderproxy check`: findings about the configuration, the service, the vault and logins."""

import os
import pwd
import shutil
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme

from senderproxy.accounts.unlock import unlock_method
from senderproxy.cli import check, check_addresses
from senderproxy.cli.common import SERVICE_USER
from senderproxy.dns_client.client import DnsClient
from senderproxy.log_events import Severity
from senderproxy.monitoring.record import Condition, ConditionKey, condition_entry
from senderproxy.spool.sqlite.spool_folder import SpoolFolder
from senderproxy.tracking.timeline import format_time
from tests.peers.process import free_port, private_folder
from tests.senderproxy.cli.conftest import Office, service_status
from tests.senderproxy.cli.waiting import QUEUE, fill
from vault import Vault


def levels(office: Office, *words: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for finding in office.type("check", "--json", *words).json:
        found.setdefault(finding["what"], []).append(finding["level"])
    return found


def test_without_a_failed_check_the_exit_code_is_0_and_every_login_was_tried_once(office: Office, served: None) -> None:
    office.add("anna@firma.example")
    office.add("bert@firma.example")
    ended = office.type("check")
    assert ended.code == 0, ended.out
    assert "ok       account anna@firma.example: the login works" in ended.out
    assert "ok       service: it is running since" in ended.out
    assert ended.out.endswith("No check failed.\n")
    assert len(office.simulator.logins()) == 2


def test_offline_no_provider_is_contacted(office: Office, served: None) -> None:
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
    assert "To fix: Add one: senderproxy account add" in ended.out


def test_a_vault_that_does_not_open_is_a_finding_and_the_report_goes_on(office: Office) -> None:
    (office.folder / "vault.key").write_bytes(os.urandom(32))
    ended = office.type("check")
    assert ended.code == 1
    assert "WRONG    vault" in ended.out
    assert "ok       configuration" in ended.out


@pytest.mark.parametrize(
    ("alerts", "advised"),
    [
        ("", True),
        ('[alerts]\nping = "file:ping"', True),
        ('[alerts]\nwebhook = "file:hook"', False),
        ('[alerts]\nto = "it@dienst.example"', False),
    ],
)
def test_an_address_for_alerts_is_advised_if_there_is_no_way_of_alerts(
    office: Office, alerts: str, advised: bool
) -> None:
    office.write_config(alerts)
    assert ("alerts.to" in levels(office, "--offline")) == advised


def test_the_address_of_the_metrics_is_looked_at(office: Office) -> None:
    office.add("anna@firma.example")
    address = f"127.0.0.1:{(port := free_port())}"
    with socket.create_server(("127.0.0.1", port)):
        office.write_config(f'[metrics]\nlisten = "{address}"')
        ended = office.type("check", "--offline")
    assert ended.code == 1
    assert f"WRONG    metrics: cannot listen on {address}: " in ended.out
    assert f"ok       metrics: {address} is free" in office.type("check", "--offline").out
    path = office.config.with_name("metrics.sock")
    office.write_config(f'[metrics]\nlisten = "unix:{path}"')
    assert f"ok       metrics: unix:{path} is free" in office.type("check", "--offline").out
    path.touch()
    assert f"metrics: cannot listen on unix:{path}: it is another file" in office.type("check", "--offline").out
    office.write_config('[metrics]\nlisten = "0.0.0.0:9464"')
    ended = office.type("check", "--offline")
    assert "allows this machine only, but 0.0.0.0:9464 is for other machines" in ended.err


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
    assert found["unknown_provider old"] == ["wrong"]
    assert found["unknown_account routing.default_account"] == ["wrong"]


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
    office.write_config(listener=listener)
    first.private_key_pem.write_to_path(key)
    assert levels(office, "--offline")["certificate of listener office"] == ["ok"]
    second.private_key_pem.write_to_path(key)
    ended = office.type("check", "--offline")
    assert "WRONG    listener_certificate office: " in ended.out
    assert "key.pem: key values mismatch" in ended.out


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")
def test_root_gets_a_finding_for_files_that_the_service_cannot_read(
    office: Office, served: None, monkeypatch: pytest.MonkeyPatch
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
    authority = office.simulator.ca_file.parent
    assert f"setfacl -m u:{SERVICE_USER}:rX {authority}\n" in ended.out
    for path in (office.folder / "accounts.vault", office.folder / "vault.key", authority):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    assert office.type("check", "--offline").code == 0


def test_a_configuration_that_others_can_change_is_advised_against(office: Office, served: None) -> None:
    office.add("anna@firma.example")
    office.config.chmod(0o666)
    ended = office.type("check", "--offline")
    assert ended.code == 0
    assert "advice   configuration: users other than the owner can change" in ended.out


def test_domains_are_looked_up_if_the_records_of_the_provider_are_known(
    office: Office, served: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No name server replies: one finding for the domain, and the check does not fail."""
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
    assert ended.out.count("unknown  DNS of firma.example: DNS lookup failed") == 1
    assert Path(office.config).exists()


# ---- the service and its conditions ----

SINCE = datetime(2026, 11, 29, 8, tzinfo=UTC)


def test_without_a_running_service_the_check_fails_and_its_addresses_are_tried(office: Office) -> None:
    office.add("anna@firma.example")
    ended = office.type("check", "--offline")
    assert ended.code == 1
    assert "WRONG    service: it is not running, so no mail passes\n         To fix: Start it:" in ended.out
    assert "ok       listener office: 127.0.0.1:0 is free" in ended.out


def test_the_conditions_of_the_running_service_are_findings(office: Office) -> None:
    office.add("anna@firma.example")
    conditions = [
        Condition(ConditionKey.CLOCK_STEPPED, "", Severity.INFO, SINCE, "The clock was set.", "timedatectl"),
        Condition(ConditionKey.MESSAGE_HELD, "", Severity.ERROR, SINCE, "2 messages are held.", "Look at them."),
    ]
    with service_status(office, conditions=[condition_entry(one) for one in conditions]):
        ended = office.type("check", "--offline")
    assert ended.code == 1
    when = format_time(SINCE, None)
    assert f"WRONG    message_held: 2 messages are held. (since {when})\n         To fix: Look at them.\n" in ended.out
    assert f"advice   clock_stepped: The clock was set. (since {when})" in ended.out
    assert ended.out.index("message_held") < ended.out.index("clock_stepped")


def test_a_condition_that_service_and_check_both_see_is_one_finding(office: Office) -> None:
    empty = Condition(ConditionKey.NO_ACCOUNT, "", Severity.ERROR, SINCE, "There is no account yet.", "Add one.")
    with service_status(office, conditions=[condition_entry(empty)]):
        assert office.type("check", "--offline").out.count("no_account") == 1


def test_a_service_of_another_version_is_not_taken_for_one_without_trouble(office: Office) -> None:
    office.add("anna@firma.example")
    with service_status(office) as answer:
        del answer["conditions"]
        assert levels(office, "--offline")["service"] == ["unknown"]


def test_an_account_that_the_service_suspended_is_one_finding_and_is_not_tried(office: Office) -> None:
    office.add("anna@firma.example")
    condition = Condition(ConditionKey.ACCOUNT_SUSPENDED, "anna", Severity.ERROR, SINCE, "535 no", "set-password")
    entry = {"account": "anna@firma.example", "state": "suspended"}
    with service_status(office, accounts=[entry], conditions=[condition_entry(condition)]):
        ended = office.type("check")
    assert ended.code == 1
    assert "anna@firma.example" not in ended.out
    assert "WRONG    account_suspended anna: 535 no" in ended.out
    assert office.simulator.logins() == []


def test_a_provider_that_cannot_be_reached_is_one_finding_for_all_its_accounts(office: Office) -> None:
    office.write_config(f'[providers.dead]\nhost = "127.0.0.1"\nport = {free_port()}\nsecurity = "tls"')
    for number in range(8):
        office.add(f"konto{number}@firma.example", provider="dead")
    found = office.type("check")
    assert found.out.count("refused the connection") == 1
    assert "WRONG    provider dead: the login could not be tried" in found.out
    names = ", ".join(f"konto{number}@firma.example" for number in range(5))
    assert f"(8 accounts: {names}, …)" in found.out


def test_no_more_than_three_wrong_passwords_are_tried_at_one_provider(office: Office) -> None:
    for number in range(6):
        office.add(f"konto{number}@firma.example")
    ended = office.type("check")
    assert office.simulator.failed_logins() == 3
    assert ended.out.count("WRONG    account konto") == 3
    assert "unknown  provider ionos: after 3 refused logins, 3 more accounts were not tried: konto3@" in ended.out


@pytest.mark.parametrize("severity", [Severity.WARNING, Severity.ERROR])
def test_a_provider_without_a_session_is_one_finding_of_service_and_check(office: Office, severity: Severity) -> None:
    office.write_config(f'[providers.dead]\nhost = "127.0.0.1"\nport = {free_port()}\nsecurity = "tls"')
    for number in range(40):
        office.add(f"konto{number}@firma.example", provider="dead")
    condition = Condition(ConditionKey.NO_SESSION, "dead", severity, SINCE, "There is no session.", "verify")
    with service_status(office, conditions=[condition_entry(condition)]):
        ended = office.type("check", "--json")
        offline = office.type("check", "--json", "--offline").json
    assert ended.code == 1
    assert [one["what"] for one in ended.json if "session" in one["words"] or one["level"] == "wrong"] == [
        "provider dead"
    ]
    assert [one["what"] for one in offline if "session" in one["words"]] == ["no_session dead"]


def test_a_session_condition_of_accounts_that_are_not_tried_stays_a_finding(office: Office) -> None:
    condition = Condition(ConditionKey.NO_SESSION, "away", Severity.ERROR, SINCE, "There is no session.", "verify")
    with service_status(office, conditions=[condition_entry(condition)]):
        assert "WRONG    no_session away: There is no session." in office.type("check").out


# ---- the spool of a stopped service ----


def set_version(folder: Path, version: int) -> None:
    with closing(sqlite3.connect(folder / "spool.db")) as database:
        database.execute(f"PRAGMA user_version = {version}")


def snapshot(folder: Path) -> dict[str, bytes]:
    """The files of a spool without its lock, which names the last process."""
    return {path.name: path.read_bytes() for path in folder.glob("*") if path.is_file() and path.name != "lock"}


def spool_finding(office: Office) -> tuple[str, str]:
    found = [one for one in office.type("check", "--offline", "--json").json if one["what"] == "spool"]
    assert len(found) == 1
    return found[0]["level"], found[0]["words"] + " " + found[0]["hint"]


@pytest.mark.parametrize(
    ("damage", "level", "words"),
    [
        (lambda _folder: None, "ok", "it opens, 2 messages wait, 1 message is held"),
        (lambda folder: shutil.rmtree(folder), "ok", "there is none yet; the service creates it"),
        (lambda folder: folder.chmod(0o755), "wrong", "chmod 700"),
        (lambda folder: (folder / "spool.db").unlink(), "wrong", "senderproxy spool reset"),
        (lambda folder: (folder / "spool.db").write_bytes(b""), "wrong", "it is empty"),
        (lambda folder: (folder / "spool.db").chmod(0o644), "wrong", "chmod 600"),
        (lambda folder: (folder / "spool.db").write_bytes(b"x" * 5000), "wrong", "it is not an SQLite database"),
        (lambda folder: os.link(folder / "spool.db", folder / "other"), "wrong", "has a second name"),
        (lambda folder: set_version(folder, 999), "wrong", "written by a later version of senderproxy"),
        (lambda folder: set_version(folder, 1), "ok", "it is of an earlier version, and the service converts it"),
    ],
)
def test_the_spool_is_opened_as_the_service_would(
    office: Office, damage: Callable[[Path], object], level: str, words: str
) -> None:
    folder = office.folder / "spool"
    fill(folder, *QUEUE)
    damage(folder)
    before = snapshot(folder)
    found = spool_finding(office)
    assert found[0] == level
    assert words in found[1]
    assert snapshot(folder) == before


def test_a_spool_in_use_is_named_with_its_process(office: Office) -> None:
    folder = office.folder / "spool"
    fill(folder, *QUEUE)
    other = SpoolFolder.open(folder)
    try:
        level, words = spool_finding(office)
    finally:
        other.close()
    assert level == "wrong"
    assert f"process {os.getpid()}" in words


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")
def test_root_sees_the_files_that_only_root_can_read(
    office: Office, served: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = pwd.getpwnam("nobody")
    monkeypatch.setattr(pwd, "getpwnam", lambda _name: user)
    monkeypatch.setattr(check, "SYSTEM_CONFIG", office.config)
    with private_folder("check") as folder:  # pytest closes its own to others, also when another run of it begins
        authority = folder / "authority.pem"
        authority.write_bytes(office.simulator.ca_file.read_bytes())
        authority.chmod(0o644)
        office.write_config(f'[providers.own]\nhost = "127.0.0.1"\nca_file = "{authority}"')

        def blocked() -> list[str]:
            found = office.type("check", "--offline", "--json").json
            return [one["hint"] for one in found if "cannot read it" in one["words"] and one["what"] == str(authority)]

        assert blocked() == []
        authority.chmod(0o640)
        assert blocked() == [f"Give access to {authority}: setfacl -m u:senderproxy:rX {authority}"]
        os.chown(authority, 0, user.pw_gid)
        assert blocked() == []
        folder.chmod(0o700)
        assert blocked() == [f"Give access to {folder}: setfacl -m u:senderproxy:rX {folder}"]


# ---- addresses ----


def test_a_port_below_1024_needs_the_capability_of_the_unit_whoever_asks(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = {"LoadState": "loaded", "User": "senderproxy", "AmbientCapabilities": "", "PrivateUsers": "yes"}
    monkeypatch.setattr(check_addresses, "_first_unprivileged", lambda: 65536)
    monkeypatch.setattr(check_addresses, "SYSTEM_CONFIG", office.config)
    monkeypatch.setattr(check_addresses, "_unit", lambda: unit)
    port = free_port()
    office.write_config(listener=f'address = "127.0.0.1:{port}"')
    refused = office.type("check", "--offline")
    assert f"the service's user may not listen on 127.0.0.1:{port}" in refused.out
    unit |= {"AmbientCapabilities": "cap_net_bind_service", "PrivateUsers": "no"}
    assert f"127.0.0.1:{port} is free" in office.type("check", "--offline").out
    unit |= {"PrivateUsers": "yes"}  # the capability counts in the namespace of the unit only
    assert "may not listen on" in office.type("check", "--offline").out
    unit |= {"User": "", "CapabilityBoundingSet": "cap_chown cap_net_bind_service", "PrivateUsers": "no"}
    assert "is free" in office.type("check", "--offline").out


def test_a_socket_that_systemd_holds_is_no_obstacle(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        office.write_config(listener=f'address = "127.0.0.1:{port}"')
        assert f"cannot listen on 127.0.0.1:{port}" in office.type("check", "--offline").out
        monkeypatch.setattr(check_addresses, "_INIT", Path("/proc/self/fd"))
        assert f"systemd holds 127.0.0.1:{port}" in office.type("check", "--offline").out


def test_the_properties_of_the_unit_are_read_and_a_missing_systemctl_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "systemctl"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert check_addresses._unit() == {}
    program.write_text("#!/bin/sh\necho LoadState=loaded\necho AmbientCapabilities=cap_net_bind_service\n")
    program.chmod(0o755)
    assert check_addresses._unit() == {"LoadState": "loaded", "AmbientCapabilities": "cap_net_bind_service"}
    program.write_text("#!/bin/sh\necho LoadState=not-found\n")
    assert check_addresses._unit() == {}
