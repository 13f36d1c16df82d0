"""Commands that talk to the running service."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from senderproxy.accounts.unlock import unlock_method
from senderproxy.control.client import ask
from senderproxy.control.protocol import Verb, new_request
from senderproxy.simulator.rules import OwnershipRule
from tests.senderproxy.cli.conftest import DEADLINE, Office
from vault import Vault

pytestmark = pytest.mark.slow


@contextmanager
def running(office: Office) -> Iterator[subprocess.Popen[bytes]]:
    """The real process, from `listening` on until SIGTERM."""
    log = office.folder / "service.log"
    with log.open("wb") as out:
        service = subprocess.Popen(
            [sys.executable, "-m", "senderproxy", "--config", str(office.config), "run"],
            stderr=subprocess.PIPE,
            cwd=Path(__file__).parents[3],
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        assert service.stderr is not None
        try:
            for line in service.stderr:
                out.write(line)
                if b"listening address=" in line:
                    break
            else:
                pytest.fail(f"it did not start: {log.read_text()}")
            yield service
        finally:
            service.send_signal(signal.SIGTERM)
            rest = service.stderr.read()
            out.write(rest)
            code = service.wait(DEADLINE)
            service.stderr.close()
    assert code == 0
    assert b"geheim-" not in rest + log.read_bytes()


def test_status_names_a_record_of_an_unknown_kind(office: Office) -> None:
    office.add("anna@firma.example")
    key = unlock_method(f"key-file:{office.folder / 'vault.key'}", None)
    with Vault.open(office.folder / "accounts.vault", unlock=key, write=True) as box:
        box.put("later", b'{"schema": 2, "kind": "sign"}')
        box.save()
    with running(office):
        status = office.type("status")
    assert status.code == 0
    assert "later is a record of a kind that this version does not know: sign." in status.out


def test_reload_waits_for_the_result_and_fails_if_the_configuration_is_refused(office: Office) -> None:
    stopped = office.type("reload")
    assert (stopped.code, "senderproxy is not running" in stopped.err) == (69, True)
    good = office.config.read_text()
    with running(office):
        office.config.write_text(f'{good}\n[log]\nformat = "json"\n')
        done = office.type("reload")
        assert (done.code, done.out) == (0, "The configuration is in force.\n"), done.err
        for broken in (f"{good}\n[[listeners\n", f"{good}\n[no_such_section]\nx = 1\n"):
            office.config.write_text(broken)
            refused = office.type("reload")
            assert (refused.code, refused.out) == (78, "")
            assert refused.err.startswith("Refused, the previous configuration stays in force.")
            assert "senderproxy.toml" in refused.err
        assert "configuration_refused" in office.type("status", "--json").out
        office.config.write_text(good)
        assert office.type("reload").code == 0
        assert "configuration_refused" not in office.type("status", "--json").out


def test_a_test_message_passes_the_service_and_status_counts_it(office: Office) -> None:
    office.add("anna@firma.example")
    with running(office):
        sent = office.type("send", "--from", "anna@firma.example", "--to", "kunde@customer.example")
        assert sent.code == 0, sent.err
        assert "Accepted: 250" in sent.out
        assert "id=" in sent.out
        refused = office.type("send", "--from", "ana@firma.example", "--to", "kunde@customer.example")
        assert refused.code == 1
        assert "Refused: 550" in refused.out
        assert "senderproxy account add ana@firma.example" in refused.out
        status = office.type("status")
        assert status.code == 0
        assert "anna@firma.example  healthy  1" in status.out
        (account,) = (state := office.type("status", "--json").json)["accounts"]
        assert (account["delivered"], account["state"]) == (1, "healthy")
        assert state["loop"]["longest_pass_seconds"] > 0
        assert "ok       service: it is running since" in office.type("check", "--offline").out
    assert office.simulator.received[0].login == "anna@firma.example"


def test_a_suspended_account_is_shown_with_a_hint_and_resumes(office: Office) -> None:
    office.add("anna@firma.example")
    set_password = ("account", "set-password", "anna@firma.example", "--password-stdin")
    with running(office):
        noticed = office.type(*set_password, "--no-verify", stdin="geheim-falsch\n")
        assert "The running service uses it now." in noticed.out
        send = ("send", "--from", "anna@firma.example", "--to", "kunde@customer.example")
        assert "Deferred: 451" in office.type(*send).out
        status = office.type("status")
        assert status.code == 1
        assert "  To fix: senderproxy account set-password anna@firma.example" in status.out
        checked = office.type("check")
        assert checked.code == 1
        assert "WRONG    account_suspended anna@firma.example: ionos refuses the login" in checked.out
        assert office.simulator.failed_logins() == 1
        assert office.type(*set_password, stdin="geheim-anna\n").code == 0
        assert office.type(*send).code == 0
        assert office.type("status").code == 0


def test_a_provider_that_became_stricter_is_reported_with_the_setting_until_it_is_changed(office: Office) -> None:
    office.add("anna@firma.example", "--catch-all", "firma.example")
    send = ("send", "--from", "info@firma.example", "--to", "kunde@customer.example")
    with running(office):
        assert office.type(*send).code == 0
        assert office.type("status").code == 0
        office.simulator.settings = replace(office.simulator.settings, ownership_rule=OwnershipRule.ADDRESS)
        refused = office.type(*send)
        assert refused.code == 1
        assert "does not let login anna@firma.example (account anna@firma.example) send as info@" in refused.out
        assert "erlaubt der Anmeldung anna@firma.example" in refused.out
        assert "Sender address is not allowed." in refused.out
        status, checked = office.type("status"), office.type("check")
        assert (status.code, checked.code) == (1, 1)
        for told in (status.out, checked.out):
            assert "ionos refused info@firma.example (reverse-path) for account anna@firma.example" in told
            assert 'although sender_rule = "domain" allows it: its rule is stricter' in told
            assert 'or set sender_rule = "address" in [providers.ionos]' in told
            assert "Sender address is not allowed." in told
        assert "WRONG    sender_rule_stricter ionos: " in checked.out
        assert office.type("status", "--json").json["sender_rules"][0]["account"] == "anna@firma.example"
        # what was proposed, as it was proposed
        text = office.config.read_text()
        office.config.write_text(text.replace('sender_rule = "domain"', 'sender_rule = "address"'))
        ask(office.folder / "control.sock", new_request(Verb.RELOAD))
        assert office.type(*send).code == 0
        assert office.type("status").code == 0
        assert "sender_rule_stricter" not in office.type("check").out
    (_, left) = office.simulator.received
    assert left.reverse_path == "anna@firma.example"
    assert b"\r\nReply-To: info@firma.example\r\n" in left.content


def test_after_a_change_the_output_says_when_the_service_uses_it(office: Office) -> None:
    with running(office):
        added = office.type(
            "account", "add", "anna@firma.example", "--provider", "ionos", "--password-stdin", stdin="geheim-anna\n"
        )
        assert "The running service uses the change from the next message on" in added.out
        assert "the running service uses it" in office.type("account", "verify").out
        assert office.type("send", "--from", "anna@firma.example", "--to", "k@customer.example").code == 0


def test_send_logs_in_over_tls_as_a_device_does(office: Office) -> None:
    office.add("anna@firma.example")
    certificate = trustme.CA().issue_cert("proxy.firma.example")
    key = office.folder / "key.pem"
    key.touch(0o600)
    certificate.private_key_pem.write_to_path(key)
    certificate.cert_chain_pems[0].write_to_path(office.folder / "certificate.pem")
    hashed = office.bare("client", "hash-password", "--password-stdin", stdin="geheim-scanner\n").out
    office.write_config(
        listener='address = "127.0.0.1:0"\ntls = "starttls"\ncertificate = "certificate.pem"\nkey = "key.pem"\n'
        f'auth = "required"\n[[clients]]\nuser = "scanner"\n{hashed}'
    )
    send = ("send", "--from", "anna@firma.example", "--to", "kunde@customer.example")
    with running(office):
        logged_in = office.type(*send, "--user", "scanner", "--password-stdin", stdin="geheim-scanner\n")
        assert logged_in.code == 0, logged_in.out + logged_in.err
        assert office.type(*send).code == 1
        wrong = office.type(*send, "--user", "scanner", "--password-stdin", stdin="geheim-falsch\n")
        assert (wrong.code, "Refused: 535" in wrong.out) == (1, True)


@pytest.mark.parametrize("tls", ["none", "starttls", "implicit"])
def test_send_passes_a_listener_behind_a_proxy_on_this_machine(office: Office, tls: str) -> None:
    office.add("anna@firma.example")
    certificate = trustme.CA().issue_cert("proxy.firma.example")
    key = office.folder / "key.pem"
    key.touch(0o600)
    certificate.private_key_pem.write_to_path(key)
    certificate.cert_chain_pems[0].write_to_path(office.folder / "certificate.pem")
    papers = "" if tls == "none" else f'tls = "{tls}"\ncertificate = "certificate.pem"\nkey = "key.pem"\n'
    office.write_config(
        listener='address = "127.0.0.1:0"\nallow = ["127.0.0.1", "192.168.1.0/24"]\n'
        f'proxy_from = ["127.0.0.1"]\n{papers}'
    )
    with running(office):
        sent = office.type("send", "--from", "anna@firma.example", "--to", "kunde@customer.example")
        assert sent.code == 0, sent.out + sent.err


def test_without_a_service_status_has_a_hint_and_send_works_directly(office: Office) -> None:
    office.add("anna@firma.example")
    status = office.type("status")
    assert status.code == 69
    assert "senderproxy run" in status.err
    send = ("send", "--from", "anna@firma.example", "--to", "kunde@customer.example")
    office.write_config(listener='address = "127.0.0.1:1"')
    away = office.type(*send)
    assert away.code == 69
    assert "--direct" in away.err
    direct = office.type(*send, "--direct")
    assert direct.code == 0, direct.out
    assert "Accepted: 250 2.0.0 Requested mail action okay" in direct.out
    assert office.type(*send, "--direct", "--listener", "office").code == 64
    assert office.type(*send, "--listener", "garage").code == 64


def test_a_certificate_that_is_not_accepted_is_a_condition_with_the_reason(office: Office) -> None:
    office.add("anna@firma.example")
    other = office.folder / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    office.config.write_text(office.config.read_text().replace(str(office.simulator.ca_file), str(other)))
    with running(office):
        sent = office.type("send", "--from", "anna@firma.example", "--to", "kunde@customer.example")
        assert "Deferred: 451" in sent.out
        (entry,) = office.type("status", "--json").json["conditions"]
        assert (entry["key"], entry["subject"], entry["severity"]) == ("smarthost_certificate", "ionos", "error")
        assert (
            "is not accepted, so account anna@firma.example cannot send: The certificate of 127.0.0.1:"
            in entry["cause"]
        )
        assert "To fix" not in entry["cause"]
        assert entry["hint"]


def test_the_log_is_english_and_each_command_has_the_language_of_its_shell(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("LANGUAGE", "")
    office.add("anna@firma.example")
    office.type("account", "remove", "anna@firma.example", "--yes")
    with running(office):
        german = office.type("status").out
        for_scripts = office.type("status", "--json").json
        checked = office.type("check", "--offline").out
        monkeypatch.setenv("LANGUAGE", "en")
        english = office.type("status").out
    for out in (german, checked):
        assert "Es gibt noch kein Konto." in out
        assert "Abhilfe: Legen Sie eines an: senderproxy account add ADDRESS --provider NAME" in out
    assert "FEHLER" in german
    assert "Die Warteschlange ist leer." in german
    assert "ERROR     There is no account yet." in english
    assert [one["cause"] for one in for_scripts["conditions"]] == ["There is no account yet."]
    log = (office.folder / "service.log").read_text()
    assert "There is no account yet." in log
    assert "Es gibt" not in log
    assert "Konto" not in log
