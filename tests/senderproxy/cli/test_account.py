"""`senderproxy account`: one account at a time."""

import pytest

from senderproxy.accounts.unlock import unlock_method
from tests.senderproxy.cli.conftest import Office
from vault import Vault

ADD = ("--provider", "ionos", "--password-stdin")


def test_a_mailbox_is_added_after_one_try_of_its_login(office: Office) -> None:
    ended = office.type("account", "add", "anna@firma.example", *ADD, stdin="geheim-anna\n")
    assert ended.code == 0, ended.err
    assert "Added account anna@firma.example. It carries anna@firma.example." in ended.out
    assert "--catch-all firma.example" in ended.out  # what the provider's rule would allow
    assert "not running" in ended.out
    assert len(office.simulator.logins()) == 1
    assert [account["id"] for account in office.type("account", "list", "--json").json] == ["anna@firma.example"]


def test_a_refused_password_adds_nothing_and_costs_one_failed_login(office: Office) -> None:
    ended = office.type("account", "add", "anna@firma.example", *ADD, stdin="geheim-falsch\n")
    assert ended.code == 1
    assert "535 Authentication credentials invalid" in ended.err
    assert "Try again, or store the account without a login test: --no-verify" in ended.err
    assert office.simulator.failed_logins() == 1
    assert office.type("account", "list", "--json").json == []


@pytest.mark.parametrize(
    ("stdin", "words"),
    [
        ("", "is empty"),
        ("\n", "is empty"),
        ("geheim-\x07\n", "control character"),
        ("geheim-\0x\n", "control character"),
    ],
)
def test_an_invalid_password_is_refused_before_the_login_is_tried(office: Office, stdin: str, words: str) -> None:
    ended = office.type("account", "add", "anna@firma.example", *ADD, stdin=stdin)
    assert ended.code == 64
    assert words in ended.err
    assert office.simulator.logins() == []


def test_no_option_takes_a_password(office: Office) -> None:
    ended = office.type("account", "add", "anna@firma.example", "--provider", "ionos", "--password", "x")
    assert ended.code == 64


def test_without_a_terminal_the_password_is_required_on_standard_input(office: Office) -> None:
    ended = office.type("account", "add", "anna@firma.example", "--provider", "ionos", stdin="geheim-anna\n")
    assert ended.code == 64
    assert "--password-stdin" in ended.err


def test_a_trailing_blank_belongs_to_the_password(office: Office) -> None:
    office.type("account", "add", "anna@firma.example", *ADD, "--no-verify", stdin="geheim-mit Platz \n")
    with Vault.open(
        office.folder / "accounts.vault", unlock=unlock_method(f"key-file:{office.folder / 'vault.key'}", None)
    ) as box:
        assert b'"geheim-mit Platz "' in box.get("anna@firma.example")


def test_a_misspelt_provider_is_answered_with_the_nearest_name(office: Office) -> None:
    ended = office.type("account", "add", "anna@firma.example", "--provider", "ionso")
    assert ended.code == 64
    assert "Did you mean ionos" in ended.err


def test_an_invalid_address_is_refused(office: Office) -> None:
    ended = office.type("account", "add", "anna", *ADD)
    assert ended.code == 64
    assert "anna has no @" in ended.err


def test_a_duplicate_mailbox_is_refused_with_the_command_to_change_it(office: Office) -> None:
    office.add("anna@firma.example")
    ended = office.type("account", "add", "anna@firma.example", *ADD, stdin="geheim-anna\n")
    assert ended.code == 64
    assert "senderproxy account set-password anna@firma.example" in ended.err
    assert office.simulator.logins() == []


def test_an_address_that_another_mailbox_carries_is_refused_before_the_password_is_tried(office: Office) -> None:
    office.add("anna@firma.example", "--also", "info@firma.example")
    ended = office.type(
        "account", "add", "bert@firma.example", *ADD, "--also", "info@firma.example", stdin="geheim-bert\n"
    )
    assert ended.code != 0
    assert "both have info@firma.example" in ended.err
    assert office.simulator.logins() == []


def test_a_foreign_address_is_carried_with_a_warning(office: Office) -> None:
    ended = office.type(
        *("account", "add", "anna@firma.example", *ADD, "--no-verify", "--also", "anna@verein.example"),
        *("--catch-all", "*@firma.example"),
        stdin="geheim-anna\n",
    )
    assert "it will probably refuse anna@verein.example" in ended.out


def test_what_a_mailbox_carries_can_be_changed_but_never_its_own_address(office: Office) -> None:
    office.add("anna@firma.example", "--also", "info@firma.example")
    edit = ("account", "edit", "anna@firma.example")
    changed = office.type(
        *edit, "--not", "info@firma.example", "--catch-all", "firma.example", "--display-name", "Anna"
    )
    assert changed.code == 0, changed.err
    account = office.type("account", "show", "anna@firma.example", "--json").json
    assert account["carries"] == ["anna@firma.example", "@firma.example"]
    assert account["display_name"] == "Anna"
    assert office.type(*edit, "--not", "anna@firma.example").code == 64
    assert office.type(*edit, "--display-name", "Anna").code == 64  # changes nothing


