"""`senderproxy explain`: the account for an address or a message, and the reason."""

from datetime import UTC, datetime

import pytest

from senderproxy.listener.client_auth import hash_password
from senderproxy.tracking.timeline import format_time
from tests.senderproxy.cli.conftest import Office, service_status

WHEN = format_time(datetime(2026, 11, 29, 8, tzinfo=UTC), None)
UNTIL = format_time(datetime(2026, 11, 29, 9, tzinfo=UTC), None)


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


def test_rules_and_reasons_are_in_the_language_of_the_shell_and_english_for_scripts(
    staffed: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("LANGUAGE", "")
    letter = staffed.folder / "letter.eml"
    letter.write_text("From: anna@firma.example\nDate: \n\nText\n")
    out = staffed.type("explain", str(letter)).out
    assert "From           ionos nimmt nur Absender der Domain firma.example an" in out
    assert "Grund: darin war kein Datum zu erkennen" in out
    changes = staffed.type("explain", str(letter), "--json").json["changes"]
    assert "no date could be read from it" in [one["reason"] for one in changes]


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


# ---- a client ----

CLIENTS = f"""
[[listeners]]
name = "lan"
address = "127.0.0.1:0"
allow = ["192.168.1.0/24", "2001:db8::/32"]
[[listeners]]
name = "roaming"
address = "127.0.0.1:0"
auth = "optional"
[[clients]]
networks = ["192.168.1.7"]
senders = ["info@firma.example"]
[[clients]]
networks = ["192.168.1.8"]
senders = []
[[clients]]
user = "anna"
password = "{hash_password("geheim-anna")}"
"""


@pytest.mark.parametrize(
    ("listener", "client", "code", "words"),
    [
        ("lan", "192.168.1.9", 0, "client         192.168.1.9 may connect to listener lan\n"),
        ("lan", "::ffff:192.168.1.9", 0, "may connect to listener lan\n"),  # IPv4 on an IPv6 socket
        ("lan", "2001:db8::25", 0, "client         2001:db8::25 may connect to listener lan\n"),
        ("lan", "192.168.1.7", 1, "192.168.1.7 may not send as anna@firma.example."),
        ("lan", "192.168.1.8", 1, "listener lan; its senders: none\n"),
        ("lan", "10.0.0.9", 1, "refused        554 5.7.1\n"),
        ("lan", "10.0.0.9", 1, "to fix         Add its network to allow of listener lan; allowed are: 192.168.1.0/24"),
        ("lan", "127.0.0.1", 1, "refused        554 5.7.1\n"),  # this machine is not in its `allow`
        ("roaming", "10.0.0.9", 0, "listener roaming, and has to log in: its user decides about its senders\n"),
        ("office", "127.0.0.1", 0, "client         127.0.0.1 may connect to listener office\n"),
        ("office", "192.168.1.9", 1, "192.168.1.9 may not send through this server"),
        ("lan", "192.168.1.0/24", 64, "192.168.1.0/24 is not an IP address."),
        ("lan", "printer", 64, "printer is not an IP address."),
    ],
)
def test_a_client_is_explained_as_the_listener_treats_it(
    staffed: Office, listener: str, client: str, code: int, words: str
) -> None:
    staffed.write_config(CLIENTS)
    ended = staffed.type("explain", "anna@firma.example", "--listener", listener, "--client", client)
    assert ended.code == code
    assert words in ended.out + ended.err


def test_a_refused_client_has_json_output(staffed: Office) -> None:
    ended = staffed.type("explain", "anna@firma.example", "--client", "10.0.0.9", "--json")
    assert (ended.code, ended.json["goes_out"], ended.json["code"]) == (1, False, 554)


# ---- the account now ----

HEALTHY = {
    "account": "anna",
    "state": "healthy",
    "words": "healthy",
    "since": None,
    "until": None,
    "reply": None,
    "hint": "",
    "messages_left": 3,
    "recipients_left": 398,
}
REFUSED = HEALTHY | {
    "state": "suspended",
    "since": "2026-11-29T08:00:00+00:00",
    "reply": "535 refused",
    "hint": "Do it.",
}
PAUSED = REFUSED | {"state": "paused", "until": "2026-11-29T09:00:00+00:00", "hint": ""}
LIMITED = {"limit": 2, "sent": [{"recipient": "c@a.example", "count": 2}, {"recipient": "d@a.example", "count": 0}]}
NEXT = "the next one is refused, a report or journal deferred"
OVER = [{"recipient": "x@a.example", "refused": 7, "deferred": 1, "limit": 2}]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (
            HEALTHY,
            "state          healthy\nlimits         5 messages an hour (3 left), 9 recipients an hour (398 left)",
        ),
        (REFUSED, f"state          suspended since {WHEN}: 535 refused\n               To fix: Do it.\nlimits "),
        (PAUSED, f"state          paused since {WHEN}, until {UNTIL}: 535 refused\nlimits "),
        (HEALTHY | {"account": "other"}, "state          unknown: The service does not know the account yet.\nlimits "),
    ],
)
def test_the_state_and_the_limits_of_the_account_are_told(
    staffed: Office, status: dict[str, object], words: str
) -> None:
    edit = ("--messages-per-hour", "5", "--recipients-per-hour", "9", "--connections", "1")
    staffed.type("account", "edit", "anna", *edit)
    with service_status(staffed, automatic={"limit": 2, "sent": [], "limited": []}, accounts=[status]):
        ended = staffed.type("explain", "info@firma.example")
    assert ended.code == 0
    assert words in ended.out
    assert ", 1 connection\n" in ended.out


