"""Copies in the Sent folder in the commands: `account add`, `edit`, `show`, `list`."""

from typing import Any

import pytest

from tests.senderproxy.cli.conftest import Office

RULES = """
[providers.imap]
host = "127.0.0.1"
port = 465
security = "tls"
imap_host = "127.0.0.1"
[providers.storing]
host = "127.0.0.1"
port = 465
security = "tls"
imap_host = "127.0.0.1"
stores_sent = true
[providers.silent]
host = "127.0.0.1"
port = 465
security = "tls"
"""


@pytest.fixture
def staffed(office: Office) -> Office:
    office.write_config(RULES)
    office.add("anna@firma.example", "--id", "anna", provider="imap")
    office.add("info@firma.example", "--id", "info", "--catch-all", "firma.example", provider="imap")
    office.add("bert@other.example", "--id", "bert", "--also", "b@other.example", provider="storing")
    office.add("carl@third.example", "--id", "carl", provider="silent")
    return office


def copies(office: Office, account: str) -> Any:
    return office.type("account", "show", account, "--json").json["sent_copy"]


def test_copies_are_switched_on_shown_and_switched_off(staffed: Office) -> None:
    assert copies(staffed, "anna") is None
    ended = staffed.type("account", "edit", "anna", "--sent-copy")
    assert ended.code == 0, ended.err
    assert "Copies of its mail are stored in its mailbox" in ended.out
    assert copies(staffed, "anna") == {"folder": None, "authors": []}
    assert "\ncopies             on\n" in staffed.type("account", "show", "anna").out
    assert "copies" in staffed.type("account", "list").out.splitlines()[0]
    assert staffed.type("account", "edit", "anna", "--sent-copy-folder", "Gesendete Objekte").code == 0
    assert copies(staffed, "anna") == {"folder": "Gesendete Objekte", "authors": []}
    assert "copies             folder Gesendete Objekte" in staffed.type("account", "show", "anna").out
    ended = staffed.type("account", "edit", "anna", "--no-sent-copy")
    assert "No copies of its mail are stored any more." in ended.out
    assert copies(staffed, "anna") is None
    assert "copies" not in staffed.type("account", "list").out.splitlines()[0]


def test_an_account_is_added_with_copies(staffed: Office) -> None:
    staffed.add("dora@firma.example", "--id", "dora", "--sent-copy", "--sent-copy-folder", "Sent", provider="imap")
    assert copies(staffed, "dora") == {"folder": "Sent", "authors": []}


def test_copies_of_several_senders_need_an_option_without_a_terminal(staffed: Office) -> None:
    ended = staffed.type("account", "edit", "info", "--sent-copy")
    assert ended.code == 64
    assert "Copies of the mail of @firma.example would be in the mailbox of info@firma.example." in ended.err
    assert "--sent-copy-of-all" in ended.err
    assert copies(staffed, "info") is None
    assert staffed.type("account", "edit", "info", "--sent-copy", "--sent-copy-of-all").code == 0
    assert copies(staffed, "info") == {"folder": None, "authors": []}


def test_copies_of_the_mailbox_alone_need_no_consent(staffed: Office) -> None:
    assert staffed.type("account", "edit", "info", "--sent-copy", "--sent-copy-for", "info@firma.example").code == 0
    assert copies(staffed, "info") == {"folder": None, "authors": ["info@firma.example"]}
    # The folder alone changes nothing about whose mail is copied.
    assert staffed.type("account", "edit", "info", "--sent-copy-folder", "Kopien").code == 0
    assert copies(staffed, "info") == {"folder": "Kopien", "authors": ["info@firma.example"]}


def test_another_sender_of_an_account_with_copies_needs_consent(staffed: Office) -> None:
    assert staffed.type("account", "edit", "anna", "--sent-copy").code == 0
    ended = staffed.type("account", "edit", "anna", "--also", "chefin@firma.example")
    assert ended.code == 64
    assert "Copies of the mail of chefin@firma.example would be in the mailbox of anna@firma.example." in ended.err
    assert staffed.type("account", "edit", "anna", "--also", "chefin@firma.example", "--sent-copy-of-all").code == 0
    assert staffed.type("account", "edit", "anna", "--display-name", "Anna").code == 0


@pytest.mark.parametrize(("answers", "is_on"), [(["y", "y"], True), (["y", "n"], False), (["n"], False)])
def test_a_person_is_asked_twice(
    staffed: Office, monkeypatch: pytest.MonkeyPatch, answers: list[str], is_on: bool
) -> None:
    asked: list[str] = []

    def answer(question: str) -> str:
        asked.append(question)
        return answers[len(asked) - 1]

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("senderproxy.cli.account_sent_copy.is_interactive", lambda: True)
    monkeypatch.setattr("senderproxy.cli.terminal.is_interactive", lambda: True)
    monkeypatch.setattr("builtins.input", answer)
    ended = staffed.type("account", "edit", "info", "--sent-copy")
    assert (copies(staffed, "info") is not None) is is_on
    assert ended.code == (0 if is_on else 1)
    assert len(asked) == len(answers)
    assert "also sends the mail of @firma.example" in asked[0]
    if len(asked) == 2:
        assert "Everybody with access to the mailbox of info@firma.example" in asked[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("bert", "--sent-copy", "--sent-copy-of-all"),
            "storing stores a copy of each sent message in the Sent folder by itself.",
        ),
        (("carl", "--sent-copy"), "The IMAP server of silent is not known."),
        (("anna", "--sent-copy-folder", "Sent"), "Account anna has no copies."),
        (("anna", "--sent-copy", "--no-sent-copy"), "exclude each other"),
        (("anna", "--sent-copy", "--sent-copy-for", "x@other.example"), "Account anna does not carry x@other.example."),
        (("anna", "--sent-copy", "--sent-copy-for", "kein"), "Invalid address"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(staffed: Office, words: tuple[str, ...], said: str) -> None:
    ended = staffed.type("account", "edit", *words)
    assert ended.code == 64
    assert said in ended.err
    assert copies(staffed, words[0]) is None


def test_a_second_copy_is_possible_if_it_is_meant(staffed: Office) -> None:
    ended = staffed.type(
        "account", "edit", "bert", "--sent-copy", "--sent-copy-anyway", "--sent-copy-for", "bert@other.example"
    )
    assert ended.code == 0, ended.err
    assert copies(staffed, "bert") == {"folder": None, "authors": ["bert@other.example"]}
