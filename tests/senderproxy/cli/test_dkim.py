"""`senderproxy dkim`: from the key to the record, and to the next key."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from senderproxy.accounts.dkim_key import StoredDkimKey, new_selector, read_dkim_keys
from senderproxy.accounts.record import DKIM_KEY
from senderproxy.accounts.unlock import unlock_method
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.cli.check_dkim_keys import check_dkim_keys
from senderproxy.cli.findings import Level
from senderproxy.config.load import load_config
from senderproxy.control.protocol import Verb
from senderproxy.domain_records.own_key import record_text
from tests.senderproxy.cli.conftest import Ended, Office, service_status
from tests.senderproxy.domain_records.name_server import NameServer, name_server

FIRMA = "firma.example"
ANNA = f"anna@{FIRMA}"


@pytest.fixture
def dns(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    with name_server({}) as server:
        monkeypatch.setattr("senderproxy.cli.dkim.DnsClient", server.client)
        yield server


@contextmanager
def opened(office: Office) -> Iterator[VaultAccounts]:
    accounts = VaultAccounts.open(
        office.folder / "accounts.vault", unlock_method(f"key-file:{office.folder / 'vault.key'}", None)
    )
    try:
        yield accounts
    finally:
        accounts.close()


def keys(office: Office) -> list[StoredDkimKey]:
    with opened(office) as accounts:
        return read_dkim_keys(accounts.records(DKIM_KEY))


def publish(dns: NameServer, *some: StoredDkimKey) -> None:
    dns.records = {(one.key.name, "TXT"): [record_text(one.key.public)] for one in some}


def set_up(office: Office, *more: str) -> Ended:
    office.add(ANNA)
    ended = office.type("dkim", "setup", FIRMA, *more)
    assert ended.code == 0, ended.err
    assert "PRIVATE" not in ended.out + ended.err
    return ended


def check(office: Office, *more: str) -> Ended:
    return office.type("dkim", "check", FIRMA, "--wait", "0", *more)


def test_setup_makes_a_key_and_shows_its_record_in_all_shapes(office: Office, dns: NameServer) -> None:
    ended = set_up(office)
    [one] = keys(office)
    text = record_text(one.key.public)
    lines = ended.out.splitlines()
    assert f"  {one.key.selector}._domainkey" in lines
    assert f"  {one.key.name}" in lines
    assert f"  {text}" in lines
    assert f'  "{text[:255]}" "{text[255:]}"' in lines
    assert 392 < len(text) < 430
    assert f"senderproxy dkim check {FIRMA}" in ended.out
    again = office.type("dkim", "setup", FIRMA)
    assert (again.code, keys(office)[0].key.public) == (0, one.key.public)
    assert "already" in again.out
    assert f"  {text}" in again.out.splitlines()
    assert f"  {text}" in office.type("dkim", "show", FIRMA).out.splitlines()


def test_the_name_in_the_zone_of_the_parent_is_shown_too(office: Office) -> None:
    office.add("anna@mail.firma.example")
    ended = office.type("dkim", "setup", "mail.firma.example", "--selector", "eins")
    assert "  eins._domainkey.mail\n" in ended.out
    assert "  eins._domainkey.mail.firma.example\n" in ended.out


def test_no_key_is_made_where_the_provider_signs(office: Office) -> None:
    section = f'host = "127.0.0.1"\nport = {office.simulator.port_tls}\nca_file = "{office.simulator.ca_file}"\n'
    office.write_config(f'[providers.signer]\npreset = "ionos-de"\n{section}')
    office.add(ANNA, provider="signer")
    ended = office.type("dkim", "setup", FIRMA)
    assert ended.code == 1
    assert "signer signs mail of firma.example by itself, so no key is made." in ended.err
    assert "signs = false in [providers.signer]" in " ".join(ended.err.split())
    assert keys(office) == []
    office.write_config(f'[providers.signer]\npreset = "ionos-de"\nsigns = false\n{section}')
    assert office.type("dkim", "setup", FIRMA).code == 0
    assert len(keys(office)) == 1


def test_of_two_providers_the_one_that_signs_is_named(office: Office) -> None:
    section = f'host = "127.0.0.1"\nport = {office.simulator.port_tls}\nca_file = "{office.simulator.ca_file}"\n'
    office.write_config(f'[providers.signer]\npreset = "ionos-de"\n{section}')
    office.add("bert@firma.example", provider="signer")
    ended = set_up(office)
    assert "through signer gets no signature from senderproxy" in " ".join(ended.out.split())


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("setup", "laden.example"), 64, "No account sends for laden.example."),
        (("setup", "not a domain"), 64, "Invalid address or @domain"),
        (("setup", FIRMA, "--selector", "Sp_1"), 65, "Sp_1 cannot be a selector."),
        (("show", FIRMA), 64, "There is no key for firma.example."),
        (("check", FIRMA), 64, "There is no key for firma.example."),
        (("rotate", FIRMA), 64, "There is no key for firma.example."),
        (("remove", FIRMA, "--yes"), 64, "There is no key for firma.example."),
        (("remove", FIRMA, "--selector", "x", "--yes"), 64, "There is no key x for firma.example."),
    ],
)
def test_what_cannot_be_done(office: Office, words: tuple[str, ...], code: int, text: str) -> None:
    office.add(ANNA)
    ended = office.type("dkim", *words)
    assert (ended.code, keys(office)) == (code, [])
    assert text in ended.err


def test_check_says_what_is_wrong_with_the_record(office: Office, dns: NameServer) -> None:
    set_up(office)
    [one] = keys(office)
    name, text = one.key.name, record_text(one.key.public)
    for records, words in (
        ({}, f"the DNS has no record {name} yet"),
        ({(name, "TXT"): [f'"{text}"']}, "has quotation marks inside its text"),
        ({(name, "TXT"): [text[:-40]]}, "is cut off: enter it in strings of at most 255 characters"),
        ({(name, "TXT"): [text.replace("p=M", "p=!")]}, "receivers cannot read the record"),
        ({(name, "TXT"): [text.replace("p=M", "p=N")]}, "has another key"),
        ({(name, "TXT"): [text, "v=DKIM1; p=abcd"]}, "has more than one record"),
        ({(name, "TXT"): ["v=DKIM1; p="]}, "it is revoked"),
        ({(f"{name}.{FIRMA}", "TXT"): [text]}, "enter the name without the domain"),
    ):
        dns.records = records
        ended = check(office)
        assert ended.code == 1, words
        assert words in " ".join(ended.out.split())
    dns.records, dns.failing = {}, {name}
    ended = check(office)
    assert ended.code == 1
    assert "DNS lookup failed" in ended.out


def test_check_waits_for_the_record_and_lets_the_service_look(office: Office, dns: NameServer) -> None:
    set_up(office)
    [one] = keys(office)

    def publish_after_some_looks() -> None:
        while dns.asked[one.key.name] < 3:
            if stop.wait(0.005):
                return
        publish(dns, one)

    stop = threading.Event()
    hoster = threading.Thread(target=publish_after_some_looks)
    hoster.start()
    asked: list[Any] = []
    try:
        with answering(office, asked, [{"domain": FIRMA, "selector": one.key.selector, "signs": True}]):
            ended = office.type("dkim", "check", FIRMA, "--wait", "1", "--interval", "0.01")
    finally:
        stop.set()
        hoster.join()
    assert ended.code == 0, ended.out
    assert f"The service signs mail of {FIRMA} with {one.key.selector}." in ended.out
    assert [request["domain"] for request in asked] == [FIRMA]


def answering(office: Office, asked: list[Any], states: list[dict[str, Any]]) -> Any:
    """A service that has these keys."""

    async def answer(request: Any) -> Any:
        asked.append(request)
        return {"keys": states}

    return service_status(office, more={Verb.DKIM: answer})


def test_check_without_a_service_is_enough_for_its_next_start(office: Office, dns: NameServer) -> None:
    set_up(office)
    publish(dns, *keys(office))
    ended = check(office)
    assert ended.code == 0
    assert "it looks by itself" in ended.out


def findings(office: Office) -> list[tuple[Level, str, str]]:
    """The findings of `senderproxy check` about own keys."""
    with opened(office) as accounts:
        found = check_dkim_keys(load_config(office.config), accounts, lambda _text: None)
        return [(one.level, one.message, one.hint) for one in found]


def test_the_general_check_has_a_finding_for_each_key(office: Office, dns: NameServer) -> None:
    office.add(ANNA)
    assert findings(office) == []
    assert office.type("dkim", "setup", FIRMA).code == 0
    [one] = keys(office)
    [(level, words, hint)] = findings(office)
    assert (level, hint) == (Level.ADVICE, f"Enter its record: senderproxy dkim show {FIRMA}")
    assert one.key.name in words
    state = {"domain": FIRMA, "selector": one.key.selector, "signs": True}
    with answering(office, [], [state]):
        assert [level for level, _words, _hint in findings(office)] == [Level.WRONG]  # receivers cannot verify it
    publish(dns, one)
    assert [(level, hint) for level, _words, hint in findings(office)] == [(Level.OK, "")]
    dns.failing = {one.key.name}
    [(level, words, _)] = findings(office)
    assert level is Level.UNKNOWN
    assert "DNS lookup failed" in words


def test_rotate_makes_the_next_key_and_keeps_the_first_until_it_is_there(office: Office, dns: NameServer) -> None:
    set_up(office)
    [first] = keys(office)
    publish(dns, first)
    rotated = office.type("dkim", "rotate", FIRMA)
    assert rotated.code == 0, rotated.err
    before, second = keys(office)
    assert before.key.public == first.key.public
    day = datetime.fromisoformat(second.created).date()  # midnight may be between the two
    assert second.key.selector == new_selector(day, [first.key.selector])
    assert f"  {record_text(second.key.public)}" in rotated.out.splitlines()
    assert f"senderproxy dkim remove {FIRMA} --selector {first.key.selector}" in " ".join(rotated.out.split())

    early = office.type("dkim", "rotate", FIRMA)
    assert early.code == 1
    assert "is not in the DNS yet" in early.err
    assert len(keys(office)) == 2

    publish(dns, first, second)
    later = office.type("dkim", "rotate", FIRMA)
    assert later.code == 0, later.err
    assert f"Key {first.key.selector} is removed; its DNS record can go: {first.key.name}" in later.out
    kept, third = keys(office)
    assert kept.key.public == second.key.public
    assert third.key.selector not in (kept.key.selector, first.key.selector)

    taken = office.type("dkim", "rotate", FIRMA, "--selector", kept.key.selector)
    assert taken.code in (1, 64)
    assert len(keys(office)) == 2


def test_remove_asks_first_and_removes_one_or_all(office: Office, dns: NameServer) -> None:
    set_up(office)
    publish(dns, *keys(office))
    assert office.type("dkim", "rotate", FIRMA, "--selector", "zwei").code == 0
    refused = office.type("dkim", "remove", FIRMA, stdin="n\n")
    assert refused.code != 0
    assert len(keys(office)) == 2
    assert office.type("dkim", "remove", FIRMA, "--selector", "zwei", "--yes").code == 0
    assert [one.key.selector for one in keys(office)] != ["zwei"]
    removed = office.type("dkim", "remove", FIRMA, "--yes")
    assert removed.code == 0
    assert "Leave the DNS record for a week" in removed.out
    assert keys(office) == []


def test_list_shows_which_key_signs(office: Office, dns: NameServer) -> None:
    assert "There is no key yet." in office.type("dkim", "list").out
    set_up(office)
    [one] = keys(office)
    alone = office.type("dkim", "list")
    assert alone.code == 0
    assert one.key.selector in alone.out
    assert "?" in alone.out
    state = {
        "domain": FIRMA,
        "selector": one.key.selector,
        "signs": True,
        "record": "other_key",
        "found": "v=DKIM1; p=",
        "looked_at": "2026-11-29T12:00:00+00:00",
        "error": "",
    }
    with answering(office, [], [state]):
        shown = office.type("dkim", "list")
        entries = office.type("dkim", "list", "--json").json
    assert "has another key" in " ".join(shown.out.split())
    assert entries == [{**state, "created": entries[0]["created"]}]


def test_a_damaged_key_is_named_and_can_be_removed(office: Office) -> None:
    from senderproxy.accounts.editor import AccountEditor
    from senderproxy.accounts.record import StoredRecord

    office.add(ANNA)
    unlock = unlock_method(f"key-file:{office.folder / 'vault.key'}", None)
    with AccountEditor.open(office.folder / "accounts.vault", unlock) as editor:
        fields = {"domain": FIRMA, "selector": "sp1", "created": "2026-11-29T12:00:00+00:00", "key": "geheim-key"}
        editor.put_record(StoredRecord("dkim:x", DKIM_KEY, fields))
        editor.save()
    listed = office.type("dkim", "list")
    assert listed.code == 65
    assert f"senderproxy dkim remove {FIRMA} --selector sp1" in " ".join(listed.err.split())
    assert office.type("account", "list").code == 0
    assert office.type("dkim", "remove", FIRMA, "--selector", "sp1", "--yes").code == 0
    assert keys(office) == []


def test_a_key_survives_an_export_and_a_new_key_of_the_vault(office: Office, tmp_path: Path) -> None:
    set_up(office)
    [one] = keys(office)
    assert office.type("vault", "rekey").code == 0
    assert [again.key.public for again in keys(office)] == [one.key.public]
    copy = tmp_path / "copy.vault"
    exported = office.type("vault", "export", str(copy), "--opens-with", f"key-file:{tmp_path / 'copy.key'}")
    assert exported.code == 0, exported.err
    accounts = VaultAccounts.open(copy, unlock_method(f"key-file:{tmp_path / 'copy.key'}", None))
    assert [key.public for key in accounts.dkim_keys()] == [one.key.public]
    accounts.close()