def test_limits_of_a_mailbox_are_set_and_removed(office: Office) -> None:
    office.add("anna@firma.example")
    edit = ("account", "edit", "anna@firma.example")
    office.type(*edit, "--messages-per-hour", "50", "--connections", "1")
    account = office.type("account", "show", "anna@firma.example", "--json").json
    assert (account["messages_per_hour"], account["connections"]) == (50, 1)
    office.type(*edit, "--recipients-per-hour", "40")
    shown = office.type("account", "show", "anna@firma.example")
    assert "recipients per hour 40" in shown.out
    office.type(*edit, "--messages-per-hour", "0")
    assert office.type("account", "show", "anna@firma.example", "--json").json["messages_per_hour"] is None
    assert office.type(*edit, "--connections", "-1").code == 64


def test_list_and_show_print_everything_but_passwords(office: Office) -> None:
    assert "There is no account yet" in office.type("account", "list").out
    office.add("post@laden.example", "--catch-all", "laden.example")
    assert "@laden.example" in office.type("account", "list").out
    assert "post@laden.example, @laden.example" in office.type("account", "show", "post@laden.example").out


def test_verify_tries_every_login_once_and_prints_a_hint_for_a_refused_one(office: Office) -> None:
    office.add("anna@firma.example")
    office.add("bert@firma.example")
    office.type(
        "account", "set-password", "bert@firma.example", "--password-stdin", "--no-verify", stdin="geheim-falsch\n"
    )
    ended = office.type("account", "verify")
    assert ended.code == 1
    assert "anna@firma.example: the login works" in ended.out
    assert "  To fix: senderproxy account set-password bert@firma.example" in ended.out
    assert (len(office.simulator.logins()), office.simulator.failed_logins()) == (2, 1)
    verdicts = office.type("account", "verify", "anna@firma.example", "--json").json
    assert [verdict["works"] for verdict in verdicts] == [True]


def test_a_refused_new_password_leaves_the_old_one(office: Office) -> None:
    office.add("anna@firma.example")
    refused = office.type("account", "set-password", "anna@firma.example", "--password-stdin", stdin="geheim-neu\n")
    assert refused.code == 1
    assert office.type("account", "verify").code == 0


def test_a_mailbox_is_removed_only_after_confirmation(office: Office) -> None:
    office.add("anna@firma.example")
    office.write_config('[routing]\ndefault_account = "anna@firma.example"')
    assert office.type("account", "remove", "anna@firma.example").code == 64
    ended = office.type("account", "remove", "anna@firma.example", "--yes")
    assert ended.code == 0
    assert "routing.default_account" in ended.out
    assert office.type("account", "remove", "anna@firma.example", "--yes").code == 65


@pytest.mark.parametrize("action", ["show", "edit", "set-password", "verify", "remove"])
def test_an_unknown_account_is_named(office: Office, action: str) -> None:
    ended = office.type("account", action, "nobody@firma.example", stdin="geheim-x\n")
    assert ended.code in {64, 65}
    assert "There is no account nobody@firma.example" in ended.err


def test_an_unreadable_record_is_named_and_the_other_accounts_are_listed(office: Office) -> None:
    office.add("anna@firma.example")
    key = unlock_method(f"key-file:{office.folder / 'vault.key'}", None)
    with Vault.open(office.folder / "accounts.vault", unlock=key, write=True) as box:
        box.put("broken", b"{")
        box.save()
    listed = office.type("account", "list")
    assert "anna@firma.example" in listed.out
    assert "The account broken cannot be used" in listed.out
    assert "cannot be used" in office.type("account", "show", "broken").err
    assert office.type("vault", "verify").code == 1
    assert office.type("account", "remove", "broken", "--yes").code == 0
    assert office.type("vault", "verify").code == 0


def test_a_record_of_an_unknown_kind_is_named_and_nothing_fails(office: Office, served: None) -> None:
    office.add("anna@firma.example")
    key = unlock_method(f"key-file:{office.folder / 'vault.key'}", None)
    with Vault.open(office.folder / "accounts.vault", unlock=key, write=True) as box:
        box.put("later", b'{"schema": 2, "kind": "sign"}')
        box.save()
    sentence = "later is a record of a kind that this version does not know: sign."
    for command in (("account", "list"), ("vault", "verify"), ("check", "--offline")):
        ended = office.type(*command)
        assert ended.code == 0
        assert sentence in ended.out
    assert "There is no account later" in office.type("account", "remove", "later", "--yes").err


def test_an_unreachable_provider_is_not_reported_as_a_wrong_password(office: Office) -> None:
    office.write_config('[providers.away]\nhost = "127.0.0.1"\nport = 1\nsecurity = "tls"')
    ended = office.type(
        "account", "add", "anna@firma.example", "--provider", "away", "--password-stdin", stdin="geheim-anna\n"
    )
    assert ended.code == 69
    assert "could not be tried" in ended.err
    assert (
        "host, port and security in [providers.away]. Or store the account without a login test: --no-verify"
        in ended.err
    )
