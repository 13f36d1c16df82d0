"""Whose account would carry it, and why."""

import pytest

from tests.senderproxy.cli.conftest import Office


@pytest.fixture
def staffed(office: Office) -> Office:
    office.add("anna@firma.example", "--id", "anna", "--also", "info@firma.example")
    office.add("post@laden.example", "--id", "laden", "--catch-all", "laden.example")
    return office


@pytest.mark.parametrize(
    ("address", "account", "tier"),
    [
        ("anna@firma.example", "anna", "exact"),
        ("ANNA@Firma.Example", "anna", "exact"),
        ("info+messe@firma.example", "anna", "untagged"),
        ("anything@laden.example", "laden", "domain"),
    ],
)
def test_an_address_leads_to_its_account_and_says_how(staffed: Office, address: str, account: str, tier: str) -> None:
    ended = staffed.type("explain", address, "--json")
    assert ended.code == 0
    assert (ended.json["account"], ended.json["tier"], ended.json["place"]) == (account, tier, "From")


def test_a_stranger_is_refused_with_those_who_look_alike(staffed: Office) -> None:
    ended = staffed.type("explain", "ana@firma.example")
    assert ended.code == 1
    assert "refused        550 5.7.1" in ended.out
    assert "senderproxy account add ana@firma.example (nearest known: anna@firma.example" in ended.out


def test_a_message_in_a_file_is_explained_place_by_place(staffed: Office) -> None:
    letter = staffed.folder / "letter.eml"
    letter.write_text("From: Chef <chef@firma.example>\nSender: info@firma.example\nSubject: x\n\nText\n")
    ended = staffed.type("explain", str(letter), "--reverse-path", "bounces@elsewhere.example")
    assert ended.code == 0
    assert "looked up      From chef@firma.example: no account" in ended.out
    assert "looked up      reverse-path bounces@elsewhere.example: no account" in ended.out
    assert "chosen by      Sender info@firma.example: the address itself" in ended.out
    assert "sent as <anna@firma.example>" in ended.out
    assert "instead of bounces@elsewhere.example" in ended.out
    assert "accepts only senders of the domain firma.example" in ended.out


def test_a_message_comes_on_standard_input_and_its_body_is_no_matter(staffed: Office) -> None:
    letter = b"From: anna@firma.example\r\n\r\n\xff\xfe body\r\nFrom: other@firma.example\r\n"
    ended = staffed.type("explain", "-", "--json", stdin=letter)
    assert (ended.code, ended.json["account"]) == (0, "anna")


def test_an_out_of_office_note_says_what_the_provider_thinks_of_its_empty_path(staffed: Office) -> None:
    ended = staffed.type("explain", "anna@firma.example", "--reverse-path", "<>")
    assert ended.code == 0
    assert "sent as <anna@firma.example>" in ended.out
    assert "does not accept a null reverse-path; bounces go to anna@firma.example" in ended.out
    assert "changed        Auto-Submitted: auto-replied" in ended.out


def test_a_letter_that_needs_nothing_says_so(staffed: Office) -> None:
    ended = staffed.type("explain", "anna@firma.example")
    assert "changed        nothing" in ended.out


def test_what_a_device_sends_is_explained_as_its_listener_sees_it(staffed: Office) -> None:
    config = staffed.config.read_text()
    device = '[[listeners]]\nname = "device"\naddress = "127.0.0.1:0"\nsender = "info@firma.example"\nlenient = true\n'
    staffed.config.write_text(config + device)
    ended = staffed.type(
        "explain", "-", "--listener", "device", stdin="From: KONICA @2. Etage <scan@printer.local>\n\n"
    )
    assert ended.code == 0
    assert "chosen by      From info@firma.example" in ended.out
    assert staffed.type("explain", "-", "--listener", "nowhere", stdin="From: a@b.example\n\n").code == 64


def test_two_authors_of_which_nobody_can_say_who_it_was_are_refused(staffed: Office) -> None:
    ended = staffed.type("explain", "-", stdin="From: anna@firma.example\nFrom: post@laden.example\n\n")
    assert ended.code == 1
    assert "550 5.6.0" in ended.out


@pytest.mark.parametrize(("what", "code"), [("nowhere.eml", 66), ("a@b@c..", 64), (".", 66)])
def test_what_can_be_neither_is_refused_in_words(staffed: Office, what: str, code: int) -> None:
    assert staffed.type("explain", what).code == code


def test_a_reverse_path_that_is_none_is_64(staffed: Office) -> None:
    assert staffed.type("explain", "anna@firma.example", "--reverse-path", "anna").code == 64


def test_a_message_with_60_received_fields_is_refused_as_the_service_refuses_it(staffed: Office) -> None:
    letter = "Received: from a by b; Sat, 31 Jan 2026 08:15:00 +0100\n" * 60 + "From: anna@firma.example\n\nText\n"
    ended = staffed.type("explain", "-", stdin=letter)
    assert ended.code == 1
    assert "refused        554 5.4.6" in ended.out
    assert "because        Mail loop: the message has more than 50 Received fields." in ended.out
