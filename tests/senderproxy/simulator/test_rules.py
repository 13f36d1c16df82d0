"""Rules of the simulated provider."""

import pytest

from senderproxy.simulator.provider_replies import UNKNOWN_USER, server_reply
from senderproxy.simulator.rules import (
    OwnershipRule,
    SimulatedMailbox,
    may_send_as,
    parameters_offered,
    read_path_command,
    reply_for_recipient,
)

ANNA = SimulatedMailbox("geheim-anna", aliases=("Verkauf@andere.example",), domains=("Zweite.example",))


@pytest.mark.parametrize(
    ("address", "rule", "allowed"),
    [
        ("anna@firma.example", OwnershipRule.DOMAIN, True),
        ("anyone@FIRMA.example", OwnershipRule.DOMAIN, True),
        ("anna@zweite.example", OwnershipRule.DOMAIN, True),
        ("verkauf@andere.example", OwnershipRule.DOMAIN, False),
        ("anna@sub.firma.example", OwnershipRule.DOMAIN, False),
        ("Anna@Firma.example", OwnershipRule.ADDRESS, True),
        ("verkauf@andere.example", OwnershipRule.ADDRESS, True),
        ("anyone@firma.example", OwnershipRule.ADDRESS, False),
        ("anna+tag@firma.example", OwnershipRule.ADDRESS, False),
        ("who@ever.example", OwnershipRule.ANY, True),
    ],
)
def test_the_rule_says_whom_a_mailbox_may_name(address: str, rule: OwnershipRule, allowed: bool) -> None:
    assert may_send_as(address, "anna@firma.example", ANNA, rule) is allowed


def test_a_login_that_is_no_address_sends_as_its_mailbox_address() -> None:
    mailbox = SimulatedMailbox("geheim-x", address="anna@web.example")
    assert may_send_as("anna@web.example", "anna", mailbox, OwnershipRule.ADDRESS)
    assert not may_send_as("bert@web.example", "anna", mailbox, OwnershipRule.ADDRESS)


@pytest.mark.parametrize(
    ("argument", "path"),
    [
        ("FROM:<anna@firma.example>", "anna@firma.example"),
        ("from:<>", ""),
        ('FROM:<"a b"@firma.example> SIZE=1', "a b"),
        ("FROM:<a@[192.0.2.1]>", "a@[192.0.2.1]"),
        ("FROM:<!#$%&'*+/=?^_`{|}~-@x-1.example>", "!#$%&'*+/=?^_`{|}~-@x-1.example"),
    ],
)
def test_a_path_as_the_standard_prints_it_is_read(argument: str, path: str) -> None:
    command = read_path_command(argument, "FROM")
    assert command is not None
    assert path in command.path


@pytest.mark.parametrize(
    "argument",
    [
        "FROM: <a@b.example>",
        "FROM:a@b.example",
        "FROM:<a@b.example",
        "FROM:<a@b.example>SIZE=1",
        "FROM:<a@b.example>  SIZE=1",
        "FROM:<a@b.example> SIZE=1 SIZE=2",
        "FROM:<a@b.example> =1",
        "FROM:<@r.example:a@b.example>",
        "FROM:<a>",
        "FROM:<a..b@c.example>",
        "FROM:<a@b..example>",
        "FROM:<a b@c.example>",
        "FROM:<a@b.example> ",
        "TO:<a@b.example>",
        "",
    ],
)
def test_a_sloppy_path_is_not_read(argument: str) -> None:
    assert read_path_command(argument, "FROM") is None


def test_only_mail_from_may_be_empty() -> None:
    assert read_path_command("TO:<>", "TO") is None


def test_parameters_are_taken_apart_and_belong_to_what_was_offered() -> None:
    command = read_path_command("FROM:<> SIZE=12 body=8BITMIME AUTH=<>", "FROM")
    assert command is not None
    assert dict(command.parameters) == {"SIZE": "12", "BODY": "8BITMIME", "AUTH": "<>"}
    assert parameters_offered(("SIZE 10", "8BITMIME", "AUTH PLAIN", "STARTTLS")) == {"SIZE", "BODY", "AUTH"}


def test_a_recipient_is_answered_by_address_before_domain() -> None:
    later = server_reply(450, "later")
    answers = {"bert@kunde.example": UNKNOWN_USER, "@kunde.example": later}
    assert reply_for_recipient("Bert@Kunde.example", answers) is UNKNOWN_USER
    assert reply_for_recipient("dora@kunde.example", answers) is later
    assert reply_for_recipient("emil@andere.example", answers) is None


def test_a_mailbox_does_not_show_its_password() -> None:
    assert "geheim-" not in repr(ANNA)
