"""`senderproxy explain`: the account for an address or a message, and the reason."""

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
def test_an_address_is_explained_with_its_account_and_the_tier(
    staffed: Office, address: str, account: str, tier: str
) -> None:
    ended = staffed.type("explain", address, "--json")
    assert ended.code == 0
    assert (ended.json["account"], ended.json["tier"], ended.json["place"]) == (account, tier, "From")


def test_an_unknown_address_is_refused_with_the_nearest_known_ones(staffed: Office) -> None:
    ended = staffed.type("explain", "ana@firma.example")
    assert ended.code == 1
    assert "refused        550 5.7.1" in ended.out
    assert "senderproxy account add ana@firma.example (nearest known: anna@firma.example" in ended.out


def test_a_message_in_a_file_is_explained_field_by_field(staffed: Office) -> None:
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


def test_a_message_is_read_from_standard_input_without_its_body(staffed: Office) -> None:
    letter = b"From: anna@firma.example\r\n\r\n\xff\xfe body\r\nFrom: other@firma.example\r\n"
    ended = staffed.type("explain", "-", "--json", stdin=letter)
    assert (ended.code, ended.json["account"]) == (0, "anna")


def test_a_null_reverse_path_is_explained_with_the_rule_of_the_provider(staffed: Office) -> None:
    ended = staffed.type("explain", "anna@firma.example", "--reverse-path", "<>")
    assert ended.code == 0
    assert "sent as <anna@firma.example>" in ended.out
    assert "does not accept a null reverse-path; bounces go to anna@firma.example" in ended.out
    assert "changed        Auto-Submitted: auto-replied" in ended.out


def test_a_message_without_changes_is_explained_as_such(staffed: Office) -> None:
    ended = staffed.type("explain", "anna@firma.example")
    assert "changed        nothing" in ended.out


def test_a_message_is_explained_with_the_settings_of_its_listener(staffed: Office) -> None:
    config = staffed.config.read_text()
    device = '[[listeners]]\nname = "device"\naddress = "127.0.0.1:0"\nsender = "info@firma.example"\nlenient = true\n'
    staffed.config.write_text(config + device)
    ended = staffed.type(
        "explain", "-", "--listener", "device", stdin="From: KONICA @2. Etage <scan@printer.local>\n\n"
    )
    assert ended.code == 0
    assert "chosen by      From info@firma.example" in ended.out
    assert staffed.type("explain", "-", "--listener", "nowhere", stdin="From: a@b.example\n\n").code == 64


def test_two_authors_without_a_sender_field_are_refused(staffed: Office) -> None:
    ended = staffed.type("explain", "-", stdin="From: anna@firma.example\nFrom: post@laden.example\n\n")
    assert ended.code == 1
    assert "550 5.6.0" in ended.out


@pytest.mark.parametrize(("what", "code"), [("nowhere.eml", 66), ("a@b@c..", 64), (".", 66)])
def test_neither_an_address_nor_a_readable_file_is_refused(staffed: Office, what: str, code: int) -> None:
    assert staffed.type("explain", what).code == code


def test_an_invalid_reverse_path_is_64(staffed: Office) -> None:
    assert staffed.type("explain", "anna@firma.example", "--reverse-path", "anna").code == 64


def test_a_message_with_60_received_fields_is_refused_as_the_service_refuses_it(staffed: Office) -> None:
    letter = "Received: from a by b; Sat, 31 Jan 2026 08:15:00 +0100\n" * 60 + "From: anna@firma.example\n\nText\n"
    ended = staffed.type("explain", "-", stdin=letter)
    assert ended.code == 1
    assert "refused        554 5.4.6" in ended.out
    assert "because        Mail loop: the message has more than 50 Received fields." in ended.out