def test_without_a_service_the_limits_are_those_of_the_configuration(staffed: Office) -> None:
    ended = staffed.type("explain", "anna@firma.example")
    assert "state          unknown: senderproxy is not running: nothing listens on" in ended.out
    assert "limits         2 connections\n" in ended.out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), ["to x@a.example above the limit of 2 an hour: 7 refused, 1 deferred"]),
        (
            ("--reverse-path", "<>"),
            [
                f"2 of 2 automatic messages to c@a.example in this hour: {NEXT}",
                "0 of 2 automatic messages to d@a.example in this hour",
                "to x@a.example above the limit of 2 an hour: 7 refused, 1 deferred",
            ],
        ),
    ],
)
def test_the_loop_guard_is_told(staffed: Office, words: tuple[str, ...], expected: list[str]) -> None:
    with service_status(staffed, automatic=LIMITED | {"limited": OVER}, accounts=[HEALTHY]):
        ended = staffed.type("explain", "anna@firma.example", "--to", "c@a.example", "--to", "d@a.example", *words)
    assert [line[15:] for line in ended.out.splitlines() if line.startswith("loop guard ")] == expected


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


# ---- routes ----

ROUTES = """
[[routes]]
recipients = ["chef@kunde.example"]
via = "account laden"
[[routes]]
recipients = ["@kunde.example"]
via = "smarthost relay"
[[routes]]
recipients = ["@intern.example"]
via = "internal 192.168.1.20:25"
[smarthosts.relay]
host = "relay.example"
"""


@pytest.fixture
def routed(staffed: Office) -> Office:
    with staffed.config.open("a") as config:
        config.write(ROUTES)
    return staffed


def test_each_recipients_way_is_explained(routed: Office) -> None:
    recipients = ("kunde@kunde.example", "chef@kunde.example", "x@intern.example", "freund@elsewhere.example")
    options = [option for recipient in recipients for option in ("--to", recipient)]
    ended = routed.type("explain", "anna@firma.example", *options)
    assert ended.code == 0
    assert "kunde@kunde.example: smarthost relay, relay.example:25 (routes[1])" in ended.out
    assert "chef@kunde.example: account laden (routes[0])" in ended.out
    assert "x@intern.example: internal 192.168.1.20:25 (routes[2])" in ended.out
    assert "freund@elsewhere.example: account anna (no route)" in ended.out
    assert "sent as <post@laden.example>" in ended.out
    entries = routed.type("explain", "anna@firma.example", "--json", *options).json["ways"]
    assert [(entry["recipient"], entry["way"], entry["route"], entry["reverse_path"]) for entry in entries] == [
        ("kunde@kunde.example", "smarthost relay", "routes[1]", "anna@firma.example"),
        ("chef@kunde.example", "account laden", "routes[0]", "post@laden.example"),
        ("x@intern.example", "internal 192.168.1.20:25", "routes[2]", "anna@firma.example"),
        ("freund@elsewhere.example", "account anna", None, "anna@firma.example"),
    ]


def test_without_recipients_the_routes_are_counted(routed: Office) -> None:
    ended = routed.type("explain", "anna@firma.example")
    assert "3 routes by recipient; --to ADDRESS shows the way of a recipient" in ended.out
    assert routed.type("explain", "anna@firma.example", "--json").json["ways"] == []


def test_a_route_lets_nobody_out(routed: Office) -> None:
    ended = routed.type("explain", "nobody@fremd.example", "--to", "kunde@kunde.example", "--json")
    assert (ended.code, ended.json["goes_out"]) == (1, False)
    assert "ways" not in ended.json


def test_a_route_that_refuses_is_explained_with_the_reason(routed: Office) -> None:
    config = routed.config.read_text().replace("account laden", "account nobody")
    routed.config.write_text(config)
    ended = routed.type(
        "explain", "anna@firma.example", "--to", "chef@kunde.example", "--to", "freund@elsewhere.example"
    )
    assert "chef@kunde.example: refused (routes[0])" in ended.out
    assert "The account nobody in routes[0] does not exist." in ended.out
